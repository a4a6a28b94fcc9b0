import ApusCPU

/// A function over the elements of sequences that hands on a state (JAX's `scan`).
///
/// ```swift
/// let (last, sums) = scan(Tensor.zeros([]), over: x) { sum, x in (sum + x, sum + x) }  // running sums
/// ```
/// Computed right away, this is Swift's own loop. Inside of ``compile(_:_:)`` the loop is part of the program, whatever its
/// length. The body may read tensors and parameters around it, and gradients reach those; it cannot write variables or draw
/// random numbers there. States keep their structure, shapes and types.
///
/// The gradient is a scan in the other direction. It keeps the states before each round and computes the inside of a round
/// again: memory for the states alone, one more forward computation.
///
/// - Parameters:
///   - initial: the first state.
///   - sequences: tensors [length, …]; the body gets their elements along the first dimension.
///   - length: the number of rounds; needed where there are no sequences.
///   - reverse: from the last element to the first; outputs stand where their element stood.
///   - body: from a state and elements to the next state and this round's outputs.
/// - Returns: the last state, and the outputs stacked to [length, …].
public func scan<State: TensorTree, Sequences: TensorTree, Output: TensorTree>(
  _ initial: State, over sequences: Sequences, length: Int? = nil, reverse: Bool = false,
  _ body: (State, Sequences) -> (State, Output)
) -> (state: State, outputs: Output) {
  let (states, structure) = flattened(initial)
  let whole = flattened(sequences).tensors
  for x in whole where x.rank == 0 { stop("scan: a sequence needs a first dimension, got the scalar \(x.type)") }
  guard let length = length ?? whole.first?.shape[0], length >= 0 else { stop("scan: without sequences, the length is needed") }
  for x in whole where x.shape[0] != length {
    stop("scan: a sequence has \(x.shape[0]) elements, the first or `length` \(length)")
  }
  var template: Output?
  let (last, outputs) = scanTensors(states, whole, length: length, reverse: reverse) { states, elements in
    let (state, output) = body(rebuilt(initial, states), rebuilt(sequences, elements))
    let (next, form) = flattened(state)
    guard form == structure else { stop("scan: the body must give a state of the structure of the first one") }
    template = output
    return (next, flattened(output).tensors)
  }
  guard let template else { preconditionFailure("the body ran at least once") }
  return (rebuilt(initial, last), rebuilt(template, outputs))
}

/// A scan without sequences: `length` rounds.
public func scan<State: TensorTree, Output: TensorTree>(
  _ initial: State, length: Int, reverse: Bool = false, _ body: (State) -> (State, Output)
) -> (state: State, outputs: Output) {
  scan(initial, over: [Tensor](), length: length, reverse: reverse) { state, _ in body(state) }
}

func scanTensors(
  _ states: [Tensor], _ sequences: [Tensor], length: Int, reverse: Bool,
  _ body: (_ states: [Tensor], _ elements: [Tensor]) -> (states: [Tensor], outputs: [Tensor])
) -> (states: [Tensor], outputs: [Tensor]) {
  let carried = states.count
  func round(_ states: [Tensor], _ elements: [Tensor]) -> (states: [Tensor], outputs: [Tensor]) {
    let results = body(states, elements)
    let (before, after) = (states.map(\.type), results.states.map(\.type))
    guard before == after else { stop("scan: the body must give a state of the types \(before), not \(after)") }
    return results
  }
  if Trace.active == nil && length > 0 {
    let elements = sequences.map { $0.unstacked() }
    var states = states
    var outputs: [[Tensor]] = []
    for n in 0..<length {
      let i = reverse ? length - 1 - n : n
      let results = round(states, elements.map { $0[i] })
      states = results.states
      outputs.append(results.outputs)
    }
    if reverse { outputs.reverse() }
    return (states, outputs[0].indices.map { k in stack(outputs.map { $0[k] }) })
  }
  let operands = states + sequences.map(\.abstractElement)
  let traced = tracedLoopBody("scan body", operands, carried: carried) { x in
    let results = round(Array(x[..<carried]), Array(x[carried...]))
    return results.states + results.outputs
  }
  let loop = ScanShape(carried: carried, sequences: sequences.count, length: length, reverse: reverse)
  let results = applyScan(traced, loop, states + sequences)
  return (Array(results[..<carried]), Array(results[carried...]))
}

