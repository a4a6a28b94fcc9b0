import CApusKernels
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

extension KernelStateTests {
  /// The C matrix product against three nested loops in Double or Int64.
  @Suite struct MatMulTests {
    /// An element type: how a value of the reference's arithmetic is stored and read back.
    struct Element: Sendable, CustomStringConvertible {
      let type: apus_type
      let unit: Double  // half the spacing of values just above one; 0: an integer type
      var isFloat: Bool { unit > 0 }
      var description: String { "type \(type.rawValue)" }

      func write(_ value: Double, _ integer: Int64, _ memory: UnsafeMutableRawPointer, _ index: Int) {
        func store<T>(_ x: T) { memory.storeBytes(of: x, toByteOffset: index * MemoryLayout<T>.size, as: T.self) }
        switch type {
        case APUS_F64: store(value)
        case APUS_F32: store(Float(value))
        case APUS_F16: store(halfBits(value))
        case APUS_BF16: store(UInt16(truncatingIfNeeded: Float(value).bitPattern >> 16))
        case APUS_I64: store(integer)
        case APUS_I32: store(Int32(truncatingIfNeeded: integer))
        case APUS_I16: store(Int16(truncatingIfNeeded: integer))
        case APUS_I8: store(Int8(truncatingIfNeeded: integer))
        case APUS_U8: store(UInt8(truncatingIfNeeded: integer))
        default: fatalError("no such element type")
        }
      }

      func real(_ memory: UnsafeRawPointer, _ index: Int) -> Double {
        switch type {
        case APUS_F64: memory.load(fromByteOffset: index * 8, as: Double.self)
        case APUS_F32: Double(memory.load(fromByteOffset: index * 4, as: Float.self))
        case APUS_F16: halfValue(memory.load(fromByteOffset: index * 2, as: UInt16.self))
        case APUS_BF16: Double(Float(bitPattern: UInt32(memory.load(fromByteOffset: index * 2, as: UInt16.self)) << 16))
        default: fatalError("not a floating-point type")
        }
      }

      func integer(_ memory: UnsafeRawPointer, _ index: Int) -> Int64 {
        switch type {
        case APUS_I64: memory.load(fromByteOffset: index * 8, as: Int64.self)
        case APUS_I32: Int64(memory.load(fromByteOffset: index * 4, as: Int32.self))
        case APUS_I16: Int64(memory.load(fromByteOffset: index * 2, as: Int16.self))
        case APUS_I8: Int64(memory.load(fromByteOffset: index, as: Int8.self))
        case APUS_U8: Int64(memory.load(fromByteOffset: index, as: UInt8.self))
        default: fatalError("not an integer type")
        }
      }

      // By arithmetic, since Float16 is missing from some platforms' Swift. Test values are multiples of 2^-6 below 2 in size.
      private func halfBits(_ value: Double) -> UInt16 {
        if value == 0 { return 0 }
        let exponent = value.magnitude.exponent
        let fraction = UInt16((value.magnitude.significand - 1) * 1024)
        return (value < 0 ? 0x8000 : 0) | UInt16(Int(exponent) + 15) << 10 | fraction
      }
      private func halfValue(_ bits: UInt16) -> Double {
        let fraction = Double(bits & 0x3ff)
        let exponent = Int(bits >> 10 & 0x1f)
        if exponent == 31 { return fraction > 0 ? .nan : bits >> 15 == 1 ? -.infinity : .infinity }
        let size =
          exponent == 0
          ? fraction * 0x1p-24 : (1 + fraction / 1024) * Double(sign: .plus, exponent: exponent - 15, significand: 1)
        return bits >> 15 == 1 ? -size : size
      }
    }

