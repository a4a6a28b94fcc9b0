// Recurrent cells over whole sequences.
//
// A loop of cells has a gradient without any of this. But the gradient of the hidden weight would then be as many small
// products as there are steps, each added to a matrix of the weight's size; here it is one product over all steps.

/// A long short-term memory over a sequence (Hochreiter and Schmidhuber 1997); one step is ``lstmCell(gates:cell:)``.
/// - Parameters:
///   - inputGates: [steps, batch, 4 · hidden]: what the inputs and all biases add to the gates, in PyTorch's order; the product
///     of all steps is best made at once.
///   - hiddenWeight: [4 · hidden, hidden].
///   - hidden, cell: the state before the first step, [batch, hidden].
///   - reverse: begin with the last step.
/// - Returns: the hidden states of all steps, [steps, batch, hidden], in the order of the inputs; the last hidden state and cell.
public func lstm(
  inputGates: Tensor, hiddenWeight: Tensor, hidden: Tensor, cell: Tensor, reverse: Bool = false
) -> (output: Tensor, hidden: Tensor, cell: Tensor) {
  checkSequence("lstm", inputGates, hiddenWeight, [hidden, cell], gates: 4)
  let inputs = [inputGates, hiddenWeight, hidden, cell]
  func loop(_ x: [Tensor], _ visit: (_ gates: Tensor, _ hidden: Tensor, _ cell: Tensor) -> Void) -> [Tensor] {
    let weight = heldForSteps(x[1])
    var (h, c) = (x[2], x[3])
    let output = overSteps(x[0], reverse) { input in
      let gates = linear(h, weight) + input
      visit(gates, h, c)
      (h, c) = lstmCell(gates: gates, cell: c)
      return h
    }
    return [output, h, c]
  }
  let results = sequence("lstm", inputs, { loop($0) { _, _, _ in } }) {
    var steps: [(gates: Tensor, hidden: Tensor, cell: Tensor)] = []
    let results = loop($0) { steps.append(($0, $1, $2)) }
    return (
      results,
      { [inputs = $0] dy in
        var (dh, dc) = (dy[1], dy[2])
        let arriving = dy[0].unstacked()
        var dgates = [Tensor?](repeating: nil, count: steps.count)
        for (i, step) in steps.enumerated().reversed() {
          let t = reverse ? steps.count - 1 - i : i
          let d = apply(.composite(.lstmCellGradient), [dh + arriving[t], dc, step.gates, step.cell])
          (dgates[t], dc) = (d[0], d[1])
          dh = d[0].matmul(inputs[1])
        }
        let ordered = reverse ? steps.reversed() : steps
        let all = stack(dgates.compactMap { $0 })
        return [all, weightGradient(all, stack(ordered.map(\.hidden))), dh, dc]
      }
    )
  }
  return (results[0], results[1], results[2])
}

/// A gated recurrent unit over a sequence (Cho et al. 2014); one step is ``gruCell(inputGates:hiddenGates:hidden:)``.
/// - Parameters:
///   - inputGates: [steps, batch, 3 · hidden]: what the inputs and their bias add to the gates, in PyTorch's order; the product of
///     all steps is best made at once.
///   - hiddenWeight: [3 · hidden, hidden].
///   - hiddenBias: [3 · hidden], inside of what the reset gate multiplies.
///   - hidden: the state before the first step, [batch, hidden].
///   - reverse: begin with the last step.
/// - Returns: the hidden states of all steps, [steps, batch, hidden], in the order of the inputs; the last hidden state.
public func gru(
  inputGates: Tensor, hiddenWeight: Tensor, hiddenBias: Tensor? = nil, hidden: Tensor, reverse: Bool = false
) -> (output: Tensor, hidden: Tensor) {
  checkSequence("gru", inputGates, hiddenWeight, [hidden], gates: 3)
  if let hiddenBias, hiddenBias.shape != [hiddenWeight.shape[0]] {
    stop("gru: a bias of shape \(hiddenBias.shape) does not go with a weight of shape \(hiddenWeight.shape)")
  }
  let inputs = [inputGates, hiddenWeight, hidden] + (hiddenBias.map { [$0] } ?? [])
  func loop(_ x: [Tensor], _ visit: (_ input: Tensor, _ gates: Tensor, _ hidden: Tensor) -> Void) -> [Tensor] {
    let weight = heldForSteps(x[1])
    var h = x[2]
    let output = overSteps(x[0], reverse) { input in
      let gates = linear(h, weight, x.count > 3 ? x[3] : nil)
      visit(input, gates, h)
      h = gruCell(inputGates: input, hiddenGates: gates, hidden: h)
      return h
    }
    return [output, h]
  }
  let results = sequence("gru", inputs, { loop($0) { _, _, _ in } }) {
    var steps: [(input: Tensor, gates: Tensor, hidden: Tensor)] = []
    let results = loop($0) { steps.append(($0, $1, $2)) }
    return (
      results,
      { [inputs = $0] dy in
        var dh = dy[1]
        let arriving = dy[0].unstacked()
        var (dinput, dgates) = ([Tensor?](repeating: nil, count: steps.count), [Tensor?](repeating: nil, count: steps.count))
        for (i, step) in steps.enumerated().reversed() {
          let t = reverse ? steps.count - 1 - i : i
          let d = apply(.composite(.gruCellGradient), [dh + arriving[t], step.input, step.gates, step.hidden])
          (dinput[t], dgates[t]) = (d[0], d[1])
          dh = d[2] + d[1].matmul(inputs[1])
        }
        let ordered = reverse ? steps.reversed() : steps
        let all = stack(dgates.compactMap { $0 })
        let weight = weightGradient(all, stack(ordered.map(\.hidden)))
        return [stack(dinput.compactMap { $0 }), weight, dh] + (inputs.count > 3 ? [all.sum(axes: [0, 1])] : [])
      }
    )
  }
  return (results[0], results[1])
}

