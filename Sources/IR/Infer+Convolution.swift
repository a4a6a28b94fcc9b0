extension Operation {
  func inferConvolution(_ inputs: [TensorType]) throws(OperationError) -> TensorType {
    switch self {
    case .convolution(let p):
      try require(
        inputs.count == 2 || inputs.count == 3, "takes input, kernel and an optional bias, got \(inputs.count) operands")
      let (x, w) = (inputs[0], inputs[1])
      try checkParameters(p)
      try checkImage(x, p.spatialRank)
      try checkKernel(w, p)
      try checkSameType(x, w)
      try require(
        x.shape[1] == w.shape[1] * p.groups,
        "the input of shape \(x.shape) has \(x.shape[1]) channels; a kernel of shape \(w.shape) with \(p.groups) group\(p.groups == 1 ? "" : "s") takes \(w.shape[1] * p.groups)"
      )
      if inputs.count == 3 {
        try checkSameType(x, inputs[2])
        try require(inputs[2].shape == [w.shape[0]], "the bias has shape \(inputs[2].shape), expected [\(w.shape[0])]")
      }
      var shape: Shape = [x.shape[0], w.shape[0]]
      for i in 0..<p.spatialRank {
        let size = p.outputSize(i, input: x.shape[2 + i], kernel: w.shape[2 + i])
        try require(
          size > 0 || x.shape[0] == 0 || x.shape[2 + i] == 0,
          "a kernel of shape \(w.shape) does not fit the padded input of shape \(x.shape)")
        shape.append(size)
      }
      try checkShape(shape)
      return TensorType(shape, x.elementType)
    case .convolutionInputGradient(let p, let inputSize):
      let (dy, w) = try two(inputs)
      try checkParameters(p)
      try checkImage(dy, p.spatialRank)
      try checkKernel(w, p)
      try checkSameType(dy, w)
      try require(inputSize.count == p.spatialRank, "the input size \(inputSize) needs \(p.spatialRank) numbers")
      try require(dy.shape[1] == w.shape[0], "dy of shape \(dy.shape) does not fit a kernel of shape \(w.shape)")
      for i in 0..<p.spatialRank {
        try require(
          p.outputSize(i, input: inputSize[i], kernel: w.shape[2 + i]) == dy.shape[2 + i],
          "dy of shape \(dy.shape) is not what an input of size \(inputSize) gives with a kernel of shape \(w.shape)")
      }
      var shape: Shape = [dy.shape[0], w.shape[1] * p.groups]
      for size in inputSize { shape.append(size) }
      try checkShape(shape)
      return TensorType(shape, dy.elementType)
    case .convolutionKernelGradient(let p, let kernelSize):
      let (x, dy) = try two(inputs)
      try checkParameters(p)
      try checkImage(x, p.spatialRank)
      try checkImage(dy, p.spatialRank)
      try checkSameType(x, dy)
      try require(kernelSize.count == p.spatialRank, "the kernel size \(kernelSize) needs \(p.spatialRank) numbers")
      try require(x.shape[0] == dy.shape[0], "batch sizes differ: \(x.shape) and \(dy.shape)")
      try require(
        x.shape[1] % p.groups == 0 && dy.shape[1] % p.groups == 0,
        "the channels of \(x.shape) and \(dy.shape) are not divisible by \(p.groups) groups")
      for i in 0..<p.spatialRank {
        try require(
          p.outputSize(i, input: x.shape[2 + i], kernel: kernelSize[i]) == dy.shape[2 + i],
          "dy of shape \(dy.shape) is not what an input of shape \(x.shape) gives with a kernel of size \(kernelSize)")
      }
      var shape: Shape = [dy.shape[1], x.shape[1] / p.groups]
      for size in kernelSize { shape.append(size) }
      return TensorType(shape, x.elementType)
    case .reduceWindow(let kind, let window):
      let x = try one(inputs)
      try checkWindow(window, x)
      try checkPoolType(kind == .max, x.elementType)
      return TensorType(try pooledShape(window, x), x.elementType)
    case .maxPoolIndices(let window):
      let x = try one(inputs)
      try checkWindow(window, x)
      return TensorType(try pooledShape(window, x), .int64)
    case .reduceWindowGradient(_, let window):
      let (x, dy) = try two(inputs)
      try checkWindow(window, x)
      try checkSameType(x, dy)
      try checkPoolType(false, x.elementType)
      let expected = try pooledShape(window, x)
      try require(dy.shape == expected, "dy has shape \(dy.shape), expected \(expected)")
      return x
    default: preconditionFailure("not a convolution: \(name)")
    }
  }

  private func checkParameters(_ p: ConvolutionParameters) throws(OperationError) {
    let n = p.spatialRank
    try require((1...3).contains(n), "has \(n) spatial dimensions; 1 to 3 are possible")
    try require(
      p.padLow.count == n && p.padHigh.count == n && p.kernelDilation.count == n && p.inputDilation.count == n,
      "needs \(n) numbers each for stride, padding and dilation")
    try require(p.stride.allSatisfy { $0 > 0 }, "the stride \(p.stride) is not positive")
    try require(
      p.kernelDilation.allSatisfy { $0 > 0 } && p.inputDilation.allSatisfy { $0 > 0 },
      "the dilation \(p.kernelDilation), \(p.inputDilation) is not positive")
    try require(p.groups > 0, "the number of groups \(p.groups) is not positive")
  }

  private func checkImage(_ x: TensorType, _ spatialRank: Int) throws(OperationError) {
    try require(
      x.shape.count == spatialRank + 2,
      "takes tensors of \(spatialRank + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    try require(x.elementType != .bool, "does not take bool tensors")
  }

  private func checkKernel(_ w: TensorType, _ p: ConvolutionParameters) throws(OperationError) {
    try require(
      w.shape.count == p.spatialRank + 2, "the kernel needs \(p.spatialRank + 2) dimensions [out, in / groups, …], got \(w.shape)"
    )
    try require(
      w.shape[0] % p.groups == 0, "the \(w.shape[0]) output channels are not divisible by \(p.groups) groups")
    try require(w.shape[2...].allSatisfy { $0 > 0 }, "the kernel of shape \(w.shape) is empty")
  }

  private func checkSameType(_ a: TensorType, _ b: TensorType) throws(OperationError) {
    try require(a.elementType == b.elementType, "element types differ: \(a.elementType) and \(b.elementType)")
  }

  /// Integers have maxima; sums and means, and the gradients of all, are of floating point tensors.
  private func checkPoolType(_ isMaximum: Bool, _ type: ElementType) throws(OperationError) {
    try require(type.isFloatingPoint || (type != .bool && isMaximum), "takes floating point tensors, got \(type)")
  }

  private func checkWindow(_ w: Window, _ x: TensorType) throws(OperationError) {
    let n = w.size.count
    try require((1...3).contains(n), "has \(n) spatial dimensions; 1 to 3 are possible")
    try require(
      w.stride.count == n && w.padLow.count == n && w.padHigh.count == n && w.dilation.count == n,
      "needs \(n) numbers each for stride, padding and dilation")
    try checkImage(x, n)
    for i in 0..<n {
      try require(w.size[i] > 0 && w.stride[i] > 0 && w.dilation[i] > 0, "window, stride and dilation must be positive")
      let reach = (w.size[i] - 1) * w.dilation[i] + 1
      try require(
        w.padLow[i] >= 0 && w.padHigh[i] >= 0 && w.padLow[i] < reach && w.padHigh[i] < reach + w.stride[i],
        "padding \(w.padLow[i]), \(w.padHigh[i]) does not go with a window of \(w.size[i]): some windows would see only padding")
    }
  }

  private func pooledShape(_ w: Window, _ x: TensorType) throws(OperationError) -> Shape {
    var shape: Shape = [x.shape[0], x.shape[1]]
    for i in 0..<w.size.count {
      let size = w.outputSize(i, input: x.shape[2 + i])
      try require(
        size > 0 || x.shape.contains(0), "a window of \(w.size) does not fit the padded input of shape \(x.shape)")
      shape.append(size)
    }
    return shape
  }
}
