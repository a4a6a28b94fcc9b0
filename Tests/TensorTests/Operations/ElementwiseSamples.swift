import ApusCPU

@testable import ApusTensor

private let shapes: [Shape] = [[3, 7], [], [0, 4], [1], [2, 1, 3, 1, 2]]

extension OperationSamples {
  /// Where a function is smooth and defined, whether it has jumps, and what types it takes.
  private static func domain(_ kind: UnaryKind) -> (pattern: Pattern, types: [ElementType], differentiable: Bool) {
    switch kind {
    case .neg, .square: (.signed, numbers, true)
    case .abs, .relu: (.nonzero, numbers, true)
    case .sign, .floor, .ceil, .round, .trunc: (.signed, numbers, false)
    case .sqrt, .rsqrt, .log, .log2: (.positive, real, true)
    case .reciprocal: (.nonzero, real, true)
    case .log1p, .asin, .acos, .atanh, .erfInv: (.unit, real, true)
    case .acosh: (.aboveOne, real, true)
    case .exp, .expm1, .exp2, .sin, .cos, .atan, .sinh, .cosh, .asinh, .tanh, .sigmoid, .erf, .erfc, .gelu, .geluTanh, .silu,
      .softplus:
      (.signed, real, true)
    case .tan: (.unit, real, true)
    case .not: (.signed, integers + [.bool], false)
    case .isNaN, .isInfinite, .isFinite: (.signed, all, false)
    }
  }

  static func unary(_ kind: UnaryKind) -> [Sample] {
    let (pattern, types, differentiable) = domain(kind)
    let ulps: Double = [.tan, .erfInv, .atanh, .asinh, .acosh].contains(kind) ? 4 : 2
    // x Φ(x) with Φ = (1 + erf) / 2 cancels in the left tail, here and in PyTorch: exact beside x, up to 4.
    let magnitude: Double = kind == .gelu || kind == .geluTanh ? 4 : 0
    var samples = shapes.map {
      Sample(.unary(kind), [Input($0, pattern)], types, gradients: differentiable ? [0] : [], ulps: ulps, magnitude: magnitude)
    }
    if types.contains(.float32) {
      samples.append(Sample(.unary(kind), [Input([11], .special(period: 1))], types, ulps: ulps, magnitude: magnitude).only(real))
    }
    return samples
  }

  private static func domain(_ kind: BinaryKind) -> (a: Pattern, b: Pattern, types: [ElementType], gradients: [Int]) {
    switch kind {
    case .add, .mul, .max, .min: (.signed, .signed, all, [0, 1])
    case .sub: (.signed, .signed, numbers, [0, 1])
    case .div: (.signed, .nonzero, numbers, [0, 1])
    // Jumps where a / b is an integer: `offset` is never a multiple of `nonzero`.
    case .floorDiv, .rem, .mod: (.offset, .nonzero, numbers, [0, 1])
    case .pow: (.positive, .count, numbers, [0, 1])
    case .atan2: (.nonzero, .signed, real, [0, 1])
    case .and, .or, .xor: (.signed, .signed, integers + [.bool], [])
    case .shiftLeft, .shiftRight: (.signed, .count, integers, [])
    }
  }

  static func binary(_ kind: BinaryKind) -> [Sample] {
    let (a, b, types, gradients) = domain(kind)
    var samples = shapes.map {
      Sample(.binary(kind), [Input($0, a, seed: 1), Input($0, b, seed: 4)], types, gradients: gradients)
    }
    if types.contains(.float32) {
      samples.append(
        Sample(.binary(kind), [Input([11, 11], .special(period: 11)), Input([11, 11], .special(period: 1))], types).only(real))
    }
    switch kind {
    case .pow:
      samples.append(
        Sample(.binary(kind), [Input([4, 5], .positive, seed: 1), Input([4, 5], .signed, seed: 4)], real, gradients: [0, 1]).only(
          real))
    case .div, .floorDiv, .rem, .mod:
      // Signs of both sides, and zero as an integer divisor.
      samples.append(
        Sample(.binary(kind), [Input([6, 20], .signed, seed: 1), Input([6, 20], .small, seed: 4)], integers).only(integers))
    case .add, .sub, .mul, .max, .min, .atan2, .and, .or, .xor, .shiftLeft, .shiftRight: break
    }
    return samples
  }

