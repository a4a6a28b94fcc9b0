/// Counts of durations in buckets that are a fifth wide or narrower, from a microsecond to half an hour: enough for percentiles, and
/// small enough to keep one for every few seconds.
struct LatencyHistogram: Sendable {
  /// Four buckets between a power of two and the next.
  static let bucketCount = 120

  private(set) var counts: [UInt32] = []
  private(set) var count = 0
  private(set) var nanoseconds = 0

  /// The bucket of a number of microseconds: its highest bit and the two after it.
  static func bucket(_ microseconds: Int) -> Int {
    let value = max(microseconds, 1)
    if value < 4 { return value }
    let exponent = Int.bitWidth - 1 - value.leadingZeroBitCount
    return min((exponent - 1) * 4 + ((value >> (exponent - 2)) & 3), bucketCount - 1)
  }

  /// The least number of microseconds in a bucket.
  static func lowerBound(_ bucket: Int) -> Int { bucket < 4 ? bucket : (4 + bucket % 4) << (bucket / 4 - 1) }

  mutating func add(nanoseconds duration: Int) {
    if counts.isEmpty { counts = [UInt32](repeating: 0, count: Self.bucketCount) }
    counts[Self.bucket(duration / 1_000)] &+= 1
    count += 1
    nanoseconds &+= max(duration, 0)
  }

  mutating func add(_ other: LatencyHistogram) {
    guard other.count > 0 else { return }
    if counts.isEmpty {
      counts = other.counts
    } else {
      for i in counts.indices { counts[i] &+= other.counts[i] }
    }
    count += other.count
    nanoseconds &+= other.nanoseconds
  }

  /// The duration that this share of all is within, in microseconds, interpolated in its bucket; nil if there are none.
  func quantile(_ share: Double) -> Double? {
    guard count > 0 else { return nil }
    let wanted = share * Double(count)
    var before = 0.0
    for (bucket, number) in counts.enumerated() where number > 0 {
      if before + Double(number) >= wanted {
        let (low, high) = (Double(Self.lowerBound(bucket)), Double(Self.lowerBound(bucket + 1)))
        return low + (high - low) * max(0, wanted - before) / Double(number)
      }
      before += Double(number)
    }
    return Double(Self.lowerBound(counts.count))
  }
}

/// What happened lately, in slots of five seconds over the last fifteen minutes.
struct SlidingWindow: Sendable {
  static let slotSeconds = 5
  static let slotCount = 180

  struct Slot: Sendable {
    /// Seconds since the journal's start, divided by the slot's length.
    var number = -1
    var latency = LatencyHistogram()
    var failures = 0
  }

  private var slots: [Slot] = []

  /// - Parameter nanoseconds: how long it took if it was answered; nil if it failed.
  mutating func add(second: Int, nanoseconds: Int?) {
    let number = second / Self.slotSeconds
    if slots.isEmpty { slots = [Slot](repeating: Slot(), count: Self.slotCount) }
    let place = number % Self.slotCount
    if slots[place].number != number { slots[place] = Slot(number: number) }
    if let nanoseconds { slots[place].latency.add(nanoseconds: nanoseconds) } else { slots[place].failures += 1 }
  }

  /// The slots of the last so many, in order of time, empty ones included; the last one is not over yet.
  func last(_ count: Int, second: Int) -> [Slot] {
    let now = second / Self.slotSeconds
    return (max(0, now - min(count, Self.slotCount) + 1)...now).map { number in
      guard !slots.isEmpty, slots[number % Self.slotCount].number == number else { return Slot(number: number) }
      return slots[number % Self.slotCount]
    }
  }
}
