import ApusTensor

/// 1 − cos(input1, input2) where the target is 1, max(0, cos(input1, input2) − margin) where it is −1: PyTorch's
/// `cosine_embedding_loss`.
/// - Parameters:
///   - input1: [batch, features] or [features], as `input2`.
///   - target: 1 or −1: [batch] or [].
public func cosineEmbeddingLoss(
  _ input1: Tensor, _ input2: Tensor, _ target: Tensor, margin: Double = 0, reduction: Reduction = .mean
) -> Tensor {
  let x = alike("cosineEmbeddingLoss", ("input1", input1), ("input2", input2))
  guard (1...2).contains(input1.rank), target.shape == Shape(input1.shape.dropLast()) else {
    stop(
      "cosineEmbeddingLoss: takes inputs [batch, features] and a target [batch], or [features] and [], got inputs of shape \(input1.shape), a target of shape \(target.shape)"
    )
  }
  let product = (x[0] * x[1]).sum(axis: -1)
  // PyTorch's own limit.
  let (a, b) = (square(x[0]).sum(axis: -1) + 1e-12, square(x[1]).sum(axis: -1) + 1e-12)
  let cosine = product / sqrt(a * b)
  return reduction(`where`(target .== 1, 1 - cosine, 0) + `where`(target .== -1, relu(cosine - margin), 0))
}

/// max(0, ‖anchor − positive‖ − ‖anchor − negative‖ + margin) with the p-norm over the last dimension: PyTorch's
/// `triplet_margin_loss` (Balntas et al. 2016).
/// - Parameters:
///   - anchor: […, features], as `positive` and `negative`.
///   - p: the norm's degree, above 0; may be infinite.
///   - epsilon: added to each difference, so that the norm has a gradient everywhere.
///   - swap: takes the smaller of the negative's distances to anchor and positive.
/// - Returns: with `.none` one loss for each triplet.
public func tripletMarginLoss(
  _ anchor: Tensor, _ positive: Tensor, _ negative: Tensor, margin: Double = 1, p: Double = 2, epsilon: Double = 1e-6,
  swap: Bool = false, reduction: Reduction = .mean
) -> Tensor {
  guard p > 0 else { stop("tripletMarginLoss: p \(p) is not positive") }
  return triplet("tripletMarginLoss", anchor, positive, negative, margin, swap, reduction) { a, b in
    let d = abs(a - b + epsilon)
    switch p {
    case 1: return d.sum(axis: -1)
    case 2: return d.norm(axes: [-1])
    case .infinity: return d.max(axis: -1)
    default: return pow(pow(d, p).sum(axis: -1), 1 / p)
    }
  }
}

/// max(0, d(anchor, positive) − d(anchor, negative) + margin) with a distance of your own: PyTorch's
/// `triplet_margin_with_distance_loss`.
/// - Parameters:
///   - anchor: what `distance` takes, as `positive` and `negative`.
///   - distance: from two of them to one distance for each triplet; nil: the Euclidean one.
///   - swap: takes the smaller of the negative's distances to anchor and positive.
public func tripletMarginWithDistanceLoss(
  _ anchor: Tensor, _ positive: Tensor, _ negative: Tensor, distance: ((Tensor, Tensor) -> Tensor)? = nil,
  margin: Double = 1, swap: Bool = false, reduction: Reduction = .mean
) -> Tensor {
  let distance = distance ?? { a, b in (a - b + 1e-6).norm(axes: [-1]) }
  return triplet("tripletMarginWithDistanceLoss", anchor, positive, negative, margin, swap, reduction, distance)
}

private func triplet(
  _ name: String, _ anchor: Tensor, _ positive: Tensor, _ negative: Tensor, _ margin: Double, _ swap: Bool,
  _ reduction: Reduction, _ distance: (Tensor, Tensor) -> Tensor
) -> Tensor {
  let x = alike(name, ("anchor", anchor), ("positive", positive), ("negative", negative))
  guard x[0].rank > 0 else { stop("\(name): takes […, features], got scalars") }
  var apart = distance(x[0], x[2])
  if swap { apart = minimum(apart, distance(x[1], x[2])) }
  return reduction(relu(distance(x[0], x[1]) - apart + margin))
}

