import CApusKernels

/// One operation as gradients remember it: what made a tensor, from what, and the values its rule needs.
///
/// Nodes refer to the nodes of their operands, not to the operands: a value lives on only where a gradient
/// rule asks for it (see `Operation.saved`).
@usableFromInline final class GradientNode: @unchecked Sendable {
  enum Rule {
    /// Where a gradient arrives: a parameter, or an argument of `gradient(at:)`.
    case leaf
    case operation(Operation)
    /// A rule given as a function of the results' gradients, which are nil where nothing arrived.
    case custom(name: String, (_ gradients: [Tensor?], _ sink: inout GradientSink) -> Void)
  }

  struct Edge {
    var node: GradientNode?
    var result: Int32 = 0
  }

  /// What few nodes have; apart, so that the others are small and quick to make and release.
  final class Rest {
    var resultTypes: [TensorType] = []
    var parents: [Edge] = []
    var saved: [Tensor?] = []
    /// Of concatenate: the sizes of the operands along the axis.
    var operandExtents: [Int] = []
    /// Where it ran; known in anomaly mode.
    var callStack: CallStack?
  }

  private(set) var rule: Rule
  /// Longer than every operand's: going by falling depth visits a node after everything computed from it.
  let depth: Int
  /// One bit, or more, for each leaf below; decides without a search whether a gradient can matter.
  let leaves: UInt64
  let resultType: TensorType
  private(set) var parent0, parent1, parent2: Edge
  var saved0, saved1, saved2: Tensor?
  /// Results whose values the rule reads, without history (it would keep the node itself alive).
  var savedResult: Tensor?
  var moreSavedResults: [Tensor]?
  private var rest: Rest?
  /// An argument of `gradient(at:)` that came with a history.
  private(set) var isArgument = false
  /// The values were given back during a walk.
  private(set) var isReleased = false

  private func withRest() -> Rest {
    if let rest { return rest }
    let made = Rest()
    rest = made
    return made
  }

  var operandExtents: [Int] {
    get { rest?.operandExtents ?? [] }
    set { withRest().operandExtents = newValue }
  }

  var callStack: CallStack? {
    get { rest?.callStack }
    set { withRest().callStack = newValue }
  }

  var savedResults: [Tensor] {
    get { (savedResult.map { [$0] } ?? []) + (moreSavedResults ?? []) }
    set {
      savedResult = newValue.first
      moreSavedResults = newValue.count > 1 ? Array(newValue.dropFirst()) : nil
    }
  }

  func savedResult(_ i: Int) -> Tensor? { i == 0 ? savedResult : moreSavedResults?[i - 1] }

  /// A leaf.
  init(leaf type: TensorType, bit: UInt64) {
    rule = .leaf
    depth = 0
    leaves = bit
    resultType = type
    (parent0, parent1, parent2) = (Edge(), Edge(), Edge())
  }

  /// A leaf that hands on what arrives to the history its tensor came with.
  convenience init(argument x: TensorHandle, bit: UInt64) {
    self.init(
      .custom(name: "argument") { gradients, sink in
        if let dy = gradients[0], sink.needs(0) { sink.add(0, dy) }
      }, [x.array.type], [Tensor(x)], leaves: bit)
    isArgument = true
  }

  /// Gives back the values and the history below.
  func release() {
    guard depth > 0, !isArgument else { return }
    isReleased = true
    (saved0, saved1, saved2) = (nil, nil, nil)
    rest?.saved = []
    savedResult = nil
    moreSavedResults = nil
    // A rule's function keeps values too; nobody calls it any more.
    if case .custom = rule { rule = .leaf }
  }

  /// One operand.
  init(_ operation: Operation, _ type: TensorType, _ a: TensorHandle) {
    rule = .operation(operation)
    let node = a.node.unsafelyUnwrapped
    depth = node.depth + 1
    leaves = node.leaves
    resultType = type
    parent0 = Edge(node: node, result: Int32(a.result))
    (parent1, parent2) = (Edge(), Edge())
  }

  /// Two operands.
  init(_ operation: Operation, _ type: TensorType, _ a: TensorHandle, _ b: TensorHandle) {
    rule = .operation(operation)
    depth = max(a.node?.depth ?? 0, b.node?.depth ?? 0) + 1
    leaves = (a.node?.leaves ?? 0) | (b.node?.leaves ?? 0)
    resultType = type
    parent0 = Edge(node: a.node, result: Int32(a.result))
    parent1 = Edge(node: b.node, result: Int32(b.result))
    parent2 = Edge()
  }

  /// Any number of operands and results.
  init(_ rule: Rule, _ types: [TensorType], _ inputs: [Tensor], leaves extraLeaves: UInt64 = 0) {
    self.rule = rule
    var depth = 0
    var leaves = extraLeaves
    for input in inputs {
      guard let node = input.handle.node else { continue }
      depth = max(depth, node.depth)
      leaves |= node.leaves
    }
    self.depth = depth + 1
    self.leaves = leaves
    resultType = types[0]
    func edge(_ i: Int) -> Edge {
      i < inputs.count ? Edge(node: inputs[i].handle.node, result: Int32(inputs[i].handle.result)) : Edge()
    }
    (parent0, parent1, parent2) = (edge(0), edge(1), edge(2))
    if types.count > 1 { withRest().resultTypes = Array(types.dropFirst()) }
    if inputs.count > 3 { withRest().parents = (3..<inputs.count).map(edge) }
  }

