import ApusIR
import CApusKernels

/// A product or convolution with what is done to its result while it is in registers.
struct ContractionKernel: Kernel {
  let name: String
  let operation: Operation
  /// Which operand of the step is what; the contraction's own operands come first.
  private(set) var operandCount: Int
  private(set) var bias: Int?
  private(set) var residual: Int?
  private(set) var residualComesAfter = false
  private(set) var activation: UnaryKind?
  /// The operand that holds the packed right side.
  var packed: Int?

  /// A contraction alone.
  init(_ operation: Operation, operandCount: Int) {
    name = operation.name
    self.operation = operation
    self.operandCount = operandCount
  }

  /// - Parameter function: a body made by ``Epilogues``.
  init?(_ function: Function) {
    let graph = function.graph
    guard let first = graph.nodes.first else { return nil }
    switch first.operation {
    case .composite(.linear), .dot, .convolution: break
    default: return nil
    }
    name = function.name
    operation = first.operation
    operandCount = first.inputs.count
    guard first.inputs == Array(0..<operandCount) else { return nil }
    var value = first.firstResult
    for node in graph.nodes.dropFirst() {
      switch node.operation {
      case .unary(let kind): activation = kind
      case .binary(.add):
        let other = node.inputs[0] == value ? node.inputs[1] : node.inputs[0]
        guard other < graph.inputCount else { return nil }
        if case .dot = operation, bias == nil, residual == nil, activation == nil, graph.inputNames[other] == "bias" {
          bias = other
        } else {
          residual = other
          residualComesAfter = activation != nil
        }
      default: return nil
      }
      value = node.firstResult
    }
  }

  func run(_ inputs: [CPUArray], _ out: [CPUArray]) {
    var epilogue = CPU.Epilogue()
    epilogue.activation = activation
    epilogue.bias = bias.map { inputs[$0] }
    epilogue.residual = residual.map { inputs[$0] }
    epilogue.residualComesAfter = residualComesAfter
    epilogue.packed = packed.map { inputs[$0] }
    switch operation {
    case .composite(.linear): CPU.run(linear: inputs[0], inputs[1], inputs[2], out[0], epilogue)
    case .dot(let d): CPU.run(dot: d, inputs[0], inputs[1], out[0], epilogue)
    case .convolution(let p):
      CPU.run(convolution: p, inputs[0], inputs[1], operandCount > 2 ? inputs[2] : nil, out[0], epilogue)
    default: preconditionFailure("\(name) is not a contraction")
    }
  }

  func scratch(_ inputs: [CPUArray], _ out: [CPUArray]) -> Int {
    let bytes = Scratch.bytes(operation, inputs, out)
    guard packed != nil else { return bytes }
    if case .convolution = operation { return 0 }
    return bytes / 2  // the left side alone
  }
}
