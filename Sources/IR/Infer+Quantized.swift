extension Operation {
  /// The longest sum of products of 8-bit numbers that an int32 holds for any operands: k · 255 · 128 < 2³¹.
  public static let quantizedDotLimit = 65_793

  func inferQuantizedDot(_ inputs: [TensorType]) throws(OperationError) -> TensorType {
    try require(
      inputs.count == 5 || inputs.count == 6,
      "takes x, its scale and zero point, a weight, its scale and perhaps a bias, got \(inputs.count) operands")
    let (x, scale, zeroPoint, weight, weightScale) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4])
    try require(x.elementType == .int8 || x.elementType == .uint8, "takes an int8 or uint8 input, got \(x.elementType)")
    try require(weight.elementType == .int8, "takes an int8 weight, got \(weight.elementType)")
    try require(!x.shape.isEmpty, "the input needs at least one dimension")
    try require(weight.shape.count == 2, "the weight needs two dimensions [out, in], got \(weight.shape)")
    let (n, k) = (weight.shape[0], weight.shape[1])
    try require(
      x.shape[x.shape.count - 1] == k,
      "the input of shape \(x.shape) has \(x.shape[x.shape.count - 1]) features; a weight of shape \(weight.shape) takes \(k)")
    try require(
      k <= Operation.quantizedDotLimit,
      "sums of \(k) products may not fit in int32; at most \(Operation.quantizedDotLimit) do, so split the features")
    let rows = Shape(x.shape.dropLast())
    try require(
      scale.elementType == .float32 && (scale.shape.isEmpty || scale.shape == rows),
      "the input's scale must be float32, a scalar or \(rows) for an input of shape \(x.shape), got \(scale)")
    try require(
      zeroPoint.elementType == .int32 && (zeroPoint.shape.isEmpty || zeroPoint.shape == rows),
      "the input's zero point must be int32, a scalar or \(rows) for an input of shape \(x.shape), got \(zeroPoint)")
    try require(
      weightScale.elementType == .float32 && (weightScale.shape.isEmpty || weightScale.shape == [n]),
      "the weight's scale must be float32, a scalar or [\(n)] for a weight of shape \(weight.shape), got \(weightScale)")
    if inputs.count == 6 {
      try require(inputs[5] == TensorType([n], .float32), "the bias must be float32[\(n)], got \(inputs[5])")
    }
    var shape = x.shape
    shape[shape.count - 1] = n
    try checkShape(shape)
    return TensorType(shape, .float32)
  }
}
