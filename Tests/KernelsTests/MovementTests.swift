import CApusKernels
import Testing

/// Elements of 1, 2, 4 or 8 bytes in some strided order: which byte each index has, and a buffer that holds them all.
struct StridedBytes {
  let size: Int
  var strides = [Int64]()
  var origin = 0
  var memory: [UInt8]

  /// A random order of the dimensions, steps between elements, reversed dimensions and, for a source, broadcast ones.
  init(_ g: inout CaseGenerator, shape: [Int], size: Int, broadcast: Bool = false, plain: Bool = false) {
    self.size = size
    strides = [Int64](repeating: 0, count: shape.count)
    var order = Array(shape.indices), step = size
    if !plain && g.chance(2) { order.sort { _, _ in g.chance(2) } }
    for d in order.reversed() {
      if broadcast && g.chance(8) { continue }
      if !plain && g.chance(8) { step += size * g.int(1...3) }
      let reversed = !plain && g.chance(6)
      strides[d] = Int64(reversed ? -step : step)
      if reversed { origin += max(shape[d] - 1, 0) * step }
      step *= max(shape[d], 1)
    }
    memory = (0..<step).map { _ in UInt8(truncatingIfNeeded: g.next()) }
  }

  func element(_ index: [Int]) -> ArraySlice<UInt8> {
    let at = zip(index, strides).reduce(origin) { $0 + $1.0 * Int($1.1) }
    return memory[at..<at + size]
  }

  mutating func set(_ index: [Int], _ bytes: some Collection<UInt8>) {
    let at = zip(index, strides).reduce(origin) { $0 + $1.0 * Int($1.1) }
    memory.replaceSubrange(at..<at + size, with: bytes)
  }

  mutating func withPointer(_ body: (UnsafeMutableRawPointer) -> Void) {
    let origin = origin
    memory.withUnsafeMutableBytes { body($0.baseAddress! + origin) }
  }
}

private func wide(_ a: [Int]) -> [Int64] { a.map { Int64($0) } }

extension KernelStateTests {
  @Suite struct MovementTests {
    private func copy(_ shape: [Int], _ dst: inout StridedBytes, _ src: StridedBytes) {
      var src = src
      let (to, from, size) = (dst.strides, src.strides, dst.size)
      dst.withPointer { d in
        src.withPointer { s in apus_copy_strided(Int32(shape.count), wide(shape), d, to, s, from, Int64(size)) }
      }
    }

    @Test(arguments: [1, 2, 4, 8]) func copiesAgreeWithTheDefinition(size: Int) {
      defer { apus_set_isa(apus_best_isa()) }
      for isa in availableSets() {
        apus_set_isa(isa)
        for seed in 0..<150 {
          var g = CaseGenerator(seed: seed * 8 + size)
          let rank = g.int(0...5)
          let shape = (0..<rank).map { _ in
            g.chance(25) ? 0 : g.chance(4) ? g.int(1...4) : g.int(1...(rank < 2 ? 300 : rank == 2 ? 70 : rank == 3 ? 16 : 6))
          }
          var dst = StridedBytes(&g, shape: shape, size: size)
          let src = StridedBytes(&g, shape: shape, size: size, broadcast: true)
          var expected = dst
          eachIndex(shape) { expected.set($0, src.element($0)) }
          copy(shape, &dst, src)
          #expect(dst.memory == expected.memory, "seed \(seed), shape \(shape), strides \(dst.strides) from \(src.strides)")
        }
      }
    }

    /// Large enough to be cut into tiles and tasks.
    @Test(arguments: [1, 2, 4, 8]) func largeTransposesAtAnyThreadCount(size: Int) {
      defer { apus_set_thread_count(2) }
      for (batch, rows, columns) in [(3, 150, 331), (2, 3, 20011), (2, 20011, 3), (1, 517, 259)] {
        let n = batch * rows * columns
        let src = (0..<n * size).map { UInt8(truncatingIfNeeded: $0 &* 0x9E37_79B1 >> 13) }
        var expected = [UInt8](repeating: 0, count: n * size)
        for b in 0..<batch {
          for i in 0..<rows {
            for j in 0..<columns {
              let from = ((b * rows + i) * columns + j) * size, to = ((b * columns + j) * rows + i) * size
              for k in 0..<size { expected[to + k] = src[from + k] }
            }
          }
        }
        for threads in [1, 2, 3, 8] {
          apus_set_thread_count(Int32(threads))
          var dst = [UInt8](repeating: 0, count: n * size)
          apus_copy_strided(
            3, wide([batch, columns, rows]), &dst, wide([rows * columns * size, rows * size, size]), src,
            wide([rows * columns * size, size, columns * size]), Int64(size))
          #expect(dst == expected, "\(batch) x \(rows) x \(columns), \(threads) threads")
        }
      }
    }

