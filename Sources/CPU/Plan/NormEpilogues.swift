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
        result.fuse([i, relu], results: [graph.nodes[relu].firstResult] + node.results.dropFirst())
      } else if let gate = gates[i] {
        result.fuse([gate, i], results: Array(node.results))
      } else {
        result.copy(node)
      }
    }
    return result.finish()
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
