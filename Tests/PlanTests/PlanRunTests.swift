import CApusKernels
import Testing

@testable import ApusCPU
@testable import ApusIR

/// What a plan promises to its callers.
@Suite struct PlanRunTests {
  private static func network(scale: Int = 1) -> Graph {
    let (rows, inputs, outputs) = (16 * scale, 40 * scale, 50 * scale)
    return graph([[rows, inputs], [inputs, outputs], [outputs], [outputs, outputs]].map(float)) { b, x in
      let h = (x[0].matmul(x[1]) + x[2]).unary(.gelu)
      let p = b.apply(.composite(.softmax), [h.matmul(x[3])])[0]
      return [p, (p * h).sum([0]), h.transpose([1, 0]).unary(.sin) * 2.0]
    }
  }

  /// A model that is unloaded gives its memory back.
  @Test func aPlanThatHasRunIsReleased() throws {
    weak var released: Plan?
    do {
      let source = Self.network()
      let plan = Plan(source)
      released = plan
      _ = try plan.run(arrays(source.inputTypes, seed: 1))
      #expect(released != nil)
    }
    #expect(released == nil)
  }

  @Test func manyTasksRunOnePlan() async throws {
    let source = Self.network()
    let plan = Plan(source, stable: [3])
    let weights = Array(arrays(source.inputTypes, seed: 7)[1...])
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for task in 0..<16 {
        group.addTask {
          let x = arrays([source.inputTypes[0]], seed: task)
          let expected = try CPU.run(source, x + weights).map(bits)
          for _ in 0..<20 where try plan.run(x + weights, versions: [0, 0, 0, 1]).map(bits) != expected { return false }
          return true
        }
      }
      for try await same in group { #expect(same) }
    }
  }

  /// What depends on stable inputs alone is computed when one of them is another version, and only then.
  @Test func stableValuesAreComputedOncePerVersion() throws {
    let source = graph([float([4, 4]), float([4, 4]), float([4])]) { _, x in
      [x[0] + x[1].matmul(x[1]).unary(.sin), x[2].unary(.exp)]
    }
    let plan = Plan(source, stable: [1, 2])
    #expect(plan.stableInputs == [1, 2] && plan.kernelCount == 1)
    let first = arrays(source.inputTypes, seed: 1)
    let second = [first[0]] + arrays(Array(source.inputTypes[1...]), seed: 2)
    let (a, b) = (try CPU.run(source, first).map(bits), try CPU.run(source, second).map(bits))
    #expect(a != b)
    #expect(try plan.run(first, versions: [0, 1, 1]).map(bits) == a)
    #expect(try plan.run(second, versions: [9, 1, 1]).map(bits) == a, "the versions say that nothing changed")
    #expect(try plan.run(second, versions: [0, 2, 1]).map(bits) == b, "one is another: all are computed again")
    #expect(try plan.run(first, versions: [0, 1, 1]).map(bits) == a, "an older version is another one too")
  }

  // MARK: Results

  @Test func resultsThatAreSomethingElse() throws {
    let numbers = (1...6).map(Float.init).withUnsafeBytes { Constant(float([2, 3]), bytes: $0) }
    let source = graph([float([2, 3]), float([2, 3])]) { b, x in
      let c = b.apply(.constant(numbers), [])[0]
      let y = x[0] + x[1]
      return [
        x[0], x[0], x[1].transpose([1, 0]), c, c.transpose([1, 0]), y, y, y.transpose([1, 0]), y.slice(1, 1, 2),
        b.apply(.reverse([0, 1]), [y])[0], y.reshape([6]), b.fill(3.0, [2, 3], .float32), b.fill(3.0, [], .float32),
        x[0].slice(0, 1, 1).broadcast([5, 3]), y.slice(0, 0, 1).reshape([3]).broadcast([2, 3]),
      ]
    }
    let plan = Plan(source)
    expectSafe(plan)
    let inputs = arrays(source.inputTypes)
    let expected = try CPU.run(source, inputs)
    let results = try plan.run(inputs)
    #expect(results.map(\.type) == expected.map(\.type) && results.map(bits) == expected.map(bits))
    #expect(results[0].pointer == inputs[0].pointer, "an input is given back as it is")
    // Results of two runs do not share memory; those of one may be kept while the plan runs on.
    _ = try plan.run(arrays(source.inputTypes, seed: 2))
    #expect(results.map(bits) == expected.map(bits))
  }

