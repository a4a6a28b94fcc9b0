import ApusTensor

/// Why a graph of layers is no model.
public enum ModelError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Two inputs, layers or functions have this name.
  case duplicateName(String)
  /// A name that is empty or has a point, which separates names in files.
  case invalidName(String)
  /// An output depends on an input that is not among the model's; the layer that reads it.
  case missingInput(String, neededBy: String)
  /// No output depends on this input.
  case unusedInput(String)
  /// An input is listed twice.
  case repeatedInput(String)
  case noInputs
  case noOutputs

  public var description: String {
    switch self {
    case .duplicateName(let name): "two parts of the model are named \"\(name)\"; names must differ"
    case .invalidName(let name): "\"\(name)\" is no name: it must not be empty nor have a point"
    case .missingInput(let name, let layer):
      "\"\(layer)\" depends on the input \"\(name)\", which is not among the model's inputs"
    case .unusedInput(let name): "no output depends on the input \"\(name)\""
    case .repeatedInput(let name): "the input \"\(name)\" is listed twice"
    case .noInputs: "a model needs an input"
    case .noOutputs: "a model needs an output"
    }
  }
}

/// A graph of layers as a module, from some of its nodes to others; Keras's functional models.
///
/// ```swift
/// let x = Input([784], name: "pixels")
/// let h = Linear(128)(x, name: "hidden")
/// let model = try Model(inputs: [x], outputs: [Linear(10)(relu(h), name: "classes")])
/// let y = model(batch)                                 // one input, one output
/// let all = model([batch])                             // arrays, in order
/// let named = model(["pixels": batch])["classes"]      // by name
/// ```
/// Its parts have the names given when layers were applied, or their types' in the order of the graph: `linear`, `linear_1`.
/// Graphs have no cycles: a node can only be made of nodes that exist.
public final class Model: Module, Layer {
  public let inputs: [Input]
  public let outputs: [Node]
  public let inputNames, outputNames: [String]
  let steps: [Step]
  /// How many values a run has; those of the inputs are the first.
  private let valueCount: Int
  private let outputValues: [Int]
  private let named: [(name: String, module: Module)]

  /// One call, after all it depends on.
  struct Step {
    let call: Node.Call
    let name: String
    /// What the inputs are called.
    let sources: [String]
    let inputs: [Int]
    /// The number of the first result.
    let first: Int
    let types: [Int: TensorType]
    /// Values that nobody reads afterwards.
    var last: [Int] = []
  }

  /// - Throws: ``ModelError`` if names are not unique, or inputs are missing, unused or listed twice.
  public init(inputs: [Input], outputs: [Node]) throws(ModelError) {
    guard !inputs.isEmpty else { throw .noInputs }
    guard !outputs.isEmpty else { throw .noOutputs }
    let calls = Model.ordered(outputs)
    let names = try Names(inputs, calls)

    var values: [ObjectIdentifier: Int] = [:]
    for (i, input) in inputs.enumerated() {
      guard values.updateValue(i, forKey: ObjectIdentifier(input)) == nil else { throw .repeatedInput(names[input]) }
    }
    var firsts: [ObjectIdentifier: Int] = [:]
    var next = inputs.count
    func number(_ node: Node, for reader: String) throws(ModelError) -> Int {
      if let call = node.call { return firsts[ObjectIdentifier(call), default: 0] + node.result }
      guard let value = values[ObjectIdentifier(node)] else {
        throw .missingInput((node as? Input)?.name ?? "input", neededBy: reader)
      }
      return value
    }
    // How many results of each call are read, and their types.
    var results: [ObjectIdentifier: [Int: TensorType]] = [:]
    for node in outputs + calls.flatMap(\.inputs) {
      if let call = node.call { results[ObjectIdentifier(call), default: [:]][node.result] = node.type }
    }
    var steps: [Step] = []
    for call in calls {
      let name = names[call]
      var numbers: [Int] = []
      for input in call.inputs { numbers.append(try number(input, for: name)) }
      let types = results[ObjectIdentifier(call)] ?? [:]
      firsts[ObjectIdentifier(call)] = next
      steps.append(
        Step(call: call, name: name, sources: call.inputs.map { names[$0] }, inputs: numbers, first: next, types: types))
      next += (types.keys.max() ?? 0) + 1
    }
    var outputValues: [Int] = []
    for output in outputs { outputValues.append(try number(output, for: "an output")) }
    for (i, input) in inputs.enumerated() where !outputValues.contains(i) && !steps.contains(where: { $0.inputs.contains(i) }) {
      throw .unusedInput(names[input])
    }
    var isNeeded = Set(outputValues)
    for i in steps.indices.reversed() { steps[i].last = steps[i].inputs.filter { isNeeded.insert($0).inserted } }

    (self.inputs, self.outputs, self.steps, self.outputValues) = (inputs, outputs, steps, outputValues)
    valueCount = next
    named = names.modules
    inputNames = inputs.map { names[$0] }
    outputNames = Model.unique(outputs.map { names[$0] })
    super.init()
  }

  /// With names for the outputs.
  public convenience init(inputs: [Input], outputs: KeyValuePairs<String, Node>) throws(ModelError) {
    var nodes: [Node] = []
    for (name, node) in outputs {
      nodes.append(Node.applied(nil, [node], name, "output") { $0 }[0])
    }
    try self.init(inputs: inputs, outputs: nodes)
  }

