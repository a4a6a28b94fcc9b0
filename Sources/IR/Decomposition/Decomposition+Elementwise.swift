extension UnaryKind {
  /// nil where StableHLO has the operation for this type.
  func decomposed(_ x: Term) -> Term? {
    let b = x.builder
    let isReal = x.elementType.isFloatingPoint
    switch self {
    case .sqrt, .rsqrt, .exp, .expm1, .log, .log1p, .sin, .cos, .tan, .tanh, .sigmoid, .not: return nil
    case .neg: return nil
    case .abs: return x.elementType == .uint8 ? x : nil
    case .sign:
      if x.elementType != .uint8 { return nil }
      return b.select(x.compare(.greater, x.like(0)), x.like(1), x.like(0))
    case .floor, .ceil, .round: return isReal ? nil : x
    case .trunc:
      if !isReal { return x }
      return b.select(x.compare(.less, x.like(0.0)), x.unary(.ceil), x.unary(.floor))
    case .isFinite: return isReal ? nil : b.fill(.bool(true), x.shape, .bool)
    case .isNaN: return isReal ? x.compare(.notEqual, x) : b.fill(.bool(false), x.shape, .bool)
    case .isInfinite:
      if !isReal { return b.fill(.bool(false), x.shape, .bool) }
      return x.unary(.abs).compare(.equal, x.like(.infinity))
    case .reciprocal: return 1 / x
    case .square: return x * x
    case .relu: return x.binary(.max, x.like(0.0))
    case .exp2: return wide(x) { $0.like(2.0).binary(.pow, $0) }
    case .log2: return wide(x) { $0.unary(.log) * 1.442_695_040_888_963_4 }
    case .asin:
      return wide(x) { x in
        let cosine = ((1 - x) * (x + 1.0)).unary(.sqrt)
        return x.binary(.atan2, cosine)
      }
    case .acos: return wide(x) { x in ((1 - x) * (x + 1.0)).unary(.sqrt).binary(.atan2, x) }
    case .atan: return wide(x) { $0.binary(.atan2, $0.like(1.0)) }
    case .sinh:
      return wide(x) { x in
        // (e + e / (1 + e)) / 2 with e = expm1(x) is exact near 0; e^x overflows before its half does.
        let e = x.unary(.expm1)
        let small = (e + e / (e + 1.0)) * 0.5
        let half = (x.unary(.abs) + -0.693_147_180_559_945_3).unary(.exp)
        return b.select(x.unary(.abs).compare(.less, x.like(1.0)), small, x.unary(.sign) * (half - 0.25 / half))
      }
    case .cosh:
      return wide(x) { x in
        let half = (x.unary(.abs) + -0.693_147_180_559_945_3).unary(.exp)
        return half + 0.25 / half
      }
    case .asinh:
      return wide(x) { x in
        let a = x.unary(.abs)
        // log(1 + a + a² / (1 + √(a² + 1))); beyond 2^28 the square adds nothing to log(2 a).
        let near = (a + a * a / ((a * a + 1.0).unary(.sqrt) + 1.0)).unary(.log1p)
        let far = a.unary(.log) + 0.693_147_180_559_945_3
        let y = b.select(a.compare(.greater, a.like(0x1p28)), far, near)
        return b.select(x.compare(.equal, x.like(0.0)), x, x.unary(.sign) * y)
      }
    case .acosh:
      return wide(x) { x in
        let t = x - 1.0
        let near = (t + (t * t + t * 2.0).unary(.sqrt)).unary(.log1p)
        let far = x.unary(.log) + 0.693_147_180_559_945_3
        return b.select(x.compare(.greater, x.like(0x1p28)), far, near)
      }
    case .atanh: return wide(x) { x in (x.unary(.log1p) - (-x).unary(.log1p)) * 0.5 }
    case .erf: return wide(x) { errorFunction($0).erf }
    case .erfc: return wide(x) { errorFunction($0).erfc }
    case .erfInv: return wide(x, inverseErrorFunction)
    case .gelu:
      return wide(x) { x in
        b.select(x.compare(.equal, x.like(-.infinity)), x.like(-0.0), x * normalDistribution(x))
      }
    case .geluTanh:
      return wide(x) { x in
        let inner = (x + x * x * x * 0.044715) * 0.797_884_560_802_865_4
        return x * (inner.unary(.tanh) + 1.0) * 0.5
      }
    case .silu: return wide(x) { x in x * x.unary(.sigmoid) }
    case .softplus:
      return wide(x) { x in x.binary(.max, x.like(0.0)) + (-x.unary(.abs)).unary(.exp).unary(.log1p) }
    }
  }
}

/// In float64, rounded once: the formulas below lose a few bits.
func wide(_ x: Term, _ body: (Term) -> Term) -> Term { body(x.convert(.float64)).convert(x.elementType) }

private func wide(_ x: Term, _ y: Term, _ body: (Term, Term) -> Term) -> Term {
  body(x.convert(.float64), y.convert(.float64)).convert(x.elementType)
}