// MARK: What both share

private func checkSequence(_ name: String, _ inputGates: Tensor, _ weight: Tensor, _ states: [Tensor], gates: Int) {
  guard inputGates.rank == 3, weight.rank == 2, weight.shape[0] == gates * weight.shape[1], inputGates.shape[2] == weight.shape[0]
  else {
    stop(
      "\(name): takes gates [steps, batch, \(gates) · hidden] and a weight [\(gates) · hidden, hidden], got shapes \(inputGates.shape) and \(weight.shape)"
    )
  }
  guard inputGates.shape[0] > 0 else { stop("\(name): a sequence of no steps") }
  for state in states where state.shape != [inputGates.shape[1], weight.shape[1]] {
    stop("\(name): a state has shape \(state.shape), expected \([inputGates.shape[1], weight.shape[1]]): [batch, hidden]")
  }
}

/// Each step of the input in turn, the results in the order of the inputs.
private func overSteps(_ x: Tensor, _ reverse: Bool, _ step: (Tensor) -> Tensor) -> Tensor {
  let inputs = x.unstacked()
  let outputs = (reverse ? inputs.reversed() : inputs).map(step)
  return stack(reverse ? outputs.reversed() : outputs)
}

/// The same weight, the rows of its transpose adjacent in memory and 64 bytes longer: the product of every step reads it as it
/// lies instead of packing it again, and rows a power of two apart would push each other out of the first cache.
private func heldForSteps(_ weight: Tensor) -> Tensor {
  guard weight.isConcrete, !isTracing else { return weight }
  let padding = (before: 0, after: 64 / weight.elementType.byteSize)
  let longer = weight.transposed().padded([(before: 0, after: 0), padding])
  return longer.sliced(axis: 1, start: 0, count: weight.shape[0]).transposed()
}

/// Σ over steps and batch of dgatesᵀ · hidden.
private func weightGradient(_ dgates: Tensor, _ hidden: Tensor) -> Tensor {
  dgates.flattened(from: 0, to: 1).transposed().matmul(hidden.flattened(from: 0, to: 1))
}

/// A loop as one node on the tape.
/// - Parameters:
///   - plain: the loop in functions that have gradients; second derivatives go through it.
///   - withPullback: the loop, keeping what the gradient needs, and the gradient.
private func sequence(
  _ name: String, _ inputs: [Tensor], _ plain: @escaping ([Tensor]) -> [Tensor],
  _ withPullback: ([Tensor]) -> (results: [Tensor], pullback: ([Tensor]) -> [Tensor])
) -> [Tensor] {
  guard isRecording, inputs.contains(where: { $0.handle.node != nil }) else { return plain(inputs) }
  let (results, pull) = withoutGradient { withPullback(inputs.map { $0.detached() }) }
  let types = results.map(\.type)
  let node = GradientNode(
    .custom(name: name) { gradients, sink in
      let dy = zip(gradients, types).map { $0 ?? Tensor.zeros($1.shape, $1.elementType) }
      let dx = isRecording ? pullback(inputs, plain).pullback(dy) : pull(dy)
      for (i, gradient) in dx.enumerated() where sink.needs(i) { sink.add(i, gradient) }
    }, types, inputs)
  return results.enumerated().map { $1.detached().tracked(by: node, result: $0) }
}
