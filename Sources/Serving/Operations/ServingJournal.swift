import ApusServables
import Dispatch
import Logging
import Synchronization

/// Keeps what happened to requests, in memory of a bounded size: counts, latencies of the last minutes, the last requests. What the
/// metrics, the status page and the traces show.
public final class ServingJournal: RequestJournal, Sendable {
  /// Which requests are written to the log.
  public enum RequestLog: String, Sendable, Hashable, CaseIterable {
    case none, failures, all
  }

  public struct Options: Sendable {
    /// Requests that are remembered one by one.
    public var recentCount = 512
    public var requestLog = RequestLog.failures
    /// The share of answered requests that is logged, from 0 to 1; failures always are.
    public var sampling = 1.0
    /// Lines of requests in the log in a second; more are counted, not written.
    public var maxLogLinesPerSecond = 1_000
    public init() {}
  }

  public let options: Options
  private let logger: Logger?
  /// The moment that all times here count from, and what the clock on the wall showed then.
  let start = ContinuousClock.now
  let startMicroseconds: Int
  private let state: Mutex<State>

  /// - Parameter logger: where requests are logged; nil for nowhere.
  public init(_ options: Options = Options(), logger: Logger? = nil) {
    self.options = options
    self.logger = options.requestLog == .none ? nil : logger
    startMicroseconds = wallMicroseconds()
    state = Mutex(State(recent: RecentRequests(capacity: max(options.recentCount, 1))))
  }

  public func note(_ record: RequestRecord) {
    let identity = RequestIdentity.current
    identity?.markNoted()
    let entry = JournalEntry(record, identity, start: start)
    let line = state.withLock { state in
      state.add(entry, record.statistics)
      return logger == nil ? LogDecision.no : state.decide(entry, options)
    }
    if let logger, line == .yes { log(entry, to: logger) }
  }

  private func log(_ entry: JournalEntry, to logger: Logger) {
    func milliseconds(_ nanoseconds: Int) -> Logger.MetadataValue { .stringConvertible(Double(nanoseconds / 1_000) / 1_000) }
    var metadata: Logger.Metadata = [
      "request_id": .string(entry.id), "model": .string(entry.model), "version": .stringConvertible(entry.version),
      "api": .string(entry.api.rawValue), "code": .string(entry.codeName), "total_ms": milliseconds(entry.total),
      "parse_ms": milliseconds(entry.parse),
    ]
    if let traceID = entry.traceID { metadata["trace_id"] = .string(traceID) }
    if let span = entry.parentSpanID { metadata["parent_span_id"] = .string(span) }
    if !entry.operation.isEmpty { metadata["operation"] = .string(entry.operation) }
    if let message = entry.message {
      metadata["error"] = .string(message)
      logger.log(level: entry.code == .internalError ? .error : .warning, "request failed", metadata: metadata)
    } else {
      metadata["queue_ms"] = milliseconds(entry.queue)
      metadata["compute_ms"] = milliseconds(entry.compute)
      metadata["batch_size"] = .stringConvertible(entry.batchSize)
      if entry.isCacheHit { metadata["cache_hit"] = .stringConvertible(true) }
      logger.info("request", metadata: metadata)
    }
  }

  // MARK: What is known

  /// The last requests, the newest first.
  func recent(_ count: Int) -> [JournalEntry] { state.withLock { $0.recent.last(count) } }

  /// The request of this id among those that are remembered; the newest, if there are several.
  func recent(id: String) -> JournalEntry? { state.withLock { $0.recent.first(id: id) } }

  /// Everything that metrics need, as it was at one moment.
  func totals() -> JournalTotals { state.withLock { $0.totals } }

  /// Counters of all versions that are or were served, which never go back: those of versions that have left are kept.
  func statistics(_ served: [ServedModel]) -> [ModelVersion: ModelStatistics.Snapshot] {
    state.withLock { state in
      for model in served { state.archive.watch(model.statistics, as: ModelVersion(model: model.name, version: model.version)) }
      return state.archive.totals()
    }
  }

  /// The last slots of five seconds of a model's requests.
  func window(_ model: String, slots: Int) -> [SlidingWindow.Slot] {
    let second = self.second
    return state.withLock { ($0.windows[model] ?? SlidingWindow()).last(slots, second: second) }
  }

  /// Whole seconds since the journal began.
  var second: Int { (ContinuousClock.now - start).nanoseconds / 1_000_000_000 }

  private enum LogDecision { case no, yes }

  private struct State {
    var recent: RecentRequests
    var totals = JournalTotals()
    var windows: [String: SlidingWindow] = [:]
    var archive = StatisticsArchive()
    var logSecond = 0
    var logLines = 0
    var sampled = 0.0

