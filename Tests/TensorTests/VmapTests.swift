import Testing

@testable import ApusTensor

/// `vmap` against a loop over the examples.
@Suite struct VmapTests {
  private let x = Tensor((0..<12).map { Double(($0 * 5) % 12) / 6 - 0.9 }, shape: [4, 3])
  private let w = Parameter(Tensor([0.5, -0.2, 0.1, 0.9, 0.3, -0.7, 0.2, 0.8, -0.1] as [Double], shape: [3, 3]), name: "w")

  private func looped(_ f: (Tensor) -> Tensor, _ x: Tensor) -> Tensor { stack(x.unstacked().map(f)) }

  private func model(_ x: Tensor) -> Tensor {
    let h = tanh(x.expanded(at: 0).matmul(w.value))
    return (softmax(layerNorm(h, normalizedShape: [3])) * x).sum()
  }

  @Test func axesAndSharedArguments() {
    let f = vmap(in: [0, nil, 1], out: 1) { (x: Tensor, y: Tensor, z: Tensor) -> Tensor in x * y + z }
    let (y, z) = (Tensor([1.0, 2, 3] as [Double], shape: [3]), x.transposed())
    #expect(bits(f(x, y, z)) == bits((x * y + x).transposed().contiguous()))
    let g = vmap { (x: Tensor) -> (Tensor, [Tensor]) in (x.sum(), [x, Tensor(1.0)]) }
    let (sum, parts) = g(x)
    expectClose([sum, parts[0], parts[1]], [x.sum(axis: 1), x, Tensor.ones([4])], "results of several kinds")
  }

  @Test func gradientsForEachExample() {
    func loss(_ w: Tensor, _ x: Tensor) -> Tensor { square(tanh(x.expanded(at: 0).matmul(w))).sum() }
    let v = w.value.detached()
    let perExample = vmap(in: [nil, 0]) { (v: Tensor, x: Tensor) -> Tensor in gradient(at: v) { loss($0, x) } }
    let expected = looped({ x in gradient(at: v) { loss($0, x) } }, x)
    expectClose([perExample(v, x)], [expected], "per example")
    let compiled = compile { (v: Tensor, x: Tensor) in perExample(v, x) }
    expectClose([compiled(v, x)], [expected], "per example, compiled")
    // Parameters read inside.
    let ofParameters = vmap { (x: Tensor) -> Tensor in model(x).gradients(for: [w]).values[0] ?? w.value }
    expectClose([ofParameters(x)], [looped({ model($0).gradients(for: [w]).values[0] ?? w.value }, x)], "of a parameter")
  }

