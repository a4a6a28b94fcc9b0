import Testing

@testable import ApusCPU
@testable import ApusIR

@Suite struct EpilogueTests {
  private static let types: [ElementType] = [.float32, .float64, .bfloat16, .float16]

  /// Compared with the graph operation by operation, by the graph of the pass and by the plan.
  private func expectSame(
    _ source: Graph, kernels: Int, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation
  )
    throws
  {
    let after = Epilogues.run(simplified(source))
    try after.verify()
    let inputs = arrays(source.inputTypes)
    let plan = Plan(source)
    expectSafe(plan)
    let reference = try CPU.run(source, inputs).map(bits)
    #expect(plan.kernelCount == kernels, "\(comment ?? "") \(plan.graph.names)", sourceLocation: sourceLocation)
    #expect(try CPU.run(after, inputs).map(bits) == reference, comment, sourceLocation: sourceLocation)
    #expect(try plan.run(inputs).map(bits) == reference, comment, sourceLocation: sourceLocation)
  }

  @Test(arguments: types) func products(_ type: ElementType) throws {
    func types(_ shapes: [Shape]) -> [TensorType] { shapes.map { TensorType($0, type) } }
    let operands = types([[9, 20], [20, 33], [33], [9, 33]])
    func product(_ x: [Term]) -> Term { x[0].matmul(x[1]) }
    // In half precision the bias is added after the product is rounded, by a kernel of its own.
    let one = type == .float32 || type == .float64 ? 1 : 2
    try expectSame(graph(operands) { _, x in [product(x) + x[2]] }, kernels: one, "bias")
    try expectSame(graph(operands) { _, x in [x[2].broadcast([9, 33]) + product(x)] }, kernels: one, "bias first")
    try expectSame(graph(operands) { _, x in [product(x) + x[3]] }, kernels: 1, "residual")
    try expectSame(graph(operands) { _, x in [product(x) + x[2] + x[3]] }, kernels: one, "bias, residual")
    for kind in [UnaryKind.relu, .gelu, .geluTanh, .sigmoid, .tanh, .silu] {
      try expectSame(graph(operands) { _, x in [product(x).unary(kind)] }, kernels: 1, "\(kind)")
      try expectSame(graph(operands) { _, x in [(product(x) + x[2]).unary(kind)] }, kernels: one, "bias, \(kind)")
      try expectSame(
        graph(operands) { _, x in [(product(x) + x[2]).unary(kind) + x[3]] }, kernels: one, "bias, \(kind), residual")
      try expectSame(
        graph(operands) { _, x in [(product(x) + x[2] + x[3]).unary(kind)] }, kernels: one, "bias, residual, \(kind)")
    }
    let batched = types([[3, 9, 20], [3, 20, 33], [33], [3, 9, 33]])
    try expectSame(graph(batched) { _, x in [(product(x) + x[2]).unary(.relu) + x[3]] }, kernels: one, "batched")
    let linear = types([[2, 9, 20], [33, 20], [33], [2, 9, 33]])
    func apply(_ b: DecompositionBuilder, _ x: [Term]) -> Term { b.apply(.composite(.linear), Array(x[..<3]))[0] }
    try expectSame(graph(linear) { b, x in [apply(b, x).unary(.gelu) + x[3]] }, kernels: 1, "linear")
    // A residual that lies otherwise is copied.
    let turned = types([[9, 20], [20, 33], [33], [33, 9]])
    try expectSame(graph(turned) { _, x in [product(x) + x[3].transpose([1, 0])] }, kernels: 2, "transposed residual")
    try expectSame(graph(turned) { _, x in [product(x).unary(.relu) + x[3].transpose([1, 0])] }, kernels: 2, "transposed, after")
  }

  @Test func convolutions() throws {
    let p = ConvolutionParameters(
      stride: [1, 1], padLow: [1, 1], padHigh: [1, 1], kernelDilation: [1, 1], inputDilation: [1, 1])
    let types = [[2, 3, 9, 10], [6, 3, 3, 3], [6]].map(float)
    try expectSame(graph(types) { b, x in [b.apply(.convolution(p), x)[0].unary(.relu)] }, kernels: 1)
    try expectSame(graph(types) { b, x in [b.apply(.convolution(p), Array(x[..<2]))[0].unary(.relu)] }, kernels: 1)
    try expectSame(graph(types) { b, x in [b.apply(.convolution(p), x)[0].unary(.tanh)] }, kernels: 1)
  }

  @Test func whatIsReadTwiceStays() throws {
    let types = [[9, 20], [20, 33], [33], [9, 33]].map(float)
    let source = graph(types) { _, x in
      let y = x[0].matmul(x[1])
      return [y + x[2], y]
    }
    #expect(Epilogues.run(simplified(source)).names.contains("matmul"))
    let twice = graph(types) { _, x in
      let y = x[0].matmul(x[1])
      return [y + y]
    }
    #expect(Epilogues.run(simplified(twice)) == simplified(twice))
    // Two activations, two residuals: the second is left.
    let more = graph(types) { _, x in [(x[0].matmul(x[1]).unary(.relu).unary(.tanh) + x[3]) + x[3]] }
    try expectSame(more, kernels: 2)
    for graph in [source, twice] {
      let inputs = arrays(graph.inputTypes)
      #expect(try Plan(graph).run(inputs).map(bits) == CPU.run(graph, inputs).map(bits))
    }
  }

  /// One product is the other's residual: the second takes the first, never both each other.
  @Test func sumsOfProducts() throws {
    let types = [[9, 20], [20, 33], [33], [9, 33]].map(float)
    try expectSame(graph(types) { _, x in [x[0].matmul(x[1]) + (x[0] * 2.0).matmul(x[1])] }, kernels: 3)
  }
}
