extension UnaryKind {
  /// Steps and tests have the gradient zero everywhere, so they have no history.
  @usableFromInline var isDifferentiable: Bool {
    switch self {
    case .sign, .floor, .ceil, .round, .trunc, .not, .isNaN, .isInfinite, .isFinite: false
    case .neg, .abs, .sqrt, .rsqrt, .reciprocal, .square, .exp, .expm1, .exp2, .log, .log1p, .log2, .sin, .cos, .tan, .asin,
      .acos,
      .atan, .sinh, .cosh, .asinh, .acosh, .atanh, .tanh, .sigmoid, .erf, .erfc, .erfInv, .relu, .gelu, .geluTanh, .silu,
      .softplus:
      true
    }
  }

  var saved: (inputs: UInt32, results: Bool) {
    switch self {
    case .neg, .sign, .floor, .ceil, .round, .trunc, .not, .isNaN, .isInfinite, .isFinite: (0, false)
    case .sqrt, .rsqrt, .reciprocal, .exp, .expm1, .exp2, .tan, .tanh, .sigmoid, .relu, .erfInv: (0, true)
    case .abs, .square, .log, .log1p, .log2, .sin, .cos, .asin, .acos, .atan, .sinh, .cosh, .asinh, .acosh, .atanh, .erf, .erfc,
      .gelu,
      .geluTanh, .silu, .softplus:
      (1, false)
    }
  }
}

extension BinaryKind {
  var saved: (inputs: UInt32, results: Bool) {
    switch self {
    case .add, .sub: (0, false)
    case .mul: (0b011, false)
    // Bit 2: both operands are read, whichever is tracked.
    case .div, .pow, .max, .min, .atan2, .rem, .mod: (0b111, false)
    case .floorDiv, .and, .or, .xor, .shiftLeft, .shiftRight: (0, false)
    }
  }
}

extension Operation {
  /// dx for each function of one number; the derivative is written beside its name.
  func propagate(unary kind: UnaryKind, _ dy: Tensor, _ sink: GradientSink) {
    let dx: Tensor
    switch kind {
    case .neg: dx = -dy
    case .abs: dx = dy * sign(sink.input(0))
    case .square: dx = dy * sink.input(0) * 2
    case .sqrt: dx = dy / (sink.result() * 2)  // 1 / 2√x
    case .rsqrt:  // −y³ / 2
      let y = sink.result()
      dx = dy * (y * y * y) * -0.5
    case .reciprocal:  // −y²
      dx = -dy * square(sink.result())
    case .exp: dx = dy * sink.result()
    case .expm1: dx = dy * (sink.result() + 1)
    case .exp2: dx = dy * sink.result() * 0.693_147_180_559_945_3
    case .log: dx = dy / sink.input(0)
    case .log1p: dx = dy / (sink.input(0) + 1)
    case .log2: dx = dy / (sink.input(0) * 0.693_147_180_559_945_3)
    case .sin: dx = dy * cos(sink.input(0))
    case .cos: dx = -dy * sin(sink.input(0))
    case .tan: dx = dy * (square(sink.result()) + 1)
    case .asin: dx = dy * rsqrt(1 - square(sink.input(0)))
    case .acos: dx = -dy * rsqrt(1 - square(sink.input(0)))
    case .atan: dx = dy / (square(sink.input(0)) + 1)
    case .sinh: dx = dy * cosh(sink.input(0))
    case .cosh: dx = dy * sinh(sink.input(0))
    case .asinh: dx = dy * rsqrt(square(sink.input(0)) + 1)
    case .acosh: dx = dy * rsqrt(square(sink.input(0)) - 1)
    case .atanh: dx = dy / (1 - square(sink.input(0)))
    case .tanh: dx = apply(.activationGradient(.tanh), dy, sink.result())
    case .sigmoid: dx = apply(.activationGradient(.sigmoid), dy, sink.result())
    case .erf: dx = dy * exp(-square(sink.input(0))) * 1.128_379_167_095_512_6  // 2/√π e^(−x²)
    case .erfc: dx = dy * exp(-square(sink.input(0))) * -1.128_379_167_095_512_6
    case .erfInv: dx = dy * exp(square(sink.result())) * 0.886_226_925_452_758  // √π/2 e^(y²)
    case .relu: dx = apply(.activationGradient(.relu), dy, sink.result())
    case .gelu: dx = apply(.activationGradient(.gelu), dy, sink.input(0))
    case .geluTanh: dx = apply(.activationGradient(.geluTanh), dy, sink.input(0))
    case .silu: dx = apply(.activationGradient(.silu), dy, sink.input(0))
    case .softplus: dx = apply(.activationGradient(.softplus), dy, sink.input(0))
    case .sign, .floor, .ceil, .round, .trunc, .not, .isNaN, .isInfinite, .isFinite: missingGradient()
    }
    sink.add(0, dx)
  }

