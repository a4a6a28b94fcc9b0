import ApusTensor

// Activation functions as layers, element by element unless they name an axis.

/// max(x, 0); with options, Keras's ReLU: `maximum` from there on, x from `threshold` on, negativeSlope (x − threshold) below.
public final class ReLU: Module, Layer {
  private let options: (maximum: Double?, negativeSlope: Double, threshold: Double)?

  public override init() { options = nil }

  public init(maximum: Double? = nil, negativeSlope: Double = 0, threshold: Double = 0) {
    options = maximum == nil && negativeSlope == 0 && threshold == 0 ? nil : (maximum, negativeSlope, threshold)
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard let options else { return recorded(relu(x)) }
    let y = `where`(x .>= options.threshold, x, (x - options.threshold) * options.negativeSlope)
    return recorded(options.maximum.map { minimum(y, $0) } ?? y)
  }
  override var members: [Member] { [] }
  override var arguments: String {
    guard let options else { return "" }
    var parts = options.maximum.map { ["maximum: \($0)"] } ?? []
    if options.negativeSlope != 0 { parts.append("negativeSlope: \(options.negativeSlope)") }
    if options.threshold != 0 { parts.append("threshold: \(options.threshold)") }
    return parts.joined(separator: ", ")
  }
}

/// x sigmoid(x), also called swish.
public final class SiLU: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(silu(received(x))) }
  override var members: [Member] { [] }
}

/// 1 / (1 + e⁻ˣ).
public final class Sigmoid: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(sigmoid(received(x))) }
  override var members: [Member] { [] }
}

/// The hyperbolic tangent.
public final class Tanh: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(tanh(received(x))) }
  override var members: [Member] { [] }
}

/// relu limited to 6.
public final class ReLU6: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(relu6(received(x))) }
  override var members: [Member] { [] }
}

/// x relu6(x + 3) / 6.
public final class Hardswish: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(hardSwish(received(x))) }
  override var members: [Member] { [] }
}

/// relu6(x + 3) / 6.
public final class Hardsigmoid: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(hardSigmoid(received(x))) }
  override var members: [Member] { [] }
}

/// x tanh(log(1 + eˣ)).
public final class Mish: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(mish(received(x))) }
  override var members: [Member] { [] }
}

/// λ x where positive, else λ α (eˣ − 1): keeps mean 0 and variance 1 (Klambauer et al. 2017).
public final class SELU: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(selu(received(x))) }
  override var members: [Member] { [] }
}

/// x / (1 + |x|).
public final class Softsign: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(softsign(received(x))) }
  override var members: [Member] { [] }
}

/// log sigmoid(x).
public final class LogSigmoid: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(logSigmoid(received(x))) }
  override var members: [Member] { [] }
}

/// x Φ(x), Φ the normal distribution function; with its approximation by tanh on request.
public final class GELU: Module, Layer {
  public let approximate: Bool
  public init(approximate: Bool = false) { self.approximate = approximate }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(gelu(received(x), approximate: approximate)) }
  override var members: [Member] { [] }
  override var arguments: String { approximate ? "approximate: true" : "" }
}

/// x where positive, else slope · x.
public final class LeakyReLU: Module, Layer {
  public let slope: Double
  public init(slope: Double = 0.01) { self.slope = slope }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(leakyRelu(received(x), slope: slope)) }
  override var members: [Member] { [] }
  override var arguments: String { "slope: \(slope)" }
}

/// x where positive, else alpha (eˣ − 1).
public final class ELU: Module, Layer {
  public let alpha: Double
  public init(alpha: Double = 1) { self.alpha = alpha }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(elu(received(x), alpha: alpha)) }
  override var members: [Member] { [] }
  override var arguments: String { alpha == 1 ? "" : "alpha: \(alpha)" }
}

/// log(1 + e^(beta x)) / beta; x itself where beta x > threshold, as in PyTorch.
public final class Softplus: Module, Layer {
  public let beta, threshold: Double
  public init(beta: Double = 1, threshold: Double = 20) { (self.beta, self.threshold) = (beta, threshold) }
  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
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
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(hardTanh(received(x), minimumValue, maximumValue)) }
  override var members: [Member] { [] }
  override var arguments: String { "\(minimumValue), \(maximumValue)" }
}

/// x where positive, else weight · x, with one weight for all, or one for each channel (He et al. 2015).
///
/// Parameter: weight [count], or of a sample's shape with 1 for the shared axes; initially `initial`.
public final class PReLU: Module, Layer {
  private var weightIfBuilt: Parameter?
  private let initial: Double
  private let sharedAxes: [Int]
  private let elementType: ElementType?

  public init(_ count: Int = 1, initial: Double = 0.25, elementType: ElementType = .float32) {
    (self.initial, sharedAxes, self.elementType) = (initial, [], elementType)
    weightIfBuilt = Parameter(Tensor.full([count], initial, elementType))
  }

  /// A layer with a weight for each element of a sample, whose shape it takes from its first input; Keras's PReLU, whose
  /// weights begin at 0.
  /// - Parameter sharedAxes: axes of the input that have one weight together, such as [2, 3] for images.
  public init(sharedAxes: [Int], initial: Double = 0.25, elementType: ElementType? = nil) {
    (self.initial, self.sharedAxes, self.elementType) = (initial, sharedAxes, elementType)
  }

  public var weight: Parameter { existing(weightIfBuilt) }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    if weightIfBuilt == nil {
      var sizes = Array(x.shape.dropFirst())
      for axis in sharedAxes {
        let i = axis < 0 ? axis + x.rank : axis
        guard (1..<Swift.max(x.rank, 1)).contains(i) else {
          stop("\(label): an input of shape \(x.shape) has no axis \(axis) to share")
        }
        sizes[i - 1] = 1
      }
      untraced { weightIfBuilt = Parameter(Tensor.full(Shape(sizes), initial, elementType ?? x.elementType)) }
    }
    let weight = existing(weightIfBuilt)
    let count = weight.shape[0]
    guard weight.shape.count > 1 || count == 1 || (x.rank >= 2 && x.shape[1] == count) else {
      stop("\(label): the input of shape \(x.shape) does not have \(count) channels")
    }
    return recorded(prelu(x, weight.value))
  }
  override var members: [Member] { Member.list(("weight", weightIfBuilt)) }
  override var awaitsInput: Bool { weightIfBuilt == nil }
  override var arguments: String {
    weightIfBuilt.map { $0.shape.count == 1 ? "\($0.shape[0])" : "\($0.shape)" } ?? "sharedAxes: \(sharedAxes)"
  }
}

/// eˣ / Σ eˣ along the axis.
public final class Softmax: Module, Layer {
  public let axis: Int
  public init(axis: Int = -1) { self.axis = axis }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(softmax(received(x), axis: axis)) }
  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis)" }
}

/// x − log Σ eˣ along the axis.
public final class LogSoftmax: Module, Layer {
  public let axis: Int
  public init(axis: Int = -1) { self.axis = axis }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(logSoftmax(received(x), axis: axis)) }
  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis)" }
}

/// a · sigmoid(b), a and b the halves of x along the axis (Dauphin et al. 2017).
public final class GLU: Module, Layer {
  public let axis: Int
  public init(axis: Int = -1) { self.axis = axis }
  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    let i = axis < 0 ? axis + x.rank : axis
    guard (0..<x.rank).contains(i), x.shape[i] % 2 == 0 else {
      stop("\(label): an input of shape \(x.shape) cannot be halved along axis \(axis)")
    }
    return recorded(glu(x, axis: axis))
  }
  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis)" }
}
