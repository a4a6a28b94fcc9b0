import Testing

@testable import ApusTensor

private func values(_ x: Tensor) -> [Double] { x.elements(as: Double.self) }

private func expect(
  _ result: ExitTest.Result?, says text: String, sourceLocation: SourceLocation = #_sourceLocation
) {
  let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
  #expect(printed.contains(text), "\(printed)", sourceLocation: sourceLocation)
}

/// A value of the user's own that holds tensors.
private struct Batch: TensorTree {
  var images, labels: Tensor
  var count = 0
  mutating func visit(_ visitor: inout TensorVisitor) {
    visitor(&images)
    visitor(&labels)
    visitor(&count)
  }
}

/// Whether a compiled checkpoint with random numbers gives the values and gradients of an eager one.
private func checkpointsAgree() -> Bool {
  let x = Tensor([0.3, -0.8, 1.2, 0.1, 0.7, -0.4] as [Double], shape: [2, 3])
  let w = Parameter(Tensor([0.5, -0.2, 0.1] as [Double], shape: [3]), name: "w")
  func slope() -> [Tensor] {
    _ = Tensor.randn([2])
    let y = checkpoint(x) { x in tanh(x * w.value) * `where`(Tensor.bernoulli(x.shape), x, 0) }.sum()
    return [y, y.gradients(for: [w]).values[0] ?? x, Tensor.randn([2])]
  }
  let f = compile { () -> [Tensor] in slope() }
  seed(3)
  let expected = (0..<2).map { _ in slope().map(bits) }
  seed(3)
  return (0..<2).map { _ in f().map(bits) } == expected
}

private let lineThatReads = #line + 4
/// Decides by a value that is not there yet.
private func readAValueInside() {
  let f = compile { (x: Tensor) -> Tensor in
    x.sum().item() > 0 ? x : -x
  }
  _ = f(Tensor.ones([2]))
}

private func readAnotherVariableInARule() {
  let other = Variable(Tensor([3] as [Float]), name: "other")
  let f = compile { (x: Tensor) -> Tensor in customGradient(x) { x in (x * 2, { dy in dy * other.value }) } }
  _ = gradient(at: Tensor([1] as [Float])) { f($0).sum() }
}

/// What compiled functions take, give, capture and change.
@Suite struct CompileTests {
  private let x = Tensor([0.3, -0.8, 1.2, 0.1, 0.7, -0.4] as [Double], shape: [2, 3])
  private let w = Parameter(Tensor([0.5, -0.2, 0.1] as [Double], shape: [3]), name: "w")

  // MARK: State

  @Test func variablesAreReadAndWritten() {
    let count = Variable(Tensor(0.0).converted(to: .float64), name: "count")
    let f = compile { (x: Tensor) -> Tensor in
      count.value = count.value + 1
      let y = x * count.value
      count.value = count.value + 1
      return y + count.value
    }
    #expect(values(f(x)) == values(x * 1 + 2))
    #expect(values(count.value) == [2])
    #expect(values(f(x)) == values(x * 3 + 4))
    count.value = Tensor(10.0).converted(to: .float64)  // written outside, seen inside
    #expect(values(f(x)) == values(x * 11 + 12))
    #expect(f.report.traces.count == 1 && f.report.calls == 3)
  }