  func propagate(binary kind: BinaryKind, _ dy: Tensor, _ sink: GradientSink) {
    let (forA, forB) = (sink.needs(0), sink.needs(1))
    switch kind {
    case .add:
      if forA { sink.add(0, dy) }
      if forB { sink.add(1, dy) }
    case .sub:
      if forA { sink.add(0, dy) }
      if forB { sink.add(1, -dy) }
    case .mul:
      if forA { sink.add(0, dy * sink.input(1)) }
      if forB { sink.add(1, dy * sink.input(0)) }
    case .div:  // da = dy / b, db = −dy a / b²
      let (a, b) = (sink.input(0), sink.input(1))
      if forA { sink.add(0, dy / b) }
      if forB { sink.add(1, -dy * a / square(b)) }
    case .pow:  // da = dy b a^(b−1), db = dy aᵇ ln a; both 0 where their factor b or aᵇ is 0
      let (a, b) = (sink.input(0), sink.input(1))
      if forA {
        // 0 · ∞ is 0 here; other zeros of b keep their slope by b, for second derivatives.
        let power = pow(a, b - 1)
        let zero = (b.detached() .== 0) .& .!isFinite(power)
        sink.add(0, `where`(zero, 0, dy * b * `where`(zero, 0, power)))
      }
      if forB {
        let safe = `where`(a .> 0, a, 1)
        let atZero = (a .== 0) .& (b .>= 0)
        let slope = `where`(a .> 0, pow(a, b) * log(safe), `where`(atZero, 0, Tensor(Double.nan).converted(to: a.elementType)))
        sink.add(1, dy * slope)
      }
    case .max, .min:  // ties share the gradient, as in PyTorch
      let (a, b) = (sink.input(0), sink.input(1))
      let first = (kind == .max ? a .> b : a .< b).converted(to: dy.elementType)
      let share = first + (a .== b).converted(to: dy.elementType) * 0.5
      if forA { sink.add(0, dy * share) }
      if forB { sink.add(1, dy * (1 - share)) }
    case .atan2:  // atan2(a, b): da = dy b / (a² + b²), db = −dy a / (a² + b²)
      let (a, b) = (sink.input(0), sink.input(1))
      let r = dy / (square(a) + square(b))
      if forA { sink.add(0, r * b) }
      if forB { sink.add(1, -r * a) }
    case .rem, .mod:  // a − b ⌊a / b⌋ (or truncated): the quotient is piecewise constant
      if forA { sink.add(0, dy) }
      if forB {
        let (a, b) = (sink.input(0), sink.input(1))
        sink.add(1, -dy * (kind == .rem ? trunc(a / b) : floor(a / b)))
      }
    case .floorDiv:  // piecewise constant
      if forA { sink.add(0, zerosLike(dy)) }
      if forB { sink.add(1, zerosLike(dy)) }
    case .and, .or, .xor, .shiftLeft, .shiftRight: missingGradient()
    }
  }

  func propagateElementwise(_ dy: Tensor, _ sink: GradientSink) {
    switch self {
    case .select:
      let condition = sink.input(0)
      if sink.needs(1) { sink.add(1, `where`(condition, dy, 0)) }
      if sink.needs(2) { sink.add(2, `where`(condition, 0, dy)) }
    case .convert:
      let type = sink.type(0).elementType
      sink.add(0, dy.converted(to: type))
    case .activationGradient(let kind):
      // Linear in the gradient; by the saved value through the definition.
      let (g, s) = (sink.input(0), sink.input(1))
      if sink.needs(0) { sink.add(0, apply(self, dy, s)) }
      if sink.needs(1) { sink.add(1, dy * g * kind.secondDerivative(s)) }
    case .bitcast: missingGradient()
    default: preconditionFailure("not an elementwise operation: \(name)")
    }
  }
}

extension ActivationKind {
  /// The derivative, by the saved value, of the factor that dy is multiplied with.
  func secondDerivative(_ s: Tensor) -> Tensor {
    switch self {
    case .relu: return zerosLike(s)
    case .sigmoid: return 1 - s * 2  // (y − y²)′
    case .tanh: return s * -2  // (1 − y²)′
    case .softplus:  // σ′
      let y = apply(unary: .sigmoid, s)
      return y * (1 - y)
    case .silu:  // (σ + x σ (1 − σ))′ = σ(1 − σ)(2 + x(1 − 2σ))
      let y = apply(unary: .sigmoid, s)
      return y * (1 - y) * (s * (1 - y * 2) + 2)
    case .gelu:  // (Φ + x φ)′ = φ (2 − x²)
      let density = exp(square(s) * -0.5) * 0.398_942_280_401_432_7
      return density * (2 - square(s))
    case .geluTanh:
      // f = x/2 (1 + tanh u), u = k (x + c x³): f″ = (1 − t²)(u′ + x u″ / 2 − x t u′²)
      let (k, c) = (0.797_884_560_802_865_4, 0.044_715)
      let t = apply(unary: .tanh, (s + s * square(s) * c) * k)
      let du = (square(s) * (3 * c) + 1) * k
      let ddu = s * (6 * c * k)
      return (1 - square(t)) * (du + s * ddu * 0.5 - s * t * square(du))
    }
  }
}
