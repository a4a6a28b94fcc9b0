import ApusTensor

/// The windows of a convolution as columns: [batch, channels, size…] → [batch, channels · kernel…, windows] (PyTorch's `unfold`,
/// also called im2col). Its gradient is ``fold(_:outputSize:kernelSize:dilation:padding:stride:)``.
public func unfold(
  _ x: Tensor, kernelSize: some SpatialSizes, dilation: some SpatialSizes = 1, padding: some SpatialSizes = 0,
  stride: some SpatialSizes = 1
) -> Tensor {
  let n = x.rank - 2
  guard (1...3).contains(n) else { stop("unfold: takes [batch, channels, size…] of 3 to 5 dimensions, got shape \(x.shape)") }
  let windows = Windows("unfold", Array(x.shape[2...]), kernelSize, dilation, padding, stride)
  let padded = pad(x, windows.padding.reversed().flatMap { [$0, $0] }).flattened(from: 2)
  let taken = padded.take(windows.positions(), axis: 2)
  return taken.reshaped([x.shape[0], x.shape[1] * windows.kernelCount, windows.count])
}

/// The sum of windows where they overlap: [batch, channels · kernel…, windows] → [batch, channels, output size…]
/// (PyTorch's `fold`, also called col2im). Its gradient is ``unfold(_:kernelSize:dilation:padding:stride:)``.
/// - Parameter outputSize: one number for each spatial dimension, 1 to 3 of them.
public func fold(
  _ x: Tensor, outputSize: [Int], kernelSize: some SpatialSizes, dilation: some SpatialSizes = 1,
  padding: some SpatialSizes = 0, stride: some SpatialSizes = 1
) -> Tensor {
  guard (1...3).contains(outputSize.count) else {
    stop("fold: outputSize \(outputSize) needs a number for each spatial dimension")
  }
  let windows = Windows("fold", outputSize, kernelSize, dilation, padding, stride)
  guard x.rank == 3, x.shape[1] % windows.kernelCount == 0, x.shape[2] == windows.count else {
    stop(
      "fold: takes [batch, channels · \(windows.kernelCount), \(windows.count)] for kernelSize \(windows.kernelSize) and outputSize "
        + "\(outputSize), got shape \(x.shape)")
  }
  let (batch, channels) = (x.shape[0], x.shape[1] / windows.kernelCount)
  let zeros = Tensor.zeros([batch, channels, windows.paddedSize.reduce(1, *)], x.elementType)
  let columns = x.reshaped([batch, channels, windows.kernelCount * windows.count])
  let sums = zeros.indexAdd(axis: 2, indices: windows.positions().flattened(), values: columns)
  return pad(sums.reshaped([batch, channels] + windows.paddedSize), windows.padding.reversed().flatMap { [-$0, -$0] })
}

/// Where the windows of a convolution lie in a padded image.
private struct Windows {
  let kernelSize, dilation, padding, stride, paddedSize, counts: [Int]
  var kernelCount: Int { kernelSize.reduce(1, *) }
  var count: Int { counts.reduce(1, *) }

  init(
    _ function: String, _ size: [Int], _ kernelSize: some SpatialSizes, _ dilation: some SpatialSizes,
    _ padding: some SpatialSizes, _ stride: some SpatialSizes
  ) {
    let n = size.count
    let kernel = spatial(kernelSize, n, "kernelSize", function)
    let (spread, step) = (spatial(dilation, n, "dilation", function), spatial(stride, n, "stride", function))
    let margin = spatial(padding, n, "padding", function)
    guard (kernel + spread + step).allSatisfy({ $0 > 0 }), margin.allSatisfy({ $0 >= 0 }) else {
      stop(
        "\(function): kernelSize \(kernel), dilation \(spread) and stride \(step) must be positive, padding \(margin) not negative"
      )
    }
    let padded = (0..<n).map { size[$0] + 2 * margin[$0] }
    let room = (0..<n).map { padded[$0] - spread[$0] * (kernel[$0] - 1) - 1 }
    guard room.allSatisfy({ $0 >= 0 }) else {
      stop("\(function): a kernel of size \(kernel) with dilation \(spread) does not fit size \(size) with padding \(margin)")
    }
    (self.kernelSize, self.dilation, self.padding, self.stride) = (kernel, spread, margin, step)
    paddedSize = padded
    counts = (0..<n).map { room[$0] / step[$0] + 1 }
  }

  /// For each place in the kernel and each window the position in the flattened padded image: [kernel count · count].
  func positions() -> Tensor {
    let n = kernelSize.count
    var sum = Tensor(0)
    for i in 0..<n {
      let line = paddedSize[(i + 1)...].reduce(1, *)
      let inKernel = (Tensor.arange(kernelSize[i]) * (dilation[i] * line)).expanded(at: 1)
      let ofWindow = Tensor.arange(counts[i]) * (stride[i] * line)
      // [kernel…, window…], of which this dimension has its own two.
      var shape = Array(repeating: 1, count: 2 * n)
      (shape[i], shape[n + i]) = (kernelSize[i], counts[i])
      sum = sum + (inKernel + ofWindow).reshaped(shape)
    }
    return sum.flattened()
  }
}

/// Channels as places: [batch, channels · r², height, width] → [batch, channels, height · r, width · r] (Shi et al. 2016).
public func pixelShuffle(_ x: Tensor, upscaleFactor r: Int) -> Tensor {
  guard x.rank >= 3, r > 0, x.shape[x.rank - 3] % (r * r) == 0 else {
    stop("pixelShuffle: takes […, channels · \(r * r), height, width] for the factor \(r), got shape \(x.shape)")
  }
  let (outer, c, h, w) = planes(x)
  let blocks = x.reshaped([outer.reduce(1, *), c / (r * r), r, r, h, w]).transposed([0, 1, 4, 2, 5, 3])
  return blocks.reshaped(outer + [c / (r * r), h * r, w * r])
}

/// The inverse of ``pixelShuffle(_:upscaleFactor:)``: […, channels, height · r, width · r] → […, channels · r², height, width].
public func pixelUnshuffle(_ x: Tensor, downscaleFactor r: Int) -> Tensor {
  guard x.rank >= 3, r > 0, x.shape[x.rank - 2] % r == 0, x.shape[x.rank - 1] % r == 0 else {
    stop("pixelUnshuffle: takes […, channels, height, width] divisible by \(r), got shape \(x.shape)")
  }
  let (outer, c, h, w) = planes(x)
  let blocks = x.reshaped([outer.reduce(1, *), c, h / r, r, w / r, r]).transposed([0, 1, 3, 5, 2, 4])
  return blocks.reshaped(outer + [c * r * r, h / r, w / r])
}

/// Channels dealt out in turn: of `groups` groups first the first of each, then the second… (Zhang et al. 2018).
public func channelShuffle(_ x: Tensor, groups: Int) -> Tensor {
  guard x.rank >= 3, groups > 0, x.shape[1] % groups == 0 else {
    stop("channelShuffle: takes [batch, channels, size…] with channels divisible by \(groups), got shape \(x.shape)")
  }
  let inner = x.shape[2...].reduce(1, *)
  return x.reshaped([x.shape[0], groups, x.shape[1] / groups, inner]).transposed(1, 2).reshaped(x.shape)
}

private func planes(_ x: Tensor) -> (outer: [Int], channels: Int, height: Int, width: Int) {
  (Array(x.shape[..<(x.rank - 3)]), x.shape[x.rank - 3], x.shape[x.rank - 2], x.shape[x.rank - 1])
}
