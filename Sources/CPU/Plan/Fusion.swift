import ApusIR
import CApusKernels

/// Groups of elementwise operations, with the reductions along rows between them, become one operation that runs as one pass
/// over memory.
///
/// Nodes are visited from last to first. One joins the group of its consumers if these are all in one group of the same shape,
/// or if those outside come later than the whole group, which then has one more result. A group stands where its last
/// member stood: everything it reads is there by then, and everything that reads it comes later.
enum Fusion {
  /// Limits that keep programs within the machine's registers and operands.
  private static let maxNodes = 24, maxInputs = 14, maxOutputs = 6

  private struct Group {
    let shape: Shape
    /// Descending.
    var members: [Int]
    /// Where it will stand.
    let last: Int
    var outputs: Set<Graph.Value> = []
  }

  static func run(_ graph: Graph) -> Graph {
    var groupOf = [Int?](repeating: nil, count: graph.nodes.count)
    var groups: [Group] = []
    var consumers = [[Int]](repeating: [], count: graph.valueCount)
    for (i, node) in graph.nodes.enumerated() {
      for value in Set(node.inputs) { consumers[value].append(i) }
    }
    let isOutput = Set(graph.outputs)
    let producers = graph.producers

    func inputs(of members: [Int]) -> Int {
      let inside = Set(members)
      var seen: Set<Graph.Value> = []
      for i in members {
        for value in graph.nodes[i].inputs {
          if let producer = producers[value] {
            if inside.contains(producer) { continue }
            if case .fill = graph.nodes[producer].operation { continue }
          }
          seen.insert(value)
        }
      }
      return seen.count
    }

    for i in graph.nodes.indices.reversed() {
      let node = graph.nodes[i]
      guard node.resultCount == 1 else { continue }
      let value = node.firstResult
      let type = graph.types[value]
      guard type.shape.elementCount > 0 else { continue }
      let elementwise = TileProgram.supports(node.operation, node.inputs.map { graph.types[$0] }, type)
      let groupsOfConsumers = Set(consumers[value].compactMap { groupOf[$0] })
      let allInside =
        !isOutput.contains(value) && consumers[value].allSatisfy { groupOf[$0] != nil } && groupsOfConsumers.count == 1
      var joined = false
      for g in groupsOfConsumers where !joined {
        let group = groups[g]
        guard group.members.count < maxNodes else { continue }
        if elementwise && type.shape == group.shape {
          let outside = consumers[value].filter { groupOf[$0] != g }
          let escapes = isOutput.contains(value) || !outside.isEmpty
          guard outside.allSatisfy({ $0 > group.last }), !escapes || group.outputs.count < maxOutputs else { continue }
          guard inputs(of: group.members + [i]) <= maxInputs else { continue }
          groups[g].members.append(i)
          if escapes { groups[g].outputs.insert(value) }
        } else if allInside && isRowPart(graph, node, elementwise, of: group.shape) {
          guard inputs(of: group.members + [i]) <= maxInputs else { continue }
          groups[g].members.append(i)
        } else {
          continue
        }
        groupOf[i] = g
        joined = true
      }
      if !joined && elementwise {
        groupOf[i] = groups.count
        groups.append(Group(shape: type.shape, members: [i], last: i, outputs: [value]))
      }
    }
    return rebuilt(graph, groups.filter { $0.members.count > 1 })
  }

  /// Whether the node gives something that is constant along each row of the shape, or repeats such a thing.
  private static func isRowPart(_ graph: Graph, _ node: Graph.Node, _ elementwise: Bool, of shape: Shape) -> Bool {
    guard let columns = shape.last, columns <= Int(APUS_MAX_ROW) else { return false }
    let type = graph.types[node.firstResult]
    var row = shape
    row[row.count - 1] = 1
    switch node.operation {
    case .broadcast: return type.shape == shape && graph.types[node.inputs[0]].shape.count <= shape.count
    case .reduce(let kind, let axes, let keepDims):
      return keepDims && (kind == .sum || kind == .max) && type.elementType.isFloatingPoint && type.shape == row && columns > 1
        && graph.types[node.inputs[0]].shape == shape && axes.count == 1 && axes[0] == shape.count - 1
    default: return elementwise && type.shape == row && columns > 1
    }
  }

  private static func rebuilt(_ graph: Graph, _ groups: [Group]) -> Graph {
    var groupAt: [Int: Int] = [:]
    var memberOf = [Int?](repeating: nil, count: graph.nodes.count)
    for (g, group) in groups.enumerated() {
      groupAt[group.last] = g
      for i in group.members { memberOf[i] = g }
    }
    var result = GraphRewriter(graph)
    for (i, node) in graph.nodes.enumerated() {
      if let g = groupAt[i] {
        emit(graph, groups[g], into: &result)
      } else if memberOf[i] == nil {
        result.copy(node)
      }
    }
    return result.finish()
  }

  private static func emit(_ graph: Graph, _ group: Group, into result: inout GraphRewriter) {
    let members = group.members.sorted()
    let inside = Set(members)
    let producers = graph.producers
    var body = Graph()
    var number: [Graph.Value: Graph.Value] = [:]
    var operands: [Graph.Value] = []
    // Numbers move inside; everything else that comes from outside is an operand.
    var fills: [Graph.Value: Graph.Node] = [:]
    for i in members {
      for value in graph.nodes[i].inputs where number[value] == nil && fills[value] == nil {
        if let producer = producers[value] {
          if inside.contains(producer) { continue }
          if case .fill = graph.nodes[producer].operation {
            fills[value] = graph.nodes[producer]
            continue
          }
        }
        number[value] = body.addInput(graph.types[value])
        operands.append(value)
      }
    }
    for (value, node) in fills.sorted(by: { $0.key < $1.key }) {
      number[value] = body.append(node.operation, [], types: [graph.types[value]]).lowerBound
    }
    for i in members {
      let node = graph.nodes[i]
      let added = body.append(
        node.operation, node.inputs.map { number[$0].unsafelyUnwrapped }, types: [graph.types[node.firstResult]])
      number[node.firstResult] = added.lowerBound
    }
    let outputs = group.outputs.sorted()
    body.setOutputs(outputs.map { number[$0].unsafelyUnwrapped })
    let names = members.map { graph.nodes[$0].operation.name }
    let label =
      names.count > 4 ? names.prefix(3).joined(separator: "_") + "_and_\(names.count - 3)" : names.joined(separator: "_")
    guard TileProgram(body, shape: group.shape) != nil else {
      for i in members { result.copy(graph.nodes[i]) }
      return
    }
    let function = Function("fused_\(label)", body, role: .fusion)
    let added = result.graph.append(
      .call(function), operands.map { result.value($0) }, types: outputs.map { graph.types[$0] })
    for (value, new) in zip(outputs, added) { result.map(value, to: new) }
  }
}
