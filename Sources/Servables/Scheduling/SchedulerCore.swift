import ApusExport
import ApusTensor
import Dispatch

/// The queue and the threads behind a ``Scheduler``. The threads hold it, so it lives until the last one has ended.
///
/// One lock guards everything that changes. Nobody holds it while a model runs, memory is copied or a task is resumed.
final class SchedulerCore: @unchecked Sendable {
  private let servable: any Servable
  private let name: String
  private let options: SchedulingOptions
  private let statistics: ModelStatistics
  private let instances: Int
  private let levels: Int
  private let isLarge: Bool

  private let monitor = Monitor()
  private var groups: [RequestGroup.Key: RequestGroup] = [:]
  /// Requests that are in the queue, whole or in part.
  private var waiting = 0
  private var waitingBytes = 0
  private var waitingByLevel: [Int]
  private var arrivals = 0
  private var isClosing = false
  private var drainers: [CheckedContinuation<Void, Never>] = []
  /// Where answers keep the order of arrival: those that have not left.
  private var inOrder: [WaitingRequest?] = []
  private var inOrderStart = 0

  /// Threads that exist; the number of a thread is below that.
  private var threads = 0
  /// Those that sleep, and how many of them have been called.
  private var sleeping = 0
  private var called = 0
  /// When the first of the sleeping wakes by itself.
  private var alarm: ContinuousClock.Instant?
  private struct Run {
    var begun: ContinuousClock.Instant
    var expected: Duration
  }
  /// By thread.
  private var runs: [Run?]

  private var timer: (any DispatchSourceTimer)?
  private var timerTime: ContinuousClock.Instant?

  init(_ servable: any Servable, name: String, options: SchedulingOptions, statistics: ModelStatistics) {
    (self.servable, self.name, self.options, self.statistics) = (servable, name, options, statistics)
    instances = min(max(options.instances, 1), 256)
    levels = min(max(options.priorityLevels, 1), 256)
    isLarge = Self.isLarge(servable)
    waitingByLevel = Array(repeating: 0, count: levels)
    runs = Array(repeating: nil, count: instances)
  }

  deinit { timer?.cancel() }

  /// Whether a model is planned for few sizes of batches: each plan keeps weights packed for itself.
  static func isLarge(_ servable: any Servable) -> Bool { servable.byteCount > 64 << 20 }

  // MARK: From tasks

  /// Takes a request into the queue, or answers at once that it is not taken.
  func submit(_ request: WaitingRequest, _ continuation: CheckedContinuation<Outcome, Never>) {
    let now = ContinuousClock.now
    monitor.lock()
    if request.isCancelled {
      request.state = .finished
      monitor.unlock()
      continuation.resume(returning: .failure(Self.cancelled))
      return
    }
    let group: RequestGroup
    do throws(ServingError) {
      group = try admit(request, now)
    } catch {
      request.state = .finished
      monitor.unlock()
      continuation.resume(returning: .failure(error))
      return
    }
    request.continuation = continuation
    request.state = .waiting
    enqueue(request, group)
    arm(request, now)
    let (start, call) = callThreads(for: group, now)
    monitor.unlock()
    if call { monitor.signal() }
    if start >= 0 { startWorker(start) }
  }

  /// Ends a request that nobody waits for any more; a run that has begun goes on without it.
  func cancel(_ request: WaitingRequest) {
    var resumptions = Resumptions()
    monitor.lock()
    request.isCancelled = true
    if request.state == .waiting { settle(request, .failure(Self.cancelled), isOrdered: false, &resumptions) }
    monitor.unlock()
    resumptions.resume()
  }

  private static let cancelled = ServingError(.cancelled, "the request was cancelled")

  /// Takes no more requests and ends the threads when the queue is empty.
  func close() {
    monitor.withLock { isClosing = true }
    monitor.broadcast()
  }

