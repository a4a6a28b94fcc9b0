import ApusCPU

extension Tensor {
  /// The elements in order along the axis, and the int64 positions they had. Equal elements keep their order; NaN
  /// counts as greatest.
  public func sorted(axis: Int = -1, descending: Bool = false) -> (values: Tensor, indices: Tensor) {
    if rank == 0 { return (self, Tensor.zeros([], .int64)) }
    let results = apply(.sort(axis: self.axis(axis, "sorted"), descending: descending), [self])
    return (results[0], results[1])
  }

  /// The int64 positions that would sort the axis.
  public func argSort(axis: Int = -1, descending: Bool = false) -> Tensor {
    detached().sorted(axis: axis, descending: descending).indices
  }

  /// The `k` largest (or smallest) elements along the axis in order, and their int64 positions.
  public func topK(_ k: Int, axis: Int = -1, largest: Bool = true) -> (values: Tensor, indices: Tensor) {
    let axis = self.axis(axis, "topK")
    guard k >= 0 && k <= shape[axis] else { stop("topK: there are no \(k) elements along axis \(axis) of shape \(shape)") }
    let results = apply(.topK(k: k, axis: axis, largest: largest), [self])
    return (results[0], results[1])
  }

  /// For each value how many elements of this ascending tensor are below it (`right`: not above it): the place where
  /// to insert it. One row for all values, or as many rows as the values have: int64 of the values' shape.
  public func searchSorted(_ values: Tensor, right: Bool = false) -> Tensor {
    let type = ElementType.promote(elementType, values.elementType)
    guard rank == 1 || (rank > 0 && values.rank == rank && shape.dropLast().elementsEqual(values.shape.dropLast())) else {
      stop("searchSorted: sorted rows of shape \(shape) do not fit values of shape \(values.shape)")
    }
    return Tensor(array: CPU.searchSorted(converted(to: type).array, values.converted(to: type).array, right: right))
  }

  /// For each element the number of the bucket it falls into: how many of the ascending `boundaries` are below it
  /// (`right`: not above it).
  public func bucketize(_ boundaries: Tensor, right: Bool = false) -> Tensor {
    guard boundaries.rank == 1 else { stop("bucketize: takes one-dimensional boundaries, got \(boundaries.type)") }
    return boundaries.searchSorted(self, right: right)
  }

  /// The different values in ascending order; for each element which of them it is (of this tensor's shape); how
  /// often each occurs. All NaN are one value.
  public func unique() -> (values: Tensor, inverse: Tensor, counts: Tensor) {
    let flat = detached().flattened()
    let n = flat.count
    if n == 0 { return (flat, Tensor.zeros(shape, .int64), Tensor.zeros([0], .int64)) }
    let (ordered, places) = flat.sorted()
    let (left, right) = (ordered[..<(-1)], ordered[1...])
    var differs = left .!= right
    if elementType.isFloatingPoint { differs = differs .& .!(isNaN(left) .& isNaN(right)) }
    let isFirst = concatenate([Tensor(elements: [true]), differs])
    let firsts = isFirst.nonzero().flattened()
    let group = isFirst.converted(to: .int64).cumulativeSum(axis: 0) - 1
    let inverse = Tensor.zeros([n], .int64).scatter(axis: 0, indices: places, values: group).reshaped(shape)
    let ends = concatenate([firsts[1...], Tensor(elements: [n])])
    return (ordered.take(firsts), inverse, ends - firsts)
  }

  /// How often each of 0, 1, 2 … occurs among integers that are not negative; at least `minLength` numbers. With
  /// weights the sum of the weights of each.
  public func bincount(weights: Tensor? = nil, minLength: Int = 0) -> Tensor {
    guard elementType.isInteger, rank == 1 else { stop("bincount: takes a one-dimensional integer tensor, got \(type)") }
    if let weights, weights.shape != shape { stop("bincount: weights of shape \(weights.shape) for shape \(shape)") }
    let values = converted(to: .int64)
    if count > 0 {
      let least = values.min().item(as: Int.self)
      if least < 0 { stop("bincount: \(least) is negative") }
    }
    let length = count == 0 ? minLength : Swift.max(minLength, values.max().item(as: Int.self) + 1)
    let added = weights ?? Tensor.ones([count], .int64)
    return Tensor.zeros([length], added.elementType).scatterAdd(axis: 0, indices: values, values: added)
  }

  /// How many elements fall into each of `bins` equal parts of the range (by default from the least to the greatest
  /// element), and the bins + 1 edges. Each part includes its lower edge, the last both; the rest is not counted.
  public func histogram(bins: Int, range: ClosedRange<Double>? = nil) -> (counts: Tensor, edges: Tensor) {
    guard bins > 0 else { stop("histogram: the number of bins \(bins) is not positive") }
    let x = detached().flattened().converted(to: .float64)
    var (low, high) = (range?.lowerBound ?? 0, range?.upperBound ?? 1)
    if range == nil && x.count > 0 { (low, high) = (x.min().item(as: Double.self), x.max().item(as: Double.self)) }
    guard low.isFinite && high.isFinite else { stop("histogram: the range \(low)...\(high) is not finite") }
    if low == high { (low, high) = (low - 0.5, high + 0.5) }
    let edges = Tensor.linspace(low, high, count: bins + 1, .float64)
    let inside = x[(x .>= low) .& (x .<= high)]
    let bin = minimum(edges.searchSorted(inside, right: true) - 1, bins - 1)
    return (bin.bincount(minLength: bins), edges)
  }

  /// The value below which the fraction `q` of the elements along the axis (of all, if none is named) lies, on the
  /// line between the two nearest ones. NaN if one is.
  public func quantile(_ q: Double, axis: Int? = nil, keepDims: Bool = false) -> Tensor {
    guard elementType.isFloatingPoint else { stop("quantile: takes floating point tensors, got \(type); convert it first") }
    guard q >= 0 && q <= 1 else { stop("quantile: the fraction \(q) is not within 0...1") }
    let x = axis == nil ? flattened() : self
    let along = axis == nil ? 0 : self.axis(axis!, "quantile")
    let n = x.shape[along]
    guard n > 0 else { stop("quantile: axis \(along) of shape \(shape) has no elements") }
    let ordered = x.sorted(axis: along).values
    let place = q * Double(n - 1)
    let lower = Swift.min(Int(place), n - 1)
    let upper = Swift.min(lower + 1, n - 1)
    let fraction = place - Double(lower)
    let (a, b) = (ordered.sliced(axis: along, start: lower, count: 1), ordered.sliced(axis: along, start: upper, count: 1))
    // Equal neighbours (two infinities too) need no line between them.
    var result = fraction == 0 ? a : `where`(a .== b, a, a + (b - a) * fraction)
    let last = ordered.sliced(axis: along, start: n - 1, count: 1)
    result = `where`(isNaN(last), last, result)
    if axis == nil { return result.reshaped(keepDims ? Shape(repeating: 1, count: rank) : []) }
    return keepDims ? result : result.squeezed(along)
  }

  /// The middle element along the axis (of all, if none is named), the mean of the two middle ones of an even count
  /// as in NumPy. NaN if one is.
  public func median(axis: Int? = nil, keepDims: Bool = false) -> Tensor { quantile(0.5, axis: axis, keepDims: keepDims) }
}
