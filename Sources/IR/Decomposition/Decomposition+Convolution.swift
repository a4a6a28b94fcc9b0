// The gradients of convolution as convolutions, and those of pooling as windows over what flows back.

extension ConvolutionParameters {
  private func dilated(_ size: Int, _ dilation: Int) -> Int { size == 0 ? 0 : (size - 1) * dilation + 1 }

  /// dx[i] = Σ_q dỹ[i · inputDilation + padLow − q · kernelDilation] w[q], dỹ being dy with stride − 1 zeros in between: a
  /// convolution with the kernel reversed and its channels exchanged.
  func inputGradient(_ dy: Term, _ w: Term, _ inputSize: Shape) -> Term {
    let b = dy.builder
    let n = spatialRank
    let (o, c) = (w.shape[0], w.shape[1])
    let result = Shape([dy.shape[0], c * groups] + Array(inputSize))
    if result.contains(0) || dy.shape.contains(0) || w.shape.contains(0) { return b.fill(.int(0), result, dy.elementType) }
    let kernel = Array(w.shape[2...])
    let turned = w.reverse(Axes(2..<(n + 2)))
    let exchanged: Term
    if groups == 1 {
      exchanged = turned.transpose(Axes([1, 0] + Array(2..<(n + 2))))
    } else {
      exchanged = turned.reshape(Shape([groups, o / groups, c] + kernel))
        .transpose(Axes([0, 2, 1] + Array(3..<(n + 3)))).reshape(Shape([groups * c, o / groups] + kernel))
    }
    var (low, high) = (padLow, padHigh)
    for i in 0..<n {
      let reach = (kernel[i] - 1) * kernelDilation[i]
      low[i] = reach - padLow[i]
      high[i] = (inputSize[i] - 1) * inputDilation[i] + reach + 1 - dilated(dy.shape[2 + i], stride[i]) - low[i]
    }
    let p = ConvolutionParameters(
      stride: inputDilation, padLow: low, padHigh: high, kernelDilation: kernelDilation, inputDilation: stride, groups: groups)
    return b.apply(.convolution(p), [dy, exchanged])[0]
  }

  /// dw[o, c, q] = Σ_{n, p} x̃[n, c, p · stride + q · kernelDilation − padLow] dy[n, o, p]: a convolution in which the batch
  /// takes the place of the channels, and stride and dilation exchange theirs.
  func kernelGradient(_ x: Term, _ dy: Term, _ kernelSize: Shape) -> Term {
    let b = x.builder
    let n = spatialRank
    let (batch, c, o) = (x.shape[0], x.shape[1] / groups, dy.shape[1])
    let result = Shape([o, c] + Array(kernelSize))
    if result.contains(0) || dy.shape.contains(0) || x.shape.contains(0) { return b.fill(.int(0), result, x.elementType) }
    let spatial = Array(2..<(n + 2))
    let image: Term
    if groups == 1 {
      image = x.transpose(Axes([1, 0] + spatial))
    } else {
      let size = Array(x.shape[2...])
      image = x.reshape(Shape([batch, groups, c] + size)).transpose(Axes([2, 1, 0] + spatial.map { $0 + 1 }))
        .reshape(Shape([c, groups * batch] + size))
    }
    let kernel = dy.transpose(Axes([1, 0] + spatial))
    var high = padHigh
    for i in 0..<n {
      high[i] =
        (kernelSize[i] - 1) * kernelDilation[i] + (dy.shape[2 + i] - 1) * stride[i] + 1
        - dilated(x.shape[2 + i], inputDilation[i]) - padLow[i]
    }
    let p = ConvolutionParameters(
      stride: kernelDilation, padLow: padLow, padHigh: high, kernelDilation: stride, inputDilation: inputDilation, groups: groups)
    return b.apply(.convolution(p), [image, kernel])[0].transpose(Axes([1, 0] + spatial))
  }
}

extension Window {
  /// What the sum of each window is divided by for its mean.
  func divisors(_ kind: WindowReductionKind, _ x: Term) -> Term {
    let b = x.builder
    switch kind {
    case .max, .sum: return b.fill(1.0, [], x.elementType)
    case .average: return b.fill(Double(size.elementCount), [], x.elementType)
    case .averageValid:
      let ones = b.fill(1.0, Shape([1, 1] + Array(x.shape[2...])), .float32)
      return b.apply(.reduceWindow(.sum, self), [ones])[0].convert(x.elementType)
    }
  }

  var isDilated: Bool { dilation.contains { $0 != 1 } }

  /// nil for maxima without dilation, for which StableHLO has an operation.
  func gradient(_ kind: WindowReductionKind, _ x: Term, _ dy: Term) -> Term? {
    let b = x.builder
    let n = size.count
    if kind == .max {
      guard isDilated || dy.shape.contains(0) || x.shape.contains(0) else { return nil }
      let zeros = b.fill(.int(0), x.shape, x.elementType)
      if dy.shape.contains(0) || x.shape.contains(0) { return zeros }
      let (planes, places) = (Array(x.shape[..<2]), x.shape[2...].reduce(1, *))
      let count = dy.shape[2...].reduce(1, *)
      let indices = b.apply(.maxPoolIndices(self), [x])[0].reshape(Shape(planes + [count]))
      return b.apply(
        .scatterAlong(.add, axis: 2), [zeros.reshape(Shape(planes + [places])), indices, dy.reshape(Shape(planes + [count]))])[0]
        .reshape(x.shape)
    }
    if x.shape.contains(0) || dy.shape.contains(0) { return b.fill(.int(0), x.shape, x.elementType) }
    // dx[i] = Σ_q dỹ[i + padLow − q · dilation], dỹ with stride − 1 zeros in between.
    let slope = kind == .sum ? dy : dy / divisors(kind, x)
    var (low, high, interior) = (Shape([0, 0]), Shape([0, 0]), Shape([0, 0]))
    for i in 0..<n {
      let reach = (size[i] - 1) * dilation[i]
      let length = (dy.shape[2 + i] - 1) * stride[i] + 1
      low.append(reach - padLow[i])
      high.append(x.shape[2 + i] + reach - length - (reach - padLow[i]))
      interior.append(stride[i] - 1)
    }
    let padded = slope.pad(low: low, high: high, interior: interior, b.fill(.int(0), [], x.elementType))
    let none = Shape(repeating: 0, count: n)
    let sums = Window(size: size, stride: Shape(repeating: 1, count: n), padLow: none, padHigh: none, dilation: dilation)
    return b.apply(.reduceWindow(.sum, sums), [padded])[0]
  }
}
