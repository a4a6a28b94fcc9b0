import ApusCPU
import CApusKernels
import Synchronization

private let tracesSoFar = Atomic<Int>(0)

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

  /// One way into the graph.
  struct Input {
    let value: Int
    let name: String
    let source: Source
    /// What stands for the input while the trace is made, with the history that gradients by it need.
    let tensor: Tensor
  }

  /// What makes a captured tensor another one: its value and the history it comes with.
  struct CaptureKey: Hashable {
    private let value: ObjectIdentifier
    private let node: ObjectIdentifier?
    private let result: Int

    init(_ tensor: Tensor) {
      value = ObjectIdentifier(tensor.handle.symbol ?? tensor.handle)
      node = tensor.handle.node.map { ObjectIdentifier($0) }
      result = tensor.handle.result
    }
  }

  private struct Node {
    let operation: Operation
    let inputs: [Int]
    let types: [TensorType]
    let first: Int
  }

  let name: String
  let number = tracesSoFar.add(1, ordering: .relaxed).newValue
  let parent: Trace?
  /// A loop's body, a branch, or what `vmap` was given: it may read state, but not change it.
  let isBody: Bool
  /// Whether the history of some value is not what its operations alone would give it (``Tensor/detached()``,
  /// ``customGradient(_:name:_:)`` …).
  private(set) var altersHistory = false
  private var types: [TensorType] = []
  private var nodes: [Node] = []
  private(set) var inputs: [Input] = []
  private(set) var variables: [VariableState] = []
  private var variablePlaces: [ObjectIdentifier: Int] = [:]
  private(set) var generators: [GeneratorState] = []
  private(set) var observations: [Observation] = []
  private var observed: Set<AnyHashable> = []
  /// What the function itself has decided so far: reading it depends on nothing outside.
  private var decided: Set<AnyHashable> = []
  /// Concrete tensors without history by their handle: the same one becomes one constant.
  private var constants: [ObjectIdentifier: (value: Int, kept: Tensor)] = [:]
  /// Values of traces around this one, and concrete tensors with a history, which gradients must find again.
  private var captures: [CaptureKey: Int] = [:]

  init(_ name: String, parent: Trace? = nil, isBody: Bool = false) {
    self.name = name
    self.parent = parent
    self.isBody = isBody
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

  /// - Parameter tracked: whether gradients by the input may be asked for.
  func addInput(_ type: TensorType, _ name: String, _ source: Source, tracked: Bool = false) -> Tensor {
    let value = newValues([type])
    // The bit of a parameter: like one, the input outlives the functions whose gradients are taken inside.
    let leaf =
      tracked && type.elementType.isFloatingPoint ? GradientNode(leaf: type, bit: LeafBits.parameter(inputs.count)) : nil
    return add(value, type, name, source, leaf)
  }

  private func add(_ value: Int, _ type: TensorType, _ name: String, _ source: Source, _ node: GradientNode?) -> Tensor {
    let tensor = Tensor(TensorHandle(traced: type, symbol: Symbol(self, value), node))
    inputs.append(Input(value: value, name: name, source: source, tensor: tensor))
    return tensor
  }

  func record(_ operation: Operation, _ inputs: [Tensor], _ types: [TensorType]) -> [AnyObject] {
    if !isRecording && !altersHistory && operation.isDifferentiable && inputs.contains(where: \.isTracked) { noteOwnHistory() }
    let operands = inputs.map(value)
    let first = newValues(types)
    nodes.append(Node(operation: operation, inputs: operands, types: types, first: first))
    return (0..<types.count).map { Symbol(self, first + $0) }
  }

  /// Remembers that the operations alone do not tell the history, here and in the traces around.
  func noteOwnHistory() {
    altersHistory = true
    parent?.noteOwnHistory()
  }

  /// Notes that gradients of these operands follow a rule that is not an operation's, for the trace that is being made.
  static func noteRule(of inputs: [Tensor]) {
    guard let trace = active else { return }
    trace.noteOwnHistory()
    for input in inputs where input.isTracked { trace.value(input) }
  }

  /// The number of a tensor's value here: its own, a captured one, or a constant.
  @discardableResult
  func value(_ tensor: Tensor) -> Int {
    let symbol = tensor.handle.symbol as? Symbol
    if let symbol, symbol.trace === self { return symbol.value }
    if symbol == nil && tensor.handle.node == nil {
      let key = ObjectIdentifier(tensor.handle)
      if let known = constants[key] { return known.value }
      let first = newValues([tensor.type])
      nodes.append(
        Node(operation: .constant(tensor.handle.array.asConstant), inputs: [], types: [tensor.type], first: first))
      constants[key] = (first, tensor)
      return first
    }
    let key = CaptureKey(tensor)
    if let known = captures[key] { return known }
    if let symbol, !isInside(symbol.trace) {
      stop("a tensor of the traced function \(symbol.trace.name) is used after that function ended, in \(name)")
    }
    let value = newValues([tensor.type])
    _ = add(value, tensor.type, "", .outer(tensor), nil)
    captures[key] = value
    return value
  }

  /// The number of a tensor that was captured; nil if it was not.
  func capturedValue(_ tensor: Tensor) -> Int? { captures[CaptureKey(tensor)] }

  /// What was captured so far, in order.
  var captured: [Tensor] { inputs.compactMap { if case .outer(let tensor) = $0.source { tensor } else { nil } } }

  /// The captured tensors that these outputs depend on.
  func captured(neededBy outputs: [Tensor]) -> [Tensor] {
    let needed = needed(outputs.map(value))
    return inputs.compactMap { input in
      if case .outer(let tensor) = input.source, needed[input.value] { tensor } else { nil }
    }
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
    // No program will run later: the value is the one now.
    if isBody { return untraced { variable.value } }
    return variables[place(of: variable)].current
  }

  func write(_ variable: Variable, _ value: Tensor) {
    if isBody {
      stop(
        "\(variable) is written inside of \(name); hand the new value out as a result and write it outside")
    }
    let i = place(of: variable)
    variables[i].current = value.detached()
    variables[i].isWritten = true
  }

  private func place(of variable: Variable) -> Int {
    if let place = variablePlaces[ObjectIdentifier(variable)] { return place }
    let isTrainable = variable.isTrainable
    let input = add(
      newValues([variable.type]), variable.type, variable.name, .variable(variable), isTrainable ? variable.leaf : nil)
    variables.append(VariableState(variable: variable, current: input.withoutHistory, wasTrainable: isTrainable))
    variablePlaces[ObjectIdentifier(variable)] = variables.count - 1
    return variables.count - 1
  }

  /// The state for one draw of random numbers, which moves on by `words`.
  func draw(_ generator: Generator, words: UInt64) -> Tensor {
    if isBody {
      stop("random numbers are drawn inside of \(name); draw them outside and hand them in")
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

  /// How many words of a generator were drawn so far by one run.
  func words(of generator: Generator) -> UInt64 { generators.first { $0.generator === generator }?.words ?? 0 }

  /// Runs `body` with a generator back where it had drawn so many words; afterwards it stands where it stood.
  func replaying<R>(_ generator: Generator, from words: UInt64, _ body: () -> R) -> R {
    guard let i = generators.firstIndex(where: { $0.generator === generator }) else { return body() }
    let now = generators[i].words
    generators[i].words = words
    defer { generators[i].words = now }
    return body()
  }

  /// Says whether what a key stands for is now the function's own decision. Returns what was so before.
  func decide(_ key: AnyHashable, _ isOwn: Bool) -> Bool {
    if let parent { return parent.decide(key, isOwn) }
    return isOwn ? !decided.insert(key).inserted : decided.remove(key) != nil
  }

  /// Remembers that the program depends on something of Swift's that is not a tensor.
  func observe(_ observation: Observation) {
    if let parent { return parent.observe(observation) }
    if decided.contains(observation.key) { return }
    if observed.insert(observation.key).inserted { observations.append(observation) }
  }

  // MARK: The result

  /// The graph that gives these tensors; its inputs are in the order of ``inputs``.
  func finish(_ outputs: [Tensor], names: [String]? = nil) -> Graph {
    let results = outputs.map(value)
    return graph(results, inputs.map { ($0.value, types[$0.value], $0.name) }, names)
  }

  /// The graph of some outputs as a function of some inputs; an input that is nil here is not used.
  func graph(_ results: [Int], _ inputs: [(value: Int?, type: TensorType, name: String)], _ names: [String]? = nil) -> Graph {
    var graph = Graph()
    var number = [Int](repeating: -1, count: types.count)
    for input in inputs {
      let added = graph.addInput(input.type, name: input.name)
      if let value = input.value { number[value] = added }
    }
    let needed = needed(results)
    for node in nodes where (0..<node.types.count).contains(where: { needed[node.first + $0] }) {
      let (operation, kept) = node.operation.without { !needed[node.first + $0] }
      let added = graph.append(operation, node.inputs.map { number[$0] }, types: kept.map { node.types[$0] })
      for (i, value) in zip(kept, added) { number[node.first + i] = value }
    }
    graph.setOutputs(results.map { number[$0] }, names: names)
    return graph
  }

  /// Which values these results depend on.
  private func needed(_ results: [Int]) -> [Bool] {
    var needed = [Bool](repeating: false, count: types.count)
    for value in results { needed[value] = true }
    for node in nodes.reversed() where (0..<node.types.count).contains(where: { needed[node.first + $0] }) {
      for value in node.inputs { needed[value] = true }
    }
    return needed
  }
}

extension Operation {
  /// The operation without results that nobody reads, where it can do without them, and which results are left.
  ///
  /// A scan whose gradient nobody took would otherwise stack the states that only the gradient reads.
  fileprivate func without(_ isUnused: (Int) -> Bool) -> (Operation, kept: [Int]) {
    let all = Array(0..<resultCount)
    guard case .scanLoop(var loop) = self else { return (self, all) }
    let kept = all.filter { $0 < loop.carried || !isUnused($0) }
    if kept.count == all.count { return (self, all) }
    loop.body.graph = loop.body.graph.selecting(kept)
    return (.scanLoop(loop), kept)
  }
}

/// Something that is not a tensor but decides what is traced, such as whether a module is in training mode.
package struct Observation {
  /// What it is, as a report says it: `isTraining of dropout`.
  package let name: String
  /// What tells it from all others: an object, or an object and a number.
  package let key: AnyHashable
  package let value: AnyHashable
  /// Its value now.
  package let current: () -> AnyHashable

  package init(_ name: String, key: AnyHashable, _ value: AnyHashable, current: @escaping () -> AnyHashable) {
    self.name = name
    self.key = key
    self.value = value
    self.current = current
  }
}

/// Tells the trace that is being made, if any, what it depends on.
@inline(__always) package func observe(_ observation: @autoclosure () -> Observation) {
  if apus_thread().pointee.tracer != nil { Trace.active?.observe(observation()) }
}

/// Tells the trace that is being made, if any, whether the traced function has decided by itself what a key stands for.
/// - Returns: whether it had before.
package func decide(_ key: AnyHashable, _ isOwn: Bool) -> Bool { Trace.active?.decide(key, isOwn) ?? false }

/// Whether tensor functions are being written down on this thread.
@inline(__always) package var isTracing: Bool { apus_thread().pointee.tracer != nil }

/// Runs `body` now also while a trace is being made: for what is made once, such as parameters and optimizer state.
package func untraced<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
  let state = apus_thread()!
  let before = state.pointee.tracer
  state.pointee.tracer = nil
  defer { state.pointee.tracer = before }
  return try body()
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

/// What tells the trace that is being made on this thread from others; nil if there is none.
package var activeTrace: Int? { Trace.active?.root.number }
