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
    case .fill(let shape, let type, let value): return [fill(shape, type, value)]
    case .iota(let shape, let type, let axis): return [iota(shape, type, axis)]
    case .constant(let constant): return [CPUArray(constant)]
    case .dynamicSlice(let size): return [dynamicSlice(inputs[0], inputs[1], size)]
    case .call, .conditional, .whileLoop, .whileLoopGradient, .scanLoop:
      let functions = operation.functions
      return try controlFlow(operation, inputs, types) { i, operands throws(ExecutionError) in
        try run(functions[i].graph, operands)
      }
      .unsafelyUnwrapped
    case .customCall(let call): return try customCall(operation, call, inputs)
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .random, .broadcast, .reshape, .transpose,
      .slice, .pad, .concatenate, .reverse, .dynamicUpdateSlice, .triangle, .reduce, .argReduce, .scan, .sort, .topK, .gather,
      .takeAlong, .gatherND, .scatter, .scatterAlong, .scatterND, .dot, .quantizedDot, .convolution, .convolutionInputGradient,
      .convolutionKernelGradient, .reduceWindow, .reduceWindowGradient, .maxPoolIndices, .stopGradient, .composite:
      if let view = view(operation, inputs, types[0]) { return [view] }
      let results = layouts(operation, inputs, types).map { $0.allocated() }
      try run(operation, inputs, results)
      return results
    }
  }

  /// Runs `operation` into memory for its results, laid out as ``layouts(_:_:_:)`` says.
  static func run(_ operation: Operation, _ operands: [CPUArray], _ out: [CPUArray]) throws(ExecutionError) {
    var inputs = operands
    for i in inputs.indices where !inputs[i].isRowMajor && needsRowMajor(operation, i) { inputs[i] = inputs[i].copy() }
    defer { withExtendedLifetime(inputs) {} }
    switch operation {
    case .unary(let kind): run(unary: kind.code, inputs[0], out[0])
    case .binary(let kind): run(binary: kind.code, inputs[0], inputs[1], out[0])
    case .compare(let kind): run(binary: kind.code, inputs[0], inputs[1], out[0])
    case .select: run(select: inputs[0], inputs[1], inputs[2], out[0])
    case .convert: run(convert: inputs[0], out[0])
    case .activationGradient(let kind): run(activationGradient: kind, inputs[0], inputs[1], out[0])
    case .random(let parameters): run(random: parameters, state: inputs[0], out[0])
    case .reshape: out[0].assign(CPUArray(view: inputs[0].copy(), shape: out[0].shape, strides: out[0].strides))
    case .pad(let low, let high, let interior): run(pad: inputs[0], inputs[1], low, high, interior, out[0])
    case .concatenate(let axis): run(concatenate: inputs, axis, out[0])
    case .dynamicSlice(let size): out[0].assign(dynamicSlice(inputs[0], inputs[1], size))
    case .dynamicUpdateSlice: run(dynamicUpdateSlice: inputs[0], inputs[1], inputs[2], out[0])
    case .triangle(let upper, let diagonal): run(triangle: inputs[0], upper, diagonal, out[0])
    case .reduce(let kind, let axes, _): run(reduce: kind, inputs[0], axes, out[0])
    case .argReduce(let kind, let axis, _): run(argReduce: kind, inputs[0], axis, out[0])
    case .scan(let kind, let axis, let reverse, let exclusive): run(scan: kind, inputs[0], axis, reverse, exclusive, out[0])
    case .sort(let axis, let descending): run(sort: inputs[0], axis, descending, out[0], out[1])
    case .topK(let k, let axis, let largest): run(topK: inputs[0], k, axis, largest, out[0], out[1])
    case .gather(let axis): try run(gather: inputs[0], inputs[1], axis, out[0], operation)
    case .takeAlong(let axis): try run(takeAlong: inputs[0], inputs[1], axis, out[0], operation)
    case .gatherND: try run(gatherND: inputs[0], inputs[1], out[0], operation)
    case .scatter(let kind, let axis): try run(scatter: kind, inputs[0], inputs[1], inputs[2], axis, out[0], operation)
    case .scatterAlong(let kind, let axis): try run(scatterAlong: kind, inputs[0], inputs[1], inputs[2], axis, out[0], operation)
    case .scatterND(let kind): try run(scatterND: kind, inputs[0], inputs[1], inputs[2], out[0])
    case .dot(let dimensions): run(dot: dimensions, inputs[0], inputs[1], out[0])
    case .quantizedDot: try run(quantizedDot: inputs, out[0])
    case .convolution(let p): run(convolution: p, inputs[0], inputs[1], inputs.count > 2 ? inputs[2] : nil, out[0])
    case .convolutionInputGradient(let p, _): run(convolutionInputGradient: p, inputs[0], inputs[1], out[0])
    case .convolutionKernelGradient(let p, _): run(convolutionKernelGradient: p, inputs[0], inputs[1], out[0])
    case .reduceWindow(let kind, let window): run(reduceWindow: kind, window, inputs[0], out[0])
    case .reduceWindowGradient(let kind, let window): run(reduceWindowGradient: kind, window, inputs[0], inputs[1], out[0])
    case .maxPoolIndices(let window): run(maxPoolIndices: window, inputs[0], out[0])
    case .composite(let composite): try run(composite: composite, inputs, out, operation)
    case .bitcast, .fill, .iota, .constant, .broadcast, .transpose, .slice, .reverse, .stopGradient, .call, .conditional,
      .whileLoop, .whileLoopGradient, .scanLoop, .customCall:
      let results = try execute(operation, inputs, out.map(\.type))
      for (target, result) in zip(out, results) { target.assign(result) }
    }
  }

  /// Which operand of an elementwise operation nobody else sees, so that the result may take its memory.
  public enum Reuse: Sendable { case neither, lhs, rhs }
}
