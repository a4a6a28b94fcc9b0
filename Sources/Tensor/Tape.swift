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

  let rule: Rule
  /// Longer than every operand's: going by falling depth visits a node after everything computed from it.
  let depth: Int
  /// One bit, or more, for each leaf below; decides without a search whether a gradient can matter.
  let leaves: UInt64
  let resultType: TensorType
  let moreResultTypes: [TensorType]
  var parent0, parent1, parent2: Edge
  var moreParents: [Edge]
  var saved0, saved1, saved2: Tensor?
  var moreSaved: [Tensor?]
  /// A result whose value the rule reads, without history (it would keep the node itself alive).
  var savedResults: [Tensor]
  /// Of concatenate: the sizes of the operands along the axis.
  var operandExtents: [Int] = []
  /// An argument of `gradient(at:)` that came with a history.
  var isArgument = false
  /// The values were given back during a walk.
  var isReleased = false
  /// Where it ran; known in anomaly mode.
  var callStack: CallStack?

  /// A leaf.
  init(leaf type: TensorType, bit: UInt64) {
    rule = .leaf
    depth = 0
    leaves = bit
    resultType = type
    moreResultTypes = []
    (parent0, parent1, parent2) = (Edge(), Edge(), Edge())
    moreParents = []
    moreSaved = []
    savedResults = []
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
    moreSaved = []
    savedResults = []
  }

  /// One operand.
  init(_ operation: Operation, _ type: TensorType, _ a: TensorHandle) {
    rule = .operation(operation)
    let node = a.node.unsafelyUnwrapped
    depth = node.depth + 1
    leaves = node.leaves
    resultType = type
    moreResultTypes = []
    parent0 = Edge(node: node, result: Int32(a.result))
    (parent1, parent2) = (Edge(), Edge())
    moreParents = []
    moreSaved = []
    savedResults = []
  }

  /// Two operands.
  init(_ operation: Operation, _ type: TensorType, _ a: TensorHandle, _ b: TensorHandle) {
    rule = .operation(operation)
    depth = max(a.node?.depth ?? 0, b.node?.depth ?? 0) + 1
    leaves = (a.node?.leaves ?? 0) | (b.node?.leaves ?? 0)
    resultType = type
    moreResultTypes = []
    parent0 = Edge(node: a.node, result: Int32(a.result))
    parent1 = Edge(node: b.node, result: Int32(b.result))
    parent2 = Edge()
    moreParents = []
    moreSaved = []
    savedResults = []
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
    moreResultTypes = types.count > 1 ? Array(types.dropFirst()) : []
    func edge(_ i: Int) -> Edge {
      i < inputs.count ? Edge(node: inputs[i].handle.node, result: Int32(inputs[i].handle.result)) : Edge()
    }
    (parent0, parent1, parent2) = (edge(0), edge(1), edge(2))
    moreParents = inputs.count > 3 ? (3..<inputs.count).map(edge) : []
    moreSaved = []
    savedResults = []
  }

  func type(of result: Int32) -> TensorType { result == 0 ? resultType : moreResultTypes[Int(result) - 1] }
  var resultCount: Int { 1 + moreResultTypes.count }

  func parent(_ i: Int) -> Edge {
    switch i {
    case 0: parent0
    case 1: parent1
    case 2: parent2
    default: i - 3 < moreParents.count ? moreParents[i - 3] : Edge()
    }
  }

  func saved(_ i: Int) -> Tensor? {
    switch i {
    case 0: saved0
    case 1: saved1
    case 2: saved2
    default: i - 3 < moreSaved.count ? moreSaved[i - 3] : nil
    }
  }

  func save(_ i: Int, _ tensor: Tensor) {
    switch i {
    case 0: saved0 = tensor
    case 1: saved1 = tensor
    case 2: saved2 = tensor
    default:
      while moreSaved.count <= i - 3 { moreSaved.append(nil) }
      moreSaved[i - 3] = tensor
    }
  }

  /// Releases the chain of operands in a loop: a chain of any length must not use the stack.
  deinit {
    let state = apus_thread()!
    var outermost: ReleaseQueue?
    let queue: ReleaseQueue
    if let active = state.pointee.release_queue {
      queue = Unmanaged<ReleaseQueue>.fromOpaque(active).takeUnretainedValue()
    } else {
      queue = ReleaseQueue()
      outermost = queue
      state.pointee.release_queue = Unmanaged.passUnretained(queue).toOpaque()
    }
    if let node = parent0.node, node.depth > 0 { queue.nodes.append(node) }
    if let node = parent1.node, node.depth > 0 { queue.nodes.append(node) }
    if let node = parent2.node, node.depth > 0 { queue.nodes.append(node) }
    for edge in moreParents { if let node = edge.node, node.depth > 0 { queue.nodes.append(node) } }
    parent0.node = nil
    parent1.node = nil
    parent2.node = nil
    moreParents = []
    if let outermost {
      while let node = outermost.nodes.popLast() { _ = consume node }
      state.pointee.release_queue = nil
    }
  }
}

private final class ReleaseQueue {
  var nodes: [GradientNode] = []
}

/// Whether operations are being remembered on this thread.
@inlinable var isRecording: Bool { apus_thread().pointee.recording_disabled == 0 }

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

extension Tensor {
  /// The same values without history.
  public func detached() -> Tensor { handle.node == nil ? self : Tensor(TensorHandle(detaching: handle)) }

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
