import ApusTensor

/// What global pooling shares; use ``GlobalAvgPool2d``, ``GlobalMaxPool2d`` and their like.
public class GlobalPoolingLayer: Module, Layer {
  /// Whether the spatial dimensions stay, with size 1.
  public let keepDims: Bool
  private let n: Int
  private let isMax: Bool

  fileprivate init(_ n: Int, isMax: Bool, _ keepDims: Bool) { (self.n, self.isMax, self.keepDims) = (n, isMax, keepDims) }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == n + 2, x.shape[2...].allSatisfy({ $0 > 0 }) else {
      stop("\(label): takes \(n + 2) dimensions [batch, channels, …] with elements, got shape \(x.shape)")
    }
    let axes = Array(2..<(n + 2))
    return recorded(isMax ? x.max(axes: axes, keepDims: keepDims) : x.mean(axes: axes, keepDims: keepDims))
  }

  override final var members: [Member] { [] }
  override final var arguments: String { keepDims ? "keepDims: true" : "" }
}

/// The mean of each channel: [batch, channels, length] → [batch, channels]; with `keepDims` as ``AdaptiveAvgPool1d`` to size 1.
public final class GlobalAvgPool1d: GlobalPoolingLayer {
  public init(keepDims: Bool = false) { super.init(1, isMax: false, keepDims) }
}

/// The largest element of each channel: [batch, channels, length] → [batch, channels]; with `keepDims` as ``AdaptiveMaxPool1d`` to size 1.
/// The gradients of equal maxima are shared evenly.
public final class GlobalMaxPool1d: GlobalPoolingLayer {
  public init(keepDims: Bool = false) { super.init(1, isMax: true, keepDims) }
}

/// The mean of each channel: [batch, channels, height, width] → [batch, channels]; with `keepDims` as ``AdaptiveAvgPool2d`` to size 1.
public final class GlobalAvgPool2d: GlobalPoolingLayer {
  public init(keepDims: Bool = false) { super.init(2, isMax: false, keepDims) }
}

/// The largest element of each channel: [batch, channels, height, width] → [batch, channels]; with `keepDims` as ``AdaptiveMaxPool2d`` to size 1.
/// The gradients of equal maxima are shared evenly.
public final class GlobalMaxPool2d: GlobalPoolingLayer {
  public init(keepDims: Bool = false) { super.init(2, isMax: true, keepDims) }
}

/// The mean of each channel: [batch, channels, depth, height, width] → [batch, channels]; with `keepDims` as ``AdaptiveAvgPool3d`` to size 1.
public final class GlobalAvgPool3d: GlobalPoolingLayer {
  public init(keepDims: Bool = false) { super.init(3, isMax: false, keepDims) }
}

/// The largest element of each channel: [batch, channels, depth, height, width] → [batch, channels]; with `keepDims` as ``AdaptiveMaxPool3d`` to size 1.
/// The gradients of equal maxima are shared evenly.
public final class GlobalMaxPool3d: GlobalPoolingLayer {
  public init(keepDims: Bool = false) { super.init(3, isMax: true, keepDims) }
}
