import CApusKernels
import Testing

private let types = [APUS_BOOL, APUS_U8, APUS_I8, APUS_I16, APUS_I32, APUS_I64, APUS_F16, APUS_BF16, APUS_F32, APUS_F64]
private let kinds = [APUS_PUT_SET, APUS_PUT_ADD, APUS_PUT_MULTIPLY, APUS_PUT_MIN, APUS_PUT_MAX]

private func isReal(_ type: apus_type) -> Bool { type.rawValue >= APUS_F16.rawValue }
private func size(_ type: apus_type) -> Int { Int(apus_type_size(Int32(type.rawValue))) }
private func raw(_ type: apus_type) -> Int32 { Int32(type.rawValue) }
private func wide(_ a: [Int]) -> [Int64] { a.map { Int64($0) } }

/// Elements as `Double`, with the bytes kept for the kernels. bool is stored as uint8.
private func memory(_ type: apus_type, _ values: [Double]) -> TypedMemory {
  let m = TypedMemory(type == APUS_BOOL ? APUS_U8 : type, values.count)
  for (i, v) in values.enumerated() { m[i] = v }
  return m
}

/// Small whole numbers, exact in every type; now and then NaN or a negative zero.
private func values(_ g: inout CaseGenerator, _ type: apus_type, _ count: Int, special: Bool = true) -> [Double] {
  (0..<count).map { _ in
    if type == APUS_BOOL { return Double(g.int(0...1)) }
    if isReal(type) && special && g.chance(25) { return g.chance(2) ? .nan : -0.0 }
    return Double(type == APUS_U8 ? g.int(0...9) : g.int(-7...7))
  }
}

/// Products of int64 stay where `Double` is exact.
private func updateValues(_ g: inout CaseGenerator, _ kind: apus_put_kind, _ type: apus_type, _ count: Int) -> [Double] {
  let v = values(&g, type, count)
  return kind == APUS_PUT_MULTIPLY && type == APUS_I64 ? v.map { $0.truncatingRemainder(dividingBy: 2) } : v
}

private func indices(_ g: inout CaseGenerator, _ type: apus_type, _ count: Int, _ n: Int) -> TypedMemory {
  memory(type, (0..<count).map { _ in Double(g.int(-n...(n - 1))) })
}

private func wrapped(_ index: Double, _ n: Int) -> Int { index < 0 ? Int(index) + n : Int(index) }

/// One update by its definition, in the arithmetic of the type: wrapping integers, float32 for the types below it.
private func meet(_ kind: apus_put_kind, _ type: apus_type, _ v: Double, _ u: Double) -> Double {
  switch kind {
  case APUS_PUT_SET: return u
  case APUS_PUT_MIN: return type == APUS_BOOL ? min(v, u) : v.isNaN || u.isNaN ? .nan : Swift.min(v, u)
  case APUS_PUT_MAX: return type == APUS_BOOL ? max(v, u) : v.isNaN || u.isNaN ? .nan : Swift.max(v, u)
  default: break
  }
  let x = kind == APUS_PUT_ADD ? v + u : v * u
  switch type {
  case APUS_BOOL: return x == 0 ? 0 : 1
  case APUS_U8: return Double(UInt8(truncatingIfNeeded: Int(x)))
  case APUS_I8: return Double(Int8(truncatingIfNeeded: Int(x)))
  case APUS_I16: return Double(Int16(truncatingIfNeeded: Int(x)))
  case APUS_I32: return Double(Int32(truncatingIfNeeded: Int(x)))
  case APUS_F64: return x
  case APUS_I64: return x  // kept small by `updateValues`
  default: return Double(Float(x))
  }
}

/// Whether a kernel's element is what the reference holds, once rounded to the type.
private func agrees(_ type: apus_type, _ got: Double, _ exact: Double) -> Bool {
  if exact.isNaN || got.isNaN { return exact.isNaN && got.isNaN }
  let bits = type == APUS_F16 ? 11 : type == APUS_BF16 ? 8 : 53
  // Half a unit in the last place of what was summed in float32; everything else is exact.
  if type == APUS_F16 && abs(exact) >= 65520 { return got.isInfinite && (got < 0) == (exact < 0) }
  return abs(got - exact)
    <= (bits == 53 ? 0 : abs(exact) * Double(sign: .plus, exponent: -bits, significand: 1) + (bits == 11 ? 0x1p-25 : 0))
}

