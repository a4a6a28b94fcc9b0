import ApusTensor

/// What the inverses of max pooling share; use ``MaxUnpool1d``, ``MaxUnpool2d`` or ``MaxUnpool3d``.
public class MaxUnpoolLayer: Module {
  public let kernelSize, stride, padding: [Int]

  fileprivate init(
    _ name: String, _ n: Int, _ kernelSize: some SpatialSizes, _ stride: (any SpatialSizes)?, _ padding: some SpatialSizes
  ) {
    self.kernelSize = spatial(kernelSize, n, "kernelSize", name)
    self.stride = stride.map { spatial($0, n, "stride", name) } ?? self.kernelSize
    self.padding = spatial(padding, n, "padding", name)
  }

  /// Each value at the place its index names, zeros elsewhere.
  /// - Parameters:
  ///   - x: [batch, channels, size…].
  ///   - indices: of the same shape, what `withIndices` of the pooling layer gave.
  ///   - outputSize: the spatial size before pooling, which several may lead to x's; by default the smallest.
  public final func callAsFunction(_ x: Tensor, indices: Tensor, outputSize: [Int]? = nil) -> Tensor {
    guard x.rank == kernelSize.count + 2 else {
      stop("\(label): takes \(kernelSize.count + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    return recorded(
      maxUnpool(x, indices: indices, kernelSize: kernelSize, stride: stride, padding: padding, outputSize: outputSize))
  }

  override final var members: [Member] { [] }
  override final var arguments: String {
    var text = brief(kernelSize)
    if stride != kernelSize { text += ", stride: \(brief(stride))" }
    if padding.contains(where: { $0 != 0 }) { text += ", padding: \(brief(padding))" }
    return text
  }
}

/// The inverse of ``MaxPool1d`` as far as there is one: what was not a maximum is zero.
public final class MaxUnpool1d: MaxUnpoolLayer {
  public init(_ kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0) {
    super.init("MaxUnpool1d", 1, kernelSize, stride, padding)
  }
}

/// The inverse of ``MaxPool2d`` as far as there is one: what was not a maximum is zero.
public final class MaxUnpool2d: MaxUnpoolLayer {
  public init(_ kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0) {
    super.init("MaxUnpool2d", 2, kernelSize, stride, padding)
  }
}

/// The inverse of ``MaxPool3d`` as far as there is one: what was not a maximum is zero.
public final class MaxUnpool3d: MaxUnpoolLayer {
  public init(_ kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0) {
    super.init("MaxUnpool3d", 3, kernelSize, stride, padding)
  }
}