  /// The calls that outputs depend on, each after what it depends on, in the order in which the graph was written as far as
  /// possible. A loop, not a recursion: graphs may be deep.
  private static func ordered(_ outputs: [Node]) -> [Node.Call] {
    var done: Set<ObjectIdentifier> = []
    var order: [Node.Call] = []
    var stack: [(call: Node.Call, next: Int)] = []
    for output in outputs {
      guard let call = output.call, done.insert(ObjectIdentifier(call)).inserted else { continue }
      stack.append((call, 0))
      while let (call, next) = stack.last {
        if next == call.inputs.count {
          order.append(call)
          stack.removeLast()
        } else {
          stack[stack.count - 1].next += 1
          if let below = call.inputs[next].call, done.insert(ObjectIdentifier(below)).inserted { stack.append((below, 0)) }
        }
      }
    }
    return order
  }

  private static func unique(_ names: [String]) -> [String] {
    var counts: [String: Int] = [:]
    return names.map { name in
      let count = counts[name, default: 0]
      counts[name] = count + 1
      return count == 0 ? name : "\(name)_\(count)"
    }
  }

  // MARK: Calls

  /// The outputs for the inputs, in the order in which the model was made: [batch, …] each.
  public func callAsFunction(_ inputs: [Tensor]) -> [Tensor] {
    guard inputs.count == self.inputs.count else {
      stop("\(label): takes \(self.inputs.count) inputs (\(inputNames.joined(separator: ", "))), got \(inputs.count)")
    }
    for (i, x) in inputs.enumerated() where x.rank != self.inputs[i].shape.count {
      stop("\(label): the input \"\(inputNames[i])\" has shape \(x.shape), expected \(sample(self.inputs[i]))")
    }
    var values: [Tensor?] = inputs + Array(repeating: nil, count: valueCount - inputs.count)
    for step in steps {
      let operands = step.inputs.compactMap { values[$0] }
      for value in step.last { values[value] = nil }
      for (i, result) in step.call.function(operands).enumerated() where step.types[i] != nil { values[step.first + i] = result }
    }
    return outputValues.compactMap { values[$0] }
  }

  /// The output of a model with one.
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(single(self([received(x)]))) }

  /// The output of a model with several inputs and one output.
  public func callAsFunction(_ first: Tensor, _ second: Tensor, _ others: Tensor...) -> Tensor {
    recorded(single(self([first, second] + others)))
  }

  /// The outputs by name for the inputs by name.
  public func callAsFunction(_ inputs: [String: Tensor]) -> [String: Tensor] {
    let known = inputNames.joined(separator: ", ")
    if let unknown = inputs.keys.sorted().first(where: { !inputNames.contains($0) }) {
      stop("\(label): there is no input \"\(unknown)\"; there are \(known)")
    }
    let list = inputNames.map { name in
      guard let x = inputs[name] else { stop("\(label): the input \"\(name)\" is missing") }
      return x
    }
    return Dictionary(zip(outputNames, self(list))) { first, _ in first }
  }

  /// The model as part of another graph.
  public func callAsFunction(_ nodes: [Node], name: String? = nil) -> [Node] {
    Node.applied(self, nodes, name, "model") { [self] in self($0) }
  }

  private func single(_ results: [Tensor]) -> Tensor {
    guard results.count == 1 else {
      stop("\(label): has \(results.count) outputs (\(outputNames.joined(separator: ", "))); call it with an array of inputs")
    }
    return results[0]
  }

  private func sample(_ node: Node) -> String { "[batch" + node.shape.dropFirst().map { ", \($0)" }.joined() + "]" }

  override var members: [Member] { named.map { Member($0.name, $0.module) } }
}

/// The names of a graph's parts.
private struct Names {
  private var names: [ObjectIdentifier: String] = [:]
  /// In the order of their first calls.
  private(set) var modules: [(name: String, module: Module)] = []

  init(_ inputs: [Input], _ calls: [Node.Call]) throws(ModelError) {
    var taken: Set<String> = []
    func take(_ name: String) throws(ModelError) {
      guard !name.isEmpty, !name.contains(".") else { throw .invalidName(name) }
      guard taken.insert(name).inserted else { throw .duplicateName(name) }
    }
    func free(_ kind: String) -> String {
      var name = kind
      var i = 0
      while !taken.insert(name).inserted {
        i += 1
        name = "\(kind)_\(i)"
      }
      return name
    }
    // Names that were given come first, so that others keep out of their way. A module's first name is its own.
    for input in inputs {
      guard let name = input.name, names[ObjectIdentifier(input)] == nil else { continue }
      try take(name)
      names[ObjectIdentifier(input)] = name
    }
    for call in calls {
      guard let name = call.name else { continue }
      if let module = call.module {
        if names[ObjectIdentifier(module)] == name { continue }
        try take(name)
        if names[ObjectIdentifier(module)] == nil { names[ObjectIdentifier(module)] = name }
      } else {
        try take(name)
      }
      names[ObjectIdentifier(call)] = name
    }
    for input in inputs where names[ObjectIdentifier(input)] == nil { names[ObjectIdentifier(input)] = free("input") }
    var seen: Set<ObjectIdentifier> = []
    for call in calls {
      if let module = call.module {
        let name = names[ObjectIdentifier(module)] ?? free(call.kind)
        names[ObjectIdentifier(module)] = name
        if seen.insert(ObjectIdentifier(module)).inserted { modules.append((name, module)) }
        if names[ObjectIdentifier(call)] == nil { names[ObjectIdentifier(call)] = name }
      } else if names[ObjectIdentifier(call)] == nil {
        names[ObjectIdentifier(call)] = free(call.kind)
      }
    }
  }

  subscript(call: Node.Call) -> String { names[ObjectIdentifier(call)] ?? call.kind }
  subscript(input: Input) -> String { names[ObjectIdentifier(input)] ?? input.name ?? "input" }
  subscript(node: Node) -> String {
    if let call = node.call { return self[call] }
    return (node as? Input).map { self[$0] } ?? "input"
  }
}
