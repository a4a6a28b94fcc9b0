import ApusTensor

/// What max and average pooling share; use ``MaxPool2d``, ``AvgPool2d`` and their like.
public class PoolingLayer: Module, Layer {
  enum Kind { case max, average(countIncludePad: Bool) }

  public let kernelSize, stride, padding, dilation: [Int]
  public let ceilMode: Bool
  private let kind: Kind

  fileprivate init(
    _ name: String, _ n: Int, _ kind: Kind, _ kernelSize: some SpatialSizes, _ stride: (any SpatialSizes)?,
    _ padding: some SpatialSizes, _ dilation: some SpatialSizes, _ ceilMode: Bool
  ) {
    self.kind = kind
    self.kernelSize = spatial(kernelSize, n, "kernelSize", name)
    self.stride = stride.map { spatial($0, n, "stride", name) } ?? self.kernelSize
    self.padding = spatial(padding, n, "padding", name)
    self.dilation = spatial(dilation, n, "dilation", name)
    self.ceilMode = ceilMode
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == kernelSize.count + 2 else {
      stop("\(label): takes \(kernelSize.count + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    switch kind {
    case .max:
      return recorded(
        maxPool(x, kernelSize: kernelSize, stride: stride, padding: padding, dilation: dilation, ceilMode: ceilMode))
    case .average(let countIncludePad):
      return recorded(
        avgPool(x, kernelSize: kernelSize, stride: stride, padding: padding, ceilMode: ceilMode, countIncludePad: countIncludePad)
      )
    }
  }

  fileprivate final func maxima(_ x: Tensor) -> (output: Tensor, indices: Tensor) {
    guard x.rank == kernelSize.count + 2 else {
      stop("\(label): takes \(kernelSize.count + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    return recorded(
      all: {
        maxPoolWithIndices(x, kernelSize: kernelSize, stride: stride, padding: padding, dilation: dilation, ceilMode: ceilMode)
      }, \.output.shape)
  }

  override final var members: [Member] { [] }
  override final var arguments: String {
    var text = brief(kernelSize)
    if stride != kernelSize { text += ", stride: \(brief(stride))" }
    if padding.contains(where: { $0 != 0 }) { text += ", padding: \(brief(padding))" }
    if dilation.contains(where: { $0 != 1 }) { text += ", dilation: \(brief(dilation))" }
    return text + (ceilMode ? ", ceilMode: true" : "")
  }
}

/// What adaptive pooling shares; use ``AdaptiveAvgPool2d``, ``AdaptiveMaxPool2d`` and their like.
///
/// Window i of a dimension covers ⌊i · in / out⌋ ..< ⌈(i + 1) · in / out⌉.
public class AdaptivePoolingLayer: Module, Layer {
  public let outputSize: [Int]
  private let isMax: Bool

  fileprivate init(_ name: String, _ n: Int, isMax: Bool, _ outputSize: some SpatialSizes) {
    self.isMax = isMax
    self.outputSize = spatial(outputSize, n, "outputSize", name)
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == outputSize.count + 2 else {
      stop("\(label): takes \(outputSize.count + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    return recorded(isMax ? adaptiveMaxPool(x, outputSize: outputSize) : adaptiveAvgPool(x, outputSize: outputSize))
  }

  override final var members: [Member] { [] }
  override final var arguments: String { brief(outputSize) }
}

/// The largest element of each window over 1 spatial dimension, [batch, channels, size…] → [batch, channels, size'…];
/// padding counts as −∞. The stride is the window's size if not given.
public final class MaxPool1d: PoolingLayer {
  public init(
    _ kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0,
    dilation: some SpatialSizes = 1, ceilMode: Bool = false
  ) { super.init("MaxPool1d", 1, .max, kernelSize, stride, padding, dilation, ceilMode) }

  /// The maxima and where they were found: positions in the flattened spatial dimensions of a channel, for ``MaxUnpool1d``.
  public func withIndices(_ x: Tensor) -> (output: Tensor, indices: Tensor) { maxima(x) }
}

/// The mean of each window over 1 spatial dimension, [batch, channels, size…] → [batch, channels, size'…];
/// padding counts as zeros, or not at all. The stride is the window's size if not given.
public final class AvgPool1d: PoolingLayer {
  public init(
    _ kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0, ceilMode: Bool = false,
    countIncludePad: Bool = true
  ) { super.init("AvgPool1d", 1, .average(countIncludePad: countIncludePad), kernelSize, stride, padding, 1, ceilMode) }
}

/// Means over windows that give the output this size: [batch, channels, size…] → [batch, channels, output size…].
public final class AdaptiveAvgPool1d: AdaptivePoolingLayer {
  public init(_ outputSize: some SpatialSizes) { super.init("AdaptiveAvgPool1d", 1, isMax: false, outputSize) }
}

/// Maxima over windows that give the output this size: [batch, channels, size…] → [batch, channels, output size…].
public final class AdaptiveMaxPool1d: AdaptivePoolingLayer {
  public init(_ outputSize: some SpatialSizes) { super.init("AdaptiveMaxPool1d", 1, isMax: true, outputSize) }
}

/// The largest element of each window over 2 spatial dimensions, [batch, channels, size…] → [batch, channels, size'…];
/// padding counts as −∞. The stride is the window's size if not given.
public final class MaxPool2d: PoolingLayer {
  public init(
    _ kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0,
    dilation: some SpatialSizes = 1, ceilMode: Bool = false
  ) { super.init("MaxPool2d", 2, .max, kernelSize, stride, padding, dilation, ceilMode) }

  /// The maxima and where they were found: positions in the flattened spatial dimensions of a channel, for ``MaxUnpool2d``.
  public func withIndices(_ x: Tensor) -> (output: Tensor, indices: Tensor) { maxima(x) }
}

/// The mean of each window over 2 spatial dimensions, [batch, channels, size…] → [batch, channels, size'…];
/// padding counts as zeros, or not at all. The stride is the window's size if not given.
public final class AvgPool2d: PoolingLayer {
  public init(
    _ kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0, ceilMode: Bool = false,
    countIncludePad: Bool = true
  ) { super.init("AvgPool2d", 2, .average(countIncludePad: countIncludePad), kernelSize, stride, padding, 1, ceilMode) }
}

/// Means over windows that give the output this size: [batch, channels, size…] → [batch, channels, output size…].
public final class AdaptiveAvgPool2d: AdaptivePoolingLayer {
  public init(_ outputSize: some SpatialSizes) { super.init("AdaptiveAvgPool2d", 2, isMax: false, outputSize) }
}

/// Maxima over windows that give the output this size: [batch, channels, size…] → [batch, channels, output size…].
public final class AdaptiveMaxPool2d: AdaptivePoolingLayer {
  public init(_ outputSize: some SpatialSizes) { super.init("AdaptiveMaxPool2d", 2, isMax: true, outputSize) }
}

/// The largest element of each window over 3 spatial dimensions, [batch, channels, size…] → [batch, channels, size'…];
/// padding counts as −∞. The stride is the window's size if not given.
public final class MaxPool3d: PoolingLayer {
  public init(
    _ kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0,
    dilation: some SpatialSizes = 1, ceilMode: Bool = false
  ) { super.init("MaxPool3d", 3, .max, kernelSize, stride, padding, dilation, ceilMode) }

  /// The maxima and where they were found: positions in the flattened spatial dimensions of a channel, for ``MaxUnpool3d``.
  public func withIndices(_ x: Tensor) -> (output: Tensor, indices: Tensor) { maxima(x) }
}

/// The mean of each window over 3 spatial dimensions, [batch, channels, size…] → [batch, channels, size'…];
/// padding counts as zeros, or not at all. The stride is the window's size if not given.
public final class AvgPool3d: PoolingLayer {
  public init(
    _ kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0, ceilMode: Bool = false,
    countIncludePad: Bool = true
  ) { super.init("AvgPool3d", 3, .average(countIncludePad: countIncludePad), kernelSize, stride, padding, 1, ceilMode) }
}

/// Means over windows that give the output this size: [batch, channels, size…] → [batch, channels, output size…].
public final class AdaptiveAvgPool3d: AdaptivePoolingLayer {
  public init(_ outputSize: some SpatialSizes) { super.init("AdaptiveAvgPool3d", 3, isMax: false, outputSize) }
}

/// Maxima over windows that give the output this size: [batch, channels, size…] → [batch, channels, output size…].
public final class AdaptiveMaxPool3d: AdaptivePoolingLayer {
  public init(_ outputSize: some SpatialSizes) { super.init("AdaptiveMaxPool3d", 3, isMax: true, outputSize) }
}
