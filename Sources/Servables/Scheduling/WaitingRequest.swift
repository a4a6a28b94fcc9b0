import ApusTensor

/// What comes of a request: results by the signature's order, in one piece or, of a request that was split, in several.
struct Answer: Sendable {
  var outputs: [Tensor]
  var timings: InferenceTimings
}

typealias Outcome = Result<[Answer], ServingError>

/// A request from the time it is accepted until its answer is there. What changes is guarded by the scheduler's lock.
final class WaitingRequest: @unchecked Sendable {
  let layout: SignatureLayout
  let inputs: [String: Tensor]
  /// Of the signature's open dimensions.
  let sizes: [Int]
  let byteCount: Int
  let arrived: ContinuousClock.Instant
  let priority: Int?
  let deadline: ContinuousClock.Instant?

  enum State { case new, waiting, finished }
  var state = State.new
  var isCancelled = false
  var continuation: CheckedContinuation<Outcome, Never>?
  /// Kept until those that came before have theirs.
  var heldOutcome: Outcome?
  /// 0 is the first.
  var level = 0
  /// When it is dropped, if it still waits.
  var dropTime: ContinuousClock.Instant?
  /// When the queue's policy is applied, if it still waits.
  var timeout: ContinuousClock.Instant?
  var parts: [WaitingPart] = []
  var answers: [Answer?] = []
  var missing = 0
  /// Parts in the queue.
  var queued = 0

  init(
    _ layout: SignatureLayout, _ request: InferenceRequest, sizes: [Int], byteCount: Int, arrived: ContinuousClock.Instant
  ) {
    (self.layout, self.sizes, self.byteCount, self.arrived) = (layout, sizes, byteCount, arrived)
    (inputs, priority, deadline) = (request.inputs, request.priority, request.deadline)
  }

  var examples: Int { layout.batchAxis.map { sizes[$0] } ?? 1 }

  /// When something is to be done about it while it waits.
  var expiry: ContinuousClock.Instant? {
    switch (dropTime, timeout) {
    case (let a?, let b?): min(a, b)
    case (let a, let b): a ?? b
    }
  }
}

/// A request, or some of its examples, in a queue: a link of a list.
final class WaitingPart {
  let request: WaitingRequest
  let index: Int
  let group: RequestGroup
  /// Where its examples begin among the request's.
  let start: Int
  let count: Int
  /// The order of arrival.
  let number: Int
  fileprivate(set) var isQueued = false
  fileprivate(set) var level = 0
  fileprivate(set) var next: WaitingPart?
  fileprivate unowned(unsafe) var previous: WaitingPart?

  init(_ request: WaitingRequest, index: Int, _ group: RequestGroup, start: Int, count: Int, number: Int) {
    (self.request, self.index, self.group) = (request, index, group)
    (self.start, self.count, self.number) = (start, count, number)
  }
}

/// Requests that can be joined with each other, waiting. Taking one out costs the same wherever it is.
final class RequestGroup {
  struct Key: Hashable {
    var layout: Int
    /// Of the open dimensions that members must agree in.
    var sizes: [Int]
  }

  private struct List {
    var first: WaitingPart?
    unowned(unsafe) var last: WaitingPart?
    var examples = 0
  }

  let key: Key
  let layout: SignatureLayout
  /// nil: each request runs by itself.
  let sizes: BatchSizes?
  var times = BatchTimes()
  /// Choices of a size so far.
  var choices = 0
  /// By level; the last one is of requests that waited too long.
  private var lists: [List]
  private(set) var examples = 0
  private(set) var count = 0
  /// When one of them must be begun, or an earlier one had to be: a tenth of its time before that is over, and a little more.
  private(set) var latestStart: ContinuousClock.Instant?

  init(_ key: Key, _ layout: SignatureLayout, sizes: BatchSizes?, levels: Int) {
    (self.key, self.layout, self.sizes) = (key, layout, sizes)
    lists = Array(repeating: List(), count: levels + 1)
  }

  var levels: Int { lists.count }
  func first(_ level: Int) -> WaitingPart? { lists[level].first }
  func examples(upTo level: Int) -> Int { lists[...level].reduce(0) { $0 + $1.examples } }

  /// The level and number of arrival of the part that is next.
  var head: (level: Int, number: Int)? {
    for (level, list) in lists.enumerated() {
      if let first = list.first { return (level, first.number) }
    }
    return nil
  }

  /// When the part that has waited longest came. Those that waited too long already count as well.
  var oldest: ContinuousClock.Instant? { lists.compactMap { $0.first?.request.arrived }.min() }

  func append(_ part: WaitingPart, level: Int) {
    part.isQueued = true
    part.level = level
    part.previous = lists[level].last
    if let last = lists[level].last { last.next = part } else { lists[level].first = part }
    lists[level].last = part
    lists[level].examples += part.count
    examples += part.count
    count += 1
    if let expiry = part.request.expiry {
      let start = expiry - max((expiry - part.request.arrived) / 10, .milliseconds(5))
      latestStart = latestStart.map { min($0, start) } ?? start
    }
  }

  func remove(_ part: WaitingPart) {
    guard part.isQueued else { return }
    let level = part.level
    let (previous, next) = (part.previous, part.next)
    if let previous { previous.next = next } else { lists[level].first = next }
    if let next { next.previous = previous } else { lists[level].last = previous }
    part.next = nil
    part.previous = nil
    part.isQueued = false
    lists[level].examples -= part.count
    examples -= part.count
    count -= 1
    if count == 0 { latestStart = nil }
  }

  func forEach(_ body: (WaitingPart) -> Void) {
    for list in lists {
      var part = list.first
      while let current = part {
        part = current.next
        body(current)
      }
    }
  }
}
