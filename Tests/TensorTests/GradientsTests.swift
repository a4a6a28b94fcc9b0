import Testing

@testable import ApusTensor

private func values(_ x: Tensor) -> [Double] { x.elements(as: Double.self) }
private func vector(_ elements: Double...) -> Tensor { Tensor(elements, shape: [elements.count]) }

/// The ways to ask for gradients. Expected numbers are derivatives worked out by hand.
@Suite struct GradientsTests {
  @Test func threeLevelsOfTheFifthPower() {
    let x = vector(0.5, -1, 2)
    func fifth(_ x: Tensor) -> Tensor { (x * x * x * x * x).sum() }
    let first = gradient(at: x, of: fifth)
    let second = gradient(at: x) { gradient(at: $0, of: fifth).sum() }
    let third = gradient(at: x) { gradient(at: $0) { gradient(at: $0, of: fifth).sum() }.sum() }
    for (i, v) in values(x).enumerated() {
      #expect(abs(values(first)[i] - 5 * v * v * v * v) < 1e-12)
      #expect(abs(values(second)[i] - 20 * v * v * v) < 1e-12)
      #expect(abs(values(third)[i] - 60 * v * v) < 1e-12)
    }
    #expect(!first.isTracked && !second.isTracked && !third.isTracked)
  }

  @Test func nestedGradientsWithArgumentsOfOuterOnes() {
    // d/dx [x · d/dy (x y²)] at y = x: inner 2 x y = 2 x²; x · 2x² = 2x³; derivative 6x².
    let result = gradient(at: vector(3)) { x in
      (x * gradient(at: x) { y in (x * y * y).sum() }).sum()
    }
    #expect(abs(values(result)[0] - 54) < 1e-12)
    // The inner variable alone, the outer captured: d/dx (x² d/dy (x y)) = d/dx x³ = 3x².
    let other = gradient(at: vector(2)) { x in
      (x * x * gradient(at: vector(7)) { y in (x * y).sum() }).sum()
    }
    #expect(abs(values(other)[0] - 12) < 1e-12)
  }

  @Test func severalArguments() {
    let (a, b) = (vector(1, 2), vector(3, 4))
    let (da, db) = gradient(at: a, b) { a, b in (a * a * b).sum() }
    #expect(values(da) == [6, 16] && values(db) == [1, 4])
    let (value, gradients) = valueAndGradient(at: [a, b]) { ($0[0] * $0[1]).sum() }
    #expect(value.item(as: Double.self) == 11 && values(gradients[0]) == [3, 4] && values(gradients[1]) == [1, 2])
    let unused = gradient(at: [a, b]) { $0[0].sum() }
    #expect(values(unused[1]) == [0, 0])
  }

  @Test func parametersAndUnusedOnes() throws {
    let (w, unused, frozen) = (Parameter(vector(2, 3), name: "w"), Parameter(vector(1), name: "unused"), Parameter(vector(5, 5)))
    frozen.isTrainable = false
    let loss = (w.value * w.value * frozen.value).sum()
    let gradients = loss.gradients(for: [w, unused, frozen])
    #expect(values(try #require(gradients[w])) == [20, 30])
    #expect(gradients[unused] == nil && gradients[frozen] == nil && gradients["unused"] == nil)
    #expect(gradients["w"] != nil)
    #expect(gradients[w]?.isTracked == false)
    // The value that was read keeps its history after a new one was set.
    w.value = vector(100, 100)
    #expect(values(try #require(loss.gradients(for: [w])[w])) == [20, 30])
  }

  @Test func gradientsAreValues() throws {
    let w = Parameter(vector(3, 4))
    var gradients = (w.value * vector(3, 4)).sum().gradients(for: [w])
    #expect(abs(gradients.norm.item(as: Double.self) - 5) < 1e-6)
    #expect(values(try #require((gradients + gradients)[w])) == [6, 8])
    #expect(values(try #require((gradients * 0.5)[w])) == [1.5, 2])
    #expect(gradients.isFinite && !(gradients / 0.0).isFinite)
    let before = gradients.clip(norm: 1)
    #expect(abs(before.item(as: Double.self) - 5) < 1e-6)
    #expect(abs(gradients.norm.item(as: Double.self) - 1) < 1e-5)
    gradients.clip(value: 0.7)
    #expect(values(try #require(gradients[w])).allSatisfy { abs($0) <= 0.7 })
  }

  @Test func cotangentsAndCreateGraph() throws {
    let w = Parameter(vector(2, 3))
    let y = w.value * w.value
    #expect(values(try #require(y.gradients(for: [w], cotangent: vector(1, 10))[w])) == [4, 60])
    let first = try #require((y * w.value).sum().gradients(for: [w], createGraph: true)[w])  // 3w²
    #expect(first.isTracked)
    #expect(values(try #require(first.sum().gradients(for: [w])[w])) == [12, 18])
  }

  @Test func gradientPenalty() throws {
    // f = Σ w x³; ∂f/∂x = 3 w x²; Σ of squares: 9 w² x⁴; by w: 18 w x⁴.
    let w = Parameter(vector(2, -1))
    let x = vector(1, 2)
    let slope = gradient(at: x) { x in (w.value * x * x * x).sum() }
    #expect(slope.isTracked)
    let penalty = (slope * slope).sum()
    #expect(values(try #require(penalty.gradients(for: [w])[w])) == [36, -288])
  }

  @Test func capturedTensorsKeepTheirHistory() throws {
    let w = Parameter(vector(2, 3))
    let squares = w.value * w.value
    let captured = gradient(at: vector(5, 5)) { x in (x * squares).sum() }  // w²
    #expect(values(captured) == [4, 9])
    #expect(values(try #require(captured.sum().gradients(for: [w])[w])) == [4, 6])
    let argument = gradient(at: squares) { s in (s * s).sum() }  // 2 w²; by w: 4 w
    #expect(values(argument) == [8, 18])
    #expect(values(try #require(argument.sum().gradients(for: [w])[w])) == [8, 12])
  }

