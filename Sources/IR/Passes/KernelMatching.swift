/// What is written in primitives but has a kernel of its own becomes that composite: activations, softmax, normalization of rows,
/// attention, products with a bias. Programs of other tools (JAX's StableHLO) and code by hand are like that.
///
/// Numbers may come through broadcasts, reshapes and conversions. A match takes only operations whose results nothing else
/// reads. Results differ by rounding: relative to the largest term of each sum by a few units of the element type's precision,
/// times √n for sums of n elements. Attention scores that a mask replaces by a number of at most −10⁸ weigh nothing, as they do in
/// softmax as long as the other scores are smaller than that.
public func withMatchedKernels(_ source: Graph) -> Graph {
  var graph = simplified(withInlinedCalls(source))
  for rule in [Match.softmax, Match.normalization, Match.attention, Match.activation, Match.linear, Match.reduction] {
    graph = rewritten(graph, rule)
  }
  return graph
}

/// Each value that the rule knows a replacement for is made by that. Outer values come first: what is inside of a match is left.
private func rewritten(_ graph: Graph, _ rule: (inout Match, Graph.Value) -> Match.Replacement?) -> Graph {
  let facts = Match.Facts(graph)
  var replacements: [Int: Match.Replacement] = [:]
  var taken: Set<Int> = []
  for i in graph.nodes.indices.reversed() where !taken.contains(i) && graph.nodes[i].resultCount == 1 {
    let type = graph.types[graph.nodes[i].firstResult]
    guard type.elementType.isFloatingPoint, type.shape.elementCount > 0 else { continue }
    var match = Match(facts)
    guard let replacement = rule(&match, graph.nodes[i].firstResult), let gone = match.closed(root: i),
      gone.isDisjoint(with: taken)
    else { continue }
    replacements[i] = replacement
    taken.formUnion(gone)
  }
  if replacements.isEmpty { return graph }
  var result = Match.Builder(rewriter: GraphRewriter(graph))
  for (i, node) in graph.nodes.enumerated() {
    if let replacement = replacements[i] {
      let value = replacement(&result)
      result.rewriter.map(node.firstResult, to: value)
    } else {
      result.rewriter.copy(node)
    }
  }
  return simplified(result.rewriter.finish())
}

/// One attempt to read a value as a known formula. It is a value itself: an attempt that may fail is made on a copy.
struct Match {
  typealias Value = Graph.Value
  typealias Replacement = (inout Builder) -> Value

  struct Facts {
    let graph: Graph
    let producers: [Int?]
    let readers: [[Int]]
    let isOutput: [Bool]

    init(_ graph: Graph) {
      self.graph = graph
      producers = graph.producers
      var readers = [[Int]](repeating: [], count: graph.valueCount)
      for (i, node) in graph.nodes.enumerated() { for value in node.inputs { readers[value].append(i) } }
      self.readers = readers
      var isOutput = [Bool](repeating: false, count: graph.valueCount)
      for value in graph.outputs { isOutput[value] = true }
      self.isOutput = isOutput
    }
  }

  /// What replaces a match is written with this: operands are values of the old graph.
  struct Builder {
    var rewriter: GraphRewriter

    func value(_ old: Value) -> Value { rewriter.value(old) }
    func type(_ value: Value) -> TensorType { rewriter.graph.types[value] }

    mutating func apply(_ operation: Operation, _ inputs: Value...) -> Value { rewriter.append(operation, inputs) }
    mutating func apply(_ operation: Operation, _ inputs: [Value]) -> Value { rewriter.append(operation, inputs) }
    mutating func reshaped(_ x: Value, _ shape: Shape) -> Value { type(x).shape == shape ? x : apply(.reshape(shape), x) }
    mutating func broadcast(_ x: Value, _ shape: Shape) -> Value { type(x).shape == shape ? x : apply(.broadcast(shape), x) }
    mutating func converted(_ x: Value, _ to: ElementType) -> Value { type(x).elementType == to ? x : apply(.convert(to), x) }
    mutating func transposed(_ x: Value, _ permutation: [Int]) -> Value {
      permutation.elementsEqual(0..<permutation.count) ? x : apply(.transpose(Axes(permutation)), x)
    }
  }