private func same(_ a: Double, _ b: Double) -> Bool { a.isNaN ? b.isNaN : a == b && a.sign == b.sign }

/// The order of the sort: NaN greatest, zeros equal.
private func less(_ a: Double, _ b: Double) -> Bool { a.isNaN ? false : b.isNaN ? true : a < b }

extension KernelStateTests {
  @Suite struct IndexingTests {
    @Test(arguments: types) func takeAndPutRows(type: apus_type) {
      defer { apus_set_thread_count(2) }
      for seed in 0..<60 {
        var g = CaseGenerator(seed: seed)
        let kind = kinds[seed % 5], indexType = g.chance(2) ? APUS_I32 : APUS_I64
        let outer = g.int(1...3), n = g.int(1...12), m = g.chance(12) ? 0 : g.int(1...24),
          row = seed % 20 == 7 ? 2500 : g.int(1...9)
        let source = memory(type, values(&g, type, outer * n * row)), index = indices(&g, indexType, m, n)
        let taken = memory(type, [Double](repeating: 1, count: outer * m * row))
        #expect(
          apus_take(
            Int64(outer), Int64(n), Int64(m), Int64(row * size(type)), taken.bytes, source.bytes, index.bytes, raw(indexType))
            == -1)
        let start = values(&g, type, outer * n * row), updates = memory(type, updateValues(&g, kind, type, outer * m * row))
        var expected = start, takenWell = true
        for o in 0..<outer {
          for j in 0..<m {
            let at = (o * n + wrapped(index[j], n)) * row, from = (o * m + j) * row
            for c in 0..<row {
              takenWell = takenWell && same(taken[from + c], source[at + c])
              expected[at + c] = meet(kind, type, expected[at + c], updates[from + c])
            }
          }
        }
        #expect(takenWell, "seed \(seed)")
        var first: TypedMemory?
        for threads in [1, 2, 3, 8] {
          apus_set_thread_count(Int32(threads))
          let dst = memory(type, start)
          #expect(
            apus_put(
              Int32(kind.rawValue), raw(type), Int64(outer), Int64(n), Int64(m), Int64(row), dst.bytes, index.bytes,
              raw(indexType),
              updates.bytes) == -1)
          let wrong = expected.indices.first { !agrees(type, dst[$0], expected[$0]) }
          #expect(wrong == nil, "seed \(seed), kind \(kind), element \(wrong!): \(dst[wrong!]), not \(expected[wrong!])")
          if let first { #expect(dst.isIdentical(to: first)) } else { first = dst }
        }
      }
    }

