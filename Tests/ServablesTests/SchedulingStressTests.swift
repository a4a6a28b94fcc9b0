import Apus
import ApusServables
import Foundation
import Synchronization
import Testing

import class ApusServables.Scheduler

/// Many at once, and real programs.
@Suite struct SchedulingStressTests {
  /// What became of some requests.
  private struct Tally {
    var right = 0
    var wrong = 0
    var failed: [ServingError.Code: Int] = [:]
    static func + (a: Tally, b: Tally) -> Tally {
      Tally(right: a.right + b.right, wrong: a.wrong + b.wrong, failed: a.failed.merging(b.failed, uniquingKeysWith: +))
    }
  }

  /// Sends requests from many tasks: of several sizes, some bad, some cancelled, some with deadlines and priorities.
  private func load(_ scheduler: Scheduler, tasks: Int, each: Int) async -> Tally {
    await withTaskGroup(of: Tally.self) { group in
      for t in 0..<tasks {
        group.addTask {
          var tally = Tally()
          for i in 0..<each {
            let kind = (t &* 31 &+ i &* 7) % 20
            let x = someRows(kind == 0 ? -3 : Float(t * each + i), count: kind == 1 ? 21 : 1 + kind % 4, width: 4)
            let request = requestOf(
              x, priority: kind % 4, deadline: kind == 2 ? .now + .microseconds(100) : kind == 3 ? .now + .seconds(100) : nil)
            let task = scheduler.start(request)
            if kind == 4 { task.cancel() }
            let answer = await task.value
            if let output = answer.output {
              if output == expected(x) { tally.right += 1 } else { tally.wrong += 1 }
            } else if let code = answer.code {
              tally.failed[code, default: 0] += 1
              if kind == 0, code != .invalidArgument, code != .unavailable { tally.wrong += 1 }
            }
          }
          return tally
        }
      }
      return await group.reduce(Tally(), +)
    }
  }

  @Test(arguments: [1, 3], [false, true]) func everyRequestGetsItsOwnAnswerOnce(instances: Int, adapts: Bool) async {
    var options = SchedulingOptions.batching(16) { $0.adaptsSizes = adapts }
    options.instances = instances
    options.priorityLevels = 3
    options.cacheBytes = instances == 3 ? 10_000 : 0
    let scheduler = Scheduler(ControlledModel(), name: "m", options: options)
    let tally = await load(scheduler, tasks: 40, each: 50)
    #expect(tally.wrong == 0)
    #expect(tally.right + tally.failed.values.reduce(0, +) == 2_000)
    #expect(tally.right > 1_500)
    #expect(Set(tally.failed.keys).isSubset(of: [.invalidArgument, .cancelled, .deadlineExceeded, .unavailable]))
    await scheduler.drain()
    let statistics = scheduler.statistics.snapshot
    #expect(statistics.pending == 0)
    #expect(statistics.success.count == tally.right)
    #expect(statistics.failures.mapValues(\.count) == tally.failed)
  }

  @Test func overloadRefusesSomeAndServesTheRest() async {
    var options = SchedulingOptions.batching(4)
    options.maxQueueSize = 8
    let scheduler = Scheduler(ControlledModel(work: .microseconds(50)), name: "m", options: options)
    let tally = await load(scheduler, tasks: 60, each: 20)
    #expect(tally.wrong == 0)
    #expect(tally.right + tally.failed.values.reduce(0, +) == 1_200)
    #expect((tally.failed[.unavailable] ?? 0) > 0 && tally.right > 100)
    #expect(scheduler.statistics.snapshot.pending == 0)
  }

