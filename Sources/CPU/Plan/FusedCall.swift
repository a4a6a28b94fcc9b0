import ApusIR

extension GraphRewriter {
  /// Puts one call in the place of some nodes: a function with the role `fusion`, whose meaning is the nodes themselves.
  /// - Parameters:
  ///   - nodes: of the old graph, in order.
  ///   - results: what others read of them, or graphs give.
  ///   - inputName: the name of the function's input for a value that a node reads.
  mutating func fuse(
    _ nodes: [Int], results: [Graph.Value], inputName: (_ node: Int, _ value: Graph.Value) -> String = { _, _ in "" }
  ) {
    var body = Graph()
    var number: [Graph.Value: Graph.Value] = [:]
    var operands: [Graph.Value] = []
    let made = Set(nodes.flatMap { old.nodes[$0].results })
    for i in nodes {
      for value in old.nodes[i].inputs where !made.contains(value) && number[value] == nil {
        number[value] = body.addInput(old.types[value], name: inputName(i, value))
        operands.append(value)
      }
    }
    for i in nodes {
      let node = old.nodes[i]
      let added = body.append(
        node.operation, node.inputs.map { number[$0].unsafelyUnwrapped }, types: Array(old.types[node.results]))
      for (value, new) in zip(node.results, added) { number[value] = new }
    }
    body.setOutputs(results.map { number[$0].unsafelyUnwrapped })
    let name = nodes.map { old.nodes[$0].operation.name }.joined(separator: "_")
    let added = graph.append(
      .call(Function(name, body, role: .fusion)), operands.map { self.value($0) }, types: results.map { old.types[$0] })
    for (value, new) in zip(results, added) { map(value, to: new) }
  }
}
