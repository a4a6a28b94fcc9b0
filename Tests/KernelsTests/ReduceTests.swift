import CApusKernels
import Testing

extension KernelStateTests {
  /// Reductions, moments, scans and arg-reductions against loops in float64.
  @Suite("Reductions")
  struct ReduceTests {
    static let f32 = Int32(APUS_F32.rawValue)

    /// A shape, its strides in elements, and which dimensions are reduced.
    struct Layout: Sendable, CustomTestStringConvertible {
      let dims: [Int]
      let strides: [Int]
      let axes: UInt32
      var testDescription: String { "\(dims) strides \(strides) axes \(String(axes, radix: 2))" }
    }
    static let layouts = [
      Layout(dims: [5, 7], strides: [7, 1], axes: 0b10), Layout(dims: [5, 7], strides: [7, 1], axes: 0b01),
      Layout(dims: [300, 33], strides: [33, 1], axes: 0b01), Layout(dims: [33, 300], strides: [1, 33], axes: 0b10),
      Layout(dims: [2, 6, 9, 11], strides: [594, 99, 11, 1], axes: 0b1101),
      Layout(dims: [2, 6, 9, 11], strides: [594, 1, 66, 6], axes: 0b1101),
      Layout(dims: [100_003], strides: [1], axes: 1), Layout(dims: [4, 70_001], strides: [70_001, 1], axes: 0b10),
      Layout(dims: [3, 4], strides: [0, 1], axes: 0b01), Layout(dims: [6, 3], strides: [3, -1], axes: 0b10),
      Layout(dims: [2, 3, 4], strides: [12, 4, 1], axes: 0b010), Layout(dims: [3], strides: [1], axes: 0),
      Layout(dims: [], strides: [], axes: 0), Layout(dims: [2000, 1000], strides: [1000, 1], axes: 0b01),
    ]

    /// The elements of each output, in order, and the address of the first element.
    static func groups(_ l: Layout) -> (offsets: [[Int]], base: Int, count: Int) {
      var outputs: [[Int]] = [[0]]
      func place(_ d: Int, _ kept: Bool) -> Bool { (l.axes >> UInt32(d) & 1 == 0) == kept }
      var kept = [0]
      for d in l.dims.indices where place(d, true) { kept = kept.flatMap { o in (0..<l.dims[d]).map { o + $0 * l.strides[d] } } }
      var reduced = [0]
      for d in l.dims.indices where place(d, false) {
        reduced = reduced.flatMap { o in (0..<l.dims[d]).map { o + $0 * l.strides[d] } }
      }
      outputs = kept.map { k in reduced.map { k + $0 } }
      let low = zip(l.dims, l.strides).reduce(0) { $0 + min(0, ($1.0 - 1) * $1.1) }
      let high = zip(l.dims, l.strides).reduce(0) { $0 + max(0, ($1.0 - 1) * $1.1) }
      return (outputs, -low, high - low + 1)
    }

    @Test("Sum, maximum, any, moments of every layout", arguments: layouts)
    func everyLayout(_ l: Layout) {
      let (groups, base, count) = Self.groups(l)
      let x = (0..<count).map { Float(($0 &* 7919) % 1013) / 64 - 5 }
      let dims = l.dims.map { Int64($0) }
      let strides = l.strides.map { Int64($0 * 4) }
      let rank = Int32(dims.count)
      func reduce<T: BitwiseCopyable>(_ kind: apus_reduction, _ zero: T, _ type: apus_type) -> [T] {
        var out = [T](repeating: zero, count: groups.count)
        x.withUnsafeBufferPointer {
          apus_reduce(
            Int32(kind.rawValue), rank, dims, $0.baseAddress! + base, strides, Self.f32, l.axes, &out, Int32(type.rawValue))
        }
        return out
      }
      let sums = reduce(APUS_REDUCE_SUM, Float(0), APUS_F32)
      let largest = reduce(APUS_REDUCE_MAX, Float(0), APUS_F32)
      let smallest = reduce(APUS_REDUCE_MIN, 0.0, APUS_F64)
      let anything = reduce(APUS_REDUCE_ANY, UInt8(9), APUS_BOOL)
      var mean = [Float](repeating: 0, count: groups.count)
      var variance = mean
      x.withUnsafeBufferPointer {
        apus_moments(rank, dims, $0.baseAddress! + base, strides, Self.f32, l.axes, &mean, &variance)
      }
      for (i, group) in groups.enumerated() {
        let values = group.map { Double(x[base + $0]) }
        let sum = values.reduce(0, +)
        let average = sum / Double(values.count)
        let spread = values.reduce(0) { $0 + ($1 - average) * ($1 - average) } / Double(values.count)
        // Pairwise: some tens of roundings of partial sums, each at most 2⁻²⁴ of Σ|x|.
        #expect(abs(Double(sums[i]) - sum) <= values.reduce(0) { $0 + abs($1) } * 1e-6)
        #expect(Double(largest[i]) == values.max())
        #expect(smallest[i] == values.min())
        #expect((anything[i] == 1) == values.contains { $0 != 0 })
        #expect(abs(Double(mean[i]) - average) < 1e-5 && abs(Double(variance[i]) - spread) < 1e-4)
      }
    }

