import ApusTensor

/// Numbers as the buckets they fall into; Keras's Discretization: bucket i begins at boundary i − 1 and ends before boundary i.
///
/// Output by ``CategoryOutput``; `.int`: int64 of the input's shape.
public final class Discretization: Module, Layer {
  /// Between the buckets, ascending; nil before ``adapt(_:)``.
  public private(set) var binBoundaries: [Double]?
  public let numBins: Int?
  public let epsilon: Double
  public let outputMode: CategoryOutput
  private var boundaries: Tensor?

  /// - Parameter binBoundaries: ascending; there is one bucket more than boundaries.
  public init(binBoundaries: [Double], outputMode: CategoryOutput = .int) {
    (numBins, epsilon, self.outputMode) = (nil, 0.01, outputMode)
    super.init()
    guard outputMode != .tfIdf else { stop("\(label): there is no output mode .tfIdf") }
    set(binBoundaries)
  }

  /// A layer whose buckets ``adapt(_:)`` chooses so that about as much of the data falls into each.
  /// - Parameter epsilon: the precision of the quantiles: 1 / epsilon of them are kept.
  public init(numBins: Int, epsilon: Double = 0.01, outputMode: CategoryOutput = .int) {
    (self.numBins, self.epsilon, self.outputMode) = (numBins, epsilon, outputMode)
    super.init()
    guard numBins > 0, epsilon > 0, epsilon <= 1 else { stop("\(label): needs a bucket, and an epsilon within 0 and 1") }
    guard outputMode != .tfIdf else { stop("\(label): there is no output mode .tfIdf") }
  }

  private func set(_ values: [Double]) {
    guard zip(values, values.dropFirst()).allSatisfy({ $0 <= $1 }) else {
      stop("\(label): the boundaries do not ascend: \(values)")
    }
    binBoundaries = values
    boundaries = Tensor(elements: values)
  }

  /// Chooses boundaries between the quantiles of all data.
  public func adapt(_ data: Tensor) { adapt(CollectionOfOne(data)) }

  /// Chooses boundaries between the quantiles of batches: Keras's mergeable summaries, in its arithmetic (float32).
  public func adapt(_ batches: some Sequence<Tensor>) {
    guard let numBins else { stop("\(label): has boundaries that were given; only a layer with numBins adapts") }
    var summary = QuantileSummary()
    for batch in batches where batch.count > 0 {
      let sorted = withoutGradient { batch.converted(to: .float32).flattened().sorted().values }
      summary = summary.merged(with: QuantileSummary(sorted: sorted, epsilon: epsilon), epsilon: epsilon)
    }
    guard !summary.values.isEmpty else { stop("\(label): there is no data to adapt to") }
    set(summary.compressed(epsilon: 1 / Double(numBins)).values.dropLast().map(Double.init))
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    guard let boundaries else { stop("\(label) has no boundaries; call adapt(_:)") }
    // Compared in float32 at least: the boundaries are Keras's numbers.
    let x = x.elementType == .float64 ? x : x.converted(to: .float32)
    let buckets = searchSorted(boundaries.converted(to: x.elementType), x.detached(), right: true)
    return recorded(outputMode == .int ? buckets : encodeCategories(buckets, outputMode, depth: boundaries.count + 1))
  }

  override var members: [Member] { [] }
  override var arguments: String {
    (numBins.map { "numBins: \($0)" } ?? "binBoundaries: \(binBoundaries ?? [])")
      + (outputMode == .int ? "" : ", outputMode: .\(outputMode)")
  }
}

/// For each value how many of the ascending `keys` [n] are below it (`right`: not above it): int64 of the values' shape. Also inside of a
/// traced function: by halves, from the largest power of two down.
func searchSorted(_ keys: Tensor, _ values: Tensor, right: Bool = false) -> Tensor {
  if !isTracing { return keys.searchSorted(values, right: right) }
  let n = keys.count
  var found = Tensor.zeros(values.shape, .int64)
  guard n > 0 else { return found }
  var step = 1
  while step * 2 <= n { step *= 2 }
  while step > 0 {
    let next = found + step
    let key = keys.take(minimum(next, n) - 1)
    let isBelow = (right ? key .<= values : key .< values) .& (next .<= n)
    found = `where`(isBelow, next, found)
    step /= 2
  }
  return found
}

/// Values that stand for a share of the data each, ascending (Keras's `summarize` and `compress_summary`).
private struct QuantileSummary {
  var values: [Float] = []
  var weights: [Float] = []

  init() {}

  /// Every n-th value of sorted data [count], so that about 1 / epsilon are kept.
  init(sorted: Tensor, epsilon: Double) {
    let increment = Double(sorted.count) / (1 / epsilon)
    let step = Swift.max(increment, 1)
    let start = Int(step - 1)
    values = sorted[.slice(start, nil, Int(step))].elements(as: Float.self)
    weights = Array(repeating: Float(step), count: values.count)
  }

  func merged(with next: QuantileSummary, epsilon: Double) -> QuantileSummary {
    var result = QuantileSummary()
    let pairs = zip(next.values + values, next.weights + weights).sorted { $0.0 < $1.0 }
    (result.values, result.weights) = (pairs.map(\.0), pairs.map(\.1))
    return result.compressed(epsilon: epsilon)
  }

  /// At most 1 / epsilon values, between which is interpolated.
  func compressed(epsilon: Double) -> QuantileSummary {
    if Double(values.count) * epsilon < 1 { return self }
    var sum: Float = 0
    let cumulative = weights.map { weight -> Float in
      sum += weight
      return sum
    }
    let shares = cumulative.map { Double($0 / sum) }
    let count = Int((1 / epsilon).rounded(.up))
    var result = QuantileSummary()
    var before = 0.0
    for i in 0..<count {
      let share = epsilon + Double(i) * epsilon
      result.values.append(Float(interpolated(share, shares, values)))
      let reached = interpolated(share, shares, cumulative)
      result.weights.append(Float(reached - before))
      before = reached
    }
    return result
  }

  /// Piecewise linear through (xs, ys), constant outside (NumPy's interp).
  private func interpolated(_ x: Double, _ xs: [Double], _ ys: [Float]) -> Double {
    guard let next = xs.firstIndex(where: { $0 > x }) else { return Double(ys[ys.count - 1]) }
    if next == 0 { return Double(ys[0]) }
    let (x0, x1, y0, y1) = (xs[next - 1], xs[next], Double(ys[next - 1]), Double(ys[next]))
    return (y1 - y0) / (x1 - x0) * (x - x0) + y0
  }
}
