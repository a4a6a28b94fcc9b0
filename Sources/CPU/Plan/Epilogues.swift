import ApusIR

/// What follows a product or a convolution and can be done while its tile is in registers: a bias, one activation, the addition of
/// a tensor of the same shape. Product and followers become one operation.
enum Epilogues {
  static func run(_ graph: Graph) -> Graph {
    var readers = [[Int]](repeating: [], count: graph.valueCount)
    for (i, node) in graph.nodes.enumerated() { for value in node.inputs { readers[value].append(i) } }
    let isOutput = Set(graph.outputs)
    let producers = graph.producers
    var chains: [Int: [Int]] = [:]  // last member → all
    var member: Set<Int> = []
    for (i, node) in graph.nodes.enumerated() where !member.contains(i) {
      guard let rules = Rules(graph, node) else { continue }
      var chain = [i]
      var state = rules
      while true {
        let value = graph.nodes[chain[chain.count - 1]].firstResult
        guard !isOutput.contains(value), readers[value].count == 1 else { break }
        let next = readers[value][0]
        guard !member.contains(next), state.take(graph, graph.nodes[next], after: value, producers) else { break }
        chain.append(next)
      }
      if chain.count > 1 {
        chains[chain[chain.count - 1]] = chain
        member.formUnion(chain)
      }
    }
    if chains.isEmpty { return graph }
    var result = GraphRewriter(graph)
    for (i, node) in graph.nodes.enumerated() {
      if let chain = chains[i] {
        // A bias comes repeated to the whole shape; the kernel reads one row of it.
        result.fuse(chain, results: [node.firstResult]) { i, value in
          i != chain[0] && isRepeatedRow(graph, value, producers) ? "bias" : ""
        }
      } else if !member.contains(i) {
        result.copy(node)
      }
    }
    return result.finish()
  }

  /// What may still be taken.
  private struct Rules {
    var activation = true
    var residual = true
    var bias: Bool
    /// Its kernel adds a residual only before the activation.
    var isConvolution = false
    let activations: Set<UnaryKind>

    init?(_ graph: Graph, _ node: Graph.Node) {
      let type = graph.types[node.firstResult]
      guard type.elementType.isFloatingPoint, type.shape.elementCount > 0 else { return nil }
      switch node.operation {
      case .composite(.linear):
        bias = false
        activations = [.relu, .gelu, .geluTanh, .sigmoid, .tanh, .silu]
      case .dot(let d):
        // Rows and columns as the kernel has them; scalars and vectors are left to the plain way.
        guard d.rhsFree(rank: graph.types[node.inputs[1]].shape.count).count == 1, type.shape.count >= 2 else { return nil }
        // The kernel adds it before it rounds: in half precision that is another operation.
        bias = type.elementType == .float32 || type.elementType == .float64
        activations = [.relu, .gelu, .geluTanh, .sigmoid, .tanh, .silu]
      case .convolution:
        guard type.elementType == .float32 else { return nil }
        isConvolution = true
        bias = false
        activations = [.relu, .gelu, .geluTanh, .sigmoid, .tanh, .silu]
      default: return nil
      }
    }

    mutating func take(_ graph: Graph, _ node: Graph.Node, after value: Graph.Value, _ producers: [Int?]) -> Bool {
      let type = graph.types[value]
      guard graph.types[node.firstResult] == type else { return false }
      switch node.operation {
      case .unary(let kind):
        guard activation, activations.contains(kind) else { return false }
        activation = false
        bias = false
        return true
      case .binary(.add):
        let other = node.inputs[0] == value ? node.inputs[1] : node.inputs[0]
        guard other != value else { return false }
        if let producer = producers[other], case .broadcast = graph.nodes[producer].operation {
          guard bias, Epilogues.isRepeatedRow(graph, other, producers) else { return false }
          bias = false
          return true
        }
        if let producer = producers[other], case .fill = graph.nodes[producer].operation { return false }
        guard residual, activation || !isConvolution else { return false }
        residual = false
        bias = false
        return true
      default: return false
      }
    }
  }

  /// Whether a value is one row, repeated for all others.
  private static func isRepeatedRow(_ graph: Graph, _ value: Graph.Value, _ producers: [Int?]) -> Bool {
    guard let producer = producers[value], case .broadcast = graph.nodes[producer].operation else { return false }
    let source = graph.types[graph.nodes[producer].inputs[0]].shape
    return source.elementCount == graph.types[value].shape.last && source.last == graph.types[value].shape.last
  }
}
