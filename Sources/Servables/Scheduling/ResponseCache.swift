import ApusCPU
import ApusFormats
import ApusTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Answers to requests that came before, those used longest ago making room. A hash finds an entry, and the inputs are then compared
/// in full: an answer is never another request's.
struct ResponseCache {
  struct Key: Hashable {
    let signature: Int
    let hash: UInt64

    init(_ signature: Int, _ inputs: [Tensor]) {
      self.signature = signature
      hash = ResponseCache.hash(inputs)
    }
  }

  private final class Entry {
    let key: Key
    /// In the signature's order.
    let inputs: [Tensor]
    let outputs: [Tensor]
    let byteCount: Int
    /// The list by use, the latest first.
    var next: Entry?
    unowned(unsafe) var previous: Entry?

    init(_ key: Key, _ inputs: [Tensor], _ outputs: [Tensor], byteCount: Int) {
      (self.key, self.inputs, self.outputs, self.byteCount) = (key, inputs, outputs, byteCount)
    }
  }

  private var entries: [Key: Entry] = [:]
  private var first: Entry?
  private unowned(unsafe) var last: Entry?
  private(set) var byteCount = 0
  let limit: Int

  init(limit: Int) { self.limit = limit }

  private static func hash(_ inputs: [Tensor]) -> UInt64 {
    var hash: UInt64 = 0
    for tensor in inputs {
      for size in tensor.shape { hash = (hash ^ UInt64(truncatingIfNeeded: size)) &* 0x9ddf_ea08_eb38_2d69 }
      let bytes = tensor.withUnsafeBytes { FarmHash.fingerprint($0) }
      hash = (hash.multipliedFullWidth(by: 0x9ae1_6a3b_2f90_404f).high ^ hash ^ bytes) &* 0x9ddf_ea08_eb38_2d69
    }
    return hash
  }

  /// A candidate, to be compared without a lock: whether its inputs are the request's is for ``areEqual(_:_:)`` to say.
  mutating func candidate(_ key: Key) -> (inputs: [Tensor], outputs: [Tensor])? {
    guard let entry = entries[key] else { return nil }
    unlink(entry)
    link(entry)
    return (entry.inputs, entry.outputs)
  }

  static func areEqual(_ a: [Tensor], _ b: [Tensor]) -> Bool {
    a.count == b.count
      && zip(a, b).allSatisfy { a, b in
        a.type == b.type && a.withUnsafeBytes { a in b.withUnsafeBytes { b in haveSameBytes(a, b) } }
      }
  }

  mutating func insert(_ key: Key, _ inputs: [Tensor], _ outputs: [Tensor]) {
    let bytes = (inputs + outputs).reduce(256) { $0 + $1.count * $1.elementType.byteSize }
    guard bytes <= limit else { return }
    if let old = entries[key] { remove(old) }
    let entry = Entry(key, inputs, outputs, byteCount: bytes)
    entries[key] = entry
    byteCount += bytes
    link(entry)
    while byteCount > limit, let last { remove(last) }
  }

  private mutating func remove(_ entry: Entry) {
    unlink(entry)
    entries[entry.key] = nil
    byteCount -= entry.byteCount
  }

  private mutating func link(_ entry: Entry) {
    entry.next = first
    first?.previous = entry
    first = entry
    if last == nil { last = entry }
  }

  private mutating func unlink(_ entry: Entry) {
    let (previous, next) = (entry.previous, entry.next)
    if let previous { previous.next = next } else { first = next }
    if let next { next.previous = previous } else { last = previous }
    entry.next = nil
    entry.previous = nil
  }
}

/// A tensor with memory of its own: a view of a batch's results would keep all of them.
func compact(_ tensor: Tensor) -> Tensor {
  let array = tensor.array
  let bytes = array.elementCount * array.elementType.byteSize
  return array.isRowMajor && (array.storage?.byteCount ?? 0) <= bytes ? tensor : Tensor(values: array.copy())
}

