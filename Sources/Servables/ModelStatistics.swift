import Synchronization

/// What a version of a model has done since it was loaded: counters that only grow, for metrics and statistics.
public final class ModelStatistics: Sendable {
  /// How often, and how long in all.
  public struct Total: Sendable, Hashable {
    public var count = 0
    public var nanoseconds = 0
    public init() {}
  }

  public struct Snapshot: Sendable {
    public var success = Total()
    /// Failures by the code that clients got.
    public var failures: [ServingError.Code: Total] = [:]
    public var queue = Total()
    public var computeInput = Total()
    public var compute = Total()
    public var computeOutput = Total()
    public var cacheHit = Total()
    public var cacheMiss = Total()
    /// Examples that were computed.
    public var inferenceCount = 0
    /// Runs of the model, a batch counting once.
    public var executionCount = 0
    /// Runs by their number of examples.
    public var batches: [Int: Total] = [:]
    /// Requests waiting now.
    public var pending = 0
    /// Milliseconds since 1970 of the last request.
    public var lastInference = 0
    /// Latencies of successful requests, from arrival to answer: how many were within each of ``bucketBounds``, and the rest.
    public var latencyBuckets = [Int](repeating: 0, count: ModelStatistics.bucketBounds.count + 1)
    public init() {}
  }

  /// Upper bounds of the histogram of latencies, in microseconds: 10 · 1.8^i, as TensorFlow Serving's.
  public static let bucketBounds: [Double] = (0..<33).map { i in
    var bound = 10.0
    for _ in 0..<i { bound *= 1.8 }
    return bound
  }

  private let state = Mutex(Snapshot())

  public init() {}

  public var snapshot: Snapshot { state.withLock { $0 } }

  /// Changes several counters at once.
  public func update(_ body: (inout Snapshot) -> Void) { state.withLock { body(&$0) } }

  /// Notes a request that was answered.
  public func succeeded(_ timings: InferenceTimings, total: Duration, now milliseconds: Int) {
    state.withLock { state in
      state.success.add(total)
      state.queue.add(timings.queue)
      if timings.isCacheHit {
        state.cacheHit.add(total)
      } else {
        state.computeInput.add(timings.computeInput)
        state.compute.add(timings.compute)
        state.computeOutput.add(timings.computeOutput)
      }
      state.lastInference = milliseconds
      let micros = Double(total.nanoseconds) / 1000
      let bucket = Self.bucketBounds.firstIndex { micros <= $0 } ?? Self.bucketBounds.count
      state.latencyBuckets[bucket] += 1
    }
  }

  /// Notes a request that failed.
  public func failed(_ code: ServingError.Code, total: Duration) {
    state.withLock { $0.failures[code, default: Total()].add(total) }
  }
}

extension ModelStatistics.Total {
  public mutating func add(_ duration: Duration) {
    count += 1
    nanoseconds += duration.nanoseconds
  }
}

extension Duration {
  /// Whole nanoseconds.
  public var nanoseconds: Int {
    let parts = components
    return Int(parts.seconds) * 1_000_000_000 + Int(parts.attoseconds / 1_000_000_000)
  }
}
