import ApusData

/// Finds a learning rate before the first epoch and trains with it: Lightning's `LearningRateFinder`.
public final class LearningRateFinder: Callback {
  private let minimum, maximum: Double
  private let steps: Int
  private let rise: LearningRateRise
  private let earlyStopThreshold: Double?
  private let updateAttribute: Bool
  private var isDone = false
  /// What was found; nil in a run that went on.
  public private(set) var result: LearningRateSearch?

  /// - Parameter updateAttribute: train with the suggestion; else it is only found.
  public init(
    minimum: Double = 1e-8, maximum: Double = 1, steps: Int = 100, rise: LearningRateRise = .exponential,
    earlyStopThreshold: Double? = 4, updateAttribute: Bool = true
  ) {
    (self.minimum, self.maximum, self.steps, self.rise) = (minimum, maximum, steps, rise)
    (self.earlyStopThreshold, self.updateAttribute) = (earlyStopThreshold, updateAttribute)
  }

  public override var isLeftOutOfFastRuns: Bool { true }

  public override func onTrainBegin() { (isDone, result) = (false, nil) }

  public override func onEpochBegin(_ epoch: Int) throws {
    guard !isDone, let run = trainer.fitRun else { return }
    let found = try trainer.searchLearningRate(run.source, minimum, maximum, steps, rise, earlyStopThreshold)
    isDone = true
    result = found
    guard updateAttribute else { return }
    try trainer.checkNoSchedule("LearningRateFinder")
    guard let rate = found.suggestion() else {
      return trainer.warn("LearningRateFinder: too few batches to suggest a learning rate")
    }
    trainer.optimizer.learningRate = rate
  }

  public override var state: CallbackState {
    get { CallbackState(numbers: ["done": isDone ? 1 : 0]) }
    set { isDone = newValue.numbers["done"] == 1 }
  }
}

/// Finds a batch size before training and trains with it: Lightning's `BatchSizeFinder`. For data that `fit` makes batches of, not for a
/// ``DataLoader``, which has its own.
public final class BatchSizeFinder: Callback {
  private let mode: Trainer.BatchSizeSearch
  private let initial, maxTrials: Int
  private let memoryLimit: Int?
  public private(set) var batchSize: Int?

  public init(mode: Trainer.BatchSizeSearch = .power, initial: Int = 2, maxTrials: Int = 25, memoryLimit: Int? = nil) {
    (self.mode, self.initial, self.maxTrials, self.memoryLimit) = (mode, initial, maxTrials, memoryLimit)
  }

  public override var isLeftOutOfFastRuns: Bool { true }

  public override func onTrainBegin() throws {
    guard let run = trainer.fitRun, let remake = run.remake, let count = run.exampleCount else {
      throw TrainingError.invalidArgument("BatchSizeFinder: the data comes in batches already; give fit a Dataset or tensors")
    }
    let size = try trainer.searchBatchSize(count, mode, initial, maxTrials, memoryLimit) { size in
      guard let batch = try remake(size).batches(pass: 0, from: 0)() else { throw TrainingError.emptyData("BatchSizeFinder") }
      return batch
    }
    batchSize = size
    let pass = run.source.pass
    run.source = remake(size)
    run.source.pass = pass
    trainer.updateStepsPerEpoch()
  }
}
