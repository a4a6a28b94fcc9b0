import Testing

@testable import ApusTensor

private func values(_ x: Tensor) -> [Double] { x.elements(as: Double.self) }

private func expect(
  _ result: ExitTest.Result?, says text: String, sourceLocation: SourceLocation = #_sourceLocation
) {
  let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
  #expect(printed.contains(text), "\(printed)", sourceLocation: sourceLocation)
}

/// Control flow computed right away, compiled, and its gradients both ways.
@Suite struct ControlFlowTests {
  private let x = Tensor([0.3, -0.8, 1.2, 0.1, 0.7, -0.4] as [Double], shape: [2, 3])
  private let w = Parameter(Tensor([0.5, -0.2, 0.1] as [Double], shape: [3]), name: "w")
  private let unused = Parameter(Tensor([1.0, 1, 1] as [Double], shape: [3]), name: "unused")

  /// Value, gradients by the argument and by parameters, and second gradients of `f`: eager, inside of a compiled function
  /// and through its results.
  private func check(
    _ f: @escaping (Tensor) -> Tensor, at points: [Tensor], second: Bool = true, exactly expected: ((Tensor) -> Tensor)? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let (w, unused) = (w, unused)
    func slopes(_ f: @escaping (Tensor) -> Tensor, _ x: Tensor) -> [Tensor] {
      let y = f(x)
      let parameters = y.isTracked ? y.gradients(for: [w, unused]).values : [nil, nil]
      let own = gradient(at: x, of: f)
      var all = [y, own, parameters[0] ?? zerosLike(w.value), parameters[1] ?? zerosLike(w.value)]
      if second {
        all.append(gradient(at: x) { x in (gradient(at: x, of: f) * x).sum() })
        let mixed = (gradient(at: x, of: f) * x).sum()
        all.append((mixed.isTracked ? mixed.gradients(for: [w]).values[0] : nil) ?? zerosLike(w.value))
      }
      return all.map { $0.detached() }
    }
    let inside = compile { (x: Tensor) in slopes(f, x) }
    let through = compile { (x: Tensor) in f(x) }
    for x in points {
      let eager = slopes(f, x)
      expectClose(inside(x), eager, "inside", sourceLocation: sourceLocation)
      expectClose(slopes({ through($0) }, x), eager, "through the result", sourceLocation: sourceLocation)
      if let expected { expectClose(eager, slopes(expected, x), "eager", sourceLocation: sourceLocation) }
    }
    #expect(inside.report.traces.count == 1, sourceLocation: sourceLocation)
  }

  // MARK: conditional

  @Test func conditionalOfOperandsAndCapturedValues() {
    check(
      { x in
        let scaled = x * w.value  // captured with a history
        return conditional(x.sum() .> 0, x) { x in
          (square(x) * w.value).sum()
        } otherwise: { x in
          (tanh(x) * scaled).sum()
        }
      }, at: [x, -x],
      exactly: { x in
        x.sum().item(as: Double.self) > 0 ? (square(x) * w.value).sum() : (tanh(x) * (x * w.value)).sum()
      })
  }

  @Test func conditionalOfSeveralResultsAndTrees() {
    let f = { (x: Tensor) -> (Tensor, [Tensor]) in
      conditional(x.sum() .> 0, then: { (x * 2, [x, x + 1]) }, otherwise: { (-x, [x - 1, x]) })
    }
    let compiled = compile { (x: Tensor) -> (Tensor, [Tensor]) in f(x) }
    for x in [x, -x] {
      let ((a, b), (c, d)) = (f(x), compiled(x))
      #expect(bits(a) == bits(c) && b.map(bits) == d.map(bits))
    }
    let inside = compiled.program(x).graph.nodes.filter { if case .conditional = $0.operation { true } else { false } }
    #expect(inside.count == 1)
  }

  @Test func conditionalInsideOfConditional() {
    check(
      { x in
        conditional(x.sum() .> 0, x) { x in
          conditional(x.max() .> 1, x) { x in
            (x * w.value).sum()
          } otherwise: { x in
            (sin(x) * w.value).sum()
          }
        } otherwise: { x in
          square(x).sum()
        }
      }, at: [x, -x, x * 0.5])
  }

