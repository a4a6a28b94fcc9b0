extension Operation {
  func inferAttention(_ composite: Composite, _ inputs: [TensorType]) throws(OperationError) -> [TensorType] {
    if case .attentionGradient(_, _, let forMask) = composite {
      try require(inputs.count == 6 || inputs.count == 7, "takes 6 operands, or 7 with a mask, got \(inputs.count)")
      let types = try attentionTypes(q: inputs[1], k: inputs[2], v: inputs[3], mask: inputs.count == 7 ? inputs[6] : nil)
      try require(
        inputs[0] == types[0] && inputs[4] == types[0] && inputs[5] == types[1],
        "dy and y must be \(types[0]) and logSumExp \(types[1]); got \(inputs[0]), \(inputs[4]) and \(inputs[5])")
      guard forMask else { return Array(inputs[1...3]) }
      try require(
        inputs.count == 7 && inputs[6].elementType == inputs[1].elementType,
        "only a mask that is added to the scores has a gradient, got \(inputs.count == 7 ? "\(inputs[6])" : "none")")
      return Array(inputs[1...3]) + [inputs[6]]
    }
    try require(inputs.count == 3 || inputs.count == 4, "takes 3 operands, or 4 with a mask, got \(inputs.count)")
    return try attentionTypes(q: inputs[0], k: inputs[1], v: inputs[2], mask: inputs.count == 4 ? inputs[3] : nil)
  }

  /// The types of y and of the scores' log Σ exp.
  private func attentionTypes(q: TensorType, k: TensorType, v: TensorType, mask: TensorType?) throws(OperationError)
    -> [TensorType]
  {
    try require(q.elementType.isFloatingPoint, "takes floating point tensors, got \(q.elementType)")
    try require(
      k.elementType == q.elementType && v.elementType == q.elementType,
      "element types differ: \(q.elementType), \(k.elementType) and \(v.elementType)")
    for (name, x) in [("q", q), ("k", k), ("v", v)] where x.shape.count != 4 {
      throw fail("\(name) needs dimensions [batch, heads, positions, dim], got shape \(x.shape)")
    }
    try require(
      k.shape[0] == q.shape[0] && v.shape[0] == q.shape[0],
      "batch sizes differ: q \(q.shape), k \(k.shape) and v \(v.shape)")
    try require(
      v.shape[1] == k.shape[1] && v.shape[2] == k.shape[2], "k \(k.shape) and v \(v.shape) differ in heads or positions")
    try require(
      k.shape[1] > 0 ? q.shape[1] > 0 && q.shape[1] % k.shape[1] == 0 : q.shape[1] == 0,
      "\(q.shape[1]) heads of q cannot share \(k.shape[1]) heads of k and v: they are no multiple of them")
    try require(k.shape[3] == q.shape[3], "q \(q.shape) and k \(k.shape) differ in the size of a head")
    if let mask {
      try require(
        mask.elementType == .bool || mask.elementType == q.elementType,
        "the mask must be bool or \(q.elementType), got \(mask.elementType)")
      let scores = Shape([q.shape[0], q.shape[1], q.shape[2], k.shape[2]])
      try require(mask.shape == scores, "the mask has shape \(mask.shape), expected \(scores)")
    }
    var (y, rows) = (q.shape, q.shape)
    y[3] = v.shape[3]
    rows.remove(at: 3)
    return [TensorType(y, q.elementType), TensorType(rows, statisticsType(q.elementType))]
  }

  func inferRope(_ inputs: [TensorType]) throws(OperationError) -> TensorType {
    try expect(inputs, 3)
    let x = inputs[0]
    try checkRows(x)
    let (cos, sin) = (inputs[1], inputs[2])
    try require(cos == sin, "cos and sin differ: \(cos) and \(sin)")
    try require(
      cos.elementType == statisticsType(x.elementType),
      "cos and sin must be \(statisticsType(x.elementType)) for \(x.elementType), got \(cos.elementType)")
    try require(
      cos.shape.count == x.shape.count && cos.shape.dropLast().elementsEqual(x.shape.dropLast()),
      "cos and sin of shape \(cos.shape) do not have the rows of the input, of shape \(x.shape)")
    let (half, dim) = (cos.shape[cos.shape.count - 1], x.shape[x.shape.count - 1])
    try require(
      2 * half <= dim, "\(half) angles turn \(2 * half) elements of a row, but the input of shape \(x.shape) has \(dim)")
    return x
  }
}