  @Test func manySchedulersComeAndGo() async {
    let gone = Counter()
    for i in 0..<200 {
      let scheduler = Scheduler(ControlledModel(onRelease: { gone.add() }), name: "m", options: .batching())
      if i % 4 > 0 { #expect(await scheduler.start(requestOf(someRows(1))).value.code == nil) }
      if i % 2 == 0 { await scheduler.drain() }
    }
    await eventually("all models are gone") { gone.value == 200 }
  }

  // MARK: Programs

  private func withFolder<R>(_ body: (String) async throws -> R) async throws -> R {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try await body(folder.path)
  }

  private func areClose(_ a: [Float], _ b: [Float]) -> Bool {
    a.count == b.count && zip(a, b).allSatisfy { Swift.abs($0 - $1) <= 1e-5 * (1 + Swift.abs($1)) }
  }

  @Test func batchesOfAProgramGiveWhatItGivesAlone() async throws {
    seed(5)
    let model = Sequential {
      Linear(12, 32)
      ReLU()
      Linear(32, 5)
    }
    try await withFolder { folder in
      try export(model, input: ["x": .float32([.open("batch", 1...64), 12])], to: folder + "/m.apus")
      let servable = try ArtifactFormat().load(folder + "/m.apus")
      var options = SchedulingOptions()
      options.batching = .init()
      let scheduler = Scheduler(servable, name: "m", options: options)
      let right = try await withThrowingTaskGroup(of: Int.self) { group in
        for t in 0..<16 {
          group.addTask {
            var right = 0
            for i in 0..<30 {
              let x = Tensor.randn([1 + (t + i) % 5, 12], generator: Generator(seed: UInt64(t * 100 + i)))
              let alone = try servable.run(["x": x], signature: nil)["output"]
              let response = try await scheduler.infer(.init(inputs: ["x": x]))
              if areClose(response.outputs[0].tensor.floats, alone?.floats ?? []) { right += 1 }
            }
            return right
          }
        }
        return try await group.reduce(0, +)
      }
      #expect(right == 480)
      #expect(scheduler.statistics.snapshot.executionCount < 480)
      await scheduler.drain()
    }
  }

  @Test func lengthsOfAProgramArePaddedAndCutBack() async throws {
    seed(6)
    let table = Embedding(50, 8)
    try await withFolder { folder in
      let batch = Dimension.open("batch", 1...32)
      let length = Dimension.open("length", 1...40)
      let body = Exported(inputs: ["ids": .int64([batch, length]), "mask": .float32([batch, length])]) { inputs in
        guard let ids = inputs["ids"], let mask = inputs["mask"] else { return [:] }
        let tokens = table(ids) * mask.expanded(at: 2)
        return ["tokens": tokens, "sum": tokens.sum(axis: 1)]
      }
      try export(table, signatures: ["serve": body], to: folder + "/m.apus")
      let servable = try ArtifactFormat().load(folder + "/m.apus")
      let scheduler = Scheduler(servable, name: "m", options: .batching(8) { $0.padsVariableLengths = true })
      let good = try await withThrowingTaskGroup(of: Int.self) { group in
        for t in 0..<12 {
          group.addTask {
            var good = 0
            for i in 0..<10 {
              let (rows, length) = (1 + i % 3, 1 + (t * 7 + i * 3) % 40)
              let isBad = (t + i) % 13 == 0
              let ids = (0..<rows * length).map { Int64(isBad ? 999 : ($0 * 7 + t + i) % 50) }
              let inputs = ["ids": Tensor(ids, shape: [rows, length]), "mask": Tensor.ones([rows, length])]
              do throws(ServingError) {
                let response = try await scheduler.infer(.init(inputs: inputs))
                let alone = try servable.run(inputs, signature: nil)
                let isRight = response.outputs.allSatisfy { name, tensor in
                  tensor.shape == alone[name]?.shape && areClose(tensor.floats, alone[name]?.floats ?? [])
                }
                if isRight, !isBad { good += 1 }
              } catch {
                // An index outside of the table is the fault of one request and no other.
                if isBad, error.code == .invalidArgument { good += 1 }
              }
            }
            return good
          }
        }
        return try await group.reduce(0, +)
      }
      #expect(good == 120)
    }
  }
}
