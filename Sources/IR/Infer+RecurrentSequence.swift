extension Operation {
  func inferSequence(_ sequence: RecurrentSequence, keeps: Bool, _ inputs: [TensorType]) throws(OperationError) -> [TensorType] {
    let count = sequence.operandCount
    try require(
      inputs.count == count || inputs.count == count + 1,
      "takes \(count) operands and perhaps a mask, got \(inputs.count)")
    let sizes = try sequenceSizes(sequence, inputs[0], "the gates", sequence.gates)
    let type = inputs[0].elementType
    let (state, steps) = (TensorType([sizes.batch, sizes.hidden], type), Shape([sizes.steps, sizes.batch]))
    try check(inputs[1], TensorType([sequence.gates * sizes.hidden, sizes.hidden], type), "the weight", inputs[0])
    switch sequence.kind {
    case .lstm:
      try check(inputs[2], state, "the hidden state", inputs[0])
      try check(inputs[3], state, "the cell", inputs[0])
    case .gru:
      try check(inputs[2], TensorType([sequence.gates * sizes.hidden], type), "the bias", inputs[0])
      try check(inputs[3], state, "the hidden state", inputs[0])
    case .tanh, .relu: try check(inputs[2], state, "the hidden state", inputs[0])
    }
    if inputs.count > count { try check(inputs[count], TensorType(steps, .bool), "the mask", inputs[0]) }
    let all = TensorType([sizes.steps, sizes.batch, sizes.hidden], type)
    let kept = TensorType([sizes.steps, sizes.batch, 4 * sizes.hidden], type)
    let results = [all] + Array(repeating: state, count: sequence.resultCount - 1)
    if !keeps { return results }
    switch sequence.kind {
    case .lstm: return results + [all, all, kept]
    case .gru: return results + [all, kept]
    case .tanh, .relu: return results + [all]
    }
  }

  func inferSequenceGradient(_ sequence: RecurrentSequence, _ inputs: [TensorType]) throws(OperationError) -> [TensorType] {
    let count = sequence.gradientOperandCount
    try require(
      inputs.count == count || inputs.count == count + 1,
      "takes \(count) operands and perhaps a mask, got \(inputs.count)")
    let dy = inputs[0]
    let sizes = try sequenceSizes(sequence, dy, "dy", 1)
    let type = dy.elementType
    let state = TensorType([sizes.batch, sizes.hidden], type)
    let gates = TensorType([sizes.steps, sizes.batch, sequence.gates * sizes.hidden], type)
    let kept = TensorType([sizes.steps, sizes.batch, 4 * sizes.hidden], type)
    let weight = sequence.gradientWeight
    for i in 1..<weight { try check(inputs[i], state, i == 1 ? "dhidden" : "dcell", dy) }
    try check(inputs[weight], TensorType([sequence.gates * sizes.hidden, sizes.hidden], type), "the weight", dy)
    try check(inputs[weight + 1], dy, sequence.kind == .lstm ? "the cells" : "the hidden states", dy)
    if sequence.kind == .lstm || sequence.kind == .gru { try check(inputs[weight + 2], kept, "what the steps kept", dy) }
    if inputs.count > count { try check(inputs[count], TensorType([sizes.steps, sizes.batch], .bool), "the mask", dy) }
    switch sequence.kind {
    case .lstm: return [gates, state, state]
    case .gru: return [gates, gates, state]
    case .tanh, .relu: return [gates, state]
    }
  }

  private func sequenceSizes(
    _ sequence: RecurrentSequence, _ x: TensorType, _ what: String, _ gates: Int
  ) throws(OperationError) -> (steps: Int, batch: Int, hidden: Int) {
    try require(
      x.shape.count == 3 && x.shape[2] % gates == 0,
      "\(what) have shape \(x.shape), expected [steps, batch, \(gates == 1 ? "" : "\(gates) · ")hidden]")
    return (x.shape[0], x.shape[1], x.shape[2] / gates)
  }

  private func check(
    _ x: TensorType, _ expected: TensorType, _ what: String, _ first: TensorType
  ) throws(OperationError) {
    try require(x == expected, "\(what) must be \(expected) beside \(first), got \(x)")
  }
}