    @Test func fillsEveryElementAndNothingElse() {
      for seed in 0..<200 {
        var g = CaseGenerator(seed: seed)
        let size = 1 << g.int(0...3), rank = g.int(0...4)
        let shape = (0..<rank).map { _ in g.int(0...9) }
        var dst = StridedBytes(&g, shape: shape, size: size)
        let value = (0..<size).map { _ in UInt8(truncatingIfNeeded: g.next()) }
        var expected = dst
        eachIndex(shape) { expected.set($0, value) }
        let strides = dst.strides
        dst.withPointer { apus_fill(Int32(rank), wide(shape), $0, strides, Int64(size), value) }
        #expect(dst.memory == expected.memory, "seed \(seed)")
      }
    }

    /// StableHLO: element i of a dimension lands at low + i * (interior + 1), if that is inside.
    @Test func padsCropsAndSpreads() {
      for seed in 0..<600 {
        var g = CaseGenerator(seed: seed)
        let size = 1 << g.int(0...3), rank = g.int(0...4)
        let shape = (0..<rank).map { _ in g.int(0...6) }
        let low = shape.map { _ in g.int(-3...3) }
        let interior = shape.map { _ in g.chance(2) ? 0 : g.int(0...2) }
        var high = shape.map { _ in g.int(-3...3) }
        var padded = [Int]()
        for d in 0..<rank {
          let spread = shape[d] > 0 ? (shape[d] - 1) * (interior[d] + 1) + 1 : 0
          high[d] = max(high[d], -low[d] - spread)
          padded.append(low[d] + spread + high[d])
        }
        var src = StridedBytes(&g, shape: shape, size: size, broadcast: true)
        var dst = StridedBytes(&g, shape: padded, size: size)
        let value = (0..<size).map { _ in UInt8(truncatingIfNeeded: g.next()) }
        var expected = dst
        eachIndex(padded) { expected.set($0, value) }
        eachIndex(shape) { index in
          let to = index.indices.map { low[$0] + index[$0] * (interior[$0] + 1) }
          if zip(to, padded).allSatisfy({ $0 >= 0 && $0 < $1 }) { expected.set(to, src.element(index)) }
        }
        let (to, from) = (dst.strides, src.strides)
        dst.withPointer { d in
          src.withPointer { s in
            apus_pad(
              Int32(rank), wide(shape), s, from, d, to, wide(low), wide(high),
              interior.allSatisfy { $0 == 0 } ? nil : wide(interior),
              Int64(size), value)
          }
        }
        #expect(dst.memory == expected.memory, "seed \(seed): \(shape) low \(low) high \(high) interior \(interior)")
      }
    }

    @Test func concatenates() {
      for seed in 0..<200 {
        var g = CaseGenerator(seed: seed)
        let size = 1 << g.int(0...3), rank = g.int(1...4), axis = g.int(0...(rank - 1)), count = g.int(1...4)
        var shape = (0..<rank).map { _ in g.int(1...5) }
        var parts = [StridedBytes](), extents = [Int]()
        for _ in 0..<count {
          shape[axis] = g.int(0...5)
          extents.append(shape[axis])
          parts.append(StridedBytes(&g, shape: shape, size: size, broadcast: true))
        }
        shape[axis] = extents.reduce(0, +)
        var dst = StridedBytes(&g, shape: shape, size: size)
        var expected = dst
        eachIndex(shape) { index in
          var from = index, part = 0
          while from[axis] >= extents[part] {
            from[axis] -= extents[part]
            part += 1
          }
          expected.set(index, parts[part].element(from))
        }
        let pointers = parts.map { part -> UnsafeMutableRawPointer in
          let p = UnsafeMutableRawPointer.allocate(byteCount: part.memory.count, alignment: 8)
          p.copyMemory(from: part.memory, byteCount: part.memory.count)
          return p
        }
        defer { pointers.forEach { $0.deallocate() } }
        let sources = zip(pointers, parts).map { UnsafeRawPointer($0 + $1.origin) as UnsafeRawPointer? }
        let to = dst.strides
        dst.withPointer {
          apus_concatenate(
            Int32(rank), wide(shape), Int32(axis), $0, to, Int64(count), sources, wide(extents), parts.flatMap(\.strides),
            Int64(size))
        }
        #expect(dst.memory == expected.memory, "seed \(seed)")
      }
    }

