import CApusKernels

extension Generator {
  /// A generator whose numbers have nothing to do with this one's, itself decided by this one's state. Every call
  /// gives another.
  public func split() -> Generator {
    let now = step()
    return Generator(seed: apus_random_fold(now.key, now.counter))
  }

  /// Several generators, for as many workers or layers.
  public func split(_ count: Int) -> [Generator] {
    guard count >= 0 else { stop("split: the count \(count) is negative") }
    return (0..<count).map { _ in split() }
  }
}

extension Tensor {
  /// Exponentially distributed with this rate (the reciprocal of the mean).
  public static func exponential(
    _ shape: Shape, rate: Double = 1, _ type: ElementType = .float32, generator: Generator = .default
  ) -> Tensor {
    guard rate > 0 else { stop("exponential: the rate \(rate) is not positive") }
    // By the inverse distribution function; u < 1, so that the logarithm is finite.
    let u = uniform(shape, .float64, generator: generator)
    return (log1p(-u) * (-1 / rate)).converted(to: type)
  }

  /// `count` classes of each row drawn with the given weights, which need not sum to 1: weights […, classes] →
  /// int64 […, count]. Without replacement no class comes twice; then a row needs `count` weights above zero.
  public static func multinomial(
    _ weights: Tensor, count: Int, replacement: Bool = false, generator: Generator = .default
  ) -> Tensor {
    guard weights.rank > 0, weights.elementType.isFloatingPoint, count >= 0 else {
      stop("multinomial: takes floating point weights […, classes] and a count, got \(weights.type) and \(count)")
    }
    let weights = weights.detached().converted(to: .float64)
    let classes = weights.shape[weights.rank - 1]
    if !((weights .>= 0) .& isFinite(weights)).all().item(as: Bool.self) {
      stop("multinomial: a weight is negative or not finite")
    }
    let possible = (weights .> 0).sum(axis: -1)
    let needed = replacement ? Swift.min(count, 1) : count
    if possible.count > 0, possible.min().item(as: Int.self) < needed {
      stop("multinomial: a row has fewer than \(needed) weights above zero")
    }
    if replacement {
      // The inverse of the distribution function, row by row.
      let sums = weights.cumulativeSum(axis: -1)
      let total = sums.sliced(axis: -1 + sums.rank, start: Swift.max(classes - 1, 0), count: Swift.min(classes, 1))
      var shape = weights.shape
      shape[shape.count - 1] = count
      let u = uniform(shape, .float64, generator: generator)
      if classes == 0 { return zeros(shape, .int64) }
      // Rounding may lift u · total to the total: the last class with a weight answers then.
      let last = sums.searchSorted(total)
      return minimum(sums.searchSorted(u * total, right: true), last)
    }
    // The first arrivals of exponential clocks whose rates are the weights.
    let clocks = exponential(weights.shape, .float64, generator: generator) / weights
    return clocks.topK(count, largest: false).indices
  }
}