  @Test func whatDecidesTheHistoryInsideCounts() {
    check(
      { x in
        conditional(x.sum() .> 0, x) { x in
          let own = customGradient(x * w.value) { v in (tanh(v), { dy in dy * 3 }) }
          return (own + x.detached() * x + checkpoint(x) { square($0) * w.value }).sum()
        } otherwise: { x in
          withoutGradient { x * w.value }.sum() + (x * 2).sum()
        }
      }, at: [x, -x], second: false)
  }

  @Test func aGradientInsideOfABranch() {
    check(
      { x in
        conditional(x.sum() .> 0, x) { x in
          square(gradient(at: x) { y in (tanh(y) * w.value).sum() }).sum()
        } otherwise: { x in
          (x * gradient(at: w.value * x) { square($0).sum() }).sum()
        }
      }, at: [x, -x])
  }

  // MARK: whileLoop

  @Test func whileLoopOfSeveralStates() {
    let f = { (x: Tensor) -> Tensor in
      let scale = w.value * 2
      let (_, y) = whileLoop(Tensor(0), x, while: { i, _ in i .< 4 }) { i, y in (i + 1, sin(y * scale) + y * w.value) }
      return y.sum()
    }
    check(
      f, at: [x, -x], second: false,
      exactly: { x in
        var y = x
        for _ in 0..<4 { y = sin(y * (w.value * 2)) + y * w.value }
        return y.sum()
      })
  }

  @Test func roundsThatDependOnValuesAndNoRound() {
    check(
      { x in whileLoop(x, while: { square($0).sum() .> 0.5 }) { $0 * w.value * 1.5 }.sum() + x.sum() },
      at: [x, x * 3, x * 0.01], second: false)
  }

  @Test func stateThatGetsItsHistoryInside() {
    check(
      { x in
        let (_, y) = whileLoop(Tensor(0), Tensor.zeros([3], .float64), while: { i, _ in i .< 3 }) { i, y in
          (i + 1, tanh(y + w.value))
        }
        return (y * x).sum()
      }, at: [x], second: false)
  }

