import CApusKernels
import Testing

extension KernelStateTests {
  /// The quantized product against sums in Int, on every instruction set: equal to the bit.
  @Suite("Quantized product")
  struct QuantizedTests {
    /// Instruction sets, and AVX-512 without the dot-product instruction.
    static let sets: [(isa: apus_isa, extensions: Bool)] = [
      (APUS_ISA_BASELINE, true), (APUS_ISA_AVX2, true), (APUS_ISA_AVX512, false), (APUS_ISA_AVX512, true), (APUS_ISA_NEON, true),
    ]

    enum Values { case random, extreme }

    struct Case {
      var m, n, k: Int
      var type = APUS_I8
      var values = Values.random
      /// The operand's k runs along columns of memory.
      var xTransposed = false
      var weightTransposed = false
      var perRow = true
      var perColumn = true
      var hasBias = true
    }

    /// Sizes around those of tiles, panels, chunks and of the cuts of k; then values that a kernel with 16-bit sums,
    /// saturation or float32 in between would get wrong.
    static let cases: [Case] = [
      Case(m: 1, n: 1, k: 1), Case(m: 1, n: 33, k: 4, type: APUS_U8), Case(m: 3, n: 31, k: 63),
      Case(m: 14, n: 32, k: 64, type: APUS_U8),
      Case(m: 15, n: 65, k: 67), Case(m: 29, n: 5, k: 130, type: APUS_U8, perRow: false),
      Case(m: 2, n: 70, k: 129, perColumn: false),
      Case(m: 65, n: 37, k: 70, hasBias: false), Case(m: 66, n: 33, k: 71, type: APUS_U8, weightTransposed: true),
      Case(m: 7, n: 45, k: 33, xTransposed: true, weightTransposed: true),
      Case(m: 70, n: 3, k: 50, type: APUS_U8, xTransposed: true),
      Case(m: 5, n: 9, k: 0), Case(m: 70, n: 9, k: 0, type: APUS_U8), Case(m: 0, n: 9, k: 5), Case(m: 4, n: 0, k: 5),
      Case(m: 3, n: 6, k: 2051), Case(m: 67, n: 6, k: 2050, type: APUS_U8), Case(m: 70, n: 5, k: 4099),
      Case(m: 160, n: 130, k: 40),
      Case(m: 5, n: 3, k: 65_793, type: APUS_U8, values: .extreme), Case(m: 2, n: 3, k: 65_793, values: .extreme),
      Case(m: 70, n: 40, k: 100, type: APUS_U8, values: .extreme), Case(m: 70, n: 40, k: 100, values: .extreme),
    ]

    struct Operands {
      var x: [UInt8], weight: [Int8]
      var xScale: [Float], weightScale: [Float], bias: [Float]
      var zeroPoint: [Int32]

      init(_ c: Case) {
        var state: UInt64 = 7
        func next() -> Int {
          state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          return Int(state >> 33)
        }
        let isSigned = c.type == APUS_I8
        // −128 beside a zero point of 127, 255 beside 0: the largest differences, all of one sign.
        let extreme = c.values == .extreme
        x = (0..<(c.m * c.k)).map { _ in extreme ? (isSigned ? 128 : 255) : UInt8(truncatingIfNeeded: next()) }
        weight = (0..<(c.n * c.k)).map { _ in extreme ? -128 : Int8(truncatingIfNeeded: next()) }
        zeroPoint = (0..<max(c.m, 1)).map { _ in
          extreme ? (isSigned ? 127 : 0) : Int32(next() % 256) - (isSigned ? 128 : 0)
        }
        xScale = (0..<max(c.m, 1)).map { _ in Float(next() % 1000 + 1) * 0.00137 }
        weightScale = (0..<max(c.n, 1)).map { _ in Float(next() % 1000 + 1) * 0.00211 }
        bias = (0..<max(c.n, 1)).map { _ in Float(next() % 1000 - 500) * 0.0917 }
      }
    }

    private func reference(_ c: Case, _ o: Operands) -> [Float] {
      var out: [Float] = []
      for i in 0..<c.m {
        let zero = Int(o.zeroPoint[c.perRow ? i : 0])
        for j in 0..<c.n {
          var sum = 0
          for p in 0..<c.k {
            let byte = o.x[c.xTransposed ? p * c.m + i : i * c.k + p]
            let value = c.type == APUS_I8 ? Int(Int8(bitPattern: byte)) : Int(byte)
            sum += (value - zero) * Int(o.weight[c.weightTransposed ? p * c.n + j : j * c.k + p])
          }
          #expect(Int(Int32(truncatingIfNeeded: sum)) == sum)
          let scaled = Float(sum) * (o.xScale[c.perRow ? i : 0] * o.weightScale[c.perColumn ? j : 0])
          out.append(c.hasBias ? scaled + o.bias[j] : scaled)
        }
      }
      return out
    }

