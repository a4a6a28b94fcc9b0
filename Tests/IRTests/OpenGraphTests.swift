import ApusIR
import Testing

@Suite struct OpenGraphTests {
  /// x [n, m, 3] summed over its first dimension, each as often repeated as there are elements; a mean; a slice but the last.
  private func program(_ n: Int, _ m: Int, offset: Int = 0) throws -> Graph {
    var graph = Graph()
    let x = graph.addInput(TensorType([n, m, 3], .float32), name: "x")
    let flat = try graph.append(.reshape([n * m, 3]), [x]).lowerBound
    let sum = try graph.append(.reduce(.sum, [0], keepDims: false), [flat]).lowerBound
    let count = try graph.append(.fill([3], .float32, .double(1 / Double(n * m))), []).lowerBound
    let mean = try graph.append(.binary(.mul), [sum, count]).lowerBound
    let tail = try graph.append(.slice(start: [0, m - 1 - offset, 0], size: [n, 1, 3], step: [1, 1, 1]), [x]).lowerBound
    let size = try graph.append(.fill([], .int64, .int(2 * n + 1)), []).lowerBound
    graph.setOutputs([mean, tail, size], names: ["mean", "tail", "size"])
    return graph
  }

  private let axes = [OpenGraph.Axis("n", low: 5, high: 7), OpenGraph.Axis("m", low: 11, high: 13)]

  @Test func numbersFollowTheSizes() throws {
    let open = try OpenGraph([program(5, 11), program(7, 11), program(5, 13), program(7, 13)], axes: axes)
    for (n, m) in [(1, 1), (5, 11), (7, 13), (2, 40), (1000, 3)] { #expect(try open.graph([n, m]) == program(n, m)) }
    // A number that is a size less one cannot be of size 0.
    #expect(throws: GraphError.self) { try open.graph([4, 0]) }
    #expect(throws: GraphError.self) { try open.graph([-1, 4]) }
    #expect(throws: GraphError.self) { try open.graph([1 << 39, 1 << 39]) }
    #expect(throws: GraphError.self) { try open.graph([Int.max, 1]) }
  }

  @Test func whatIsNotMultilinearIsNamed() throws {
    func one(_ n: Int, _ value: Scalar, _ type: ElementType = .float32) throws -> Graph {
      var graph = Graph()
      let x = graph.addInput(TensorType([n], .float32), name: "x")
      let y = try graph.append(.fill([n], .float32, value), []).lowerBound
      graph.setOutputs([try graph.append(.binary(.mul), [x, y]).lowerBound])
      return graph
    }
    let axis = [OpenGraph.Axis("n", low: 5, high: 7)]
    let root = { (n: Int) in Scalar.double(1 / Double(n).squareRoot()) }
    let error = #expect(throws: GraphError.self) { try OpenGraph([one(5, root(5)), one(7, root(7))], axes: axis) }
    #expect(error?.description.contains("fill") == true && error?.node == 0)
    // Half of n is whole at every second size.
    let half = try OpenGraph([one(4, .int(2)), one(8, .int(4))], axes: [.init("n", low: 4, high: 8)])
    #expect(try half.graph([6]) == one(6, .int(3)))
    #expect(throws: GraphError.self) { try half.graph([7]) }
  }

  @Test func otherOperationsAreNamed() throws {
    func one(_ n: Int, _ operations: [Operation]) throws -> Graph {
      var graph = Graph()
      var x = graph.addInput(TensorType([n, 2], .float32), name: "x")
      for operation in operations { x = try graph.append(operation, [x]).lowerBound }
      graph.setOutputs([x])
      return graph
    }
    let axis = [OpenGraph.Axis("n", low: 5, high: 7)]
    func message(_ a: [Operation], _ b: [Operation]) -> String {
      do {
        _ = try OpenGraph([one(5, a), one(7, b)], axes: axis)
        return ""
      } catch { return "\(error)" }
    }
    #expect(message([.unary(.exp)], [.unary(.log)]).contains("exp is log"))
    #expect(message([.transpose([0, 1])], [.transpose([1, 0])]).contains("transpose is another one"))
    #expect(message([.unary(.exp)], [.unary(.exp), .unary(.tanh)]).contains("tanh is there at one size"))
    #expect(
      message([.reshape([10])], [.reshape([14, 1])]).contains("reshape is another one")
        || message([.reshape([10])], [.reshape([14, 1])]).contains("ranks"))
  }

  @Test func functionsInsideFollow() throws {
    func loop(_ n: Int) throws -> Graph {
      var body = Graph()
      let state = body.addInput(TensorType([n], .float32))
      let element = body.addInput(TensorType([n], .float32))
      let next = try body.append(.binary(.add), [state, element]).lowerBound
      body.setOutputs([next, next])
      var graph = Graph()
      let start = graph.addInput(TensorType([n], .float32), name: "start")
      let xs = graph.addInput(TensorType([2 * n, n], .float32), name: "xs")
      let scan = ScanLoop(body: Function("body", body), carried: 1, sequences: 1, length: 2 * n)
      let results = try graph.append(.scanLoop(scan), [start, xs])
      graph.setOutputs(Array(results))
      return graph
    }
    let open = try OpenGraph([loop(5), loop(7)], axes: [.init("n", low: 5, high: 7)])
    #expect(try open.graph([3]) == loop(3))
  }

  @Test func severalFunctionsInOneText() throws {
    let module = GraphModule([("serve", try program(2, 3)), ("serve_2", try program(4, 3)), ("main", try program(1, 1))])
    let text = module.stableHLO(name: "test") { _, _, _ in nil }
    let read = try GraphModule(stableHLO: text)
    #expect(read.functions.map(\.name) == ["serve", "serve_2", "main"])
    for (a, b) in zip(read.functions, module.functions) {
      #expect(a.graph.inputTypes == b.graph.inputTypes && a.graph.outputTypes == b.graph.outputTypes)
      #expect(a.graph.outputNames == b.graph.outputNames)
    }
  }
}