private func haveSameBytes(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Bool {
  guard a.count == b.count, let a0 = a.baseAddress, let b0 = b.baseAddress else { return a.count == b.count }
  return memcmp(a0, b0, a.count) == 0
}

/// A cache that many tasks use, and what is being computed for it: requests with the same inputs at the same time share one
/// computation.
final class SharedCache: @unchecked Sendable {
  /// A computation that others may wait for.
  final class Flight {
    let key: ResponseCache.Key
    let inputs: [Tensor]
    fileprivate var isOver = false
    fileprivate var outputs: [Tensor]?
    fileprivate var waiting: [Int: CheckedContinuation<Result<[Tensor]?, ServingError>, Never>] = [:]
    fileprivate var cancelled: Set<Int> = []
    fileprivate init(_ key: ResponseCache.Key, _ inputs: [Tensor]) { (self.key, self.inputs) = (key, inputs) }
  }

  enum Look {
    /// Answers of a request with the same hash.
    case found((inputs: [Tensor], outputs: [Tensor]))
    /// A request with the same hash is being computed.
    case inFlight(Flight)
    /// Nothing; others wait for this one if it is a flight.
    case missing(Flight?)
  }

  private let monitor = Monitor()
  private var entries: ResponseCache
  private var flights: [ResponseCache.Key: Flight] = [:]
  private var lastWaiter = 0

  init(limit: Int) { entries = ResponseCache(limit: limit) }

  func look(_ key: ResponseCache.Key, _ inputs: [Tensor], shares: Bool) -> Look {
    monitor.withLock {
      if let candidate = entries.candidate(key) { return .found(candidate) }
      guard shares else { return .missing(nil) }
      if let flight = flights[key] { return .inFlight(flight) }
      let flight = Flight(key, inputs)
      flights[key] = flight
      return .missing(flight)
    }
  }

  /// Keeps an answer, and gives it to those that wait.
  func insert(_ key: ResponseCache.Key, _ inputs: [Tensor], _ outputs: [Tensor], _ flight: Flight?) {
    monitor.withLock { entries.insert(key, inputs, outputs) }
    if let flight { end(flight, outputs) }
  }

  /// Ends a computation; those that wait get its results, or look again.
  func end(_ flight: Flight, _ outputs: [Tensor]? = nil) {
    let waiting = monitor.withLock {
      flight.isOver = true
      flight.outputs = outputs
      if flights[flight.key] === flight { flights[flight.key] = nil }
      let waiting = flight.waiting
      flight.waiting = [:]
      return waiting
    }
    for continuation in waiting.values { continuation.resume(returning: .success(outputs)) }
  }

  /// The results of a computation; nil if there are none.
  /// - Throws: ``ServingError``, `cancelled`, if the task is.
  func wait(for flight: Flight) async throws(ServingError) -> [Tensor]? {
    let unchecked = Unchecked(flight)
    let id = monitor.withLock {
      lastWaiter += 1
      return lastWaiter
    }
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { (continuation: CheckedContinuation<Result<[Tensor]?, ServingError>, Never>) in
        let flight = unchecked.flight
        let now: Result<[Tensor]?, ServingError>? = monitor.withLock {
          if flight.isOver { return .success(flight.outputs) }
          if flight.cancelled.remove(id) != nil { return .failure(Self.cancelled) }
          flight.waiting[id] = continuation
          return nil
        }
        if let now { continuation.resume(returning: now) }
      }
    } onCancel: {
      let flight = unchecked.flight
      let continuation = monitor.withLock {
        if flight.waiting[id] == nil { flight.cancelled.insert(id) }
        return flight.waiting.removeValue(forKey: id)
      }
      continuation?.resume(returning: .failure(Self.cancelled))
    }
    return try result.get()
  }

  private static let cancelled = ServingError(.cancelled, "the request was cancelled")

  /// The lock guards it.
  private struct Unchecked: @unchecked Sendable {
    let flight: Flight
    init(_ flight: Flight) { self.flight = flight }
  }
}