  @Test func inputsInAnyLayout() throws {
    let source = Self.network()
    let inputs = arrays(source.inputTypes)
    let turned = inputs.map { x in
      x.shape.count < 2 ? x : CPU.transpose(CPU.transpose(x, [1, 0]).copy(), [1, 0])
    }
    #expect(turned.contains { !$0.isRowMajor })
    let plan = Plan(source)
    #expect(try plan.run(turned).map(bits) == plan.run(inputs).map(bits))
  }

  @Test func emptyTensorsAndScalars() throws {
    let empty = graph([[0, 4], [4, 3], [3], [0, 3]].map(float)) { b, x in
      let y = (x[0].matmul(x[1]) + x[2]).unary(.relu) + x[3]
      return [y, y.sum([0]), y.unary(.exp), b.concatenate([y, y], axis: 0), b.apply(.composite(.softmax), [y])[0]]
    }
    let scalars = graph([float([]), float([]), TensorType([], .bool)]) { b, x in
      let y = x[0] * x[1] + 2.0
      return [y, b.select(x[2], y, x[0]), y.reshape([1, 1]), y.unary(.exp).convert(.int64), x[2]]
    }
    for source in [empty, scalars, graph([]) { _, _ in [] }, graph([float([2])]) { _, _ in [] }] {
      for exact in [true, false] {
        let plan = Plan(source, exact: exact)
        expectSafe(plan)
        let inputs = arrays(source.inputTypes)
        let expected = try CPU.run(source, inputs)
        for _ in 0..<2 {
          let results = try plan.run(inputs)
          #expect(results.map(\.type) == expected.map(\.type) && results.map(bits) == expected.map(bits))
        }
      }
    }
  }

  // MARK: Donations