    @Test("The same bits at any thread count")
    func threads() {
      let before = apus_thread_count()
      defer { apus_set_thread_count(before) }
      let x = (0..<1_000_003).map { Float(($0 &* 7919) % 1013) / 997 }
      for shape in [[Int64(1_000_003), 1], [1000, 1000]] {
        for axes in [UInt32(1), 2, 3] {
          let count = Int((axes & 1 == 0 ? shape[0] : 1) * (axes & 2 == 0 ? shape[1] : 1))
          var first: [Float] = []
          for threads in [Int32(1), 2, 3, 8] {
            apus_set_thread_count(threads)
            var out = [Float](repeating: 0, count: count)
            apus_reduce(Int32(APUS_REDUCE_SUM.rawValue), 2, shape, x, nil, Self.f32, axes, &out, Self.f32)
            if first.isEmpty { first = out }
            #expect(first == out)
          }
        }
      }
    }

    @Test("Integers wrap in 64 bits, empty reductions give the identity, NaN propagates")
    func specials() {
      let bytes: [UInt8] = .init(repeating: 255, count: 1000)
      var wide: Int64 = 0
      apus_reduce(
        Int32(APUS_REDUCE_SUM.rawValue), 1, [1000], bytes, nil, Int32(APUS_U8.rawValue), 1, &wide, Int32(APUS_I64.rawValue))
      #expect(wide == 255_000)
      var empty = [Float](repeating: 5, count: 3)
      apus_reduce(Int32(APUS_REDUCE_PRODUCT.rawValue), 2, [3, 0], bytes, nil, Self.f32, 2, &empty, Self.f32)
      #expect(empty == [1, 1, 1])
      apus_reduce(Int32(APUS_REDUCE_MAX.rawValue), 2, [3, 0], bytes, nil, Self.f32, 2, &empty, Self.f32)
      #expect(empty == [-.infinity, -.infinity, -.infinity])
      var x = (0..<100).map { Float($0) }
      x[41] = .nan
      x[57] = .nan
      var largest: Float = 0
      apus_reduce(Int32(APUS_REDUCE_MAX.rawValue), 1, [100], x, nil, Self.f32, 1, &largest, Self.f32)
      #expect(largest.isNaN)
      var index: Int64 = 0
      apus_arg_reduce(true, 1, [100], x, nil, Self.f32, 0, &index)
      #expect(index == 41)
      apus_arg_reduce(false, 1, [5], [3, 1, 2, 1, 4] as [Float], nil, Self.f32, 0, &index)
      #expect(index == 1)
    }

    @Test("Scans: inclusive, exclusive, reversed, along either axis", arguments: [false, true], [false, true])
    func scans(_ exclusive: Bool, _ reverse: Bool) {
      let (rows, cols) = (5, 7)
      let x = (0..<rows * cols).map { Int32(($0 * 5) % 11) - 4 }
      for axis in 0..<2 {
        var out = [Int64](repeating: 0, count: rows * cols)
        apus_scan(
          Int32(APUS_SCAN_SUM.rawValue), 2, [Int64(rows), Int64(cols)], x, nil, Int32(APUS_I32.rawValue), Int32(axis), exclusive,
          reverse,
          &out, Int32(APUS_I64.rawValue))
        for line in 0..<(axis == 0 ? cols : rows) {
          var running: Int64 = 0
          let length = axis == 0 ? rows : cols
          for step in 0..<length {
            let k = reverse ? length - 1 - step : step
            let at = axis == 0 ? k * cols + line : line * cols + k
            let next = running + Int64(x[at])
            #expect(out[at] == (exclusive ? running : next))
            running = next
          }
        }
      }
    }
  }
}