  let facts: Facts
  /// The nodes that the match replaces.
  private(set) var inside: Set<Int> = []
  /// How much work one attempt has been: graphs of others may be made to cost much.
  var steps = 0

  init(_ facts: Facts) { self.facts = facts }

  var graph: Graph { facts.graph }
  func type(_ value: Value) -> TensorType { graph.types[value] }
  func shape(_ value: Value) -> Shape { graph.types[value].shape }

  func node(_ value: Value) -> Graph.Node? { facts.producers[value].map { graph.nodes[$0] } }

  /// What is inside without views of what comes from outside: these cost nothing and may be read by others.
  private var owned: Set<Int> {
    inside.filter { i in
      switch graph.nodes[i].operation {
      case .broadcast, .reshape: facts.producers[graph.nodes[i].inputs[0]].map(inside.contains) ?? false
      default: true
      }
    }
  }

  /// The nodes that go, if nothing else reads what they make; nil otherwise.
  func closed(root: Int) -> Set<Int>? {
    let owned = owned.union([root])
    let isClosed = owned.allSatisfy { i in
      i == root
        || graph.nodes[i].results.allSatisfy { value in
          !facts.isOutput[value] && facts.readers[value].allSatisfy(inside.contains)
        }
    }
    return isClosed ? owned : nil
  }

  // MARK: Steps inward

  /// The node that makes the value, now inside.
  mutating func enter(_ value: Value) -> Graph.Node? {
    guard let i = facts.producers[value] else { return nil }
    inside.insert(i)
    return graph.nodes[i]
  }

  /// The operands, if the value is made by this operation.
  mutating func operands(_ value: Value, _ operation: Operation) -> [Value]? {
    guard let node = node(value), node.operation == operation else { return nil }
    return enter(value)?.inputs
  }

  mutating func operand(_ value: Value, _ kind: UnaryKind) -> Value? { operands(value, .unary(kind))?[0] }

  /// The other operand of an operation of two whose order does not matter and of which one is a number.
  mutating func withNumber(_ value: Value, _ kind: BinaryKind) -> (Value, Double)? {
    guard let node = node(value), node.operation == .binary(kind) else { return nil }
    for (x, other) in [(0, 1), (1, 0)] {
      if let number = number(node.inputs[other]) {
        _ = enter(value)
        return (node.inputs[x], number)
      }
    }
    return nil
  }

  /// Past everything that leaves a row's numbers as they are: other shapes, stops of gradients, conversions between floating
  /// point types.
  mutating func plain(_ value: Value) -> Value {
    var value = value
    while let node = node(value) {
      switch node.operation {
      case .reshape, .stopGradient: break
      case .convert where isReal(node.inputs[0]) && isReal(value): break
      default: return value
      }
      _ = enter(value)
      value = node.inputs[0]
    }
    return value
  }

  /// Whether the value is `target`, perhaps through stops of gradients and conversions.
  mutating func reaches(_ value: Value, _ target: Value) -> Bool {
    var value = value
    while value != target {
      guard let node = node(value) else { return false }
      switch node.operation {
      case .stopGradient: break
      case .convert where isReal(node.inputs[0]): break
      default: return false
      }
      _ = enter(value)
      value = node.inputs[0]
    }
    return true
  }

  private func isReal(_ value: Value) -> Bool { type(value).elementType.isFloatingPoint }

  /// What is repeated along the last dimension to make this value: one number for each row, in any shape.
  mutating func perRow(_ value: Value) -> Value? {
    var value = value
    while let node = node(value), node.operation == .stopGradient {
      _ = enter(value)
      value = node.inputs[0]
    }
    guard let node = node(value), case .broadcast(let shape) = node.operation, let columns = shape.last, columns > 1 else {
      return nil
    }
    var row = shape
    row[row.count - 1] = 1
    let source = self.shape(node.inputs[0])
    guard source == row || (source.elementCount == 1 && row.elementCount == 1) else { return nil }
    _ = enter(value)
    return plain(node.inputs[0])
  }