    mutating func add(_ entry: JournalEntry, _ statistics: ModelStatistics?) {
      recent.add(entry)
      totals.add(entry)
      if let statistics { archive.watch(statistics, as: ModelVersion(model: entry.model, version: entry.version)) }
      // Only a model that there is has a window, so strangers' names do not fill memory.
      guard entry.version != 0, windows[entry.model] != nil || windows.count < JournalTotals.maxModels else { return }
      windows[entry.model, default: SlidingWindow()].add(
        second: entry.ended / 1_000_000_000, nanoseconds: entry.code == nil ? entry.total : nil)
    }

    mutating func decide(_ entry: JournalEntry, _ options: Options) -> LogDecision {
      if entry.code == nil {
        guard options.requestLog == .all else { return .no }
        // Every so many, not by chance: cheaper, and the share is exact.
        sampled += options.sampling
        guard sampled >= 1 else { return .no }
        sampled -= sampled.rounded(.down)
      }
      let second = entry.ended / 1_000_000_000
      if second != logSecond { (logSecond, logLines) = (second, 0) }
      guard logLines < options.maxLogLinesPerSecond else {
        totals.droppedLogLines += 1
        return .no
      }
      logLines += 1
      return .yes
    }
  }
}

/// A model and a version, as labels of metrics.
struct ModelVersion: Sendable, Hashable, Comparable {
  var model: String
  var version: Int

  static func < (left: Self, right: Self) -> Bool { (left.model, left.version) < (right.model, right.version) }
}

/// A request as it is remembered; times in nanoseconds.
struct JournalEntry: Sendable {
  var api: RequestRecord.API
  var operation: String
  var id: String
  var traceID, parentSpanID: String?
  var model: String
  var version: Int
  /// Since the journal's start.
  var arrived: Int
  var parse, queue, computeInput, compute, computeOutput, total: Int
  var batchSize: Int
  var isCacheHit: Bool
  var code: ServingError.Code?
  var message: String?

  var ended: Int { arrived + total }
  var codeName: String { code?.name ?? "OK" }

  /// Texts of strangers are cut: the memory of the last requests is bounded.
  init(_ record: RequestRecord, _ identity: RequestIdentity?, start: ContinuousClock.Instant) {
    (api, model, version) = (record.api, record.model.cut(to: 256), record.version)
    operation = identity?.operation ?? ""
    id = (record.id.isEmpty ? identity?.id ?? "" : record.id).cut(to: 128)
    (traceID, parentSpanID) = (identity?.traceID, identity?.parentSpanID)
    arrived = max((record.arrived - start).nanoseconds, 0)
    (parse, total) = (record.parse.nanoseconds, record.total.nanoseconds)
    let timings = record.timings
    (queue, computeInput) = (timings.queue.nanoseconds, timings.computeInput.nanoseconds)
    (compute, computeOutput) = (timings.compute.nanoseconds, timings.computeOutput.nanoseconds)
    (batchSize, isCacheHit) = (timings.batchSize, timings.isCacheHit)
    (code, message) = (record.error?.code, record.error?.message.cut(to: 512))
  }
}

extension String {
  fileprivate func cut(to limit: Int) -> String { utf8.count <= limit ? self : String(prefix(limit / 4)) + "…" }
}

/// The last requests, in a ring.
struct RecentRequests: Sendable {
  private var entries: [JournalEntry] = []
  private var next = 0
  private let capacity: Int

  init(capacity: Int) { self.capacity = capacity }

  mutating func add(_ entry: JournalEntry) {
    if entries.count < capacity { entries.append(entry) } else { entries[next] = entry }
    next = (next + 1) % capacity
  }

  /// The newest first.
  func last(_ count: Int) -> [JournalEntry] {
    (0..<min(max(count, 0), entries.count)).map { entries[(next - 1 - $0 + entries.count) % entries.count] }
  }

  func first(id: String) -> JournalEntry? { last(entries.count).first { $0.id == id } }
}

/// Counts since the process began.
struct JournalTotals: Sendable {
  /// More models than this are not told apart in metrics of requests.
  static let maxModels = 1_024

  struct RequestKey: Sendable, Hashable {
    var api: RequestRecord.API
    var code: ServingError.Code?
  }

  /// TensorFlow Serving's labels.
  struct CountKey: Sendable, Hashable {
    var model: String
    var code: ServingError.Code?
  }

  struct LatencyKey: Sendable, Hashable {
    var model: String
    var api: RequestRecord.API
    var operation: String
  }

  /// Durations in one of TensorFlow Serving's series of buckets.
  struct Distribution: Sendable {
    let bounds: [Double]
    var buckets: [Int]
    var nanoseconds = 0