  @Test func donationsAreInPlaceWhereNothingReadsTheOldValueLater() throws {
    let x = float([8, 8])
    let cases: [(name: String, graph: Graph, inPlace: Bool)] = [
      ("elementwise", graph([x, x]) { _, x in [x[0] * 0.5 + x[1]] }, true),
      ("read before", graph([x, x]) { _, x in [x[0].matmul(x[1]).sum([0]) + x[0]] }, true),
      ("read later", graph([x, x]) { _, x in [x[0] * 0.5 + x[1], x[0].matmul(x[1])] }, true),
      ("its own transposition", graph([x, x]) { _, x in [x[0] + x[0].transpose([1, 0])] }, false),
      ("given back", graph([x, x]) { _, x in [x[0] * 0.5 + x[1], x[0]] }, false),
      ("another input", graph([x, x]) { _, x in [x[1]] }, true),
      ("a product", graph([x, x]) { _, x in [x[0].matmul(x[1])] }, false),
      ("unchanged", graph([x, x]) { _, x in [x[0]] }, true),
      ("a fill", graph([x, x]) { b, x in [b.fill(2.0, [8, 8], .float32)] }, true),
    ]
    for (name, source, inPlace) in cases {
      let plan = Plan(source, donations: [0: 0])
      expectSafe(plan, "\(name)")
      let inputs = arrays(source.inputTypes)
      let expected = try CPU.run(source, inputs).map(bits)
      if name != "read later" { #expect((plan.donors[0] == 0) == inPlace, "\(name)") }
      // With and without memory that may be written.
      #expect(try plan.run(inputs).map(bits) == expected, "\(name)")
      let own = inputs.map { $0.copy() }
      let results = try plan.run(own, into: plan.donors[0] == 0 ? [0: own[0]] : [:])
      #expect(results.map(bits) == expected, "\(name)")
      if plan.donors[0] == 0 { #expect(results[0].pointer == own[0].pointer, "\(name)") }
    }
  }

  /// Two variables exchanged: neither can be written before the other is read.
  @Test func exchangedVariables() throws {
    let x = float([30])
    let source = graph([x, x]) { _, x in [x[1] * 2.0, x[0] * 3.0] }
    let plan = Plan(source, donations: [0: 0, 1: 1])
    expectSafe(plan)
    let inputs = arrays(source.inputTypes)
    let expected = try CPU.run(source, inputs).map(bits)
    let own = inputs.map { $0.copy() }
    var taken: [Int: CPUArray] = [:]
    for (k, i) in plan.donors.enumerated() { if let i { taken[k] = own[i] } }
    #expect(try plan.run(own, into: taken).map(bits) == expected)
    let plain = graph([x, x]) { _, x in [x[1], x[0]] }
    let exchange = Plan(plain, donations: [0: 0, 1: 1])
    let copies = inputs.map { $0.copy() }
    taken = [:]
    for (k, i) in exchange.donors.enumerated() { if let i { taken[k] = copies[i] } }
    #expect(try exchange.run(copies, into: taken).map(bits) == [bits(inputs[1]), bits(inputs[0])])
  }

  // MARK: Memory

  @Test func memoryAddsUp() {
    let x = float([32, 32])
    let source = graph([x, x]) { b, x in
      let fixed = x[1].unary(.exp).matmul(x[1])
      let y = x[0].matmul(fixed)
      return [y.unary(.sin).matmul(y).sum([0]), x[0] * 0.5]
    }
    let plan = Plan(source, stable: [1], donations: [0: 1])
    let bytes = 32 * 32 * 4
    #expect(plan.memory.inputs == 2 * bytes && plan.memory.stable == bytes + 4, "the product and the number 0.5")
    #expect(plan.memory.results == 32 * 4 + (plan.donors[1] == nil ? bytes : 0))
    #expect(plan.memory.arena % MemoryPlan.alignment == 0 && plan.memory.arena <= 3 * bytes && plan.memory.arena >= 2 * bytes)
    #expect(plan.memory.total == plan.memory.arena + plan.memory.stable + plan.memory.inputs + plan.memory.results)
    // A group that is fused has no temporaries.
    #expect(Plan(graph([x, x]) { _, x in [(x[0] + x[1]).unary(.exp).unary(.sin) * x[0]] }).memory.arena == 0)
  }

  /// A second run keeps no tensor memory but its results, and takes nothing from the system: what kernels need while they run
  /// (packed panels, partial sums) is in the cache. In a process of its own, where nobody else allocates. How many threads need
  /// such memory at once is decided anew in each run, so with several it is only from some run on that nothing more is taken.
  @Test(arguments: [1, 2, 3]) func aSecondRunAllocatesOnlyItsResults(threads: Int) async {
    await #expect(processExitsWith: .success) { [threads] in
      apus_set_thread_count(Int32(threads))
      let source = PlanRunTests.network(scale: 20)
      let plan = Plan(source, stable: [1])
      let inputs = arrays(source.inputTypes)
      let versions: [UInt64] = [0, 1, 0, 0]
      for _ in 0..<10 { _ = try plan.run(inputs, versions: versions) }
      func rounded(_ x: Int) -> Int {
        let before = apus_memory().in_use
        return withExtendedLifetime(Storage(byteCount: x)) { Int(apus_memory().in_use - before) }
      }
      let results = source.outputTypes.reduce(0) { $0 + rounded($1.shape.elementCount * 4) }
      var unchanged = 0
      for run in 0..<1_000 where unchanged < 3 {
        let before = apus_memory()
        let kept = try plan.run(inputs, versions: versions)
        let now = apus_memory()
        precondition(Int(now.in_use - before.in_use) == results, "\(now.in_use - before.in_use) bytes for \(results)")
        unchanged = now.in_use + now.cached == before.in_use + before.cached ? unchanged + 1 : 0
        precondition(threads > 1 || unchanged == run + 1, "the system gave memory")
        withExtendedLifetime(kept) {}
      }
      precondition(unchanged == 3, "the system gives memory on and on")
    }
  }
}
