/// The values of one scalar in one run, in the order of the file.
struct ScalarSeries: Sendable {
  struct Point: Sendable, Equatable {
    var step: Int
    var wallTime: Double
    var value: Float
  }

  private(set) var points: [Point] = []
  /// How many values there were, also those that were dropped.
  private(set) var count = 0
  private var firstFile = -1
  private var lastFile = -1
  /// Beyond so many points every other one is dropped.
  static let capacity = 1 << 20

  /// Adds a value from the run's file of this number.
  ///
  /// Where a later file goes back to a step in the middle, a run was started again from a checkpoint: what the stopped one wrote beyond
  /// it does not count. A later file that begins at or before the beginning stands beside the earlier one, as PyTorch's
  /// `add_hparams` writes final values at step 0.
  mutating func append(_ point: Point, file: Int) {
    if file != lastFile, let first = points.first, point.step > first.step {
      while let last = points.last, last.step >= point.step {
        points.removeLast()
        count -= 1
      }
    }
    if firstFile < 0 { firstFile = file }
    lastFile = file
    if file != firstFile, let last = points.last, point.step < last.step {
      var (low, high) = (0, points.count)
      while low < high {
        let middle = (low + high) / 2
        if points[middle].step <= point.step { low = middle + 1 } else { high = middle }
      }
      points.insert(point, at: low)
    } else {
      points.append(point)
    }
    count += 1
    if points.count > Self.capacity {
      let last = points.count - 1
      points = points.indices.filter { $0 % 2 == 0 || $0 == last }.map { points[$0] }
    }
  }

  /// At most about `limit` points with their smoothed values. Of each stretch the lowest and the highest stay, so that no peak is lost.
  /// - Parameter smoothing: how much of the mean so far stays at each point: 0 (none) to below 1.
  func sampled(_ limit: Int, smoothing: Double) -> [(point: Point, smooth: Double)] {
    let smooth = smoothed(smoothing)
    guard points.count > max(limit, 4) else { return Array(zip(points, smooth)).map { ($0, $1) } }
    let stretches = max(1, (limit - 2) / 2)
    var result = [(points[0], smooth[0])]
    let inner = 1..<points.count - 1
    for stretch in 0..<stretches {
      let start = inner.lowerBound + stretch * inner.count / stretches
      let end = inner.lowerBound + (stretch + 1) * inner.count / stretches
      guard start < end else { continue }
      var (low, high) = (start, start)
      for index in start..<end {
        let value = points[index].value
        if value < points[low].value || points[low].value.isNaN { low = index }
        // What is not finite is an event of its own: it stays.
        if value > points[high].value || !value.isFinite { high = index }
      }
      for index in low == high ? [low] : [min(low, high), max(low, high)] { result.append((points[index], smooth[index])) }
    }
    result.append((points[points.count - 1], smooth[points.count - 1]))
    return result
  }

  /// The moving mean that TensorBoard shows: exponential, without the pull towards zero at the beginning.
  private func smoothed(_ weight: Double) -> [Double] {
    guard weight > 0 else { return points.map { Double($0.value) } }
    var (mean, share) = (0.0, 1.0)
    return points.map { point in
      let value = Double(point.value)
      guard value.isFinite else { return value }
      mean = mean * weight + (1 - weight) * value
      share *= weight
      return mean / (1 - share)
    }
  }
}

/// Things of one tag in one run, such as histograms, of which the latest and an even choice of the earlier are kept.
struct Samples<Content: Sendable>: Sendable {
  struct Item: Sendable {
    var step: Int
    var wallTime: Double
    var content: Content
  }

  private(set) var items: [Item] = []
  private(set) var count = 0
  private var lastFile = -1
  private let capacity: Int

  init(capacity: Int) { self.capacity = capacity }

  mutating func append(_ item: Item, file: Int) {
    if file != lastFile, let first = items.first, item.step > first.step {
      while let last = items.last, last.step >= item.step {
        items.removeLast()
        count -= 1
      }
    }
    lastFile = file
    items.append(item)
    count += 1
    if items.count > capacity {
      let last = items.count - 1
      items = items.indices.filter { $0 % 2 == 0 || $0 == last }.map { items[$0] }
    }
  }

  /// At most `limit` of them at equal distances, the last one included.
  func sampled(_ limit: Int) -> [Item] {
    guard items.count > limit, limit > 1 else { return limit > 1 ? items : items.suffix(max(limit, 0)) }
    return (0..<limit).map { items[$0 * (items.count - 1) / (limit - 1)] }
  }
}
