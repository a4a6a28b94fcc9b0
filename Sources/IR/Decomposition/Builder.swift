/// Writes a decomposition down: a graph of operations on given types.
///
/// Operands of binary operations are broadcast, numbers take the other side's type, as tensor functions do.
final class DecompositionBuilder {
  private(set) var graph = Graph()

  init(_ inputs: [TensorType]) { for type in inputs { graph.addInput(type) } }

  var inputs: [Term] { graph.inputs.map { Term(self, $0) } }

  func type(_ value: Graph.Value) -> TensorType { graph.type(value) }

  /// The operands have passed the decomposed operation's shape rule: what is written of them fits, or the decomposition is wrong.
  func apply(_ operation: Operation, _ inputs: [Term]) -> [Term] {
    do { return try graph.append(operation, inputs.map(\.value)).map { Term(self, $0) } } catch {
      preconditionFailure("a decomposition is wrong: \(error)")
    }
  }

  func fill(_ value: Double, _ shape: Shape, _ type: ElementType) -> Term {
    let scalar: Scalar = type == .bool ? .bool(value != 0) : type.isInteger ? .int(Int(value)) : .double(value)
    return apply(.fill(shape, type, scalar), [])[0]
  }

  func fill(_ value: Int, _ shape: Shape, _ type: ElementType = .int64) -> Term { apply(.fill(shape, type, .int(value)), [])[0] }
  func fill(_ value: Scalar, _ shape: Shape, _ type: ElementType) -> Term { apply(.fill(shape, type, value), [])[0] }

  func iota(_ shape: Shape, _ type: ElementType = .int64, axis: Int) -> Term { apply(.iota(shape, type, axis: axis), [])[0] }

  func concatenate(_ parts: [Term], axis: Int) -> Term { apply(.concatenate(axis: axis), parts)[0] }

  func select(_ condition: Term, _ a: Term, _ b: Term) -> Term {
    let shape = [a.shape, b.shape].reduce(condition.shape) { Shape.broadcast($0, $1) ?? $0 }
    return apply(.select, [condition.broadcast(shape), a.broadcast(shape), b.broadcast(shape)])[0]
  }

  /// The decomposition that gives these.
  func finish(_ outputs: [Term]) -> Graph {
    graph.setOutputs(outputs.map(\.value))
    return graph
  }
}

/// A value of a decomposition.
struct Term {
  let builder: DecompositionBuilder
  let value: Graph.Value

  init(_ builder: DecompositionBuilder, _ value: Graph.Value) {
    self.builder = builder
    self.value = value
  }

  var type: TensorType { builder.type(value) }
  var shape: Shape { type.shape }
  var rank: Int { type.shape.count }
  var elementType: ElementType { type.elementType }

  private func one(_ operation: Operation) -> Term { builder.apply(operation, [self])[0] }

  func like(_ number: Double) -> Term { builder.fill(number, shape, elementType) }
  func like(_ number: Int) -> Term { builder.fill(number, shape, elementType) }

  func unary(_ kind: UnaryKind) -> Term { one(.unary(kind)) }
  func convert(_ type: ElementType) -> Term { type == elementType ? self : one(.convert(type)) }
  func broadcast(_ shape: Shape) -> Term { shape == self.shape ? self : one(.broadcast(shape)) }
  func reshape(_ shape: Shape) -> Term { shape == self.shape ? self : one(.reshape(shape)) }
  func transpose(_ permutation: Axes) -> Term { permutation.elementsEqual(0..<rank) ? self : one(.transpose(permutation)) }
  func stopGradient() -> Term { one(.stopGradient) }
  func reverse(_ axes: Axes) -> Term { axes.isEmpty ? self : one(.reverse(axes)) }

  /// The last two dimensions exchanged.
  func transposed() -> Term {
    var permutation = Axes(0..<rank)
    (permutation[rank - 2], permutation[rank - 1]) = (rank - 1, rank - 2)
    return transpose(permutation)
  }

