import ApusTensor
import Testing

/// Parts of tensors whose gradients meet again, and parts whose place is a value.
@Suite struct PartsTests {
  private let x = Tensor.arange(1, 25, step: 1, .float64).reshaped([2, 4, 3])

  private func expectEqual(_ a: Tensor, _ b: Tensor, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(a.type == b.type, sourceLocation: sourceLocation)
    #expect(a.elements(as: Double.self) == b.elements(as: Double.self), sourceLocation: sourceLocation)
  }

  @Test func gradientsOfPartsAreThoseOfSlices() {
    func parts(_ x: Tensor) -> Tensor {
      let (a, b) = (x.split([1, 3], axis: 1), x.unstacked(axis: -1))
      return (square(a[0]).sum() + (a[1] * 3).sum()) * square(b[1]).sum()
    }
    func slices(_ x: Tensor) -> Tensor {
      (square(x[0..., 0..<1]).sum() + (x[0..., 1...] * 3).sum()) * square(x[0..., 0..., 1]).sum()
    }
    expectEqual(gradient(at: x, of: parts), gradient(at: x, of: slices))
    func twice(_ f: (Tensor) -> Tensor) -> Tensor { hessianVectorProduct(at: x, vector: x * 0.5, of: f) }
    expectEqual(twice(parts), twice(slices))
  }

  @Test func partsThatNobodyUsesHaveZeros() {
    let only = gradient(at: x) { $0.unstacked(axis: 1)[2].sum() }
    expectEqual(
      only, `where`((Tensor.arange(4) .== 2).reshaped([4, 1]).broadcast(to: x.shape), Tensor.ones(x.shape, .float64), 0.0))
    expectEqual(gradient(at: x) { $0.split([4, 0], axis: 1)[0].sum() }, onesLike(x))
  }

  @Test func dynamicSlicesAreAtValues() {
    let start = Tensor([1, 2, 0] as [Int64], shape: [3])
    expectEqual(x.dynamicSlice(start: start, size: [1, 2, 3]), x[1..<2, 2..<4, 0..<3])
    // One that would reach over the end is moved inside.
    expectEqual(x.dynamicSlice(start: Tensor([5, 3, -4] as [Int64], shape: [3]), size: [1, 2, 3]), x[1..<2, 2..<4, 0..<3])
    var expected = x
    expected[1..<2, 2..<4, 0..<3] .= 0
    let update = Tensor.zeros([1, 2, 3], .float64)
    expectEqual(x.dynamicUpdateSlice(update, start: start), expected)
    let (dx, du) = gradient(at: x, update) { square($0.dynamicUpdateSlice($1 + 3, start: start)).sum() }
    expectEqual(dx, expected * 2)
    expectEqual(du, update + 6)
  }

  /// A table that is looked up and multiplied with: its rows' gradients are added to what came from the product.
  @Test func gradientsOfATableThatIsAlsoAFactor() {
    let table = Tensor.randn([5, 3], .float64, generator: Generator(seed: 1))
    let ids = Tensor([4, 0, 4] as [Int64], shape: [3])
    func loss(_ table: Tensor) -> Tensor { square(linear(tanh(table.take(ids)), table)).sum() }
    func chosen(_ table: Tensor) -> Tensor {
      let rows = Tensor.oneHot(ids, classes: 5, .float64)
      return square(tanh(rows.matmul(table)).matmul(table.transposed())).sum()
    }
    let expected = gradient(at: table, of: chosen)
    func expectNear(_ a: Tensor, _ b: Tensor) {
      for (x, y) in zip(a.elements(as: Double.self), b.elements(as: Double.self)) {
        #expect(abs(x - y) <= 1e-12 * max(1, abs(y)))
      }
    }
    expectNear(gradient(at: table, of: loss), expected)
    let parameter = Parameter(table)
    let gradients = loss(parameter.value).gradients(for: [parameter])
    expectNear(gradients.values[0] ?? Tensor(0), expected)
    let vector = Tensor.ones([5, 3], .float64)
    expectNear(
      hessianVectorProduct(at: table, vector: vector, of: loss), hessianVectorProduct(at: table, vector: vector, of: chosen))
    // A gradient that is handed in stays what it is.
    let cotangent = Tensor.ones([3, 3], .float64)
    let (_, pull) = vjp(at: table) { $0.take(ids) + $0[0..<3] }
    let once = pull(cotangent)
    expectEqual(once, pull(cotangent))
    expectEqual(cotangent, Tensor.ones([3, 3], .float64))
  }
}
