/// Makes a new graph of an old one, node by node: what passes are written with.
public struct GraphRewriter {
  public let old: Graph
  public var graph = Graph()
  private var number: [Graph.Value]

  /// Begins with the old graph's inputs.
  public init(_ old: Graph) {
    self.old = old
    number = Array(repeating: -1, count: old.valueCount)
    for value in old.inputs { number[value] = graph.addInput(old.types[value], name: old.inputNames[value]) }
  }

  /// The new number of an old value.
  public func value(_ old: Graph.Value) -> Graph.Value {
    precondition(number[old] >= 0, "value \(old) has no place in the new graph yet")
    return number[old]
  }

  public func hasValue(_ old: Graph.Value) -> Bool { number[old] >= 0 }

  /// Says what stands for an old value.
  public mutating func map(_ value: Graph.Value, to new: Graph.Value) { number[value] = new }

  /// The node as it is, with the new operands.
  public mutating func copy(_ node: Graph.Node) {
    let added = graph.append(node.operation, node.inputs.map(value), types: Array(old.types[node.results]))
    for (value, new) in zip(node.results, added) { number[value] = new }
  }

  /// An operation of one result; its type comes from the shape rule.
  public mutating func append(_ operation: Operation, _ inputs: [Graph.Value]) -> Graph.Value {
    do { return try graph.append(operation, inputs).lowerBound } catch {
      preconditionFailure("a pass made a wrong node: \(error)")
    }
  }

  /// The new graph, with the old one's outputs.
  public mutating func finish() -> Graph {
    graph.setOutputs(old.outputs.map(value), names: old.outputNames)
    return graph
  }
}
