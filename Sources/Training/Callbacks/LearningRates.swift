import ApusNN

/// Sets the learning rate at the beginning of every epoch: Keras's `LearningRateScheduler`.
public final class LearningRateScheduler: Callback {
  private let schedule: (Int, Double) -> Double
  private let verbose: Bool

  /// - Parameter schedule: from the epoch, counted from 0, and the present learning rate to the new one.
  public init(verbose: Bool = false, _ schedule: @escaping (_ epoch: Int, _ learningRate: Double) -> Double) {
    (self.schedule, self.verbose) = (schedule, verbose)
  }

  public override func onTrainBegin() throws { try trainer.checkNoSchedule("LearningRateScheduler") }

  public override func onEpochBegin(_ epoch: Int) {
    trainer.optimizer.learningRate = schedule(epoch, trainer.optimizer.learningRate)
    if verbose { print("Epoch \(epoch + 1): the learning rate is \(trainer.optimizer.learningRate)") }
  }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) { logs["learning_rate"] = trainer.optimizer.learningRate }
}

/// Adds the learning rates to the epochs' values, that of each parameter group: Lightning's `LearningRateMonitor`.
public final class LearningRateMonitor: Callback {
  public override init() {}

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) {
    let rates = trainer.optimizer.learningRates
    for (i, rate) in rates.enumerated() { logs[rates.count == 1 ? "learning_rate" : "learning_rate_\(i)"] = rate }
  }
}

/// Averages the gradients of more batches from certain epochs on: Lightning's `GradientAccumulationScheduler`.
public final class GradientAccumulationScheduler: Callback {
  private let scheduling: [Int: Int]

  /// - Parameter scheduling: from an epoch, counted from 0, to the number of batches from then on: `[0: 8, 4: 4, 8: 1]`.
  public init(scheduling: [Int: Int]) { self.scheduling = scheduling }

  public override func onTrainBegin() throws {
    for (epoch, count) in scheduling where epoch < 0 || count < 1 {
      throw TrainingError.invalidArgument("GradientAccumulationScheduler: \(count) batches from epoch \(epoch) on")
    }
    apply(trainer.position.epoch)
  }

  public override func onEpochBegin(_ epoch: Int) { apply(epoch) }
  public override func onResume(epoch: Int, batch: Int) { apply(epoch) }

  private func apply(_ epoch: Int) {
    let last = scheduling.keys.filter { $0 <= epoch }.max()
    if let last, let count = scheduling[last] { trainer.options.gradientAccumulation = count }
  }
}
