// Convolution and pooling. Tensors are [batch, channels, spatial…], kernels [out, in / groups, spatial…].

extension Shape {
  /// One number for all spatial dimensions, or one for each.
  static func spatial(_ sizes: [Int], _ n: Int, _ what: String, _ function: String) -> Shape {
    if sizes.count == 1 { return Shape(repeating: sizes[0], count: n) }
    guard sizes.count == n else { stop("\(function): \(what) \(sizes) needs one number, or \(n)") }
    return Shape(sizes)
  }
}

/// Convolution over `x.rank − 2` spatial dimensions (1 to 3).
///
/// - Parameters:
///   - x: [batch, channels in, spatial…].
///   - weight: [channels out, channels in / groups, kernel…].
///   - bias: [channels out].
///   - stride, padding, dilation: one number for all spatial dimensions, or one for each. Padding is on both sides.
/// - Returns: [batch, channels out, spatial…].
public func convolution(
  _ x: Tensor, _ weight: Tensor, _ bias: Tensor? = nil, stride: [Int] = [1], padding: [Int] = [0], dilation: [Int] = [1],
  groups: Int = 1
) -> Tensor {
  let n = x.rank - 2
  guard (1...3).contains(n) else {
    stop("convolution: takes tensors of 3 to 5 dimensions [batch, channels, …], got shape \(x.shape)")
  }
  let pad = Shape.spatial(padding, n, "padding", "convolution")
  let p = ConvolutionParameters(
    stride: .spatial(stride, n, "stride", "convolution"), padLow: pad, padHigh: pad,
    kernelDilation: .spatial(dilation, n, "dilation", "convolution"), inputDilation: Shape(repeating: 1, count: n), groups: groups
  )
  return apply(.convolution(p), bias.map { [x, weight, $0] } ?? [x, weight])[0]
}

public func conv1d(
  _ x: Tensor, _ weight: Tensor, _ bias: Tensor? = nil, stride: Int = 1, padding: Int = 0, dilation: Int = 1, groups: Int = 1
) -> Tensor {
  guard x.rank == 3 else { stop("conv1d: takes [batch, channels, length], got shape \(x.shape)") }
  return convolution(x, weight, bias, stride: [stride], padding: [padding], dilation: [dilation], groups: groups)
}

public func conv2d(
  _ x: Tensor, _ weight: Tensor, _ bias: Tensor? = nil, stride: Int = 1, padding: Int = 0, dilation: Int = 1, groups: Int = 1
) -> Tensor {
  guard x.rank == 4 else { stop("conv2d: takes [batch, channels, height, width], got shape \(x.shape)") }
  return convolution(x, weight, bias, stride: [stride], padding: [padding], dilation: [dilation], groups: groups)
}

public func conv3d(
  _ x: Tensor, _ weight: Tensor, _ bias: Tensor? = nil, stride: Int = 1, padding: Int = 0, dilation: Int = 1, groups: Int = 1
) -> Tensor {
  guard x.rank == 5 else { stop("conv3d: takes [batch, channels, depth, height, width], got shape \(x.shape)") }
  return convolution(x, weight, bias, stride: [stride], padding: [padding], dilation: [dilation], groups: groups)
}

/// Transposed convolution: what the gradient of a convolution by its input computes.
///
/// - Parameters:
///   - x: [batch, channels in, spatial…].
///   - weight: [channels in, channels out / groups, kernel…], as in PyTorch.
///   - outputPadding: added to one side of the output size.
/// - Returns: [batch, channels out, (size − 1) stride − 2 padding + dilation (kernel − 1) + outputPadding + 1].
public func convolutionTranspose(
  _ x: Tensor, _ weight: Tensor, _ bias: Tensor? = nil, stride: [Int] = [1], padding: [Int] = [0], outputPadding: [Int] = [0],
  dilation: [Int] = [1], groups: Int = 1
) -> Tensor {
  let n = x.rank - 2
  guard (1...3).contains(n), weight.rank == x.rank else {
    stop(
      "convolutionTranspose: takes [batch, channels, …] and a kernel of as many dimensions, got \(x.shape) and \(weight.shape)")
  }
  guard x.shape[1] == weight.shape[0] else {
    stop(
      "convolutionTranspose: the input of shape \(x.shape) has \(x.shape[1]) channels, the kernel of shape \(weight.shape) takes \(weight.shape[0])"
    )
  }
  let (s, d) = (
    Shape.spatial(stride, n, "stride", "convolutionTranspose"), Shape.spatial(dilation, n, "dilation", "convolutionTranspose")
  )
  let pad = Shape.spatial(padding, n, "padding", "convolutionTranspose")
  let extra = Shape.spatial(outputPadding, n, "outputPadding", "convolutionTranspose")
  var size = s
  for i in 0..<n {
    guard extra[i] >= 0 && extra[i] < Swift.max(s[i], d[i]) else {
      stop("convolutionTranspose: outputPadding \(extra[i]) must be less than stride or dilation")
    }
    size[i] = (x.shape[2 + i] - 1) * s[i] - 2 * pad[i] + d[i] * (weight.shape[2 + i] - 1) + extra[i] + 1
  }
  let p = ConvolutionParameters(
    stride: s, padLow: pad, padHigh: pad, kernelDilation: d, inputDilation: Shape(repeating: 1, count: n), groups: groups)
  let y = apply(.convolutionInputGradient(p, inputSize: size), x, weight)
  guard let bias else { return y }
  return y + bias.reshaped([1, bias.count] + Array(repeating: 1, count: n))
}

