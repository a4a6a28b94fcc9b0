/// One of two functions, chosen by a bool scalar.
///
/// ```swift
/// let y = conditional(x.sum() .> 0, x) { sqrt($0) } otherwise: { -$0 }
/// ```
/// Computed right away, this is Swift's own `if`. Inside of ``compile(_:_:)`` both functions become part of the program, and
/// each run executes one. They may read tensors and parameters around them, and gradients reach those; they cannot write
/// variables or draw random numbers there. What they give must have the same structure, shapes and types.
///
/// - Parameters:
///   - predicate: bool [].
///   - operands: handed to the function that runs; any number.
public func conditional<each Operand: TensorTree, each Result: TensorTree>(
  _ predicate: Tensor, _ operands: repeat each Operand, then: (repeat each Operand) -> (repeat each Result),
  otherwise: (repeat each Operand) -> (repeat each Result)
) -> (repeat each Result) {
  chosen(
    predicate, then: { then(repeat each operands) }, otherwise: { otherwise(repeat each operands) },
    flatten: { flattened(repeat each $0) }, rebuild: { rebuilt((repeat each $0), $1) })
}

private func chosen<Results>(
  _ predicate: Tensor, then: () -> Results, otherwise: () -> Results,
  flatten: (Results) -> (tensors: [Tensor], structure: [TensorVisitor.Part]), rebuild: (Results, [Tensor]) -> Results
) -> Results {
  guard predicate.type == TensorType([], .bool) else {
    stop("conditional: the predicate must be a bool scalar, got \(predicate.type)")
  }
  if predicate.isConcrete { return predicate.item(as: Bool.self) ? then() : otherwise() }
  var template: Results?
  var structures: [[TensorVisitor.Part]] = []
  func traced(_ name: String, _ f: () -> Results) -> TracedBody {
    // The operands are captured like any other tensor.
    TracedBody(name, [], tracked: []) { _ in
      let results = f()
      let (tensors, structure) = flatten(results)
      if template == nil { template = results }
      structures.append(structure)
      return tensors
    }
  }
  let (a, b) = (traced("then", then), traced("otherwise", otherwise))
  let (types, others) = (a.outputs.map(\.type), b.outputs.map(\.type))
  guard types == others, structures[0] == structures[1], let template else {
    stop("conditional: the branches give different results: \(types) and \(others), \(structures[0]) and \(structures[1])")
  }
  return rebuild(template, applyConditional(predicate, a, b, []))
}

/// - Parameter operands: what both bodies take beside their captured values.
func applyConditional(_ predicate: Tensor, _ then: TracedBody, _ otherwise: TracedBody, _ operands: [Tensor]) -> [Tensor] {
  let captures = TracedBody.captures(then, otherwise)
  let operation = Operation.conditional(
    then: Function(then.trace.name, then.graph(captures)), otherwise: Function(otherwise.trace.name, otherwise.graph(captures)))
  let captured = TracedBody.trackedCaptures(then, otherwise)
  return apply(operation, [predicate] + operands + captures, tape: operands + captured) { gradients, sink in
    let arrived = gradients.map { $0 != nil }
    let asked = (0..<(operands.count + captured.count)).filter(sink.needs)
    func gradient(_ body: TracedBody) -> TracedBody {
      body.differentiated(arrived, requested: sink.table.requested) { cotangents, gradient in
        let targets = body.inputs + captured
        return (body.inputs + cotangents, asked.map { gradient(targets[$0]) })
      }
    }
    let results = applyConditional(predicate, gradient(then), gradient(otherwise), operands + gradients.compactMap { $0 })
    for (i, result) in zip(asked, results) { sink.add(i, result) }
  }
}
