import ApusTensor

/// What power-average pooling shares; use ``LPPool1d``, ``LPPool2d`` or ``LPPool3d``.
public class LPPoolLayer: Module, Layer {
  public let normType: Double
  public let kernelSize, stride: [Int]
  public let ceilMode: Bool

  fileprivate init(
    _ name: String, _ n: Int, _ normType: Double, _ kernelSize: some SpatialSizes, _ stride: (any SpatialSizes)?, _ ceilMode: Bool
  ) {
    self.normType = normType
    self.kernelSize = spatial(kernelSize, n, "kernelSize", name)
    self.stride = stride.map { spatial($0, n, "stride", name) } ?? self.kernelSize
    self.ceilMode = ceilMode
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == kernelSize.count + 2 else {
      stop("\(label): takes \(kernelSize.count + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    return recorded(lpPool(x, normType: normType, kernelSize: kernelSize, stride: stride, ceilMode: ceilMode))
  }

  override final var members: [Member] { [] }
  override final var arguments: String {
    "\(normType), kernelSize: \(brief(kernelSize))" + (stride == kernelSize ? "" : ", stride: \(brief(stride))")
      + (ceilMode ? ", ceilMode: true" : "")
  }
}

/// (Σ xᵖ)^(1/p) over windows of 1 spatial dimension, [batch, channels, size…] → [batch, channels, size'…]; p = 1 gives sums,
/// p = ∞ the largest |x|. The stride is the window's size if not given.
public final class LPPool1d: LPPoolLayer {
  public init(_ normType: Double, kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, ceilMode: Bool = false) {
    super.init("LPPool1d", 1, normType, kernelSize, stride, ceilMode)
  }
}

/// (Σ xᵖ)^(1/p) over windows of 2 spatial dimensions, [batch, channels, size…] → [batch, channels, size'…]; p = 1 gives sums,
/// p = ∞ the largest |x|. The stride is the window's size if not given.
public final class LPPool2d: LPPoolLayer {
  public init(_ normType: Double, kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, ceilMode: Bool = false) {
    super.init("LPPool2d", 2, normType, kernelSize, stride, ceilMode)
  }
}

/// (Σ xᵖ)^(1/p) over windows of 3 spatial dimensions, [batch, channels, size…] → [batch, channels, size'…]; p = 1 gives sums,
/// p = ∞ the largest |x|. The stride is the window's size if not given.
public final class LPPool3d: LPPoolLayer {
  public init(_ normType: Double, kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, ceilMode: Bool = false) {
    super.init("LPPool3d", 3, normType, kernelSize, stride, ceilMode)
  }
}
