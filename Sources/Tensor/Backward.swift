import CApusKernels

/// The gradients that have arrived at nodes but were not passed on yet.
final class BackwardTable {
  struct Entry {
    /// Kept alive by the tape that is walked.
    unowned(unsafe) let node: GradientNode
    var gradient: Tensor?
    var more: [Tensor?]?

    var key: UInt { UInt(bitPattern: Unmanaged.passUnretained(node).toOpaque()) }
  }

  private(set) var entries: [Entry] = []
  private var buckets: [Int32]
  private var mask: Int
  /// Entries to visit, a heap: greatest depth first, then in order of arrival (so sums have one order).
  private var heap: [(depth: Int, index: Int32)] = []
  /// The leaves that are asked for; a gradient that can reach none of them is not computed.
  let requested: UInt64
  /// Arguments whose gradient is wanted here, not further down.
  let stops: [GradientNode]
  /// Nodes outside of the traced function that is walked: what arrives there is handed out of it.
  let boundary: Set<ObjectIdentifier>

  /// - Parameter depth: of the deepest start; a guess at how many nodes there are.
  init(requested: UInt64, stops: [GradientNode], boundary: Set<ObjectIdentifier>, depth: Int) {
    self.requested = requested
    self.stops = stops
    self.boundary = boundary
    var size = 64
    while size < 4 * depth && size < 1 << 13 { size *= 2 }
    buckets = Array(repeating: -1, count: size)
    mask = size - 1
    entries.reserveCapacity(size / 2)
  }

  private func slot(_ node: GradientNode) -> Int {
    let key = UInt(bitPattern: Unmanaged.passUnretained(node).toOpaque())
    var i = Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
    while buckets[i] >= 0 && entries[Int(buckets[i])].key != key { i = (i + 1) & mask }
    return i
  }

  func gradient(of leaf: GradientNode, result: Int = 0) -> Tensor? {
    let index = buckets[slot(leaf)]
    if index < 0 { return nil }
    return result == 0 ? entries[Int(index)].gradient : entries[Int(index)].more?[result - 1]
  }

  func add(_ gradient: consuming Tensor, to node: GradientNode, result: Int32) {
    assert(
      gradient.shape == node.type(of: result).shape && gradient.elementType == node.type(of: result).elementType,
      "gradient \(gradient.type) for a value \(node.type(of: result)) of \(node.rule)")
    let i = slot(node)
    let index: Int
    if buckets[i] >= 0 {
      index = Int(buckets[i])
    } else {
      index = entries.count
      let count = node.resultCount
      entries.append(Entry(node: node, more: count > 1 ? Array(repeating: nil, count: count - 1) : nil))
      buckets[i] = Int32(index)
      if entries.count * 2 > buckets.count { grow() }
      if node.depth > 0 { push(node.depth, Int32(index)) }
    }
    if result == 0 {
      if let old = entries[index].gradient.take() {
        entries[index].gradient = apply(binary: .add, old, gradient)
      } else {
        entries[index].gradient = gradient
      }
    } else {
      let k = Int(result) - 1
      if let old = entries[index].more?[k].take() {
        entries[index].more?[k] = apply(binary: .add, old, gradient)
      } else {
        entries[index].more?[k] = gradient
      }
    }
  }

  func take(from node: GradientNode, result: Int32) -> Tensor? {
    let index = buckets[slot(node)]
    guard index >= 0 else { return nil }
    return result == 0 ? entries[Int(index)].gradient.take() : entries[Int(index)].more?[Int(result) - 1].take()
  }

  private func grow() {
    mask = buckets.count * 2 - 1
    buckets = Array(repeating: -1, count: mask + 1)
    for index in entries.indices { buckets[slot(entries[index].node)] = Int32(index) }
  }

  /// The next node to visit, with the gradients of its results. Nothing reaches it any more.
  func next() -> (node: GradientNode, gradient: Tensor?, more: [Tensor?]?)? {
    guard var index = pop() else { return nil }
    while stopsAt(entries[Int(index)].node) {
      guard let another = pop() else { return nil }
      index = another
    }
    let i = Int(index)
    let gradient = entries[i].gradient.take()
    let more = entries[i].more.take()
    return (entries[i].node, gradient, more)
  }

  private func stopsAt(_ node: GradientNode) -> Bool {
    if node.isArgument && stops.contains(where: { $0 === node }) { return true }
    return !boundary.isEmpty && boundary.contains(ObjectIdentifier(node))
  }

  private func before(_ a: (depth: Int, index: Int32), _ b: (depth: Int, index: Int32)) -> Bool {
    a.depth != b.depth ? a.depth > b.depth : a.index < b.index
  }

  private func push(_ depth: Int, _ index: Int32) {
    heap.append((depth, index))
    var i = heap.count - 1
    while i > 0 {
      let up = (i - 1) / 2
      if !before(heap[i], heap[up]) { break }
      heap.swapAt(i, up)
      i = up
    }
  }

