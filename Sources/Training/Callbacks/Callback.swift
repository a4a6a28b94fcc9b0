import ApusTensor

/// Names and values of a loss and of metrics, such as `loss`, `accuracy`, `val_loss`.
public typealias Logs = [String: Double]

/// What happens along with training, evaluation and prediction: Keras's `Callback`.
///
/// A subclass overrides the hooks it needs. While they run, ``trainer`` is at hand: the model, the optimizer, the epoch; setting
/// its `stopTraining` ends training after the batch or epoch.
///
/// ```swift
/// final class Printer: Callback {
///   override func onEpochEnd(_ epoch: Int, logs: inout Logs) { print(epoch, logs["loss"] ?? .nan) }
/// }
/// ```
open class Callback {
  private var current: Trainer?

  public init() {}

  /// The trainer that runs; outside of its hooks there is none.
  public final var trainer: Trainer {
    guard let current else { stop("\(type(of: self)): there is a trainer only within fit, evaluate and predict") }
    return current
  }

  final func attach(_ trainer: Trainer?) { current = trainer }

  /// What the callback is called in checkpoints, along with its place in the list.
  open var name: String { "\(type(of: self))" }

  /// Whether `fastDevRun` leaves it out: checkpoints, stopping and the like.
  open var isLeftOutOfFastRuns: Bool { false }

  // MARK: State

  /// What the callback remembers, for checkpoints; what it remembers elsewhere is lost when a run goes on in another process.
  open var state: CallbackState {
    get { CallbackState() }
    set {}
  }

  // MARK: Training

  open func onTrainBegin() throws {}
  /// - Parameter logs: those of the last epoch.
  open func onTrainEnd(logs: Logs) throws {}
  open func onEpochBegin(_ epoch: Int) throws {}
  /// - Parameter logs: the epoch's values; what is added is in the history and in later callbacks' logs.
  open func onEpochEnd(_ epoch: Int, logs: inout Logs) throws {}
  open func onTrainBatchBegin(_ batch: Int) throws {}
  /// - Parameter logs: the values so far in the epoch, computed only if asked for.
  open func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) throws {}

  // MARK: Evaluation, alone or as part of training

  open func onTestBegin() throws {}
  open func onTestEnd(logs: Logs) throws {}
  open func onTestBatchBegin(_ batch: Int) throws {}
  open func onTestBatchEnd(_ batch: Int, logs: BatchLogs) throws {}

  // MARK: Prediction

  open func onPredictBegin() throws {}
  open func onPredictEnd() throws {}
  open func onPredictBatchBegin(_ batch: Int) throws {}
  /// - Parameter outputs: one tensor [batch, …] for each output of the model.
  open func onPredictBatchEnd(_ batch: Int, outputs: [Tensor]) throws {}

  // MARK: What Keras has no hook for

  /// Training goes on from a checkpoint: the next batch is this one. Comes after ``onTrainBegin()`` and ``state``; for an epoch that
  /// goes on in its middle there is no ``onEpochBegin(_:)``.
  open func onResume(epoch: Int, batch: Int) throws {}
  /// Training ends by an error, cancellation too (`CancellationError`); it is thrown on afterwards.
  open func onException(_ error: any Error) {}
}

/// The loss and metrics so far, read when asked for: reading them waits for the device, and takes the time of some kernels.
public struct BatchLogs {
  let read: () -> Logs
  /// All values now.
  public var values: Logs { read() }
  public subscript(name: String) -> Double? { read()[name] }
}

/// What a callback keeps in a checkpoint: numbers, which keep their bits, lists of them, texts and tensors.
public struct CallbackState: Sendable {
  public var numbers: [String: Double] = [:]
  public var lists: [String: [Double]] = [:]
  public var texts: [String: String] = [:]
  public var tensors: [String: Tensor] = [:]

  public init(
    numbers: [String: Double] = [:], lists: [String: [Double]] = [:], texts: [String: String] = [:],
    tensors: [String: Tensor] = [:]
  ) {
    (self.numbers, self.lists, self.texts, self.tensors) = (numbers, lists, texts, tensors)
  }
}