  @Test func gradientsThroughVmap() throws {
    let mapped = vmap { (x: Tensor) -> Tensor in model(x) }
    let expected = looped(model, x).sum()
    expectClose([gradient(at: x) { mapped($0).sum() }], [gradient(at: x) { looped(model, $0).sum() }], "argument")
    let got = try #require(mapped(x).sum().gradients(for: [w])[w])
    expectClose([got], [try #require(expected.gradients(for: [w])[w])], "parameter")
    let compiled = compile { (x: Tensor) in [mapped(x).sum(), mapped(x).sum().gradients(for: [w]).values[0] ?? x] }
    expectClose(compiled(x), [expected.detached(), got], "compiled")
    expectClose([try #require(compiled(x)[0].gradients(for: [w])[w])], [got], "through a compiled result")
    func second(_ f: @escaping (Tensor) -> Tensor) -> Tensor {
      gradient(at: x) { x in square(gradient(at: x) { f($0).sum() }).sum() }
    }
    expectClose([second(mapped)], [second { looped(model, $0) }], "second gradient", tolerance: 1e-9)
  }

  @Test func whatDecidesTheHistoryInsideCounts() throws {
    func f(_ x: Tensor) -> Tensor {
      let own = customGradient(x.expanded(at: 0).matmul(w.value)) { v in (tanh(v), { dy in dy * 3 }) }
      return own.sum() + (x.detached() * x).sum() + checkpoint(x) { (square($0) * w.value[0]).sum() }
        + withoutGradient { (x * w.value[1]).sum() } * x.sum()
    }
    let mapped = vmap { (x: Tensor) -> Tensor in f(x) }
    expectClose([mapped(x)], [looped(f, x)], "values")
    let weights = Tensor([1, -2, 3, 0.5] as [Double])
    expectClose(
      [gradient(at: x) { (mapped($0) * weights).sum() }], [gradient(at: x) { (looped(f, $0) * weights).sum() }], "argument")
    expectClose(
      [try #require(mapped(x).sum().gradients(for: [w])[w])], [try #require(looped(f, x).sum().gradients(for: [w])[w])],
      "parameter")
    func second(_ f: @escaping (Tensor) -> Tensor) -> Tensor {
      gradient(at: x) { x in square(gradient(at: x) { f($0).sum() }).sum() }
    }
    expectClose([second(mapped)], [second { looped(f, $0) }], "second gradient", tolerance: 1e-9)
  }

  @Test func nested() {
    let y = Tensor((0..<6).map { Double($0) / 3 - 1 }, shape: [2, 3])
    let inner = { (a: Tensor, b: Tensor) -> Tensor in (tanh(a * b) * w.value).sum() }
    let table = vmap(in: [0, nil]) { (a: Tensor, y: Tensor) -> Tensor in
      let row = vmap(in: [nil, 0], inner)
      return row(a, y)
    }
    let expected = stack(x.unstacked().map { a in stack(y.unstacked().map { inner(a, $0) }) })
    expectClose([table(x, y)], [expected], "all pairs")
    let g = gradient(at: x) { square(table($0, y)).sum() }
    let e = gradient(at: x) { x in square(stack(x.unstacked().map { a in stack(y.unstacked().map { inner(a, $0) }) })).sum() }
    expectClose([g], [e], "gradient of all pairs")
  }

  // MARK: Control flow

  @Test func branchesThatDifferBetweenExamples() {
    func f(_ x: Tensor) -> Tensor {
      conditional(x.sum() .> 0, x) { x in
        (x * w.value).sum()
      } otherwise: { x in
        square(x).sum()
      }
    }
    let mapped = vmap { (x: Tensor) -> Tensor in f(x) }
    expectClose([mapped(x)], [looped(f, x)], "values")
    expectClose([gradient(at: x) { mapped($0).sum() }], [gradient(at: x) { looped(f, $0).sum() }], "gradient")
    let inside = vmap { (x: Tensor) -> Tensor in gradient(at: x, of: f) }
    expectClose([inside(x)], [looped({ gradient(at: $0, of: f) }, x)], "gradient inside")
  }

  @Test func loopsOfDifferentLengths() {
    func f(_ x: Tensor) -> Tensor {
      let factor = w.value[0] * 0.1 + 0.7
      let (n, y) = whileLoop(Tensor(0), x, while: { n, y in square(y).sum() .> 0.1 .& n .< 9 }) { n, y in
        (n + 1, y * factor)
      }
      return y.sum() + n.converted(to: .float64)
    }
    let mapped = vmap { (x: Tensor) -> Tensor in f(x) }
    expectClose([mapped(x)], [looped(f, x)], "values")
    expectClose([compile { (x: Tensor) in mapped(x) }(x)], [looped(f, x)], "compiled")
    let expected = gradient(at: x) { looped(f, $0).sum() }
    expectClose([gradient(at: x) { mapped($0).sum() }], [expected], "gradient")
    expectClose([compile { (x: Tensor) in gradient(at: x) { mapped($0).sum() } }(x)], [expected], "gradient, compiled")
  }

  @Test func scansOfABatch() {
    func f(_ x: Tensor) -> Tensor {
      let (last, parts) = scan(Tensor.zeros([3], .float64), over: x) { h, v in
        let next = tanh((h * v).expanded(at: 0).matmul(w.value).squeezed(0) + v)
        return (next, next.sum())
      }
      return (last * 2).sum() + (parts * x).sum()
    }
    let mapped = vmap { (x: Tensor) -> Tensor in f(x) }
    let expected = gradient(at: x) { looped(f, $0).sum() }
    expectClose([mapped(x)], [looped(f, x)], "values")
    expectClose([gradient(at: x) { mapped($0).sum() }], [expected], "gradient")
    expectClose([compile { (x: Tensor) in gradient(at: x) { mapped($0).sum() } }(x)], [expected], "gradient, compiled")
    let inside = vmap { (x: Tensor) -> Tensor in gradient(at: x, of: f) }
    expectClose([inside(x), compile { (x: Tensor) in inside(x) }(x)], [expected, expected], "gradient inside")
  }

  @Test func parametersPlusOptimizerState() throws {
    // A model of its own for each example: ensembles.
    func step(_ v: Tensor, _ x: Tensor) -> Tensor { v - gradient(at: v) { square(($0 * x).sum() - 1) } * 0.1 }
    let ensemble = vmap { (v: Tensor, x: Tensor) -> Tensor in step(v, x) }
    let start = x * 0.5
    let expected = stack(zip(start.unstacked(), x.unstacked()).map(step))
    expectClose([ensemble(start, x)], [expected], "one step each")
  }
}