    init(_ bounds: [Double]) {
      self.bounds = bounds
      buckets = [Int](repeating: 0, count: bounds.count + 1)
    }

    mutating func add(_ duration: Int) {
      let microseconds = Double(duration) / 1_000
      var (low, high) = (0, bounds.count)
      while low < high {
        let middle = (low + high) / 2
        if bounds[middle] < microseconds { low = middle + 1 } else { high = middle }
      }
      buckets[low] += 1
      nanoseconds &+= max(duration, 0)
    }
  }

  /// Of the time in the queue, in microseconds: 100 · 1.2^i.
  static let queueBounds: [Double] = (0..<52).map { i in (0..<i).reduce(100.0) { bound, _ in bound * 1.2 } }

  var requests: [RequestKey: Int] = [:]
  var parse: [RequestRecord.API: ModelStatistics.Total] = [:]
  var counts: [CountKey: Int] = [:]
  var latencies: [LatencyKey: Distribution] = [:]
  var runtime: [String: Distribution] = [:]
  var queue: [String: Distribution] = [:]
  var droppedLogLines = 0

  mutating func add(_ entry: JournalEntry) {
    requests[RequestKey(api: entry.api, code: entry.code), default: 0] += 1
    // Version 0 is a request that found no model: its name is whatever a stranger wrote.
    let model = entry.version == 0 || (runtime[entry.model] == nil && runtime.count >= Self.maxModels) ? "" : entry.model
    counts[CountKey(model: model, code: entry.code), default: 0] += 1
    guard entry.version != 0 else { return }
    parse[entry.api, default: .init()].count += 1
    parse[entry.api, default: .init()].nanoseconds &+= entry.parse
    // Latencies are of requests that were answered.
    guard entry.code == nil else { return }
    latencies[
      LatencyKey(model: model, api: entry.api, operation: entry.operation), default: Distribution(ModelStatistics.bucketBounds)
    ].add(entry.total)
    runtime[model, default: Distribution(ModelStatistics.bucketBounds)].add(entry.compute)
    queue[model, default: Distribution(Self.queueBounds)].add(entry.queue)
  }
}

/// Counters of versions, which outlive the versions: a metric must not go back when a model is unloaded and loaded again.
struct StatisticsArchive: Sendable {
  /// Versions that have left, and of which no new ones came, beyond this number are forgotten, the oldest first.
  static let maxVersions = 4_096

  private struct Watched: Sendable {
    var current: ModelStatistics
    /// Of the same version, loaded earlier; the last requests may still end.
    var earlier: [ModelStatistics] = []
    /// Of those before.
    var folded = ModelStatistics.Snapshot()
    var order: Int
  }

  private var versions: [ModelVersion: Watched] = [:]
  private var order = 0

  mutating func watch(_ statistics: ModelStatistics, as key: ModelVersion) {
    guard let index = versions.index(forKey: key) else {
      order += 1
      if versions.count >= Self.maxVersions, let oldest = versions.min(by: { $0.value.order < $1.value.order }) {
        versions[oldest.key] = nil
      }
      versions[key] = Watched(current: statistics, order: order)
      return
    }
    let watched = versions.values[index]
    if watched.current === statistics || watched.earlier.contains(where: { $0 === statistics }) { return }
    order += 1
    versions.values[index].earlier.append(watched.current)
    versions.values[index].current = statistics
    versions.values[index].order = order
    if versions.values[index].earlier.count > 4 {
      versions.values[index].folded.add(versions.values[index].earlier.removeFirst().snapshot)
    }
  }

  func totals() -> [ModelVersion: ModelStatistics.Snapshot] {
    versions.mapValues { watched in
      var total = watched.current.snapshot
      total.add(watched.folded)
      for earlier in watched.earlier { total.add(earlier.snapshot) }
      return total
    }
  }
}

extension ModelStatistics.Total {
  mutating func add(_ other: Self) {
    count += other.count
    nanoseconds &+= other.nanoseconds
  }
}

extension ModelStatistics.Snapshot {
  /// Adds counters; what waits and what was last stay.
  mutating func add(_ other: Self) {
    success.add(other.success)
    for (code, total) in other.failures { failures[code, default: .init()].add(total) }
    queue.add(other.queue)
    computeInput.add(other.computeInput)
    compute.add(other.compute)
    computeOutput.add(other.computeOutput)
    cacheHit.add(other.cacheHit)
    cacheMiss.add(other.cacheMiss)
    inferenceCount += other.inferenceCount
    executionCount += other.executionCount
    for (size, total) in other.batches { batches[size, default: .init()].add(total) }
    for i in latencyBuckets.indices where i < other.latencyBuckets.count { latencyBuckets[i] += other.latencyBuckets[i] }
  }
}