    @Test func triangles() {
      for seed in 0..<200 {
        var g = CaseGenerator(seed: seed)
        let size = 1 << g.int(0...3), rank = g.int(2...4), diagonal = g.int(-9...9), upper = g.chance(2)
        let shape = (0..<rank).map { _ in g.chance(20) ? 0 : g.int(1...8) }
        var src = StridedBytes(&g, shape: shape, size: size, broadcast: true), dst = StridedBytes(&g, shape: shape, size: size)
        var expected = dst
        eachIndex(shape) { index in
          let offset = index[rank - 1] - index[rank - 2]
          let kept = upper ? offset >= diagonal : offset <= diagonal
          expected.set(index, kept ? Array(src.element(index)) : [UInt8](repeating: 0, count: size))
        }
        let (to, from) = (dst.strides, src.strides)
        dst.withPointer { d in
          src.withPointer { s in
            apus_triangle(Int32(rank), wide(shape), d, to, s, from, Int64(size), Int64(diagonal), upper)
          }
        }
        #expect(dst.memory == expected.memory, "seed \(seed)")
      }
    }

    @Test func countsUpInEveryType() {
      let types = [APUS_U8, APUS_I8, APUS_I16, APUS_I32, APUS_I64, APUS_F16, APUS_BF16, APUS_F32, APUS_F64]
      for type in types {
        let m = TypedMemory(type, 100)
        let start: Int64 = type == APUS_U8 ? 3 : -50
        apus_iota(Int32(type.rawValue), 100, m.bytes, start, 2)
        for i in 0..<100 {
          // 255 for uint8 is passed at 126 elements, 127 for int8 at 89: it wraps.
          let exact = Int(start) + 2 * i
          #expect(m[i] == Double(type == APUS_I8 ? Int(Int8(truncatingIfNeeded: exact)) : exact), "type \(type), \(i)")
        }
      }
      let large = TypedMemory(APUS_I64, 200_000)
      apus_iota(Int32(APUS_I64.rawValue), 200_000, large.bytes, -7, 3)
      #expect((0..<200_000).allSatisfy { large[$0] == Double(3 * $0 - 7) })

      let single = TypedMemory(APUS_F32, 1000), half = TypedMemory(APUS_F16, 1000), brain = TypedMemory(APUS_BF16, 1000)
      apus_iota_real(Int32(APUS_F32.rawValue), 1000, single.bytes, 0.1, 0.7)
      apus_iota_real(Int32(APUS_F16.rawValue), 1000, half.bytes, 0.1, 0.7)
      apus_iota_real(Int32(APUS_BF16.rawValue), 1000, brain.bytes, 0.1, 0.7)
      for i in 0..<1000 {
        let exact = 0.1 + Double(i) * 0.7
        #expect(single[i] == Double(Float(exact)))
        // Round to nearest: within half a unit in the last place, of 11 and of 8 bits.
        #expect(abs(half[i] - exact) <= exact.binade * 0x1p-11 && abs(brain[i] - exact) <= exact.binade * 0x1p-8, "\(i)")
      }
      let flags = TypedMemory(APUS_U8, 5)
      apus_iota(Int32(APUS_BOOL.rawValue), 5, flags.bytes, -2, 1)
      #expect((0..<5).map { flags[$0] } == [1, 1, 0, 1, 1])
    }
  }
}
