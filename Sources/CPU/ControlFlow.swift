import ApusIR
import CApusKernels
import Synchronization

extension CPU {
  /// Runs a graph operation by operation, as eager execution would: the meaning that plans are compared with.
  ///
  /// A value's memory is given back after its last use.
  public static func run(_ graph: Graph, _ inputs: [CPUArray]) throws(ExecutionError) -> [CPUArray] {
    var values = [CPUArray?](repeating: nil, count: graph.valueCount)
    for (i, input) in inputs.enumerated() { values[i] = input }
    let last = graph.lastUses
    for (i, node) in graph.nodes.enumerated() {
      var operands: [CPUArray] = []
      operands.reserveCapacity(node.inputs.count)
      for value in node.inputs { operands.append(values[value].unsafelyUnwrapped) }
      let results = try execute(node.operation, operands, Array(graph.types[node.results]))
      for (value, array) in zip(node.results, results) where last[value] > i { values[value] = array }
      for value in node.inputs where last[value] == i { values[value] = nil }
    }
    return graph.outputs.map { values[$0].unsafelyUnwrapped }
  }

  private static func isTrue(_ x: CPUArray) -> Bool { x.pointer.load(as: UInt8.self) != 0 }

  /// Runs one of an operation's functions, by its place in ``Operation/functions``: operation by operation, or as a plan.
  typealias Body = (_ function: Int, _ inputs: [CPUArray]) throws(ExecutionError) -> [CPUArray]

  /// An operation that has functions inside; nil for others.
  static func controlFlow(_ operation: Operation, _ inputs: [CPUArray], _ types: [TensorType], _ body: Body)
    throws(ExecutionError)
    -> [CPUArray]?
  {
    switch operation {
    case .call: try body(0, inputs)
    case .conditional: try body(isTrue(inputs[0]) ? 0 : 1, Array(inputs.dropFirst()))
    case .whileLoop(let loop): try whileLoop(loop, inputs, body)
    case .whileLoopGradient(let loop, _): try whileLoopGradient(loop, inputs, body)
    case .scanLoop(let loop): try scanLoop(loop, inputs, types, body)
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .fill, .iota, .random, .constant,
      .broadcast, .reshape, .transpose, .slice, .pad, .concatenate, .reverse, .dynamicSlice, .dynamicUpdateSlice, .triangle,
      .reduce, .argReduce, .scan, .sort, .topK, .gather, .takeAlong, .gatherND, .scatter, .scatterAlong, .scatterND, .dot,
      .quantizedDot, .convolution, .convolutionInputGradient, .convolutionKernelGradient, .reduceWindow, .reduceWindowGradient,
      .maxPoolIndices, .stopGradient, .customCall, .composite:
      nil
    }
  }

  private static func whileLoop(_ loop: WhileLoop, _ inputs: [CPUArray], _ body: Body) throws(ExecutionError) -> [CPUArray] {
    var operands = inputs
    while isTrue(try body(0, operands)[0]) { operands.replaceSubrange(..<loop.carried, with: try body(1, operands)) }
    return Array(operands[..<loop.carried])
  }

  /// Forward while keeping every round's states, then the rounds backward.
  private static func whileLoopGradient(_ loop: WhileLoop, _ inputs: [CPUArray], _ body: Body) throws(ExecutionError)
    -> [CPUArray]
  {
    var operands = Array(inputs.dropLast(loop.carried))
    var gradients = Array(inputs.suffix(loop.carried))
    let constants = Array(operands[loop.carried...])
    var rounds: [[CPUArray]] = []
    while isTrue(try body(0, operands)[0]) {
      rounds.append(Array(operands[..<loop.carried]))
      operands.replaceSubrange(..<loop.carried, with: try body(1, operands))
    }
    var sums: [CPUArray]? = nil
    while let states = rounds.popLast() {
      let results = try body(2, states + constants + gradients)
      gradients = Array(results[..<loop.carried])
      let parts = Array(results[loop.carried...])
      if let before = sums {
        sums = zip(before, parts).map { a, b in a.elementType.isFloatingPoint ? binary(.add, a, b, reuse: .neither) : b }
      } else {
        sums = parts
      }
    }
    return gradients + (sums ?? constants.map { fill($0.shape, $0.elementType, .int(0)) })
  }

