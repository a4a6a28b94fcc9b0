/// Why an operation does not take its operands, as a sentence.
public struct OperationError: Error, Sendable, Hashable, CustomStringConvertible {
  public var operation: String
  public var message: String

  public init(_ operation: Operation, _ message: String) {
    self.operation = operation.name
    self.message = message
  }

  public var description: String { "\(operation): \(message)" }
}

extension Operation {
  /// The shape and type rule: what the operation yields for operands of these types.
  ///
  /// The only such rule: eager execution, tracing, export and loading call it.
  /// - Throws: ``OperationError`` naming the operation, the shapes it got and what would fit.
  public func infer(_ inputs: [TensorType]) throws(OperationError) -> [TensorType] {
    switch self {
    case .unary(let kind): [try inferUnary(kind, one(inputs))]
    case .binary(let kind):
      try {
        () throws(OperationError) in
        let (a, b) = try two(inputs)
        return [try inferBinary(kind, a, b)]
      }()
    case .compare, .select, .convert, .bitcast, .activationGradient: [try inferElementwise(inputs)]
    case .fill, .iota, .random, .constant: [try inferCreation(inputs)]
    case .broadcast, .reshape, .transpose, .slice, .pad, .concatenate, .reverse, .dynamicSlice, .dynamicUpdateSlice, .triangle,
      .stopGradient:
      [try inferShaping(inputs)]
    case .reduce, .argReduce, .scan, .sort, .topK: try inferReduction(inputs)
    case .gather, .takeAlong, .gatherND, .scatter, .scatterAlong, .scatterND: [try inferIndexing(inputs)]
    case .dot(let dimensions):
      try {
        () throws(OperationError) in
        let (a, b) = try two(inputs)
        return [try inferDot(dimensions, a, b)]
      }()
    case .quantizedDot: [try inferQuantizedDot(inputs)]
    case .convolution, .convolutionInputGradient, .convolutionKernelGradient, .reduceWindow, .reduceWindowGradient,
      .maxPoolIndices:
      [try inferConvolution(inputs)]
    case .call, .conditional, .whileLoop, .whileLoopGradient, .scanLoop, .customCall: try inferControlFlow(inputs)
    case .composite(let composite): try inferComposite(composite, inputs)
    }
  }

  func fail(_ message: String) -> OperationError { OperationError(self, message) }

  func require(_ condition: Bool, _ message: @autoclosure () -> String) throws(OperationError) {
    if !condition { throw fail(message()) }
  }

  func expect(_ inputs: [TensorType], _ count: Int) throws(OperationError) {
    try require(inputs.count == count, "takes \(count) operand\(count == 1 ? "" : "s"), got \(inputs.count)")
  }

  func one(_ inputs: [TensorType]) throws(OperationError) -> TensorType {
    try expect(inputs, 1)
    return inputs[0]
  }

  func two(_ inputs: [TensorType]) throws(OperationError) -> (TensorType, TensorType) {
    try expect(inputs, 2)
    return (inputs[0], inputs[1])
  }

  func checkAxis(_ axis: Int, _ type: TensorType) throws(OperationError) {
    try require(
      axis >= 0 && axis < type.shape.count, "axis \(axis) does not exist in a tensor of shape \(type.shape)")
  }

  func checkAxes(_ axes: Axes, _ type: TensorType) throws(OperationError) {
    for i in 0..<axes.count {
      try checkAxis(axes[i], type)
      for j in 0..<i where axes[j] == axes[i] { throw fail("axis \(axes[i]) is named twice in \(axes)") }
    }
  }

  func checkShape(_ shape: Shape) throws(OperationError) {
    try require(shape.allSatisfy { $0 >= 0 }, "shape \(shape) has a negative size")
    try require(shape.checkedElementCount != nil, "shape \(shape) has too many elements")
  }
}
