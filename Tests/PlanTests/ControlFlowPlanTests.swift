import Testing

@testable import ApusCPU
@testable import ApusIR

@Suite struct ControlFlowPlanTests {
  /// s ← tanh(s · w + x) · s + b over the elements of x, and each s: one matrix product, then operations that fuse.
  private static func recurrence(rows: Int, width: Int, length: Int) throws -> Graph {
    let state = TensorType([rows, width], .float32)
    var body = Graph()
    let (s, x) = (body.addInput(state), body.addInput(state))
    let (w, b) = (body.addInput(TensorType([width, width], .float32)), body.addInput(state))
    let bias = body.addInput(TensorType([width], .float32))
    let product = try body.append(.composite(.linear), [s, w, bias]).lowerBound
    let sum = try body.append(.binary(.add), [product, x]).lowerBound
    let curve = try body.append(.unary(.tanh), [sum]).lowerBound
    let scaled = try body.append(.binary(.mul), [curve, s]).lowerBound
    let next = try body.append(.binary(.add), [scaled, b]).lowerBound
    body.setOutputs([next, next])
    var graph = Graph()
    let inputs = [
      graph.addInput(state), graph.addInput(TensorType([length, rows, width], .float32)),
      graph.addInput(TensorType([width, width], .float32)), graph.addInput(state), graph.addInput(TensorType([width], .float32)),
    ]
    let loop = ScanLoop(body: Function("body", body), carried: 1, sequences: 1, length: length)
    graph.setOutputs(Array(try graph.append(.scanLoop(loop), inputs)))
    return graph
  }

  @Test func bodiesOfLoopsArePlans() throws {
    let graph = try Self.recurrence(rows: 3, width: 5, length: 7)
    let plan = Plan(graph)
    let kernel = try #require(plan.steps.compactMap { $0.kernel as? ControlFlowKernel }.first)
    // The product with what follows it, and a step for what is left at most.
    #expect(kernel.plans[0].kernelCount < 5 && plan.memory.bodies == kernel.keptBytes)
    let inputs = arrays(graph.inputTypes)
    let expected = try CPU.run(graph, inputs)
    for _ in 0..<2 {
      let results = try plan.run(inputs)
      #expect(zip(results, expected).allSatisfy { bits($0) == bits($1) })
    }
  }

  @Test func bothBranchesArePlans() throws {
    let type = TensorType([4, 6], .float32)
    func branch(_ kind: UnaryKind) throws -> Function {
      var graph = Graph()
      let x = graph.addInput(type)
      let y = try graph.append(.unary(kind), [x]).lowerBound
      graph.setOutputs([try graph.append(.binary(.mul), [x, y]).lowerBound, x])
      return Function("\(kind)", graph)
    }
    var graph = Graph()
    let (p, x) = (graph.addInput(TensorType([], .bool)), graph.addInput(type))
    graph.setOutputs(Array(try graph.append(.conditional(then: try branch(.tanh), otherwise: try branch(.exp)), [p, x])))
    let plan = Plan(graph)
    for choice in [0.0, 1] {
      let inputs = [array([choice], [], .bool), arrays([type])[0]]
      let (results, expected) = (try plan.run(inputs), try CPU.run(graph, inputs))
      #expect(zip(results, expected).allSatisfy { bits($0) == bits($1) })
    }
  }
}
