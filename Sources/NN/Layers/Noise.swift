import ApusTensor

/// What the alpha dropouts share; use ``AlphaDropout`` or ``FeatureAlphaDropout``.
public class AlphaDropoutLayer: Module, Layer {
  public let probability: Double
  private let wholeChannels: Bool
  private let generator: Generator

  fileprivate init(_ name: String, _ wholeChannels: Bool, _ probability: Double, _ generator: Generator) {
    guard (0...1).contains(probability) else { stop("\(name): the probability \(probability) is not in 0 … 1") }
    (self.wholeChannels, self.probability, self.generator) = (wholeChannels, probability, generator)
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard !wholeChannels || x.rank >= 2 else { stop("\(label): takes [batch, channels, …], got shape \(x.shape)") }
    return recorded {
      guard isTraining, probability > 0 else { return x }
      if probability == 1 { return x * 0 }
      // SELU's value at −∞ stands for what is dropped; a and b restore mean 0 and variance 1.
      let low = -1.758_099_340_847_376_6
      let a = 1 / ((1 - probability) * (1 + probability * low * low)).squareRoot()
      let b = -a * low * probability
      let shape = wholeChannels ? Shape(Array(x.shape[..<2]) + Array(repeating: 1, count: x.rank - 2)) : x.shape
      let kept = Tensor.bernoulli(shape, probability: 1 - probability, generator: generator)
      return `where`(kept, x * a + b, low * a + b)
    }
  }

  override final var members: [Member] { [] }
  override final var arguments: String { "\(probability)" }
}

/// In training each element is set to SELU's lowest value with this probability, and all are scaled and shifted so that mean 0 and
/// variance 1 stay (Klambauer et al. 2017); in evaluation the input as it is.
public final class AlphaDropout: AlphaDropoutLayer {
  public init(_ probability: Double = 0.5, generator: Generator = .default) {
    super.init("AlphaDropout", false, probability, generator)
  }
}

/// As ``AlphaDropout``, for whole channels of [batch, channels, …].
public final class FeatureAlphaDropout: AlphaDropoutLayer {
  public init(_ probability: Double = 0.5, generator: Generator = .default) {
    super.init("FeatureAlphaDropout", true, probability, generator)
  }
}

/// In training each element is multiplied by a number from the normal distribution of mean 1 and variance rate / (1 − rate)
/// (Srivastava et al. 2014); in evaluation the input as it is.
public final class GaussianDropout: Module, Layer {
  public let rate: Double
  private let generator: Generator

  public init(_ rate: Double, generator: Generator = .default) {
    guard rate >= 0 && rate < 1 else { stop("GaussianDropout: the rate \(rate) is not in 0 ..< 1") }
    (self.rate, self.generator) = (rate, generator)
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    return recorded {
      guard isTraining, rate > 0 else { return x }
      let deviation = (rate / (1 - rate)).squareRoot()
      return x * Tensor.normal(x.shape, mean: 1, standardDeviation: deviation, x.elementType, generator: generator)
    }
  }

  override var members: [Member] { [] }
  override var arguments: String { "\(rate)" }
}

/// In training each element has a number added from the normal distribution of mean 0 and this standard deviation; in evaluation
/// the input as it is.
public final class GaussianNoise: Module, Layer {
  public let standardDeviation: Double
  private let generator: Generator

  public init(_ standardDeviation: Double, generator: Generator = .default) {
    guard standardDeviation >= 0 else { stop("GaussianNoise: the standard deviation \(standardDeviation) is negative") }
    (self.standardDeviation, self.generator) = (standardDeviation, generator)
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    return recorded {
      guard isTraining, standardDeviation > 0 else { return x }
      return x + Tensor.normal(x.shape, standardDeviation: standardDeviation, x.elementType, generator: generator)
    }
  }

  override var members: [Member] { [] }
  override var arguments: String { "\(standardDeviation)" }
}
