import ApusTensor

// Cross entropies as Keras defines them: of probabilities by default, with the classes in the last dimension by default.

/// −Σ target · log input over the classes: Keras's `categorical_crossentropy`.
///
/// - Parameters:
///   - input: probabilities […, classes], divided by their sum and limited to 10⁻⁷ … 1 − 10⁻⁷; or logits.
///   - target: probabilities, one-hot for example, of the same shape.
///   - fromLogits: whether the input is logits.
///   - labelSmoothing: the share of the target that is spread evenly over all classes.
///   - axis: where the classes are.
/// - Returns: with `.none` the input's shape without the classes.
public func categoricalCrossEntropy(
  _ input: Tensor, _ target: Tensor, fromLogits: Bool = false, labelSmoothing: Double = 0, axis: Int = -1,
  reduction: Reduction = .mean
) -> Tensor {
  let (x, t) = categorical(input, target, labelSmoothing, axis, "categoricalCrossEntropy")
  return reduction(-(t * logProbabilities(x, fromLogits, axis)).sum(axis: axis))
}
public func categoricalCrossEntropy(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  categoricalCrossEntropy(input, target, fromLogits: false, reduction: reduction)
}
public func categoricalCrossEntropy(_ input: Tensor, _ target: Tensor) -> Tensor {
  categoricalCrossEntropy(input, target, fromLogits: false)
}

/// −log input[target]: Keras's `sparse_categorical_crossentropy`.
///
/// - Parameters:
///   - input: probabilities […, classes], divided by their sum and limited to 10⁻⁷ … 1 − 10⁻⁷; or logits.
///   - target: classes, integers of the input's shape without the classes.
///   - fromLogits: whether the input is logits.
///   - ignoreClass: targets of this value count nothing, in the mean neither.
///   - axis: where the classes are.
/// - Returns: with `.none` one loss for each target. A label that names no class stops the program with its index; inside of
///   a compiled function when that runs.
public func sparseCategoricalCrossEntropy(
  _ input: Tensor, _ target: Tensor, fromLogits: Bool = false, ignoreClass: Int? = nil, axis: Int = -1,
  reduction: Reduction = .mean
) -> Tensor {
  let rows = ClassRows(input, "sparseCategoricalCrossEntropy", axis: axis)
  let labels = rows.checked(labels: target)
  rows.checkRange(labels, ignoreClass)
  // Classes are never negative, so this ignores none.
  let ignored = ignoreClass ?? .min
  let loss: Tensor
  if fromLogits {
    loss = softmaxCrossEntropy(rows.values, labels, ignoreIndex: ignored)
  } else {
    let share = rows.picked(labels, ignoreClass) / rows.values.sum(axis: 1)
    loss = `where`(labels .!= ignored, -log(share.clamped(kerasEpsilon, 1 - kerasEpsilon)), 0)
  }
  return rows.reduce(loss, reduction, by: { maximum(rows.counted(labels, ignored), ignoreClass == nil ? 0 : 1) })
}
public func sparseCategoricalCrossEntropy(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  sparseCategoricalCrossEntropy(input, target, fromLogits: false, reduction: reduction)
}
public func sparseCategoricalCrossEntropy(_ input: Tensor, _ target: Tensor) -> Tensor {
  sparseCategoricalCrossEntropy(input, target, fromLogits: false)
}

/// The cross entropy of each class times alpha (1 − p)^gamma, which makes little of what is easy (Lin et al. 2017): Keras's
/// `categorical_focal_crossentropy`.
///
/// - Parameters:
///   - input: probabilities […, classes], divided by their sum and limited to 10⁻⁷ … 1 − 10⁻⁷; or logits.
///   - target: probabilities, one-hot for example, of the same shape.
///   - alpha: a weight for all classes, or one for each.
///   - gamma: how much less easy ones count.
///   - fromLogits: whether the input is logits; their probabilities need no limit, so that there is always a gradient.
///   - labelSmoothing: the share of the target that is spread evenly over all classes.
///   - axis: where the classes are.
/// - Returns: with `.none` the input's shape without the classes.
public func categoricalFocalCrossEntropy(
  _ input: Tensor, _ target: Tensor, alpha: [Double] = [0.25], gamma: Double = 2, fromLogits: Bool = false,
  labelSmoothing: Double = 0, axis: Int = -1, reduction: Reduction = .mean
) -> Tensor {
  let name = "categoricalFocalCrossEntropy"
  let (x, t) = categorical(input, target, labelSmoothing, axis, name)
  guard gamma >= 0 else { stop("\(name): gamma \(gamma) is negative") }
  let axis = axis < 0 ? axis + x.rank : axis
  guard alpha.count == 1 || alpha.count == x.shape[axis] else {
    stop("\(name): alpha has \(alpha.count) numbers, expected 1 or one for each of the \(x.shape[axis]) classes")
  }
  var shape = Shape(repeating: 1, count: x.rank)
  shape[axis] = alpha.count
  let logarithms = logProbabilities(x, fromLogits, axis)
  // 1 − p without rounding p near 1 away.
  var loss = -(t * logarithms) * focus(-expm1(logarithms), gamma)
  loss = alpha.count == 1 ? loss * alpha[0] : loss * Tensor(alpha, shape: shape).converted(to: x.elementType)
  return reduction(loss.sum(axis: axis))
}
public func categoricalFocalCrossEntropy(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  categoricalFocalCrossEntropy(input, target, gamma: 2, reduction: reduction)
}
public func categoricalFocalCrossEntropy(_ input: Tensor, _ target: Tensor) -> Tensor {
  categoricalFocalCrossEntropy(input, target, gamma: 2)
}

