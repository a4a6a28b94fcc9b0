import ApusData
import ApusNN
import ApusTensor

/// Averages of a model's parameters, and of its other floating point variables if wanted, that change places with them.
final class WeightAverages {
  private let variables: [(name: String, variable: Variable)]
  private var averages: [Variable]
  /// How many states were averaged; 0: none yet.
  var count = 0
  /// Whether the averages are in the model, and the model's values here.
  private(set) var areInModel = false
  private var add: ((Tensor) -> Void)?

  init(_ model: Module, useBuffers: Bool) {
    variables = model.namedVariables.filter {
      $0.variable.elementType.isFloatingPoint && (useBuffers || $0.variable is Parameter)
    }
    averages = variables.map { Variable($0.variable.value.detached()) }
  }

  /// average ← average + (value − average) · share; the first state is taken as it is.
  func update(share: Double) {
    if areInModel { swap() }
    defer { count += 1 }
    if count == 0 {
      for (average, item) in zip(averages, variables) { average.value = item.variable.value.detached() }
      return
    }
    let add =
      self.add
      ?? {
        let program = compile("average weights") { [variables, averages] (share: Tensor) in
          withoutGradient {
            for (average, item) in zip(averages, variables) {
              let value = item.variable.value.detached()
              average.value = average.value + (value - average.value) * share.converted(to: value.elementType)
            }
          }
        }
        return { program($0) }
      }()
    self.add = add
    add(Tensor([share], shape: []))
  }

  /// Averages and the model's values change places.
  func swap() {
    for (average, item) in zip(averages, variables) {
      let value = item.variable.value.detached()
      item.variable.value = average.value
      average.value = value
    }
    areInModel.toggle()
  }

  /// The model gets the averages; they stay here too.
  func copyIntoModel() {
    if areInModel { swap() }
    for (average, item) in zip(averages, variables) { item.variable.value = average.value }
  }

  var state: CallbackState {
    get {
      CallbackState(
        numbers: ["count": Double(count), "in model": areInModel ? 1 : 0],
        tensors: Dictionary(zip(variables.map(\.name), averages.map(\.value))) { first, _ in first })
    }
    set {
      count = Int(newValue.numbers["count"] ?? 0)
      areInModel = newValue.numbers["in model"] == 1
      for (average, item) in zip(averages, variables) {
        if let value = newValue.tensors[item.name], value.type == average.type { average.value = value }
      }
    }
  }
}

/// Keeps exponential moving averages of the weights, evaluates and ends with them: Lightning's `EMAWeightAveraging`.
public class EMAWeightAveraging: Callback {
  private let decay: Double
  private let useBuffers: Bool
  private let everySteps: Int
  private let startingAtStep: Int?
  private let startingAtEpoch: Int?
  var averages: WeightAverages?
  private var lastStep = 0

  /// - Parameters:
  ///   - decay: what is left of an average at each update: average ← decay · average + (1 − decay) · weight. The first update copies.
  ///   - useBuffers: average floating point variables (running statistics) too.
  ///   - updateEverySteps: changes of the parameters between two updates.
  ///   - updateStartingAtStep, updateStartingAtEpoch: none before.
  public init(
    decay: Double = 0.999, useBuffers: Bool = true, updateEverySteps: Int = 1, updateStartingAtStep: Int? = nil,
    updateStartingAtEpoch: Int? = nil
  ) {
    (self.decay, self.useBuffers, everySteps) = (decay, useBuffers, max(1, updateEverySteps))
    (startingAtStep, startingAtEpoch) = (updateStartingAtStep, updateStartingAtEpoch)
  }

  public override func onTrainBegin() throws {
    averages = WeightAverages(trainer.model, useBuffers: useBuffers)
    lastStep = trainer.position.optimizerStep
  }

  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) {
    let step = trainer.position.optimizerStep
    guard step != lastStep else { return }
    lastStep = step
    let begins = startingAtStep.map { step >= $0 } ?? true && startingAtEpoch.map { trainer.position.epoch >= $0 } ?? true
    if begins && step % everySteps == 0 { averages?.update(share: 1 - decay) }
  }

  private var hasAverages: Bool { (averages?.count ?? 0) > 0 }

  public override func onTestBegin() { if hasAverages, averages?.areInModel == false { averages?.swap() } }
  public override func onTestEnd(logs: Logs) { if averages?.areInModel == true { averages?.swap() } }
  public override func onTrainEnd(logs: Logs) { if hasAverages { averages?.copyIntoModel() } }
  public override func onException(_ error: any Error) { if averages?.areInModel == true { averages?.swap() } }

  public override var state: CallbackState {
    get {
      var state = averages?.state ?? CallbackState()
      state.numbers["last step"] = Double(lastStep)
      return state
    }
    set {
      averages?.state = newValue
      lastStep = Int(newValue.numbers["last step"] ?? 0)
    }
  }
}

/// Moving averages of the weights take the weights' places for evaluations, and with `swapOnEpoch` from the end of each epoch to the
/// beginning of the next, so that checkpoints hold them; the model ends with them. Keras's `SwapEMAWeights`, with the averages of an
/// optimizer of momentum `momentum`.
public final class SwapEMAWeights: EMAWeightAveraging {
  private let swapOnEpoch: Bool

  /// - Parameter momentum: Keras's `ema_momentum`.
  public init(swapOnEpoch: Bool = false, momentum: Double = 0.99) {
    self.swapOnEpoch = swapOnEpoch
    super.init(decay: momentum, useBuffers: false)
  }

