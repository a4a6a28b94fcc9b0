import CApusKernels

/// Which leaf a gradient belongs to, and how it is told apart from others without a search.
///
/// Bits 0–15 are for arguments of `gradient(at:)`, the rest is shared by parameters.
enum LeafBits {
  static let arguments: UInt64 = 0xFFFF
  static func parameter(_ number: Int) -> UInt64 { 1 << UInt64(16 + number % 48) }
  static func argument(_ number: Int) -> UInt64 { 1 << UInt64(number % 16) }
}

/// The gradients of a result by several tensors: a value, like everything else.
public struct Gradients: Sendable {
  /// The variables, in the order they were asked for.
  public let variables: [Variable]
  /// One for each variable; nil where the result does not depend on it.
  public internal(set) var values: [Tensor?]

  public init(variables: [Variable], values: [Tensor?]) {
    precondition(variables.count == values.count, "one gradient for each variable")
    self.variables = variables
    self.values = values
  }

  /// The gradient by a variable, nil if the result does not depend on it (or it was not asked for).
  public subscript(variable: Variable) -> Tensor? {
    variables.firstIndex { $0 === variable }.flatMap { values[$0] }
  }

  /// The gradient by the variable of this name.
  public subscript(name: String) -> Tensor? {
    variables.firstIndex { $0.name == name }.flatMap { values[$0] }
  }

  /// Every gradient changed in the same way.
  public func map(_ transform: (Tensor) -> Tensor) -> Gradients {
    Gradients(variables: variables, values: values.map { $0.map(transform) })
  }

  /// √ of the sum of all squares, in float64 if one of them is, otherwise in float32.
  public var norm: Tensor {
    let present = values.compactMap { $0 }
    let type: ElementType = present.contains { $0.elementType == .float64 } ? .float64 : .float32
    let squares = present.map { square($0.converted(to: type)).sum() }
    return squares.isEmpty ? Tensor.zeros([], type) : sqrt(squares.dropFirst().reduce(squares[0], +))
  }

  /// Scales all gradients by one factor so that their common norm is at most `limit`. Returns the norm before.
  @discardableResult
  public mutating func clip(norm limit: Double) -> Tensor {
    let total = norm
    let factor = minimum(limit / (total + 1e-6), 1)
    values = values.map { $0.map { $0 * factor.converted(to: $0.elementType) } }
    return total
  }

  /// Scales each gradient so that its own norm is at most `limit`: g · limit / max(‖g‖, limit).
  public mutating func clip(eachNorm limit: Double) {
    self = map { g in
      let wide = g.converted(to: g.elementType == .float64 ? .float64 : .float32)
      return g * (limit / maximum(sqrt(square(wide).sum()), limit)).converted(to: g.elementType)
    }
  }

  /// Limits every element to −limit … limit.
  public mutating func clip(value limit: Double) { self = map { $0.clamped(-limit, limit) } }

  /// Whether no gradient holds a NaN or an infinity.
  public var isFinite: Bool { values.allSatisfy { $0.map { isAllFinite($0.array) } ?? true } }

  /// ``isFinite`` as a tensor, bool [], which compiled functions may use.
  public var allFinite: Tensor {
    let each = values.compactMap { $0 }.map { ApusTensor.isFinite($0).all() }
    return each.isEmpty ? Tensor(true) : each.dropFirst().reduce(each[0], .&)
  }

  /// Sums, for accumulation over several batches; both sides must be of the same variables.
  public static func + (a: Gradients, b: Gradients) -> Gradients {
    guard a.variables.count == b.variables.count, zip(a.variables, b.variables).allSatisfy({ $0 === $1 }) else {
      stop("gradients of different variables cannot be added")
    }
    let sums = zip(a.values, b.values).map { x, y -> Tensor? in
      if let x, let y { return x + y }
      return x ?? y
    }
    return Gradients(variables: a.variables, values: sums)
  }

  public static func += (a: inout Gradients, b: Gradients) { a = a + b }
  public static func * (a: Gradients, factor: some TensorScalar) -> Gradients { a.map { $0 * factor } }
  public static func / (a: Gradients, divisor: some TensorScalar) -> Gradients { a.map { $0 / divisor } }
}

