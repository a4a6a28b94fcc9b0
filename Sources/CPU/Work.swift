import ApusIR

/// What a kernel call has to do at least: floating-point operations and bytes, and the shapes they come from.
package struct Work: Sendable {
  /// Multiplications and additions, each as one; 0 where only memory matters.
  package let flops: Double
  /// Operands read and results written, each once.
  package let bytes: Int
  package let inputs, results: [TensorType]

  package init(_ operation: Operation, _ inputs: [TensorType], _ results: [TensorType]) {
    self.inputs = inputs
    self.results = results
    bytes = (inputs + results).reduce(0) { $0 + $1.shape.elementCount * $1.elementType.byteSize }
    flops = Work.flops(operation, inputs, results)
  }

  /// Two calls as one.
  init(_ a: Work, _ b: Work) {
    flops = a.flops + b.flops
    bytes = a.bytes + b.bytes
    inputs = a.inputs + b.inputs
    results = a.results + b.results
  }

  package init(copying type: TensorType) {
    inputs = [type]
    results = [type]
    bytes = 2 * type.shape.elementCount * type.elementType.byteSize
    flops = 0
  }

  /// Of the contractions, by the direct formula; elementwise work and reductions count as memory.
  private static func flops(_ operation: Operation, _ inputs: [TensorType], _ results: [TensorType]) -> Double {
    func count(_ type: TensorType) -> Double { Double(type.shape.elementCount) }
    func product(_ shape: some Sequence<Int>) -> Double { shape.reduce(1.0) { $0 * Double($1) } }
    switch operation {
    case .dot(let d): return 2 * count(results[0]) * product(d.lhsContracting.map { inputs[0].shape[$0] })
    case .quantizedDot: return 2 * count(results[0]) * Double(inputs[3].shape[1])
    case .convolution: return 2 * count(results[0]) * product(inputs[1].shape.dropFirst())
    // (dy, w): each dy meets a whole kernel.
    case .convolutionInputGradient: return 2 * count(inputs[0]) * product(inputs[1].shape.dropFirst())
    case .convolutionKernelGradient: return 2 * count(inputs[1]) * product(results[0].shape.dropFirst())
    case .composite(.linear): return 2 * count(results[0]) * Double(inputs[1].shape[1])
    case .composite(.attention): return 2 * attention(inputs[0], inputs[1], inputs[2])
    case .composite(.attentionGradient): return 5 * attention(inputs[1], inputs[2], inputs[3])
    case .call(let function): return flops(function.graph)
    case .conditional(_, let otherwise): return flops(otherwise.graph)
    case .scanLoop(let loop): return Double(loop.length) * flops(loop.body.graph)
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .fill, .iota, .random, .constant,
      .broadcast,
      .reshape, .transpose, .slice, .pad, .concatenate, .reverse, .dynamicSlice, .dynamicUpdateSlice, .triangle, .reduce,
      .argReduce, .scan, .sort, .topK, .gather, .takeAlong, .gatherND, .scatter, .scatterAlong, .scatterND, .reduceWindow,
      .reduceWindowGradient, .maxPoolIndices, .stopGradient, .whileLoop, .whileLoopGradient, .customCall, .composite:
      return 0
    }
  }

  /// One product of queries with keys, or of scores with values: about 2 · batch · heads · queries · keys · dim.
  private static func attention(_ q: TensorType, _ k: TensorType, _ v: TensorType) -> Double {
    let scores = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    return Double(scores) * Double(q.shape[3] + v.shape[3])
  }

  private static func flops(_ graph: Graph) -> Double {
    graph.nodes.reduce(0.0) { sum, node in
      sum + flops(node.operation, node.inputs.map { graph.types[$0] }, Array(graph.types[node.results]))
    }
  }
}
