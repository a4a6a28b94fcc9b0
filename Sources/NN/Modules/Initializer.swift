import ApusTensor

/// A way to fill a new parameter.
public struct Initializer: Sendable {
  /// The values for a parameter of this shape and type.
  public let make: @Sendable (Shape, ElementType, Generator) -> Tensor

  public init(_ make: @escaping @Sendable (Shape, ElementType, Generator) -> Tensor) { self.make = make }

  public func callAsFunction(_ shape: Shape, _ type: ElementType = .float32, generator: Generator = .default) -> Tensor {
    make(shape, type, generator)
  }
}

extension Initializer {
  public static let zeros = Initializer { shape, type, _ in Tensor.zeros(shape, type) }
  public static let ones = Initializer { shape, type, _ in Tensor.ones(shape, type) }
  public static func constant(_ value: Double) -> Initializer {
    Initializer { shape, type, _ in Tensor.full(shape, value, type) }
  }

  /// Uniform in [low, high).
  public static func uniform(_ low: Double = 0, _ high: Double = 1) -> Initializer {
    Initializer { shape, type, generator in Tensor.uniform(shape, low: low, high: high, type, generator: generator) }
  }

  public static func normal(mean: Double = 0, standardDeviation: Double = 1) -> Initializer {
    Initializer { shape, type, generator in
      Tensor.normal(shape, mean: mean, standardDeviation: standardDeviation, type, generator: generator)
    }
  }

  /// Normal, but only values within low … high, in units of the result (not of deviations), as PyTorch's `trunc_normal_`.
  public static func truncatedNormal(
    mean: Double = 0, standardDeviation: Double = 1, low: Double = -2, high: Double = 2
  ) -> Initializer {
    Initializer { shape, type, generator in
      Tensor.truncatedNormal(
        shape, mean: mean, standardDeviation: standardDeviation, low: low, high: high, type, generator: generator)
    }
  }

  /// Uniform with variance gain² · 2 / (fan in + fan out) (Glorot and Bengio 2010).
  public static func xavierUniform(gain: Double = 1) -> Initializer {
    Initializer { shape, type, generator in
      let (fanIn, fanOut) = weightFans(of: shape, "xavierUniform")
      let bound = gain * (6 / Double(fanIn + fanOut)).squareRoot()
      return Tensor.uniform(shape, low: -bound, high: bound, type, generator: generator)
    }
  }

  /// Normal with variance gain² · 2 / (fan in + fan out) (Glorot and Bengio 2010).
  public static func xavierNormal(gain: Double = 1) -> Initializer {
    Initializer { shape, type, generator in
      let (fanIn, fanOut) = weightFans(of: shape, "xavierNormal")
      return Tensor.normal(
        shape, standardDeviation: gain * (2 / Double(fanIn + fanOut)).squareRoot(), type, generator: generator)
    }
  }

  /// Whether the variance is kept in the forward or in the backward pass.
  public enum FanMode: Sendable {
    case fanIn, fanOut
    /// The mean of both.
    case fanAvg
  }

  /// Uniform with variance 2 / ((1 + slope²) fan) (He et al. 2015); `slope` is the leaky relu's that follows, 0 for relu.
  public static func kaimingUniform(slope: Double = 0, mode: FanMode = .fanIn) -> Initializer {
    kaimingUniform(nonlinearity: .leakyReLU(slope: slope), mode: mode)
  }

  /// Normal with variance 2 / ((1 + slope²) fan) (He et al. 2015); `slope` is the leaky relu's that follows, 0 for relu.
  public static func kaimingNormal(slope: Double = 0, mode: FanMode = .fanIn) -> Initializer {
    kaimingNormal(nonlinearity: .leakyReLU(slope: slope), mode: mode)
  }

  /// Uniform with variance gain² / fan, the gain that of the function that follows (He et al. 2015; ``calculateGain(_:)``).
  public static func kaimingUniform(nonlinearity: Nonlinearity, mode: FanMode = .fanIn) -> Initializer {
    Initializer { shape, type, generator in
      let bound = calculateGain(nonlinearity) * (3 / mode.fan(weightFans(of: shape, "kaimingUniform"))).squareRoot()
      return Tensor.uniform(shape, low: -bound, high: bound, type, generator: generator)
    }
  }

  /// Normal with variance gain² / fan, the gain that of the function that follows (He et al. 2015; ``calculateGain(_:)``).
  public static func kaimingNormal(nonlinearity: Nonlinearity, mode: FanMode = .fanIn) -> Initializer {
    Initializer { shape, type, generator in
      let deviation = calculateGain(nonlinearity) / mode.fan(weightFans(of: shape, "kaimingNormal")).squareRoot()
      return Tensor.normal(shape, standardDeviation: deviation, type, generator: generator)
    }
  }

  /// Uniform within ± 1 / √fan in: PyTorch's default for linear layers and convolutions, weights and biases alike.
  static func uniformByFanIn(_ fanIn: Int) -> Initializer {
    let bound = fanIn > 0 ? 1 / Double(fanIn).squareRoot() : 0
    return .uniform(-bound, bound)
  }
}

extension Initializer {
  /// The function after a layer, as far as it changes the size of what passes through.
  public enum Nonlinearity: Sendable, Hashable {
    case linear, sigmoid, tanh, relu, selu
    case leakyReLU(slope: Double = 0.01)
  }
}

/// By what a layer's weights are scaled so that the function after it keeps the variance; PyTorch's `calculate_gain`.
public func calculateGain(_ nonlinearity: Initializer.Nonlinearity) -> Double {
  switch nonlinearity {
  case .linear, .sigmoid: 1
  case .tanh: 5.0 / 3
  case .relu: 2.0.squareRoot()
  case .leakyReLU(let slope): (2 / (1 + slope * slope)).squareRoot()
  case .selu: 0.75
  }
}

extension Initializer.FanMode {
  func fan(_ fans: (in: Int, out: Int)) -> Double {
    switch self {
    case .fanIn: Double(fans.in)
    case .fanOut: Double(fans.out)
    case .fanAvg: Double(fans.in + fans.out) / 2
    }
  }
}

extension Initializer {
  /// How many inputs an output sees, and how many outputs an input reaches: weights are [out, in, kernel…].
  ///
  /// Of one dimension, both are its size; of a scalar, 1.
  public static func fans(of shape: Shape) -> (in: Int, out: Int) {
    if shape.count < 2 { return (shape.elementCount, shape.elementCount) }
    let field = shape[2...].reduce(1, *)
    return (shape[1] * field, shape[0] * field)
  }
}

/// The fans of what must be a weight.
private func weightFans(of shape: Shape, _ name: String) -> (in: Int, out: Int) {
  guard shape.count >= 2 else { stop("\(name): needs a weight of at least two dimensions [out, in, …], got shape \(shape)") }
  return Initializer.fans(of: shape)
}

extension Variable {
  /// Fills the variable anew.
  public func initialize(_ initializer: Initializer, generator: Generator = .default) {
    value = initializer(shape, elementType, generator: generator)
  }
}
