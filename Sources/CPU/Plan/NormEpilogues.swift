import ApusIR
import CApusKernels

/// relu after a batch normalization is done while it is applied, and relu's gradient before that of a batch normalization while
/// gradients are read: a pass over memory less each way.
enum NormEpilogues {
  static func run(_ graph: Graph) -> Graph {
    let uses = graph.useCounts
    let producers = graph.producers
    var relus: [Int: Int] = [:]  // normalization → relu
    var gates: [Int: Int] = [:]  // normalization's gradient → relu's
    for (i, node) in graph.nodes.enumerated() {
      switch node.operation {
      case .unary(.relu):
        guard let n = producers[node.inputs[0]], graph.nodes[n].firstResult == node.inputs[0], uses[node.inputs[0]] == 1 else {
          continue
        }
        switch graph.nodes[n].operation {
        case .composite(.batchNorm), .composite(.batchNormInference): relus[n] = i
        default: continue
        }
      case .composite(.batchNormGradient):
        guard let n = producers[node.inputs[0]], case .activationGradient(.relu) = graph.nodes[n].operation,
          uses[node.inputs[0]] == 1
        else { continue }
        gates[i] = n
      default: continue
      }
    }
    if relus.isEmpty && gates.isEmpty { return graph }
    let gone = Set(relus.values).union(gates.values)
    var result = GraphRewriter(graph)
    for (i, node) in graph.nodes.enumerated() where !gone.contains(i) {
      if let relu = relus[i] {
        emit(graph, [i, relu], results: [graph.nodes[relu].firstResult] + node.results.dropFirst(), into: &result)
      } else if let gate = gates[i] {
        emit(graph, [gate, i], results: Array(node.results), into: &result)
      } else {
        result.copy(node)
      }
    }
    return result.finish()
  }

  private static func emit(_ graph: Graph, _ nodes: [Int], results: [Graph.Value], into result: inout GraphRewriter) {
    var body = Graph()
    var number: [Graph.Value: Graph.Value] = [:]
    var operands: [Graph.Value] = []
    let made = Set(nodes.flatMap { graph.nodes[$0].results })
    for i in nodes {
      // Each operand has a place of its own, also where two are the same value.
      for value in graph.nodes[i].inputs where !made.contains(value) && number[value] == nil {
        number[value] = body.addInput(graph.types[value])
        operands.append(value)
      }
    }
    for i in nodes {
      let node = graph.nodes[i]
      let added = body.append(
        node.operation, node.inputs.map { number[$0].unsafelyUnwrapped }, types: Array(graph.types[node.results]))
      for (value, new) in zip(node.results, added) { number[value] = new }
    }
    body.setOutputs(results.map { number[$0].unsafelyUnwrapped })
    let name = nodes.map { graph.nodes[$0].operation.name }.joined(separator: "_")
    let added = result.graph.append(
      .call(Function(name, body, role: .fusion)), operands.map { result.value($0) }, types: results.map { graph.types[$0] })
    for (value, new) in zip(results, added) { result.map(value, to: new) }
  }
}

/// A batch normalization with relu, or its gradient behind relu's: a body made by ``NormEpilogues``.
struct BatchNormKernel: Kernel {
  let name: String
  /// The normalization.
  let operation: Operation
  /// Which of the step's operands are the normalization's.
  let operands: [Int]
  /// Of a gradient: the operand whose signs decide which incoming gradients count, and that of these.
  let gate: Int?

  init?(_ function: Function) {
    let graph = function.graph
    guard graph.nodes.count == 2 else { return nil }
    let (first, second) = (graph.nodes[0], graph.nodes[1])
    name = function.name
    switch (first.operation, second.operation) {
    case (.composite(.batchNorm), .unary(.relu)), (.composite(.batchNormInference), .unary(.relu)):
      (operation, operands, gate) = (first.operation, first.inputs, nil)
    case (.activationGradient(.relu), .composite(.batchNormGradient)):
      (operation, operands, gate) = (second.operation, [first.inputs[0]] + second.inputs.dropFirst(), first.inputs[1])
    default: return nil
    }
  }

  func run(_ inputs: [CPUArray], _ out: [CPUArray]) {
    CPU.run(batchNorm: operation, operands.map { inputs[$0] }, gate: gate.map { inputs[$0] }, out)
  }

  func scratch(_ inputs: [CPUArray], _ out: [CPUArray]) -> Int { Scratch.bytes(operation, operands.map { inputs[$0] }, out) }
}
