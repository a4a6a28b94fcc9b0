import Apus
import ApusServables
import class ApusServables.Scheduler
import Testing

/// One request at a time, and how they wait.
@Suite struct SchedulingTests {
  @Test func anAnswerWithItsStatistics() async throws {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m")
    let x = someRows(1, count: 3)
    let response = try await scheduler.infer(requestOf(x))
    #expect(response.outputs.map(\.name) == ["y"])
    #expect(response.outputs[0].tensor.shape == [3, 4])
    #expect(response.outputs[0].tensor.floats == expected(x))
    #expect(response.timings.batchSize == 3)
    let statistics = scheduler.statistics.snapshot
    #expect(statistics.success.count == 1 && statistics.executionCount == 1 && statistics.inferenceCount == 3)
    #expect(statistics.batches[3]?.count == 1)
    #expect(statistics.pending == 0 && statistics.compute.count == 1 && statistics.queue.count == 1)
    #expect(statistics.lastInference > 1_600_000_000_000)
  }

  @Test func inputsAndOutputsAreCheckedBeforeAnythingRuns() async {
    let model = ControlledModel(["serve": ControlledModel.rows(1...8)])
    let scheduler = Scheduler(model, name: "m")
    func error(_ inputs: [String: Tensor], signature: String? = nil, outputs: [String]? = nil) async -> Answered {
      await scheduler.start(.init(signature: signature, inputs: inputs, outputs: outputs)).value
    }
    let good = someRows(0)
    #expect(await error([:]).message == "the input 'x', float32[batch, 4], is missing")
    #expect(await error(["x": good, "z": good]).message.contains("no input 'z'"))
    #expect(await error(["x": Tensor.zeros([1, 4], .int32)]).message.contains("'x' must be float32[batch, 4], got int32[1, 4]"))
    #expect(await error(["x": Tensor.zeros([1, 5])]).message.contains("got float32[1, 5]"))
    #expect(await error(["x": Tensor.zeros([4])]).message.contains("got float32[4]"))
    #expect(await error(["x": Tensor.zeros([9, 4])]).message.contains("'batch', must be from 1 to 8, got 9"))
    #expect(await error(["x": Tensor.zeros([0, 4])]).message.contains("must be from 1 to 8, got 0"))
    #expect(await error(["x": good], outputs: ["y", "scores"]).message.contains("no output 'scores'; there is y"))
    #expect(await error(["x": good], signature: "train").message.contains("no signature 'train'; there are serve"))
    #expect(model.batches.isEmpty)
    let failures = scheduler.statistics.snapshot.failures
    #expect(failures[.invalidArgument]?.count == 9 && failures.count == 1)
  }