  func type(of result: Int32) -> TensorType {
    if result == 0 { return resultType }
    guard let rest else { preconditionFailure("a node of one result was asked for result \(result)") }
    return rest.resultTypes[Int(result) - 1]
  }
  var resultCount: Int { 1 + (rest?.resultTypes.count ?? 0) }

  func parent(_ i: Int) -> Edge {
    switch i {
    case 0: parent0
    case 1: parent1
    case 2: parent2
    default: i - 3 < (rest?.parents.count ?? 0) ? rest?.parents[i - 3] ?? Edge() : Edge()
    }
  }

  func saved(_ i: Int) -> Tensor? {
    switch i {
    case 0: saved0
    case 1: saved1
    case 2: saved2
    default: i - 3 < (rest?.saved.count ?? 0) ? rest?.saved[i - 3] : nil
    }
  }

  func save(_ i: Int, _ tensor: Tensor) {
    switch i {
    case 0: saved0 = tensor
    case 1: saved1 = tensor
    case 2: saved2 = tensor
    default:
      let rest = withRest()
      while rest.saved.count <= i - 3 { rest.saved.append(nil) }
      rest.saved[i - 3] = tensor
    }
  }

  /// Releases the chain of operands in a loop: a chain of any length must not use the stack.
  deinit {
    // Values kept here, also by a rule's function, hold operands' nodes: they go first, so that the edges are the last.
    (saved0, saved1, saved2) = (nil, nil, nil)
    rest?.saved = []
    if case .custom = rule { rule = .leaf }
    // Only a node that goes with this one needs the loop.
    if isKnownUniquelyReferenced(&parent0.node) { ReleaseQueue.add(&parent0.node) }
    if isKnownUniquelyReferenced(&parent1.node) { ReleaseQueue.add(&parent1.node) }
    if isKnownUniquelyReferenced(&parent2.node) { ReleaseQueue.add(&parent2.node) }
    if let rest {
      for i in rest.parents.indices where isKnownUniquelyReferenced(&rest.parents[i].node) {
        ReleaseQueue.add(&rest.parents[i].node)
      }
    }
    ReleaseQueue.drain()
  }
}

/// Nodes whose last reference goes, on this thread. The outermost release empties it.
private final class ReleaseQueue {
  private var nodes: [GradientNode] = []
  private var isDraining = false

  static func add(_ node: inout GradientNode?) {
    let state = apus_thread()!
    let queue: ReleaseQueue
    if let active = state.pointee.release_queue {
      queue = Unmanaged<ReleaseQueue>.fromOpaque(active).takeUnretainedValue()
    } else {
      queue = ReleaseQueue()
      state.pointee.release_queue = Unmanaged.passRetained(queue).toOpaque()
    }
    if let node = node.take() { queue.nodes.append(node) }
  }

  static func drain() {
    let state = apus_thread()!
    guard let active = state.pointee.release_queue else { return }
    let queue = Unmanaged<ReleaseQueue>.fromOpaque(active).takeUnretainedValue()
    if queue.isDraining { return }
    queue.isDraining = true
    while let node = queue.nodes.popLast() { _ = consume node }
    state.pointee.release_queue = nil
    Unmanaged<ReleaseQueue>.fromOpaque(active).release()
  }
}

/// Whether operations are being remembered on this thread.
@inlinable package var isRecording: Bool { apus_thread().pointee.recording_disabled == 0 }

/// Runs `body` without remembering operations for gradients.
public func withoutGradient<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
  let state = apus_thread()!
  state.pointee.recording_disabled += 1
  defer { state.pointee.recording_disabled -= 1 }
  return try body()
}

/// Runs `body` while remembering operations, also inside of ``withoutGradient(_:)``.
func withGradient<R>(_ body: () -> R) -> R {
  let state = apus_thread()!
  let depth = state.pointee.recording_disabled
  state.pointee.recording_disabled = 0
  defer { state.pointee.recording_disabled = depth }
  return body()
}

/// Runs `body`, remembering operations, as if no gradient were being taken around it.
func outsideOfGradients<R>(_ body: () -> R) -> R {
  let state = apus_thread()!
  let depth = state.pointee.gradient_depth
  state.pointee.gradient_depth = 0
  defer { state.pointee.gradient_depth = depth }
  return withGradient(body)
}

extension Tensor {
  /// The same values without history.
  public func detached() -> Tensor {
    if handle.node == nil { return self }
    if handle.symbol != nil { Trace.active?.noteOwnHistory() }
    return withoutHistory
  }

  /// The same values for whoever has a history of their own for them.
  var withoutHistory: Tensor { handle.node == nil ? self : Tensor(TensorHandle(detaching: handle)) }

  func tracked(by node: GradientNode, result: Int = 0) -> Tensor { Tensor(TensorHandle(handle, node, result: result)) }
}

extension TensorHandle {
  /// The same value with another history.
  convenience init(_ other: TensorHandle, _ node: GradientNode?, result: Int) {
    if let symbol = other.symbol {
      self.init(traced: other.array.type, symbol: symbol, node, result: result)
    } else {
      self.init(other.array, node, result: result)
    }
  }

  convenience init(detaching other: TensorHandle) { self.init(other, nil, result: 0) }
}
