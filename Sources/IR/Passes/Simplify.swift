/// Removes what changes nothing: operations without effect, those computed twice, those nobody reads.
///
/// Values stay the same to the bit: x + 0 is not x for x = −0, so it stays.
public func simplified(_ graph: Graph) -> Graph { withoutDeadCode(withoutDuplicates(withoutIdentities(graph))) }

/// Without operations that nothing needs. Inputs stay, also unused ones.
public func withoutDeadCode(_ graph: Graph) -> Graph {
  var needed = [Bool](repeating: false, count: graph.valueCount)
  for value in graph.outputs { needed[value] = true }
  for node in graph.nodes.reversed() where node.results.contains(where: { needed[$0] }) {
    for value in node.inputs { needed[value] = true }
  }
  var result = GraphRewriter(graph)
  for node in graph.nodes where node.results.contains(where: { needed[$0] }) { result.copy(node) }
  return result.finish()
}

/// Common subexpressions once. Operations are functions of their operands (random ones of their state), save custom calls.
public func withoutDuplicates(_ graph: Graph) -> Graph {
  struct Key: Hashable {
    let operation: Operation
    let inputs: [Graph.Value]
  }
  var known: [Key: Range<Graph.Value>] = [:]
  var result = GraphRewriter(graph)
  for node in graph.nodes {
    if node.operation.hasCustomCall {
      result.copy(node)
      continue
    }
    let key = Key(operation: node.operation, inputs: node.inputs.map(result.value))
    if let same = known[key] {
      for (value, new) in zip(node.results, same) { result.map(value, to: new) }
    } else {
      result.copy(node)
      known[key] = result.value(node.firstResult)..<(result.value(node.firstResult) + node.resultCount)
    }
  }
  return result.finish()
}

/// Without conversions to the same type, reshapes to the same shape, transpositions that are none, the stops of gradients; chains
/// of reshapes and of transpositions as one; −(−x), not(not x) as x; x · 1, x / 1, x − 0 as x.
public func withoutIdentities(_ graph: Graph) -> Graph {
  var result = GraphRewriter(graph)
  /// The node that made a value of the new graph.
  var maker: [Graph.Value: Graph.Node] = [:]

  func constant(_ value: Graph.Value) -> Double? {
    guard let node = maker[value] else { return nil }
    switch node.operation {
    case .fill(_, _, let scalar): return scalar.double
    case .broadcast, .reshape: return constant(node.inputs[0])
    default: return nil
    }
  }

  for node in graph.nodes {
    let inputs = node.inputs.map(result.value)
    let type = graph.types[node.firstResult]
    var replacement: Graph.Value?
    var operation = node.operation
    var operands = inputs
    switch node.operation {
    case .convert, .reshape, .broadcast, .bitcast, .stopGradient:
      if result.graph.types[inputs[0]] == type { replacement = inputs[0] }
      if case .reshape = node.operation, replacement == nil, let before = maker[inputs[0]], case .reshape = before.operation {
        operands = before.inputs
        if result.graph.types[operands[0]] == type { replacement = operands[0] }
      }
    case .transpose(let permutation):
      if let before = maker[inputs[0]], case .transpose(let first) = before.operation {
        let both = Axes(permutation.map { first[$0] })
        operation = .transpose(both)
        operands = before.inputs
        if both.elementsEqual(0..<both.count) { replacement = operands[0] }
      } else if permutation.elementsEqual(0..<permutation.count) {
        replacement = inputs[0]
      }
    case .slice(let start, let size, let step):
      if size == result.graph.types[inputs[0]].shape, start.allSatisfy({ $0 == 0 }), step.allSatisfy({ $0 == 1 }) {
        replacement = inputs[0]
      }
    case .reverse(let axes): if axes.isEmpty { replacement = inputs[0] }
    case .reduce(_, let axes, _):
      if axes.isEmpty, result.graph.types[inputs[0]] == type { replacement = inputs[0] }
    case .concatenate: if inputs.count == 1 { replacement = inputs[0] }
    case .unary(let kind) where kind == .neg || kind == .not:
      if let before = maker[inputs[0]], before.operation == node.operation { replacement = before.inputs[0] }
    case .binary(.mul):
      if constant(inputs[1]) == 1 { replacement = inputs[0] } else if constant(inputs[0]) == 1 { replacement = inputs[1] }
    case .binary(.div): if constant(inputs[1]) == 1 { replacement = inputs[0] }
    case .binary(.sub):
      // x − 0 is x also for −0; the fill must be +0.
      if let zero = constant(inputs[1]), zero == 0, zero.sign == .plus { replacement = inputs[0] }
    case .select: if inputs[1] == inputs[2] { replacement = inputs[1] }
    default: break  // a pass need not know every operation: what it does not know stays
    }
    if let replacement {
      result.map(node.firstResult, to: replacement)
      continue
    }
    let added = result.graph.append(operation, operands, types: Array(graph.types[node.results]))
    for (value, new) in zip(node.results, added) { result.map(value, to: new) }
    maker[added.lowerBound] = result.graph.nodes[result.graph.nodes.count - 1]
  }
  return result.finish()
}