  /// The same, and waits until that has happened.
  func drain() async {
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      monitor.lock()
      isClosing = true
      let isDone = threads == 0
      if !isDone { drainers.append(continuation) }
      monitor.unlock()
      monitor.broadcast()
      if isDone { continuation.resume() }
    }
  }

  // MARK: Admission

  /// Finds a request's level and group, if it may wait.
  private func admit(_ request: WaitingRequest, _ now: ContinuousClock.Instant) throws(ServingError) -> RequestGroup {
    if isClosing { throw ServingError(.unavailable, "the model '\(name)' is being unloaded") }
    if request.byteCount > options.maxQueueBytes {
      throw ServingError(
        .resourceExhausted,
        "the inputs have \(request.byteCount) bytes; the model '\(name)' takes at most \(options.maxQueueBytes)")
    }
    var level = request.priority ?? 0
    if level < 1 || level > levels { level = options.defaultPriorityLevel }
    if level < 1 || level > levels { level = levels }
    request.level = level - 1
    let policy = options.priorityPolicies[level] ?? options.queuePolicy
    request.timeout = policy.defaultTimeout.map { request.arrived + $0 }
    if policy.allowTimeoutOverride { request.dropTime = request.deadline }
    if let deadline = request.deadline, deadline <= now {
      throw ServingError(.deadlineExceeded, "the deadline had passed when the request came")
    }
    let group = group(for: request)
    if let sizes = group.sizes, request.examples > sizes.most, !(options.batching?.splitsLargeRequests ?? true) {
      throw ServingError(
        .invalidArgument, "the request has \(request.examples) examples; the model '\(name)' takes at most \(sizes.most) at once")
    }
    // An instance that is idle takes a request at once, so it will not wait.
    let idle = instances - runs.count { $0 != nil }
    if waiting >= options.maxQueueSize + idle {
      throw busy("\(waiting) requests wait for the model '\(name)'", group, now)
    }
    if policy.maxQueueSize > 0, waitingByLevel[request.level] >= policy.maxQueueSize + idle {
      throw busy("\(waitingByLevel[request.level]) requests of this priority wait for the model '\(name)'", group, now)
    }
    if waitingBytes > options.maxQueueBytes - request.byteCount {
      throw busy("requests of \(waitingBytes) bytes wait for the model '\(name)'", group, now)
    }
    guard options.maxQueueWait != nil || request.expiry != nil, let wait = expectedWait(level: request.level, now) else {
      return group
    }
    if let most = options.maxQueueWait, wait > most {
      throw ServingError(
        .unavailable, "the model '\(name)' is busy: the request would wait for about \(wait.milliseconds) ms",
        retryAfter: wait - most)
    }
    // Nobody is refused by a guess while nothing is ahead of it.
    if wait > .zero, let last = request.expiry, policy.timeoutAction == .reject || request.dropTime == last {
      let own =
        request.deadline == nil ? 0 : group.times.expected(examples: request.examples, most: group.sizes?.most ?? .max) ?? 0
      // What is expected is right half of the time; a quarter more, and few runs are for nothing.
      if now + (wait + .nanoseconds(Int(own))) * 5 / 4 > last {
        throw ServingError(
          .unavailable,
          "the model '\(name)' is busy: the request would wait for about \(wait.milliseconds) ms, longer than it may",
          retryAfter: wait)
      }
    }
    return group
  }

  private func busy(_ what: String, _ group: RequestGroup, _ now: ContinuousClock.Instant) -> ServingError {
    let wait = expectedWait(level: levels - 1, now) ?? .milliseconds(100)
    return ServingError(.unavailable, what + " already", retryAfter: max(wait, .milliseconds(1)))
  }

  /// How long a new request of this level would wait until it is begun; nil while nothing has been measured.
  private func expectedWait(level: Int, _ now: ContinuousClock.Instant) -> Duration? {
    guard runs.allSatisfy({ $0 != nil }) || waiting > 0 else { return .zero }
    var sum = 0.0
    for group in groups.values where group.count > 0 {
      let examples = group.examples(upTo: level)
      guard let time = group.expected(examples) else { return nil }
      sum += time
    }
    var free = Duration.seconds(1 << 30)
    for run in runs { free = min(free, run.map { max(.zero, $0.expected - (now - $0.begun)) } ?? .zero) }
    return free + .nanoseconds(Int(min(sum / Double(instances), 1e18)))
  }

  private func group(for request: WaitingRequest) -> RequestGroup {
    let layout = request.layout
    let joins = options.batching != nil && layout.batchAxis != nil && request.examples > 0
    let pads = options.batching?.padsVariableLengths ?? false
    let key: RequestGroup.Key
    if joins {
      key = .init(layout: layout.number, sizes: pads ? [] : layout.otherAxes.map { request.sizes[$0] })
    } else {
      // What runs by itself need not agree with anything; a mark keeps it apart from what is joined.
      key = .init(layout: layout.number, sizes: [-1])
    }
    if let group = groups[key] { return group }
    // Groups are remembered for their measured times; clients cannot make the table grow with ever new sizes.
    if groups.count >= 256, let idle = groups.first(where: { $0.value.count == 0 })?.key { groups[idle] = nil }
    let sizes = joins ? options.batching.map { BatchSizes($0, bounds: layout.batchBounds, isLarge: isLarge) } : nil
    let group = RequestGroup(key, layout, sizes: sizes, levels: levels)
    groups[key] = group
    return group
  }

  // MARK: The queue

  private func enqueue(_ request: WaitingRequest, _ group: RequestGroup) {
    let examples = request.examples
    let most = group.sizes?.most ?? .max
    var counts = [examples]
    if examples > most {
      let pieces = (examples - 1) / most + 1
      let lowest = request.layout.batchBounds.lowerBound
      let rest = examples - (pieces - 1) * most
      if rest >= lowest {
        counts = Array(repeating: most, count: pieces - 1) + [rest]
      } else if examples / pieces >= lowest {
        // No part may be smaller than the model takes.
        counts = (0..<pieces).map { examples / pieces + ($0 < examples % pieces ? 1 : 0) }
      }
    }
    var start = 0
    for (i, count) in counts.enumerated() {
      arrivals += 1
      let part = WaitingPart(request, index: i, group, start: start, count: count, number: arrivals)
      request.parts.append(part)
      group.append(part, level: request.level)
      start += count
    }
    request.answers = Array(repeating: nil, count: counts.count)
    request.missing = counts.count
    request.queued = counts.count
    waiting += 1
    waitingBytes += request.byteCount
    waitingByLevel[request.level] += 1
    if options.batching?.preservesOrder == true { inOrder.append(request) }
    statistics.update { $0.pending += 1 }
  }

  /// Takes a part out of its queue.
  private func dequeue(_ part: WaitingPart) {
    guard part.isQueued else { return }
    part.group.remove(part)
    let request = part.request
    request.queued -= 1
    if request.queued == 0 {
      waiting -= 1
      waitingBytes -= request.byteCount
      waitingByLevel[request.level] -= 1
      statistics.update { $0.pending -= 1 }
    }
  }

  /// Tasks to resume when the lock is free.
  private struct Resumptions {
    private var first: (CheckedContinuation<Outcome, Never>, Outcome)?
    private var others: [(CheckedContinuation<Outcome, Never>, Outcome)] = []

    var isEmpty: Bool { first == nil }

    mutating func add(_ continuation: CheckedContinuation<Outcome, Never>, _ outcome: Outcome) {
      if first == nil { first = (continuation, outcome) } else { others.append((continuation, outcome)) }
    }

    func resume() {
      if let first { first.0.resume(returning: first.1) }
      for (continuation, outcome) in others { continuation.resume(returning: outcome) }
    }
  }

  /// Gives a request its outcome, once.
  private func settle(_ request: WaitingRequest, _ outcome: Outcome, isOrdered: Bool = true, _ resumptions: inout Resumptions) {
    guard request.state == .waiting else { return }
    request.state = .finished
    for part in request.parts { dequeue(part) }
    request.parts = []
    request.answers = []
    guard options.batching?.preservesOrder == true else {
      if let continuation = request.continuation {
        request.continuation = nil
        resumptions.add(continuation, outcome)
      }
      return
    }
    if isOrdered {
      request.heldOutcome = outcome
    } else if let continuation = request.continuation {
      request.continuation = nil
      resumptions.add(continuation, outcome)
    }
    while inOrderStart < inOrder.count, let next = inOrder[inOrderStart], next.state == .finished {
      inOrder[inOrderStart] = nil
      if let continuation = next.continuation, let outcome = next.heldOutcome {
        resumptions.add(continuation, outcome)
        next.continuation = nil
        next.heldOutcome = nil
      }
      inOrderStart += 1
    }
    if inOrderStart > 64, inOrderStart * 2 > inOrder.count {
      inOrder.removeFirst(inOrderStart)
      inOrderStart = 0
    }
  }

  // MARK: Time

  /// Sees to it that a request's deadline is noticed while every thread runs the model.
  private func arm(_ request: WaitingRequest, _ now: ContinuousClock.Instant) {
    guard let expiry = request.expiry, timerTime.map({ expiry < $0 }) ?? true else { return }
    setTimer(expiry, now)
  }

  private func setTimer(_ time: ContinuousClock.Instant, _ now: ContinuousClock.Instant) {
    // Many deadlines close to each other are noticed together.
    let time = max(time, now + .milliseconds(1))
    timerTime = time
    let timer: any DispatchSourceTimer
    if let existing = self.timer {
      timer = existing
    } else {
      timer = DispatchSource.makeTimerSource(queue: .global())
      timer.setEventHandler { [weak self] in self?.timerFired() }
      timer.activate()
      self.timer = timer
    }
    // Far ones are looked at again in between.
    let delay = min(time - now, .seconds(3600))
    timer.schedule(deadline: .now() + .nanoseconds(delay.nanoseconds), leeway: .microseconds(500))
  }

  private func timerFired() {
    var resumptions = Resumptions()
    monitor.lock()
    let now = ContinuousClock.now
    timerTime = nil
    var next: ContinuousClock.Instant?
    for group in groups.values where group.count > 0 {
      group.forEach { part in
        guard part.request.state == .waiting, let expiry = part.request.expiry else { return }
        if expiry <= now { expire(part, now, &resumptions) }
        if part.isQueued, let expiry = part.request.expiry { next = next.map { min($0, expiry) } ?? expiry }
      }
    }
    if let next { setTimer(next, now) }
    monitor.unlock()
    resumptions.resume()
  }

  /// Does what is due with a request whose time is over: it is dropped, or put behind all others.
  private func expire(_ part: WaitingPart, _ now: ContinuousClock.Instant, _ resumptions: inout Resumptions) {
    let request = part.request
    if let drop = request.dropTime, drop <= now {
      settle(request, .failure(ServingError(.deadlineExceeded, "the deadline passed while the request waited")), &resumptions)
      return
    }
    guard let timeout = request.timeout, timeout <= now else { return }
    let policy = options.priorityPolicies[request.level + 1] ?? options.queuePolicy
    switch policy.timeoutAction {
    case .reject:
      let waited = (now - request.arrived).milliseconds
      settle(
        request,
        .failure(
          ServingError(
            .unavailable, "the request waited for \(waited) ms, longer than requests to the model '\(name)' may",
            retryAfter: expectedWait(level: request.level, now))), &resumptions)
    case .delay:
      request.timeout = nil
      for part in request.parts where part.isQueued {
        part.group.remove(part)
        part.group.append(part, level: levels)
      }
    }
  }

  // MARK: Threads

  /// Whom a new request of this group, or what else waits, needs: the number of a thread to start, or -1; and whether to call one that sleeps.
  private func callThreads(for group: RequestGroup?, _ now: ContinuousClock.Instant) -> (start: Int, call: Bool) {
    if sleeping > called {
      // Whoever sleeps until the group is due need not be woken before.
      if let group, let due = dueTime(group), due > now, let alarm, alarm <= due { return (-1, false) }
      called += 1
      return (-1, true)
    }
    if threads < instances {
      threads += 1
      return (threads - 1, false)
    }
    return (-1, false)
  }

  private func startWorker(_ number: Int) {
    if startWorkerThread({ self.work(number) }) { return }
    var resumptions = Resumptions()
    var done: [CheckedContinuation<Void, Never>] = []
    monitor.lock()
    threads -= 1
    // Others do the work, if there are others.
    if threads == 0 {
      let error = ServingError(.resourceExhausted, "the system has no thread left for the model '\(name)'")
      for group in groups.values {
        group.forEach { settle($0.request, .failure(error), &resumptions) }
      }
      if isClosing { swap(&done, &drainers) }
    }
    monitor.unlock()
    resumptions.resume()
    for continuation in done { continuation.resume() }
  }

  private func work(_ number: Int) {
    monitor.lock()
    while true {
      var resumptions = Resumptions()
      var wake: ContinuousClock.Instant?
      let now = ContinuousClock.now
      if let batch = take(now, &wake, &resumptions) {
        let expected = batch.group.times.expected(size: batch.size) ?? 0
        runs[number] = Run(begun: now, expected: .nanoseconds(Int(expected)))
        // One call is enough for many requests: whoever takes some calls the next one.
        let (start, call) = waiting > 0 ? callThreads(for: nil, now) : (-1, false)
        monitor.unlock()
        if call { monitor.signal() }
        if start >= 0 { startWorker(start) }
        resumptions.resume()
        run(batch, number)
        monitor.lock()
        continue
      }
      if !resumptions.isEmpty {
        monitor.unlock()
        resumptions.resume()
        monitor.lock()
        continue
      }
      if isClosing, waiting == 0 { break }
      sleeping += 1
      if let wake {
        alarm = alarm.map { min($0, wake) } ?? wake
        monitor.wait(atMost: (wake - now).nanoseconds)
        alarm = nil
      } else {
        monitor.wait()
      }
      sleeping -= 1
      if called > 0 { called -= 1 }
    }
    threads -= 1
    var done: [CheckedContinuation<Void, Never>] = []
    if threads == 0 { swap(&done, &drainers) }
    monitor.unlock()
    for continuation in done { continuation.resume() }
  }

  // MARK: Batches

  /// When a batch of this group is begun at the latest; nil: at once.
  private func dueTime(_ group: RequestGroup) -> ContinuousClock.Instant? {
    guard let sizes = group.sizes, let batching = options.batching, batching.maxQueueDelay > .zero, !isClosing else { return nil }
    if group.examples >= sizes.most { return nil }
    if let least = sizes.leastPreferred, group.examples >= least { return nil }
    guard let due = group.oldest.map({ $0 + batching.maxQueueDelay }) else { return nil }
    guard let latest = group.latestStart else { return due }
    // Nobody is dropped because of waiting for others.
    let time = group.times.expected(size: max(group.examples, 1)) ?? 0
    return min(due, latest - .nanoseconds(Int(2 * time)))
  }

  /// The batch that is next, or when to look again.
  private func take(
    _ now: ContinuousClock.Instant, _ wake: inout ContinuousClock.Instant?, _ resumptions: inout Resumptions
  ) -> Batch? {
    // A group whose requests have all expired gives none.
    while true {
      var best: (group: RequestGroup, level: Int, number: Int)?
      wake = nil
      for group in groups.values where group.count > 0 {
        if let due = dueTime(group), due > now {
          wake = wake.map { min($0, due) } ?? due
          continue
        }
        guard let head = group.head else { continue }
        if best.map({ (head.level, head.number) < ($0.level, $0.number) }) ?? true { best = (group, head.level, head.number) }
      }
      guard let group = best?.group else { return nil }
      if let batch = take(from: group, now, &resumptions) { return batch }
    }
  }

  private func take(from group: RequestGroup, _ now: ContinuousClock.Instant, _ resumptions: inout Resumptions) -> Batch? {
    let layout = group.layout
    var parts: [WaitingPart] = []
    var sums: [Int] = []
    var padding = PaddedSizes(layout, isOn: group.sizes != nil && options.batching?.padsVariableLengths == true)
    gathering: for level in 0..<group.levels {
      var next = group.first(level)
      while let part = next {
        next = part.next
        if let expiry = part.request.expiry, expiry <= now {
          // A request that is only put behind is met again at its new place.
          expire(part, now, &resumptions)
          continue
        }
        let sum = (sums.last ?? 0) + part.count
        if let sizes = group.sizes, !parts.isEmpty, sum > sizes.most || !padding.takes(part) { break gathering }
        padding.add(part)
        parts.append(part)
        sums.append(sum)
        if group.sizes == nil { break gathering }
      }
    }
    guard !parts.isEmpty else { return nil }
    var size = sums[0]
    if let sizes = group.sizes {
      let (count, padded) = choose(group, sizes, sums)
      if count < parts.count {
        parts.removeSubrange(count...)
        padding = PaddedSizes(layout, isOn: padding.isOn)
        for part in parts { padding.add(part) }
      }
      size = padded
    }
    for part in parts { dequeue(part) }
    var target = parts[0].request.sizes
    if let axis = layout.batchAxis, group.sizes != nil { target[axis] = size }
    if padding.isOn { padding.fill(&target, rounds: options.batching?.adaptsSizes == true) }
    return Batch(
      group: group, layout: layout, parts: parts, examples: sums[parts.count - 1], size: size, sizes: target, begun: now)
  }

  /// How many of the parts that wait make the next batch, and its size with padding.
  /// - Parameter sums: examples of the first part, the first two, …; none above the most.
  private func choose(_ group: RequestGroup, _ sizes: BatchSizes, _ sums: [Int]) -> (count: Int, size: Int) {
    if !sizes.preferred.isEmpty {
      let count = (sums.lastIndex { sizes.preferred.contains($0) } ?? sums.count - 1) + 1
      return (count, sizes.padded(sums[count - 1]))
    }
    func size(_ count: Int) -> Int {
      // One request by itself runs at its own size, as it would without batches.
      count == 1 && options.batching?.allowedBatchSizes.isEmpty != false ? sums[0] : sizes.padded(sums[count - 1])
    }
    guard options.batching?.adaptsSizes == true, !sizes.ladder.isEmpty else { return (sums.count, size(sums.count)) }
    group.choices += 1
    // Now and then the largest batch is tried again, since what was measured may have been another time's.
    if group.choices % 64 == 0 { return (sums.count, size(sums.count)) }
    var best: (count: Int, cost: Double)?
    var count = 0
    for step in sizes.ladder {
      while count < sums.count, sums[count] <= step { count += 1 }
      guard count > 0 else { continue }
      if count == best?.count { continue }
      let time = group.times.expected(size: size(count)) ?? Double(1 + size(count))
      let cost = time / Double(sums[count - 1])
      // Equal ones, within what can be measured, leave the larger batch: fewer wait.
      if best.map({ cost < $0.cost * 1.03 }) ?? true { best = (count, min(cost, best?.cost ?? cost)) }
      if count == sums.count { break }
    }
    let chosen = best?.count ?? 1
    return (chosen, size(chosen))
  }

  /// Runs a batch on this thread and gives its requests their answers.
  private func run(_ batch: Batch, _ thread: Int) {
    let parts = batch.parts
    var outcomes: [Result<Answer, ServingError>]
    do throws(ServingError) {
      outcomes = try execute(batch).map { .success($0) }
    } catch {
      outcomes = [.failure(error)]
      if parts.count > 1 {
        // Whose fault it is shows when each runs by itself.
        outcomes = parts.map { part in
          do throws(ServingError) {
            if monitor.withLock({ part.request.state == .finished }) { throw Self.cancelled }
            var alone = batch
            alone.parts = [part]
            alone.examples = part.count
            alone.size =
              options.batching?.allowedBatchSizes.isEmpty != false
              ? part.count : batch.group.sizes?.padded(part.count) ?? part.count
            alone.sizes = part.request.sizes
            if let axis = batch.layout.batchAxis { alone.sizes[axis] = alone.size }
            alone.begun = .now
            var answer = try execute(alone)[0]
            answer.timings.queue = batch.begun - part.request.arrived
            return .success(answer)
          } catch {
            return .failure(error)
          }
        }
      }
    }
    var resumptions = Resumptions()
    monitor.lock()
    // Before anybody is told: whoever sends the next request finds this thread free.
    runs[thread] = nil
    for (part, outcome) in zip(parts, outcomes) {
      let request = part.request
      guard request.state == .waiting else { continue }
      switch outcome {
      case .failure(let error): settle(request, .failure(error), &resumptions)
      case .success(let answer):
        request.missing -= 1
        if request.parts.count == 1 {
          settle(request, .success([answer]), &resumptions)
        } else {
          request.answers[part.index] = answer
          if request.missing == 0 { settle(request, .success(request.answers.compactMap { $0 }), &resumptions) }
        }
      }
    }
    monitor.unlock()
    resumptions.resume()
  }

  private func execute(_ batch: Batch) throws(ServingError) -> [Answer] {
    let inputs = batch.inputs()
    let joined = ContinuousClock.now
    let results: [String: Tensor]
    do throws(ServingError) {
      results = try servable.run(inputs, signature: batch.layout.name)
    } catch {
      statistics.update { $0.executionCount += 1 }
      throw error
    }
    let computed = ContinuousClock.now
    let shares = try batch.split(results)
    let end = ContinuousClock.now
    statistics.update { snapshot in
      snapshot.executionCount += 1
      snapshot.inferenceCount += batch.examples
      // Clients may send any number of examples, but not have us count each of them apart.
      let bin = batch.examples <= 1_024 ? batch.examples : 1 << (Int.bitWidth - (batch.examples - 1).leadingZeroBitCount)
      snapshot.batches[bin, default: .init()].add(computed - joined)
    }
    monitor.withLock { batch.group.times.note(size: batch.size, nanoseconds: (end - batch.begun).nanoseconds) }
    var timings = InferenceTimings()
    timings.computeInput = joined - batch.begun
    timings.compute = computed - joined
    timings.computeOutput = end - computed
    timings.batchSize = batch.examples
    return zip(batch.parts, shares).map { part, outputs in
      timings.queue = batch.begun - part.request.arrived
      return Answer(outputs: outputs, timings: timings)
    }
  }
}

