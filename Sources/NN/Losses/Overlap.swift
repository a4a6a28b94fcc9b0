import ApusTensor

/// 1 − 2 Σ target · input / (Σ target + Σ input): Keras's `dice` (Milletari et al. 2016).
/// - Parameters:
///   - input: probabilities; any shape.
///   - target: 0 … 1, of the same shape.
///   - axes: what the sums are over; nil: everything, so that there is one loss for the whole batch.
/// - Returns: with `.none` what dimensions are left.
public func diceLoss(_ input: Tensor, _ target: Tensor, axes: [Int]?, reduction: Reduction = .mean) -> Tensor {
  let (x, t) = pair(input, target, "diceLoss")
  let both = (x * t).sum(axes: axes)
  return reduction(1 - both * 2 / (t.sum(axes: axes) + x.sum(axes: axes) + kerasEpsilon))
}
public func diceLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  diceLoss(input, target, axes: nil, reduction: reduction)
}
public func diceLoss(_ input: Tensor, _ target: Tensor) -> Tensor { diceLoss(input, target, axes: nil) }

/// 1 − Σ t x / (Σ t x + alpha Σ t (1 − x) + beta Σ (1 − t) x) for input x and target t: Keras's `tversky`
/// (Salehi et al. 2017). As in Keras, `alpha` weighs what is missed and `beta` what is found wrongly.
/// - Parameters:
///   - input: probabilities; any shape.
///   - target: 0 … 1, of the same shape.
///   - axes: what the sums are over; nil: everything, so that there is one loss for the whole batch.
/// - Returns: with `.none` what dimensions are left.
public func tverskyLoss(
  _ input: Tensor, _ target: Tensor, alpha: Double = 0.5, beta: Double = 0.5, axes: [Int]? = nil, reduction: Reduction = .mean
) -> Tensor {
  let (x, t) = pair(input, target, "tverskyLoss")
  let both = (x * t).sum(axes: axes)
  let missed = ((1 - x) * t).sum(axes: axes)
  let wrong = (x * (1 - t)).sum(axes: axes)
  return reduction(1 - both / (both + missed * alpha + wrong * beta + kerasEpsilon))
}
public func tverskyLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  tverskyLoss(input, target, axes: nil, reduction: reduction)
}
public func tverskyLoss(_ input: Tensor, _ target: Tensor) -> Tensor { tverskyLoss(input, target, axes: nil) }
