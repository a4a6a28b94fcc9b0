import ApusTensor

/// max(0, 1 − target · input), the mean over the last dimension for each sample: Keras's `hinge`.
/// - Parameters:
///   - input: scores […, values].
///   - target: −1 or 1, of the same shape. If all are 0 or 1, 0 stands for −1.
public func hingeLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "hingeLoss")
  return reduction(rowMeans(relu(1 - signs(t) * x)))
}
public func hingeLoss(_ input: Tensor, _ target: Tensor) -> Tensor { hingeLoss(input, target, reduction: .mean) }

/// max(0, 1 − target · input)², the mean over the last dimension for each sample: Keras's `squared_hinge`.
/// - Parameters:
///   - input: scores […, values].
///   - target: −1 or 1, of the same shape. If all are 0 or 1, 0 stands for −1.
public func squaredHingeLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "squaredHingeLoss")
  return reduction(rowMeans(square(relu(1 - signs(t) * x))))
}
public func squaredHingeLoss(_ input: Tensor, _ target: Tensor) -> Tensor { squaredHingeLoss(input, target, reduction: .mean) }

/// max(0, 1 + max((1 − target) · input) − Σ target · input) over the last dimension: Keras's `categorical_hinge`.
/// - Parameters:
///   - input: scores […, classes].
///   - target: one-hot, of the same shape.
public func categoricalHingeLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "categoricalHingeLoss")
  guard x.rank > 0 else { stop("categoricalHingeLoss: takes […, classes], got a scalar") }
  return reduction(relu(((1 - t) * x).max(axis: -1) - (t * x).sum(axis: -1) + 1))
}
public func categoricalHingeLoss(_ input: Tensor, _ target: Tensor) -> Tensor {
  categoricalHingeLoss(input, target, reduction: .mean)
}

/// Labels 0 and 1 as −1 and 1, if all are such.
private func signs(_ t: Tensor) -> Tensor { `where`(((t .== 0) .| (t .== 1)).all(), t * 2 - 1, t) }
