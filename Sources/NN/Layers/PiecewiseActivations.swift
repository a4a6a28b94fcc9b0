import ApusTensor

// Activations made of pieces, and those that leave exact zeros.

/// max(0, x) + min(0, alpha (e^(x / alpha) − 1)) (Barron 2017).
public final class CELU: Module, Layer {
  public let alpha: Double
  public init(alpha: Double = 1) { self.alpha = alpha }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(celu(received(x), alpha: alpha)) }
  override var members: [Member] { [] }
  override var arguments: String { alpha == 1 ? "" : "alpha: \(alpha)" }
}

/// x where |x| > threshold, else 0.
public final class Hardshrink: Module, Layer {
  public let threshold: Double
  public init(_ threshold: Double = 0.5) { self.threshold = threshold }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(hardShrink(received(x), threshold: threshold)) }
  override var members: [Member] { [] }
  override var arguments: String { threshold == 0.5 ? "" : "\(threshold)" }
}

/// x − threshold where x > threshold, x + threshold where x < −threshold, else 0.
public final class Softshrink: Module, Layer {
  public let threshold: Double
  public init(_ threshold: Double = 0.5) { self.threshold = threshold }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(softShrink(received(x), threshold: threshold)) }
  override var members: [Member] { [] }
  override var arguments: String { threshold == 0.5 ? "" : "\(threshold)" }
}

/// x − tanh(x).
public final class Tanhshrink: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(tanhShrink(received(x))) }
  override var members: [Member] { [] }
}

/// x where x > threshold, else `value`.
public final class Threshold: Module, Layer {
  public let threshold, value: Double
  public init(_ threshold: Double, _ value: Double) { (self.threshold, self.value) = (threshold, value) }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(ApusTensor.threshold(received(x), threshold, value)) }
  override var members: [Member] { [] }
  override var arguments: String { "\(threshold), \(value)" }
}

/// x where positive, else slope · x: in training with a slope drawn for each element from lower … upper, in evaluation with
/// the middle of the two (Xu et al. 2015).
public final class RReLU: Module, Layer {
  public let lower, upper: Double
  private let generator: Generator
  public init(_ lower: Double = 1.0 / 8, _ upper: Double = 1.0 / 3, generator: Generator = .default) {
    (self.lower, self.upper, self.generator) = (lower, upper, generator)
  }
  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    return recorded(rrelu(x, lower: lower, upper: upper, training: isTraining, generator: generator))
  }
  override var members: [Member] { [] }
  override var arguments: String { "\(lower), \(upper)" }
}

/// e⁻ˣ / Σ e⁻ˣ along the axis.
public final class Softmin: Module, Layer {
  public let axis: Int
  public init(axis: Int = -1) { self.axis = axis }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(softmin(received(x), axis: axis)) }
  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis)" }
}

/// Softmax over the channels of [batch, channels, height, width] or [channels, height, width].
public final class Softmax2d: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == 3 || x.rank == 4 else { stop("\(label): takes [batch, channels, height, width], got shape \(x.shape)") }
    return recorded(softmax(x, axis: -3))
  }
  override var members: [Member] { [] }
}

/// The point of the probability simplex nearest to x along the axis (Martins and Astudillo 2016).
public final class Sparsemax: Module, Layer {
  public let axis: Int
  public init(axis: Int = -1) { self.axis = axis }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(sparsemax(received(x), axis: axis)) }
  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis)" }
}

/// (x + √(x² + b)) / 2 (Barron 2021).
public final class Squareplus: Module, Layer {
  public let b: Double
  public init(b: Double = 4) { self.b = b }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(squareplus(received(x), b: b)) }
  override var members: [Member] { [] }
  override var arguments: String { b == 4 ? "" : "b: \(b)" }
}

/// 0 up to −1, (x + 1)² / 4 between −1 and 1, x from 1 on.
public final class SparsePlus: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(sparsePlus(received(x))) }
  override var members: [Member] { [] }
}

/// 0 up to −1, (x + 1) / 2 between −1 and 1, 1 from 1 on.
public final class SparseSigmoid: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(sparseSigmoid(received(x))) }
  override var members: [Member] { [] }
}