extension Tensor {
  /// The gradients of this tensor, usually a loss, by variables.
  ///
  /// - Parameters:
  ///   - variables: parameters, or any variables that were trainable when they were read.
  ///   - cotangent: what is multiplied in from the left; of this tensor's shape. Ones of a scalar if absent.
  ///   - createGraph: remember the computation, so that the gradients have gradients themselves.
  ///   - releasingHistory: give back the memory of each step as soon as it was walked; no gradient of this tensor
  ///     can be taken after that.
  public func gradients(
    for variables: some Sequence<Variable>, cotangent: Tensor? = nil, createGraph: Bool = false, releasingHistory: Bool = false
  ) -> Gradients {
    let variables = Array(variables)
    var requested: UInt64 = 0
    for variable in variables { requested |= variable.leaf.leaves }
    let table = backward(
      from: [(self, seed(cotangent))], requested: requested, createGraph: createGraph, releasing: releasingHistory && !createGraph
    )
    return Gradients(variables: variables, values: variables.map { v in table.gradient(of: v.leaf).map(v.hooked) })
  }

  fileprivate func seed(_ cotangent: Tensor?) -> Tensor {
    guard elementType.isFloatingPoint else { stop("gradients: the result must be floating point, not \(elementType)") }
    if let cotangent {
      guard cotangent.shape == shape else { stop("gradients: the cotangent has shape \(cotangent.shape), the result \(shape)") }
      return cotangent.converted(to: elementType)
    }
    guard count == 1 else {
      stop("gradients: the result has shape \(shape); a gradient needs a scalar (sum it, or give a cotangent)")
    }
    return Tensor.full(shape, 1.0, elementType)
  }
}

/// Arguments made into leaves of their own, while keeping the history they came with.
private struct Arguments {
  var leaves: [GradientNode] = []
  var tensors: [Tensor] = []
  var bits: UInt64 = 0

  init(_ xs: [Tensor]) {
    let state = apus_thread()!
    for x in xs {
      let bit = LeafBits.argument(Int(state.pointee.argument_leaves))
      state.pointee.argument_leaves &+= 1
      bits |= bit
      // With a history, a node that hands on what arrives: gradients of gradients see through it.
      let leaf = x.handle.node == nil ? GradientNode(leaf: x.type, bit: bit) : GradientNode(argument: x.handle, bit: bit)
      leaves.append(leaf)
      tensors.append(x.tracked(by: leaf))
    }
  }
}

/// The values of `f` and the function that takes gradients of the values to gradients of the arguments.
///
/// The pullback may be called more than once. Its results have a history where something outside may ask for
/// it: inside of another gradient's function, or if parameters or tracked tensors took part.
package func pullback(
  _ xs: [Tensor], _ f: ([Tensor]) -> [Tensor]
) -> (values: [Tensor], pullback: ([Tensor?]) -> [Tensor]) {
  for x in xs where !x.elementType.isFloatingPoint {
    stop("gradient: takes floating point tensors, got \(x.type); convert it first")
  }
  let state = apus_thread()!
  let arguments = Arguments(xs)
  state.pointee.gradient_depth += 1
  let ys = withGradient { f(arguments.tensors) }
  state.pointee.gradient_depth -= 1
  let reached = ys.reduce(UInt64(0)) { $0 | ($1.handle.node?.leaves ?? 0) }
  // Arguments of gradients inside of f stay in the history; nobody can ask for them once no function runs.
  let inside = state.pointee.gradient_depth > 0 ? arguments.bits : LeafBits.arguments
  let outside = reached & ~inside != 0 || xs.contains { $0.handle.node != nil }
  let values = outside || state.pointee.gradient_depth > 0 ? ys : ys.map { $0.detached() }
  return (
    values,
    { cotangents in
      var starts: [(tensor: Tensor, cotangent: Tensor)] = []
      for (y, cotangent) in zip(ys, cotangents) { if let cotangent { starts.append((y, y.seed(cotangent))) } }
      let nested = apus_thread().pointee.gradient_depth > 0
      let graph = isRecording && (outside || nested || cotangents.contains { $0?.handle.node != nil })
      let table = backward(from: starts, requested: arguments.bits, createGraph: graph, stops: arguments.leaves)
      return zip(arguments.leaves, xs).map { leaf, x in table.gradient(of: leaf) ?? Tensor.zeros(x.shape, x.elementType) }
    }
  )
}

