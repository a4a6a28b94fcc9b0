extension Operation {
  func inferComposite(_ composite: Composite, _ inputs: [TensorType]) throws(OperationError) -> [TensorType] {
    try require(!inputs.isEmpty, "needs operands")
    let x = inputs[0]
    try require(x.elementType.isFloatingPoint, "takes floating point tensors, got \(x.elementType)")
    switch composite {
    case .softmax, .logSoftmax:
      try expect(inputs, 1)
      try checkRows(x)
      return [x]
    case .softmaxGradient, .logSoftmaxGradient:
      try expect(inputs, 2)
      try checkRows(x)
      try require(inputs[1] == x, "operands differ: \(x) and \(inputs[1])")
      return [x]
    case .layerNorm:
      try expect(inputs, 3)
      try checkRows(x)
      try checkVector(inputs[1], x.shape[x.shape.count - 1], x, "the weight")
      try checkVector(inputs[2], x.shape[x.shape.count - 1], x, "the bias")
      let rows = TensorType(Shape(x.shape.dropLast()), statisticsType(x.elementType))
      return [x, rows, rows]
    case .layerNormGradient:
      try expect(inputs, 5)
      try checkRows(x)
      try require(inputs[1] == x, "operands differ: \(x) and \(inputs[1])")
      try checkVector(inputs[2], x.shape[x.shape.count - 1], x, "the weight")
      let rows = TensorType(Shape(x.shape.dropLast()), statisticsType(x.elementType))
      try require(inputs[3] == rows && inputs[4] == rows, "the statistics must be \(rows), got \(inputs[3]) and \(inputs[4])")
      return [x, inputs[2], inputs[2]]
    case .rmsNorm:
      try expect(inputs, 2)
      try checkRows(x)
      try checkVector(inputs[1], x.shape[x.shape.count - 1], x, "the weight")
      return [x, TensorType(Shape(x.shape.dropLast()), statisticsType(x.elementType))]
    case .rmsNormGradient:
      try expect(inputs, 4)
      try checkRows(x)
      try require(inputs[1] == x, "operands differ: \(x) and \(inputs[1])")
      try checkVector(inputs[2], x.shape[x.shape.count - 1], x, "the weight")
      let rows = TensorType(Shape(x.shape.dropLast()), statisticsType(x.elementType))
      try require(inputs[3] == rows, "the statistics must be \(rows), got \(inputs[3])")
      return [x, inputs[2]]
    case .batchNorm:
      try expect(inputs, 3)
      try checkChannels(x)
      try checkVector(inputs[1], x.shape[1], x, "the weight")
      try checkVector(inputs[2], x.shape[1], x, "the bias")
      let channels = TensorType([x.shape[1]], statisticsType(x.elementType))
      return [x, channels, channels]
    case .batchNormGradient:
      try expect(inputs, 5)
      try checkChannels(x)
      try require(inputs[1] == x, "operands differ: \(x) and \(inputs[1])")
      try checkVector(inputs[2], x.shape[1], x, "the weight")
      let channels = TensorType([x.shape[1]], statisticsType(x.elementType))
      try require(
        inputs[3] == channels && inputs[4] == channels, "the statistics must be \(channels), got \(inputs[3]) and \(inputs[4])")
      return [x, inputs[2], inputs[2]]
    case .batchNormInference:
      try expect(inputs, 5)
      try checkChannels(x)
      try checkVector(inputs[1], x.shape[1], x, "the weight")
      try checkVector(inputs[2], x.shape[1], x, "the bias")
      let channels = TensorType([x.shape[1]], statisticsType(x.elementType))
      try require(
        inputs[3] == channels && inputs[4] == channels, "the statistics must be \(channels), got \(inputs[3]) and \(inputs[4])")
      return [x]
    case .softmaxCrossEntropy:
      try expect(inputs, 2)
      try checkLabels(x, inputs[1])
      let rows = TensorType([x.shape[0]], statisticsType(x.elementType))
      return [rows, rows]
    case .softmaxCrossEntropyGradient:
      try expect(inputs, 4)
      try require(inputs[1].elementType.isFloatingPoint, "takes floating point logits, got \(inputs[1].elementType)")
      try checkLabels(inputs[1], inputs[2])
      let rows = TensorType([inputs[1].shape[0]], statisticsType(inputs[1].elementType))
      try require(x == rows && inputs[3] == rows, "dloss and logSumExp must be \(rows), got \(x) and \(inputs[3])")
      return [inputs[1]]
    case .linear:
      try expect(inputs, 3)
      let (w, b) = (inputs[1], inputs[2])
      try require(
        w.elementType == x.elementType && b.elementType == x.elementType,
        "element types differ: \(x.elementType), \(w.elementType) and \(b.elementType)")
      try checkRows(x)
      try require(w.shape.count == 2, "the weight needs two dimensions [out, in], got \(w.shape)")
      try require(
        x.shape[x.shape.count - 1] == w.shape[1],
        "the input of shape \(x.shape) has \(x.shape[x.shape.count - 1]) features; a weight of shape \(w.shape) takes \(w.shape[1])"
      )
      try require(b.shape == [w.shape[0]], "the bias has shape \(b.shape), expected [\(w.shape[0])]")
      var shape = x.shape
      shape[shape.count - 1] = w.shape[0]
      return [TensorType(shape, x.elementType)]
    case .attention, .attentionGradient: return try inferAttention(composite, inputs)
    case .rope: return [try inferRope(inputs)]
    case .lstmCell, .lstmCellGradient, .gruCell, .gruCellGradient: return try inferRecurrent(composite, inputs)
    case .recurrentSequence(let sequence, let keeps): return try inferSequence(sequence, keeps: keeps, inputs)
    case .recurrentSequenceGradient(let sequence): return try inferSequenceGradient(sequence, inputs)
    case .optimizerStep(let rule):
      let count = 2 + rule.stateCount
      try expect(inputs, count + 2)
      try require(x.elementType == .float32 || x.elementType == .float64, "takes float32 or float64, got \(x.elementType)")
      for i in 1..<count { try require(inputs[i] == x, "operand \(i) is \(inputs[i]), the parameter \(x)") }
      let options = TensorType([rule.optionCount], .float64)
      try require(inputs[count] == options, "the options must be \(options), got \(inputs[count])")
      try require(inputs[count + 1] == TensorType([], .int64), "the step must be an int64 scalar, got \(inputs[count + 1])")
      return Array(repeating: x, count: 1 + rule.stateCount)
    }
  }

  /// Statistics of half precision rows are kept in float32.
  func statisticsType(_ type: ElementType) -> ElementType { type == .float64 ? .float64 : .float32 }

  func checkRows(_ x: TensorType) throws(OperationError) {
    try require(!x.shape.isEmpty, "needs at least one dimension")
  }

  private func checkChannels(_ x: TensorType) throws(OperationError) {
    try require(x.shape.count >= 2, "needs dimensions [batch, channels, …], got shape \(x.shape)")
  }

  private func checkVector(_ v: TensorType, _ size: Int, _ x: TensorType, _ what: String) throws(OperationError) {
    try require(
      v == TensorType([size], x.elementType),
      "\(what) is \(v), expected \(x.elementType)[\(size)] for an input of shape \(x.shape)")
  }

  private func checkLabels(_ logits: TensorType, _ labels: TensorType) throws(OperationError) {
    try require(logits.shape.count == 2, "the logits need two dimensions [rows, classes], got \(logits.shape)")
    try require(labels.elementType == .int64, "labels must be int64, got \(labels.elementType)")
    try require(
      labels.shape == [logits.shape[0]],
      "labels have shape \(labels.shape), expected [\(logits.shape[0])] for logits \(logits.shape)")
  }
}
