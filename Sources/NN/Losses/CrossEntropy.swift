import ApusTensor

/// −log softmax(input)[target], PyTorch's `cross_entropy`.
///
/// - Parameters:
///   - input: logits [batch, classes, …] or [classes].
///   - target: classes, integers [batch, …]; or probabilities, floating point of the input's shape.
///   - weight: [classes], multiplied into each class's loss. The mean is then divided by the sum of the targets' weights.
///   - ignoreIndex: targets of this value count nothing, in the mean neither.
///   - labelSmoothing: the share of the target that is spread evenly over all classes (Szegedy et al. 2016).
/// - Returns: a scalar; with `.none` one loss for each target. A label that names no class stops the program with its index;
///   inside of a compiled function, where labels have no values while it is traced, when that runs.
public func crossEntropy(
  _ input: Tensor, _ target: Tensor, weight: Tensor? = nil, ignoreIndex: Int = -100, reduction: Reduction = .mean,
  labelSmoothing: Double = 0
) -> Tensor {
  guard (0...1).contains(labelSmoothing) else { stop("crossEntropy: labelSmoothing \(labelSmoothing) is not in 0 … 1") }
  let rows = ClassRows(input, "crossEntropy")
  let weight = weight.map { rows.checked(weight: $0) }
  if target.elementType.isFloatingPoint {
    guard target.shape == input.shape else {
      stop("crossEntropy: probabilities have shape \(target.shape), the input \(input.shape); they must be the same")
    }
    var t = ClassRows(target, "crossEntropy").values.converted(to: rows.values.elementType)
    if labelSmoothing > 0 { t = t * (1 - labelSmoothing) + labelSmoothing / Double(rows.classes) }
    if let weight { t = t * weight }
    let loss = -(logSoftmax(rows.values) * t).sum(axis: -1)
    return reduction(reduction == .none ? loss.reshaped(rows.targetShape) : loss)
  }
  let labels = rows.checked(labels: target)
  guard let weight else {
    let loss = softmaxCrossEntropy(rows.values, labels, ignoreIndex: ignoreIndex, labelSmoothing: labelSmoothing)
    return rows.reduce(loss, reduction, by: { rows.counted(labels, ignoreIndex) })
  }
  // As in PyTorch: the smooth part is weighted by class, and divided by the targets' weights too.
  let share = rows.weights(weight, of: labels, ignoreIndex)
  var loss = softmaxCrossEntropy(rows.values, labels, ignoreIndex: ignoreIndex) * share
  if labelSmoothing > 0 {
    let smooth = -(logSoftmax(rows.values) * weight).sum(axis: -1)
    loss = loss * (1 - labelSmoothing) + `where`(labels .!= ignoreIndex, smooth, 0) * (labelSmoothing / Double(rows.classes))
  }
  return rows.reduce(loss, reduction, by: { share.sum() })
}

/// The cross entropy of logits [batch, classes, …] with classes [batch, …] or probabilities [batch, classes, …]: their mean.
public func crossEntropy(_ input: Tensor, _ target: Tensor) -> Tensor { crossEntropy(input, target, weight: nil) }
public func crossEntropy(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  crossEntropy(input, target, weight: nil, reduction: reduction)
}

/// −input[target], of logarithms of probabilities: PyTorch's `nll_loss`.
///
/// - Parameters:
///   - input: log-probabilities [batch, classes, …] or [classes].
///   - target: classes, integers [batch, …].
///   - weight: [classes], multiplied into each class's loss. The mean is then divided by the sum of the targets' weights.
///   - ignoreIndex: targets of this value count nothing, in the mean neither.
public func nllLoss(
  _ input: Tensor, _ target: Tensor, weight: Tensor? = nil, ignoreIndex: Int = -100, reduction: Reduction = .mean
) -> Tensor {
  let rows = ClassRows(input, "nllLoss")
  guard !target.elementType.isFloatingPoint else { stop("nllLoss: the target must be integers (classes), got \(target.type)") }
  let labels = rows.checked(labels: target)
  rows.checkRange(labels, ignoreIndex)
  let valid = labels .!= ignoreIndex
  let picked = rows.picked(labels, ignoreIndex)
  if let weight {
    let share = rows.weights(rows.checked(weight: weight), of: labels, ignoreIndex)
    return rows.reduce(`where`(valid, -picked * share, 0), reduction, by: { share.sum() })
  }
  return rows.reduce(`where`(valid, -picked, 0), reduction, by: { rows.counted(labels, ignoreIndex) })
}