  @Test func theGradientOfALoopsGradientStops() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let f = compile { (x: Tensor) in
        gradient(at: x) { x in
          let slope = gradient(at: x) { x in whileLoop(x, while: { $0.sum() .< 9 }) { $0 * $0 }.sum() }
          return square(slope).sum()
        }
      }
      _ = f(Tensor([2] as [Float]))
    }
    expect(result, says: "whileLoopGradient: has no gradient")
  }

  // MARK: scan

  @Test(arguments: [false, true]) func scanOverSequences(_ reverse: Bool) {
    let steps = Tensor((0..<12).map { Double($0) / 7 - 0.8 }, shape: [4, 3])
    check(
      { x in
        let sequence = steps * x[0]
        let (last, outputs) = scan(w.value * 2, over: sequence, reverse: reverse) { h, x in
          let next = tanh(h * w.value + x)
          return (next, next * x)
        }
        return (last * 3).sum() + (outputs * steps).sum()
      }, at: [x, -x])
  }

  @Test func scanOfTreesCountersAndNoOutputs() {
    check(
      { x in
        let (state, outputs) = scan(["h": x, "n": Tensor(0)], over: [x, x * 2]) { state, parts in
          let (h, n) = (state["h"]!, state["n"]!)
          return (["h": h * 0.5 + parts[0] * w.value * parts[1], "n": n + 1], [h.sum(), n])
        }
        let (power, _) = scan(x, length: 3) { y in (y * w.value, [Tensor]()) }
        return state["h"]!.sum() + (outputs[0] * outputs[1].converted(to: .float64)).sum() + power.sum()
      }, at: [x])
  }

  @Test func scanInsideOfScanAndBranch() {
    check(
      { x in
        let (sum, _) = scan(Tensor.zeros([], .float64), over: x) { sum, row in
          let (inner, parts) = scan(sum, over: row) { s, v in
            (conditional(v .> 0, then: { s + v * w.value.sum() }, otherwise: { s * 0.5 - v }), s)
          }
          return (inner + parts.sum(), [Tensor]())
        }
        return sum
      }, at: [x, -x])
  }

  @Test func gradientDescentInsideOfScan() {
    // What is trained inside is a state; a layer norm's gradient then keeps its kernel.
    func train(_ x: Tensor) -> Tensor {
      scan(Tensor.ones([3], .float64), length: 5) { v in
        let slope = gradient(at: v) { v in
          square(layerNorm(x * v, normalizedShape: [3]).sum(axis: 0) * v - 1).sum()
        }
        return (v - slope * 0.05, [Tensor]())
      }.state
    }
    let f = compile { train($0) }
    expectClose([f(x)], [train(x)], "five steps")
  }

  @Test func lengthsOfNoneAndOne() {
    for length in [0, 1] {
      let f = { (x: Tensor) -> (Tensor, Tensor) in
        let (state, outputs) = scan(x, length: length) { y in (y * w.value, y.sum()) }
        return (state, outputs)
      }
      let compiled = compile { (x: Tensor) -> (Tensor, Tensor) in f(x) }
      let ((a, b), (c, d)) = (f(x), compiled(x))
      #expect(bits(a) == bits(c) && bits(b) == bits(d) && b.shape == [length])
      #expect(bits(gradient(at: x) { f($0).0.sum() }) == bits(compile { (x: Tensor) in gradient(at: x) { f($0).0.sum() } }(x)))
    }
  }

  /// Only a gradient reads the states before each round: a program without one does not stack them.
  @Test func statesAreKeptForGradientsAlone() {
    func outputs(_ program: CapturedProgram) -> [Int] {
      program.graph.nodes.compactMap { if case .scanLoop(let loop) = $0.operation { loop.body.graph.outputs.count } else { nil } }
    }
    func f(_ x: Tensor) -> Tensor { scan(x, length: 4) { y in (y * w.value, [Tensor]()) }.state.sum() }
    #expect(outputs(compile { f($0) }.program(x)) == [1])
    #expect(outputs(compile { (x: Tensor) in gradient(at: x, of: f) }.program(x)).first == 2)
  }

  // MARK: Mistakes

  @Test func whatCannotBeDoneInsideIsSaid() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let v = Variable(Tensor(0), name: "v")
        let f = compile { (x: Tensor) -> Tensor in
          conditional(
            x.sum() .> 0,
            then: { () -> Tensor in
              v.value = v.value + 1
              return x
            }, otherwise: { x })
        }
        _ = f(Tensor([1, 2] as [Float]))
      }, says: "v: int64[] is written inside of then; hand the new value out as a result and write it outside")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let f = compile { (x: Tensor) -> Tensor in scan(x, length: 3) { y in (y + Tensor.randn([2]), [Tensor]()) }.state }
        _ = f(Tensor([1, 2] as [Float]))
      }, says: "random numbers are drawn inside of scan body; draw them outside and hand them in")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let f = compile { (x: Tensor) -> Tensor in conditional(x.sum() .> 0, then: { x }, otherwise: { x.sum() }) }
        _ = f(Tensor([1, 2] as [Float]))
      }, says: "conditional: the branches give different results: [float32[2]] and [float32[]]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = scan(Tensor([1, 2] as [Float]), length: 3) { y in (y.sum(), [Tensor]()) }
      }, says: "scan: the body must give a state of the types [float32[2]], not [float32[]]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = whileLoop(Tensor([1, 2] as [Float]), while: { $0 .> 0 }) { $0 }
      }, says: "whileLoop: the condition must be a bool scalar, got bool[2]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let f = vmap { (x: Tensor) -> Tensor in x * Tensor.randn([2]) }
        _ = f(Tensor.ones([3, 2]))
      }, says: "random numbers are drawn inside of vmap; draw them outside and hand them in")
  }

  @Test func customCallsAndTheirGradients() throws {
    registerCustomCall("tests.cube") { inputs, configuration in [inputs[0] * inputs[0] * inputs[0] * Double(configuration)!] }
    func cube(_ x: Tensor) -> Tensor {
      customGradient(x) { x in
        (customCall("tests.cube", [x], configuration: "2", resultTypes: [x.type])[0], { dy in dy * square(x) * 6 })
      }
    }
    check({ x in cube(x * w.value).sum() }, at: [x], exactly: { x in (pow(x * w.value, 3) * 2).sum() })
  }
}