    private func run(_ c: Case, _ o: Operands, packed: UnsafeRawPointer?) -> [Float] {
      // A column more than the result has: nobody may write it.
      let row = c.n + 1
      var out = [Float](repeating: -7, count: c.m * row + 1)
      o.x.withUnsafeBytes { x in
        o.weight.withUnsafeBufferPointer { weight in
          o.xScale.withUnsafeBufferPointer { xScale in
            o.weightScale.withUnsafeBufferPointer { weightScale in
              o.bias.withUnsafeBufferPointer { bias in
                o.zeroPoint.withUnsafeBufferPointer { zeroPoint in
                  out.withUnsafeMutableBufferPointer { out in
                    var p = apus_quantized_matmul()
                    p.x_type = Int32(c.type.rawValue)
                    (p.m, p.n, p.k) = (Int64(c.m), Int64(c.n), Int64(c.k))
                    p.x = x.baseAddress
                    (p.x_row, p.x_col) = c.xTransposed ? (1, p.m) : (p.k, 1)
                    (p.x_scale, p.x_scale_stride) = (xScale.baseAddress, c.perRow ? 1 : 0)
                    (p.x_zero_point, p.x_zero_point_stride) = (zeroPoint.baseAddress, c.perRow ? 1 : 0)
                    p.weight = packed == nil ? weight.baseAddress : nil
                    (p.weight_row, p.weight_col) = c.weightTransposed ? (1, p.n) : (p.k, 1)
                    p.packed = packed
                    (p.weight_scale, p.weight_scale_stride) = (weightScale.baseAddress, c.perColumn ? 1 : 0)
                    (p.bias, p.bias_stride) = (c.hasBias ? bias.baseAddress : nil, 1)
                    (p.out, p.out_row) = (out.baseAddress, Int64(row))
                    apus_quantized_matmul_run(&p)
                  }
                }
              }
            }
          }
        }
      }
      #expect(out.last == -7)
      for i in 0..<c.m { #expect(out[i * row + c.n] == -7, "wrote beyond row \(i)") }
      return (0..<c.m).flatMap { out[($0 * row)..<($0 * row + c.n)] }
    }

    private func pack(_ c: Case, _ o: Operands) -> UnsafeMutableRawPointer {
      let memory = UnsafeMutableRawPointer.allocate(
        byteCount: apus_quantized_packed_size(Int64(c.n), Int64(c.k)) + 1, alignment: 64)
      o.weight.withUnsafeBufferPointer {
        let (row, column) = c.weightTransposed ? (1, c.n) : (c.k, 1)
        apus_quantized_pack($0.baseAddress, Int64(row), Int64(column), Int64(c.n), Int64(c.k), memory)
      }
      return memory
    }

    @Test("Exact sums, the same bits on every instruction set and at any number of threads")
    func exact() {
      let (best, threads) = (apus_best_isa(), apus_thread_count())
      defer {
        _ = apus_set_isa(best)
        apus_set_avx512_extensions(true)
        apus_set_thread_count(threads)
      }
      for c in Self.cases {
        let operands = Operands(c)
        let expected = reference(c, operands).map(\.bitPattern)
        // Packed by one instruction set, read by all.
        let packed = pack(c, operands)
        defer { packed.deallocate() }
        for (isa, extensions) in Self.sets where apus_set_isa(isa) {
          apus_set_avx512_extensions(extensions)
          let own = pack(c, operands)
          defer { own.deallocate() }
          let bytes = apus_quantized_packed_size(Int64(c.n), Int64(c.k))
          let note = "\(c), \(String(cString: apus_isa_name(isa)))\(extensions ? "" : " without extensions")"
          #expect(
            UnsafeRawBufferPointer(start: own, count: bytes).elementsEqual(UnsafeRawBufferPointer(start: packed, count: bytes)),
            "packed otherwise: \(note)")
          for count in [1, 2, 3, 8] as [Int32] {
            apus_set_thread_count(count)
            #expect(run(c, operands, packed: nil).map(\.bitPattern) == expected, "\(note), \(count) threads")
            #expect(run(c, operands, packed: packed).map(\.bitPattern) == expected, "packed: \(note), \(count) threads")
          }
        }
      }
    }

    @Test("The extensions of AVX-512 can be switched off")
    func extensions() {
      let best = apus_best_isa()
      _ = apus_set_isa(best)
      defer { apus_set_avx512_extensions(true) }
      apus_set_avx512_extensions(false)
      #expect(!apus_has_avx512_vnni() && !apus_has_avx512_bf16())
    }
  }
}
