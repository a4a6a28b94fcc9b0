import ApusTensor

/// What the dropout layers share; use ``Dropout``, or ``Dropout2d`` and its like for whole channels.
public class DropoutLayer: Module, Layer {
  public let probability: Double
  private let generator: Generator
  /// The input's rank, and whether whole channels are dropped.
  private let rank: Int?

  fileprivate init(_ name: String, _ rank: Int?, _ probability: Double, _ generator: Generator) {
    guard (0...1).contains(probability) else { stop("\(name): the probability \(probability) is not in 0 … 1") }
    self.probability = probability
    self.rank = rank
    self.generator = generator
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    if let rank, x.rank != rank { stop("\(label): takes \(rank) dimensions [batch, channels, …], got shape \(x.shape)") }
    return recorded {
      guard isTraining, probability > 0 else { return x }
      if probability == 1 { return x * 0 }
      let shape = rank == nil ? x.shape : Shape(Array(x.shape[..<2]) + Array(repeating: 1, count: x.rank - 2))
      let kept = Tensor.bernoulli(shape, probability: 1 - probability, generator: generator)
      return x * (kept.converted(to: x.elementType) * (1 / (1 - probability)))
    }
  }

  override final var members: [Member] { [] }
  override final var arguments: String { "\(probability)" }
}

/// In training each element is zero with this probability, the others are divided by 1 − probability; in evaluation the
/// input as it is (Srivastava et al. 2014).
public final class Dropout: DropoutLayer {
  public init(_ probability: Double = 0.5, generator: Generator = .default) { super.init("Dropout", nil, probability, generator) }
}

/// As ``Dropout``, for whole channels of [batch, channels, length] (Tompson et al. 2015; Keras's SpatialDropout1D).
public final class Dropout1d: DropoutLayer {
  public init(_ probability: Double = 0.5, generator: Generator = .default) { super.init("Dropout1d", 3, probability, generator) }
}

/// As ``Dropout``, for whole channels of [batch, channels, height, width] (Keras's SpatialDropout2D).
public final class Dropout2d: DropoutLayer {
  public init(_ probability: Double = 0.5, generator: Generator = .default) { super.init("Dropout2d", 4, probability, generator) }
}

/// As ``Dropout``, for whole channels of [batch, channels, depth, height, width] (Keras's SpatialDropout3D).
public final class Dropout3d: DropoutLayer {
  public init(_ probability: Double = 0.5, generator: Generator = .default) { super.init("Dropout3d", 5, probability, generator) }
}