  private func pop() -> Int32? {
    guard let first = heap.first else { return nil }
    let last = heap.removeLast()
    if heap.isEmpty { return first.index }
    heap[0] = last
    var i = 0
    while true {
      var best = i
      let (l, r) = (2 * i + 1, 2 * i + 2)
      if l < heap.count && before(heap[l], heap[best]) { best = l }
      if r < heap.count && before(heap[r], heap[best]) { best = r }
      if best == i { break }
      heap.swapAt(i, best)
      i = best
    }
    return first.index
  }
}

/// Where a gradient rule puts the gradients of a node's operands.
struct GradientSink {
  let node: GradientNode
  let table: BackwardTable

  /// Whether the gradient of operand `i` matters to anybody.
  func needs(_ i: Int) -> Bool {
    guard let parent = node.parent(i).node else { return false }
    return parent.leaves & table.requested != 0
  }

  func add(_ i: Int, _ gradient: consuming Tensor) {
    let edge = node.parent(i)
    table.add(gradient, to: edge.node.unsafelyUnwrapped, result: edge.result)
  }

  /// What has arrived at operand `i` so far, for a rule that adds to it by itself and puts the sum back.
  func takeArrived(_ i: Int) -> Tensor? {
    let edge = node.parent(i)
    return table.take(from: edge.node.unsafelyUnwrapped, result: edge.result)
  }

  /// A gradient for a leaf that is no operand (a parameter used inside of a checkpoint).
  func add(toLeaf leaf: GradientNode, result: Int32 = 0, _ gradient: Tensor) { table.add(gradient, to: leaf, result: result) }

  /// The type of operand `i`; only where ``needs(_:)`` holds.
  func type(_ i: Int) -> TensorType {
    let edge = node.parent(i)
    return edge.node.unsafelyUnwrapped.type(of: edge.result)
  }

  func shape(_ i: Int) -> Shape { type(i).shape }

  /// The value of operand `i`, as `Operation.saved` kept it.
  func input(_ i: Int) -> Tensor {
    guard let tensor = node.saved(i) else { preconditionFailure("\(node.rule) did not keep operand \(i)") }
    return tensor
  }

  /// The value of result `i`, with its history when that is being recorded.
  func result(_ i: Int = 0) -> Tensor {
    guard let value = node.savedResult(i) else { preconditionFailure("\(node.rule) did not keep result \(i)") }
    return isRecording && value.elementType.isFloatingPoint ? value.tracked(by: node, result: i) : value
  }
}

/// Walks the tape from `y`: the gradients of the requested leaves.
/// - Parameters:
///   - createGraph: record the walk itself, so that its results have gradients in turn.
///   - stops: arguments below which the walk does not go.
///   - boundary: other nodes below which it does not go.
///   - releasing: give back each node's values once it was visited.
func backward(
  from ys: [(tensor: Tensor, cotangent: Tensor)], requested: UInt64, createGraph: Bool, stops: [GradientNode] = [],
  boundary: Set<ObjectIdentifier> = [], releasing: Bool = false
) -> BackwardTable {
  let depth = ys.reduce(0) { max($0, $1.tensor.handle.node?.depth ?? 0) }
  let table = BackwardTable(requested: requested, stops: stops, boundary: boundary, depth: depth)
  func walk() {
    for (y, cotangent) in ys {
      guard let node = y.handle.node, node.leaves & requested != 0 else { continue }
      table.add(cotangent, to: node, result: Int32(y.handle.result))
    }
    let anomaly = apus_thread().pointee.anomaly != 0
    while let (node, gradient, more) = table.next() {
      if node.isReleased { stop("gradients: the history of this tensor was given back by an earlier step(minimizing:)") }
      defer { if releasing { node.release() } }
      if anomaly {
        currentBackward.$value.withValue(BackwardScope(name: node.name, location: node.callStack?.location)) {
          propagate(node, gradient, more, table)
        }
      } else {
        propagate(node, gradient, more, table)
      }
    }
  }
  if createGraph { withGradient(walk) } else { withoutGradient(walk) }
  return table
}

@inline(__always)
private func propagate(_ node: GradientNode, _ gradient: consuming Tensor?, _ more: [Tensor?]?, _ table: BackwardTable) {
  switch node.rule {
  case .leaf: break
  case .operation(let operation):
    if let more {
      operation.propagateMany([gradient] + more, GradientSink(node: node, table: table))
    } else if let gradient {
      operation.propagate(gradient, GradientSink(node: node, table: table))
    }
  case .custom(_, let rule):
    var sink = GradientSink(node: node, table: table)
    rule([gradient] + (more ?? []), &sink)
  }
}

extension GradientNode {
  var name: String {
    switch rule {
    case .leaf: "a leaf"
    case .operation(let operation): operation.name
    case .custom(let name, _): name
    }
  }
}

