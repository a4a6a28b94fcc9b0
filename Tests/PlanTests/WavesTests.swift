import Testing

@testable import ApusCPU
@testable import ApusIR

/// Where an operand lies: a place and bytes of it.
private func range(_ plan: Plan, _ operand: Plan.Operand) -> (place: Plan.Place, bytes: Range<Int>) {
  let (shape, strides) = (operand.layout.shape, operand.layout.strides)
  var (low, high) = (operand.layout.byteOffset, operand.layout.byteOffset)
  for (size, stride) in zip(shape, strides) {
    let reach = (size - 1) * stride * operand.layout.elementType.byteSize
    if reach < 0 { low += reach } else { high += reach }
  }
  let bytes = shape.elementCount == 0 ? low..<low : low..<(high + operand.layout.elementType.byteSize)
  if case .buffer(let b) = operand.place {
    return (.buffer(-1), (bytes.lowerBound + plan.offsets[b])..<(bytes.upperBound + plan.offsets[b]))
  }
  return (operand.place, bytes)
}

/// What must hold for any plan: steps of a wave neither write what another one reads nor what it writes, and waves are all steps in
/// order.
func expectSafe(_ plan: Plan, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation) {
  #expect(plan.waves.flatMap { Array($0) } == Array(plan.steps.indices), comment, sourceLocation: sourceLocation)
  func overlap(_ a: Plan.Operand, _ b: Plan.Operand) -> Bool {
    let (x, y) = (range(plan, a), range(plan, b))
    if x.bytes.overlaps(y.bytes) && x.place == y.place { return true }
    // A result may be made in its donor's memory.
    if case .result(let k) = x.place, let i = plan.donors[k] { return y.place == .input(i) }
    if case .result(let k) = y.place, let i = plan.donors[k] { return x.place == .input(i) }
    return false
  }
  for wave in plan.waves {
    for i in wave {
      for j in wave where j != i {
        for written in plan.steps[i].out {
          let others = plan.steps[j].inputs + plan.steps[j].out
          #expect(!others.contains { overlap(written, $0) }, comment, sourceLocation: sourceLocation)
        }
      }
    }
  }
}

@Suite struct WavesTests {
  private func branches(_ count: Int) -> Graph {
    graph([float([48, 48])]) { b, x in
      let factors = (0..<count).map { i in x[0] * (Double(i) + 0.5) }
      return [b.concatenate(factors.map { x[0].matmul($0.transpose([1, 0])) }, axis: 0)]
    }
  }

  @Test func independentStepsRunSideBySide() throws {
    let source = branches(6)
    let plan = Plan(source)
    expectSafe(plan)
    #expect(plan.waves.contains { $0.count > 1 }, "\(plan.waves)")
    let inputs = arrays(source.inputTypes)
    let expected = try CPU.run(source, inputs).map(bits)
    for _ in 0..<20 { #expect(try plan.run(inputs).map(bits) == expected) }
  }

  @Test func chainsRunOneByOne() throws {
    let source = graph([float([48, 48])]) { _, x in
      var y = x[0]
      for _ in 0..<6 { y = y.matmul(x[0]) * 0.01 }
      return [y]
    }
    let plan = Plan(source)
    expectSafe(plan)
    #expect(plan.waves.allSatisfy { $0.count == 1 })
  }

  /// What is next to nothing wakes no other thread.
  @Test func littleWorkStaysOnOneThread() {
    let plan = Plan(graph([float([2, 2])]) { b, x in [b.concatenate((0..<6).map { _ in x[0].matmul(x[0]) }, axis: 0)] })
    #expect(plan.waves.allSatisfy { $0.count == 1 })
  }

  @Test func customCallsRunAlone() throws {
    CPU.register(customCall: "apus.test.sum") { inputs, _ in inputs }
    let call = Operation.customCall(CustomCall("apus.test.sum", resultTypes: [float([64, 64])]))
    let plan = Plan(
      graph([float([64, 64])]) { b, x in
        [b.concatenate((0..<4).map { i in b.apply(call, [x[0] * Double(i)])[0].matmul(x[0]) }, axis: 0)]
      })
    expectSafe(plan)
    for wave in plan.waves where wave.count > 1 { #expect(wave.allSatisfy { plan.steps[$0].kernel.isPure }) }
  }

  /// An error of one step is the run's error, the first step's if several fail; the plan runs again afterwards.
  @Test func errorsComeOutOfWaves() throws {
    let types = [float([300, 64])] + (0..<4).map { _ in TensorType([2000], .int64) }
    let source = graph(types) { b, x in
      [b.concatenate((1...4).map { b.apply(.gather(axis: 0), [x[0], x[$0]])[0] }, axis: 0)]
    }
    let plan = Plan(source)
    expectSafe(plan)
    let table = arrays([types[0]])[0]
    func indices(_ x: Double) -> CPUArray { array(Array(repeating: x, count: 2000), [2000], .int64) }
    let good = [table] + (0..<4).map { indices(Double($0)) }
    let expected = try CPU.run(source, good).map(bits)
    for _ in 0..<5 {
      #expect(throws: ExecutionError.self) { try plan.run([table, indices(1), indices(700), indices(2), indices(900)]) }
      do {
        _ = try plan.run([table, indices(1), indices(700), indices(2), indices(900)])
      } catch { #expect(error.description.contains("700"), "\(error)") }
      #expect(try plan.run(good).map(bits) == expected)
    }
  }
}