/// Python's `//`: the quotient that belongs to the remainder with the divisor's sign.
private func floorQuotient(_ x: Term, _ y: Term) -> Term {
  let b = x.builder
  let zero = x.like(0.0)
  let rest = x.binary(.rem, y)
  let isOff = rest.compare(.notEqual, zero).binary(.and, rest.compare(.less, zero).binary(.xor, y.compare(.less, zero)))
  let cut = (x - rest) / y
  let q = b.select(isOff, cut - 1.0, cut)
  let floor = q.unary(.floor)
  let rounded = b.select((q - floor).compare(.greater, x.like(0.5)), floor + 1.0, floor)
  let signedZero = b.select((x / y).compare(.less, zero), x.like(-0.0), zero)
  return b.select(y.compare(.equal, zero), x / y, b.select(q.compare(.equal, zero), signedZero, rounded))
}

private func polynomial(_ x: Term, _ coefficients: [Double]) -> Term {
  var y = x.like(coefficients[0])
  for c in coefficients.dropFirst() { y = y * x + c }
  return y
}

/// erf and erfc of float64 (Moshier, Cephes: ndtr.c).
private func errorFunction(_ x: Term) -> (erf: Term, erfc: Term) {
  let b = x.builder
  let a = x.unary(.abs)
  let square = x * x
  let t = [
    9.604_973_739_870_516_387_49, 9.002_601_972_038_426_892_17e1, 2.232_005_345_946_843_192_26e3, 7.003_325_141_128_050_754_73e3,
    5.559_230_130_103_949_627_68e4,
  ]
  let u = [
    1, 3.356_171_416_475_030_996_47e1, 5.213_579_497_801_526_797_95e2, 4.594_323_829_709_801_279_87e3,
    2.262_900_006_138_909_342_46e4, 4.926_739_426_086_359_210_86e4,
  ]
  let p = [
    2.461_969_814_735_305_125_24e-10, 5.641_895_648_310_688_219_77e-1, 7.463_210_564_422_699_126_87,
    4.863_719_709_856_813_666_14e1,
    1.965_208_329_560_770_982_42e2, 5.264_451_949_954_773_586_31e2, 9.345_285_271_719_576_075_4e2, 1.027_551_886_895_157_102_72e3,
    5.575_353_353_693_993_275_26e2,
  ]
  let q = [
    1, 1.322_819_511_547_449_925_08e1, 8.670_721_408_859_897_423_29e1, 3.549_377_788_878_198_910_62e2,
    9.757_085_017_432_054_897_53e2, 1.823_909_166_879_097_362_89e3, 2.246_337_608_187_109_817_92e3,
    1.656_663_091_941_613_501_82e3,
    5.575_353_408_177_276_755_46e2,
  ]
  let r = [
    5.641_895_835_477_550_739_84e-1, 1.275_366_707_599_781_044_16, 5.019_050_422_511_804_774_14, 6.160_210_979_930_535_851_95,
    7.409_742_699_504_489_391_6, 2.978_866_653_721_002_406_7,
  ]
  let s = [
    1, 2.260_528_632_201_172_765_9, 9.396_035_249_380_014_346_73, 1.204_895_398_080_966_566_05e1, 1.708_144_507_475_658_972_22e1,
    9.608_968_090_632_858_781_98, 3.369_076_451_000_815_160_5,
  ]
  let near = x * polynomial(square, t) / polynomial(square, u)
  // Beyond 27 nothing is left; the quotient of infinities would be NaN.
  let far = a.binary(.min, a.like(28.0))
  let fraction = b.select(
    far.compare(.less, far.like(8.0)), polynomial(far, p) / polynomial(far, q), polynomial(far, r) / polynomial(far, s))
  let tail = (-(far * far)).unary(.exp) * fraction
  let isNear = a.compare(.lessEqual, a.like(1.0))
  let isNegative = x.compare(.less, x.like(0.0))
  let erf = b.select(isNear, near, b.select(isNegative, tail - 1.0, 1 - tail))
  let erfc = b.select(isNear, 1 - near, b.select(isNegative, 2 - tail, tail))
  return (erf, erfc)
}

/// The standard normal distribution function.
private func normalDistribution(_ x: Term) -> Term { errorFunction(x * -0.707_106_781_186_547_6).erfc * 0.5 }

/// erf⁻¹(x) = Φ⁻¹((1 + x) / 2) / √2.
private func inverseErrorFunction(_ x: Term) -> Term {
  let tail = (1 - x.unary(.abs)) * 0.5
  let y = normalQuantile(x * 0.5, tail: tail, isBelow: x.compare(.less, x.like(0.0))) * 0.707_106_781_186_547_6
  let b = x.builder
  return b.select(x.unary(.abs).compare(.equal, x.like(1.0)), x * x.like(.infinity), y)
}

