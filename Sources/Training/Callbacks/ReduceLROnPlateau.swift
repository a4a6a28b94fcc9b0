/// Lowers the learning rate where a value has stopped getting better: Keras's `ReduceLROnPlateau`.
public final class ReduceLROnPlateau: MonitorCallback {
  private let factor: Double
  private let patience: Int
  private let cooldown: Int
  private let minLR: Double
  private let verbose: Bool
  public private(set) var wait = 0
  public private(set) var cooldownCounter = 0

  /// - Parameters:
  ///   - factor: what the learning rates are multiplied by, below 1.
  ///   - patience: epochs without improvement after which that is done.
  ///   - minDelta: what counts as better.
  ///   - cooldown: epochs after a change in which nothing is counted.
  ///   - minLR: learning rates do not go below.
  public init(
    monitor: String = "val_loss", factor: Double = 0.1, patience: Int = 10, verbose: Bool = false, mode: MonitorMode = .automatic,
    minDelta: Double = 1e-4, cooldown: Int = 0, minLR: Double = 0
  ) {
    self.factor = factor
    self.patience = patience
    self.cooldown = cooldown
    self.minLR = minLR
    self.verbose = verbose
    super.init(monitor: monitor, mode: mode, minDelta: minDelta)
  }

  public override func onTrainBegin() throws {
    guard factor < 1 else { throw TrainingError.invalidArgument("ReduceLROnPlateau: the factor \(factor) is not below 1") }
    try trainer.checkNoSchedule("ReduceLROnPlateau")
    (best, cooldownCounter, wait) = (nil, 0, 0)
  }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) throws {
    logs["learning_rate"] = trainer.optimizer.learningRate
    guard let current = value(logs) else { return }
    if cooldownCounter > 0 {
      cooldownCounter -= 1
      wait = 0
    }
    if try isImprovement(current, over: best) {
      best = current
      wait = 0
    } else if cooldownCounter == 0 {
      wait += 1
      if wait >= patience && reduce(epoch) {
        cooldownCounter = cooldown
        wait = 0
      }
    }
  }

  /// - Returns: whether any learning rate was above the least.
  private func reduce(_ epoch: Int) -> Bool {
    let rates = trainer.optimizer.learningRates
    // As Keras, which keeps the least in float32.
    guard rates.contains(where: { $0 > Double(Float(minLR)) }) else { return false }
    trainer.optimizer.learningRates = rates.map { $0 > Double(Float(minLR)) ? max($0 * factor, minLR) : $0 }
    if verbose { print("Epoch \(epoch + 1): reducing the learning rate to \(trainer.optimizer.learningRate)") }
    return true
  }

  public override var state: CallbackState {
    get {
      var state = CallbackState(numbers: ["wait": Double(wait), "cooldown": Double(cooldownCounter)])
      state.numbers["best"] = best
      return state
    }
    set {
      wait = Int(newValue.numbers["wait"] ?? 0)
      cooldownCounter = Int(newValue.numbers["cooldown"] ?? 0)
      best = newValue.numbers["best"]
    }
  }
}