    static let f32 = Element(type: APUS_F32, unit: 0x1p-24)
    static let f64 = Element(type: APUS_F64, unit: 0x1p-53)
    static let f16 = Element(type: APUS_F16, unit: 0x1p-11)
    static let bf16 = Element(type: APUS_BF16, unit: 0x1p-8)
    static let i8 = Element(type: APUS_I8, unit: 0), u8 = Element(type: APUS_U8, unit: 0), i16 = Element(type: APUS_I16, unit: 0)
    static let i32 = Element(type: APUS_I32, unit: 0), i64 = Element(type: APUS_I64, unit: 0)
    static let pairs: [(input: Element, output: Element)] = [
      (f32, f32), (f64, f64), (f16, f16), (f16, f32), (bf16, bf16), (bf16, f32), (i8, i8), (i8, i32), (u8, u8), (u8, i32),
      (i16, i16),
      (i32, i32), (i64, i64),
    ]

    struct Generator {
      var state: UInt64
      mutating func next(_ bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((state >> 33) % UInt64(bound))
      }
    }

    /// Memory with room for any index of the given sizes, the strides to reach it, and a guard zone that nobody may write.
    final class Operand {
      let memory: UnsafeMutableRawPointer
      let count: Int
      let origin: Int
      let strides: [Int]
      let element: Element

