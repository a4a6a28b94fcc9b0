import ApusCPU
import Testing

@testable import ApusTensor

/// Gradients of running products and extremes and of scatters where elements are equal or zero: PyTorch's.
@Suite struct ScanGradientTests {
  @Test func runningExtremesAndProducts() throws {
    try GradientFixture.check("cumulative max") { $0[0].cumulativeMax(axis: 1) }
    try GradientFixture.check("cumulative min") { $0[0].cumulativeMin(axis: 1) }
    try GradientFixture.check("cumulative max from the end") { $0[0].cumulativeMax(axis: 1, reverse: true) }
    try GradientFixture.check("cumulative product") { $0[0].cumulativeProduct(axis: 1) }
    try GradientFixture.check("cumulative product over rows") { $0[0].cumulativeProduct(axis: 0) }
  }

  /// Exclusive ones are the others, one place later.
  @Test func exclusiveExtremes() {
    let x = Tensor([2.0, 5, 1, 5, 3], shape: [5])
    for reverse in [false, true] {
      for kind in [ScanKind.max, .min] {
        func part(_ y: Tensor, _ from: Int) -> Tensor { y.sliced(axis: 0, start: from, count: 4) }
        let weights = Tensor([1.0, 10, 100, 1000], shape: [4])
        let exclusive = gradient(at: x) {
          (part(apply(.scan(kind, axis: 0, reverse: reverse, exclusive: true), $0), reverse ? 0 : 1) * weights).sum()
        }
        let inclusive = gradient(at: x) {
          (part(apply(.scan(kind, axis: 0, reverse: reverse, exclusive: false), $0), reverse ? 1 : 0) * weights).sum()
        }
        #expect(exclusive.elements(as: Double.self) == inclusive.elements(as: Double.self), "\(kind), reverse: \(reverse)")
      }
    }
  }

  @Test func longProductsWithZeros() {
    // Every length around the powers of two by which the recurrence doubles.
    for n in [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31] {
      let values = (0..<n).map { (i: Int) -> Double in i % 6 == 4 ? 0 : 0.5 + Double(i % 5) * 0.3 }
      let x = Tensor(values, shape: [n])
      expectGradient(x, "\(n) elements") { $0.cumulativeProduct(axis: 0) }
      expectGradient(x, "\(n) elements, exclusive, from the end") {
        $0.cumulativeProduct(axis: 0, reverse: true, exclusive: true)
      }
    }
  }

  @Test func scatters() throws {
    let place = Tensor([0, 2, 0, 2, 2, 1, 1, 1, 0, 3], shape: [2, 5])
    let names: [(ScatterKind, [String])] = [
      (.max, ["scatter max"]), (.min, ["scatter min"]),
      (.multiply, ["scatter multiply", "scatter multiply, one zero", "scatter multiply, zeros"]),
    ]
    for (kind, cases) in names {
      for name in cases {
        try GradientFixture.check(name) { $0[0].scatterReduce(kind, axis: 1, indices: place, values: $0[1]) }
        // By each row's own scatter, and by coordinates.
        try GradientFixture.check(name) { operands in
          stack(
            (0..<2).map { row in
              apply(.scatter(kind, axis: 0), operands[0][row], place[row] - 4, operands[1][row])
            })
        }
        try GradientFixture.check(name) { operands in
          let rows = Tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], shape: [2, 5])
          return apply(.scatterND(kind), operands[0], stack([rows, place], axis: 2), operands[1])
        }
      }
    }
  }

  /// Where two updates of one place are zero, each one's slope is a function of the other.
  @Test func secondGradientsOfProductsWithZeros() {
    let x = Tensor([3.0, 2.0], shape: [2])
    let place = Tensor([1, 1, 0, 1], shape: [4])
    func slope(_ updates: Tensor) -> Tensor {
      let slopes = gradient(at: updates) { apply(.scatter(.multiply, axis: 0), x, place, $0)[1] }
      return (slopes * Tensor([1.0, 10, 100, 1000], shape: [4])).sum()
    }
    // y₁ = 2 a b d: slopes 2bd, 2ad, 0, 2ab.
    let (a, b, d) = (0.0, 5.0, 0.0)
    let got = gradient(at: Tensor([a, b, 7, d], shape: [4]), of: slope).elements(as: Double.self)
    let expected: [Double] = [2 * (10 * d + 1000 * b), 2 * (d + 1000 * a), 0, 2 * (b + 10 * a)]
    #expect(got == expected)
  }
}
