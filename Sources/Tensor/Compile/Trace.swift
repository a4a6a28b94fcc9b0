import ApusCPU
import CApusKernels

/// A program in the making: what tensor functions do while it is active on a thread is written down, not done.
///
/// Values get provisional numbers as they come; ``finish(_:)`` makes a graph of them, inputs first.
final class Trace: OperationTracer {
  /// Where an input's value comes from when the program runs.
  enum Source {
    case argument(Int)
    case variable(Variable)
    /// The key and counter of a generator, int64 [2].
    case generator(Generator)
    /// A number of Swift's, read at every run.
    case host(() -> CPUArray)
    /// A value of the trace around this one.
    case outer(Tensor)
  }

  /// What a traced tensor refers to.
  final class Symbol {
    unowned let trace: Trace
    let value: Int
    init(_ trace: Trace, _ value: Int) {
      self.trace = trace
      self.value = value
    }
  }

  /// What the program does to a variable.
  struct VariableState {
    let variable: Variable
    var current: Tensor
    var isWritten = false
    let wasTrainable: Bool
  }

  struct GeneratorState {
    let generator: Generator
    let input: Tensor
    /// Words drawn by one run.
    var words: UInt64 = 0
  }

  private struct Node {
    let operation: Operation
    let inputs: [Int]
    let types: [TensorType]
    let first: Int
  }

  let name: String
  let parent: Trace?
  private var types: [TensorType] = []
  private var nodes: [Node] = []
  private(set) var inputs: [(value: Int, name: String, source: Source)] = []
  private(set) var variables: [VariableState] = []
  private var variablePlaces: [ObjectIdentifier: Int] = [:]
  private(set) var generators: [GeneratorState] = []
  private(set) var observations: [Observation] = []
  private var observed: Set<String> = []
  /// Concrete tensors by their handle: the same one becomes one constant, or one captured value.
  private var constants: [ObjectIdentifier: (value: Int, kept: Tensor)] = [:]
  private var captures: [ObjectIdentifier: (value: Int, kept: Symbol)] = [:]

  init(_ name: String, parent: Trace? = nil) {
    self.name = name
    self.parent = parent
  }

  /// The trace that is being made on this thread.
  static var active: Trace? {
    guard let tracer = apus_thread().pointee.tracer else { return nil }
    return Unmanaged<TracerBox>.fromOpaque(tracer).takeUnretainedValue().tracer as? Trace
  }

  var root: Trace { parent?.root ?? self }

  /// Runs `body` while what tensor functions do is written down here.
  func recording<R>(_ body: () -> R) -> R {
    let state = apus_thread()!
    let box = TracerBox(self)
    let before = state.pointee.tracer
    state.pointee.tracer = Unmanaged.passUnretained(box).toOpaque()
    defer {
      state.pointee.tracer = before
      withExtendedLifetime(box) {}
    }
    return body()
  }

  // MARK: Values

  private func newValues(_ types: [TensorType]) -> Int {
    self.types += types
    return self.types.count - types.count
  }

  func addInput(_ type: TensorType, _ name: String, _ source: Source) -> Tensor {
    let value = newValues([type])
    inputs.append((value, name, source))
    return Tensor(TensorHandle(traced: type, symbol: Symbol(self, value), nil))
  }

  func record(_ operation: Operation, _ inputs: [Tensor], _ types: [TensorType]) -> [AnyObject] {
    let operands = inputs.map(value)
    let first = newValues(types)
    nodes.append(Node(operation: operation, inputs: operands, types: types, first: first))
    return (0..<types.count).map { Symbol(self, first + $0) }
  }

  /// The number of a tensor's value here: its own, a captured one of a trace around, or a constant.
  func value(_ tensor: Tensor) -> Int {
    guard let symbol = tensor.handle.symbol as? Symbol else {
      let key = ObjectIdentifier(tensor.handle)
      if let known = constants[key] { return known.value }
      let first = newValues([tensor.type])
      nodes.append(
        Node(operation: .constant(tensor.handle.array.asConstant), inputs: [], types: [tensor.type], first: first))
      constants[key] = (first, tensor)
      return first
    }
    if symbol.trace === self { return symbol.value }
    let key = ObjectIdentifier(symbol)
    if let known = captures[key] { return known.value }
    guard isInside(symbol.trace) else {
      stop("a tensor of the traced function \(symbol.trace.name) is used after that function ended, in \(name)")
    }
    let captured = addInput(tensor.type, "", .outer(tensor.detached()))
    let value = (captured.handle.symbol as? Symbol).unsafelyUnwrapped.value
    captures[key] = (value, symbol)
    return value
  }

  private func isInside(_ other: Trace) -> Bool {
    var trace = parent
    while let here = trace {
      if here === other { return true }
      trace = here.parent
    }
    return false
  }

