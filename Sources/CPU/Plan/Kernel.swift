import ApusIR
import CApusKernels

/// One call of a plan: reads operands, writes results that have their places already.
protocol Kernel: Sendable {
  /// What profiles call it.
  var name: String { get }
  func run(_ inputs: [CPUArray], _ out: [CPUArray]) throws(ExecutionError)
  /// Whether result `result` may lie in the memory of operand `i` if nobody needs the operand any more and both are laid out alike.
  func canOverwrite(_ i: Int, _ result: Int) -> Bool
  /// Whether it only reads its operands and writes its results, so that it may run beside others.
  var isPure: Bool { get }
  /// The bytes it borrows while it runs.
  func scratch(_ inputs: [CPUArray], _ out: [CPUArray]) -> Int
}

extension Kernel {
  func canOverwrite(_ i: Int, _ result: Int) -> Bool { false }
  var isPure: Bool { true }
  func scratch(_ inputs: [CPUArray], _ out: [CPUArray]) -> Int { 0 }
}

/// Any operation, as eager execution runs it.
struct OperationKernel: Kernel {
  let operation: Operation
  var name: String { operation.name }
  func run(_ inputs: [CPUArray], _ out: [CPUArray]) throws(ExecutionError) { try CPU.run(operation, inputs, out) }

  var isPure: Bool { operation.functions.isEmpty && !operation.hasCustomCall }
  func scratch(_ inputs: [CPUArray], _ out: [CPUArray]) -> Int { Scratch.bytes(operation, inputs, out) }

  func canOverwrite(_ i: Int, _ result: Int) -> Bool {
    switch operation {
    case .unary, .binary, .compare, .select, .convert: true
    case .activationGradient(let kind): kind.code != nil
    case .dynamicUpdateSlice, .scatter, .scatterAlong, .scatterND: i == 0
    case .composite(let composite):
      switch composite {
      case .softmax, .logSoftmax, .softmaxGradient, .logSoftmaxGradient: true
      case .optimizerStep(let rule): result == 0 ? i == 0 : i == result + 1 && i < 2 + rule.stateCount
      // An LSTM's activated gates where they were before, and their gradients where the activated ones were.
      case .recurrentSequence(let sequence, _): sequence.kind == .lstm && i == 0 && result == 5
      case .recurrentSequenceGradient(let sequence): sequence.kind == .lstm && i == 5 && result == 0
      case .layerNorm, .layerNormGradient, .rmsNorm, .rmsNormGradient, .batchNorm, .batchNormGradient, .batchNormInference,
        .softmaxCrossEntropy, .softmaxCrossEntropyGradient, .linear, .attention, .attentionGradient, .rope, .lstmCell,
        .lstmCellGradient, .gruCell, .gruCellGradient:
        false
      }
    case .bitcast, .fill, .iota, .random, .constant, .broadcast, .reshape, .transpose, .slice, .pad, .concatenate, .reverse,
      .dynamicSlice, .triangle, .reduce, .argReduce, .scan, .sort, .topK, .gather, .takeAlong, .gatherND, .dot, .quantizedDot,
      .convolution, .convolutionInputGradient, .convolutionKernelGradient, .reduceWindow, .reduceWindowGradient, .maxPoolIndices,
      .stopGradient, .call, .conditional, .whileLoop, .whileLoopGradient, .scanLoop, .customCall:
      false
    }
  }
}

/// Control flow whose functions are plans of their own.
struct ControlFlowKernel: Kernel {
  let operation: Operation
  /// As ``Operation/functions`` has them.
  let plans: [Plan]
  let types: [TensorType]
  var name: String { operation.name }

  init(_ operation: Operation, types: [TensorType], exact: Bool) {
    self.operation = operation
    self.types = types
    plans = operation.functions.map { Plan($0.graph, exact: exact) }
  }

  func run(_ inputs: [CPUArray], _ out: [CPUArray]) throws(ExecutionError) {
    let results = try CPU.controlFlow(operation, inputs, types) { i, operands throws(ExecutionError) in try plans[i].run(operands)
    }
    for (array, result) in zip(out, results.unsafelyUnwrapped) { array.assign(result) }
  }

  var isPure: Bool { false }
  /// What the plans keep between runs.
  var keptBytes: Int { plans.reduce(0) { $0 + $1.memory.arena + $1.memory.stable + $1.memory.bodies } }
}

/// An optimizer's step of many small parameters.
struct OptimizerGroupKernel: Kernel {
  let rule: OptimizerRule
  let count: Int
  var name: String { "\(rule.kind)Step of \(count)" }
  func run(_ inputs: [CPUArray], _ out: [CPUArray]) { CPU.run(optimizerSteps: rule, count, inputs, out) }

  func canOverwrite(_ i: Int, _ result: Int) -> Bool {
    let (operands, results) = (4 + rule.stateCount, 1 + rule.stateCount)
    guard i / operands == result / results else { return false }
    let (k, r) = (i % operands, result % results)
    return r == 0 ? k == 0 : k == r + 1
  }
}

/// The same elements in another layout.
struct CopyKernel: Kernel {
  var name: String { "copy" }
  func run(_ inputs: [CPUArray], _ out: [CPUArray]) { out[0].assign(inputs[0]) }
}

/// A weight in the form that products read.
struct PackKernel: Kernel {
  let form: CPU.Preparation
  var name: String { "pack" }
  func run(_ inputs: [CPUArray], _ out: [CPUArray]) { form.make(inputs[0], out[0]) }
}

/// A group of elementwise operations in one pass.
struct TileKernel: Kernel {
  let name: String
  let program: TileProgram
  func run(_ inputs: [CPUArray], _ out: [CPUArray]) { program.run(inputs + out) }
  func canOverwrite(_ i: Int, _ result: Int) -> Bool { true }
}