private func pool(
  _ kind: WindowReductionKind, _ x: Tensor, _ n: Int, _ kernelSize: [Int], _ stride: [Int]?, _ padding: [Int], _ dilation: [Int],
  ceilMode: Bool, _ function: String
) -> Tensor {
  let window = makeWindow(x, n, kernelSize, stride, padding, dilation, ceilMode, function)
  return apply(.reduceWindow(kind, window), x)
}

private func makeWindow(
  _ x: Tensor, _ n: Int, _ kernelSize: [Int], _ stride: [Int]?, _ padding: [Int], _ dilation: [Int], _ ceilMode: Bool,
  _ function: String
) -> Window {
  guard x.rank == n + 2 else { stop("\(function): takes \(n + 2) dimensions [batch, channels, …], got shape \(x.shape)") }
  let size = Shape.spatial(kernelSize, n, "kernelSize", function)
  let step = Shape.spatial(stride ?? kernelSize, n, "stride", function)
  let pad = Shape.spatial(padding, n, "padding", function)
  let spread = Shape.spatial(dilation, n, "dilation", function)
  var high = pad
  if ceilMode {
    for i in 0..<n {
      // One more window where the last one would start inside of the input or its left padding, as in PyTorch.
      let room = x.shape[2 + i] + 2 * pad[i] - ((size[i] - 1) * spread[i] + 1)
      var outputs = (room + step[i] - 1) / step[i] + 1
      if (outputs - 1) * step[i] >= x.shape[2 + i] + pad[i] { outputs -= 1 }
      high[i] = pad[i] + Swift.max(0, (outputs - 1) * step[i] - room)
    }
  }
  return Window(size: size, stride: step, padLow: pad, padHigh: high, dilation: spread)
}

/// The largest element of each window; padding counts as −∞. The stride is the window's size if not given.
public func maxPool1d(
  _ x: Tensor, kernelSize: Int, stride: Int? = nil, padding: Int = 0, dilation: Int = 1, ceilMode: Bool = false
) -> Tensor {
  pool(.max, x, 1, [kernelSize], stride.map { [$0] }, [padding], [dilation], ceilMode: ceilMode, "maxPool1d")
}
public func maxPool2d(
  _ x: Tensor, kernelSize: Int, stride: Int? = nil, padding: Int = 0, dilation: Int = 1, ceilMode: Bool = false
) -> Tensor {
  pool(.max, x, 2, [kernelSize], stride.map { [$0] }, [padding], [dilation], ceilMode: ceilMode, "maxPool2d")
}
public func maxPool3d(
  _ x: Tensor, kernelSize: Int, stride: Int? = nil, padding: Int = 0, dilation: Int = 1, ceilMode: Bool = false
) -> Tensor {
  pool(.max, x, 3, [kernelSize], stride.map { [$0] }, [padding], [dilation], ceilMode: ceilMode, "maxPool3d")
}

/// Max pooling over `x.rank − 2` spatial dimensions, with one number for all of them or one for each.
public func maxPool(
  _ x: Tensor, kernelSize: [Int], stride: [Int]? = nil, padding: [Int] = [0], dilation: [Int] = [1], ceilMode: Bool = false
) -> Tensor {
  pool(.max, x, x.rank - 2, kernelSize, stride, padding, dilation, ceilMode: ceilMode, "maxPool")
}

/// Max pooling, and where each maximum was found: its position in the flattened spatial dimensions of its channel, int64.
public func maxPoolWithIndices(
  _ x: Tensor, kernelSize: [Int], stride: [Int]? = nil, padding: [Int] = [0], dilation: [Int] = [1], ceilMode: Bool = false
) -> (output: Tensor, indices: Tensor) {
  let window = makeWindow(x, x.rank - 2, kernelSize, stride, padding, dilation, ceilMode, "maxPoolWithIndices")
  return (apply(.reduceWindow(.max, window), x), apply(.maxPoolIndices(window), x))
}

