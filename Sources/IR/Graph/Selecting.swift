extension Graph {
  /// The graph with only some of its outputs, given by their places, and without the nodes that no output needs any more.
  public func selecting(_ kept: [Int]) -> Graph {
    var needed = [Bool](repeating: false, count: valueCount)
    for i in kept { needed[outputs[i]] = true }
    for node in nodes.reversed() where node.results.contains(where: { needed[$0] }) {
      for value in node.inputs { needed[value] = true }
    }
    var graph = Graph()
    var number = [Value](repeating: -1, count: valueCount)
    for value in inputs { number[value] = graph.addInput(types[value], name: inputNames[value]) }
    for node in nodes where node.results.contains(where: { needed[$0] }) {
      let added = graph.append(node.operation, node.inputs.map { number[$0] }, types: Array(types[node.results]))
      for (old, new) in zip(node.results, added) { number[old] = new }
    }
    graph.setOutputs(kept.map { number[outputs[$0]] }, names: kept.map { outputNames[$0] })
    return graph
  }
}
