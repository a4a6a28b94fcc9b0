extension Operation {
  func inferRecurrent(_ composite: Composite, _ inputs: [TensorType]) throws(OperationError) -> [TensorType] {
    switch composite {
    case .lstmCell:
      try expect(inputs, 2)
      try checkGates(inputs[0], 4, "the gates", of: inputs[1])
      return [inputs[1], inputs[1]]
    case .lstmCellGradient:
      try expect(inputs, 4)
      try checkGates(inputs[2], 4, "the gates", of: inputs[3])
      try require(
        inputs[0] == inputs[3] && inputs[1] == inputs[3],
        "dhidden and dcell must be \(inputs[3]), got \(inputs[0]) and \(inputs[1])")
      return [inputs[2], inputs[3]]
    case .gruCell:
      try expect(inputs, 3)
      try checkGates(inputs[0], 3, "the input's gates", of: inputs[2])
      try checkGates(inputs[1], 3, "the hidden state's gates", of: inputs[2])
      return [inputs[2]]
    case .gruCellGradient:
      try expect(inputs, 4)
      try checkGates(inputs[1], 3, "the input's gates", of: inputs[3])
      try checkGates(inputs[2], 3, "the hidden state's gates", of: inputs[3])
      try require(inputs[0] == inputs[3], "dy must be \(inputs[3]), got \(inputs[0])")
      return Array(inputs[1...3])
    default: throw fail("is not a recurrent cell")
    }
  }

  private func checkGates(_ gates: TensorType, _ count: Int, _ what: String, of state: TensorType) throws(OperationError) {
    try checkRows(state)
    var expected = state
    expected.shape[state.shape.count - 1] *= count
    try require(
      gates == expected, "\(what) are \(gates), expected \(expected): \(count) for each element of the state, \(state)")
  }
}