  @Test func openDimensionsMustAgree() {
    let signature = Signature(
      inputs: [.init(name: "a", spec: .float32(["n"])), .init(name: "b", spec: .float32(["n", 2]))], outputs: [],
      openDimensions: [.init(name: "n", sizes: 1...9)])
    #expect(throws: Never.self) { try check(["a": .zeros([3]), "b": .zeros([3, 2])], against: signature) }
    let error = #expect(throws: ServingError.self) {
      try check(["a": .zeros([3]), "b": .zeros([4, 2])], against: signature)
    }
    #expect(error?.message == "the input 'b': its dimension 0, 'n', is 4, but 3 in 'a'")
    // The spec repeats the name alone; the bounds are the signature's.
    #expect(throws: ServingError.self) { try check(["a": .zeros([10]), "b": .zeros([10, 2])], against: signature) }
  }

  @Test func wantedOutputsAreFiltered() async throws {
    struct Two: Servable {
      var signatures: [String: Signature] {
        let batch = Dimension.open("batch")
        return [
          "s": Signature(
            inputs: [.init(name: "x", spec: .float32([batch]))],
            outputs: ["a", "b", "c"].map { .init(name: $0, elementType: .float32, dimensions: [batch]) },
            openDimensions: [.init(name: "batch", sizes: 1...9)])
        ]
      }
      var defaultSignature: String? { "s" }
      var byteCount: Int { 0 }
      var platform: String { "" }
      var classLabels: [String]? { nil }
      func run(_ inputs: [String: Tensor], signature: String?) throws(ServingError) -> [String: Tensor] {
        guard let x = inputs["x"] else { return [:] }
        return ["c": x + 3, "b": x + 2, "a": x + 1]
      }
    }
    let scheduler = Scheduler(Two(), name: "m")
    let x = Tensor([Float(5)], shape: [1])
    let all = try await scheduler.infer(.init(inputs: ["x": x]))
    #expect(all.outputs.map(\.name) == ["a", "b", "c"])
    let some = try await scheduler.infer(.init(inputs: ["x": x], outputs: ["c", "a"]))
    #expect(some.outputs.map(\.name) == ["a", "c"])
    #expect(some.outputs.map { $0.tensor.floats } == [[6], [8]])
  }

  @Test func whatTheModelThrowsIsTheAnswer() async {
    let scheduler = Scheduler(ControlledModel(), name: "m")
    let answer = await scheduler.start(requestOf(someRows(-1))).value
    #expect(answer.code == .invalidArgument && answer.message.contains("negative"))
    #expect(await scheduler.start(requestOf(someRows(1))).value.output == expected(someRows(1)))
  }

  @Test func instancesRunAtOnce() async {
    let model = ControlledModel()
    var options = SchedulingOptions()
    options.instances = 3
    let scheduler = Scheduler(model, name: "m", options: options)
    model.hold()
    let tasks = (0..<5).map { scheduler.start(requestOf(someRows(Float($0)))) }
    await eventually("three run, two wait") { model.mostRunning == 3 && scheduler.statistics.snapshot.pending == 2 }
    model.release()
    for (i, task) in tasks.enumerated() { #expect(await task.value.output == expected(someRows(Float(i)))) }
    #expect(model.mostRunning == 3)
  }

  @Test func higherPrioritiesGoFirst() async {
    let model = ControlledModel()
    var options = SchedulingOptions()
    options.priorityLevels = 3
    options.defaultPriorityLevel = 2
    let scheduler = Scheduler(model, name: "m", options: options)
    model.hold()
    let first = scheduler.start(requestOf(someRows(0)))
    await eventually("it runs") { model.batches.count == 1 }
    // 7 is no level, so the default one.
    let priorities: [Int?] = [3, nil, 1, 7, 2, 1]
    let tasks = await scheduler.queue(
      priorities.enumerated().map { requestOf(someRows(Float($0.offset + 1)), priority: $0.element) })
    model.release()
    for task in tasks + [first] { #expect(await task.value.code == nil) }
    #expect(model.firsts == [0, 3, 6, 2, 4, 5, 1])
  }

  @Test func fullQueuesRefuseWithAHint() async {
    let model = ControlledModel()
    var options = SchedulingOptions()
    options.maxQueueSize = 2
    let scheduler = Scheduler(model, name: "m", options: options)
    for _ in 0..<3 { #expect(await scheduler.start(requestOf(someRows(0))).value.code == nil) }
    model.hold()
    let first = scheduler.start(requestOf(someRows(0)))
    await eventually("it runs") { model.batches.count == 4 }
    let waiting = await scheduler.queue([requestOf(someRows(1)), requestOf(someRows(2))])
    let refused = await scheduler.start(requestOf(someRows(3))).value
    #expect(refused.code == .unavailable && refused.message.contains("2 requests wait"))
    if case .failure(let error) = refused { #expect(error.retryAfter.map { $0 > .zero } == true) }
    model.release()
    for task in waiting + [first] { #expect(await task.value.code == nil) }
    #expect(scheduler.statistics.snapshot.failures[.unavailable]?.count == 1)
    #expect(await scheduler.start(requestOf(someRows(4))).value.code == nil)
  }

  @Test func bytesInTheQueueAreLimited() async {
    let model = ControlledModel()
    var options = SchedulingOptions()
    options.maxQueueBytes = 100
    let scheduler = Scheduler(model, name: "m", options: options)
    let large = await scheduler.start(requestOf(someRows(0, count: 7))).value
    #expect(large.code == .resourceExhausted && large.message.contains("112 bytes"))
    model.hold()
    let first = scheduler.start(requestOf(someRows(0, count: 6)))
    await eventually("it runs") { model.batches.count == 1 }
    let second = await scheduler.queue([requestOf(someRows(0, count: 6))])
    #expect(await scheduler.start(requestOf(someRows(0))).value.code == .unavailable)
    model.release()
    #expect(await first.value.code == nil)
    #expect(await second[0].value.code == nil)
  }

  @Test func levelsHaveLimitsOfTheirOwn() async {
    let model = ControlledModel()
    var options = SchedulingOptions()
    options.priorityLevels = 2
    var policy = SchedulingOptions.QueuePolicy()
    policy.maxQueueSize = 1
    options.priorityPolicies = [2: policy]
    let scheduler = Scheduler(model, name: "m", options: options)
    model.hold()
    let first = scheduler.start(requestOf(someRows(0)))
    await eventually("it runs") { model.batches.count == 1 }
    let waiting = await scheduler.queue([requestOf(someRows(1), priority: 2)])
    #expect(await scheduler.start(requestOf(someRows(1), priority: 2)).value.code == .unavailable)
    let others = await scheduler.queue([requestOf(someRows(1), priority: 1), requestOf(someRows(1), priority: 1)], after: 1)
    model.release()
    for task in waiting + others + [first] { #expect(await task.value.code == nil) }
  }

  @Test func aCancelledTaskLeavesTheQueue() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m")
    model.hold()
    let first = scheduler.start(requestOf(someRows(0)))
    await eventually("it runs") { model.batches.count == 1 }
    let waiting = await scheduler.queue((1...3).map { requestOf(someRows(Float($0))) })
    waiting[1].cancel()
    // Its answer is there although the model is still held up.
    #expect(await waiting[1].value.code == .cancelled)
    #expect(scheduler.statistics.snapshot.pending == 2)
    // So is that of a request that runs.
    first.cancel()
    #expect(await first.value.code == .cancelled)
    model.release()
    #expect(await waiting[0].value.output == expected(someRows(1)))
    #expect(await waiting[2].value.output == expected(someRows(3)))
    #expect(model.firsts == [0, 1, 3])
    #expect(scheduler.statistics.snapshot.failures[.cancelled]?.count == 2)
  }

  @Test func aTaskCancelledBeforeNeverRuns() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m")
    let cancelled = Task { () -> ServingError.Code? in
      withUnsafeCurrentTask { $0?.cancel() }
      do throws(ServingError) {
        _ = try await scheduler.infer(requestOf(someRows(5)))
        return nil
      } catch {
        return error.code
      }
    }
    #expect(await cancelled.value == .cancelled)
    #expect(model.firsts.isEmpty)
  }

  @Test func deadlinesEndTheWaiting() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m")
    model.hold()
    let first = scheduler.start(requestOf(someRows(0)))
    await eventually("it runs") { model.batches.count == 1 }
    let past = await scheduler.start(requestOf(someRows(1), deadline: .now - .seconds(1))).value
    #expect(past.code == .deadlineExceeded)
    let soon = scheduler.start(requestOf(someRows(2), deadline: .now + .milliseconds(20)))
    let later = scheduler.start(requestOf(someRows(3), deadline: .now + .seconds(300)))
    // While the model is held up.
    #expect(await soon.value.code == .deadlineExceeded)
    model.release()
    #expect(await later.value.output == expected(someRows(3)))
    #expect(await first.value.code == nil)
    #expect(model.firsts == [0, 3])
    #expect(scheduler.statistics.snapshot.failures[.deadlineExceeded]?.count == 2)
    #expect(scheduler.statistics.snapshot.pending == 0)
  }

  @Test func queuesHaveTimeouts() async {
    let model = ControlledModel()
    var options = SchedulingOptions()
    options.priorityLevels = 2
    options.queuePolicy.defaultTimeout = .milliseconds(20)
    var patient = SchedulingOptions.QueuePolicy()
    patient.defaultTimeout = .milliseconds(1)
    patient.timeoutAction = .delay
    options.priorityPolicies = [1: patient]
    let scheduler = Scheduler(model, name: "m", options: options)
    model.hold()
    let first = scheduler.start(requestOf(someRows(0), priority: 1))
    await eventually("it runs") { model.batches.count == 1 }
    let delayed = scheduler.start(requestOf(someRows(1), priority: 1))
    let rejected = await scheduler.start(requestOf(someRows(2), priority: 2)).value
    #expect(rejected.code == .unavailable && rejected.message.contains("waited"))
    // The one that waited too long is overtaken even by a lower priority.
    let last = scheduler.start(requestOf(someRows(3), priority: 2))
    await eventually("both wait") { scheduler.statistics.snapshot.pending == 2 }
    model.release()
    #expect(await delayed.value.code == nil)
    #expect(await first.value.code == nil)
    _ = await last.value
    #expect(model.firsts.last == 1)
  }

  @Test func aDeadlineThatCannotBeMetIsRefusedAtOnce() async {
    let model = ControlledModel(work: .milliseconds(5))
    let scheduler = Scheduler(model, name: "m")
    for _ in 0..<4 { _ = await scheduler.start(requestOf(someRows(0))).value }
    model.hold()
    let first = scheduler.start(requestOf(someRows(0)))
    await eventually("it runs") { model.batches.count == 5 }
    let waiting = await scheduler.queue((1...20).map { requestOf(someRows(Float($0))) })
    // Twenty of five milliseconds each are ahead of it.
    let refused = await scheduler.start(requestOf(someRows(99), deadline: .now + .milliseconds(50))).value
    #expect(refused.code == .unavailable && refused.message.contains("longer than it may"))
    let taken = scheduler.start(requestOf(someRows(100), deadline: .now + .seconds(100)))
    await eventually("it waits") { scheduler.statistics.snapshot.pending == 21 }
    model.release()
    for task in waiting + [first, taken] { #expect(await task.value.code == nil) }
  }

  @Test func requestsThatWouldWaitTooLongAreRefused() async {
    let model = ControlledModel(work: .milliseconds(5))
    var options = SchedulingOptions()
    options.maxQueueWait = .milliseconds(50)
    let scheduler = Scheduler(model, name: "m", options: options)
    for _ in 0..<4 { _ = await scheduler.start(requestOf(someRows(0))).value }
    model.hold()
    let first = scheduler.start(requestOf(someRows(0)))
    await eventually("it runs") { model.batches.count == 5 }
    var tasks = [first]
    // At five milliseconds each, about ten may wait.
    for _ in 0..<40 { tasks.append(scheduler.start(requestOf(someRows(1)))) }
    await eventually("the rest is refused") {
      let statistics = scheduler.statistics.snapshot
      return statistics.pending + (statistics.failures[.unavailable]?.count ?? 0) == 40
    }
    let waiting = scheduler.statistics.snapshot.pending
    #expect(waiting > 0 && waiting <= 12)
    model.release()
    for task in tasks { if case .failure(let error) = await task.value { #expect(error.retryAfter != nil) } }
  }

  @Test func drainingAnswersEverythingAndEndsTheThreads() async {
    let released = Counter()
    var model: ControlledModel? = ControlledModel(onRelease: { released.add() })
    var options = SchedulingOptions.batching(4) { $0.maxQueueDelay = .seconds(300) }
    options.instances = 2
    var scheduler: Scheduler? = model.map { Scheduler($0, name: "m", options: options) }
    // They wait for others that never come: draining does not.
    let tasks = await scheduler?.queue((0..<3).map { requestOf(someRows(Float($0))) }) ?? []
    await scheduler?.drain()
    for (i, task) in tasks.enumerated() { #expect(await task.value.output == expected(someRows(Float(i)))) }
    let refused = await scheduler?.start(requestOf(someRows(0))).value
    #expect(refused?.code == .unavailable && refused?.message.contains("unloaded") == true)
    await scheduler?.drain()
    scheduler = nil
    model = nil
    await eventually("the model is gone") { released.value == 1 }
  }

  @Test func whatIsNotDrainedGoesWithItsLastReference() async {
    let counter = Counter()
    for _ in 0..<50 {
      let scheduler = Scheduler(ControlledModel(onRelease: { counter.add() }), name: "m")
      #expect(await scheduler.start(requestOf(someRows(1))).value.code == nil)
    }
    await eventually("all models are gone") { counter.value == 50 }
  }
}