/// The mean of each window. `countIncludePad`: padding counts as zeros (PyTorch's default) or not at all.
public func avgPool1d(
  _ x: Tensor, kernelSize: Int, stride: Int? = nil, padding: Int = 0, ceilMode: Bool = false, countIncludePad: Bool = true
) -> Tensor {
  avgPool(x, 1, [kernelSize], stride.map { [$0] }, [padding], ceilMode, countIncludePad, "avgPool1d")
}
public func avgPool2d(
  _ x: Tensor, kernelSize: Int, stride: Int? = nil, padding: Int = 0, ceilMode: Bool = false, countIncludePad: Bool = true
) -> Tensor {
  avgPool(x, 2, [kernelSize], stride.map { [$0] }, [padding], ceilMode, countIncludePad, "avgPool2d")
}
public func avgPool3d(
  _ x: Tensor, kernelSize: Int, stride: Int? = nil, padding: Int = 0, ceilMode: Bool = false, countIncludePad: Bool = true
) -> Tensor {
  avgPool(x, 3, [kernelSize], stride.map { [$0] }, [padding], ceilMode, countIncludePad, "avgPool3d")
}

/// Average pooling over `x.rank − 2` spatial dimensions, with one number for all of them or one for each.
public func avgPool(
  _ x: Tensor, kernelSize: [Int], stride: [Int]? = nil, padding: [Int] = [0], ceilMode: Bool = false, countIncludePad: Bool = true
) -> Tensor {
  avgPool(x, x.rank - 2, kernelSize, stride, padding, ceilMode, countIncludePad, "avgPool")
}

private func avgPool(
  _ x: Tensor, _ n: Int, _ kernelSize: [Int], _ stride: [Int]?, _ padding: [Int], _ ceilMode: Bool, _ countIncludePad: Bool,
  _ function: String
) -> Tensor {
  let window = makeWindow(x, n, kernelSize, stride, padding, [1], ceilMode, function)
  guard countIncludePad && window.padHigh != window.padLow else {
    return apply(.reduceWindow(countIncludePad ? .average : .averageValid, window), x)
  }
  // What ceilMode adds beyond the padding is not counted, as in PyTorch: sums, divided by each window's count.
  var counts = Tensor.ones([], x.elementType)
  for i in 0..<n {
    let line = (0..<window.outputSize(i, input: x.shape[2 + i])).map { o -> Double in
      let start = o * window.stride[i] - window.padLow[i]
      return Double(Swift.min(start + window.size[i], x.shape[2 + i] + window.padLow[i]) - start)
    }
    counts = counts.expanded(at: -1) * Tensor(elements: line).converted(to: x.elementType)
  }
  return apply(.reduceWindow(.sum, window), x) / counts
}

/// Pooling to a given output size: window i covers ⌊i · in / out⌋ ..< ⌈(i + 1) · in / out⌉, as in PyTorch.
func adaptivePool(_ kind: WindowReductionKind, _ x: Tensor, _ outputSize: [Int], _ function: String) -> Tensor {
  let n = x.rank - 2
  guard (1...3).contains(n), outputSize.allSatisfy({ $0 > 0 }) else {
    stop("\(function): takes [batch, channels, …] and positive sizes, got shape \(x.shape) and \(outputSize)")
  }
  let out = Shape.spatial(outputSize, n, "outputSize", function)
  let sizes = Shape(x.shape[2...])
  if (0..<n).allSatisfy({ sizes[$0] % out[$0] == 0 }) {
    let size = Shape((0..<n).map { sizes[$0] / out[$0] })
    let zero = Shape(repeating: 0, count: n)
    return apply(
      .reduceWindow(kind, Window(size: size, stride: size, padLow: zero, padHigh: zero, dilation: Shape(repeating: 1, count: n))),
      x)
  }
  // Uneven windows: one dimension at a time, joined piece by piece.
  var result = x
  for i in 0..<n {
    let axis = 2 + i
    let pieces = (0..<out[i]).map { o -> Tensor in
      let start = o * sizes[i] / out[i]
      let end = ((o + 1) * sizes[i] + out[i] - 1) / out[i]
      let part = result.sliced(axis: axis, start: start, count: end - start)
      return kind == .max ? part.max(axis: axis, keepDims: true) : part.mean(axis: axis, keepDims: true)
    }
    result = concatenate(pieces, axis: axis)
  }
  return result
}

/// Average pooling to a given spatial size: one number for all dimensions, or one for each.
public func adaptiveAvgPool(_ x: Tensor, outputSize: [Int]) -> Tensor { adaptivePool(.average, x, outputSize, "adaptiveAvgPool") }
/// Max pooling to a given spatial size: one number for all dimensions, or one for each.
public func adaptiveMaxPool(_ x: Tensor, outputSize: [Int]) -> Tensor { adaptivePool(.max, x, outputSize, "adaptiveMaxPool") }

extension Tensor {
  /// The same values with the channels [batch, channels, spatial…] next to each other in memory: the layout in which
  /// convolutions run fastest, and which their results have.
  public func inChannelsLast() -> Tensor {
    guard rank >= 3 else { stop("inChannelsLast: takes [batch, channels, …], got shape \(shape)") }
    let order = [0] + Array(2..<rank) + [1]
    let back = [0, rank - 1] + Array(1..<(rank - 1))
    return transposed(order).contiguous().transposed(back)
  }
}