  func expand(_ axis: Int) -> Term {
    var shape = self.shape
    shape.insert(1, at: axis)
    return reshape(shape)
  }

  func squeeze(_ axis: Int) -> Term {
    var shape = self.shape
    shape.remove(at: axis)
    return reshape(shape)
  }

  func slice(_ axis: Int, _ start: Int, _ count: Int, step: Int = 1) -> Term {
    if start == 0 && count == shape[axis] && step == 1 { return self }
    var (from, size, steps) = (Shape(repeating: 0, count: rank), shape, Shape(repeating: 1, count: rank))
    (from[axis], size[axis], steps[axis]) = (start, count, step)
    return one(.slice(start: from, size: size, step: steps))
  }

  func pad(low: Shape, high: Shape, interior: Shape? = nil, _ value: Term) -> Term {
    let interior = interior ?? Shape(repeating: 0, count: rank)
    if (Array(low) + Array(high) + Array(interior)).allSatisfy({ $0 == 0 }) { return self }
    return builder.apply(.pad(low: low, high: high, interior: interior), [self, value])[0]
  }

  func reduce(_ kind: ReductionKind, _ axes: Axes, keepDims: Bool = false) -> Term {
    let result = one(.reduce(kind, axes, keepDims: false))
    return keepDims ? result.reshape(reduced(shape, axes, keepDims: true)) : result
  }

  func sum(_ axes: Axes, keepDims: Bool = false) -> Term { reduce(.sum, axes, keepDims: keepDims) }

  func mean(_ axes: Axes, keepDims: Bool = false) -> Term {
    sum(axes, keepDims: keepDims) / Double(axes.reduce(1) { $0 * shape[$1] })
  }

  /// Along the last axis.
  func logSumExp(keepDims: Bool) -> Term {
    let axis = rank - 1
    if shape[axis] == 0 { return unary(.exp).sum([axis], keepDims: keepDims).unary(.log) }
    let top = reduce(.max, [axis], keepDims: true).stopGradient()
    let safe = builder.select(top.unary(.isFinite), top, top.like(0.0))
    let result = (self - safe).unary(.exp).sum([axis], keepDims: true).unary(.log) + safe
    return keepDims ? result : result.squeeze(axis)
  }

  func binary(_ kind: BinaryKind, _ other: Term) -> Term {
    let shape = Shape.broadcast(shape, other.shape) ?? shape
    return builder.apply(.binary(kind), [broadcast(shape), other.broadcast(shape)])[0]
  }

  func compare(_ kind: ComparisonKind, _ other: Term) -> Term {
    let shape = Shape.broadcast(shape, other.shape) ?? shape
    return builder.apply(.compare(kind), [broadcast(shape), other.broadcast(shape)])[0]
  }

  /// Equal batch dimensions, then a matrix each.
  func matmul(_ other: Term) -> Term {
    let batch = Axes(0..<(rank - 2))
    return builder.apply(
      .dot(DotDimensions(lhsBatch: batch, rhsBatch: batch, lhsContracting: [rank - 1], rhsContracting: [rank - 2])),
      [self, other])[0]
  }

  static func + (a: Term, b: Term) -> Term { a.binary(.add, b) }
  static func - (a: Term, b: Term) -> Term { a.binary(.sub, b) }
  static func * (a: Term, b: Term) -> Term { a.binary(.mul, b) }
  static func / (a: Term, b: Term) -> Term { a.binary(.div, b) }
  static func + (a: Term, b: Double) -> Term { a + a.like(b) }
  static func - (a: Term, b: Double) -> Term { a - a.like(b) }
  static func * (a: Term, b: Double) -> Term { a * a.like(b) }
  static func / (a: Term, b: Double) -> Term { a / a.like(b) }
  static func - (a: Double, b: Term) -> Term { b.like(a) - b }
  static func / (a: Double, b: Term) -> Term { b.like(a) / b }
  static prefix func - (a: Term) -> Term { a.unary(.neg) }
}