  /// Momentum written by hand: forward, gradients and update as one program.
  @Test func updatesAreThoseOfEagerExecution() throws {
    func training() -> (w: Parameter, step: (Tensor) -> Tensor) {
      let w = Parameter(w.value.detached(), name: "w")
      let velocity = Variable(Tensor.zeros([3], .float64), name: "velocity")
      return (
        w,
        { x in
          let loss = square(tanh(x * w.value).sum(axis: 1) - 1).mean()
          let gradient = loss.gradients(for: [w]).values[0] ?? Tensor.zeros([3], .float64)
          velocity.value = velocity.value * 0.9 + gradient
          w.value = w.value - velocity.value * 0.1
          return loss
        }
      )
    }
    let (eager, compiled) = (training(), training())
    let step = compile { compiled.step($0) }
    for _ in 0..<5 { #expect(bits(eager.step(x)) == bits(step(x))) }
    #expect(bits(eager.w.value) == bits(compiled.w.value))
    #expect(step.report.traces.count == 1)
    #expect(!step(x).isTracked, "a training step's loss keeps no old parameters alive")
  }

  @Test func randomNumbersAreThoseOfEagerExecution() {
    func noisy(_ x: Tensor, _ generator: Generator) -> Tensor {
      let mask = Tensor.bernoulli(x.shape, probability: 0.5, generator: generator)
      return `where`(mask, x, 0) + Tensor.randn(x.shape, .float64, generator: generator)
    }
    let (generator, eager) = (Generator(seed: 5), Generator(seed: 5))
    let f = compile { noisy($0, generator) }
    for _ in 0..<3 { #expect(bits(f(x)) == bits(noisy(x, eager))) }
    #expect(generator.state == eager.state, "the generator moves on as eager draws move it")
    generator.seed(5)
    eager.seed(5)
    #expect(bits(f(x)) == bits(noisy(x, eager)))
    #expect(f.report.traces.count == 1)
  }

  /// The default generator is everybody's, so this test has a process of its own.
  @Test func checkpointsDrawTheSameNumbersAgain() async {
    await #expect(processExitsWith: .success) { #expect(checkpointsAgree()) }
  }

  @Test func aRuleReadsOnlyWhatTheFunctionReads() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { readAnotherVariableInARule() },
      says: "gradients through program: a gradient rule reads other, which the function itself does not")
  }

  // MARK: Why programs are traced again

  @Test func theReportSaysWhatChanged() {
    let f = compile("square") { (x: Tensor, n: Int) in x * w.value * n }
    _ = f(x, 2)
    _ = f(x, 2)
    _ = f(Tensor.ones([4, 3], .float64), 2)
    _ = f(x, 2)  // known
    _ = f(x, 3)
    w.isTrainable = false
    _ = f(x, 3)
    #expect(f.report.calls == 6)
    #expect(f.report.traces.map(\.call) == [1, 3, 5, 6])
    let reasons = f.report.traces.map(\.reason)
    #expect(reasons[0] == "first call")
    #expect(reasons[1] == "part 0 of the arguments changed from float64[2, 3] to float64[4, 3]")
    #expect(reasons[2].contains("part 1 of the arguments changed from 2 to 3"))
    #expect(reasons[3] == "w: float64[3] is no longer trainable")
    #expect(f.report.description.hasPrefix("square: 6 calls, traced 4 times\n  call 1: first call"))
  }

