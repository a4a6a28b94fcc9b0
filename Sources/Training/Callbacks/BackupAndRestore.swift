import ApusCPU
import ApusFormats

/// A callback that writes checkpoints. They are written when all callbacks have seen the batch or epoch.
public class CheckpointWriter: Callback {
  /// How often.
  public enum Frequency: Sendable, Equatable {
    case epoch
    case epochs(Int)
    case steps(Int)
    case minutes(Double)
  }

  var isDue = false

  /// Writes, and sets ``isDue`` back.
  func write() throws { isDue = false }

  public override var isLeftOutOfFastRuns: Bool { true }
}

/// Writes everything that training is, so that a run that was killed at any moment goes on to the same bits as if it had not been:
/// Keras's `BackupAndRestore`.
///
/// `fit` with this callback begins where the last sound checkpoint in the folder stands. A damaged one is named in a warning, and
/// the one before it is used.
public final class BackupAndRestore: CheckpointWriter {
  /// One run's own: what else is in it stays, but checkpoints of other runs would be gone on from.
  public let folder: String
  private let frequency: Frequency
  private let keep: Int
  private let deleteCheckpoint: Bool
  private var lastWritten = 0.0

  /// - Parameters:
  ///   - folder: where checkpoints are written; made if it is not there.
  ///   - saveFrequency: how often one is written; besides, one is written when the task is cancelled.
  ///   - keep: how many are kept.
  ///   - deleteCheckpoint: remove them when training has ended.
  public init(_ folder: String, saveFrequency: Frequency = .epoch, keep: Int = 2, deleteCheckpoint: Bool = true) {
    (self.folder, frequency, self.keep, self.deleteCheckpoint) = (folder, saveFrequency, keep, deleteCheckpoint)
  }

  public override func onTrainBegin() throws {
    do { try createFolder(folder) } catch { throw TrainingError.unwritable(path: folder, reason: error.description) }
    CheckpointFolder(path: folder).removeLeftovers()
    lastWritten = monotonicSeconds()
    isDue = false
  }

  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) {
    switch frequency {
    case .steps(let count): isDue = trainer.position.step % max(1, count) == 0
    case .minutes(let minutes): isDue = monotonicSeconds() - lastWritten >= minutes * 60
    case .epoch, .epochs: break
    }
  }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) {
    switch frequency {
    case .epoch: isDue = true
    case .epochs(let count): isDue = (epoch + 1) % max(1, count) == 0
    // After the last epoch the state is another one than after its last batch.
    case .steps: isDue = true
    case .minutes: isDue = epoch + 1 >= trainer.epochs || trainer.stopTraining
    }
  }

  override func write() throws {
    isDue = false
    try CheckpointFolder(path: folder).write(trainer.checkpoint(), step: trainer.position.step, keep: keep)
    lastWritten = monotonicSeconds()
  }

  public override func onTrainEnd(logs: Logs) { if deleteCheckpoint { CheckpointFolder(path: folder).removeAll() } }

  public override func onException(_ error: any Error) {
    guard error is CancellationError, trainer.isBetweenBatches else { return }
    do { try write() } catch { trainer.warn("\(error)") }
  }
}
