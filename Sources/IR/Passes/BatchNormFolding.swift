/// Batch normalization with fixed statistics after a convolution becomes part of its weights and bias:
/// γ (w ∗ x + b − μ) / √(σ² + ε) + β = (s w) ∗ x + ((b − μ) s + β), s = γ / √(σ² + ε).
///
/// Only where all of these are stable, so that the folded weights are computed once. Results differ from the unfolded ones by the
/// rounding of the scaled weights: relative to Σ |w x| |s|, by the order of the element type's precision.
/// - Parameter isStable: for each value whether it depends on constants and stable inputs alone.
public func withFoldedBatchNorm(_ graph: Graph, isStable: [Bool]) -> Graph {
  var readers = [Int](repeating: 0, count: graph.valueCount)
  for node in graph.nodes { for value in node.inputs { readers[value] += 1 } }
  for value in graph.outputs { readers[value] += 1 }
  let producers = graph.producers
  var folded: [Int: Int] = [:]  // normalization → convolution
  for (i, node) in graph.nodes.enumerated() {
    guard case .composite(.batchNormInference) = node.operation, node.inputs[1...].allSatisfy({ isStable[$0] }),
      let c = producers[node.inputs[0]], case .convolution = graph.nodes[c].operation, readers[node.inputs[0]] == 1,
      graph.nodes[c].inputs[1...].allSatisfy({ isStable[$0] }),
      graph.types[node.firstResult].elementType == .float32 || graph.types[node.firstResult].elementType == .float64
    else { continue }
    folded[i] = c
  }
  if folded.isEmpty { return graph }
  let gone = Set(folded.values)
  var result = GraphRewriter(graph)
  for (i, node) in graph.nodes.enumerated() where !gone.contains(i) {
    guard let c = folded[i], case .composite(.batchNormInference(let epsilon)) = node.operation else {
      result.copy(node)
      continue
    }
    let convolution = graph.nodes[c]
    let weight = graph.types[convolution.inputs[1]]
    let (type, channels) = (weight.elementType, weight.shape[0])
    let vector = Shape([channels])
    func value(_ k: Int) -> Graph.Value { result.value(node.inputs[k]) }
    let small = result.append(.fill([], type, .double(epsilon)), [])
    let wide = result.append(.broadcast(vector), [small])
    let rstd = result.append(.unary(.rsqrt), [result.append(.binary(.add), [value(4), wide])])
    let scale = result.append(.binary(.mul), [value(1), rstd])
    var column = Shape(repeating: 1, count: weight.shape.count)
    column[0] = channels
    let scaled = result.append(
      .binary(.mul),
      [
        result.value(convolution.inputs[1]),
        result.append(.broadcast(weight.shape), [result.append(.reshape(column), [scale])]),
      ])
    var shift = value(3)
    if convolution.inputs.count > 2 {
      shift = result.append(.binary(.sub), [value(3), result.value(convolution.inputs[2])])
    }
    let bias = result.append(.binary(.sub), [value(2), result.append(.binary(.mul), [shift, scale])])
    let made = result.append(convolution.operation, [result.value(convolution.inputs[0]), scaled, bias])
    result.map(node.firstResult, to: made)
  }
  return result.finish()
}

extension Graph {
  /// For each value whether it depends on constants and these inputs alone.
  public func stableValues(_ inputs: Set<Int>) -> [Bool] {
    var isStable = [Bool](repeating: false, count: valueCount)
    for i in inputs { isStable[i] = true }
    for node in nodes where node.inputs.allSatisfy({ isStable[$0] }) {
      if node.operation.hasCustomCall { continue }
      for value in node.results { isStable[value] = true }
    }
    return isStable
  }
}
