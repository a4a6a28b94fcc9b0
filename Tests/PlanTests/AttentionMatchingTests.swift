import Foundation
import Testing

@testable import ApusCPU
@testable import ApusIR

/// Attention in primitives never makes its matrix of scores.
@Suite struct AttentionMatchingTests {
  private func softmax(_ x: Term) -> Term {
    let last = Axes([x.rank - 1])
    let e = (x - x.reduce(.max, last, keepDims: true)).unary(.exp)
    return e / e.sum(last, keepDims: true)
  }

  private func dot(_ a: Term, _ b: Term, _ lhsBatch: Axes, _ rhsBatch: Axes, _ lhs: Int, _ rhs: Int) -> Term {
    a.builder.apply(
      .dot(DotDimensions(lhsBatch: lhsBatch, rhsBatch: rhsBatch, lhsContracting: [lhs], rhsContracting: [rhs])), [a, b])[0]
  }

  @discardableResult
  private func matched(
    _ source: Graph, causal: Bool = false, operands: Int = 3, inputs: [CPUArray]? = nil, bound: Double = 1e-5,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> Graph {
    let after = withMatchedKernels(simplified(source))
    try after.verify()
    let node = try #require(
      after.nodes.first { $0.operation.name == "attention" }, "\(after.names)", sourceLocation: sourceLocation)
    if case .composite(.attention(_, let isCausal)) = node.operation {
      #expect(isCausal == causal, sourceLocation: sourceLocation)
    }
    #expect(node.inputs.count == operands && after.count("matmul") == 0, sourceLocation: sourceLocation)
    let inputs = inputs ?? arrays(source.inputTypes, range: 2)
    let reference = try CPU.run(source, inputs)[0]
    #expect(distance(try CPU.run(after, inputs)[0], reference) < bound, sourceLocation: sourceLocation)
    #expect(distance(try Plan(source, exact: false).run(inputs)[0], reference) < bound, sourceLocation: sourceLocation)
    return after
  }

  private let q = float([2, 3, 5, 8]), k = float([2, 3, 7, 8]), v = float([2, 3, 7, 4])

  @Test func plain() throws {
    try matched(graph([q, k, v]) { _, x in [softmax(x[0].matmul(x[1].transposed()) * 0.25).matmul(x[2])] })
    try matched(graph([q, k, v]) { _, x in [softmax(x[0].matmul(x[1].transposed()) / 2.5).matmul(x[2])] })
    try matched(graph([q, k, v]) { _, x in [softmax((x[0] * 0.25).matmul(x[1].transposed())).matmul(x[2])] })
    try matched(graph([q, k, v]) { _, x in [softmax(x[0].matmul(x[1].transposed())).matmul(x[2])] })
    // One batch dimension, and none.
    try matched(
      graph([float([3, 5, 8]), float([3, 7, 8]), float([3, 7, 4])]) { _, x in
        [softmax(x[0].matmul(x[1].transposed()) * 0.25).matmul(x[2])]
      })
    try matched(
      graph([float([5, 8]), float([7, 8]), float([7, 4])]) { _, x in
        [softmax(x[0].matmul(x[1].transposed()) * 0.25).matmul(x[2])]
      })
  }

  /// [batch, positions, heads, dim], as JAX's einsum writes it, and v on the left.
  @Test func anyOrderOfDimensions() throws {
    let types = [float([2, 5, 3, 8]), float([2, 7, 3, 8]), float([2, 7, 3, 4])]
    try matched(
      graph(types) { _, x in
        let p = softmax(dot(x[0], x[1], [0, 2], [0, 2], 3, 3) * 0.3)
        return [dot(x[2], p, [0, 2], [0, 1], 1, 3).transpose([0, 3, 1, 2])]
      })
    try matched(
      graph(types) { _, x in
        let p = softmax(dot(x[0], x[1], [2, 0], [2, 0], 3, 3) * 0.3)  // [heads, batch, queries, keys]
        return [dot(p, x[2], [1, 0], [0, 2], 3, 1)]
      })
  }

  private func triangle(_ b: DecompositionBuilder, _ queries: Int, _ keys: Int) -> Term {
    let size: Shape = [queries, keys]
    let row = b.iota(size, .int32, axis: 0) + b.fill(.int(keys - queries), size, .int32)
    return row.compare(.greaterEqual, b.iota(size, .int32, axis: 1))
  }

