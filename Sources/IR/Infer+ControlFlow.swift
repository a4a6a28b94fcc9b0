extension Operation {
  func inferControlFlow(_ inputs: [TensorType]) throws(OperationError) -> [TensorType] {
    switch self {
    case .call(let function):
      try check(function, inputs)
      return function.graph.outputTypes
    case .conditional(let then, let otherwise):
      try require(
        inputs.first == TensorType([], .bool),
        "the condition must be a bool scalar, got \(inputs.first?.description ?? "nothing")")
      let operands = Array(inputs.dropFirst())
      try check(then, operands)
      try check(otherwise, operands)
      let (a, b) = (then.graph.outputTypes, otherwise.graph.outputTypes)
      try require(a == b, "the branches give different types: \(a) and \(b)")
      return a
    case .whileLoop(let loop):
      try check(loop, inputs)
      return Array(inputs[..<loop.carried])
    case .whileLoopGradient(let loop, let pullback):
      // States, constants, then the gradients of the last states.
      try require(inputs.count >= loop.carried, "takes at least \(loop.carried) gradients, got \(inputs.count) operands")
      let operands = Array(inputs.dropLast(loop.carried))
      try check(loop, operands)
      let gradients = Array(inputs.suffix(loop.carried))
      try check(pullback, operands + gradients)
      let results = pullback.graph.outputTypes
      try require(
        results.count == operands.count && Array(results[..<loop.carried]) == gradients,
        "the pullback gives \(results) for operands \(operands) and gradients \(gradients)")
      return results
    case .scanLoop(let loop): return try inferScan(loop, inputs)
    case .customCall(let call):
      for type in call.resultTypes { try checkShape(type.shape) }
      return call.resultTypes
    default: preconditionFailure("not control flow: \(name)")
    }
  }

  private func check(_ function: Function, _ inputs: [TensorType]) throws(OperationError) {
    let expected = function.graph.inputTypes
    try require(inputs == expected, "\(function.name) takes \(expected), got \(inputs)")
  }

  private func check(_ loop: WhileLoop, _ inputs: [TensorType]) throws(OperationError) {
    try require(
      loop.carried >= 0 && loop.carried <= inputs.count, "carries \(loop.carried) states, but has \(inputs.count) operands")
    try check(loop.condition, inputs)
    try check(loop.body, inputs)
    let condition = loop.condition.graph.outputTypes
    try require(condition == [TensorType([], .bool)], "the condition must give a bool scalar, not \(condition)")
    let (before, after) = (Array(inputs[..<loop.carried]), loop.body.graph.outputTypes)
    try require(before == after, "the body must give the states' types \(before), not \(after)")
  }

  private func inferScan(_ loop: ScanLoop, _ inputs: [TensorType]) throws(OperationError) -> [TensorType] {
    try require(
      loop.carried >= 0 && loop.sequences >= 0 && loop.length >= 0 && loop.carried + loop.sequences <= inputs.count,
      "\(loop.carried) states and \(loop.sequences) sequences, but \(inputs.count) operands")
    var operands = inputs
    for i in loop.carried..<(loop.carried + loop.sequences) {
      try require(
        operands[i].shape.first == loop.length, "sequence \(i - loop.carried) is \(operands[i]), not of length \(loop.length)")
      operands[i].shape.remove(at: 0)
    }
    try check(loop.body, operands)
    var results = loop.body.graph.outputTypes
    try require(
      results.count >= loop.carried && results[..<loop.carried] == operands[..<loop.carried],
      "the body must begin with the states' types \(Array(operands[..<loop.carried])), but gives \(results)")
    for i in loop.carried..<results.count {
      try require(results[i].shape.count < Shape.maxRank, "an output of \(Shape.maxRank) dimensions cannot be stacked")
      results[i].shape.insert(loop.length, at: 0)
      try checkShape(results[i].shape)
    }
    return results
  }
}
