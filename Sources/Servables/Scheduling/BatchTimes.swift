/// How long the model takes for batches of each size, as measured, and as expected where it was not.
struct BatchTimes {
  private struct Entry {
    var size: Int
    /// nil until a second run: the first one plans the program for this size.
    var nanoseconds: Double?
    var lastUse: Int
  }

  /// By rising size.
  private var entries: [Entry] = []
  private var runs = 0
  private static let maxEntries = 64

  mutating func note(size: Int, nanoseconds: Int) {
    runs += 1
    let sample = Double(max(nanoseconds, 1))
    if let i = entries.firstIndex(where: { $0.size == size }) {
      entries[i].lastUse = runs
      guard let old = entries[i].nanoseconds else {
        entries[i].nanoseconds = sample
        return
      }
      // One hiccup of the machine says little.
      entries[i].nanoseconds = old + (min(sample, 4 * old) - old) * 0.2
      return
    }
    if entries.count >= Self.maxEntries, let oldest = entries.indices.min(by: { entries[$0].lastUse < entries[$1].lastUse }) {
      entries.remove(at: oldest)
    }
    let place = entries.firstIndex { $0.size > size } ?? entries.count
    entries.insert(Entry(size: size, nanoseconds: nil, lastUse: runs), at: place)
  }

  /// The expected time of a run; nil while nothing has been measured.
  func expected(size: Int) -> Double? {
    var below: Entry?
    for entry in entries {
      guard let time = entry.nanoseconds else { continue }
      if entry.size == size { return time }
      if entry.size < size {
        below = entry
        continue
      }
      guard let below, let low = below.nanoseconds else { return Self.scaled(time, from: entry.size, to: size) }
      return low + (time - low) * Double(size - below.size) / Double(entry.size - below.size)
    }
    guard let below, let time = below.nanoseconds else { return nil }
    return Self.scaled(time, from: below.size, to: size)
  }

  /// What a run is worth before anything was measured: as if a run cost as much as one more example.
  static func scaled(_ time: Double, from: Int, to: Int) -> Double { time * Double(1 + to) / Double(1 + from) }

  /// Over all sizes, each counted once; nil while nothing has been measured.
  var averagePerExample: Double? {
    var (sum, count) = (0.0, 0.0)
    for entry in entries {
      if let time = entry.nanoseconds { (sum, count) = (sum + time / Double(max(entry.size, 1)), count + 1) }
    }
    return count == 0 ? nil : sum / count
  }

  /// The expected time until this many examples are through, in batches of at most `most`.
  func expected(examples: Int, most: Int) -> Double? {
    guard examples > 0 else { return 0 }
    let most = max(most, 1)
    let (full, rest) = examples.quotientAndRemainder(dividingBy: most)
    guard let time = expected(size: min(examples, most)) else { return nil }
    return full == 0 ? time : Double(full) * time + (rest == 0 ? 0 : expected(size: rest) ?? 0)
  }
}

/// The sizes that batches may have.
struct BatchSizes {
  /// The most examples.
  let most: Int
  /// By rising size, the last one being `most`; empty: any.
  let ladder: [Int]
  let preferred: Set<Int>
  let leastPreferred: Int?

  /// - Parameters:
  ///   - isLarge: whether the model has so many weights that it should be planned for few sizes.
  init(_ options: SchedulingOptions.Batching, bounds: ClosedRange<Int>, isLarge: Bool) {
    let bound = max(min(max(options.maxBatchSize, 1), bounds.upperBound), bounds.lowerBound, 1)
    let allowed = Set(options.allowedBatchSizes.filter { $0 >= max(1, bounds.lowerBound) && $0 <= bound }).sorted()
    if let last = allowed.last {
      (most, ladder) = (last, allowed)
    } else {
      most = bound
      ladder = options.adaptsSizes && options.preferredBatchSizes.isEmpty ? Self.steps(bounds.lowerBound, bound, isLarge) : []
    }
    preferred = Set(options.preferredBatchSizes.filter { $0 >= 1 && $0 <= bound })
    leastPreferred = preferred.min()
  }

  /// 1, 2, 3, 4, 6, 8, 12, …: none wastes much where it is filled up.
  private static func steps(_ lowest: Int, _ most: Int, _ isLarge: Bool) -> [Int] {
    var steps: [Int] = []
    var size = 1
    while size < most {
      steps.append(size)
      if !isLarge, size >= 2, size + size / 2 < most { steps.append(size + size / 2) }
      size *= 2
    }
    return steps.filter { $0 >= max(1, lowest) } + [most]
  }

  /// The size that a batch of these examples is padded to.
  func padded(_ examples: Int) -> Int { ladder.first { $0 >= examples } ?? examples }
}
