import ApusTensor

// Activation functions as layers, element by element unless they name an axis.

/// max(x, 0).
public final class ReLU: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(relu(x)) }
  override var members: [Member] { [] }
}

/// x sigmoid(x), also called swish.
public final class SiLU: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(silu(x)) }
  override var members: [Member] { [] }
}

/// 1 / (1 + e⁻ˣ).
public final class Sigmoid: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(sigmoid(x)) }
  override var members: [Member] { [] }
}

/// The hyperbolic tangent.
public final class Tanh: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(tanh(x)) }
  override var members: [Member] { [] }
}

/// relu limited to 6.
public final class ReLU6: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(relu6(x)) }
  override var members: [Member] { [] }
}

/// x relu6(x + 3) / 6.
public final class Hardswish: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(hardSwish(x)) }
  override var members: [Member] { [] }
}

/// relu6(x + 3) / 6.
public final class Hardsigmoid: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(hardSigmoid(x)) }
  override var members: [Member] { [] }
}

/// x tanh(log(1 + eˣ)).
public final class Mish: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(mish(x)) }
  override var members: [Member] { [] }
}

/// λ x where positive, else λ α (eˣ − 1): keeps mean 0 and variance 1 (Klambauer et al. 2017).
public final class SELU: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(selu(x)) }
  override var members: [Member] { [] }
}

/// x / (1 + |x|).
public final class Softsign: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(softsign(x)) }
  override var members: [Member] { [] }
}

/// log sigmoid(x).
public final class LogSigmoid: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(logSigmoid(x)) }
  override var members: [Member] { [] }
}

/// x Φ(x), Φ the normal distribution function; with its approximation by tanh on request.
public final class GELU: Module, Layer {
  public let approximate: Bool
  public init(approximate: Bool = false) { self.approximate = approximate }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(gelu(x, approximate: approximate)) }
  override var members: [Member] { [] }
  override var arguments: String { approximate ? "approximate: true" : "" }
}

/// x where positive, else slope · x.
public final class LeakyReLU: Module, Layer {
  public let slope: Double
  public init(slope: Double = 0.01) { self.slope = slope }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(leakyRelu(x, slope: slope)) }
  override var members: [Member] { [] }
  override var arguments: String { "slope: \(slope)" }
}

/// x where positive, else alpha (eˣ − 1).
public final class ELU: Module, Layer {
  public let alpha: Double
  public init(alpha: Double = 1) { self.alpha = alpha }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(elu(x, alpha: alpha)) }
  override var members: [Member] { [] }
  override var arguments: String { alpha == 1 ? "" : "alpha: \(alpha)" }
}

/// log(1 + e^(beta x)) / beta; x itself where beta x > threshold, as in PyTorch.
public final class Softplus: Module, Layer {
  public let beta, threshold: Double
  public init(beta: Double = 1, threshold: Double = 20) { (self.beta, self.threshold) = (beta, threshold) }
  public func callAsFunction(_ x: Tensor) -> Tensor {
    let scaled = beta == 1 ? x : x * beta
    // In float32 log(1 + eˣ) is x beyond the default threshold.
    if threshold >= 20 && x.elementType == .float32 { return recorded(beta == 1 ? softplus(scaled) : softplus(scaled) / beta) }
    return recorded(`where`(scaled .> threshold, x, softplus(minimum(scaled, threshold)) / beta))
  }
  override var members: [Member] { [] }
  override var arguments: String { beta == 1 && threshold == 20 ? "" : "beta: \(beta), threshold: \(threshold)" }
}

/// x limited to minimum … maximum.
public final class Hardtanh: Module, Layer {
  public let minimumValue, maximumValue: Double
  public init(_ minimumValue: Double = -1, _ maximumValue: Double = 1) {
    (self.minimumValue, self.maximumValue) = (minimumValue, maximumValue)
  }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(x.clamped(minimumValue, maximumValue)) }
  override var members: [Member] { [] }
  override var arguments: String { "\(minimumValue), \(maximumValue)" }
}

/// x where positive, else weight · x, with one weight for all, or one for each channel (He et al. 2015).
///
/// Parameter: weight [count], initially `initial`.
public final class PReLU: Module, Layer {
  public let weight: Parameter
  public init(_ count: Int = 1, initial: Double = 0.25, elementType: ElementType = .float32) {
    weight = Parameter(Tensor.full([count], initial, elementType))
  }
  public func callAsFunction(_ x: Tensor) -> Tensor {
    let count = weight.shape[0]
    guard count == 1 || (x.rank >= 2 && x.shape[1] == count) else {
      stop("\(label): the input of shape \(x.shape) does not have \(count) channels")
    }
    let slope = count == 1 ? weight.value : weight.value.reshaped([count] + Array(repeating: 1, count: x.rank - 2))
    return recorded(`where`(x .> 0, x, x * slope))
  }
  override var members: [Member] { Member.list(("weight", weight)) }
  override var arguments: String { "\(weight.shape[0])" }
}

/// eˣ / Σ eˣ along the axis.
public final class Softmax: Module, Layer {
  public let axis: Int
  public init(axis: Int = -1) { self.axis = axis }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(softmax(x, axis: axis)) }
  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis)" }
}

/// x − log Σ eˣ along the axis.
public final class LogSoftmax: Module, Layer {
  public let axis: Int
  public init(axis: Int = -1) { self.axis = axis }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(logSoftmax(x, axis: axis)) }
  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis)" }
}

/// a · sigmoid(b), a and b the halves of x along the axis (Dauphin et al. 2017).
public final class GLU: Module, Layer {
  public let axis: Int
  public init(axis: Int = -1) { self.axis = axis }
  public func callAsFunction(_ x: Tensor) -> Tensor {
    let i = axis < 0 ? axis + x.rank : axis
    guard (0..<x.rank).contains(i), x.shape[i] % 2 == 0 else {
      stop("\(label): an input of shape \(x.shape) cannot be halved along axis \(axis)")
    }
    let halves = x.split(size: Swift.max(x.shape[i] / 2, 1), axis: i)
    return recorded(halves[0] * sigmoid(halves[1]))
  }
  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis)" }
}