/// −cos(input, target) over an axis: Keras's `cosine_similarity`; −1 where they point the same way.
/// - Parameters:
///   - input: any shape but a scalar.
///   - target: of the same shape.
/// - Returns: with `.none` the input's shape without the axis.
public func cosineSimilarityLoss(
  _ input: Tensor, _ target: Tensor, axis: Int, reduction: Reduction = .mean
) -> Tensor {
  let (x, t) = pair(input, target, "cosineSimilarityLoss")
  guard x.rank > 0 else { stop("cosineSimilarityLoss: takes […, features], got a scalar") }
  return reduction(-(unit(x, axis) * unit(t, axis)).sum(axis: axis))
}
public func cosineSimilarityLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  cosineSimilarityLoss(input, target, axis: -1, reduction: reduction)
}
public func cosineSimilarityLoss(_ input: Tensor, _ target: Tensor) -> Tensor { cosineSimilarityLoss(input, target, axis: -1) }

/// x / ‖x‖ along the axis; a length below 10⁻⁷ counts as that.
private func unit(_ x: Tensor, _ axis: Int) -> Tensor {
  let squares = square(x).sum(axis: axis, keepDims: true)
  let isShort = squares .<= kerasEpsilon * kerasEpsilon
  return x * `where`(isShort, 1 / kerasEpsilon, rsqrt(`where`(isShort, 1, squares)))
}

/// The circle loss of embeddings (Sun et al. 2020), Keras's `circle`: softplus(log Σ e^(γ aₙ (sₙ − m)) + log Σ e^(−γ aₚ (sₚ − 1 + m)))
/// over the cosine similarities s of each sample with those of other (n) and of the same (p) class.
///
/// - Parameters:
///   - input: embeddings of length 1 [batch, features].
///   - target: classes, integers [batch].
///   - referenceLabels: the classes of `referenceEmbeddings` [references]; nil: the target.
///   - referenceEmbeddings: what is compared with, [references, features]; nil: the input.
///   - removeDiagonal: whether sample i is not compared with reference i, itself.
///   - gamma: the scale.
///   - margin: m, which relaxes the constraint.
/// - Returns: the mean is over the samples whose loss is above 0, as in Keras: one without a partner has none. With `.none` [batch].
public func circleLoss(
  _ input: Tensor, _ target: Tensor, referenceLabels: Tensor? = nil, referenceEmbeddings: Tensor? = nil,
  removeDiagonal: Bool = true, gamma: Double = 80, margin: Double = 0.4, reduction: Reduction = .mean
) -> Tensor {
  let (references, labels) = (referenceEmbeddings ?? input, referenceLabels ?? target)
  guard input.rank == 2, input.elementType.isFloatingPoint, references.rank == 2, references.shape[1] == input.shape[1] else {
    stop(
      "circleLoss: takes embeddings [batch, features] and references [references, features], got shapes \(input.shape) and \(references.shape)"
    )
  }
  guard target.shape == [input.shape[0]], labels.shape == [references.shape[0]] else {
    stop(
      "circleLoss: the labels have shapes \(target.shape) and \(labels.shape), expected [\(input.shape[0])] and [\(references.shape[0])]"
    )
  }
  let distance = relu(1 - input.matmul(references.T))
  let same = target.expanded(at: 1) .== labels.expanded(at: 0)
  var positive = same
  if removeDiagonal {
    let (rows, columns) = (Tensor.arange(input.shape[0]).expanded(at: 1), Tensor.arange(references.shape[0]))
    positive = same .& (rows .!= columns)
  }
  let p = relu(distance + margin) * (distance - margin) * gamma
  let n = relu(1 + margin - distance) * (1 - margin - distance) * gamma
  // Finite in the place of −∞: an empty sum must have a gradient, and count nothing.
  let sums = `where`(positive, p, -1e30).logSumExp(axis: 1) + `where`(same, -1e30, n).logSumExp(axis: 1)
  let loss = softplus(sums)
  if case .mean = reduction {
    return loss.sum() / maximum((loss .> 0).sum().converted(to: loss.elementType), 1)
  }
  return reduction(loss)
}
public func circleLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  circleLoss(input, target, gamma: 80, reduction: reduction)
}
public func circleLoss(_ input: Tensor, _ target: Tensor) -> Tensor { circleLoss(input, target, gamma: 80) }
