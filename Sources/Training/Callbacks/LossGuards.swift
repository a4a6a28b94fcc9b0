import ApusFormats
import ApusTensor

/// Ends training at the first batch after which the loss is no longer finite: Keras's `TerminateOnNaN`.
///
/// It reads the loss after every batch. Without it training ends with ``TrainingError/nonFiniteLoss(epoch:batch:step:value:)``, which
/// is noticed a few times a second.
public final class TerminateOnNaN: Callback {
  private let raiseError: Bool

  /// - Parameter raiseError: throw, instead of ending training in order.
  public init(raiseError: Bool = false) { self.raiseError = raiseError }

  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) throws {
    let loss = trainer.lossTracker.mean
    guard !loss.isFinite else { return }
    let position = trainer.position
    if raiseError { throw TrainingError.nonFiniteLoss(epoch: position.epoch, batch: batch, step: position.step - 1, value: loss) }
    trainer.warn("batch \(batch): the loss is \(loss); training ends")
    trainer.stopTraining = true
  }
}

/// Ends training by an error where the loss of a batch leaps: Lightning's `SpikeDetection`.
///
/// A loss is a spike if it is not better than the last one, and differs from the mean of the last ones by `atol` at least and by `rtol`
/// times that mean at least; or if it is not finite. It reads the loss after every batch.
public final class SpikeDetection: Callback {
  /// A leap of the loss.
  public struct Spike: Error, Sendable, Equatable, CustomStringConvertible {
    public let epoch, batch: Int
    public let loss, mean: Double
    public var description: String { "the loss leapt to \(loss) in epoch \(epoch), batch \(batch); the mean before was \(mean)" }
  }

  private let isDownward: Bool
  private let window, warmup: Int
  private let atol, rtol: Double?
  private let finiteOnly: Bool
  private let excludeBatchesPath: String?
  private var last = 0.0
  private var losses: [Double] = []
  private var seen = 0
  /// Batches that led to a leap: the one before it and its own.
  public private(set) var badBatches: [Int] = []

  /// - Parameters:
  ///   - window: losses whose mean is compared with.
  ///   - warmup: batches that are not looked at.
  ///   - excludeBatchesPath: a JSON file that gets the numbers of batches to leave out.
  public init(
    mode: MonitorMode = .min, window: Int = 10, warmup: Int = 1, atol: Double? = nil, rtol: Double? = 2, finiteOnly: Bool = true,
    excludeBatchesPath: String? = nil
  ) {
    isDownward = mode != .max
    (self.window, self.warmup, self.atol, self.rtol) = (window, warmup, atol, rtol)
    (self.finiteOnly, self.excludeBatchesPath) = (finiteOnly, excludeBatchesPath)
  }

  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) throws {
    guard let loss = trainer.lastLoss?.item(as: Double.self) else { return }
    defer { seen += 1 }
    let mean = losses.isEmpty ? 0 : losses.reduce(0, +) / Double(losses.count)
    if seen >= warmup && isSpike(loss, mean) {
      badBatches += [batch - 1, batch]
      if let path = excludeBatchesPath {
        do {
          try AtomicFile.write(to: path) { try $0.write(JSONValue.array(badBatches.map(JSONValue.integer)).printed() + "\n") }
        } catch { throw TrainingError.unwritable(path: path, reason: "\(error)") }
      }
      throw Spike(epoch: trainer.position.epoch, batch: batch, loss: loss, mean: mean)
    }
    losses.append(loss)
    if losses.count > window { losses.removeFirst() }
    last = loss
  }

  private func isSpike(_ loss: Double, _ mean: Double) -> Bool {
    if !loss.isFinite { return finiteOnly }
    if isDownward ? loss - last <= 0 : loss - last >= 0 { return false }
    let difference = abs(loss - mean)
    return atol.map { difference >= abs($0) } ?? true && rtol.map { difference >= abs($0 * mean) } ?? true
  }

  public override var state: CallbackState {
    get {
      CallbackState(
        numbers: ["last": last, "seen": Double(seen)], lists: ["losses": losses, "bad batches": badBatches.map(Double.init)])
    }
    set {
      (last, seen) = (newValue.numbers["last"] ?? 0, Int(newValue.numbers["seen"] ?? 0))
      (losses, badBatches) = (newValue.lists["losses"] ?? [], (newValue.lists["bad batches"] ?? []).map { Int($0) })
    }
  }
}
