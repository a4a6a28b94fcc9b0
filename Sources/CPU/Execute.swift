import ApusIR
import CApusKernels

/// What only running can find out: an index outside its dimension, a label that names no class.
public struct ExecutionError: Error, Sendable, CustomStringConvertible {
  public var operation: String
  public var message: String
  public var description: String { "\(operation): \(message)" }

  init(_ operation: Operation, _ message: String) {
    self.operation = operation.name
    self.message = message
  }
}

/// The CPU engine, one operation at a time.
public enum CPU {
  /// Runs `operation` now. `types` is what its shape rule gave.
  /// - Throws: ``ExecutionError`` for values the shape rule cannot see.
  public static func execute(_ operation: Operation, _ inputs: [CPUArray], _ types: [TensorType]) throws(ExecutionError)
    -> [CPUArray]
  {
    switch operation {
    case .unary(let kind): [unary(kind, inputs[0], types[0].elementType, reuse: false)]
    case .binary(let kind): [binary(kind, inputs[0], inputs[1], reuse: .neither)]
    case .compare(let kind): [compare(kind, inputs[0], inputs[1])]
    case .select: [select(inputs[0], inputs[1], inputs[2])]
    case .convert(let type): [convert(inputs[0], type)]
    case .bitcast(let type):
      [CPUArray(view: inputs[0], shape: inputs[0].shape, strides: inputs[0].strides, elementType: type)]
    case .activationGradient(let kind): [activationGradient(kind, inputs[0], inputs[1], reuse: .neither)]
    case .fill(let shape, let type, let value): [fill(shape, type, value)]
    case .iota(let shape, let type, let axis): [iota(shape, type, axis)]
    case .random(let parameters): [random(parameters, state: inputs[0])]
    case .constant(let constant): [CPUArray(constant)]
    case .broadcast(let shape): [broadcast(inputs[0], shape)]
    case .reshape(let shape): [reshape(inputs[0], shape)]
    case .transpose(let permutation): [transpose(inputs[0], permutation)]
    case .slice(let start, _, let step): [slice(inputs[0], start, types[0].shape, step)]
    case .pad(let low, let high, let interior): [pad(inputs[0], inputs[1], low, high, interior, types[0].shape)]
    case .concatenate(let axis): [concatenate(inputs, axis, types[0].shape)]
    case .reverse(let axes): [reverse(inputs[0], axes)]
    case .dynamicSlice(let size): [dynamicSlice(inputs[0], inputs[1], size)]
    case .dynamicUpdateSlice: [dynamicUpdateSlice(inputs[0], inputs[1], inputs[2])]
    case .triangle(let upper, let diagonal): [triangle(inputs[0], upper, diagonal)]
    case .stopGradient: [inputs[0]]
    case .reduce(let kind, let axes, _): [reduce(kind, inputs[0], axes, types[0])]
    case .argReduce(let kind, let axis, _): [argReduce(kind, inputs[0], axis, types[0].shape)]
    case .scan(let kind, let axis, let reverse, let exclusive): [scan(kind, inputs[0], axis, reverse, exclusive)]
    case .sort(let axis, let descending): sort(inputs[0], axis, descending)
    case .topK(let k, let axis, let largest): topK(inputs[0], k, axis, largest, types[0].shape)
    case .gather(let axis): [try gather(operation, inputs[0], inputs[1], axis, types[0].shape)]
    case .takeAlong(let axis): [try takeAlong(operation, inputs[0], inputs[1], axis)]
    case .gatherND: [try gatherND(operation, inputs[0], inputs[1], types[0].shape)]
    case .scatter(let kind, let axis): [try scatter(operation, kind, inputs[0], inputs[1], inputs[2], axis)]
    case .scatterAlong(let kind, let axis): [try scatterAlong(operation, kind, inputs[0], inputs[1], inputs[2], axis)]
    case .scatterND(let kind): [try scatterND(operation, kind, inputs[0], inputs[1], inputs[2])]
    case .dot(let dimensions): [dot(dimensions, inputs[0], inputs[1], types[0].shape)]
    case .quantizedDot: [try quantizedDot(inputs)]
    case .convolution(let p): [convolution(p, inputs[0], inputs[1], inputs.count > 2 ? inputs[2] : nil, types[0].shape)]
    case .convolutionInputGradient(let p, _): [convolutionInputGradient(p, inputs[0], inputs[1], types[0].shape)]
    case .convolutionKernelGradient(let p, _): [convolutionKernelGradient(p, inputs[0], inputs[1], types[0].shape)]
    case .reduceWindow(let kind, let window): [reduceWindow(kind, window, inputs[0], types[0].shape)]
    case .reduceWindowGradient(let kind, let window): [reduceWindowGradient(kind, window, inputs[0], inputs[1])]
    case .maxPoolIndices(let window): [maxPoolIndices(window, inputs[0], types[0].shape)]
    case .call(let function): try run(function.graph, inputs)
    case .conditional(let then, let otherwise): try conditional(then, otherwise, inputs)
    case .whileLoop(let loop): try whileLoop(loop, inputs)
    case .whileLoopGradient(let loop, let pullback): try whileLoopGradient(loop, pullback, inputs)
    case .scanLoop(let loop): try scanLoop(loop, inputs, types)
    case .customCall(let call): try customCall(operation, call, inputs)
    case .composite(let composite): try self.composite(operation, composite, inputs, types)
    }
  }

  /// Which operand of an elementwise operation nobody else sees, so that the result may take its memory.
  public enum Reuse: Sendable { case neither, lhs, rhs }
}
