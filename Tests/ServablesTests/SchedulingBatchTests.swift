import Apus
import ApusServables
import class ApusServables.Scheduler
import Testing

/// Requests that are joined, padded and split.
@Suite struct SchedulingBatchTests {
  /// Holds the model up with a first request while others come, lets them run and gives their answers.
  private func answers(_ scheduler: Scheduler, _ model: ControlledModel, _ requests: [InferenceRequest]) async -> [Answered] {
    model.hold()
    let before = model.batches.count
    let first = scheduler.start(requestOf(someRows(0)))
    await eventually("it runs") { model.batches.count == before + 1 }
    let tasks = await scheduler.queue(requests)
    model.release()
    var answers: [Answered] = []
    for task in tasks { answers.append(await task.value) }
    _ = await first.value
    return answers
  }

  @Test func whatWaitsIsJoined() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(32))
    let inputs = [1, 3, 2, 1].enumerated().map { someRows(Float($0.offset * 100 + 1), count: $0.element) }
    let answers = await answers(scheduler, model, inputs.map { requestOf($0) })
    for (x, answer) in zip(inputs, answers) { #expect(answer.output == expected(x)) }
    #expect(model.batches == [1, 7])
    let statistics = scheduler.statistics.snapshot
    #expect(statistics.executionCount == 2 && statistics.inferenceCount == 8 && statistics.batches[7]?.count == 1)
    #expect((try? answers[1].get())?.timings.batchSize == 7)
  }

  @Test func aBatchHasAtMostItsMaximum() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(4))
    let inputs = (1...10).map { someRows(Float($0)) }
    let answers = await answers(scheduler, model, inputs.map { requestOf($0) })
    for (x, answer) in zip(inputs, answers) { #expect(answer.output == expected(x)) }
    #expect(model.batches == [1, 4, 4, 2])
  }

  @Test func theModelsOwnBoundIsKept() async {
    let model = ControlledModel(["serve": ControlledModel.rows(1...3)])
    let scheduler = Scheduler(model, name: "m", options: .batching(32))
    let answers = await answers(scheduler, model, (1...5).map { requestOf(someRows(Float($0))) })
    #expect(answers.allSatisfy { $0.code == nil })
    #expect(model.batches == [1, 3, 2])
  }

  @Test func preferredSizesAreTaken() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(8) { $0.preferredBatchSizes = [2, 4] })
    let answers = await answers(scheduler, model, (1...7).map { requestOf(someRows(Float($0))) })
    #expect(answers.allSatisfy { $0.code == nil })
    #expect(model.batches == [1, 4, 2, 1])
  }

  @Test func aPreferredSizeDoesNotWaitForTheDelay() async {
    let model = ControlledModel()
    let scheduler = Scheduler(
      model, name: "m",
      options: .batching(8) {
        $0.preferredBatchSizes = [3]
        $0.maxQueueDelay = .seconds(300)
      })
    let tasks = (1...3).map { scheduler.start(requestOf(someRows(Float($0)))) }
    for task in tasks { #expect(await task.value.code == nil) }
    #expect(model.batches == [3])
  }

  @Test func theMaximumDoesNotWaitForTheDelay() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(4) { $0.maxQueueDelay = .seconds(300) })
    let tasks = (1...8).map { scheduler.start(requestOf(someRows(Float($0)))) }
    for task in tasks { #expect(await task.value.code == nil) }
    #expect(model.batches == [4, 4])
  }

  @Test func theDelayEndsByItself() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(8) { $0.maxQueueDelay = .milliseconds(30) })
    #expect(await scheduler.start(requestOf(someRows(1))).value.output == expected(someRows(1)))
    let tasks = (1...3).map { scheduler.start(requestOf(someRows(Float($0)))) }
    for task in tasks { #expect(await task.value.code == nil) }
    #expect(model.batches.reduce(0, +) == 4)
  }

  @Test func allowedSizesArePaddedTo() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(8) { $0.allowedBatchSizes = [2, 8] })
    let inputs = (1...3).map { someRows(Float($0)) }
    let answers = await answers(scheduler, model, inputs.map { requestOf($0) })
    for (x, answer) in zip(inputs, answers) { #expect(answer.output == expected(x)) }
    #expect(model.batches == [2, 8])
    #expect(scheduler.statistics.snapshot.inferenceCount == 4)
    // The largest one allowed is the most.
    let many = await self.answers(scheduler, model, (1...9).map { requestOf(someRows(Float($0))) })
    #expect(many.allSatisfy { $0.code == nil })
    #expect(model.batches == [2, 8, 2, 8, 2])
  }

  @Test(arguments: [1, 2, 3, 7, 8, 9, 20, 64]) func largeRequestsAreSplit(count: Int) async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(8))
    let x = someRows(5, count: count)
    let answer = await scheduler.start(requestOf(x)).value
    #expect(answer.output == expected(x))
    #expect((try? answer.get())?.outputs[0].tensor.shape == [count, 4])
    #expect(model.batches.reduce(0, +) == count && (model.batches.max() ?? 0) <= 8)
  }

  @Test func theRestOfALargeRequestIsJoinedWithOthers() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(8))
    let (large, small) = (someRows(5, count: 11), someRows(900, count: 3))
    let answers = await answers(scheduler, model, [requestOf(large), requestOf(small)])
    #expect(answers.map(\.output) == [expected(large), expected(small)])
    #expect(model.batches == [1, 8, 6])
  }

  @Test func aPartIsNotSmallerThanTheModelTakes() async {
    let model = ControlledModel(["serve": ControlledModel.rows(3...1_000)])
    let scheduler = Scheduler(model, name: "m", options: .batching(8))
    let x = someRows(5, count: 17)
    #expect(await scheduler.start(requestOf(x)).value.output == expected(x))
    #expect(model.batches.sorted() == [5, 6, 6])
    // Nor is a batch, and what cannot be split runs whole.
    let large = ControlledModel(["serve": ControlledModel.rows(6...1_000)])
    let other = Scheduler(large, name: "m", options: .batching(4))
    for count in [6, 11, 12] {
      let x = someRows(1, count: count)
      #expect(await other.start(requestOf(x)).value.output == expected(x))
    }
    #expect(large.batches == [6, 11, 6, 6])
  }

  @Test func partsOfARequestRunAtOnce() async {
    let model = ControlledModel()
    var options = SchedulingOptions.batching(4)
    options.instances = 3
    let scheduler = Scheduler(model, name: "m", options: options)
    for round in 1...2 {
      model.hold()
      let large = scheduler.start(requestOf(someRows(1, count: 12)))
      await eventually("all threads run") { model.batches.count == 3 * round }
      model.release()
      #expect(await large.value.output == expected(someRows(1, count: 12)))
    }
    #expect(model.mostRunning == 3)
  }

  /// Without it every try would end at its deadline. Beside tests that keep all threads busy a try may begin too late, so there are several.
  @Test func nobodyMissesADeadlineByWaitingForOthers() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(8) { $0.maxQueueDelay = .seconds(300) })
    var output: [Float]?
    for _ in 0..<20 where output == nil {
      output = await scheduler.start(requestOf(someRows(1), deadline: .now + .seconds(2))).value.output
    }
    #expect(output == expected(someRows(1)))
  }

  @Test func largeRequestsAreRefusedWhereTheyAreNotSplit() async {
    let scheduler = Scheduler(ControlledModel(), name: "m", options: .batching(8) { $0.splitsLargeRequests = false })
    let answer = await scheduler.start(requestOf(someRows(0, count: 9))).value
    #expect(answer.code == .invalidArgument && answer.message.contains("9 examples") && answer.message.contains("at most 8"))
  }

  @Test func aSplitRequestThatIsCancelledLeavesWhole() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(4))
    model.hold()
    let large = scheduler.start(requestOf(someRows(1, count: 20)))
    await eventually("a part runs") { model.batches.count == 1 }
    large.cancel()
    #expect(await large.value.code == .cancelled)
    #expect(scheduler.statistics.snapshot.pending == 0)
    model.release()
    #expect(await scheduler.start(requestOf(someRows(2))).value.output == expected(someRows(2)))
    #expect(model.batches == [4, 1])
  }

  @Test func otherSizesMakeOtherBatches() async {
    let model = ControlledModel(["serve": ControlledModel.rows(width: .open("width", 1...64))])
    let scheduler = Scheduler(model, name: "m", options: .batching(8))
    let inputs = [3, 5, 3, 5, 3].enumerated().map { someRows(Float($0.offset + 1), width: $0.element) }
    let answers = await answers(scheduler, model, inputs.map { requestOf($0) })
    for (x, answer) in zip(inputs, answers) { #expect(answer.output == expected(x)) }
    #expect(model.shapes == [[1, 4], [3, 3], [2, 5]])
  }

  @Test func variableLengthsArePadded() async {
    let model = ControlledModel(["serve": ControlledModel.rows(width: .open("width", 1...64))])
    let scheduler = Scheduler(model, name: "m", options: .batching(8) { $0.padsVariableLengths = true })
    let inputs = [3, 5, 1, 7].enumerated().map {
      someRows(Float($0.offset * 10 + 1), count: 1 + $0.offset % 2, width: $0.element)
    }
    let answers = await answers(scheduler, model, inputs.map { requestOf($0) })
    for (x, answer) in zip(inputs, answers) {
      #expect(answer.output == expected(x))
      #expect((try? answer.get())?.outputs[0].tensor.shape == x.shape)
    }
    #expect(model.shapes == [[1, 4], [6, 7]])
  }

  @Test func paddingDoesNotFillTheMemory() async {
    let signature = Signature(
      inputs: [.init(name: "x", spec: .float32(["batch", "a", "b"]))],
      outputs: [.init(name: "y", elementType: .float32, dimensions: ["batch", "a", "b"])],
      openDimensions: ["batch", "a", "b"].map { .init(name: $0, sizes: 1...1 << 20) })
    let model = ControlledModel(["serve": signature])
    let scheduler = Scheduler(model, name: "m", options: .batching(8) { $0.padsVariableLengths = true })
    model.hold()
    let first = scheduler.start(requestOf(.ones([1, 1, 1])))
    await eventually("it runs") { model.batches.count == 1 }
    // Padded to each other they would have 4 · 10¹⁰ elements.
    let tasks = await scheduler.queue([requestOf(.ones([1, 100_000, 1])), requestOf(.ones([1, 1, 200_000]))])
    model.release()
    for task in tasks + [first] { #expect(await task.value.code == nil) }
    #expect(model.batches.count == 3)
  }

  @Test func requestsThatCannotBeJoinedRunByThemselves() async {
    let batch = Dimension.open("batch")
    // Each pair of examples gives a number: joined, requests would see each other.
    let pairs = Signature(
      inputs: [.init(name: "x", spec: .float32([batch, 4]))],
      outputs: [.init(name: "y", elementType: .float32, dimensions: [batch, batch])],
      openDimensions: [.init(name: "batch", sizes: 1...9)])
    let sum = Signature(
      inputs: [.init(name: "x", spec: .float32([batch, 4]))], outputs: [.init(name: "y", elementType: .float32, dimensions: [4])],
      openDimensions: [.init(name: "batch", sizes: 1...9)])
    let fixed = Signature(
      inputs: [.init(name: "x", spec: .float32([1, 4]))], outputs: [.init(name: "y", elementType: .float32, dimensions: [1, 4])],
      openDimensions: [])
    for signature in [pairs, sum, fixed] {
      let model = ControlledModel(["serve": signature])
      let scheduler = Scheduler(model, name: "m", options: .batching(8))
      let answers = await answers(scheduler, model, (1...3).map { requestOf(someRows(Float($0))) })
      #expect(answers.allSatisfy { $0.code == nil })
      #expect(model.batches == [1, 1, 1, 1])
      #expect(scheduler.batchSizes().isEmpty)
    }
  }

  @Test func signaturesMakeOtherBatches() async {
    let model = ControlledModel(["a": ControlledModel.rows(), "b": ControlledModel.rows()])
    let scheduler = Scheduler(model, name: "m", options: .batching(8))
    func request(_ signature: String, _ value: Float) -> InferenceRequest {
      .init(signature: signature, inputs: ["x": someRows(value)])
    }
    model.hold()
    let first = scheduler.start(request("a", 0))
    await eventually("it runs") { model.batches.count == 1 }
    let tasks = await scheduler.queue([request("b", 1), request("a", 2), request("b", 3)])
    model.release()
    for (i, task) in tasks.enumerated() { #expect(await task.value.output == expected(someRows(Float(i + 1)))) }
    _ = await first.value
    #expect(model.batches == [1, 2, 1])
    #expect(await scheduler.start(requestOf(someRows(0))).value.message.contains("must name one: a, b"))
  }

  @Test func oneBadRequestHarmsNoOther() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(8))
    let answers = await answers(scheduler, model, [1, 2, -50, 4].map { requestOf(someRows($0)) })
    #expect(answers.map(\.code) == [nil, nil, .invalidArgument, nil])
    #expect(answers[3].output == expected(someRows(4)))
    #expect(model.batches == [1, 4, 1, 1, 1, 1])
  }

  @Test func resultsOfAnotherSizeThanPromisedAreAnError() async {
    struct Liar: Servable {
      var signatures: [String: Signature] { ["serve": ControlledModel.rows()] }
      var defaultSignature: String? { "serve" }
      var byteCount: Int { 0 }
      var platform: String { "" }
      var classLabels: [String]? { nil }
      func run(_ inputs: [String: Tensor], signature: String?) throws(ServingError) -> [String: Tensor] { ["y": .zeros([1, 4])] }
    }
    let scheduler = Scheduler(Liar(), name: "m", options: .batching(2) { $0.allowedBatchSizes = [2] })
    #expect(await scheduler.start(requestOf(someRows(1))).value.code == .internalError)
  }

  @Test func prioritiesShareABatch() async {
    let model = ControlledModel()
    var options = SchedulingOptions.batching(3)
    options.priorityLevels = 2
    let scheduler = Scheduler(model, name: "m", options: options)
    let priorities = [2, 2, 1, 1]
    let answers = await answers(
      scheduler, model, priorities.enumerated().map { requestOf(someRows(Float($0.offset + 1)), priority: $0.element) })
    #expect(answers.enumerated().allSatisfy { $1.output == expected(someRows(Float($0 + 1))) })
    // Both of the first level and one of the second.
    #expect(model.batches == [1, 3, 1])
    #expect(model.firsts == [0, 3, 2])
  }

  @Test func answersKeepTheOrder() async {
    let model = ControlledModel()
    var options = SchedulingOptions.batching(1) { $0.preservesOrder = true }
    options.instances = 2
    let scheduler = Scheduler(model, name: "m", options: options)
    let done = Counter()
    func start(_ value: Float) async -> Task<Void, Never> {
      let task = scheduler.start(requestOf(someRows(value)))
      return Task {
        _ = await task.value
        done.add()
      }
    }
    model.hold(0)
    let first = await start(0)
    await eventually("the first one runs") { model.batches.count == 1 }
    let second = await start(1)
    await eventually("the second one has run") { scheduler.statistics.snapshot.executionCount == 1 }
    // Cancelled ones hold nobody up and are held up by nobody.
    model.hold()
    let cancelled = scheduler.start(requestOf(someRows(7)))
    await eventually("it runs") { model.batches.count == 3 }
    cancelled.cancel()
    #expect(await cancelled.value.code == .cancelled)
    #expect(done.value == 0)
    model.release()
    await first.value
    await second.value
  }

  @Test func sizesAreAdaptedToTheModel() async {
    let model = ControlledModel()
    let scheduler = Scheduler(model, name: "m", options: .batching(32) { $0.adaptsSizes = true })
    #expect(scheduler.batchSizes() == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32])
    let inputs = (1...29).map { someRows(Float($0)) }
    for _ in 0..<5 {
      let answers = await answers(scheduler, model, inputs.map { requestOf($0) })
      for (x, answer) in zip(inputs, answers) { #expect(answer.output == expected(x)) }
    }
    #expect(Set(model.batches).isSubset(of: scheduler.batchSizes()))
  }
}
