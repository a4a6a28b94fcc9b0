import CApusKernels
import Testing

extension KernelStateTests {
  /// Programs, strides and conversions of the tile machine, against element-by-element loops.
  @Suite("Tile machine")
  struct TileTests {
    static let f32 = Int32(APUS_F32.rawValue)

    static func instruction(
      _ op: apus_op, type: apus_type = APUS_F32, to dst: UInt8, _ a: UInt8, _ b: UInt8 = 0, _ c: UInt8 = 0, immediate: Double = 0
    )
      -> apus_instruction
    {
      var i = apus_instruction()
      i.op = UInt8(op.rawValue)
      i.type = UInt8(type.rawValue)
      (i.dst, i.a, i.b, i.c) = (dst, a, b, c)
      i.immediate.real = immediate
      return i
    }

    @Test("Broadcast, transposed and negative strides", arguments: [[3, 5], [64, 70], [2, 1500], [1, 1], [0, 4]])
    func strides(_ shape: [Int]) {
      let (rows, cols) = (shape[0], shape[1])
      let a = (0..<max(rows * cols, 1)).map { Float($0) }
      let b = (0..<max(cols, 1)).map { Float($0) * 100 }
      var out = [Float](repeating: -1, count: rows * cols)
      let dims = [Int64(rows), Int64(cols)]
      // a is stored transposed, b is read backwards along the columns and broadcast over the rows.
      let aStrides: [Int64] = [4, Int64(4 * rows)]
      let bStrides: [Int64] = [0, -4]
      a.withUnsafeBytes { ap in
        b.withUnsafeBytes { bp in
          out.withUnsafeMutableBytes { op in
            aStrides.withUnsafeBufferPointer { sa in
              bStrides.withUnsafeBufferPointer { sb in
                let va = apus_view(base: .init(mutating: ap.baseAddress), strides: sa.baseAddress, type: Self.f32)
                let last = bp.baseAddress! + 4 * (max(cols, 1) - 1)
                let vb = apus_view(base: .init(mutating: last), strides: sb.baseAddress, type: Self.f32)
                let vo = apus_view(base: op.baseAddress, strides: nil, type: Self.f32)
                apus_binary(Int32(APUS_OP_ADD.rawValue), Self.f32, 2, dims, vo, va, vb)
              }
            }
          }
        }
      }
      for r in 0..<rows { for c in 0..<cols { #expect(out[r * cols + c] == a[c * rows + r] + b[cols - 1 - c]) } }
    }

    @Test("A fused program: t = relu(x·2 + y), t − mean of its row", arguments: [1, 7, 1000, 3000], [1, 3, 8])
    func program(_ cols: Int, _ threads: Int32) {
      let rows = 37
      let before = apus_thread_count()
      apus_set_thread_count(threads)
      defer { apus_set_thread_count(before) }
      let x = (0..<rows * cols).map { Float($0 % 113) - 50 }
      let y = (0..<rows * cols).map { Float($0 % 7) }
      var out = [Float](repeating: 0, count: rows * cols)
      let immediate = UInt8(APUS_IMMEDIATE)
      let code = [
        Self.instruction(APUS_OP_FMA, to: 3, 0, immediate, 1, immediate: 2), Self.instruction(APUS_OP_RELU, to: 3, 3),
        Self.instruction(APUS_OP_ROW_SUM, to: 4, 3),
        Self.instruction(APUS_OP_MUL, to: 4, 4, immediate, immediate: 1 / Double(cols)),
        Self.instruction(APUS_OP_SUB, to: 2, 3, 4),
      ]
      let dims = [Int64(rows), Int64(cols)]
      x.withUnsafeBytes { xp in
        y.withUnsafeBytes { yp in
          out.withUnsafeMutableBytes { op in
            let views = [xp.baseAddress, yp.baseAddress, UnsafeRawPointer(op.baseAddress)].map {
              apus_view(base: .init(mutating: $0), strides: nil, type: Self.f32)
            }
            dims.withUnsafeBufferPointer { d in
              views.withUnsafeBufferPointer { v in
                code.withUnsafeBufferPointer { c in
                  var program = apus_program(
                    rank: 2, dims: d.baseAddress, inputs: 2, outputs: 1, operands: v.baseAddress, count: Int32(c.count),
                    code: c.baseAddress)
                  #expect(apus_program_fits(&program))
                  apus_tile_run(&program)
                }
              }
            }
          }
        }
      }
      for r in 0..<rows {
        let t = (0..<cols).map { max(Double(x[r * cols + $0]) * 2 + Double(y[r * cols + $0]), 0) }
        let mean = t.reduce(0, +) / Double(cols)
        // The mean is a float32: its rounding is at most a few units of 2⁻²⁴ of about 100.
        for c in 0..<cols { #expect(abs(Double(out[r * cols + c]) - (t[c] - mean)) < 1e-4) }
      }
    }

    @Test("Integers wrap and never trap")
    func integers() {
      let type = Int32(APUS_I32.rawValue)
      let a: [Int32] = [.min, 7, -7, -7, 5, .max, 2, -1, 3]
      let b: [Int32] = [-1, 0, 2, 0, -3, 1, -1, -3, 40]
      func run(_ op: apus_op) -> [Int32] {
        var out = [Int32](repeating: 0, count: a.count)
        apus_flat(Int32(op.rawValue), type, Int64(a.count), &out, a, b, nil, 0)
        return out
      }
      #expect(run(APUS_OP_ADD)[5] == .min)
      #expect(run(APUS_OP_DIV) == [.min, 0, -3, 0, -1, .max, -2, 0, 0])
      #expect(run(APUS_OP_FLOOR_DIV) == [.min, 0, -4, 0, -2, .max, -2, 0, 0])
      #expect(run(APUS_OP_REM) == [0, 0, -1, 0, 2, 0, 0, -1, 3])
      #expect(run(APUS_OP_MOD) == [0, 0, 1, 0, -1, 0, 0, -1, 3])
      #expect(run(APUS_OP_SHL)[8] == 0)
      #expect(run(APUS_OP_SHR)[8] == 0)
      let threes = (0..<40).reduce(Int32(1)) { r, _ in r &* 3 }
      #expect(run(APUS_OP_POW)[6...] == [0, -1, threes])
    }

    @Test("Conversions truncate, saturate, take NaN to 0 and round to even")
    func conversions() {
      let x: [Float] = [1.9, -1.9, 300, -300, .nan, .infinity, -.infinity, 3e9, -3e9, 0]
      func convert<T: ExpressibleByIntegerLiteral & BitwiseCopyable>(_ type: apus_type, _: T.Type) -> [T] {
        var out = [T](repeating: 0, count: x.count)
        apus_convert_flat(Int64(x.count), &out, Int32(type.rawValue), x, Self.f32)
        return out
      }
      let best = apus_best_isa()
      defer { _ = apus_set_isa(best) }
      for isa in [APUS_ISA_BASELINE, APUS_ISA_AVX2, APUS_ISA_AVX512, APUS_ISA_NEON] where apus_set_isa(isa) {
        #expect(convert(APUS_U8, UInt8.self) == [1, 0, 255, 0, 0, 255, 0, 255, 0, 0])
        #expect(convert(APUS_I8, Int8.self) == [1, -1, 127, -128, 0, 127, -128, 127, -128, 0])
        #expect(convert(APUS_I32, Int32.self) == [1, -1, 300, -300, 0, .max, .min, .max, .min, 0])
        #expect(convert(APUS_I64, Int64.self) == [1, -1, 300, -300, 0, .max, .min, 3_000_000_000, -3_000_000_000, 0])
        #expect(convert(APUS_BOOL, UInt8.self) == [1, 1, 1, 1, 1, 1, 1, 1, 1, 0])
        // Every float16 there and back; its value as Swift sees it.
        #if !(os(macOS) && arch(x86_64))
          let halves = (0...UInt16.max).map { $0 }
          var wide = [Float](repeating: 0, count: halves.count)
          apus_convert_flat(Int64(halves.count), &wide, Self.f32, halves, Int32(APUS_F16.rawValue))
          var back = [UInt16](repeating: 0, count: halves.count)
          apus_convert_flat(Int64(halves.count), &back, Int32(APUS_F16.rawValue), wide, Self.f32)
          for h in halves {
            let value = Float(Float16(bitPattern: h))
            let i = Int(h)
            #expect(value.isNaN ? wide[i].isNaN : wide[i].bitPattern == value.bitPattern && back[i] == h)
          }
        #endif
      }
    }
  }
}
