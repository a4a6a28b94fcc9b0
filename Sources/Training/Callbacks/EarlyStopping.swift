import ApusTensor

/// Ends training where a value has stopped getting better: Keras's `EarlyStopping`.
public final class EarlyStopping: MonitorCallback {
  private let patience: Int
  private let baseline: Double?
  private let restoreBestWeights: Bool
  private let startFromEpoch: Int
  private let verbose: Bool

  /// Epochs since the value was better than the best and the baseline.
  public private(set) var wait = 0
  /// The epoch after which training was ended; 0 if it was not.
  public private(set) var stoppedEpoch = 0
  public private(set) var bestEpoch = 0
  private var bestWeights: [String: Tensor]?

  /// - Parameters:
  ///   - minDelta: what counts as better.
  ///   - patience: epochs without improvement after which training ends.
  ///   - baseline: a value to be beaten, else the wait goes on.
  ///   - restoreBestWeights: the model ends with the parameters and variables of the best epoch.
  ///   - startFromEpoch: epochs before it are not looked at.
  public init(
    monitor: String = "val_loss", minDelta: Double = 0, patience: Int = 0, verbose: Bool = false, mode: MonitorMode = .automatic,
    baseline: Double? = nil, restoreBestWeights: Bool = false, startFromEpoch: Int = 0
  ) {
    self.patience = patience
    self.baseline = baseline
    self.restoreBestWeights = restoreBestWeights
    self.startFromEpoch = startFromEpoch
    self.verbose = verbose
    super.init(monitor: monitor, mode: mode, minDelta: minDelta)
  }

  public override var isLeftOutOfFastRuns: Bool { true }

  public override func onTrainBegin() { (wait, stoppedEpoch, best, bestWeights, bestEpoch) = (0, 0, nil, nil, 0) }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) throws {
    guard let current = value(logs), epoch >= startFromEpoch else { return }
    if restoreBestWeights && bestWeights == nil { (bestWeights, bestEpoch) = (trainer.model.state, epoch) }
    wait += 1
    if try isImprovement(current, over: best) {
      (best, bestEpoch) = (current, epoch)
      if restoreBestWeights { bestWeights = trainer.model.state }
      // The wait begins anew only where the baseline is beaten too.
      if try baseline == nil || isImprovement(current, over: baseline) { wait = 0 }
      return
    }
    if wait >= patience && epoch > 0 {
      stoppedEpoch = epoch
      trainer.stopTraining = true
    }
  }

  public override func onTrainEnd(logs: Logs) throws {
    if stoppedEpoch > 0 && verbose { print("Epoch \(stoppedEpoch + 1): early stopping") }
    guard restoreBestWeights, let bestWeights else { return }
    if verbose { print("Restoring model weights from the end of the best epoch: \(bestEpoch + 1).") }
    try trainer.model.load(state: bestWeights)
  }

  public override var state: CallbackState {
    get {
      var state = CallbackState(
        numbers: ["wait": Double(wait), "stopped": Double(stoppedEpoch), "best epoch": Double(bestEpoch)],
        tensors: bestWeights ?? [:])
      state.numbers["best"] = best
      return state
    }
    set {
      wait = Int(newValue.numbers["wait"] ?? 0)
      stoppedEpoch = Int(newValue.numbers["stopped"] ?? 0)
      bestEpoch = Int(newValue.numbers["best epoch"] ?? 0)
      best = newValue.numbers["best"]
      bestWeights = newValue.tensors.isEmpty ? nil : newValue.tensors
    }
  }
}