  @Test func readingAValueStopsAtTheCallersLine() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { readAValueInside() }
    expect(result, says: "inside of a compiled function: this tensor has no value while the function is traced")
    expect(result, says: "decide with where, conditional or whileLoop")
    expect(result, says: "CompileTests.swift:\(lineThatReads))")
  }

  // MARK: Arguments and results

  @Test func valuesThatHoldTensors() {
    let f = compile { (batch: Batch, extra: [String: Tensor], list: [Tensor], maybe: Tensor?) in
      (
        Batch(images: batch.images * 2, labels: batch.labels + 1, count: batch.count + 1),
        ["sum": extra["a"]! + extra["b"]!], list.reversed() as [Tensor], maybe.map { $0 * 3 }
      )
    }
    let (a, b) = (Tensor([1, 2] as [Float]), Tensor([3, 4] as [Float]))
    let (batch, sum, list, maybe) = f(Batch(images: a, labels: b, count: 7), ["a": a, "b": b], [a, b, a], b)
    #expect(values(batch.images) == [2, 4] && values(batch.labels) == [4, 5] && batch.count == 8)
    #expect(values(sum["sum"]!) == [4, 6])
    #expect(list.map(values) == [[1, 2], [3, 4], [1, 2]])
    #expect(maybe.map(values) == [9, 12])
    let without = f(Batch(images: a, labels: b, count: 7), ["a": a, "b": b], [a], nil)
    #expect(without.3 == nil && without.2.map(values) == [[1, 2]])
    #expect(f.report.traces.count == 2)
  }

  @Test func argumentsPassedThroughAndNone() {
    let f = compile { (a: Tensor, b: Tensor) in (b, a, a) }
    let (p, q, r) = f(x, x * 2)
    #expect(bits(p) == bits(x * 2) && bits(q) == bits(x) && bits(r) == bits(x))
    let g = compile { () -> Tensor in w.value * 2 }
    #expect(values(g()) == values(w.value * 2))
    w.value = w.value * 3
    #expect(values(g()) == values(w.value * 2))
    let h = compile { (a: Tensor) in [Tensor]() }
    #expect(h(x).isEmpty)
  }

  @Test func compiledInsideOfCompiled() {
    let inner = compile("inner") { (x: Tensor) in x * w.value }
    let outer = compile("outer") { (x: Tensor) in inner(inner(x)) + 1 }
    #expect(bits(outer(x)) == bits(x * w.value * w.value + 1))
    #expect(inner.report.calls == 0 && outer.report.traces.count == 1)
    #expect(outer.program(x).graph.nodes.allSatisfy { $0.operation.functions.isEmpty })
  }

  @Test func constantsAreCapturedOnce() {
    let table = Tensor([1, 2, 3] as [Double], shape: [3])
    let f = compile { (x: Tensor) in (x * table + table).sum() * table }
    #expect(bits(f(x)) == bits((x * table + table).sum() * table))
    let constants = f.program(x).graph.nodes.filter { if case .constant = $0.operation { true } else { false } }
    #expect(constants.count == 1)
    // The constant is the tensor's own memory.
    if case .constant(let constant)? = constants.first?.operation {
      let address = constant.withUnsafeBytes { $0.baseAddress }
      #expect(address == table.withUnsafeBytes { $0.baseAddress })
    }
  }

  // MARK: Gradients through results

  @Test func gradientsOfParametersThroughResults() throws {
    let bias = Variable(Tensor(0.5).converted(to: .float64), name: "bias")
    func loss(_ x: Tensor) -> Tensor { square(tanh(x * w.value) + bias.value).sum() }
    let f = compile { loss($0) }
    let result = f(x)
    // Whatever happens to variables afterwards, the gradient is the one at the values of the run.
    let expected = try #require(loss(x).gradients(for: [w])[w])
    let kept = w.value.detached()
    w.value = w.value * 5
    bias.value = bias.value * 7
    #expect(bits(try #require(result.gradients(for: [w])[w])) == bits(expected))
    w.value = kept
    #expect(f.report.traces.count == 1)
    #expect(!withoutGradient { f(x) }.isTracked)
    #expect(!compile { (x: Tensor) in x * 2 }(x).isTracked)
  }

  @Test func gradientsOfArgumentsThroughResults() {
    let f = compile { (x: Tensor) in (tanh(x * w.value), x.argMax(axis: 1), (x * 2).detached()) }
    let got = gradient(at: x) { x in
      let (y, _, z) = f(square(x))
      return (y * y + z).sum()
    }
    let expected = gradient(at: x) { x in (square(tanh(square(x) * w.value))).sum() }
    expectClose([got], [expected], "through one of three results")
  }

  @Test func gradientsOfGradientsThroughResults() {
    let f = compile { (x: Tensor) in (tanh(x * w.value) * x).sum() }
    func slope(_ f: @escaping (Tensor) -> Tensor) -> Tensor {
      gradient(at: x) { x in square(gradient(at: x) { f($0) * 2 }).sum() }
    }
    let plain = slope { x in (tanh(x * w.value) * x).sum() }
    expectClose([slope { f($0) }], [plain], "second gradient")
  }

  @Test func capturedTensorsWithAHistory() throws {
    let scale = w.value * 2  // computed outside, part of the program
    let f = compile { (x: Tensor) in (x * scale).sum() }
    expectClose([try #require(f(x).gradients(for: [w])[w])], [x.sum(axis: 0) * 2], "captured")
  }

  @Test func customGradientsAndCheckpointsThroughResults() throws {
    func f(_ x: Tensor) -> Tensor {
      let y = customGradient(x * w.value) { v in (tanh(v), { dy in dy * 3 }) }
      return checkpoint(y) { square($0 * w.value) }.sum() + (x * w.value).detached().sum()
    }
    let program = compile { f($0) }
    expectClose(
      [try #require(program(x).gradients(for: [w])[w])], [try #require(f(x).gradients(for: [w])[w])], "own rules")
  }
}