/// Φ⁻¹(q + 1/2), given the smaller tail's probability (Wichura 1988, algorithm AS 241, PPND16).
func normalQuantile(_ q: Term, tail: Term, isBelow: Term) -> Term {
  let b = q.builder
  let near = [
    2.509_080_928_730_122_672_7e3, 3.343_057_558_358_812_810_5e4, 6.726_577_092_700_870_085_3e4, 4.592_195_393_154_987_145_7e4,
    1.373_169_376_550_946_112_5e4, 1.971_590_950_306_551_442_7e3, 1.331_416_678_917_843_774_5e2, 3.387_132_872_796_366_608,
  ]
  let nearDivisor = [
    5.226_495_278_852_854_561e3, 2.872_908_573_572_194_267_4e4, 3.930_789_580_009_271_061e4, 2.121_379_430_158_659_586_7e4,
    5.394_196_021_424_751_107_7e3, 6.871_870_074_920_579_083e2, 4.231_333_070_160_091_125_2e1, 1,
  ]
  let middle = [
    7.745_450_142_783_414_076_4e-4, 2.272_384_498_926_918_458_33e-2, 2.417_807_251_774_506_117_7e-1,
    1.270_458_252_452_368_382_58, 3.647_848_324_763_204_605_04, 5.769_497_221_460_691_405_5, 4.630_337_846_156_545_295_9,
    1.423_437_110_749_683_577_34,
  ]
  let middleDivisor = [
    1.050_750_071_644_416_843_24e-9, 5.475_938_084_995_344_946e-4, 1.519_866_656_361_645_719_66e-2,
    1.481_039_764_274_800_745_9e-1,
    6.897_673_349_851_000_045_5e-1, 1.676_384_830_183_803_849_4, 2.053_191_626_637_758_821_87, 1,
  ]
  let far = [
    2.010_334_399_292_288_132_65e-7, 2.711_555_568_743_487_578_15e-5, 1.242_660_947_388_078_438_6e-3,
    2.653_218_952_657_612_309_3e-2, 2.965_605_718_285_048_912_3e-1, 1.784_826_539_917_291_335_8, 5.463_784_911_164_114_369_9,
    6.657_904_643_501_103_777_2,
  ]
  let farDivisor = [
    2.044_263_103_389_939_785_64e-15, 1.421_511_758_316_445_888_7e-7, 1.846_318_317_510_054_681_8e-5,
    7.868_691_311_456_132_591e-4, 1.487_536_129_085_061_485_25e-2, 1.369_298_809_227_358_053_1e-1,
    5.998_322_065_558_879_376_9e-1, 1,
  ]
  let r = 0.180625 - q * q
  let centre = q * polynomial(r, near) / polynomial(r, nearDivisor)
  let root = (-tail.unary(.log)).unary(.sqrt)
  let (m, f) = (root - 1.6, root - 5.0)
  let outer = b.select(
    root.compare(.lessEqual, root.like(5.0)), polynomial(m, middle) / polynomial(m, middleDivisor),
    polynomial(f, far) / polynomial(f, farDivisor))
  return b.select(r.compare(.greaterEqual, r.like(0.0)), centre, b.select(isBelow, -outer, outer))
}

extension BinaryKind {
  func decomposed(_ x: Term, _ y: Term) -> Term? {
    let b = x.builder
    switch self {
    case .add, .sub, .mul, .div, .rem, .pow, .max, .min, .atan2, .and, .or, .xor, .shiftLeft, .shiftRight:
      return nil
    case .floorDiv:
      if x.elementType.isFloatingPoint { return wide(x, y, floorQuotient) }
      let quotient = x / y
      if !x.elementType.isSigned { return quotient }
      let rest = x.binary(.rem, y)
      let isOff = rest.compare(.notEqual, rest.like(0)).binary(
        .and, rest.compare(.less, rest.like(0)).binary(.xor, y.compare(.less, y.like(0))))
      return b.select(isOff, quotient - quotient.like(1), quotient)
    case .mod:
      let rest = x.binary(.rem, y)
      if x.elementType == .uint8 { return rest }
      let isOff = rest.compare(.notEqual, rest.like(0)).binary(
        .and, rest.compare(.less, rest.like(0)).binary(.xor, y.compare(.less, y.like(0))))
      return b.select(isOff, rest + y, rest)
    }
  }
}

extension ActivationKind {
  func decomposed(_ dy: Term, _ saved: Term) -> Term {
    let b = dy.builder
    let type = dy.elementType
    let (g, s) = (dy.convert(.float64), saved.convert(.float64))
    let result: Term
    switch self {
    case .relu: return b.select(saved.compare(.greater, saved.like(0.0)), dy, dy.like(0.0))
    case .sigmoid: result = g * s * (1 - s)
    case .tanh: result = g * (1 - s * s)
    case .gelu:
      let density = (s * s * -0.5).unary(.exp) * 0.398_942_280_401_432_7
      result = g * (normalDistribution(s) + s * density)
    case .geluTanh:
      let t = ((s + s * s * s * 0.044715) * 0.797_884_560_802_865_4).unary(.tanh)
      let slope = (s * s * (3 * 0.044715) + 1.0) * 0.797_884_560_802_865_4
      result = g * ((t + 1.0) * 0.5 + s * 0.5 * (1 - t * t) * slope)
    case .silu:
      let sigmoid = s.unary(.sigmoid)
      result = g * sigmoid * (s * (1 - sigmoid) + 1.0)
    case .softplus: result = g * s.unary(.sigmoid)
    }
    return result.convert(type)
  }
}
