/// Calls of functions as the operations in them, also those inside; what runs as one kernel stays.
///
/// Programs of other tools put masks and activations into functions. Calls keep recomputation apart (checkpoints), so this is not
/// for programs that take gradients.
public func withInlinedCalls(_ graph: Graph) -> Graph {
  var result = GraphRewriter(graph)
  for node in graph.nodes {
    guard case .call(let function) = node.operation, function.role == .body else {
      result.copy(node)
      continue
    }
    let values = result.inline(withInlinedCalls(function.graph), node.inputs.map(result.value))
    for (value, new) in zip(node.results, values) { result.map(value, to: new) }
  }
  return result.finish()
}

extension GraphRewriter {
  /// The nodes of another graph on values of the new one; returns what its outputs are here.
  public mutating func inline(_ other: Graph, _ inputs: [Graph.Value]) -> [Graph.Value] {
    var number = inputs
    number.reserveCapacity(other.valueCount)
    for node in other.nodes {
      number += graph.append(node.operation, node.inputs.map { number[$0] }, types: Array(other.types[node.results]))
    }
    return other.outputs.map { number[$0] }
  }
}