extension Operation {
  /// Whether a gradient can flow through; results of other operations have no history.
  var isDifferentiable: Bool {
    switch self {
    case .unary(let kind): kind.isDifferentiable
    case .compare, .fill, .iota, .random, .constant, .argReduce, .stopGradient, .maxPoolIndices: false
    case .convert(let type): type.isFloatingPoint
    case .binary, .select, .bitcast, .activationGradient, .broadcast, .reshape, .transpose, .slice, .pad, .concatenate, .reverse,
      .dynamicSlice, .dynamicUpdateSlice, .triangle, .reduce, .scan, .sort, .topK, .gather, .takeAlong, .gatherND, .scatter,
      .scatterAlong, .scatterND, .dot, .quantizedDot, .convolution, .convolutionInputGradient, .convolutionKernelGradient,
      .reduceWindow, .reduceWindowGradient, .call, .conditional, .whileLoop, .whileLoopGradient, .scanLoop, .customCall,
      .composite:
      true
    }
  }

  /// Which values the gradient rule reads: operands by bit, and the results. Kept in memory until then.
  var saved: (inputs: UInt32, results: Bool) {
    switch self {
    case .unary(let kind): kind.saved
    case .binary(let kind): kind.saved
    case .select: (0b001, false)
    case .activationGradient: (0b11, false)
    case .reduce(let kind, _, _): kind == .sum ? (0, false) : (0b1, true)
    case .scan(let kind, _, _, _): kind == .sum ? (0, false) : (0b1, false)
    case .sort, .topK: (0, true)
    case .gather, .takeAlong, .gatherND: (0b10, false)
    case .scatter(let kind, _), .scatterAlong(let kind, _), .scatterND(let kind):
      switch kind {
      case .set, .add: (0b010, false)
      case .multiply: (0b111, false)
      case .max, .min: (0b111, true)
      }
    case .dynamicSlice: (0b10, false)
    case .dynamicUpdateSlice: (0b110, false)
    case .dot, .convolution, .convolutionInputGradient, .convolutionKernelGradient: (0b11, false)
    case .reduceWindow(let kind, _): kind == .max ? (0b1, false) : (0, false)
    case .reduceWindowGradient(let kind, _): kind == .max ? (0b1, false) : (0, false)
    case .composite(let composite): composite.saved
    case .call, .conditional, .whileLoop: (~0, false)
    case .scanLoop: (~0, true)
    case .whileLoopGradient, .customCall: (0, false)
    case .constant, .compare, .convert, .bitcast, .fill, .iota, .random, .broadcast, .reshape, .transpose, .slice, .pad,
      .concatenate,
      .reverse, .triangle, .argReduce, .quantizedDot, .maxPoolIndices, .stopGradient:
      (0, false)
    }
  }

  /// Stops: the operation has no gradient rule.
  func missingGradient() -> Never {
    stop("\(name): has no gradient; wrap it in customGradient, or stop the gradient with detached()")
  }

  /// The gradient rule of operations with one result.
  func propagate(_ dy: Tensor, _ sink: GradientSink) {
    switch self {
    case .unary(let kind): propagate(unary: kind, dy, sink)
    case .binary(let kind): propagate(binary: kind, dy, sink)
    case .select, .convert, .bitcast, .activationGradient: propagateElementwise(dy, sink)
    case .broadcast, .reshape, .transpose, .slice, .pad, .concatenate, .reverse, .dynamicSlice, .dynamicUpdateSlice, .triangle:
      propagateShaping(dy, sink)
    case .reduce, .scan: propagateReduction(dy, sink)
    case .gather, .takeAlong, .gatherND, .scatter, .scatterAlong, .scatterND: propagateIndexing(dy, sink)
    case .dot(let dimensions): propagate(dot: dimensions, dy, sink)
    case .convolution, .convolutionInputGradient, .convolutionKernelGradient, .reduceWindow, .reduceWindowGradient:
      propagateConvolution(dy, sink)
    case .quantizedDot:
      stop(
        "\(name): has no gradient, since its integer operands change in steps; train with dequantized tensors, or stop the gradient of scales and bias with detached()"
      )
    case .composite, .call, .conditional, .whileLoop, .scanLoop: propagateMany([dy], sink)
    case .whileLoopGradient, .customCall: missingGradient()
    case .compare, .fill, .iota, .random, .constant, .argReduce, .sort, .topK, .maxPoolIndices, .stopGradient: missingGradient()
    }
  }

  /// The gradient rule of operations with several results; nil where no gradient arrived.
  func propagateMany(_ gradients: [Tensor?], _ sink: GradientSink) {
    switch self {
    case .sort(let axis, _), .topK(_, let axis, _):
      if let dy = gradients[0] {
        let zeros = Tensor.zeros(sink.shape(0), dy.elementType)
        sink.add(0, apply(.scatterAlong(.add, axis: axis), zeros, sink.node.savedResults[1], dy))
      }
    case .composite(let composite): propagate(composite: composite, gradients, sink)
    case .call, .conditional, .whileLoop, .scanLoop: propagateControlFlow(gradients, sink)
    default: missingGradient()
    }
  }
}
