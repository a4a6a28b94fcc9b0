import Testing

@testable import ApusTensor

private func values(_ x: Tensor) -> [Double] { x.elements(as: Double.self) }

/// Recomputation changes what is kept, not what comes out.
@Suite(.serialized) struct CheckpointTests {
  private let x = Tensor([0.3, -0.8, 1.2, 0.1, 0.7, -0.4] as [Double], shape: [2, 3])
  private let w = Parameter(Tensor([0.5, -0.2, 0.1, 0.9, 0.3, -0.7, 0.2, 0.8, -0.1] as [Double], shape: [3, 3]), name: "w")

  private func block(_ x: Tensor) -> Tensor { tanh(x.matmul(w.value)) * 2 }

  @Test func sameValuesAndGradients() throws {
    let inputs = Parameter(x)
    let plain = square(block(block(inputs.value))).sum()
    let saved = square(checkpoint(checkpoint(inputs.value, block), block)).sum()
    #expect(values(plain) == values(saved))
    let (a, b) = (plain.gradients(for: [inputs, w]), saved.gradients(for: [inputs, w]))
    for (g, h) in zip(a.values, b.values) { #expect(values(try #require(g)) == values(try #require(h))) }
  }

  @Test func parametersThatOnlyTheInsideReads() throws {
    // The input is no leaf: the parameter inside is all that gradients can reach.
    let saved = checkpoint(x, block).sum()
    #expect(values(try #require(saved.gradients(for: [w])[w])) == values(try #require(block(x).sum().gradients(for: [w])[w])))
    let other = Parameter(x)
    #expect(saved.gradients(for: [other])[other] == nil)
  }

  @Test func capturedTensorsWithHistory() throws {
    let scale = Parameter(Tensor(3.0).converted(to: .float64))
    let doubled = scale.value * 2  // computed outside, read inside
    let saved = checkpoint(x) { (block($0) * doubled).sum() }
    let plain = (block(x) * doubled).sum()
    let (a, b) = (saved.gradients(for: [scale, w]), plain.gradients(for: [scale, w]))
    for (g, h) in zip(a.values, b.values) { #expect(values(try #require(g)) == values(try #require(h))) }
  }

  @Test func theInputMayAlsoBeCaptured() {
    let got = gradient(at: x) { x in checkpoint(x) { y in (x * y * y).sum() } }  // 3x²
    #expect(zip(values(got), values(x)).allSatisfy { abs($0 - 3 * $1 * $1) < 1e-12 })
  }

  @Test func insideOfGradientAtAndItsGradient() {
    let plain = gradient(at: x) { square(block($0)).sum() }
    let saved = gradient(at: x) { square(checkpoint($0, block)).sum() }
    #expect(values(plain) == values(saved))
    func second(_ f: @escaping (Tensor) -> Tensor) -> Tensor {
      gradient(at: x) { x in square(gradient(at: x) { square(f($0)).sum() }).sum() }
    }
    let (a, b) = (second(block), second { checkpoint($0, block) })
    #expect(zip(values(a), values(b)).allSatisfy { abs($0 - $1) < 1e-10 * max(1, abs($0)) }, "\(values(b)) for \(values(a))")
  }

  @Test func randomNumbersComeOutTheSameTheSecondTime() throws {
    func dropped(_ x: Tensor) -> Tensor {
      `where`(Tensor.bernoulli(x.shape, probability: 0.5), block(x), 0) * Tensor.randn(x.shape, .float64)
    }
    seed(7)
    let plain = dropped(x).sum()
    let following = Tensor.randn([2]).floats
    let expected = values(try #require(plain.gradients(for: [w])[w]))
    seed(7)
    let saved = checkpoint(x, dropped).sum()
    let got = values(try #require(saved.gradients(for: [w])[w]))
    #expect(values(plain) == values(saved) && got == expected)
    #expect(Tensor.randn([2]).floats == following, "computing again must not move the generator")
  }

  @Test func nothingInsideIsKept() {
    final class Witness: @unchecked Sendable { var calls = 0 }
    let witness = Witness()
    let y = checkpoint(x) { x in
      witness.calls += 1
      return block(x)
    }
    #expect(witness.calls == 1)
    _ = y.sum().gradients(for: [w])
    #expect(witness.calls == 2)
    _ = withoutGradient { checkpoint(x, block) }
  }
}
