import ApusData
import ApusNN
import ApusTensor

/// Trains, evaluates and runs a model, as Keras's `fit`, `evaluate` and `predict` do.
///
/// ```swift
/// let trainer = Trainer(model, optimizer: AdamW(model.parameters), loss: crossEntropy, metrics: [Accuracy()])
/// let history = try await trainer.fit(train, epochs: 5, validation: test, callbacks: [.earlyStopping(patience: 2)])
/// ```
/// A step is one compiled program: forward, loss, gradients, optimizer, metrics. Loss and metrics stay in variables and are read
/// only when somebody looks: a progress bar a few times a second, a callback that asks, the end of an epoch.
///
/// A trainer is used by one task at a time, as its model.
open class Trainer {
  public final let model: Module
  public final let optimizer: Optimizer
  public final let outputs: [TrainingOutput]
  private let forwardFunction: ([Tensor]) -> [Tensor]

  /// What is done differently from the plain loop; a change takes effect with the next step.
  public final var options: TrainerOptions {
    didSet { if options.program != oldValue.program { forgetPrograms() } }
  }

  // MARK: Where training is

  public final internal(set) var position = TrainingPosition()
  /// Ends training after this batch, or, set at the end of an epoch, before the next.
  public final var stopTraining = false
  /// Takes warnings; to standard error if not set.
  public final var onWarning: ((String) -> Void)?
  /// The epochs so far of this `fit`, or of the last one.
  public final internal(set) var history = History()
  /// The last epoch of this `fit` and 1 more.
  public final internal(set) var epochs = 0
  /// The batches of an epoch; nil while nobody knows.
  public final internal(set) var stepsPerEpoch: Int?
  /// The callbacks of the present run.
  public final internal(set) var callbacks = CallbackList([])

  /// The loss of the last batch, a scalar.
  public final internal(set) var lastLoss: Tensor?
  /// The examples in the last batch.
  public final internal(set) var lastBatchCount = 0
  /// What the first batch's inputs were like.
  final var inputTypes: [TensorType] = []

  final let lossScale = LossScale()
  final let lossTracker = LossTracker()
  /// The loss of each output, where there are several.
  final let outputTrackers: [LossTracker]
  final var programs = TrainerPrograms()
  final var fitRun: FitRun?

  /// A model of one input and one output.
  /// - Parameters:
  ///   - loss: from predictions [batch, …] and targets [batch, …] to a scalar.
  ///   - metrics: count every example alike.
  ///   - weightedMetrics: weigh examples by sample and class weights.
  public convenience init(
    _ model: any Layer, optimizer: Optimizer, loss: @escaping TrainingOutput.Loss, metrics: [Metric] = [],
    weightedMetrics: [Metric] = [], options: TrainerOptions = TrainerOptions()
  ) {
    self.init(
      model, optimizer: optimizer, outputs: [TrainingOutput(loss: loss, metrics: metrics, weightedMetrics: weightedMetrics)],
      options: options
    ) { [model($0[0])] }
  }

  /// A graph of layers with any number of inputs and outputs, in the graph's order.
  public convenience init(
    _ model: Model, optimizer: Optimizer, outputs: [TrainingOutput], options: TrainerOptions = TrainerOptions()
  ) {
    self.init(model, optimizer: optimizer, outputs: outputs, options: options) { model($0) }
  }

  /// A model of any number of inputs and outputs.
  /// - Parameters:
  ///   - model: holds the parameters and the mode.
  ///   - forward: from one tensor for each input to one for each output.
  public init(
    _ model: Module, optimizer: Optimizer, outputs: [TrainingOutput], options: TrainerOptions = TrainerOptions(),
    forward: @escaping ([Tensor]) -> [Tensor]
  ) {
    self.model = model
    self.optimizer = optimizer
    self.outputs = outputs
    self.options = options
    forwardFunction = forward
    outputTrackers = outputs.count > 1 ? outputs.map { _ in LossTracker() } : []
  }

  /// - Throws: ``TrainingError/invalidArgument(_:)`` where the learning rate follows a schedule, and nobody else may set it.
  final func checkNoSchedule(_ name: String) throws {
    guard optimizer.schedule == nil else {
      throw TrainingError.invalidArgument("\(name): the optimizer's learning rate follows a schedule; set its schedule to nil")
    }
  }

  package final func warn(_ sentence: String) {
    if let onWarning { return onWarning(sentence) }
    writeToStandardError("warning: \(sentence)\n")
  }

  /// All metrics, each once.
  public final var metrics: [Metric] { outputs.flatMap { $0.metrics + $0.weightedMetrics } }

  // MARK: What a subclass may do otherwise

  /// The model's outputs for these inputs.
  open func forward(_ inputs: [Tensor]) -> [Tensor] { forwardFunction(inputs) }

  /// The loss that is minimized, without the penalties of regularizers, which are added to it: a scalar. Runs inside of the compiled step.
  open func computeLoss(_ predictions: [Tensor], _ batch: TrainingBatch) -> Tensor {
    let losses = outputLosses(predictions, batch)
    for (tracker, loss) in zip(outputTrackers, losses) { tracker.update(loss, count: batch.count) }
    let weighted = zip(losses, outputs).map { loss, output in output.lossWeight == 1 ? loss : loss * output.lossWeight }
    return weighted.dropFirst().reduce(weighted[0], +)
  }

  final func outputLosses(_ predictions: [Tensor], _ batch: TrainingBatch) -> [Tensor] {
    outputs.indices.map { i in
      guard let weights = weights(batch, output: i) else { return outputs[i].loss(predictions[i], batch.targets[i]).mean() }
      return outputs[i].weighted(predictions[i], batch.targets[i], weights)
    }
  }

  /// How much each example counts [batch]: sample weights times the weights of the targets' classes.
  final func weights(_ batch: TrainingBatch, output: Int) -> Tensor? {
    guard let classWeights = options.classWeights, outputs.count == 1 else { return batch.sampleWeight }
    let target = batch.targets[output].detached()
    // One column for each class: the class is where the largest is.
    let isOneHot = target.rank > 1 && (target.shape.last ?? 0) > 1
    let labels = (isOneHot ? target.argMax(axis: -1) : target).converted(to: .int64).reshaped([batch.count])
    let count = (classWeights.keys.max() ?? 0) + 1
    let table = untraced { Tensor((0..<count).map { Float(classWeights[$0] ?? 1) }, shape: [count]) }
    let known = (labels .>= 0) .& (labels .< count)
    let weights = `where`(known, table.rows(`where`(known, labels, 0)), 1)
    return batch.sampleWeight.map { weights * $0.converted(to: .float32) } ?? weights
  }
}

/// Where training is.
public struct TrainingPosition: Sendable, Equatable {
  /// The epoch, from 0.
  public internal(set) var epoch = 0
  /// The next batch within the epoch.
  public internal(set) var batch = 0
  /// Batches trained with in all.
  public internal(set) var step = 0
  /// Changes of the parameters in all; fewer than steps where gradients are accumulated.
  public internal(set) var optimizerStep = 0
  /// The pass over the data, and the next batch in it.
  public internal(set) var pass = 0
  public internal(set) var batchInPass = 0
  /// Batches whose gradients wait for the next change of the parameters.
  public internal(set) var accumulated = 0
  /// Whether the epoch's beginning was told to callbacks.
  var epochHasBegun = false
}