  private static func scanLoop(_ loop: ScanLoop, _ inputs: [CPUArray], _ types: [TensorType], _ body: Body)
    throws(ExecutionError) -> [CPUArray]
  {
    var states = Array(inputs[..<loop.carried])
    let sequences = inputs[loop.carried..<(loop.carried + loop.sequences)]
    let constants = Array(inputs[(loop.carried + loop.sequences)...])
    let stacked = types[loop.carried...].map { CPUArray(uninitialized: $0.shape, $0.elementType) }
    for round in 0..<loop.length {
      let i = loop.reverse ? loop.length - 1 - round : round
      let results = try body(0, states + sequences.map { element($0, i) } + constants)
      states = Array(results[..<loop.carried])
      for (whole, part) in zip(stacked, results[loop.carried...]) { element(whole, i).assign(part) }
    }
    return states + stacked
  }

  /// `x[i]` along the first dimension, the same memory.
  private static func element(_ x: CPUArray, _ i: Int) -> CPUArray {
    CPUArray(
      view: x, byteOffset: x.byteOffset + i * x.strides[0] * x.elementType.byteSize, shape: Shape(x.shape.dropFirst()),
      strides: Shape(x.strides.dropFirst()))
  }
}

// MARK: Code outside of the operation set

extension CPU {
  /// What runs a ``CustomCall``: row-major operands and the configuration to as many arrays as it has result types.
  public typealias CustomFunction = @Sendable (_ inputs: [CPUArray], _ configuration: String) throws -> [CPUArray]

  private static let customFunctions = Mutex<[String: CustomFunction]>([:])

  /// Makes a function known under a name; a program that calls this name can run then.
  public static func register(customCall name: String, _ function: @escaping CustomFunction) {
    customFunctions.withLock { $0[name] = function }
  }

  static func customCall(_ operation: Operation, _ call: CustomCall, _ inputs: [CPUArray]) throws(ExecutionError) -> [CPUArray] {
    guard let function = customFunctions.withLock({ $0[call.name] }) else {
      throw ExecutionError(operation, "no function is registered under this name; see CPU.register(customCall:_:)")
    }
    let results: [CPUArray]
    do { results = try function(inputs.map { $0.rowMajor() }, call.configuration) } catch {
      throw ExecutionError(operation, "\(error)")
    }
    guard results.map(\.type) == call.resultTypes else {
      throw ExecutionError(operation, "gave \(results.map(\.type)) where \(call.resultTypes) was promised")
    }
    return results
  }
}

extension CPUArray {
  /// The memory of a constant, without a copy.
  public init(_ constant: Constant) {
    let array =
      (constant.owner as? Storage)
      ?? constant.withUnsafeBytes { bytes in
        let copy = Storage(byteCount: bytes.count)
        if let base = bytes.baseAddress { copy.pointer.copyMemory(from: base, byteCount: bytes.count) }
        return copy
      }
    let offset =
      constant.owner is Storage
      ? constant.withUnsafeBytes { $0.baseAddress.map { $0 - UnsafeRawPointer(array.pointer) } ?? 0 } : 0
    self.init(
      dense: constant.type.shape, strides: constant.type.shape.rowMajorStrides, constant.type.elementType, isRowMajor: true,
      over: array, byteOffset: offset)
  }

  /// The elements as part of a program. Nobody may write to the array's memory any more.
  public var asConstant: Constant {
    let source = rowMajor()
    return Constant(type, address: UnsafeRawPointer(source.pointer), owner: source.storageReference.unsafelyUnwrapped)
  }
}
