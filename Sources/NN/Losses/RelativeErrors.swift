import ApusTensor

/// log cosh(input − target), the mean over the last dimension for each sample: Keras's `log_cosh`. Nearly d² / 2 for small
/// differences and |d| − log 2 for large ones.
/// - Parameters:
///   - input: […, values].
///   - target: of the same shape.
public func logCoshLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "logCoshLoss")
  let d = x - t
  return reduction(rowMeans(d + softplus(d * -2) - 0.693_147_180_559_945_3))  // log 2
}
public func logCoshLoss(_ input: Tensor, _ target: Tensor) -> Tensor { logCoshLoss(input, target, reduction: .mean) }

/// 100 · |target − input| / max(|target|, 10⁻⁷), the mean over the last dimension for each sample: Keras's
/// `mean_absolute_percentage_error`.
/// - Parameters:
///   - input: […, values].
///   - target: of the same shape.
public func meanAbsolutePercentageError(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "meanAbsolutePercentageError")
  return reduction(rowMeans(abs((t - x) / maximum(abs(t), kerasEpsilon))) * 100)
}
public func meanAbsolutePercentageError(_ input: Tensor, _ target: Tensor) -> Tensor {
  meanAbsolutePercentageError(input, target, reduction: .mean)
}

/// (log(1 + input) − log(1 + target))², both limited to at least 10⁻⁷, the mean over the last dimension for each sample:
/// Keras's `mean_squared_logarithmic_error`.
/// - Parameters:
///   - input: […, values].
///   - target: of the same shape.
public func meanSquaredLogarithmicError(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "meanSquaredLogarithmicError")
  return reduction(rowMeans(square(log(maximum(x, kerasEpsilon) + 1) - log(maximum(t, kerasEpsilon) + 1))))
}
public func meanSquaredLogarithmicError(_ input: Tensor, _ target: Tensor) -> Tensor {
  meanSquaredLogarithmicError(input, target, reduction: .mean)
}
