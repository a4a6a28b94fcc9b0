/// A function applied to its own results as long as a condition of them holds.
///
/// ```swift
/// let (steps, root) = whileLoop(Tensor(0), x, while: { _, y in abs(y * y - x).max() .> 1e-6 }) { i, y in (i + 1, (y + x / y) / 2) }
/// ```
/// Computed right away, this is Swift's own `while`, and reads the condition every round. Inside of ``compile(_:_:)`` the loop
/// is part of the program. Both functions may read tensors and parameters around them, and gradients reach those; they cannot
/// write variables or draw random numbers there. The states keep their structure, shapes and types.
///
/// The gradient runs the compiled loop again, keeping the states of every round, and goes back through the rounds; it has no
/// gradient itself (``scan(_:over:length:reverse:_:)`` does).
///
/// - Parameters:
///   - initial: the first states.
///   - condition: from the states to bool [].
///   - body: from the states to the next ones.
public func whileLoop<each State: TensorTree>(
  _ initial: repeat each State, while condition: (repeat each State) -> Tensor,
  do body: (repeat each State) -> (repeat each State)
) -> (repeat each State) {
  typealias States = (repeat each State)
  return looped(
    (repeat each initial), while: { (states: States) -> Tensor in condition(repeat each states) },
    do: { (states: States) -> States in body(repeat each states) },
    flatten: { (states: States) in flattened(repeat each states) },
    rebuild: { (states: States, tensors: [Tensor]) -> States in rebuilt((repeat each states), tensors) })
}

private func looped<States>(
  _ initial: States, while condition: (States) -> Tensor, do body: (States) -> States,
  flatten: (States) -> (tensors: [Tensor], structure: [TensorVisitor.Part]), rebuild: (States, [Tensor]) -> States
) -> States {
  let (tensors, structure) = flatten(initial)
  let types = tensors.map(\.type)
  func checked(_ states: States) -> [Tensor] {
    let (after, form) = flatten(states)
    guard after.map(\.type) == types, form == structure else {
      stop("whileLoop: the body must give states of the types \(types), not \(after.map(\.type))")
    }
    return after
  }
  func holds(_ states: States) -> Tensor {
    let result = condition(states)
    guard result.type == TensorType([], .bool) else {
      stop("whileLoop: the condition must be a bool scalar, got \(result.type)")
    }
    return result
  }
  if Trace.active == nil {
    var states = initial
    while holds(states).item(as: Bool.self) {
      states = body(states)
      _ = checked(states)
    }
    return states
  }
  let traced = tracedLoopBody("body", tensors, carried: tensors.count) { checked(body(rebuild(initial, $0))) }
  let test = TracedBody("condition", types, tracked: types.map { _ in false }) { [holds(rebuild(initial, $0))] }
  return rebuild(initial, applyWhileLoop(test, traced, carried: tensors.count, tensors))
}

/// A loop's body. A state that begins without a history may get one from what a round reads: then gradients can be asked for
/// by it in the next round, and the body is traced again with that in mind.
func tracedLoopBody(_ name: String, _ operands: [Tensor], carried: Int, _ f: ([Tensor]) -> [Tensor]) -> TracedBody {
  var tracked = operands.map { $0.isTracked && isRecording }
  while true {
    let body = TracedBody(name, operands.map(\.type), tracked: tracked, f)
    let fresh = (0..<min(carried, body.outputs.count)).filter { body.outputs[$0].isTracked && !tracked[$0] }
    if fresh.isEmpty { return body }
    for i in fresh { tracked[i] = true }
  }
}

/// - Parameter operands: the states, then constants.
func applyWhileLoop(_ condition: TracedBody, _ body: TracedBody, carried: Int, _ operands: [Tensor]) -> [Tensor] {
  func loop(_ captures: [Tensor]) -> WhileLoop {
    WhileLoop(
      condition: Function("condition", condition.graph(captures)), body: Function("body", body.graph(captures)), carried: carried)
  }
  let captures = TracedBody.captures(condition, body)
  let captured = body.trackedCaptures
  return apply(.whileLoop(loop(captures)), operands + captures, tape: operands + captured) { gradients, sink in
    // Of every state a gradient goes round, also where it is zero: which ones are not depends on the rounds.
    let differentiable = (0..<carried).map { body.inputs[$0].isTracked }
    let asked = (0..<(operands.count + captured.count)).filter(sink.needs)
    let last = (0..<carried).map { gradients[$0] ?? Tensor.zeros(operands[$0].shape, operands[$0].elementType) }
    let pullback = body.differentiated(differentiable, requested: sink.table.requested) { cotangents, gradient in
      var next = cotangents[...]
      let arriving = (0..<carried).map {
        differentiable[$0] ? next.removeFirst() : body.addInput(body.inputs[$0].type)
      }
      return (body.inputs + arriving, (body.inputs + captured).map(gradient))
    }
    // What the walk back reads of the values around is handed to the loop as well.
    let captures = TracedBody.captures(condition, body, pullback, and: captured)
    var walk = pullback.graph(captures, trailing: carried)
    // A gradient by each operand: captured values without a history have the gradient zero.
    let places =
      operands.indices.map { $0 }
      + captures.map { x in
        captured.firstIndex { Trace.CaptureKey($0) == Trace.CaptureKey(x) }.map { operands.count + $0 } ?? -1
      }
    var outputs: [Int] = []
    for (i, place) in places.enumerated() {
      let type = (operands + captures)[i].type
      outputs.append(
        place >= 0
          ? walk.outputs[place]
          : walk.append(.fill(type.shape, type.elementType, .int(0)), [], types: [type]).lowerBound)
    }
    walk.setOutputs(outputs)
    let results = apply(
      .whileLoopGradient(loop(captures), pullback: Function("pullback", walk)), operands + captures + last)
    for i in asked {
      if let result = places.firstIndex(of: i) { sink.add(i, results[result]) }
    }
  }
}