/// The gradient of a scalar function at `x`: of x's shape.
public func gradient(at x: Tensor, of f: (Tensor) -> Tensor) -> Tensor { valueAndGradient(at: x, of: f).gradient }

public func gradient(at x: Tensor, _ y: Tensor, of f: (Tensor, Tensor) -> Tensor) -> (Tensor, Tensor) {
  valueAndGradient(at: x, y, of: f).gradient
}

public func gradient(at xs: [Tensor], of f: ([Tensor]) -> Tensor) -> [Tensor] { valueAndGradient(at: xs, of: f).gradient }

/// A scalar function's value and gradient at `x`.
public func valueAndGradient(at x: Tensor, of f: (Tensor) -> Tensor) -> (value: Tensor, gradient: Tensor) {
  let (value, gradients) = valueAndGradient(at: [x]) { f($0[0]) }
  return (value, gradients[0])
}

public func valueAndGradient(
  at x: Tensor, _ y: Tensor, of f: (Tensor, Tensor) -> Tensor
) -> (value: Tensor, gradient: (Tensor, Tensor)) {
  let (value, gradients) = valueAndGradient(at: [x, y]) { f($0[0], $0[1]) }
  return (value, (gradients[0], gradients[1]))
}

public func valueAndGradient(at xs: [Tensor], of f: ([Tensor]) -> Tensor) -> (value: Tensor, gradient: [Tensor]) {
  let (values, pull) = pullback(xs) { [f($0)] }
  return (values[0], pull([values[0].seed(nil)]))
}

/// The value of `f` at `x`, and its vector-Jacobian product: a function from a cotangent of the value's shape
/// to one of x's.
public func vjp(at x: Tensor, of f: (Tensor) -> Tensor) -> (value: Tensor, pullback: (Tensor) -> Tensor) {
  let (values, pull) = pullback([x]) { [f($0[0])] }
  return (values[0], { pull([$0])[0] })
}

public func vjp(at xs: [Tensor], of f: ([Tensor]) -> [Tensor]) -> (values: [Tensor], pullback: ([Tensor]) -> [Tensor]) {
  let (values, pull) = pullback(xs, f)
  return (values, { pull($0.map { Optional($0) }) })
}

/// The value of `f` at `x`, and the Jacobian-vector product along `tangent`, both of the value's shape.
///
/// Computed as the gradient, by u, of the vector-Jacobian product uᵀJ·v, which is linear in u.
public func jvp(at x: Tensor, along tangent: Tensor, of f: (Tensor) -> Tensor) -> (value: Tensor, tangent: Tensor) {
  guard tangent.shape == x.shape else { stop("jvp: the tangent has shape \(tangent.shape), the point \(x.shape)") }
  let (value, pull) = vjp(at: x, of: f)
  let u = Tensor.zeros(value.shape, value.elementType)
  let result = gradient(at: u) { u in (pull(u) * tangent.converted(to: x.elementType)).sum() }
  return (value, result)
}

/// The Hessian of a scalar function times a vector, without the Hessian: of x's shape.
public func hessianVectorProduct(at x: Tensor, vector: Tensor, of f: (Tensor) -> Tensor) -> Tensor {
  guard vector.shape == x.shape else { stop("hessianVectorProduct: the vector has shape \(vector.shape), the point \(x.shape)") }
  return gradient(at: x) { x in (gradient(at: x, of: f) * vector).sum() }
}

/// The Jacobian of `f` at `x`: shape [value's shape…, x's shape…].
public func jacobian(at x: Tensor, of f: (Tensor) -> Tensor) -> Tensor {
  let (value, pull) = vjp(at: x, of: f)
  let rows = (0..<value.count).map { i in
    let unit = (Tensor.arange(value.count) .== i).converted(to: value.elementType).reshaped(value.shape)
    return pull(unit)
  }
  let target = Shape(Array(value.shape) + Array(x.shape))
  return rows.isEmpty ? Tensor.zeros(target, x.elementType) : stack(rows).reshaped(target)
}