    /// Sums that depend on their order: the same bits at any thread count, all updates to few rows, all to one.
    @Test func sumsAreTheSameAtAnyThreadCount() {
      defer { apus_set_thread_count(2) }
      for type in [APUS_F16, APUS_BF16, APUS_F32, APUS_F64] {
        for (n, m, row) in [(7, 2000, 9), (1, 20, 3000), (3000, 9000, 1), (40, 300, 64)] {
          var g = CaseGenerator(seed: n)
          let index = indices(&g, APUS_I64, m, n),
            updates = memory(type, (0..<m * row).map { _ in Double(g.int(-1023...1023)) / 128 })
          if type == APUS_F32 { for i in 0..<m * row { updates[i] /= 3 } }
          var exact = [Double](repeating: 0, count: n * row)
          for j in 0..<m {
            for c in 0..<row {
              let at = wrapped(index[j], n) * row + c
              exact[at] =
                type == APUS_F64 ? exact[at] + updates[j * row + c] : Double(Float(exact[at]) + Float(updates[j * row + c]))
            }
          }
          var first: TypedMemory?
          for threads in [1, 2, 3, 8] {
            apus_set_thread_count(Int32(threads))
            let dst = memory(type, [Double](repeating: 0, count: n * row))
            _ = apus_put(
              Int32(APUS_PUT_ADD.rawValue), raw(type), 1, Int64(n), Int64(m), Int64(row), dst.bytes, index.bytes, raw(APUS_I64),
              updates.bytes)
            #expect(exact.indices.allSatisfy { agrees(type, dst[$0], exact[$0]) }, "type \(type), \(n) rows, \(threads) threads")
            if let first { #expect(dst.isIdentical(to: first)) } else { first = dst }
          }
        }
      }
    }

    @Test(arguments: types) func takeAndPutAlongAnAxis(type: apus_type) {
      for seed in 0..<60 {
        var g = CaseGenerator(seed: seed)
        let kind = kinds[seed % 5], indexType = g.chance(2) ? APUS_I32 : APUS_I64
        let rank = g.int(1...4), axis = g.int(0...(rank - 1)), elementSize = size(type)
        let shape = (0..<rank).map { _ in g.int(1...(rank < 3 ? 14 : 5)) }
        var sourceShape = shape.map { $0 + g.int(0...1) }
        sourceShape[axis] = g.int(1...9)
        func strides(_ shape: [Int], _ size: Int) -> [Int64] {
          var step = Int64(size), s = [Int64](repeating: 0, count: shape.count)
          for d in shape.indices.reversed() {
            s[d] = step
            step *= Int64(shape[d])
          }
          return s
        }
        let dense = strides(shape, elementSize), of = strides(sourceShape, elementSize)
        var at = strides(shape, size(indexType))
        if g.chance(3) { at[g.int(0...(rank - 1))] = 0 }
        let n = sourceShape[axis], count = shape.reduce(1, *), sourceCount = sourceShape.reduce(1, *)
        let index = indices(&g, indexType, count, n), source = memory(type, values(&g, type, sourceCount))
        let taken = memory(type, [Double](repeating: 1, count: count)),
          updates = memory(type, updateValues(&g, kind, type, count))
        #expect(
          apus_take_along(
            Int32(rank), wide(shape), Int32(axis), Int64(n), taken.bytes, dense, source.bytes, of, Int64(elementSize),
            index.bytes, at,
            raw(indexType)) == -1)
        let start = values(&g, type, sourceCount)
        var expected = start, position = 0
        eachIndex(shape) { i in
          let from = zip(i, at).reduce(0) { $0 + $1.0 * Int($1.1) } / size(indexType)
          var place = i
          place[axis] = wrapped(index[from], n)
          let to = zip(place, of).reduce(0) { $0 + $1.0 * Int($1.1) } / elementSize
          #expect(same(taken[position], source[to]))
          expected[to] = meet(kind, type, expected[to], updates[position])
          position += 1
        }
        let dst = memory(type, start)
        #expect(
          apus_put_along(
            Int32(kind.rawValue), raw(type), Int32(rank), wide(shape), Int32(axis), Int64(n), dst.bytes, of, updates.bytes, dense,
            index.bytes, at, raw(indexType)) == -1)
        let wrong = expected.indices.first { !agrees(type, dst[$0], expected[$0]) }
        #expect(wrong == nil, "seed \(seed), kind \(kind): \(dst[wrong!]), not \(expected[wrong!])")
      }
    }

    @Test(arguments: types) func severalIndexArrays(type: apus_type) {
      for seed in 0..<60 {
        var g = CaseGenerator(seed: seed)
        let kind = kinds[seed % 5], indexType = g.chance(2) ? APUS_I32 : APUS_I64, elementSize = size(type)
        let k = g.int(1...3), innerRank = g.int(0...2), m = g.int(0...30)
        let shape = (0..<(k + innerRank)).map { _ in g.int(1...6) }
        // The indexed dimensions first or last in memory.
        var order = Array(shape.indices), strides = [Int64](repeating: 0, count: shape.count), step = elementSize
        if g.chance(2) { order = Array(order[k...] + order[..<k]) }
        for d in order.reversed() {
          strides[d] = Int64(step)
          step *= shape[d]
        }
        let inner = Array(shape[k...]), innerCount = inner.reduce(1, *), count = shape.reduce(1, *)
        let index = (0..<k).map { indices(&g, indexType, m, shape[$0]) }
        let pointers = index.map { UnsafeRawPointer($0.bytes) as UnsafeRawPointer? }
        let source = memory(type, values(&g, type, count)), got = memory(type, [Double](repeating: 1, count: m * innerCount))
        let (extents, innerStrides) = (wide(Array(shape[..<k])), Array(strides[k...]))
        #expect(
          apus_gather(
            Int32(k), extents, strides, Int32(innerRank), wide(inner), innerStrides, source.bytes, got.bytes, Int64(elementSize),
            Int64(m), pointers, raw(indexType)) == -1)
        let start = values(&g, type, count), updates = memory(type, updateValues(&g, kind, type, m * innerCount))
        var expected = start, position = 0
        for j in 0..<m {
          eachIndex(inner) { i in
            let full = (0..<k).map { wrapped(index[$0][j], shape[$0]) } + i
            let at = zip(full, strides).reduce(0) { $0 + $1.0 * Int($1.1) } / elementSize
            #expect(same(got[position], source[at]))
            expected[at] = meet(kind, type, expected[at], updates[position])
            position += 1
          }
        }
        let dst = memory(type, start)
        #expect(
          apus_scatter(
            Int32(kind.rawValue), raw(type), Int32(k), extents, strides, Int32(innerRank), wide(inner), innerStrides, dst.bytes,
            updates.bytes, Int64(m), pointers, raw(indexType)) == -1)
        #expect(expected.indices.allSatisfy { agrees(type, dst[$0], expected[$0]) }, "seed \(seed), kind \(kind)")
      }
    }

    /// The first bad position is reported and nothing is written.
    @Test func badIndicesAreReported() {
      for indexType in [APUS_I32, APUS_I64] {
        for (bad, n) in [(5.0, 5), (-6.0, 5), (2_147_483_647.0, 5), (-2_147_483_648.0, 5), (0.0, 0)] {
          for position in [0, 3, 299, 999] {
            let values = (0..<1000).map { $0 < position ? Double($0 % 10 - 5) : $0 == position ? bad : 1e9 }
            let expected = n == 0 ? Int64(0) : Int64(position), index = memory(indexType, values)
            let source = memory(APUS_F32, [1, 2, 3, 4, 5]), dst = memory(APUS_F32, [Double](repeating: 7, count: 1000))
            let (i, f, set) = (raw(indexType), raw(APUS_F32), Int32(APUS_PUT_SET.rawValue))
            #expect(apus_take(1, Int64(n), 1000, 4, dst.bytes, source.bytes, index.bytes, i) == expected)
            #expect(apus_put(set, f, 1, Int64(n), 1000, 1, source.bytes, index.bytes, i, dst.bytes) == expected)
            let step = [Int64(size(indexType))]
            #expect(
              apus_take_along(1, [1000], 0, Int64(n), dst.bytes, [4], source.bytes, [4], 4, index.bytes, step, i) == expected)
            #expect(
              apus_put_along(set, f, 1, [1000], 0, Int64(n), source.bytes, [4], dst.bytes, [4], index.bytes, step, i) == expected)
            let good = memory(indexType, [Double](repeating: 0, count: 1000))
            let both: [UnsafeRawPointer?] = [UnsafeRawPointer(good.bytes), UnsafeRawPointer(index.bytes)]
            #expect(
              apus_gather(2, [1, Int64(n)], [0, 4], 0, [], [], source.bytes, dst.bytes, 4, 1000, both, i) == 1000 + expected)
            #expect(
              apus_scatter(set, f, 2, [1, Int64(n)], [0, 4], 0, [], [], source.bytes, dst.bytes, 1000, both, i) == 1000 + expected
            )
            #expect((0..<1000).allSatisfy { dst[$0] == 7 } && (0..<5).allSatisfy { source[$0] == Double($0 + 1) })
          }
        }
      }
    }

    @Test(arguments: types) func nonzeroElements(type: apus_type) {
      for seed in 0..<40 {
        var g = CaseGenerator(seed: seed)
        let rank = g.int(0...3), shape = (0..<rank).map { _ in g.int(0...(rank == 1 ? 9000 : 18)) }, elementSize = size(type)
        var strides = [Int64](repeating: 0, count: rank), step = elementSize
        for d in (g.chance(2) ? Array(shape.indices) : shape.indices.reversed()) {
          strides[d] = Int64(step)
          step *= shape[d]
        }
        let source = memory(type, values(&g, type, shape.reduce(1, *)).map { g.chance(2) ? 0 : $0 })
        var expected = [Int64]()
        var count = 0
        eachIndex(shape) { i in
          if source[zip(i, strides).reduce(0) { $0 + $1.0 * Int($1.1) } / elementSize] != 0 {
            expected += wide(i)
            count += 1
          }
        }
        #expect(apus_count_nonzero(raw(type), Int32(rank), wide(shape), source.bytes, strides) == Int64(count), "seed \(seed)")
        var got = [Int64](repeating: -1, count: count * rank)
        apus_nonzero(raw(type), Int32(rank), wide(shape), source.bytes, strides, &got)
        #expect(got == expected, "seed \(seed)")
      }
    }

    @Test func compressAndExpand() {
      for seed in 0..<100 {
        var g = CaseGenerator(seed: seed)
        let count = g.chance(3) ? g.int(0...20_000) : g.int(0...40), row = g.int(1...9)
        let mask = (0..<count).map { _ in UInt8(g.chance(2) ? 0 : g.int(1...255)) }
        let source = (0..<count * row).map { _ in UInt8(truncatingIfNeeded: g.next()) }
        var expected = [UInt8](), spread = [UInt8](repeating: 9, count: count * row),
          got = [UInt8](repeating: 0, count: count * row + 1)
        for i in 0..<count where mask[i] != 0 {
          expected += source[i * row..<(i + 1) * row]
          spread.replaceSubrange(i * row..<(i + 1) * row, with: source[i * row..<(i + 1) * row])
        }
        #expect(apus_compress(Int64(count), mask, Int64(row), source, &got) == Int64(expected.count / row))
        #expect(Array(got[..<expected.count]) == expected && got[expected.count...].allSatisfy { $0 == 0 }, "seed \(seed)")
        var back = [UInt8](repeating: 9, count: count * row)
        #expect(apus_expand(Int64(count), mask, Int64(row), got, &back) == Int64(expected.count / row))
        #expect(back == spread, "seed \(seed)")
      }
    }

    @Test(arguments: types) func sortAndTopK(type: apus_type) {
      defer { apus_set_thread_count(2) }
      for seed in 0..<30 {
        var g = CaseGenerator(seed: seed)
        let rank = g.int(1...3), axis = g.int(0...(rank - 1)), elementSize = size(type)
        var shape = (0..<rank).map { _ in g.int(1...4) }
        shape[axis] = [g.int(1...20), g.int(1...300), g.int(1...900)][g.int(0...2)]
        if seed == 0 && size(type) == 4 { shape = shape.indices.map { $0 == axis ? 150_000 : 1 } }
        let n = shape[axis], count = shape.reduce(1, *)
        var data = values(&g, type, count)
        if g.chance(2) && type != APUS_BOOL {
          for i in 0..<count { data[i] = data[i] * (type == APUS_U8 ? 3 : 18) + Double(g.int(0...1)) }
        }
        let source = memory(type, data), descending = g.chance(2)
        let k = g.chance(2) || n < 16 ? n : g.int(1...(n / 8))
        var strides = [Int64](repeating: 0, count: rank), step = elementSize
        for d in shape.indices.reversed() {
          strides[d] = Int64(step)
          step *= shape[d]
        }
        var outShape = shape
        outShape[axis] = k
        let outCount = outShape.reduce(1, *), inner = shape[(axis + 1)...].reduce(1, *)
        var expected = [Double](repeating: 0, count: outCount), expectedIndices = [Int64](repeating: 0, count: outCount)
        for line in 0..<count / n {
          let base = line / inner * n * inner + line % inner, outBase = line / inner * k * inner + line % inner
          let order = (0..<n).sorted { a, b in
            let (x, y) = (data[base + a * inner], data[base + b * inner])
            if descending ? less(y, x) : less(x, y) { return true }
            if descending ? less(x, y) : less(y, x) { return false }
            return a < b
          }
          for i in 0..<k {
            expected[outBase + i * inner] = data[base + order[i] * inner]
            expectedIndices[outBase + i * inner] = Int64(order[i])
          }
        }
        for threads in [1, 3] {
          apus_set_thread_count(Int32(threads))
          let got = memory(type, [Double](repeating: 1, count: outCount))
          var gotIndices = [Int64](repeating: -1, count: outCount)
          if k == n {
            apus_sort(raw(type), Int32(rank), wide(shape), Int32(axis), source.bytes, strides, got.bytes, &gotIndices, descending)
          } else {
            apus_top_k(
              raw(type), Int32(rank), wide(shape), Int32(axis), Int64(k), source.bytes, strides, got.bytes, &gotIndices,
              descending)
          }
          #expect(gotIndices == expectedIndices, "seed \(seed), \(shape) along \(axis), k \(k), descending \(descending)")
          #expect(expected.indices.allSatisfy { same(got[$0], expected[$0]) }, "seed \(seed)")
          let alone = memory(type, [Double](repeating: 1, count: outCount))
          apus_top_k(
            raw(type), Int32(rank), wide(shape), Int32(axis), Int64(k), source.bytes, strides, alone.bytes, nil, descending)
          #expect(alone.isIdentical(to: got))
        }
      }
    }

    /// Keys that differ in every bit, as small integers do not.
    @Test func sortsWholeRange() {
      var g = CaseGenerator(seed: 1)
      for count in [100, 1000, 140_000] {
        let singles = (0..<count).map { _ in Float(bitPattern: UInt32(truncatingIfNeeded: g.next() << 3 ^ g.next())) }
        let longs = (0..<count).map { _ in Int64(bitPattern: g.next() << 40 ^ g.next() << 17 ^ g.next()) }
        let doubles = longs.map { Double(bitPattern: UInt64(bitPattern: $0)) }
        var index = [Int64](repeating: 0, count: count)
        apus_sort(raw(APUS_F32), 1, [Int64(count)], 0, singles, [4], nil, &index, false)
        #expect((1..<count).allSatisfy { !less(Double(singles[Int(index[$0])]), Double(singles[Int(index[$0 - 1])])) })
        #expect(index.sorted() == Array(0..<Int64(count)))
        apus_sort(raw(APUS_F64), 1, [Int64(count)], 0, doubles, [8], nil, &index, true)
        #expect((1..<count).allSatisfy { !less(doubles[Int(index[$0 - 1])], doubles[Int(index[$0])]) })
        #expect(index.sorted() == Array(0..<Int64(count)))
        var sorted = longs
        apus_sort(raw(APUS_I64), 1, [Int64(count)], 0, longs, [8], &sorted, nil, false)
        #expect(sorted == longs.sorted())
      }
    }

    @Test(arguments: types) func binarySearch(type: apus_type) {
      for seed in 0..<40 {
        var g = CaseGenerator(seed: seed)
        let rows = g.int(1...3), n = g.int(0...40), m = g.int(0...30), shared = g.chance(2), right = g.chance(2)
        let sorted = (0..<(shared ? 1 : rows)).map { _ in values(&g, type, n).sorted(by: less) }
        let wanted = values(&g, type, rows * m)
        var got = [Int64](repeating: -1, count: rows * m)
        let haystack = memory(type, sorted.flatMap { $0 }), needles = memory(type, wanted)
        withExtendedLifetime((haystack, needles)) {
          apus_search_sorted(
            raw(type), Int64(rows), Int64(shared ? 1 : rows), Int64(n), haystack.bytes, Int64(m), needles.bytes, &got, right)
        }
        for i in 0..<rows * m {
          let row = sorted[shared ? 0 : i / m]
          let expected = row.filter { right ? !less(wanted[i], $0) : less($0, wanted[i]) }.count
          #expect(got[i] == Int64(expected), "seed \(seed)")
        }
      }
    }
  }
}
