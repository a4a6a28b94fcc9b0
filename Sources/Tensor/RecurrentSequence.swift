// Recurrent layers over whole sequences, in one direction.
//
// A loop of cells gives the same numbers. Here the recurrent weight is packed once and stays in the cache, and its gradient is one
// product over all steps in the place of one a step.

/// A long short-term memory over a sequence (Hochreiter and Schmidhuber 1997); one step is ``lstmCell(gates:cell:)``.
/// - Parameters:
///   - inputGates: [steps, batch, 4 · hidden]: what the inputs and all biases add to the gates, in PyTorch's order; the product
///     of all steps is best made at once.
///   - hiddenWeight: [4 · hidden, hidden].
///   - hidden, cell: the state before the first step, [batch, hidden].
///   - reverse: begin with the last step.
///   - mask: bool [steps, batch]; where it is false a row keeps its state and its output is zero. See ``sequenceMask(_:_:)``.
/// - Returns: the hidden states of all steps, [steps, batch, hidden], in the order of the inputs; the last hidden state and cell.
public func lstm(
  inputGates: Tensor, hiddenWeight: Tensor, hidden: Tensor, cell: Tensor, reverse: Bool = false, mask: Tensor? = nil
) -> (output: Tensor, hidden: Tensor, cell: Tensor) {
  checkSequence("lstm", inputGates, hiddenWeight, [hidden, cell], mask, gates: 4)
  let results = sequence(.init(.lstm, reverse: reverse), [inputGates, hiddenWeight, hidden, cell], mask)
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
///   - mask: bool [steps, batch]; where it is false a row keeps its state and its output is zero. See ``sequenceMask(_:_:)``.
/// - Returns: the hidden states of all steps, [steps, batch, hidden], in the order of the inputs; the last hidden state.
public func gru(
  inputGates: Tensor, hiddenWeight: Tensor, hiddenBias: Tensor? = nil, hidden: Tensor, reverse: Bool = false, mask: Tensor? = nil
) -> (output: Tensor, hidden: Tensor) {
  checkSequence("gru", inputGates, hiddenWeight, [hidden], mask, gates: 3)
  if let hiddenBias, hiddenBias.shape != [hiddenWeight.shape[0]] {
    stop("gru: a bias of shape \(hiddenBias.shape) does not go with a weight of shape \(hiddenWeight.shape)")
  }
  let bias = hiddenBias ?? Tensor.zeros([hiddenWeight.shape[0]], hiddenWeight.elementType)
  let results = sequence(.init(.gru, reverse: reverse), [inputGates, hiddenWeight, bias, hidden], mask)
  return (results[0], results[1])
}

/// A simple recurrent layer over a sequence (Elman 1990): h' = tanh(x + h Wᵀ), or relu.
/// - Parameters:
///   - inputGates: [steps, batch, hidden]: what the inputs and all biases add; the product of all steps is best made at once.
///   - hiddenWeight: [hidden, hidden].
///   - hidden: the state before the first step, [batch, hidden].
///   - relu: relu in the place of tanh.
///   - reverse: begin with the last step.
///   - mask: bool [steps, batch]; where it is false a row keeps its state and its output is zero. See ``sequenceMask(_:_:)``.
/// - Returns: the hidden states of all steps, [steps, batch, hidden], in the order of the inputs; the last hidden state.
public func rnn(
  inputGates: Tensor, hiddenWeight: Tensor, hidden: Tensor, relu: Bool = false, reverse: Bool = false, mask: Tensor? = nil
) -> (output: Tensor, hidden: Tensor) {
  checkSequence("rnn", inputGates, hiddenWeight, [hidden], mask, gates: 1)
  let results = sequence(.init(relu ? .relu : .tanh, reverse: reverse), [inputGates, hiddenWeight, hidden], mask)
  return (results[0], results[1])
}

/// Which steps of each sequence there are, as recurrent layers' functions take it: bool [steps, batch], true before a sequence's end.
/// - Parameter lengths: integers [batch].
public func sequenceMask(_ lengths: Tensor, _ steps: Int) -> Tensor {
  guard lengths.rank == 1, lengths.elementType.isInteger else {
    stop("sequenceMask: lengths must be integers [batch], got \(lengths.type)")
  }
  let order = Tensor.arange(steps).expanded(at: 1)
  return order .< lengths.converted(to: .int64).expanded(at: 0)
}

private func checkSequence(
  _ name: String, _ inputGates: Tensor, _ weight: Tensor, _ states: [Tensor], _ mask: Tensor?, gates: Int
) {
  guard inputGates.rank == 3, weight.rank == 2, weight.shape[0] == gates * weight.shape[1], inputGates.shape[2] == weight.shape[0]
  else {
    let what = gates == 1 ? "hidden" : "\(gates) · hidden"
    stop(
      "\(name): takes gates [steps, batch, \(what)] and a weight [\(what), hidden], got shapes \(inputGates.shape) and \(weight.shape)"
    )
  }
  guard inputGates.shape[0] > 0 else { stop("\(name): a sequence of no steps") }
  for state in states where state.shape != [inputGates.shape[1], weight.shape[1]] {
    stop("\(name): a state has shape \(state.shape), expected \([inputGates.shape[1], weight.shape[1]]): [batch, hidden]")
  }
  if let mask, mask.type != TensorType([inputGates.shape[0], inputGates.shape[1]], .bool) {
    stop("\(name): the mask is \(mask.type), expected bool\([inputGates.shape[0], inputGates.shape[1]]): [steps, batch]")
  }
}

private func sequence(_ sequence: RecurrentSequence, _ operands: [Tensor], _ mask: Tensor?) -> [Tensor] {
  let keeps = isRecording && operands.contains { $0.handle.node != nil }
  return apply(.composite(.recurrentSequence(sequence, keeps: keeps)), operands + (mask.map { [$0] } ?? []))
}

extension Operation {
  /// Gradients by the kernel that walks back.
  /// - Parameter inputs: the forward walk's operands, of which the weight and the mask are read.
  func propagate(_ sequence: RecurrentSequence, _ inputs: [Tensor], _ gradients: [Tensor?], _ sink: GradientSink) {
    let results = sink.node.savedResults
    let mask = Array(inputs[sequence.operandCount...])
    let hiddenBefore = results[sequence.resultCount]
    func slope(_ i: Int) -> Tensor { gradients[i] ?? zerosLike(results[i]) }
    let slopes = (0..<sequence.resultCount).map(slope)
    let known: [Tensor] =
      switch sequence.kind {
      case .lstm: Array(results[4...5])
      case .gru: Array(results[2...3])
      case .tanh, .relu: [results[0]]
      }
    let d = apply(.composite(.recurrentSequenceGradient(sequence)), slopes + [inputs[1]] + known + mask)
    let product = sequence.kind == .gru ? d[1] : d[0]
    if sink.needs(0) { sink.add(0, d[0]) }
    if sink.needs(1) {
      func rows(_ x: Tensor) -> Tensor { x.reshaped([x.shape[0] * x.shape[1], x.shape[2]]) }
      sink.add(1, apply(.dot(DotDimensions(lhsContracting: [0], rhsContracting: [0])), rows(product), rows(hiddenBefore)))
    }
    if sequence.kind == .gru && sink.needs(2) { sink.add(2, apply(.reduce(.sum, [0, 1], keepDims: false), product)) }
    let first = sequence.kind == .gru ? 3 : 2
    for (i, state) in d[(sequence.kind == .gru ? 2 : 1)...].enumerated() where sink.needs(first + i) {
      sink.add(first + i, state)
    }
  }
}