  /// The vector that is repeated for every row to make this value, as it is before it is given another shape or type.
  mutating func perColumn(_ value: Value) -> Value? {
    guard let columns = shape(value).last else { return nil }
    var value = value
    if shape(value).elementCount != columns {
      guard let node = node(value), case .broadcast = node.operation else { return nil }
      _ = enter(value)
      value = node.inputs[0]
    }
    guard shape(value).last == columns, shape(value).elementCount == columns else { return nil }
    while shape(value).count > 1, let node = node(value) {
      switch node.operation {
      case .reshape where shape(node.inputs[0]).elementCount == columns: break
      case .broadcast where shape(node.inputs[0]).last == columns && shape(node.inputs[0]).elementCount == columns: break
      default: return value
      }
      _ = enter(value)
      value = node.inputs[0]
    }
    return value
  }

  /// The operand of a reduction along the last dimension.
  mutating func reduced(_ value: Value, _ kind: ReductionKind) -> Value? {
    let value = plain(value)
    guard let node = node(value), case .reduce(kind, let axes, _) = node.operation, axes.count == 1,
      axes[0] == shape(node.inputs[0]).count - 1
    else { return nil }
    return enter(value)?.inputs[0]
  }

  // MARK: Numbers

  /// The one number that all elements are.
  func number(_ value: Value, depth: Int = 0) -> Double? {
    guard depth < 12, let node = node(value) else { return nil }
    func at(_ i: Int) -> Double? { number(node.inputs[i], depth: depth + 1) }
    switch node.operation {
    case .fill(_, _, let scalar): return scalar.double
    case .constant(let constant): return constant.number
    case .broadcast, .reshape, .stopGradient, .transpose: return at(0)
    case .convert(let target): return target.isFloatingPoint ? at(0) : nil
    case .unary(.neg): return at(0).map { -$0 }
    case .unary(.sqrt): return at(0).map { $0.squareRoot() }
    case .unary(.rsqrt): return at(0).map { 1 / $0.squareRoot() }
    case .unary(.reciprocal): return at(0).map { 1 / $0 }
    case .binary(let kind) where isReal(value):
      guard let a = at(0), let b = at(1) else { return nil }
      switch kind {
      case .add: return a + b
      case .sub: return a - b
      case .mul: return a * b
      case .div: return a / b
      default: return nil
      }
    default: return nil
    }
  }

  /// Whether a number is the one of a formula, as precisely as people and element types write it.
  func isClose(_ x: Double, _ expected: Double, _ type: ElementType) -> Bool {
    let tolerance: Double =
      switch type {
      case .bfloat16: 1.0 / 128
      case .float16: 1e-3
      case .float32: 1e-6
      default: 1e-9
      }
    return abs(x - expected) <= tolerance * abs(expected)
  }
}

extension Constant {
  /// The number in a constant of one floating point or integer element.
  var number: Double? {
    guard type.shape.elementCount == 1 else { return nil }
    return withUnsafeBytes { bytes in
      switch type.elementType {
      case .float64: bytes.loadUnaligned(as: Double.self)
      case .float32: Double(bytes.loadUnaligned(as: Float.self))
      case .bfloat16: Double(HalfPrecision.float(ofBFloat16: bytes.loadUnaligned(as: UInt16.self)))
      case .float16: Double(HalfPrecision.float(ofFloat16: bytes.loadUnaligned(as: UInt16.self)))
      case .int64: Double(bytes.loadUnaligned(as: Int64.self))
      case .int32: Double(bytes.loadUnaligned(as: Int32.self))
      case .int16: Double(bytes.loadUnaligned(as: Int16.self))
      case .int8: Double(bytes.loadUnaligned(as: Int8.self))
      case .uint8: Double(bytes.loadUnaligned(as: UInt8.self))
      case .bool: nil
      }
    }
  }
}
