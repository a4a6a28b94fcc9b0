import ApusTensor

/// What the padding layers share; use ``ZeroPad2d``, ``ReflectionPad2d`` and their like.
public class PaddingLayer: Module, Layer {
  /// For each spatial dimension, the last one first, how much comes before and after it.
  public let padding: [Int]
  private let mode: PaddingMode
  private let value: Double?

  fileprivate init(_ name: String, _ n: Int, _ mode: PaddingMode, _ padding: some SpatialSizes, _ value: Double? = nil) {
    let list = padding.spatialSizes
    guard list.count == 1 || list.count == 2 * n else {
      stop("\(name): padding \(list) needs one number, or two for each of \(n) dimensions, the last dimension first")
    }
    self.padding = list.count == 1 ? Array(repeating: list[0], count: 2 * n) : list
    (self.mode, self.value) = (mode, value)
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == padding.count / 2 + 2 else {
      stop("\(label): takes \(padding.count / 2 + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    return recorded(pad(x, padding, mode: mode, value: value ?? 0))
  }

  override final var members: [Member] { [] }
  override final var arguments: String { brief(padding) + (value.map { ", value: \($0)" } ?? "") }
}

/// [batch, channels, length] with zeros around the spatial dimension.
public final class ZeroPad1d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right]; negative numbers crop.
  public init(_ padding: some SpatialSizes) { super.init("ZeroPad1d", 1, .constant, padding) }
}

/// [batch, channels, height, width] with zeros around the spatial dimensions.
public final class ZeroPad2d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom]; negative numbers crop.
  public init(_ padding: some SpatialSizes) { super.init("ZeroPad2d", 2, .constant, padding) }
}

/// [batch, channels, depth, height, width] with zeros around the spatial dimensions.
public final class ZeroPad3d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom, front, back]; negative numbers crop.
  public init(_ padding: some SpatialSizes) { super.init("ZeroPad3d", 3, .constant, padding) }
}

/// [batch, channels, length] with a value around the spatial dimension.
public final class ConstantPad1d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right]; negative numbers crop.
  public init(_ padding: some SpatialSizes, value: Double) { super.init("ConstantPad1d", 1, .constant, padding, value) }
}

/// [batch, channels, height, width] with a value around the spatial dimensions.
public final class ConstantPad2d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom]; negative numbers crop.
  public init(_ padding: some SpatialSizes, value: Double) { super.init("ConstantPad2d", 2, .constant, padding, value) }
}

/// [batch, channels, depth, height, width] with a value around the spatial dimensions.
public final class ConstantPad3d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom, front, back]; negative numbers crop.
  public init(_ padding: some SpatialSizes, value: Double) { super.init("ConstantPad3d", 3, .constant, padding, value) }
}

/// [batch, channels, length] with what mirrors them at the outermost elements, which are not repeated around the spatial dimension.
public final class ReflectionPad1d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right].
  public init(_ padding: some SpatialSizes) { super.init("ReflectionPad1d", 1, .reflect, padding) }
}

/// [batch, channels, height, width] with what mirrors them at the outermost elements, which are not repeated around the spatial dimensions.
public final class ReflectionPad2d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom].
  public init(_ padding: some SpatialSizes) { super.init("ReflectionPad2d", 2, .reflect, padding) }
}

/// [batch, channels, depth, height, width] with what mirrors them at the outermost elements, which are not repeated around the spatial dimensions.
public final class ReflectionPad3d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom, front, back].
  public init(_ padding: some SpatialSizes) { super.init("ReflectionPad3d", 3, .reflect, padding) }
}

/// [batch, channels, length] with copies of the outermost elements around the spatial dimension.
public final class ReplicationPad1d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right].
  public init(_ padding: some SpatialSizes) { super.init("ReplicationPad1d", 1, .replicate, padding) }
}

/// [batch, channels, height, width] with copies of the outermost elements around the spatial dimensions.
public final class ReplicationPad2d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom].
  public init(_ padding: some SpatialSizes) { super.init("ReplicationPad2d", 2, .replicate, padding) }
}

/// [batch, channels, depth, height, width] with copies of the outermost elements around the spatial dimensions.
public final class ReplicationPad3d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom, front, back].
  public init(_ padding: some SpatialSizes) { super.init("ReplicationPad3d", 3, .replicate, padding) }
}

/// [batch, channels, length] with what is at the other end around the spatial dimension.
public final class CircularPad1d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right].
  public init(_ padding: some SpatialSizes) { super.init("CircularPad1d", 1, .circular, padding) }
}

/// [batch, channels, height, width] with what is at the other end around the spatial dimensions.
public final class CircularPad2d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom].
  public init(_ padding: some SpatialSizes) { super.init("CircularPad2d", 2, .circular, padding) }
}

/// [batch, channels, depth, height, width] with what is at the other end around the spatial dimensions.
public final class CircularPad3d: PaddingLayer {
  /// - Parameter padding: one number for all sides, or [left, right, top, bottom, front, back].
  public init(_ padding: some SpatialSizes) { super.init("CircularPad3d", 3, .circular, padding) }
}