/// The sizes of open dimensions that requests of different lengths are padded to.
private struct PaddedSizes {
  let isOn: Bool
  private let layout: SignatureLayout
  private var longest: [Int]
  private var examples = 0
  private var bytes = 0.0

  init(_ layout: SignatureLayout, isOn: Bool) {
    (self.layout, self.isOn) = (layout, isOn && !layout.otherAxes.isEmpty)
    longest = Array(repeating: 0, count: self.isOn ? layout.signature.openDimensions.count : 0)
  }

  /// Whether the batch stays within four times the memory that its requests take by themselves: one request that is long in one
  /// dimension and one in another would otherwise fill the memory between them.
  func takes(_ part: WaitingPart) -> Bool {
    guard isOn else { return true }
    let merged = zip(longest, part.request.sizes).map { max($0, $1) }
    return elements(merged, examples + part.count) <= 4 * (bytes + elements(part.request.sizes, part.count)) + 65_536
  }

  mutating func add(_ part: WaitingPart) {
    guard isOn else { return }
    bytes += elements(part.request.sizes, part.count)
    for i in longest.indices { longest[i] = max(longest[i], part.request.sizes[i]) }
    examples += part.count
  }

  private func elements(_ sizes: [Int], _ examples: Int) -> Double {
    var sum = 0.0
    for (input, axes) in zip(layout.signature.inputs, layout.inputAxes) {
      var product = Double(examples)
      for (dimension, axis) in zip(input.spec.dimensions, axes).dropFirst() {
        if axis >= 0 { product *= Double(sizes[axis]) } else if case .fixed(let size) = dimension { product *= Double(size) }
      }
      sum += product
    }
    return sum
  }

  /// - Parameter rounds: whether lengths are rounded up to four steps for each doubling, so that the model is planned for few.
  func fill(_ sizes: inout [Int], rounds: Bool) {
    for axis in layout.otherAxes {
      var size = longest[axis]
      if rounds, size > 4 {
        let step = (1 << (Int.bitWidth - 1 - size.leadingZeroBitCount)) / 4
        size = (size + step - 1) / step * step
      }
      sizes[axis] = min(size, max(longest[axis], layout.signature.openDimensions[axis].sizes.upperBound))
    }
  }
}

extension RequestGroup {
  /// The expected time in nanoseconds for so many examples, or, where requests run by themselves, requests.
  fileprivate func expected(_ examples: Int) -> Double? {
    if let sizes { return times.expected(examples: examples, most: sizes.most) }
    return times.averagePerExample.map { $0 * Double(examples) }
  }
}

extension Duration {
  /// For sentences.
  fileprivate var milliseconds: Int { nanoseconds / 1_000_000 }
}
