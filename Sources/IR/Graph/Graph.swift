/// A program as data: typed operations in topological order, in one flat list.
///
/// Values have dense numbers: first the inputs, then each node's results in the order of nodes. A graph only grows;
/// a pass is a function from a graph to a new one. Whatever is in a graph has passed its shape rule.
public struct Graph: Sendable, Hashable {
  /// A value's number.
  public typealias Value = Int

  /// One operation, its operands, and where its results begin.
  public struct Node: Sendable, Hashable {
    public let operation: Operation
    public let inputs: [Value]
    public let firstResult: Value
    public let resultCount: Int
    public var results: Range<Value> { firstResult..<(firstResult + resultCount) }
  }

  /// The type of each value.
  public private(set) var types: [TensorType] = []
  /// The inputs are values 0 ..< inputCount.
  public private(set) var inputCount = 0
  /// What inputs are called, as in `weight` or `image`; may be empty, need not be unique.
  public private(set) var inputNames: [String] = []
  public private(set) var nodes: [Node] = []
  public private(set) var outputs: [Value] = []
  public private(set) var outputNames: [String] = []

  public init() {}

  public var inputs: Range<Value> { 0..<inputCount }
  public var inputTypes: [TensorType] { Array(types[..<inputCount]) }
  public var outputTypes: [TensorType] { outputs.map { types[$0] } }
  public var valueCount: Int { types.count }

  public func type(_ value: Value) -> TensorType { types[value] }

  /// Adds an input. All inputs come before the first node.
  @discardableResult
  public mutating func addInput(_ type: TensorType, name: String = "") -> Value {
    precondition(nodes.isEmpty, "inputs come before the first node")
    types.append(type)
    inputNames.append(name)
    inputCount += 1
    return inputCount - 1
  }

  /// Adds an operation; returns its results.
  /// - Throws: ``OperationError`` if the operands do not fit, ``GraphError`` if one does not exist.
  @discardableResult
  public mutating func append(_ operation: Operation, _ inputs: [Value]) throws -> Range<Value> {
    for value in inputs where value < 0 || value >= types.count {
      throw GraphError(node: nodes.count, "\(operation.name) reads value \(value), which does not come before it")
    }
    return append(operation, inputs, types: try operation.infer(inputs.map { types[$0] }))
  }

  /// Adds an operation whose result types are what its shape rule gave.
  @discardableResult
  public mutating func append(_ operation: Operation, _ inputs: [Value], types results: [TensorType]) -> Range<Value> {
    let node = Node(operation: operation, inputs: inputs, firstResult: types.count, resultCount: results.count)
    types += results
    nodes.append(node)
    return node.results
  }

  public mutating func setOutputs(_ values: [Value], names: [String]? = nil) {
    precondition(values.allSatisfy { $0 >= 0 && $0 < types.count }, "an output names a value that does not exist")
    outputs = values
    outputNames = names ?? values.map { _ in "" }
    precondition(outputNames.count == values.count, "one name for each output")
  }

  /// The node that makes each value; nil for inputs.
  public var producers: [Int?] {
    var result = [Int?](repeating: nil, count: types.count)
    for (i, node) in nodes.enumerated() { for value in node.results { result[value] = i } }
    return result
  }

  /// How often each value is read, outputs counted.
  public var useCounts: [Int] {
    var result = [Int](repeating: 0, count: types.count)
    for node in nodes { for value in node.inputs { result[value] += 1 } }
    for value in outputs { result[value] += 1 }
    return result
  }

  /// The last node that reads each value: -1 if none does, `nodes.count` if it is an output.
  public var lastUses: [Int] {
    var result = [Int](repeating: -1, count: types.count)
    for (i, node) in nodes.enumerated() { for value in node.inputs { result[value] = i } }
    for value in outputs { result[value] = nodes.count }
    return result
  }
}

extension Graph {
  /// The bytes of all values, those of functions inside too; at most 2⁶².
  package var byteBound: Int {
    var sum = 0
    for type in types {
      let (bytes, overflow) = (type.shape.checkedElementCount ?? .max).multipliedReportingOverflow(by: type.elementType.byteSize)
      sum = min(sum, 1 << 62) + min(overflow ? 1 << 62 : bytes, 1 << 62 - 1)
    }
    for node in nodes {
      for function in node.operation.functions { sum = min(sum, 1 << 62) + min(function.graph.byteBound, 1 << 62 - 1) }
    }
    return min(sum, 1 << 62)
  }
}

/// What is wrong with a graph, and where.
public struct GraphError: Error, Sendable, CustomStringConvertible {
  /// The number of the node, if it is one's fault.
  public var node: Int?
  public var message: String

  public init(node: Int? = nil, _ message: String) {
    self.node = node
    self.message = message
  }

  public var description: String { node.map { "node \($0): \(message)" } ?? message }
}

