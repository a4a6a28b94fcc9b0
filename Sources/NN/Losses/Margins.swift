import ApusTensor

/// max(0, margin − target · (input1 − input2)): PyTorch's `margin_ranking_loss`.
/// - Parameters:
///   - input1: scores; any shape, the same for all three.
///   - target: 1 where `input1` should rank higher, −1 where `input2` should.
public func marginRankingLoss(
  _ input1: Tensor, _ input2: Tensor, _ target: Tensor, margin: Double = 0, reduction: Reduction = .mean
) -> Tensor {
  let x = alike("marginRankingLoss", ("input1", input1), ("input2", input2), ("target", target))
  return reduction(relu(x[2] * (x[1] - x[0]) + margin))
}

/// input where the target is 1, max(0, margin − input) where it is −1: PyTorch's `hinge_embedding_loss`.
/// - Parameters:
///   - input: distances; any shape.
///   - target: 1 or −1, of the same shape.
public func hingeEmbeddingLoss(
  _ input: Tensor, _ target: Tensor, margin: Double, reduction: Reduction = .mean
) -> Tensor {
  let (x, t) = pair(input, target, "hingeEmbeddingLoss")
  return reduction(`where`(t .!= 1, relu(margin - x), 0) + `where`(t .!= -1, x, 0))
}
public func hingeEmbeddingLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  hingeEmbeddingLoss(input, target, margin: 1, reduction: reduction)
}
public func hingeEmbeddingLoss(_ input: Tensor, _ target: Tensor) -> Tensor { hingeEmbeddingLoss(input, target, margin: 1) }

/// log(1 + e^(−target · input)): PyTorch's `soft_margin_loss`, without overflow.
/// - Parameters:
///   - input: scores; any shape.
///   - target: 1 or −1, of the same shape.
public func softMarginLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "softMarginLoss")
  return reduction(softplus(-(t * x)))
}
public func softMarginLoss(_ input: Tensor, _ target: Tensor) -> Tensor { softMarginLoss(input, target, reduction: .mean) }

/// Σ max(0, margin − input[target] + input[i])ᵖ / classes over all classes i but the target's: PyTorch's `multi_margin_loss`.
///
/// - Parameters:
///   - input: scores [batch, classes] or [classes].
///   - target: classes, integers [batch] or [].
///   - p: 1 or 2.
///   - weight: [classes], multiplied into the loss of each class's samples.
/// - Returns: with `.none` one loss for each sample. A label that names no class stops the program with its index; inside of
///   a compiled function when that runs.
public func multiMarginLoss(
  _ input: Tensor, _ target: Tensor, p: Int = 1, margin: Double = 1, weight: Tensor? = nil, reduction: Reduction = .mean
) -> Tensor {
  guard p == 1 || p == 2 else { stop("multiMarginLoss: p is \(p), expected 1 or 2") }
  guard input.rank <= 2 else {
    stop("multiMarginLoss: takes [batch, classes] or [classes], got an input of shape \(input.shape)")
  }
  let rows = ClassRows(input, "multiMarginLoss")
  let labels = rows.checked(labels: target)
  rows.checkRange(labels, nil)
  let gaps = relu(margin - rows.picked(labels, nil).expanded(at: 1) + rows.values)
  let others = labels.expanded(at: 1) .!= Tensor.arange(rows.classes)
  var loss = `where`(others, p == 1 ? gaps : square(gaps), 0).sum(axis: 1) / Double(rows.classes)
  if let weight { loss = loss * rows.checked(weight: weight).take(labels) }
  return reduction(loss.reshaped(rows.targetShape))
}
public func multiMarginLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  multiMarginLoss(input, target, p: 1, reduction: reduction)
}
public func multiMarginLoss(_ input: Tensor, _ target: Tensor) -> Tensor { multiMarginLoss(input, target, p: 1) }

/// Σ max(0, 1 − input[j] + input[i]) / classes over classes j that are targets and i that are not: PyTorch's
/// `multilabel_margin_loss`.
///
/// - Parameters:
///   - input: scores [batch, classes] or [classes].
///   - target: classes, integers of the same shape; those before the first −1 of a row count.
/// - Returns: with `.none` one loss for each sample. A label that names no class stops the program with its index; inside of
///   a compiled function when that runs.
public func multiLabelMarginLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  guard (1...2).contains(input.rank), input.elementType.isFloatingPoint else {
    stop("multiLabelMarginLoss: takes floating point [batch, classes] or [classes], got an input \(input.type)")
  }
  guard target.shape == input.shape else {
    stop("multiLabelMarginLoss: the input has shape \(input.shape), the target \(target.shape); they must be the same")
  }
  guard target.elementType.isInteger else { stop("multiLabelMarginLoss: classes must be integers, got \(target.type)") }
  let classes = input.shape[input.rank - 1]
  let x = input.reshaped(-1, classes)
  let labels = target.converted(to: .int64).reshaped(-1, classes)
  let counts = (labels .!= -1).converted(to: .int64).cumulativeProduct(axis: 1) .!= 0
  if labels.isConcrete {
    let valid = counts.elements(as: Bool.self)
    for (i, label) in labels.elements(as: Int.self).enumerated() where valid[i] && !(0..<classes).contains(label) {
      stop("multiLabelMarginLoss: label \(label) at index \(i) names no class; there are \(classes)")
    }
  }
  // A negative index would count from the end: sent beyond the last class, where a compiled function stops over it.
  let places = `where`(counts, `where`(labels .< 0, classes, labels), 0)
  let isTarget = Tensor.zeros(x.shape, .int64).scatterAdd(axis: 1, indices: places, values: counts.converted(to: .int64)) .> 0
  let gaps = relu(1 - x.gather(axis: 1, indices: places).expanded(at: 2) + x.expanded(at: 1))  // [batch, targets, classes]
  let loss = `where`(counts.expanded(at: 2) .& .!isTarget.expanded(at: 1), gaps, 0).sum(axes: [1, 2]) / Double(classes)
  return reduction(input.rank == 1 ? loss.reshaped([]) : loss)
}
public func multiLabelMarginLoss(_ input: Tensor, _ target: Tensor) -> Tensor {
  multiLabelMarginLoss(input, target, reduction: .mean)
}

/// The binary cross entropy of sigmoid(input), the mean over the last dimension for each sample: PyTorch's
/// `multilabel_soft_margin_loss`.
/// - Parameters:
///   - input: logits […, classes].
///   - target: 0 … 1, of the same shape.
///   - weight: multiplied into each element's loss; broadcast to the input's shape.
public func multiLabelSoftMarginLoss(
  _ input: Tensor, _ target: Tensor, weight: Tensor?, reduction: Reduction = .mean
) -> Tensor {
  let (x, t) = pair(input, target, "multiLabelSoftMarginLoss")
  return reduction(rowMeans(weighted(softplus(x) - t * x, weight, "multiLabelSoftMarginLoss")))
}
public func multiLabelSoftMarginLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  multiLabelSoftMarginLoss(input, target, weight: nil, reduction: reduction)
}
public func multiLabelSoftMarginLoss(_ input: Tensor, _ target: Tensor) -> Tensor {
  multiLabelSoftMarginLoss(input, target, weight: nil)
}
