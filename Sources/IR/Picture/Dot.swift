// Pictures of a graph: boxes for inputs, operations and results, in layers.

/// What is drawn of a graph, the same for Graphviz and for ours: small numbers and constants stand in the box that reads them.
struct GraphPicture {
  enum Kind { case input, operation, group, output }

  struct Box {
    var kind: Kind
    /// The name, then its type and what is in it.
    var lines: [String]
  }

  private(set) var boxes: [Box] = []
  /// From box to box, with the type that goes along.
  private(set) var edges: [(from: Int, to: Int)] = []

  init(_ graph: Graph) {
    var makers = [Int?](repeating: nil, count: graph.valueCount)
    for (i, name) in graph.inputNames.enumerated() {
      makers[i] = boxes.count
      boxes.append(Box(kind: .input, lines: [name.isEmpty ? "input \(i)" : name, "\(graph.types[i])"]))
    }
    var literals: [Int: String] = [:]
    for node in graph.nodes {
      if let literal = Self.literal(node, literals) {
        literals[node.firstResult] = literal
        continue
      }
      var lines = [node.operation.name]
      let numbers = node.inputs.compactMap { literals[$0] }
      if !numbers.isEmpty { lines[0] += " (\(numbers.joined(separator: ", ")))" }
      var kind = Kind.operation
      if case .call(let function) = node.operation, function.role == .fusion {
        kind = .group
        lines += Self.contents(function.graph)
      }
      let types =
        node.results.prefix(3).map { "\(graph.types[$0])" } + (node.resultCount > 3 ? ["… \(node.resultCount) results"] : [])
      let box = boxes.count
      boxes.append(Box(kind: kind, lines: [lines[0]] + types + lines.dropFirst()))
      for value in node.results { makers[value] = box }
      connect(node.inputs, makers, box)
    }
    for (i, value) in graph.outputs.enumerated() {
      let name = graph.outputNames[i]
      boxes.append(Box(kind: .output, lines: [name.isEmpty ? "result \(i)" : name, literals[value] ?? "\(graph.types[value])"]))
      connect([value], makers, boxes.count - 1)
    }
  }

  private mutating func connect(_ values: [Int], _ makers: [Int?], _ box: Int) {
    var seen: Set<Int> = []
    for value in values {
      if let from = makers[value], seen.insert(from).inserted { edges.append((from, box)) }
    }
  }

  /// What stands for a node that is one number, perhaps repeated.
  private static func literal(_ node: Graph.Node, _ literals: [Int: String]) -> String? {
    if case .fill(_, _, let value) = node.operation { return number(value) }
    if case .constant(let constant) = node.operation, constant.type.shape.isEmpty { return "constant" }
    if case .broadcast = node.operation { return literals[node.inputs[0]] }
    return nil
  }

  private static func number(_ value: Scalar) -> String {
    switch value {
    case .bool(let x): "\(x)"
    case .int(let x): "\(x)"
    case .double(let x): "\(Float(x))"
    }
  }

  /// What a group computes, one line per operation.
  private static func contents(_ graph: Graph) -> [String] {
    let names = graph.nodes.map(\.operation.name)
    return names.prefix(12).map { "· \($0)" } + (names.count > 12 ? ["· … \(names.count) operations"] : [])
  }
}

extension Graph {
  /// The graph for Graphviz's `dot`.
  public func dot(name: String = "graph") -> String {
    func escaped(_ text: String) -> String {
      var out = ""
      for c in text {
        if c == "\"" || c == "\\" { out += "\\" }
        out.append(c)
      }
      return out
    }
    let picture = GraphPicture(self)
    var text =
      "digraph \"\(escaped(name))\" {\n  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\", fontsize=11];\n"
    for (i, box) in picture.boxes.enumerated() {
      let label = box.lines.map(escaped).joined(separator: "\\n")
      text += "  n\(i) [label=\"\(label)\", fillcolor=\"\(box.kind.fill)\"];\n"
    }
    for edge in picture.edges { text += "  n\(edge.from) -> n\(edge.to);\n" }
    return text + "}\n"
  }
}

extension GraphPicture.Kind {
  var fill: String {
    switch self {
    case .input: "#e8f1fb"
    case .operation: "#ffffff"
    case .group: "#fdf3dc"
    case .output: "#e6f5e9"
    }
  }

  var stroke: String {
    switch self {
    case .input: "#5b8fc9"
    case .operation: "#888888"
    case .group: "#c99a2e"
    case .output: "#4f9d63"
    }
  }
}