/// The binary cross entropy times (1 − p)^gamma, p the probability of what is true (Lin et al. 2017), the mean over the last
/// dimension for each sample: Keras's `binary_focal_crossentropy`.
///
/// - Parameters:
///   - input: probabilities […, values], limited to 10⁻⁷ … 1 − 10⁻⁷ in the logarithm; or logits.
///   - target: 0 … 1, of the same shape.
///   - applyClassBalancing: whether the target 1 counts `alpha` times, 0 (1 − `alpha`) times.
///   - gamma: how much less easy ones count.
///   - fromLogits: whether the input is logits; their probabilities need no limit, so that there is always a gradient.
///   - labelSmoothing: moves targets towards 1/2 by this share.
public func binaryFocalCrossEntropy(
  _ input: Tensor, _ target: Tensor, applyClassBalancing: Bool = false, alpha: Double = 0.25, gamma: Double = 2,
  fromLogits: Bool = false, labelSmoothing: Double = 0, reduction: Reduction = .mean
) -> Tensor {
  let name = "binaryFocalCrossEntropy"
  var (x, t) = pair(input, target, name)
  guard gamma >= 0 else { stop("\(name): gamma \(gamma) is negative") }
  guard (0...1).contains(labelSmoothing) else { stop("\(name): labelSmoothing \(labelSmoothing) is not in 0 … 1") }
  if labelSmoothing > 0 { t = t * (1 - labelSmoothing) + labelSmoothing / 2 }
  var loss: Tensor
  let wrong: Tensor
  if fromLogits {
    loss = softplus(x) - t * x
    wrong = t * sigmoid(-x) + (1 - t) * sigmoid(x)
  } else {
    let p = x.clamped(kerasEpsilon, 1 - kerasEpsilon)
    loss = -(t * log(p) + (1 - t) * log(1 - p))
    wrong = 1 - (t * x + (1 - t) * (1 - x))
  }
  loss = loss * focus(wrong, gamma)
  if applyClassBalancing { loss = loss * (t * alpha + (1 - t) * (1 - alpha)) }
  return reduction(rowMeans(loss))
}
public func binaryFocalCrossEntropy(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  binaryFocalCrossEntropy(input, target, gamma: 2, reduction: reduction)
}
public func binaryFocalCrossEntropy(_ input: Tensor, _ target: Tensor) -> Tensor {
  binaryFocalCrossEntropy(input, target, gamma: 2)
}

/// (1 − p^q) / q, p the probability of the target's class: between the absolute error (q = 1) and the cross entropy (q → 0), for
/// labels with errors (Zhang and Sabuncu 2018); Keras's `categorical_generalized_cross_entropy`.
///
/// - Parameters:
///   - input: probabilities […, classes].
///   - target: classes, integers of the input's shape without the classes.
///   - q: above 0, at most 1.
/// - Returns: with `.none` one loss for each target. A label that names no class stops the program with its index; inside of
///   a compiled function when that runs.
public func categoricalGeneralizedCrossEntropy(
  _ input: Tensor, _ target: Tensor, q: Double, reduction: Reduction = .mean
) -> Tensor {
  let name = "categoricalGeneralizedCrossEntropy"
  guard q > 0 && q <= 1 else { stop("\(name): q \(q) is not above 0 and at most 1") }
  let rows = ClassRows(input, name, axis: -1)
  let labels = rows.checked(labels: target)
  rows.checkRange(labels, nil)
  return reduction(((1 - pow(rows.picked(labels, nil), q)) / q).reshaped(rows.targetShape))
}
public func categoricalGeneralizedCrossEntropy(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  categoricalGeneralizedCrossEntropy(input, target, q: 0.5, reduction: reduction)
}
public func categoricalGeneralizedCrossEntropy(_ input: Tensor, _ target: Tensor) -> Tensor {
  categoricalGeneralizedCrossEntropy(input, target, q: 0.5)
}

// MARK: Parts

private func categorical(
  _ input: Tensor, _ target: Tensor, _ labelSmoothing: Double, _ axis: Int, _ name: String
) -> (Tensor, Tensor) {
  var (x, t) = pair(input, target, name)
  guard (-x.rank..<x.rank).contains(axis) else { stop("\(name): an input of shape \(x.shape) has no axis \(axis)") }
  guard (0...1).contains(labelSmoothing) else { stop("\(name): labelSmoothing \(labelSmoothing) is not in 0 … 1") }
  if labelSmoothing > 0 {
    t = t * (1 - labelSmoothing) + labelSmoothing / Double(x.shape[axis < 0 ? axis + x.rank : axis])
  }
  return (x, t)
}

private func logProbabilities(_ x: Tensor, _ fromLogits: Bool, _ axis: Int) -> Tensor {
  if fromLogits { return logSoftmax(x, axis: axis) }
  return log((x / x.sum(axis: axis, keepDims: true)).clamped(kerasEpsilon, 1 - kerasEpsilon))
}

/// wrong^gamma; without a power where that has no slope.
private func focus(_ wrong: Tensor, _ gamma: Double) -> Tensor {
  switch gamma {
  case 0: onesLike(wrong)
  case 1: wrong
  case 2: square(wrong)
  default: pow(wrong, gamma)
  }
}
