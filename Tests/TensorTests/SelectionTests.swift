import ApusTensor
import Testing

@Suite struct SelectionTests {
  static let x = Tensor.arange(60).converted(to: .float32).reshaped(3, 4, 5)
  static let messy = Tensor([[3, -1, 2, 2, 9, 0], [5, 5, -7, 4, 1, 1]])
  static let along = Tensor([[[0, 1, 4, 3, 2]], [[4, 4, 0, 0, 1]], [[2, 2, 2, 3, 3]]], .int32)
  static let edges = Tensor([-1, 0, 2, 2, 5])

  @Test func asPyTorchAndNumPy() throws {
    let all = try IndexingFixtures.all()
    func check(_ name: String, _ tensor: Tensor, tolerance: Double = 0, line: SourceLocation = #_sourceLocation) throws {
      expectEqual(tensor, try IndexingFixtures.Case(all[name]), tolerance: tolerance, name, sourceLocation: line)
    }
    let (x, messy) = (Self.x, Self.messy)
    try check("gather", x.gather(axis: 2, indices: Self.along))
    try check("scatter", x.scatter(axis: 2, indices: Tensor([[[0, 1]], [[4, 3]]], .int64), values: Tensor(-1)))
    try check("scatterAdd", x.scatterAdd(axis: 1, indices: Tensor([[[0, 1, 1, 0, 3]]], .uint8), values: Tensor(100)))
    let added = Tensor.arange(45).reshaped(3, 3, 5)
    try check("indexAdd", x.indexAdd(axis: 1, indices: Tensor([0, 3, 0], .int64), values: added))
    try check("indexAdd", x.indexAdd(axis: -2, indices: Tensor([-4, -1, 0], .int8), values: added))
    try check("take", x.take(Tensor([3, 0, -4], .int16), axis: 1))
    try check("nonzero", (x % 13 .== 0).nonzero())
    let places = (x % 13 .== 0).whereIndices()
    #expect(x[places[0], places[1], places[2]].floats == [0, 13, 26, 39, 52])
    #expect(x.maskedSelect(x % 13 .== 0).floats == [0, 13, 26, 39, 52])
    #expect(x[0].maskedFill(Tensor([true, false, true, true, true]), -1)[1].floats == [-1, 6, -1, -1, -1])
    try check("sorted", messy.sorted().values)
    try check("argSort", messy.argSort())
    try check("sorted down", messy.sorted(axis: 1, descending: true).values)
    try check("sorted 0", messy.sorted(axis: 0).values)
    let (values, indices) = messy.topK(3)
    try check("topK", values)
    #expect(messy.gather(axis: 1, indices: indices).floats == values.floats)
    try check("bottomK", messy.topK(2, largest: false).values)
    try check("searchSorted", Self.edges.searchSorted(messy))
    try check("searchSorted right", messy.bucketize(Self.edges, right: true))
    try check("searchSorted rows", messy.sorted().values.searchSorted(Tensor([[1, 2], [5, 0]])))
    let unique = messy.unique()
    try check("unique", unique.values)
    try check("unique inverse", unique.inverse)
    try check("unique counts", unique.counts)
    try check("unique nan", Tensor([.nan, 1, .nan, -.infinity]).unique().values)
    try check("bincount", Tensor([1, 4, 1, 0, 4, 4], .int32).bincount(minLength: 7))
    try check("bincount weights", Tensor([1, 4, 1], .int64).bincount(weights: Tensor([0.5, 2, 0.25])))
    let histogram = messy.histogram(bins: 4)
    try check("histogram", histogram.counts)
    try check("histogram edges", histogram.edges)
    try check("histogram range", messy.histogram(bins: 3, range: 0...3).counts)
    try check("median", messy.median(axis: 1))
    try check("median all", messy.median())
    // NumPy interpolates in float64.
    try check("quantile", messy.converted(to: .float64).quantile(0.3, axis: 1, keepDims: true), tolerance: 1e-15)
    let (three, two) = (Tensor.arange(3), Tensor.arange(2))
    let grid = meshgrid([three, two])
    try check("meshgrid 0", grid[0])
    try check("meshgrid 1", grid[1])
    try check("meshgrid xy", meshgrid([three, two], indexing: .xy)[0])
  }

