extension Tensor {
  private func reduce(_ kind: ReductionKind, _ axes: [Int]?, _ keepDims: Bool, _ name: String) -> Tensor {
    apply(.reduce(kind, axes.map { self.axes($0, name) } ?? Axes(0..<rank), keepDims: keepDims), self)
  }

  /// The sum over some axes, or all. Integers of less than 64 bits and bool are summed as int64, as in PyTorch.
  public func sum(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor { widened.reduce(.sum, axes, keepDims, "sum") }
  public func sum(axis: Int, keepDims: Bool = false) -> Tensor { sum(axes: [axis], keepDims: keepDims) }

  private var widened: Tensor { elementType.isFloatingPoint ? self : converted(to: .int64) }

  /// The product over some axes, or all; integers as int64.
  public func product(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor {
    widened.reduce(.product, axes, keepDims, "product")
  }
  public func product(axis: Int, keepDims: Bool = false) -> Tensor { product(axes: [axis], keepDims: keepDims) }

  /// The mean over some axes, or all. Floating point only.
  public func mean(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor {
    guard elementType.isFloatingPoint else { stop("mean: takes floating point tensors, got \(type); convert it first") }
    let list = axes.map { self.axes($0, "mean") } ?? Axes(0..<rank)
    let n = list.reduce(1) { $0 * shape[$1] }
    return sum(axes: axes, keepDims: keepDims) * (1 / Double(n))
  }
  public func mean(axis: Int, keepDims: Bool = false) -> Tensor { mean(axes: [axis], keepDims: keepDims) }

  /// The variance over some axes, or all; divided by the count less `correction` (1: unbiased).
  public func variance(axes: [Int]? = nil, correction: Int = 1, keepDims: Bool = false) -> Tensor {
    guard elementType.isFloatingPoint else { stop("variance: takes floating point tensors, got \(type); convert it first") }
    let list = axes.map { self.axes($0, "variance") } ?? Axes(0..<rank)
    let n = list.reduce(1) { $0 * shape[$1] }
    let centred = self - mean(axes: axes, keepDims: true)
    return square(centred).sum(axes: axes, keepDims: keepDims) / Double(Swift.max(n - correction, 0))
  }
  public func variance(axis: Int, correction: Int = 1, keepDims: Bool = false) -> Tensor {
    variance(axes: [axis], correction: correction, keepDims: keepDims)
  }

  public func standardDeviation(axes: [Int]? = nil, correction: Int = 1, keepDims: Bool = false) -> Tensor {
    sqrt(variance(axes: axes, correction: correction, keepDims: keepDims))
  }
  public func standardDeviation(axis: Int, correction: Int = 1, keepDims: Bool = false) -> Tensor {
    standardDeviation(axes: [axis], correction: correction, keepDims: keepDims)
  }

  /// The largest element over some axes, or all; NaN if one is.
  public func max(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor { reduce(.max, axes, keepDims, "max") }
  public func max(axis: Int, keepDims: Bool = false) -> Tensor { max(axes: [axis], keepDims: keepDims) }
  /// The smallest element over some axes, or all; NaN if one is.
  public func min(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor { reduce(.min, axes, keepDims, "min") }
  public func min(axis: Int, keepDims: Bool = false) -> Tensor { min(axes: [axis], keepDims: keepDims) }

  /// Whether all elements (not zero, for numbers) hold, over some axes or all.
  public func all(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor {
    converted(to: .bool).reduce(.all, axes, keepDims, "all")
  }
  public func all(axis: Int, keepDims: Bool = false) -> Tensor { all(axes: [axis], keepDims: keepDims) }
  /// Whether any element (not zero, for numbers) holds, over some axes or all.
  public func any(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor {
    converted(to: .bool).reduce(.any, axes, keepDims, "any")
  }
  public func any(axis: Int, keepDims: Bool = false) -> Tensor { any(axes: [axis], keepDims: keepDims) }

  /// The Euclidean norm over some axes, or all.
  public func norm(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor {
    sqrt(square(self).sum(axes: axes, keepDims: keepDims))
  }

  /// The int64 position of the first largest element along the axis, or in the flattened tensor.
  public func argMax(axis: Int? = nil, keepDims: Bool = false) -> Tensor { argReduce(.max, axis, keepDims, "argMax") }
  /// The int64 position of the first smallest element along the axis, or in the flattened tensor.
  public func argMin(axis: Int? = nil, keepDims: Bool = false) -> Tensor { argReduce(.min, axis, keepDims, "argMin") }

  private func argReduce(_ kind: ArgReductionKind, _ axis: Int?, _ keepDims: Bool, _ name: String) -> Tensor {
    guard let axis else {
      let flat = apply(.argReduce(kind, axis: 0, keepDims: false), flattened())
      return keepDims ? flat.reshaped(Shape(repeating: 1, count: rank)) : flat
    }
    return apply(.argReduce(kind, axis: self.axis(axis, name), keepDims: keepDims), self)
  }

  /// Running sums along the axis; integers as int64.
  public func cumulativeSum(axis: Int, reverse: Bool = false, exclusive: Bool = false) -> Tensor {
    apply(.scan(.sum, axis: self.axis(axis, "cumulativeSum"), reverse: reverse, exclusive: exclusive), widened)
  }
  /// Running products along the axis; integers as int64.
  public func cumulativeProduct(axis: Int, reverse: Bool = false, exclusive: Bool = false) -> Tensor {
    apply(.scan(.product, axis: self.axis(axis, "cumulativeProduct"), reverse: reverse, exclusive: exclusive), widened)
  }
  public func cumulativeMax(axis: Int, reverse: Bool = false) -> Tensor {
    apply(.scan(.max, axis: self.axis(axis, "cumulativeMax"), reverse: reverse, exclusive: false), self)
  }
  public func cumulativeMin(axis: Int, reverse: Bool = false) -> Tensor {
    apply(.scan(.min, axis: self.axis(axis, "cumulativeMin"), reverse: reverse, exclusive: false), self)
  }

  /// log Σ eˣ along the axis, without overflow; −∞ where there is nothing to sum.
  public func logSumExp(axis: Int, keepDims: Bool = false) -> Tensor {
    if shape[self.axis(axis, "logSumExp")] == 0 { return log(exp(self).sum(axis: axis, keepDims: keepDims)) }
    let top = max(axis: axis, keepDims: true).detached()
    let safe = `where`(isFinite(top), top, 0)
    let result = log(exp(self - safe).sum(axis: axis, keepDims: true)) + safe
    return keepDims ? result : result.squeezed(axis)
  }
}
