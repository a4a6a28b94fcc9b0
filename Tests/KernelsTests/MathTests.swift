import CApusKernels
import Foundation
import Testing

extension KernelStateTests {
  /// Accuracy of the vector functions in float32, against float64 from the C library.
  @Suite("Vector math")
  struct MathTests {
    struct Case: Sendable, CustomTestStringConvertible {
      let operation: apus_op
      let reference: @Sendable (Double) -> Double
      /// Most units in the last place from the exact value. 2 is what the project promises.
      var limit = 2.0
      /// The same for instructions without fused multiply-add, where that is more.
      var limitOfBaseline: Double?
      var testDescription: String { String(cString: apus_op_name(Int32(operation.rawValue))) }
    }

    static let cases: [Case] = [
      Case(operation: APUS_OP_EXP, reference: { exp($0) }), Case(operation: APUS_OP_EXPM1, reference: { expm1($0) }),
      Case(operation: APUS_OP_EXP2, reference: { exp2($0) }), Case(operation: APUS_OP_LOG, reference: { log($0) }),
      Case(operation: APUS_OP_LOG1P, reference: { log1p($0) }), Case(operation: APUS_OP_LOG2, reference: { log2($0) }),
      Case(operation: APUS_OP_SIN, reference: { sin($0) }), Case(operation: APUS_OP_COS, reference: { cos($0) }),
      Case(operation: APUS_OP_TAN, reference: { tan($0) }), Case(operation: APUS_OP_TANH, reference: { tanh($0) }),
      Case(operation: APUS_OP_ERF, reference: { erf($0) }), Case(operation: APUS_OP_ERFC, reference: { erfc($0) }),
      Case(operation: APUS_OP_SIGMOID, reference: { $0 < 0 ? exp($0) / (1 + exp($0)) : 1 / (1 + exp(-$0)) }),
      Case(operation: APUS_OP_RSQRT, reference: { 1 / $0.squareRoot() }), Case(operation: APUS_OP_SINH, reference: { sinh($0) }),
      Case(operation: APUS_OP_COSH, reference: { cosh($0) }), Case(operation: APUS_OP_ASINH, reference: { asinh($0) }),
      Case(operation: APUS_OP_ACOSH, reference: { acosh($0) }), Case(operation: APUS_OP_ATANH, reference: { atanh($0) }),
      Case(operation: APUS_OP_ASIN, reference: { asin($0) }), Case(operation: APUS_OP_ACOS, reference: { acos($0) }),
      Case(operation: APUS_OP_ATAN, reference: { atan($0) }),
      Case(operation: APUS_OP_SOFTPLUS, reference: { $0 > 0 ? $0 + log1p(exp(-$0)) : log1p(exp($0)) }),
      // Products of several rounded factors; most units seen: 1.8, 3.7 and 1.9, and 5.2 for gelu where products and sums round apart.
      Case(operation: APUS_OP_SILU, reference: { $0 / (1 + exp(-$0)) }, limit: 2.5),
      Case(
        operation: APUS_OP_GELU_ERF, reference: { $0 == -.infinity ? -0.0 : 0.5 * $0 * erfc(-$0 * 0.5.squareRoot()) }, limit: 4.5,
        limitOfBaseline: 5.5),
      Case(
        operation: APUS_OP_GELU_TANH,
        reference: { $0 / (1 + exp(-2 * (2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }, limit: 3),
    ]

    /// Distance of `got` from `want` in units of float32's last place at `want`; infinite if they differ in kind.
    static func distance(_ got: Float, _ want: Double) -> Double {
      let rounded = Float(want)
      if want.isNaN || got.isNaN { return want.isNaN && got.isNaN ? 0 : .infinity }
      if rounded.isInfinite || got.isInfinite || want == 0 { return got == rounded ? 0 : .infinity }
      let place = max(Double(sign: .plus, exponent: want.exponent - 23, significand: 1), 0x1p-149)
      return abs(Double(got) - want) / place
    }

    static let specials: [Float] = [
      0, -0.0, 1, -1, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .leastNormalMagnitude,
      .greatestFiniteMagnitude, -.greatestFiniteMagnitude, 88.7, 88.8, -87.3, -103.9, -104.1, 0.5, 2, 0x1p16, 0x1p-25, 1e10, 3e38,
    ]

    @Test("Within its bound, 2 ulp for most, over the whole range of float32", arguments: cases)
    func accuracy(_ sample: Case) {
      // Every 16,411th bit pattern, a quarter of a million values, the specials first.
      var inputs = Self.specials
      var bits: UInt64 = 0
      while bits <= UInt64(UInt32.max) {
        inputs.append(Float(bitPattern: UInt32(bits)))
        bits += 16_411
      }
      // Where functions bend and where they fade away.
      for i in 0..<20_000 { inputs.append(Float(i) * 0.0065 - 115) }
      let best = apus_best_isa()
      defer { _ = apus_set_isa(best) }
      for isa in [APUS_ISA_BASELINE, APUS_ISA_AVX2, APUS_ISA_AVX512, APUS_ISA_NEON] where apus_set_isa(isa) {
        var results = [Float](repeating: 0, count: inputs.count)
        apus_flat(Int32(sample.operation.rawValue), Int32(APUS_F32.rawValue), Int64(inputs.count), &results, inputs, nil, nil, 0)
        var worst = 0.0
        var at: Float = 0
        for (x, y) in zip(inputs, results) {
          let d = Self.distance(y, sample.reference(Double(x)))
          if d > worst { (worst, at) = (d, x) }
        }
        let limit = isa == APUS_ISA_BASELINE ? sample.limitOfBaseline ?? sample.limit : sample.limit
        #expect(worst <= limit, "\(String(cString: apus_isa_name(isa))): \(worst) ulp at \(at)")
      }
    }

    @Test("erfInv: its argument is between erf 2 ulp below and 2 ulp above it")
    func inverseError() {
      var inputs: [Float] = (0...20_000).map { Float($0) / 10_000 - 1 }
      var x: Float = 1
      for _ in 0..<3000 {
        inputs += [x, -x, 1 - x, x - 1]
        x *= 0.97
      }
      inputs += [Float(1).nextDown, -Float(1).nextDown, .leastNonzeroMagnitude, 0, -0.0]
      let best = apus_best_isa()
      defer { _ = apus_set_isa(best) }
      // Above 1/2 by the complement: 1 − x is exact, and erfc keeps its digits.
      func exceeds(_ y: Double, _ x: Double) -> Bool { x > 0.5 ? erfc(y) < 1 - x : erf(y) > x }
      for isa in [APUS_ISA_BASELINE, APUS_ISA_AVX2, APUS_ISA_AVX512, APUS_ISA_NEON] where apus_set_isa(isa) {
        var results = [Float](repeating: 0, count: inputs.count)
        apus_flat(Int32(APUS_OP_ERF_INV.rawValue), Int32(APUS_F32.rawValue), Int64(inputs.count), &results, inputs, nil, nil, 0)
        for (x, y) in zip(inputs, results) {
          if x.magnitude == 1 || x == 0 {
            #expect(y == (x == 0 ? 0 : x == 1 ? .infinity : -.infinity) && y.sign == x.sign)
            continue
          }
          let (size, value) = (Double(x.magnitude), Double(y.magnitude))
          let slack = 2 * Double(y.ulp)
          #expect(y.sign == x.sign)
          #expect(!exceeds(value - slack, size) && exceeds(value + slack, size), "erfInv(\(x)) = \(y)")
        }
        let beyond: [Float] = [1.5, -.infinity, .nan]
        var outside: [Float] = [0, 0, 0]
        apus_flat(Int32(APUS_OP_ERF_INV.rawValue), Int32(APUS_F32.rawValue), 3, &outside, beyond, nil, nil, 0)
        #expect(outside.allSatisfy { $0.isNaN })
      }
    }

    @Test("pow: dense samples and C99's special values")
    func power() {
      var bases: [Float] = []
      var exponents: [Float] = []
      let corner: [Float] = [
        0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, .infinity, -.infinity, .nan, 0x1p24, 1e30, -1e30, 0x1p-130,
      ]
      for x in corner { for y in corner { bases.append(x); exponents.append(y) } }
      var state: UInt64 = 1
      for _ in 0..<200_000 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        bases.append(Float(bitPattern: UInt32(state >> 33)))
        exponents.append(Float(Int32(truncatingIfNeeded: state >> 11)) * 0x1p-26)
      }
      let best = apus_best_isa()
      defer { _ = apus_set_isa(best) }
      for isa in [APUS_ISA_BASELINE, APUS_ISA_AVX2, APUS_ISA_AVX512, APUS_ISA_NEON] where apus_set_isa(isa) {
        var results = [Float](repeating: 0, count: bases.count)
        apus_flat(Int32(APUS_OP_POW.rawValue), Int32(APUS_F32.rawValue), Int64(bases.count), &results, bases, exponents, nil, 0)
        for i in bases.indices {
          let want = pow(Double(bases[i]), Double(exponents[i]))
          #expect(Self.distance(results[i], want) <= 2, "pow(\(bases[i]), \(exponents[i])) = \(results[i]), not \(want)")
          if Float(want) == 0 { #expect(results[i].sign == want.sign, "pow(\(bases[i]), \(exponents[i]))") }
        }
      }
    }

    @Test("A result depends on its operand alone, not on its place", arguments: cases)
    func position(_ sample: Case) {
      let inputs = (0..<97).map { Float($0) * 0.37 - 18 }
      var whole = [Float](repeating: 0, count: 97)
      let operation = Int32(sample.operation.rawValue)
      apus_flat(operation, Int32(APUS_F32.rawValue), 97, &whole, inputs, nil, nil, 0)
      for i in 0..<97 {
        var one: Float = 0
        apus_flat(operation, Int32(APUS_F32.rawValue), 1, &one, [inputs[i]], nil, nil, 0)
        #expect(one.bitPattern == whole[i].bitPattern || (one.isNaN && whole[i].isNaN))
      }
    }
  }
}