extension Graph {
  /// Checks everything a graph promises: numbering, order, types, outputs. Passes are followed by it in tests.
  /// - Throws: ``GraphError`` naming the node.
  public func verify() throws(GraphError) {
    guard inputNames.count == inputCount, outputNames.count == outputs.count else {
      throw GraphError("the names of inputs or outputs are not as many as these")
    }
    var next = inputCount
    for (i, node) in nodes.enumerated() {
      guard node.firstResult == next else { throw GraphError(node: i, "results begin at \(node.firstResult), not at \(next)") }
      for value in node.inputs where value < 0 || value >= next {
        throw GraphError(node: i, "\(node.operation.name) reads value \(value), which does not come before it")
      }
      let expected: [TensorType]
      do { expected = try node.operation.infer(node.inputs.map { types[$0] }) } catch {
        throw GraphError(node: i, error.description)
      }
      next += node.resultCount
      guard next <= types.count, Array(types[node.results]) == expected else {
        throw GraphError(node: i, "\(node.operation.name) is said to give other types than \(expected)")
      }
      for function in node.operation.functions {
        do { try function.graph.verify() } catch { throw GraphError(node: i, "in \(function.name): \(error)") }
      }
    }
    guard next == types.count else { throw GraphError("there are \(types.count - next) values that nothing makes") }
    for value in outputs where value < 0 || value >= next { throw GraphError("output \(value) does not exist") }
  }
}

/// A graph with a name that operations refer to: the body of a loop, a branch, a group that runs as one kernel.
public struct Function: Sendable, Hashable {
  /// Why the graph is apart.
  public enum Role: Sendable, Hashable {
    /// It was written so, or control flow needs it.
    case body
    /// Its operations run as one kernel, which the engine finds from them.
    case fusion
  }

  public var name: String
  public var role: Role
  public var graph: Graph

  public init(_ name: String, _ graph: Graph, role: Role = .body) {
    self.name = name
    self.graph = graph
    self.role = role
  }
}

/// `body` over the first dimension of sequences, handing on a state (JAX's `scan`).
///
/// Operands: `carried` states, `sequences` tensors [length, …], any number of constants. The body takes the states, one
/// element of each sequence and the constants; it gives the next states, then outputs. Results: the last states, then each
/// output stacked to [length, …].
public struct ScanLoop: Sendable, Hashable {
  public var body: Function
  public var carried: Int
  public var sequences: Int
  public var length: Int
  /// From the last element to the first; outputs stand where their element stood.
  public var reverse: Bool

  public init(body: Function, carried: Int, sequences: Int, length: Int, reverse: Bool = false) {
    self.body = body
    self.carried = carried
    self.sequences = sequences
    self.length = length
    self.reverse = reverse
  }
}

/// `body` as long as `condition` holds.
///
/// Operands: `carried` states, then constants; both functions take all of them. The condition gives a bool scalar, the
/// body the next states, which are the results.
public struct WhileLoop: Sendable, Hashable {
  public var condition, body: Function
  public var carried: Int

  public init(condition: Function, body: Function, carried: Int) {
    self.condition = condition
    self.body = body
    self.carried = carried
  }
}

/// Code outside of the operation set, found by name when it runs.
public struct CustomCall: Sendable, Hashable {
  public var name: String
  public var configuration: String
  public var resultTypes: [TensorType]

  public init(_ name: String, configuration: String = "", resultTypes: [TensorType]) {
    self.name = name
    self.configuration = configuration
    self.resultTypes = resultTypes
  }
}

extension Operation {
  /// Whether it runs code outside of the operation set, also somewhere in its functions.
  public var hasCustomCall: Bool {
    if case .customCall = self { return true }
    return functions.contains { $0.graph.nodes.contains { $0.operation.hasCustomCall } }
  }

  /// The graphs inside of the operation.
  public var functions: [Function] {
    switch self {
    case .call(let function): [function]
    case .conditional(let then, let otherwise): [then, otherwise]
    case .whileLoop(let loop): [loop.condition, loop.body]
    case .whileLoopGradient(let loop, let pullback): [loop.condition, loop.body, pullback]
    case .scanLoop(let loop): [loop.body]
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .fill, .iota, .random, .constant,
      .broadcast,
      .reshape, .transpose, .slice, .pad, .concatenate, .reverse, .dynamicSlice, .dynamicUpdateSlice, .triangle, .reduce,
      .argReduce, .scan, .sort, .topK, .gather, .takeAlong, .gatherND, .scatter, .scatterAlong, .scatterND, .dot, .quantizedDot,
      .convolution, .convolutionInputGradient, .convolutionKernelGradient, .reduceWindow, .reduceWindowGradient, .maxPoolIndices,
      .stopGradient, .customCall, .composite:
      []
    }
  }
}