public func nllLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  nllLoss(input, target, weight: nil, reduction: reduction)
}
public func nllLoss(_ input: Tensor, _ target: Tensor) -> Tensor { nllLoss(input, target, weight: nil) }

/// Scores of classes as rows: [batch, classes, …] → [batch · …, classes].
struct ClassRows {
  let name: String
  let values: Tensor
  let classes: Int
  let inputShape: Shape
  /// The input's shape without the classes.
  let targetShape: Shape

  /// - Parameter axis: where the classes are; nil: the second dimension, PyTorch's place, or the only one.
  init(_ input: Tensor, _ name: String, axis: Int? = nil) {
    self.name = name
    guard input.rank > 0, input.elementType.isFloatingPoint else {
      stop("\(name): the input must be floating point [batch, classes, …], got \(input.type)")
    }
    inputShape = input.shape
    let place = axis ?? (input.rank == 1 ? 0 : 1)
    guard (-input.rank..<input.rank).contains(place) else {
      stop("\(name): an input of shape \(input.shape) has no axis \(place)")
    }
    let axis = place < 0 ? place + input.rank : place
    classes = input.shape[axis]
    var target = input.shape
    target.remove(at: axis)
    targetShape = target
    let rows: Shape = [target.elementCount, classes]
    values = axis == input.rank - 1 ? input.reshaped(rows) : input.movedAxis(axis, to: -1).reshaped(rows)
  }

  /// int64 [rows].
  func checked(labels: Tensor) -> Tensor {
    guard labels.elementType.isInteger else { stop("\(name): classes must be integers, got \(labels.type)") }
    guard labels.shape == targetShape else {
      stop("\(name): the target has shape \(labels.shape), expected \(targetShape) for an input of shape \(inputShape)")
    }
    return labels.converted(to: .int64).reshaped([targetShape.elementCount])
  }

  func checked(weight: Tensor) -> Tensor {
    guard weight.shape == [classes] else {
      stop("\(name): weight has shape \(weight.shape), expected [\(classes)], one for each class")
    }
    return weight.converted(to: values.elementType)
  }

  /// The weight of each label's class, zero where the label is ignored.
  func weights(_ weight: Tensor, of labels: Tensor, _ ignoreIndex: Int) -> Tensor {
    checkRange(labels, ignoreIndex)
    return `where`(labels .!= ignoreIndex, apply(.gather(axis: 0), weight, places(labels, ignoreIndex)), 0)
  }

  /// The value of each label's class: [rows]; anything where the label is ignored.
  func picked(_ labels: Tensor, _ ignoreIndex: Int?) -> Tensor {
    apply(.takeAlong(axis: 1), values, places(labels, ignoreIndex).expanded(at: 1)).squeezed(1)
  }

  /// Labels as indices. Indices count from the end where they are negative; a label that does is sent beyond the last class,
  /// so that a compiled function, which cannot look at labels while it is traced, stops over it when it runs.
  private func places(_ labels: Tensor, _ ignoreIndex: Int?) -> Tensor {
    let places = `where`(labels .< 0, classes, labels)
    return ignoreIndex.map { `where`(labels .!= $0, places, 0) } ?? places
  }

  /// How many labels are not ignored.
  func counted(_ labels: Tensor, _ ignoreIndex: Int) -> Tensor {
    (labels .!= ignoreIndex).sum().converted(to: values.elementType)
  }

  func reduce(_ loss: Tensor, _ reduction: Reduction, by count: () -> Tensor) -> Tensor {
    switch reduction {
    case .mean: loss.sum() / count()
    case .sum: loss.sum()
    case .none: loss.reshaped(targetShape)
    case .batchMean: loss.sum() / Double(targetShape.first ?? 1)
    }
  }

  /// Indexing counts negative numbers from the end; as a class they are a mistake.
  func checkRange(_ labels: Tensor, _ ignoreIndex: Int?) {
    guard labels.isConcrete else { return }
    for (i, label) in labels.elements(as: Int.self).enumerated() where label != ignoreIndex && !(0..<classes).contains(label) {
      stop("\(name): label \(label) at index \(i) names no class; there are \(classes)")
    }
  }
}
