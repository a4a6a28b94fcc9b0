import ApusTensor

/// The inverse of max pooling as far as there is one: each value at the place its index names, zeros elsewhere (PyTorch's
/// `max_unpool`); [batch, channels, size…] → [batch, channels, output size…].
/// - Parameters:
///   - indices: int64 of x's shape, positions in the flattened output of a channel, as ``maxPoolWithIndices(_:kernelSize:stride:padding:dilation:ceilMode:)`` gives them.
///   - outputSize: the spatial size before pooling; by default (size − 1) stride − 2 padding + kernelSize.
public func maxUnpool(
  _ x: Tensor, indices: Tensor, kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, padding: some SpatialSizes = 0,
  outputSize: [Int]? = nil
) -> Tensor {
  let n = x.rank - 2
  guard (1...3).contains(n), indices.shape == x.shape, indices.elementType.isInteger else {
    stop("maxUnpool: takes [batch, channels, size…] and integers of the same shape, got \(x.type) and \(indices.type)")
  }
  let kernel = spatial(kernelSize, n, "kernelSize", "maxUnpool")
  let step = stride.map { spatial($0, n, "stride", "maxUnpool") } ?? kernel
  let margin = spatial(padding, n, "padding", "maxUnpool")
  let plain = (0..<n).map { i -> Int in
    let reach = (x.shape[2 + i] - 1) * step[i] + kernel[i]
    return reach - 2 * margin[i]
  }
  let size = outputSize ?? plain
  let fits = size.count == n && (0..<n).allSatisfy { i -> Bool in size[i] > 0 && Swift.abs(size[i] - plain[i]) < step[i] }
  guard fits else {
    stop(
      "maxUnpool: outputSize \(size) must be less than the stride \(step) away from \(plain), for an input of shape \(x.shape)")
  }
  let zeros = Tensor.zeros([x.shape[0], x.shape[1], size.reduce(1, *)], x.elementType)
  return zeros.scatter(axis: 2, indices: indices.flattened(from: 2), values: x.flattened(from: 2))
    .reshaped(Array(x.shape[..<2]) + size)
}

/// (Σ xᵖ)^(1/p) over each window, [batch, channels, size…] → [batch, channels, size'…]; for p = ∞ the largest |x|. Its gradient is
/// zero where the sum is.
public func lpPool(
  _ x: Tensor, normType p: Double, kernelSize: some SpatialSizes, stride: (any SpatialSizes)? = nil, ceilMode: Bool = false
) -> Tensor {
  let n = x.rank - 2
  guard (1...3).contains(n), p != 0 else { stop("lpPool: takes [batch, channels, size…] and p ≠ 0, got \(x.type) and p = \(p)") }
  let kernel = spatial(kernelSize, n, "kernelSize", "lpPool")
  let step = stride.map { spatial($0, n, "stride", "lpPool") }
  if p == .infinity { return maxPool(abs(x), kernelSize: kernel, stride: step, ceilMode: ceilMode) }
  if p == -.infinity { return -maxPool(-abs(x), kernelSize: kernel, stride: step, ceilMode: ceilMode) }
  let mean = avgPool(p == 2 ? square(x) : pow(x, p), kernelSize: kernel, stride: step, ceilMode: ceilMode)
  let sum = sign(mean) * relu(abs(mean)) * Double(kernel.reduce(1, *))
  let none = mean .== 0
  return `where`(none, 0, pow(`where`(none, 1, sum), 1 / p))
}

/// The largest element of each of pseudo-random windows that give the output its size, and where it was found (Graham 2014):
/// [batch, channels, size…] → [batch, channels, output size…], for 1 to 3 spatial dimensions.
/// - Parameter samples: [batch, channels, spatial dimensions], numbers in [0, 1) that decide where windows lie; of two dimensions
///   the last one comes first, as in PyTorch.
public func fractionalMaxPool(
  _ x: Tensor, kernelSize: some SpatialSizes, outputSize: some SpatialSizes, samples: Tensor
) -> (output: Tensor, indices: Tensor) {
  let n = x.rank - 2
  guard (1...3).contains(n), samples.shape == Shape(Array(x.shape[..<2]) + [n]) else {
    stop(
      "fractionalMaxPool: takes [batch, channels, size…] and samples [batch, channels, \(n)], got \(x.shape) and \(samples.shape)"
    )
  }
  let kernel = spatial(kernelSize, n, "kernelSize", "fractionalMaxPool")
  let out = spatial(outputSize, n, "outputSize", "fractionalMaxPool")
  let size = Array(x.shape[2...])
  let fits = (0..<n).allSatisfy { i -> Bool in kernel[i] > 0 && out[i] > 0 && out[i] + kernel[i] - 1 <= size[i] }
  guard fits else {
    stop("fractionalMaxPool: windows of \(kernel) for an output of \(out) do not fit the spatial size of shape \(x.shape)")
  }
  let flat = x.flattened(from: 2)
  let places = withoutGradient { () -> Tensor in
    // [batch, channels, output…, kernel…]: the position of each element of each window.
    var positions = Tensor(0)
    for i in 0..<n {
      let sample = samples.detached().sliced(axis: 2, start: n == 2 ? 1 - i : i, count: 1)
      let starts = windowStarts(sample, size[i], kernel[i], out[i]).reshaped(
        Array(x.shape[..<2]) + (0..<n).map { $0 == i ? out[i] : 1 } + Array(repeating: 1, count: n))
      let within = Tensor.arange(kernel[i]).reshaped((0..<n).map { $0 == i ? kernel[i] : 1 })
      positions = positions + (starts + within) * size[(i + 1)...].reduce(1, *)
    }
    let (windows, elements) = (out.reduce(1, *), kernel.reduce(1, *))
    let rows = positions.reshaped([x.shape[0], x.shape[1], windows, elements])
    let values = flat.detached().gather(axis: 2, indices: rows.flattened(from: 2)).reshaped(rows.shape)
    return rows.gather(axis: 3, indices: values.argMax(axis: 3, keepDims: true)).squeezed(3)
  }
  let shape = Array(x.shape[..<2]) + out
  return (flat.gather(axis: 2, indices: places).reshaped(shape), places.reshaped(shape))
}

/// ⌊(i + u) α⌋ − ⌊u α⌋ with α = (size − kernel) / (count − 1), and the last window at the end.
private func windowStarts(_ u: Tensor, _ size: Int, _ kernel: Int, _ count: Int) -> Tensor {
  let alpha = count > 1 ? Double(size - kernel) / Double(count - 1) : 0
  let i = Tensor.arange(count)
  let starts = floor((i.converted(to: u.elementType) + u) * alpha) - floor(u * alpha)
  return `where`(i .== count - 1, size - kernel, starts.converted(to: .int64))
}