  public override func onEpochBegin(_ epoch: Int) { if averages?.areInModel == true { averages?.swap() } }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) {
    if swapOnEpoch, let averages, averages.count > 0, !averages.areInModel { averages.swap() }
  }
}

/// Averages the weights of the last epochs, which are trained at a constant learning rate (Izmailov et al. 2018): Lightning's
/// `StochasticWeightAveraging`.
///
/// From `swaEpochStart` on the learning rate goes to `swaLearningRate` in `annealingEpochs` epochs, and after each epoch the
/// weights enter a plain average. The model ends with it; the statistics of batch normalization are then computed anew.
public final class StochasticWeightAveraging: Callback {
  public enum Start: Sendable {
    case epoch(Int)
    /// A share of all epochs.
    case fraction(Double)
  }
  public enum Annealing: Sendable { case cosine, linear }

  private let swaLearningRates: [Double]
  private let start: Start
  private let annealingEpochs: Int
  private let annealing: Annealing
  private var averages: WeightAverages?
  private var ratesAtStart: [Double] = []

  /// - Parameter swaLearningRates: one for all parameter groups, or one for each.
  public init(
    swaLearningRates: [Double], swaEpochStart: Start = .fraction(0.8), annealingEpochs: Int = 10, annealing: Annealing = .cosine
  ) {
    self.swaLearningRates = swaLearningRates
    (start, self.annealingEpochs, self.annealing) = (swaEpochStart, annealingEpochs, annealing)
  }

  private var firstEpoch: Int {
    switch start {
    case .epoch(let epoch): epoch
    case .fraction(let share): Int(Double(trainer.epochs) * share)
    }
  }

  public override func onTrainBegin() throws {
    let count = trainer.optimizer.learningRates.count
    guard swaLearningRates.count == 1 || swaLearningRates.count == count, swaLearningRates.allSatisfy({ $0 > 0 }) else {
      throw TrainingError.invalidArgument(
        "StochasticWeightAveraging: learning rates \(swaLearningRates) for \(count) parameter groups")
    }
    try trainer.checkNoSchedule("StochasticWeightAveraging")
    averages = WeightAverages(trainer.model, useBuffers: false)
    ratesAtStart = []
  }

  public override func onEpochBegin(_ epoch: Int) {
    guard epoch >= firstEpoch else { return }
    if ratesAtStart.isEmpty { ratesAtStart = trainer.optimizer.learningRates }
    // PyTorch's SWALR, one step for each epoch.
    let t = annealingEpochs <= 0 ? 1 : min(1, Double(epoch - firstEpoch) / Double(annealingEpochs))
    let share = annealing == .linear ? t : (1 - cosine(.pi * t)) / 2
    trainer.optimizer.learningRates = ratesAtStart.enumerated().map { i, before in
      let target = swaLearningRates.count == 1 ? swaLearningRates[0] : swaLearningRates[i]
      return target * share + before * (1 - share)
    }
  }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) {
    guard epoch >= firstEpoch, let averages else { return }
    averages.update(share: 1 / Double(averages.count + 1))
  }

  public override func onTrainEnd(logs: Logs) throws {
    guard let averages, averages.count > 0 else { return }
    averages.copyIntoModel()
    try trainer.updateBatchNormalization()
  }

  public override var state: CallbackState {
    get {
      var state = averages?.state ?? CallbackState()
      state.lists["rates"] = ratesAtStart
      return state
    }
    set {
      averages?.state = newValue
      ratesAtStart = newValue.lists["rates"] ?? []
    }
  }
}

extension Trainer {
  /// Computes the running statistics of batch normalization anew: their plain averages over the batches of the data that is trained
  /// with, in training mode, as PyTorch's `update_bn`.
  final func updateBatchNormalization() throws {
    let layers = model.modules.compactMap { $0 as? BatchNormLayer }.filter { $0.runningMean != nil }
    guard let run = fitRun, !layers.isEmpty else { return }
    let statistics = layers.flatMap { layer in
      [layer.runningMean, layer.runningVar].compactMap { $0 }.map { ($0, layer.momentum ?? 1) }
    }
    var sums = statistics.map { Tensor.zeros($0.0.shape, $0.0.elementType) }
    let next = run.source.batches(pass: position.pass, from: 0)
    let forward = compile("batch statistics") { [unowned self] (batch: TrainingBatch) -> [Tensor] in
      withoutGradient { self.forward(batch.inputs) }
    }
    var batches = 0
    while stepsPerEpoch.map({ batches < $0 }) ?? true, let batch = try next() {
      try checkCancellation()
      // From zero, a batch leaves its statistics times the momentum.
      for (variable, _) in statistics { variable.value = Tensor.zeros(variable.shape, variable.elementType) }
      for layer in layers { layer.numBatchesTracked.map { $0.value = Tensor.zeros([], $0.elementType) } }
      _ = forward(TrainingBatch(batch.inputs))
      for (i, item) in statistics.enumerated() { sums[i] = sums[i] + item.0.value / item.1 }
      batches += 1
    }
    for (i, item) in statistics.enumerated() { item.0.value = sums[i] / Double(max(1, batches)) }
    for layer in layers { layer.numBatchesTracked.map { $0.value = Tensor.full([], Double(batches), $0.elementType) } }
  }
}