      init(
        _ element: Element, _ sizes: [Int], order: [Int], flipped: Set<Int> = [], broadcast: Set<Int> = [], gap: Int = 0,
        _ g: inout Generator
      ) {
        var strides = [Int](repeating: 0, count: sizes.count)
        var step = 1
        var low = 0
        var high = 0
        for d in order.reversed() where !broadcast.contains(d) {
          strides[d] = flipped.contains(d) ? -step : step
          let reach = (max(sizes[d], 1) - 1) * step
          if flipped.contains(d) { low += reach } else { high += reach }
          step *= max(sizes[d], 1)
          step += gap
        }
        self.element = element
        self.strides = strides
        origin = low + 7
        count = low + high + 15
        memory = .allocate(byteCount: count * Int(apus_type_size(Int32(element.type.rawValue))), alignment: 64)
        for i in 0..<count { element.write(Double(g.next(129) - 64) / 64, Int64(g.next(1 << 30)) &* 8_589_934_583, memory, i) }
      }
      deinit { memory.deallocate() }
      var size: Int { Int(apus_type_size(Int32(element.type.rawValue))) }
      func reals() -> [Double] { (0..<count).map { element.real(memory, $0) } }
      func integers() -> [Int64] { (0..<count).map { element.integer(memory, $0) } }
      var start: UnsafeMutableRawPointer { memory + origin * size }
      var bytes: [UInt8] { Array(UnsafeRawBufferPointer(start: memory, count: count * size)) }
      func restore(_ bytes: [UInt8]) { bytes.withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: $0.count) } }
    }

    struct Shape { var batch: [Int], m: Int, n: Int, k: Int }

    static let shapes: [Shape] = [
      Shape(batch: [], m: 1, n: 1, k: 1), Shape(batch: [], m: 16, n: 16, k: 16), Shape(batch: [], m: 7, n: 19, k: 5),
      Shape(batch: [], m: 1, n: 70, k: 300), Shape(batch: [], m: 70, n: 1, k: 300), Shape(batch: [], m: 3, n: 301, k: 129),
      Shape(batch: [], m: 13, n: 97, k: 700), Shape(batch: [], m: 127, n: 65, k: 41), Shape(batch: [], m: 101, n: 83, k: 270),
      Shape(batch: [], m: 5, n: 3, k: 9000), Shape(batch: [], m: 0, n: 3, k: 4), Shape(batch: [], m: 4, n: 0, k: 4),
      Shape(batch: [], m: 9, n: 17, k: 0), Shape(batch: [3], m: 9, n: 5, k: 8), Shape(batch: [2, 3], m: 17, n: 33, k: 20),
      Shape(batch: [2, 1, 2], m: 1, n: 40, k: 33), Shape(batch: [0, 2], m: 3, n: 3, k: 3),
      Shape(batch: [20], m: 66, n: 34, k: 120),
      Shape(batch: [], m: 151, n: 131, k: 515),
    ]

    @Test(arguments: pairs.indices) func agreesWithNestedLoops(_ pair: Int) {
      let (input, output) = Self.pairs[pair]
      var g = Generator(state: UInt64(pair) + 1)
      for shape in Self.shapes {
        // The reference is slow in a debug build: of the large shapes, each pair of types takes a variant of its own.
        let large = shape.batch.reduce(shape.m * shape.n * shape.k, *) > 100_000
        for variant in large ? [pair % 6] : Array(0..<6) {
          check(shape, input, output, variant, inTask: false, &g)
          if !large || pair < 2 { check(shape, input, output, variant, inTask: true, &g) }
        }
      }
    }

    private func check(
      _ shape: Shape, _ input: Element, _ output: Element, _ variant: Int, inTask: Bool, _ g: inout Generator
    ) {
      let rank = shape.batch.count
      let natural = Array(0..<(rank + 2))
      let swapped = Array(0..<rank) + [rank + 1, rank]
      let reversed = Array(natural.reversed())
      // Row by row; each operand transposed; batch innermost with gaps; backwards; broadcast.
      let orders = [
        (natural, natural, natural), (swapped, natural, natural), (natural, swapped, natural), (swapped, swapped, swapped),
        (reversed, natural, reversed), (natural, natural, natural),
      ]
      let (aOrder, bOrder, cOrder) = orders[variant]
      let gap = variant == 4 ? 2 : 0
      let flipped: Set<Int> = variant == 4 ? [rank] : variant == 3 ? [rank + 1] : []
      let a = Operand(
        input, shape.batch + [shape.m, shape.k], order: aOrder, flipped: flipped, broadcast: variant == 5 ? [0] : [], gap: gap, &g
      )
      let b = Operand(
        input, shape.batch + [shape.k, shape.n], order: bOrder, flipped: flipped, broadcast: variant == 5 ? [rank + 1] : [],
        gap: gap, &g)
      let c = Operand(output, shape.batch + [shape.m, shape.n], order: cOrder, flipped: flipped, gap: gap, &g)
      let bias = Operand(output, [shape.n], order: [0], flipped: variant == 3 ? [0] : [], &g)
      let accumulate = variant % 2 == 1
      let hasBias = variant % 3 == 1
      let relu = variant >= 3

      var p = apus_matmul()
      p.type = Int32(input.type.rawValue)
      p.out_type = Int32(output.type.rawValue)
      p.accumulate = accumulate ? 1 : 0
      p.in_task = inTask ? 1 : 0
      p.batch_rank = Int32(rank)
      func fill<T>(_ tuple: inout T, _ values: [Int]) {
        withUnsafeMutableBytes(of: &tuple) {
          for (i, v) in values.enumerated() { $0.storeBytes(of: Int64(v), toByteOffset: 8 * i, as: Int64.self) }
        }
      }
      fill(&p.batch, shape.batch)
      fill(&p.a_batch, Array(a.strides[..<rank]))
      fill(&p.b_batch, Array(b.strides[..<rank]))
      fill(&p.c_batch, Array(c.strides[..<rank]))
      (p.m, p.n, p.k) = (Int64(shape.m), Int64(shape.n), Int64(shape.k))
      (p.a_row, p.a_col) = (Int64(a.strides[rank]), Int64(a.strides[rank + 1]))
      (p.b_row, p.b_col) = (Int64(b.strides[rank]), Int64(b.strides[rank + 1]))
      (p.c_row, p.c_col) = (Int64(c.strides[rank]), Int64(c.strides[rank + 1]))
      (p.a, p.b, p.c) = (UnsafeRawPointer(a.start), UnsafeRawPointer(b.start), c.start)
      if hasBias { p.bias = UnsafeRawPointer(bias.start) }
      p.bias_stride = Int64(bias.strides[0])
      p.activation = Int32((relu ? APUS_EPILOGUE_RELU : APUS_EPILOGUE_NONE).rawValue)

      let dotByDefault = apus_use_bf16_dot()
      let before = c.bytes
      let (expected, written) = reference(
        p, shape, input, output, a, b, c, bias, accumulate: accumulate, hasBias: hasBias, relu: relu)
      let note = "\(shape) \(input) to \(output), variant \(variant), in a task: \(inTask)"
      defer {
        apus_set_isa(apus_best_isa())
        apus_set_bf16_dot(dotByDefault)
      }
      for set in [APUS_ISA_BASELINE, APUS_ISA_AVX2, APUS_ISA_AVX512, APUS_ISA_NEON] where apus_set_isa(set) {
        for dot in apus_has_avx512_bf16() && input.type == APUS_BF16 ? [false, true] : [false] {
          apus_set_bf16_dot(dot)
          c.restore(before)
          apus_matmul_run(&p)
          let result = c.bytes
          let place = "\(note), \(String(cString: apus_isa_name(set)))\(dot ? " with bf16 dot" : "")"
          let threads = apus_thread_count()
          for count in [1, 2, 3, 8] as [Int32] {
            c.restore(before)
            apus_set_thread_count(count)
            apus_matmul_run(&p)
            #expect(c.bytes == result, "other bits with \(count) threads: \(place)")
          }
          apus_set_thread_count(threads)
          let wrong = expected.count { value in
            input.isFloat
              ? !((output.real(c.memory, value.at) - value.real).magnitude <= value.bound)
              : output.integer(c.memory, value.at) != value.integer
          }
          #expect(wrong == 0, "\(wrong) elements wrong: \(place)")
          let size = c.size
          for i in 0..<c.count where !written[i] && before[i * size..<(i + 1) * size] != result[i * size..<(i + 1) * size] {
            Issue.record("wrote outside C: \(place)")
            break
          }
        }
      }
    }

    private struct Expected {
      let at: Int
      var real = 0.0, bound = 0.0
      var integer: Int64 = 0
    }

    /// What C should hold, by three nested loops, and which of its elements the product may write.
    private func reference(
      _ p: apus_matmul, _ shape: Shape, _ input: Element, _ output: Element, _ a: Operand, _ b: Operand, _ c: Operand,
      _ bias: Operand,
      accumulate: Bool, hasBias: Bool, relu: Bool
    ) -> ([Expected], written: [Bool]) {
      let rank = shape.batch.count
      let (aReals, bReals) = input.isFloat ? (a.reals(), b.reals()) : ([], [])
      let (aIntegers, bIntegers) = input.isFloat ? ([], []) : (a.integers(), b.integers())
      let (aStep, bStep) = (a.strides[rank + 1], b.strides[rank])
      var written = [Bool](repeating: false, count: c.count)
      var expected: [Expected] = []
      for flat in 0..<shape.batch.reduce(1, *) {
        var rest = flat
        var (aAt, bAt, cAt) = (a.origin, b.origin, c.origin)
        for d in stride(from: rank - 1, through: 0, by: -1) {
          let i = rest % shape.batch[d]
          rest /= shape.batch[d]
          aAt += i * a.strides[d]
          bAt += i * b.strides[d]
          cAt += i * c.strides[d]
        }
        for i in 0..<shape.m {
          for j in 0..<shape.n {
            let at = cAt + i * c.strides[rank] + j * c.strides[rank + 1]
            written[at] = true
            let aRow = aAt + i * a.strides[rank]
            let bColumn = bAt + j * b.strides[rank + 1]
            if input.isFloat {
              var sum = 0.0
              var size = 0.0
              func add(_ x: Double) { sum += x; size += x.magnitude }
              for q in 0..<shape.k {
                add(aReals[aRow + q * aStep] * bReals[bColumn + q * bStep])
              }
              if accumulate { add(output.real(c.memory, at)) }
              if hasBias { add(output.real(bias.memory, bias.origin + j * bias.strides[0])) }
              if relu { sum = max(sum, 0) }
              // n - 1 roundings of a sum of n terms (Higham, Accuracy and Stability, 4.2), then one to the type of C.
              let accumulator = min(output.unit, 0x1p-24)
              let bound = size * accumulator * Double(shape.k + 3) + sum.magnitude * output.unit * 1.01
              expected.append(Expected(at: at, real: sum, bound: bound))
            } else {
              var sum: Int64 = 0
              for q in 0..<shape.k {
                sum &+= aIntegers[aRow + q * aStep] &* bIntegers[bColumn + q * bStep]
              }
              if accumulate { sum &+= output.integer(c.memory, at) }
              if hasBias { sum &+= output.integer(bias.memory, bias.origin + j * bias.strides[0]) }
              let wrapped: Int64 =
                switch output.type {
                case APUS_I8: Int64(Int8(truncatingIfNeeded: sum))
                case APUS_U8: Int64(UInt8(truncatingIfNeeded: sum))
                case APUS_I16: Int64(Int16(truncatingIfNeeded: sum))
                case APUS_I32: Int64(Int32(truncatingIfNeeded: sum))
                default: sum
                }
              expected.append(Expected(at: at, integer: relu ? max(wrapped, 0) : wrapped))
            }
          }
        }
      }
      return (expected, written)
    }

    /// What follows the sums, and B packed before, on every instruction set: the same bits as a plain product and separate kernels.
    @Test(arguments: [f32, f64, bf16, f16], [0, 1, 2])
    func finishesWithTheBitsOfSeparateKernels(_ element: Element, _ order: Int) {
      let shapes = [
        (1, 40, 700), (3, 33, 515), (5, 70, 1031), (20, 5, 530), (16, 16, 40), (9, 1, 600), (1, 20, 1), (7, 33, 0),
        (17, 37, 1100),
        (40, 100, 24), (3, 50, 9000), (300, 290, 130),
      ]
      let operations = [
        APUS_OP_COPY, APUS_OP_RELU, APUS_OP_GELU_ERF, APUS_OP_GELU_TANH, APUS_OP_SIGMOID, APUS_OP_TANH, APUS_OP_SILU,
      ]
      var g = Generator(state: UInt64(order) + 40)
      let type = Int32(element.type.rawValue)
      let dotByDefault = apus_use_bf16_dot()
      defer {
        apus_set_isa(apus_best_isa())
        apus_set_bf16_dot(dotByDefault)
      }
      for (index, (m, n, k)) in shapes.enumerated() {
        // B's rows, its columns, or neither are adjacent.
        let a = Operand(element, [m, k], order: [0, 1], &g)
        let b = Operand(element, [k, n, 2], order: order == 0 ? [2, 0, 1] : order == 1 ? [2, 1, 0] : [0, 1, 2], &g)
        let c = Operand(element, [m, n], order: index % 4 == 3 ? [1, 0] : [0, 1], &g)
        let residual = Operand(element, [m, n], order: index % 4 == 3 ? [1, 0] : [0, 1], &g)
        let expected = Operand(element, [m, n], order: index % 4 == 3 ? [1, 0] : [0, 1], &g)
        let bias = Operand(element, [n], order: [0], &g)
        let (activation, place) = ((index + 2 * order) % operations.count, (index + order) % 3)
        var plain = apus_matmul()
        (plain.type, plain.out_type) = (type, type)
        (plain.m, plain.n, plain.k) = (Int64(m), Int64(n), Int64(k))
        (plain.a_row, plain.a_col) = (Int64(a.strides[0]), Int64(a.strides[1]))
        (plain.b_row, plain.b_col) = (Int64(b.strides[0]), Int64(b.strides[1]))
        (plain.c_row, plain.c_col) = (Int64(c.strides[0]), Int64(c.strides[1]))
        (plain.a, plain.b, plain.c) = (UnsafeRawPointer(a.start), UnsafeRawPointer(b.start), expected.start)
        (plain.bias, plain.bias_stride) = (UnsafeRawPointer(bias.start), 1)
        var fused = plain
        fused.c = c.start
        fused.activation = Int32(activation)
        (fused.residual_row, fused.residual_col) = (plain.c_row, plain.c_col)
        if place > 0 { fused.residual = UnsafeRawPointer(residual.start) }
        fused.residual_after = place == 2 ? 1 : 0
        for set in [APUS_ISA_BASELINE, APUS_ISA_AVX2, APUS_ISA_AVX512, APUS_ISA_NEON] where apus_set_isa(set) {
          for dot in apus_has_avx512_bf16() && element.type == APUS_BF16 ? [false, true] : [false] {
            apus_set_bf16_dot(dot)
            apus_matmul_run(&plain)
            func apply(_ operation: apus_op, _ other: UnsafeRawPointer?) {
              apus_flat(Int32(operation.rawValue), type, Int64(m * n), expected.start, expected.start, other, nil, 0)
            }
            if place == 1 { apply(APUS_OP_ADD, residual.start) }
            apply(operations[activation], nil)
            if place == 2 { apply(APUS_OP_ADD, residual.start) }
            let size = apus_matmul_packed_size(type, fused.k, fused.n)
            let packed = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
            defer { packed.deallocate() }
            apus_matmul_pack_b(type, fused.k, fused.n, b.start, fused.b_row, fused.b_col, packed)
            let threads = apus_thread_count()
            defer { apus_set_thread_count(threads) }
            let kernels = "\(String(cString: apus_isa_name(set)))\(dot ? " with bf16 dot" : "")"
            let note = "\(m)x\(n)x\(k) of \(element), order \(order), activation \(activation), residual \(place), \(kernels)"
            for isPacked in [false, true] {
              fused.packed_b = isPacked ? UnsafeRawPointer(packed) : nil
              fused.b = isPacked ? nil : plain.b
              for count in [1, 2, 3, 8] as [Int32] {
                apus_set_thread_count(count)
                memset(c.start, 0, m * n * c.size)
                apus_matmul_run(&fused)
                let same = memcmp(c.start, expected.start, m * n * c.size) == 0
                #expect(same, "\(note), packed \(isPacked), \(count) threads")
              }
            }
          }
        }
      }
    }

    @Test func factorMultipliesTheProductAlone() {
      var g = Generator(state: 77)
      let (m, n, k) = (21, 40, 600)
      let a = Operand(Self.f64, [m, k], order: [0, 1], &g)
      let b = Operand(Self.f64, [k, n], order: [0, 1], &g)
      let c = Operand(Self.f64, [m, n], order: [0, 1], &g)
      let before = c.reals()
      var p = apus_matmul()
      (p.type, p.out_type) = (Int32(APUS_F64.rawValue), Int32(APUS_F64.rawValue))
      (p.m, p.n, p.k, p.a_row, p.a_col, p.b_row, p.b_col, p.c_row, p.c_col) = (21, 40, 600, 600, 1, 40, 1, 40, 1)
      (p.a, p.b, p.c) = (UnsafeRawPointer(a.start), UnsafeRawPointer(b.start), c.start)
      p.accumulate = 1
      p.alpha = -0.25
      apus_matmul_run(&p)
      let (x, y, z) = (a.reals(), b.reals(), c.reals())
      for i in 0..<m {
        for j in 0..<n {
          let sum = (0..<k).reduce(0.0) { $0 + x[a.origin + i * k + $1] * y[b.origin + $1 * n + j] }
          let want = before[c.origin + i * n + j] - 0.25 * sum
          #expect((z[c.origin + i * n + j] - want).magnitude <= 1e-10)
        }
      }
    }

    @Test func peakMeasurementsArePositive() {
      var median = 0.0
      let best = apus_measure_fma_gflops(1, 0.02, &median)
      #expect(median > 0 && best >= median)
      #expect(apus_measure_copy_gbps(1, 1 << 20, 0.02) > 0)
    }
  }
}
