import ApusTensor

/// Lowers the learning rates when a metric has stopped getting better (PyTorch's `ReduceLROnPlateau`). It has a memory, so it is not a
/// ``LearningRateSchedule``: call ``step(_:)`` with the metric after each epoch.
public final class PlateauScheduler {
  public enum Mode: Sendable, Hashable {
    /// Smaller is better, or larger.
    case min, max
  }
  public enum ThresholdMode: Sendable, Hashable {
    /// Better by a share of the best, or by an amount.
    case relative, absolute
  }

  public let optimizer: Optimizer
  public let mode: Mode
  public let factor: Double
  public let patience, cooldown: Int
  public let threshold: Double
  public let thresholdMode: ThresholdMode
  public let minLearningRates: [Double]
  public let epsilon: Double
  public private(set) var best: Double
  public private(set) var badEpochs = 0
  public private(set) var cooldownCounter = 0
  public private(set) var steps = 0

  /// - Parameters:
  ///   - patience: epochs without getting better that are waited for.
  ///   - cooldown: epochs after a change in which nothing is counted.
  ///   - minLearningRate: no learning rate falls below.
  ///   - epsilon: smaller changes are left out.
  public convenience init(
    _ optimizer: Optimizer, mode: Mode = .min, factor: Double = 0.1, patience: Int = 10, threshold: Double = 1e-4,
    thresholdMode: ThresholdMode = .relative, cooldown: Int = 0, minLearningRate: Double = 0, epsilon: Double = 1e-8
  ) {
    self.init(
      optimizer, mode: mode, factor: factor, patience: patience, threshold: threshold, thresholdMode: thresholdMode,
      cooldown: cooldown, minLearningRates: optimizer.learningRates.map { _ in minLearningRate }, epsilon: epsilon)
  }

  /// - Parameter minLearningRates: of each parameter group.
  public init(
    _ optimizer: Optimizer, mode: Mode = .min, factor: Double = 0.1, patience: Int = 10, threshold: Double = 1e-4,
    thresholdMode: ThresholdMode = .relative, cooldown: Int = 0, minLearningRates: [Double], epsilon: Double = 1e-8
  ) {
    guard factor < 1 else { stop("PlateauScheduler: factor \(factor) must be below 1") }
    guard minLearningRates.count == optimizer.learningRates.count else {
      stop(
        "PlateauScheduler: \(minLearningRates.count) minimal learning rates for \(optimizer.learningRates.count) parameter groups"
      )
    }
    self.optimizer = optimizer
    self.mode = mode
    self.factor = factor
    self.patience = patience
    self.threshold = threshold
    self.thresholdMode = thresholdMode
    self.cooldown = cooldown
    self.minLearningRates = minLearningRates
    self.epsilon = epsilon
    best = mode == .min ? .infinity : -.infinity
  }

  private func isBetter(_ value: Double) -> Bool {
    switch (mode, thresholdMode) {
    case (.min, .relative): value < best * (1 - threshold)
    case (.min, .absolute): value < best - threshold
    case (.max, .relative): value > best * (1 + threshold)
    case (.max, .absolute): value > best + threshold
    }
  }

  /// Takes in the metric of one more epoch.
  public func step(_ metric: Double) {
    steps += 1
    if isBetter(metric) {
      best = metric
      badEpochs = 0
    } else {
      badEpochs += 1
    }
    if cooldownCounter > 0 {
      cooldownCounter -= 1
      badEpochs = 0
    }
    guard badEpochs > patience else { return }
    optimizer.learningRates = zip(optimizer.learningRates, minLearningRates).map { old, smallest in
      let new = Swift.max(old * factor, smallest)
      return old - new > epsilon ? new : old
    }
    cooldownCounter = cooldown
    badEpochs = 0
  }

  /// Under PyTorch's names, and the optimizer's learning rates: `_last_lr` float64 [groups].
  public var state: [String: Tensor] {
    [
      "best": Tensor.full([], best, .float64), "num_bad_epochs": Tensor(badEpochs), "cooldown_counter": Tensor(cooldownCounter),
      "last_epoch": Tensor(steps), "_last_lr": Tensor(optimizer.learningRates, shape: [optimizer.learningRates.count]),
    ]
  }

  /// Goes on where another one was.
  /// - Throws: ``LoadError`` for names or shapes that do not fit; nothing is changed then.
  public func load(state: [String: Tensor]) throws {
    try checkState(state, like: self.state)
    guard let best = state["best"], let bad = state["num_bad_epochs"], let cooldown = state["cooldown_counter"],
      let steps = state["last_epoch"], let rates = state["_last_lr"]
    else { return }
    self.best = best.item(as: Double.self)
    badEpochs = bad.item(as: Int.self)
    cooldownCounter = cooldown.item(as: Int.self)
    self.steps = steps.item(as: Int.self)
    optimizer.learningRates = rates.elements(as: Double.self)
  }
}
