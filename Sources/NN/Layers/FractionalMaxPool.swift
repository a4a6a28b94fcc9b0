import ApusTensor

/// What fractional pooling shares; use ``FractionalMaxPool2d`` or ``FractionalMaxPool3d``.
public class FractionalMaxPoolLayer: Module, Layer {
  public let kernelSize: [Int]
  private let outputSize: [Int]?
  private let outputRatio: [Double]?
  private let generator: Generator

  fileprivate init(
    _ name: String, _ n: Int, _ kernelSize: some SpatialSizes, _ outputSize: (any SpatialSizes)?,
    _ outputRatio: (any ScaleFactors)?,
    _ generator: Generator
  ) {
    guard (outputSize == nil) != (outputRatio == nil) else { stop("\(name): takes either outputSize or outputRatio") }
    self.kernelSize = spatial(kernelSize, n, "kernelSize", name)
    self.outputSize = outputSize.map { spatial($0, n, "outputSize", name) }
    self.outputRatio = outputRatio.map { ratio in
      let list = ratio.scaleFactors
      guard list.count == 1 || list.count == n, list.allSatisfy({ $0 > 0 && $0 < 1 }) else {
        stop("\(name): outputRatio \(list) needs one number between 0 and 1, or \(n)")
      }
      return (0..<n).map { list[list.count == 1 ? 0 : $0] }
    }
    self.generator = generator
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor { withIndices(received(x)).output }

  /// The maxima and where they were found: positions in the flattened spatial dimensions of a channel.
  /// - Parameter samples: [batch, channels, spatial dimensions] in [0, 1), which decide where windows lie; drawn anew if not given.
  public final func withIndices(_ x: Tensor, samples: Tensor? = nil) -> (output: Tensor, indices: Tensor) {
    let n = kernelSize.count
    guard x.rank == n + 2, x.elementType.isFloatingPoint else {
      stop("\(label): takes \(n + 2) dimensions [batch, channels, …] of floating point, got \(x.type)")
    }
    let size = outputSize ?? zip(x.shape[2...], outputRatio ?? []).map { Int(Double($0) * $1) }
    return recorded(
      all: {
        let samples = samples ?? Tensor.rand(Shape(Array(x.shape[..<2]) + [n]), x.elementType, generator: generator)
        return fractionalMaxPool(x, kernelSize: kernelSize, outputSize: size, samples: samples)
      }, \.output.shape)
  }

  override final var members: [Member] { [] }
  override final var arguments: String {
    brief(kernelSize) + (outputSize.map { ", outputSize: \(brief($0))" } ?? "")
      + (outputRatio.map { ", outputRatio: \($0)" } ?? "")
  }
}

/// The largest elements of pseudo-random windows that give the output its size, over 2 spatial dimensions (Graham 2014). Windows
/// are drawn at each call, in evaluation too.
public final class FractionalMaxPool2d: FractionalMaxPoolLayer {
  /// - Parameters:
  ///   - outputSize: one number, or one for each dimension.
  ///   - outputRatio: instead of a size: its share of the input's.
  public init(
    _ kernelSize: some SpatialSizes, outputSize: (any SpatialSizes)? = nil, outputRatio: (any ScaleFactors)? = nil,
    generator: Generator = .default
  ) { super.init("FractionalMaxPool2d", 2, kernelSize, outputSize, outputRatio, generator) }
}

/// The largest elements of pseudo-random windows that give the output its size, over 3 spatial dimensions (Graham 2014). Windows
/// are drawn at each call, in evaluation too.
public final class FractionalMaxPool3d: FractionalMaxPoolLayer {
  /// - Parameters:
  ///   - outputSize: one number, or one for each dimension.
  ///   - outputRatio: instead of a size: its share of the input's.
  public init(
    _ kernelSize: some SpatialSizes, outputSize: (any SpatialSizes)? = nil, outputRatio: (any ScaleFactors)? = nil,
    generator: Generator = .default
  ) { super.init("FractionalMaxPool3d", 3, kernelSize, outputSize, outputRatio, generator) }
}