  @Test func vjpJvpJacobian() {
    let x = vector(1, 2, 3)
    func f(_ x: Tensor) -> Tensor { concatenate([x * x, (x.sum() * x.sliced(axis: 0, start: 0, count: 1))]) }
    // Rows: diag(2x); then ∂(S x₀) = x₀ everywhere, plus S at 0.
    let expected: [[Double]] = [[2, 0, 0], [0, 4, 0], [0, 0, 6], [7, 1, 1]]
    let jacobian = jacobian(at: x, of: f)
    #expect(jacobian.shape == [4, 3] && values(jacobian) == expected.flatMap { $0 })
    let (value, pull) = vjp(at: x, of: f)
    #expect(values(value) == [1, 4, 9, 6])
    #expect(values(pull(vector(1, 1, 1, 1))) == [9, 5, 7])
    #expect(values(pull(vector(0, 0, 1, 0))) == [0, 0, 6], "the pullback may be called again")
    let (same, tangent) = jvp(at: x, along: vector(1, 0, 2), of: f)
    #expect(values(same) == [1, 4, 9, 6])
    #expect(values(tangent) == [2, 0, 12, 9])
  }

  @Test func hessians() {
    // x₀² x₁ + x₁³
    func f(_ x: Tensor) -> Tensor {
      let (a, b) = (x.sliced(axis: 0, start: 0, count: 1), x.sliced(axis: 0, start: 1, count: 1))
      return (a * a * b + b * b * b).sum()
    }
    let x = vector(2, 3)
    let expected: [Double] = [6, 4, 4, 18]
    #expect(values(hessian(at: x, of: f)) == expected)
    #expect(values(hessianVectorProduct(at: x, vector: vector(1, -1), of: f)) == [2, -14])
    let w = Parameter(vector(2))
    let curvature = hessian(at: vector(1)) { x in (w.value * x * x * x).sum() }  // 6 w x
    #expect(values(curvature) == [12])
  }

  @Test func customGradients() throws {
    let x = vector(0.4, 1.6)
    // Straight through: the value is rounded, the gradient passes.
    let through = gradient(at: x) { x in
      (customGradient(x, name: "roundStraightThrough") { x in (round(x), { $0 }) } * vector(1, 2)).sum()
    }
    #expect(values(through) == [1, 2])
    // A second gradient sees what the pullback reads: the input, and what was computed from it.
    func cube(_ x: Tensor) -> Tensor {
      customGradient(x) { x in
        let square = x * x
        return (square * x, { dy in dy * square * 3 })
      }
    }
    let second = gradient(at: x) { gradient(at: $0) { cube($0).sum() }.sum() }
    #expect(zip(values(second), values(x)).allSatisfy { abs($0 - 6 * $1) < 1e-12 })
    let third = gradient(at: x) { gradient(at: $0) { gradient(at: $0) { cube($0).sum() }.sum() }.sum() }
    #expect(values(third).allSatisfy { abs($0 - 6) < 1e-12 })
    // Several inputs, one without a gradient.
    let w = Parameter(vector(1, 1))
    let y = customGradient([w.value, x]) { inputs in (inputs[0] * inputs[1], { dy in [dy * 10, nil] }) }
    #expect(values(try #require(y.sum().gradients(for: [w])[w])) == [10, 10])
    #expect(!withoutGradient { customGradient(w.value) { x in (x, { $0 }) } }.isTracked)
  }

  @Test func withoutGradientAndDetached() {
    let w = Parameter(vector(2))
    let y = withoutGradient { w.value * w.value }
    #expect(!y.isTracked)
    let z = w.value * w.value.detached()
    #expect(values(z.sum().gradients(for: [w])[w]!) == [2])
    // An argument's gradient is remembered inside of withoutGradient too.
    #expect(values(withoutGradient { gradient(at: vector(3)) { ($0 * $0).sum() } }) == [6])
    #expect(Tensor(1.0).isTracked == false)
  }

  @Test func donatedMemoryDoesNotReachSavedValues() throws {
    let w = Parameter(vector(0.5, -0.25, 1))
    func loss() -> Tensor {
      var a = w.value * 2
      let y = square(a)  // keeps a
      a += 5
      a *= a
      var e = exp(w.value)  // keeps its result
      let kept = e
      e += 1
      e = relu(sigmoid(e) - 0.5) * tanh(e * 0.1)
      var s = sqrt(square(w.value) + 1)
      s /= 3
      return (y + a * e + kept * s + (1 - s)).sum()
    }
    let expected = w.value.elements(as: Double.self).indices.map { i -> Double in
      func at(_ h: Double) -> Double {
        let before = w.value
        defer { w.value = before }
        var moved = values(before)
        moved[i] += h
        w.value = Tensor(moved, shape: before.shape)
        return withoutGradient { loss() }.item(as: Double.self)
      }
      return (at(1e-5) - at(-1e-5)) / 2e-5
    }
    let got = values(try #require(loss().gradients(for: [w])[w]))
    #expect(zip(got, expected).allSatisfy { abs($0 - $1) < 1e-6 * max(1, abs($1)) }, "\(got) for \(expected)")
  }

  @Test func integersHaveNoHistory() {
    let w = Parameter(vector(1, 5, 2))
    #expect(!w.value.argMax().isTracked && !w.value.converted(to: .int32).isTracked && !(w.value .> 2).isTracked)
    #expect(w.value.converted(to: .float32).isTracked)
    let state = Variable(Tensor([1, 2], shape: [2]))
    #expect(!state.value.isTracked)
  }
}
