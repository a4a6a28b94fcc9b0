/// A matrix product that is only read transposed is made the other way round: (A B)ᵀ = Bᵀ Aᵀ costs the same, and the result lies
/// in memory as its readers want it. Gradients of transposed weights are such products.
public func withProductsAsRead(_ graph: Graph) -> Graph {
  var readers = [[Int]](repeating: [], count: graph.valueCount)
  for (i, node) in graph.nodes.enumerated() { for value in node.inputs { readers[value].append(i) } }
  let isOutput = Set(graph.outputs)
  var swapped: [Int: Int] = [:]  // product → transposition
  for (i, node) in graph.nodes.enumerated() {
    guard case .dot(let d) = node.operation, !isOutput.contains(node.firstResult), readers[node.firstResult].count == 1 else {
      continue
    }
    let reader = readers[node.firstResult][0]
    guard case .transpose(let permutation) = graph.nodes[reader].operation else { continue }
    let batch = d.lhsBatch.count
    let lhs = d.lhsFree(rank: graph.types[node.inputs[0]].shape.count).count
    let rank = graph.types[node.firstResult].shape.count
    let turned = Array(0..<batch) + Array((batch + lhs)..<rank) + Array(batch..<(batch + lhs))
    if lhs > 0, lhs < rank - batch, permutation.elementsEqual(turned) { swapped[i] = reader }
  }
  if swapped.isEmpty { return graph }
  let gone = Set(swapped.values)
  var result = GraphRewriter(graph)
  for (i, node) in graph.nodes.enumerated() where !gone.contains(i) {
    guard let transposition = swapped[i], case .dot(let d) = node.operation else {
      result.copy(node)
      continue
    }
    let turned = DotDimensions(
      lhsBatch: d.rhsBatch, rhsBatch: d.lhsBatch, lhsContracting: d.rhsContracting, rhsContracting: d.lhsContracting)
    let value = result.append(.dot(turned), [result.value(node.inputs[1]), result.value(node.inputs[0])])
    result.map(graph.nodes[transposition].firstResult, to: value)
  }
  return result.finish()
}
