import ApusData
import ApusFormats
import ApusNN
import ApusTensor
import Foundation
import Testing

@testable import ApusTraining

/// A folder that is gone when the test has ended.
final class Scratch {
  let path: String
  init() {
    path = FileManager.default.temporaryDirectory.path + "/apus-training-\(UInt64.random(in: 0 ... .max))"
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  func callAsFunction(_ name: String) -> String { path + "/" + name }
}

/// Throws at a batch, or cancels the task.
private final class Disturbance: Callback {
  struct Failure: Error {}
  let step: Int
  let cancels: Bool
  init(step: Int, cancels: Bool) { (self.step, self.cancels) = (step, cancels) }
  override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) throws {
    guard trainer.position.step == step else { return }
    if cancels { withUnsafeCurrentTask { $0?.cancel() } } else { throw Failure() }
  }
}

@Suite(.serialized) struct ResumeTests {
  /// Everything of a run that has state: dropout's generator, momentum, accumulated gradients, metrics, the data's order.
  private struct Run {
    let model = smallModel(dropout: 0.3)
    let optimizer: Optimizer
    let trainer: Trainer
    let loader: DataLoader<TensorDataset>

    init(accumulation: Int = 1, workers: Int = 2) {
      optimizer = Adam(model.parameters, learningRate: 0.02)
      trainer = Trainer(
        model, optimizer: optimizer, loss: mseLoss, metrics: [AbsoluteError()],
        options: .init { $0.gradientAccumulation = accumulation })
      loader = DataLoader(line(70), batchSize: 8, shuffle: true, workers: workers, seed: 3)
    }

    func fit(_ callbacks: [Callback], stepsPerEpoch: Int? = nil) async throws -> History {
      try await trainer.fit(
        loader, epochs: 4, validation: line(16, seed: 4), callbacks: callbacks, stepsPerEpoch: stepsPerEpoch, verbose: .silent)
    }
  }

  @Test(arguments: [(1, nil), (3, nil), (2, 7)] as [(Int, Int?)])
  func aRunThatFailedGoesOnToTheSameBits(accumulation: Int, stepsPerEpoch: Int?) async throws {
    let whole = Run(accumulation: accumulation)
    let expected = try await whole.fit([], stepsPerEpoch: stepsPerEpoch)
    for step in [1, 9, 13, 30] {
      let scratch = Scratch()
      func backup() -> BackupAndRestore { BackupAndRestore(scratch("backup"), saveFrequency: .steps(4), deleteCheckpoint: false) }
      let first = Run(accumulation: accumulation)
      if step <= (stepsPerEpoch ?? 9) * 4 {
        await #expect(throws: Disturbance.Failure.self) {
          _ = try await first.fit([backup(), Disturbance(step: step, cancels: false)], stepsPerEpoch: stepsPerEpoch)
        }
      }
      let second = Run(accumulation: accumulation, workers: 0)
      let history = try await second.fit([backup()], stepsPerEpoch: stepsPerEpoch)
      #expect(bits(second.model) == bits(whole.model), "step \(step)")
      #expect(history.values == expected.values && history.epochs == expected.epochs)
      #expect(second.trainer.position == whole.trainer.position)
    }
  }

  @Test func cancellationLeavesACheckpoint() async throws {
    let whole = Run()
    _ = try await whole.fit([])
    let scratch = Scratch()
    // No checkpoint would be due before the end.
    let task = Task { () -> Bool in
      let run = Run()
      do {
        _ = try await run.fit([
          BackupAndRestore(scratch.path, saveFrequency: .minutes(60)), Disturbance(step: 13, cancels: true),
        ])
        return false
      } catch { return error is CancellationError }
    }
    #expect(await task.value)
    let run = Run()
    _ = try await run.fit([BackupAndRestore(scratch.path, deleteCheckpoint: false)])
    #expect(bits(run.model) == bits(whole.model))
  }

  /// A torn or altered checkpoint is refused by name, and the one before it is used.
  @Test(arguments: zip(["model.safetensors", "training.safetensors", "checkpoint.json"], [true, false, false]))
  func damagedCheckpointsAreNotUsed(file: String, torn: Bool) async throws {
    let whole = Run()
    _ = try await whole.fit([])
    let scratch = Scratch()
    let first = Run()
    _ = try? await first.fit([
      BackupAndRestore(scratch.path, saveFrequency: .steps(5)), Disturbance(step: 23, cancels: false),
    ])
    let names = CheckpointFolder(path: scratch.path).checkpoints
    #expect(names.map { $0.suffix(2) } == ["18", "20"])
    let victim = "\(names[1])/\(file)"
    var bytes = try Data(contentsOf: URL(fileURLWithPath: victim))
    if torn { bytes = bytes.prefix(bytes.count / 2) } else { bytes[bytes.count * 2 / 3] ^= 4 }
    try bytes.write(to: URL(fileURLWithPath: victim))
    let run = Run()
    var warnings: [String] = []
    run.trainer.onWarning = { warnings.append($0) }
    _ = try await run.fit([BackupAndRestore(scratch.path, deleteCheckpoint: false)])
    #expect(warnings.count == 1)
    #expect(warnings.first?.contains(names[1]) == true && warnings.first?.contains("the one before") == true)
    #expect(bits(run.model) == bits(whole.model))
  }

  @Test func onlyDamagedCheckpointsAreAnError() async throws {
    let scratch = Scratch()
    let first = Run()
    _ = try? await first.fit([
      BackupAndRestore(scratch.path, saveFrequency: .steps(5), keep: 1), Disturbance(step: 8, cancels: false),
    ])
    let name = try #require(CheckpointFolder(path: scratch.path).checkpoints.first)
    try Data().write(to: URL(fileURLWithPath: name + "/model.safetensors"))
    let run = Run()
    run.trainer.onWarning = { _ in }
    await #expect {
      _ = try await run.fit([BackupAndRestore(scratch.path)])
    } throws: {
      guard case TrainingError.damagedCheckpoint(name, _) = $0 else { return false }
      return true
    }
  }

  @Test func anotherModelOrOtherDataIsRefused() async throws {
    let scratch = Scratch()
    let first = Run()
    _ = try? await first.fit([BackupAndRestore(scratch.path, saveFrequency: .steps(5)), Disturbance(step: 8, cancels: false)])
    let model = Sequential(Linear(3, 4), ReLU(), Linear(4, 1))
    let before = bits(model)
    let trainer = Trainer(model, optimizer: SGD(model.parameters), loss: mseLoss)
    await #expect {
      _ = try await trainer.fit(first.loader, epochs: 2, callbacks: [BackupAndRestore(scratch.path)], verbose: .silent)
    } throws: {
      "\($0)".contains("does not belong to this run") && "\($0)".contains("0.weight")
    }
    #expect(bits(model) == before)
    let again = Run()
    await #expect {
      _ = try await again.trainer.fit(line(70), epochs: 2, callbacks: [BackupAndRestore(scratch.path)], verbose: .silent)
    } throws: {
      "\($0)".contains("batches of 32")
    }
  }

  @Test func foldersThatCannotBeWrittenAreTypedErrors() async throws {
    let scratch = Scratch()
    try Data().write(to: URL(fileURLWithPath: scratch("file")))
    let run = Run()
    await #expect {
      _ = try await run.fit([BackupAndRestore(scratch("file/backup"))])
    } throws: {
      guard case TrainingError.unwritable = $0 else { return false }
      return true
    }
  }
}