/// The Hessian of a scalar function at `x`: shape [x's shape…, x's shape…].
public func hessian(at x: Tensor, of f: (Tensor) -> Tensor) -> Tensor {
  jacobian(at: x) { x in gradient(at: x, of: f) }
}

/// A function with a gradient of its own making.
///
/// - Parameters:
///   - inputs: what the gradient is by.
///   - f: computes the value and the pullback: from the gradient of the value to one gradient for each input (nil:
///     none). What the pullback reads of the computation has its history, so gradients of gradients are right too.
public func customGradient(
  _ inputs: [Tensor], name: String = "customGradient", _ f: ([Tensor]) -> (value: Tensor, pullback: (Tensor) -> [Tensor?])
) -> Tensor {
  let (value, pull) = f(inputs)
  guard isRecording && inputs.contains(where: { $0.handle.node != nil }) else { return value.detached() }
  Trace.noteRule(of: inputs)
  let types = inputs.map(\.type)
  let node = GradientNode(
    .custom(name: name) { gradients, sink in
      guard let dy = gradients[0] else { return }
      let results = pull(dy)
      guard results.count == types.count else {
        stop("\(name): the pullback gave \(results.count) gradients for \(types.count) inputs")
      }
      for (i, gradient) in results.enumerated() where sink.needs(i) {
        guard let gradient else { continue }
        guard gradient.type == types[i] else { stop("\(name): gradient \(i) is \(gradient.type), the input \(types[i])") }
        sink.add(i, gradient)
      }
    }, [value.type], inputs)
  return value.detached().tracked(by: node)
}

public func customGradient(
  _ x: Tensor, name: String = "customGradient", _ f: (Tensor) -> (value: Tensor, pullback: (Tensor) -> Tensor)
) -> Tensor {
  customGradient([x], name: name) { inputs in
    let (value, pull) = f(inputs[0])
    return (value, { [pull($0)] })
  }
}

/// Computes `f` without keeping what its gradient needs; the backward walk computes it again.
///
/// Trades time for memory: of everything inside, only the inputs are kept. Random numbers of the default generator
/// come out the same the second time. Gradients reach the inputs and every parameter that `f` reads.
public func checkpoint(_ inputs: [Tensor], _ f: @escaping ([Tensor]) -> Tensor) -> Tensor {
  guard isRecording else { return f(inputs) }
  let random = Generator.replayPoint()
  let value = withoutGradient { f(inputs) }
  guard value.elementType.isFloatingPoint else { return value }
  Trace.noteRule(of: inputs)
  let node = GradientNode(
    .custom(name: "checkpoint") { gradients, sink in
      guard let dy = gradients[0] else { return }
      let floating = inputs.indices.filter { inputs[$0].elementType.isFloatingPoint }
      let arguments = Arguments(floating.map { inputs[$0] })
      var again = inputs
      for (i, argument) in zip(floating, arguments.tensors) { again[i] = argument }
      let y = withGradient { random { f(again) } }
      // Everything that f read: its inputs, and beyond them the leaves of whatever it captured.
      let table = backward(
        from: [(y, dy)], requested: ~0, createGraph: isRecording, stops: arguments.leaves + sink.table.stops,
        boundary: sink.table.boundary)
      for (i, leaf) in zip(floating, arguments.leaves) where sink.needs(i) {
        if let gradient = table.gradient(of: leaf) { sink.add(i, gradient) }
      }
      for entry in table.entries where !arguments.leaves.contains(where: { $0 === entry.node }) {
        let isLeaf =
          entry.node.depth == 0 || sink.table.stops.contains { $0 === entry.node }
          || sink.table.boundary.contains(ObjectIdentifier(entry.node))
        guard isLeaf else { continue }
        for (i, gradient) in ([entry.gradient] + (entry.more ?? [])).enumerated() {
          if let gradient { sink.add(toLeaf: entry.node, result: Int32(i), gradient) }
        }
      }
    }, [value.type], inputs, leaves: ~0)
  return value.detached().tracked(by: node)
}

public func checkpoint(_ x: Tensor, _ f: @escaping (Tensor) -> Tensor) -> Tensor { checkpoint([x]) { f($0[0]) } }