  static func compare(_ kind: ComparisonKind) -> [Sample] {
    shapes.map { Sample(.compare(kind), [Input($0, .small), Input($0, .small, seed: 3)], all) }
      + [Sample(.compare(kind), [Input([11, 11], .special(period: 11)), Input([11, 11], .special(period: 1))], all).only(real)]
  }

  static let select = shapes.map { shape in
    Sample(
      .select, [Input(shape, role: .fixed(.bool)), Input(shape, seed: 1), Input(shape, seed: 2)], all, gradients: [1, 2])
  }

  static func convert(_ type: ElementType) -> [Sample] {
    let gradients = type == .float64 || type == .float32 ? [0] : []
    return [
      Sample(.convert(type), [Input([3, 7], .offset)], all, gradients: type == .float64 ? gradients : []),
      Sample(.convert(type), [Input([], .nonzero)], all),
      Sample(.convert(type), [Input([0, 2])], all),
      Sample(.convert(type), [Input([11], .special(period: 1))], all).only(real),
    ]
  }

  static let bitcast: [Sample] = [
    Sample(.bitcast(.int64), [Input([2, 3])], [.float64, .int64]),
    Sample(.bitcast(.float64), [Input([2, 3])], [.float64, .int64]),
    Sample(.bitcast(.int32), [Input([2, 3])], [.float32, .int32]),
    Sample(.bitcast(.int16), [Input([2, 3])], [.float16, .bfloat16, .int16]),
    Sample(.bitcast(.uint8), [Input([2, 3])], [.int8, .uint8, .bool]),
    Sample(.bitcast(.bool), [Input([2, 3])], [.bool]),
  ]

  static func activationGradient(_ kind: ActivationKind) -> [Sample] {
    // relu's derivative jumps at zero; sigmoid and tanh are given values of their own range.
    let saved: Pattern =
      switch kind {
      case .relu: .nonzero
      case .sigmoid, .tanh: .unit
      case .gelu, .geluTanh, .silu, .softplus: .signed
      }
    return shapes.map {
      Sample(
        .activationGradient(kind), [Input($0, seed: 1), Input($0, saved, seed: 2)], real, gradients: [0, 1], ulps: 4, magnitude: 4
      )
    }
  }

  // MARK: Creation: the element type is part of the operation

  static let fill: [Sample] = all.flatMap { type in
    [
      Sample(.fill([2, 3], type, .double(2.5)), [], [type]), Sample(.fill([], type, .int(1)), [], [type]),
      Sample(.fill([0, 3], type, .int(7)), [], [type]),
    ]
  }

  static let iota: [Sample] = numbers.flatMap { type in
    [
      Sample(.iota([5], type, axis: 0), [], [type]), Sample(.iota([2, 3, 2], type, axis: 1), [], [type]),
      Sample(.iota([4, 0], type, axis: 0), [], [type]),
    ]
  }

  static let random: [Sample] = {
    func sample(_ kind: RandomParameters.Kind, _ shape: Shape, _ type: ElementType) -> Sample {
      let state = Input([2], .list([81_985_529_216_486_895, 8]), role: .fixed(.int64))
      return Sample(.random(RandomParameters(kind, shape, type)), [state], [type])
    }
    var samples: [Sample] = []
    for type in real {
      samples.append(sample(.uniform(low: -1, high: 3), [3, 5], type))
      samples.append(sample(.normal(mean: 0.5, standardDeviation: 2), [3, 5], type))
      samples.append(sample(.truncatedNormal(mean: 0, standardDeviation: 1, low: -1, high: 1), [3, 5], type))
    }
    for type in integers { samples.append(sample(.integers(low: 3, high: 17), [3, 5], type)) }
    samples.append(sample(.bernoulli(probability: 0.25), [3, 5], .bool))
    samples.append(sample(.permutation, [9], .int64))
    samples.append(sample(.bits, [2, 5], .int32))
    samples.append(sample(.uniform(low: 0, high: 1), [0], .float32))
    samples.append(sample(.uniform(low: 0, high: 1), [], .float32))
    return samples
  }()
}