  @Test func masks() throws {
    let scores: Shape = [2, 3, 5, 7]
    let bool = TensorType([2, 1, 5, 7], .bool)
    // Every row sees something.
    func seen(_ inputs: [CPUArray]) -> [CPUArray] {
      var values = numbers(inputs[3])
      for i in stride(from: 0, to: values.count, by: 7) { values[i] = 1 }
      return Array(inputs[..<3]) + [array(values, inputs[3].shape, .bool)]
    }
    for hidden in [-Double.infinity, -1e9, -3.4028234663852886e38] {
      let inputs = arrays([q, k, v, bool], range: 2)
      try matched(
        graph([q, k, v, bool]) { b, x in
          let s = x[0].matmul(x[1].transposed()) * 0.3
          return [softmax(b.select(x[3], s, s.like(hidden))).matmul(x[2])]
        }, operands: 4, inputs: seen(inputs))
      try matched(
        graph([q, k, v, bool]) { b, x in
          let s = x[0].matmul(x[1].transposed()) * 0.3
          return [softmax(b.select(x[3].unary(.not), s.like(hidden), s)).matmul(x[2])]
        }, operands: 4, inputs: seen(inputs))
      try matched(
        graph([q, k, v]) { b, x in
          let s = x[0].matmul(x[1].transposed()) * 0.3
          return [softmax(b.select(triangle(b, 5, 7), s, s.like(hidden))).matmul(x[2])]
        }, causal: true)
    }
    // Rows in which nothing is seen weigh all alike.
    try matched(
      graph([q, k, v, bool]) { b, x in
        let s = x[0].matmul(x[1].transposed()) * 0.3
        return [softmax(b.select(x[3], s, s.like(-1e30))).matmul(x[2])]
      }, operands: 4, inputs: arrays([q, k, v], range: 2) + [array(Array(repeating: 0, count: 70), bool.shape, .bool)])
    try matched(
      graph([q, k, v, float([3, 1, 7])]) { b, x in [softmax(x[3] + x[0].matmul(x[1].transposed()) * 0.3).matmul(x[2])] },
      operands: 4)
    try matched(
      graph([q, k, v, TensorType(scores, .float32)]) { b, x in
        [softmax(x[0].matmul(x[1].transposed()) * 0.3 + x[3]).matmul(x[2])]
      }, operands: 4)
    // A triangle that is not causal: as any mask.
    try matched(
      graph([q, k, v]) { b, x in
        let s = x[0].matmul(x[1].transposed())
        let size: Shape = [5, 7]
        let mask = b.iota(size, axis: 0).compare(.greaterEqual, b.iota(size, axis: 1))
        return [softmax(b.select(mask, s, s.like(-.infinity))).matmul(x[2])]
      }, operands: 4)
  }

  @Test func halfPrecisionWithWideSoftmax() throws {
    let types = [q, k, v].map { TensorType($0.shape, .bfloat16) }
    try matched(
      graph(types) { b, x in
        let s = x[0].matmul(x[1].transposed()).convert(.float32) * 0.25
        return [softmax(s).convert(.bfloat16).matmul(x[2])]
      }, bound: 0.03)
  }

  @Test func theCompositesOwnDecomposition() throws {
    for causal in [false, true] {
      let source = try #require(Operation.composite(.attention(scale: 0.3, causal: causal)).decomposition([q, k, v])).selecting([
        0
      ])
      let after = withMatchedKernels(simplified(source))
      try after.verify()
      let inputs = arrays(source.inputTypes, range: 2)
      #expect(distance(try CPU.run(after, inputs)[0], try CPU.run(source, inputs)[0]) < 1e-5)
    }
  }

  @Test func whatIsReadElsewhereStays() throws {
    for source in [
      graph([q, k, v]) { _, x in
        let p = softmax(x[0].matmul(x[1].transposed()))
        return [p.matmul(x[2]), p]
      },
      graph([q, k, v]) { _, x in
        let s = x[0].matmul(x[1].transposed())
        return [softmax(s).matmul(x[2]), s.sum([3])]
      },
      // Scores that a mask makes large instead of small.
      graph([q, k, v, TensorType([2, 3, 5, 7], .bool)]) { b, x in
        let s = x[0].matmul(x[1].transposed())
        return [softmax(b.select(x[3], s, s.like(3.0))).matmul(x[2])]
      },
      // The sum over queries.
      graph([float([2, 3, 7, 8]), k, v]) { _, x in
        let p = softmax(x[0].matmul(x[1].transposed()))
        return [dot(p, x[2], [0, 1], [0, 1], 2, 2)]
      },
    ] {
      let after = withMatchedKernels(simplified(source))
      try after.verify()
      #expect(after.count("attention") == 0 && after.count("matmul") == 2 && after.count("softmax") == 1)
      let inputs = arrays(source.inputTypes, range: 2)
      #expect(distance(try CPU.run(after, inputs)[0], try CPU.run(source, inputs)[0]) < 1e-5)
    }
  }

  /// JAX's text: causal attention over [batch, positions, heads, dim].
  @Test func ofJAX() throws {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("TensorTests/StableHLO/JAX/attention.mlir")
    let source = try Graph(stableHLO: String(contentsOf: file, encoding: .utf8))
    try matched(source, causal: true)
  }

  /// The matrix of scores would be larger than everything else together.
  @Test func memoryDoesNotGrowWithTheSquare() {
    let x = float([1, 2, 1024, 16])
    let source = graph([x, x, x]) { _, x in [softmax(x[0].matmul(x[1].transposed()) * 0.25).matmul(x[2])] }
    let (exact, matched) = (Plan(source), Plan(source, exact: false))
    #expect(exact.memory.arena >= 2 * 1024 * 1024 * 4)
    #expect(matched.memory.arena < 1 << 16, "\(matched.memory)")
  }
}