  @Test func emptyAndScalar() {
    let empty = Tensor.zeros([0, 3])
    #expect(empty.sorted(axis: 0).values.shape == [0, 3])
    #expect(empty.unique().values.shape == [0])
    #expect(empty.nonzero().shape == [0, 2])
    #expect(empty.take(Tensor([2, 0], .int64), axis: 1).shape == [0, 2])
    #expect(Tensor([1, 2]).take(Tensor(1)).item() == 2)
    #expect(Tensor(3.0).sorted().values.item() == 3)
    #expect(Tensor(3.0).nonzero().shape == [1, 0])
    #expect(Tensor(3.0).median().item() == 3)
    #expect(Tensor([1, .nan, 3]).median().item().isNaN)
    #expect(Tensor(elements: [Int]()).bincount(minLength: 2).elements(as: Int.self) == [0, 0])
  }

  @Test func everyType() {
    for type in ElementType.allCases where type != .bool {
      let x = Tensor([3, 1, 2, 1], type)
      #expect(x.sorted().values.elements(as: Int.self) == [1, 1, 2, 3])
      #expect(x.sorted(descending: true).indices.elements(as: Int.self) == [0, 2, 1, 3])
      #expect(x.unique().values.type == TensorType([3], type))
      #expect(x.take(Tensor([-1, 0], .uint8 == type ? .int8 : .int32)).elements(as: Int.self) == [1, 3])
      #expect(
        x.scatterAdd(axis: 0, indices: Tensor([0, 0], .int64), values: Tensor([1, 2], type)).elements(as: Int.self) == [
          6, 1, 2, 1,
        ])
      #expect(x.maskedFill(x .> 1, 0).elements(as: Int.self) == [0, 1, 0, 1])
    }
  }

  @Test func gradients() {
    let x = sin(Self.x.converted(to: .float64))
    let (one, two) = (Tensor([[[0, 1]], [[4, 3]]], .int64), Tensor([3, 0, 3], .int64))
    let ys = sin(Tensor.arange(45).converted(to: .float64)).reshaped(3, 3, 5)
    expectGradient(x, "gather") { $0.gather(axis: 2, indices: Self.along) }
    expectGradient(x, "scatter") { $0.scatter(axis: 2, indices: one, values: Tensor([[[2.0, 3]], [[4, 5]]], .float64)) }
    expectGradient(x[..<2, ..<1, ..<2].contiguous(), "scatter values") { x.scatter(axis: 2, indices: one, values: $0) }
    expectGradient(x, "take") { $0.take(two, axis: 1) }
    expectGradient(x, "indexAdd") { $0.indexAdd(axis: 1, indices: two, values: ys) }
    expectGradient(ys, "indexAdd values") { x.indexAdd(axis: 1, indices: two, values: $0) }
    expectGradient(x, "maskedSelect") { $0.maskedSelect(x .> 0) }
    expectGradient(x, "maskedFill") { $0.maskedFill(x .> 0, 2) }
    expectGradient(x, "sorted") { $0.sorted(axis: 1).values }
    expectGradient(x, "topK") { $0.topK(2, axis: 1).values }
    expectGradient(x, "quantile") { $0.quantile(0.4, axis: 2) }
  }

  @Test func messages() async {
    func message(_ result: ExitTest.Result?) -> String { String(decoding: result?.standardErrorContent ?? [], as: UTF8.self) }
    let index = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([3, 4]).take(Tensor([0, 7], .int64), axis: 1)
    }
    #expect(message(index).contains("Apus: gather: index 7 at position 1 is out of range for dimension 1 of size 4"))
    let float = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([3, 4]).take(Tensor([0.5]))
    }
    #expect(message(float).contains("Apus: take: the indices must be integers, got float32[1]"))
    let many = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([3, 4]).topK(5)
    }
    #expect(message(many).contains("Apus: topK: there are no 5 elements along axis 1 of shape [3, 4]"))
  }
}
