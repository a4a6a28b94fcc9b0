import Apus
import ApusServables
import class ApusServables.Scheduler
import Testing

/// Answers that are kept.
@Suite struct SchedulingCacheTests {
  private func cached(_ bytes: Int, batching: Bool = false) -> (Scheduler, ControlledModel) {
    let model = ControlledModel(["a": ControlledModel.rows(), "b": ControlledModel.rows()])
    var options = batching ? SchedulingOptions.batching(8) : SchedulingOptions()
    options.cacheBytes = bytes
    return (Scheduler(model, name: "m", options: options), model)
  }

  private func request(_ value: Float, _ signature: String = "a", outputs: [String]? = nil) -> InferenceRequest {
    .init(signature: signature, inputs: ["x": someRows(value)], outputs: outputs)
  }

  @Test func theSameInputsAreComputedOnce() async throws {
    let (scheduler, model) = cached(1 << 20)
    for i in 0..<3 {
      let response = try await scheduler.infer(request(1))
      #expect(response.outputs[0].tensor.floats == expected(someRows(1)))
      #expect(response.timings.isCacheHit == (i > 0))
    }
    #expect(model.batches == [1])
    // Other numbers, another signature and another shape are other requests.
    #expect(try await scheduler.infer(request(2)).outputs[0].tensor.floats == expected(someRows(2)))
    _ = try await scheduler.infer(request(1, "b"))
    let wide = Tensor(someRows(1).floats + someRows(1).floats, shape: [2, 4])
    #expect(try await scheduler.infer(.init(signature: "a", inputs: ["x": wide])).outputs[0].tensor.shape == [2, 4])
    #expect(model.batches.count == 4)
    #expect(try await scheduler.infer(request(1, outputs: [])).outputs.isEmpty)
    let statistics = scheduler.statistics.snapshot
    #expect(statistics.cacheHit.count == 3 && statistics.cacheMiss.count == 4 && statistics.executionCount == 4)
  }

  @Test func zeroAndMinusZeroAreDifferent() async throws {
    let (scheduler, model) = cached(1 << 20)
    for value in [Float(0), -0.0] {
      _ = try await scheduler.infer(.init(signature: "a", inputs: ["x": Tensor([value, 0, 0, 0], shape: [1, 4])]))
    }
    #expect(model.batches.count == 2)
  }

  @Test func errorsAreNotKept() async {
    let (scheduler, model) = cached(1 << 20)
    for _ in 0..<2 { #expect(await scheduler.start(request(-9)).value.code == .invalidArgument) }
    #expect(model.batches.count == 2)
  }

  @Test func whatWasUsedLongestAgoMakesRoom() async throws {
    // Each entry takes 256 + 16 + 16 bytes.
    let (scheduler, model) = cached(3 * 288)
    for value in [1, 2, 3] as [Float] { _ = try await scheduler.infer(request(value)) }
    _ = try await scheduler.infer(request(1))
    #expect(model.batches.count == 3)
    _ = try await scheduler.infer(request(4))
    for value in [1, 3, 4] as [Float] { #expect(try await scheduler.infer(request(value)).timings.isCacheHit) }
    #expect(try await !scheduler.infer(request(2)).timings.isCacheHit)
  }

  @Test func sameRequestsAtOnceShareAComputation() async {
    let (scheduler, model) = cached(1 << 20)
    model.hold()
    let first = scheduler.start(request(1))
    await eventually("it runs") { model.batches.count == 1 }
    let others = (0..<5).map { _ in scheduler.start(request(1)) }
    let leaving = scheduler.start(request(1))
    try? await Task.sleep(for: .milliseconds(20))
    // A client that leaves leaves alone.
    leaving.cancel()
    #expect(await leaving.value.code == .cancelled)
    model.release()
    #expect(await first.value.output == expected(someRows(1)))
    for task in others { #expect(await task.value.output == expected(someRows(1))) }
    #expect(model.batches == [1])
    let statistics = scheduler.statistics.snapshot
    #expect(statistics.cacheHit.count == 5 && statistics.cacheMiss.count == 1)
  }

  @Test func whoeverWaitsForARequestThatIsCancelledIsServed() async {
    let (scheduler, model) = cached(1 << 20)
    model.hold()
    let first = scheduler.start(request(1))
    await eventually("it runs") { model.batches.count == 1 }
    let others = (0..<5).map { _ in scheduler.start(request(1)) }
    try? await Task.sleep(for: .milliseconds(20))
    first.cancel()
    #expect(await first.value.code == .cancelled)
    model.release()
    for task in others { #expect(await task.value.output == expected(someRows(1))) }
    #expect(model.batches.count == 2)
  }

  @Test func viewsOfABatchAreNotKept() async throws {
    let (scheduler, model) = cached(1 << 20, batching: true)
    model.hold()
    let first = scheduler.start(request(0))
    await eventually("it runs") { model.batches.count == 1 }
    let tasks = await scheduler.queue([request(1), request(2)])
    model.release()
    for task in tasks + [first] { #expect(await task.value.code == nil) }
    for value in [1, 2] as [Float] {
      let response = try await scheduler.infer(request(value))
      #expect(response.timings.isCacheHit && response.outputs[0].tensor.floats == expected(someRows(value)))
    }
    #expect(model.batches == [1, 2])
  }
}
