import ApusTensor

extension Graph {
  /// The graph as a serialized TensorFlow `GraphDef` (tensorflow/core/framework/graph.proto), for TensorBoard's graph view. Groups that
  /// run as one kernel, and layers by the names of their weights, are scopes: boxes that open.
  /// - Parameter weights: the names of constants that are weights, as in `conv1.weight`.
  package func tensorFlowGraph(weights: [Value: String] = [:]) -> [UInt8] {
    var writer = GraphDefWriter()
    writer.write(self, weights)
    writer.out.put(4) { $0.put(1, 22) }
    return writer.out.bytes
  }
}

private struct GraphDefWriter {
  var out = ProtobufWriter()
  private var taken: Set<String> = []

  mutating func write(_ graph: Graph, _ weights: [Graph.Value: String]) {
    let inputs = graph.inputs.map { value -> String in
      let name = graph.inputNames[value]
      let node = unique(Self.scopes(name.isEmpty ? "input" : name))
      // Names of weights come from modules' paths; arguments have none.
      put(node, node.contains("/") ? "VariableV2" : "Placeholder", [], [graph.types[value]])
      return node
    }
    let results = write(graph, scope: "", operands: inputs, weights: weights)
    for (i, result) in results.enumerated() {
      let name = graph.outputNames[i]
      put(unique(Self.scopes(name.isEmpty ? "result" : name)), "Identity", [result], [graph.types[graph.outputs[i]]])
    }
  }

  /// Writes the nodes of a graph; gives the names of its results.
  private mutating func write(
    _ graph: Graph, scope: String, operands: [String], weights: [Graph.Value: String] = [:]
  ) -> [String] {
    var names = operands + [String](repeating: "", count: graph.valueCount - operands.count)
    // The layer that a value belongs to: a weight's own, and that of what is only a weight in another shape.
    var layers: [Graph.Value: String] = [:]
    for value in graph.inputs where scope.isEmpty { layers[value] = Self.layer(names[value]) }
    for node in graph.nodes {
      let inputs = node.inputs.map { names[$0] }
      if case .call(let function) = node.operation {
        let inner = unique(scope + Self.scopes(function.name)) + "/"
        let results = write(function.graph, scope: inner, operands: inputs)
        for (value, result) in zip(node.results, results) { names[value] = result }
        continue
      }
      if let weight = weights[node.firstResult] {
        let name = unique(scope + Self.scopes(weight))
        put(name, "VariableV2", [], [graph.types[node.firstResult]])
        (names[node.firstResult], layers[node.firstResult]) = (name, Self.layer(name))
        continue
      }
      let layer = node.inputs.lazy.compactMap { layers[$0] }.first
      let name = unique(scope + (layer ?? "") + node.operation.name)
      put(name, node.operation.name, inputs, node.results.map { graph.types[$0] })
      for (i, value) in node.results.enumerated() { names[value] = i == 0 ? name : "\(name):\(i)" }
      if node.inputs.count == 1, node.resultCount == 1 { layers[node.firstResult] = layers[node.inputs[0]] }
    }
    return graph.outputs.map { names[$0] }
  }

  /// `conv1/` of `conv1/weight`.
  private static func layer(_ name: String) -> String? { name.lastIndex(of: "/").map { String(name[...$0]) } }

  private mutating func put(_ name: String, _ operation: String, _ inputs: [String], _ results: [TensorType]) {
    out.put(1) { out in
      out.put(1, name)
      out.put(2, operation)
      for input in inputs { out.put(3, input) }
      if let type = results.first {
        out.put(5) { out in
          out.put(1, "T")
          out.put(2) { $0.put(6, type.elementType.tensorFlowType) }
        }
      }
      out.put(5) { out in
        out.put(1, "_output_shapes")
        out.put(2) { out in
          out.put(1) { out in
            for type in results { out.put(7) { out in for size in type.shape { out.put(2) { $0.put(1, size) } } } }
          }
        }
      }
    }
  }

  private mutating func unique(_ name: String) -> String {
    if taken.insert(name).inserted { return name }
    var number = 1
    while !taken.insert("\(name)_\(number)").inserted { number += 1 }
    return "\(name)_\(number)"
  }

  /// A module's path as TensorFlow's scopes.
  private static func scopes(_ name: String) -> String {
    let allowed = name.map { c in
      c == "." ? "/" : c.isASCII && (c.isLetter || c.isNumber || c == "_" || c == "-" || c == "/") ? c : "_"
    }
    let parts = String(allowed).split(separator: "/")
    return parts.isEmpty ? "node" : parts.joined(separator: "/")
  }
}

extension ElementType {
  /// The number in `DataType` of tensorflow/core/framework/types.proto.
  package var tensorFlowType: Int {
    switch self {
    case .float32: 1
    case .float64: 2
    case .int32: 3
    case .uint8: 4
    case .int16: 5
    case .int8: 6
    case .int64: 9
    case .bool: 10
    case .bfloat16: 14
    case .float16: 19
    }
  }
}