/// A ``ScanLoop`` without its body.
struct ScanShape {
  var carried: Int
  var sequences: Int
  var length: Int
  var reverse: Bool

  func loop(_ body: Function) -> ScanLoop {
    ScanLoop(body: body, carried: carried, sequences: sequences, length: length, reverse: reverse)
  }
}

/// - Parameter operands: states, sequences, constants.
func applyScan(_ body: TracedBody, _ shape: ScanShape, _ operands: [Tensor]) -> [Tensor] {
  let captured = body.trackedCaptures
  let tape = operands + captured
  let count = body.outputs.count
  // The states before each round are outputs too, for the gradient: a trace drops them again where nobody reads them.
  let records = isRecording && tape.contains(where: \.isTracked)
  let kept = records ? TracedBody(body.trace, inputs: body.inputs, outputs: body.outputs + body.inputs[..<shape.carried]) : body
  let captures = kept.captures
  let loop = shape.loop(Function("scan body", kept.graph(captures)))
  let results = apply(.scanLoop(loop), operands + captures, tape: tape) { gradients, sink in
    propagateScan(kept, shape, operands, captured, count, gradients, sink)
  }
  return Array(results[..<count])
}

/// The scan in the other direction: it carries the gradients of the states and sums up those of the constants.
private func propagateScan(
  _ body: TracedBody, _ shape: ScanShape, _ operands: [Tensor], _ captured: [Tensor], _ count: Int, _ gradients: [Tensor?],
  _ sink: GradientSink
) {
  let (carried, first) = (shape.carried, shape.carried + shape.sequences)
  let states = (0..<carried).filter { body.inputs[$0].isTracked }
  let stacked = (carried..<body.outputs.count).filter { gradients[$0] != nil }
  let targets = body.inputs + captured
  let elements = (carried..<first).filter { sink.needs($0) }
  let constants = (first..<targets.count).filter { sink.needs($0) }
  let back = body.differentiated(
    body.outputs.indices.map { states.contains($0) || stacked.contains($0) }, requested: sink.table.requested
  ) { cotangents, gradient in
    let sums = constants.map { body.addInput(targets[$0].type) }
    return (
      cotangents[..<states.count] + sums + body.inputs[..<first] + cotangents[states.count...] + body.inputs[first...],
      states.map { gradient(targets[$0]) } + zip(sums, constants).map { $0 + gradient(targets[$1]) }
        + elements.map { gradient(targets[$0]) }
    )
  }
  let backShape = ScanShape(
    carried: states.count + constants.count, sequences: first + stacked.count, length: shape.length, reverse: !shape.reverse)
  func zeros(_ i: Int) -> Tensor { Tensor.zeros((operands + captured)[i].shape, targets[i].elementType) }
  let initial = states.map { gradients[$0] ?? zeros($0) } + constants.map(zeros)
  let sequences = (0..<carried).map { sink.result(count + $0) } + operands[carried..<first] + stacked.compactMap { gradients[$0] }
  let results = applyScan(back, backShape, initial + sequences + operands[first...])
  for (i, result) in zip(states + constants + elements, results) where sink.needs(i) { sink.add(i, result) }
}

extension Tensor {
  /// An element along the first dimension without a value: its type, and a history if this tensor has one.
  var abstractElement: Tensor {
    let type = TensorType(Shape(shape.dropFirst()), elementType)
    return Tensor(TensorHandle(CPUArray(abstract: type), handle.node, result: handle.result))
  }
}