  // MARK: State

  func read(_ variable: Variable) -> Tensor {
    if let parent { return parent.read(variable) }
    return variables[place(of: variable)].current
  }

  func write(_ variable: Variable, _ value: Tensor) {
    if parent != nil {
      stop(
        "\(variable) is written inside of \(name); hand the new value out as a result and write it outside of the loop or branch")
    }
    let i = place(of: variable)
    variables[i].current = value.detached()
    variables[i].isWritten = true
  }

  private func place(of variable: Variable) -> Int {
    if let place = variablePlaces[ObjectIdentifier(variable)] { return place }
    let input = addInput(variable.type, variable.name, .variable(variable))
    variables.append(VariableState(variable: variable, current: input, wasTrainable: variable.isTrainable))
    variablePlaces[ObjectIdentifier(variable)] = variables.count - 1
    return variables.count - 1
  }

  /// The state for one draw of random numbers, which moves on by `words`.
  func draw(_ generator: Generator, words: UInt64) -> Tensor {
    if parent != nil {
      stop("random numbers are drawn inside of \(name); draw them outside of the loop or branch and hand them in")
    }
    let i: Int
    if let known = generators.firstIndex(where: { $0.generator === generator }) {
      i = known
    } else {
      generators.append(
        GeneratorState(generator: generator, input: addInput(TensorType([2], .int64), "random", .generator(generator))))
      i = generators.count - 1
    }
    let before = generators[i].words
    generators[i].words &+= words
    if before == 0 { return generators[i].input }
    return generators[i].input + untraced { Tensor([0, Int64(bitPattern: before)], shape: [2]) }
  }

  func host(_ name: String, _ type: TensorType, _ read: @escaping () -> CPUArray) -> Tensor {
    if let parent { return parent.host(name, type, read) }
    return addInput(type, name, .host(read))
  }

  /// Remembers that the program depends on something of Swift's that is not a tensor.
  func observe(_ observation: Observation) {
    if let parent { return parent.observe(observation) }
    if observed.insert(observation.name).inserted { observations.append(observation) }
  }

  // MARK: The result

  /// The graph that gives these tensors; its inputs are in the order of ``inputs``.
  func finish(_ outputs: [Tensor], names: [String]? = nil) -> Graph {
    let results = outputs.map(value)
    var graph = Graph()
    var number = [Int](repeating: -1, count: types.count)
    for input in inputs { number[input.value] = graph.addInput(types[input.value], name: input.name) }
    // Only what the outputs need.
    var needed = [Bool](repeating: false, count: types.count)
    for value in results { needed[value] = true }
    for node in nodes.reversed() where (0..<node.types.count).contains(where: { needed[node.first + $0] }) {
      for value in node.inputs { needed[value] = true }
    }
    for node in nodes where (0..<node.types.count).contains(where: { needed[node.first + $0] }) {
      let added = graph.append(node.operation, node.inputs.map { number[$0] }, types: node.types)
      for (i, value) in added.enumerated() { number[node.first + i] = value }
    }
    graph.setOutputs(results.map { number[$0] }, names: names)
    return graph
  }
}

/// Something that is not a tensor but decides what is traced, such as whether a module is in training mode.
package struct Observation {
  /// What it is, as a report says it: `dropout.isTraining`.
  package let name: String
  package let value: AnyHashable
  /// Its value now.
  package let current: () -> AnyHashable

  package init(_ name: String, _ value: AnyHashable, current: @escaping () -> AnyHashable) {
    self.name = name
    self.value = value
    self.current = current
  }
}

/// Tells the trace that is being made, if any, what it depends on.
@inline(__always) package func observe(_ observation: @autoclosure () -> Observation) {
  if apus_thread().pointee.tracer != nil { Trace.active?.observe(observation()) }
}

/// Whether tensor functions are being written down on this thread.
@inline(__always) package var isTracing: Bool { apus_thread().pointee.tracer != nil }

/// Runs `body` now also while a trace is being made: for what is made once, such as parameters and optimizer state.
package func untraced<R>(_ body: () -> R) -> R {
  let state = apus_thread()!
  let before = state.pointee.tracer
  state.pointee.tracer = nil
  defer { state.pointee.tracer = before }
  return body()
}

extension Tensor {
  /// A number of Swift's that may change from run to run: read when a compiled program runs, not when it is traced.
  package static func host(_ name: String, _ values: @escaping () -> [Double]) -> Tensor {
    func array() -> CPUArray { untraced { Tensor(values(), shape: [values().count]).array } }
    let now = array()
    guard let trace = Trace.active else { return Tensor(array: now) }
    return trace.host(name, now.type, array)
  }
}
