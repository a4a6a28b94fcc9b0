import ApusCPU
import ApusData
import ApusNN
import ApusTensor

/// What one `fit` does: its arguments, made uniform.
struct FitPlan {
  var epochs = 1
  var initialEpoch = 0
  var stepsPerEpoch: Int?
  var validationSteps: Int?
  var validationFrequency = 1
  var resume: String?
}

/// The data of a `fit` that runs.
final class FitRun {
  var source: any BatchSource
  /// Makes batches of another size, of data that is not in batches yet.
  var remake: ((Int) -> any BatchSource)?
  var exampleCount: Int?
  let validation: (any BatchSource)?
  var plan: FitPlan
  /// The batches of the present pass, from ``TrainingPosition/batchInPass`` on.
  var next: (() throws -> TrainingBatch?)?
  var lastLogs: Logs = [:]
  /// Whether nothing has happened since a batch and all that belongs to it were done.
  var isBetweenBatches = false
  var writers: [CheckpointWriter] = []

  init(_ source: any BatchSource, _ validation: (any BatchSource)?, _ plan: FitPlan) {
    (self.source, self.validation, self.plan) = (source, validation, plan)
  }
}

extension Trainer {
  /// Trains the model for a number of passes over the data: Keras's `fit`.
  ///
  /// - Parameters:
  ///   - data: a ``DataLoader``, a ``Dataset`` (of which batches are made by `batchSize` and `shuffle`) or a ``BatchSequence``.
  ///   - epochs: the number of the last epoch and 1 more; from 0 on as many as are trained.
  ///   - validation: what the model is evaluated on after an epoch; its values are called `val_loss` and so on.
  ///   - initialEpoch: the first epoch's number.
  ///   - stepsPerEpoch: batches of an epoch; the next epoch goes on where this one stopped, with a new pass where the data ends.
  ///   - validationSteps: batches of an evaluation.
  ///   - validationFrequency: evaluation comes after every so many epochs.
  ///   - resume: a folder of checkpoints: training goes on from the last sound one in it, if there is one. Or one checkpoint.
  ///   - verbose: how progress is shown.
  /// - Returns: the values of every epoch.
  /// - Throws: ``TrainingError``; `CancellationError` if the task is cancelled (or the process was interrupted, see
  ///   ``Interruption``), after checkpoints were written; whatever reading the data throws.
  @discardableResult
  public nonisolated(nonsending) final func fit(
    _ data: any TrainingData, epochs: Int = 1, validation: (any TrainingData)? = nil, callbacks: [Callback] = [],
    batchSize: Int = 32, shuffle: Bool = true, initialEpoch: Int = 0, stepsPerEpoch: Int? = nil, validationSteps: Int? = nil,
    validationBatchSize: Int? = nil, validationFrequency: Int = 1, resume: String? = nil, verbose: Verbosity = .automatic
  ) async throws -> History {
    try checkBatchSize(batchSize)
    try checkBatchSize(validationBatchSize ?? batchSize)
    let overfits = options.overfitBatches != nil
    let source = data.batchSource(BatchRequest(batchSize: batchSize, shuffle: shuffle && !overfits))
    // Data that is no loader with passes of its own: each `fit` goes on with new orders.
    if !(data is any BatchSource) { source.pass = position.pass }
    let validation = validation?.batchSource(BatchRequest(batchSize: validationBatchSize ?? batchSize))
    var plan = FitPlan(
      epochs: epochs, initialEpoch: initialEpoch, stepsPerEpoch: stepsPerEpoch, validationSteps: validationSteps,
      validationFrequency: validationFrequency, resume: resume)
    var callbacks = callbacks
    if let batches = options.fastDevRun {
      guard batches > 0 else { throw TrainingError.invalidArgument("fastDevRun is \(batches)") }
      plan.epochs = initialEpoch + 1
      plan.validationSteps = batches
      plan.resume = nil
      callbacks.removeAll { $0.isLeftOutOfFastRuns }
    }
    try check(plan, source)
    let run = FitRun(source, overfits ? source : validation, plan)
    if !(data is any BatchSource), let dataset = data as? any Dataset {
      run.exampleCount = dataset.count
      run.remake = { data.batchSource(BatchRequest(batchSize: $0, shuffle: shuffle && !overfits)) }
    }
    await Task.yield()
    return try self.run(run, callbacks, verbose)
  }

  /// So many steps on one batch in the loop of `fit`, for measuring what it adds to a step.
  package final func repeatStep(_ batch: TrainingBatch, count: Int) throws {
    let source = BatchSequence(count: count) { _ in repeatElement(batch, count: count) }
    _ = try run(FitRun(source, nil, FitPlan()), [], .silent)
  }

  private func check(_ plan: FitPlan, _ source: any BatchSource) throws {
    guard plan.epochs >= 0, plan.initialEpoch >= 0 else {
      throw TrainingError.invalidArgument("fit: \(plan.epochs) epochs from epoch \(plan.initialEpoch)")
    }
    guard plan.validationFrequency > 0 else {
      throw TrainingError.invalidArgument("fit: validationFrequency is \(plan.validationFrequency)")
    }
    for (name, value) in [("stepsPerEpoch", plan.stepsPerEpoch), ("validationSteps", plan.validationSteps)] {
      if let value, value <= 0 { throw TrainingError.invalidArgument("fit: \(name) is \(value)") }
    }
    if optimizer is LossScaleOptimizer && (options.gradientAccumulation > 1 || options.clipping != nil) {
      throw TrainingError.invalidArgument(
        "fit: with a LossScaleOptimizer gradients are accumulated and clipped by the optimizer inside of it")
    }
    guard options.gradientAccumulation > 0 else {
      throw TrainingError.invalidArgument("gradientAccumulation is \(options.gradientAccumulation)")
    }
    try source.checkNotEmpty("fit")
    try checkNames()
  }

  final func checkBatchSize(_ size: Int) throws {
    guard size > 0 else { throw TrainingError.invalidArgument("the batch size is \(size)") }
  }

  /// - Throws: ``TrainingError/duplicateName(_:)``.
  final func checkNames() throws {
    var seen: Set<String> = ["loss"]
    for output in outputs {
      let prefix = outputs.count > 1 ? output.name + "_" : ""
      let names = (outputs.count > 1 ? ["loss"] : []) + (output.metrics + output.weightedMetrics).map(\.name)
      for name in names where !seen.insert(prefix + name).inserted { throw TrainingError.duplicateName(prefix + name) }
    }
  }

  // MARK: The loop

  private func run(_ run: FitRun, _ callbacks: [Callback], _ verbose: Verbosity) throws -> History {
    guard fitRun == nil else { throw TrainingError.invalidArgument("fit: this trainer is training already") }
    fitRun = run
    history = callbacks.compactMap { $0 as? History }.first ?? History()
    var all = callbacks
    if !callbacks.contains(where: { $0 === history }) { all.append(history) }
    if let bar = verbose.callback, !callbacks.contains(where: { $0 is ProgressBar }) { all.append(bar) }
    let list = CallbackList(all)
    self.callbacks = list
    defer {
      list.attachAll(nil)
      self.callbacks = CallbackList([])
      fitRun = nil
    }
    list.attachAll(self)
    // A backup comes last: it holds that the others' files are written.
    let writers = list.flattened.compactMap { $0 as? CheckpointWriter }
    run.writers = writers.filter { !($0 is BackupAndRestore) } + writers.filter { $0 is BackupAndRestore }
    stopTraining = false
    epochs = run.plan.epochs
    updateStepsPerEpoch()
    let before = position
    position = TrainingPosition()
    position.epoch = run.plan.initialEpoch
    (position.step, position.optimizerStep) = (before.step, before.optimizerStep)
    position.pass = run.source.pass
    model.train()
    let averaging = optimizer as? ScheduleFreeOptimizer
    averaging?.train()
    do {
      try list.onTrainBegin()
      let resumed = try resume(run)
      if resumed { try list.onResume(epoch: position.epoch, batch: position.batch) }
      while position.epoch < epochs && !stopTraining { try epoch(run) }
      try list.onTrainEnd(logs: run.lastLogs)
      averaging?.eval()
    } catch {
      list.onException(error)
      throw error
    }
    return history
  }

  final func updateStepsPerEpoch() {
    guard let run = fitRun else { return }
    stepsPerEpoch = run.plan.stepsPerEpoch ?? limit(options.limitTrainBatches, run.source.batchCount)
  }

  /// The batches that an epoch uses, as far as known.
  private func limit(_ limit: TrainerOptions.Limit, _ count: Int?) -> Int? {
    if let batches = options.fastDevRun { return count.map { min($0, batches) } ?? batches }
    if let limit = options.overfitBatches { return limit.applied(to: count) }
    return limit.applied(to: count)
  }

  private func epoch(_ run: FitRun) throws {
    let epoch = position.epoch
    if !position.epochHasBegun {
      resetMetrics()
      try callbacks.onEpochBegin(epoch)
      position.epochHasBegun = true
    }
    let limit = run.plan.stepsPerEpoch ?? self.limit(options.limitTrainBatches, run.source.batchCount)
    let goesOverPasses = run.plan.stepsPerEpoch != nil
    if !goesOverPasses || run.next == nil { run.next = run.source.batches(pass: position.pass, from: position.batchInPass) }
    let logs = BatchLogs { [unowned self] in self.currentLogs() }
    var lastLook = monotonicSeconds()
    while !stopTraining {
      if let limit, position.batch >= limit { break }
      try checkCancellation()
      guard let batch = try nextBatch(run, goesOverPasses) else { break }
      try callbacks.onTrainBatchBegin(position.batch)
      let known = limit ?? run.source.batchCount
      // What waits is applied with the last batch of an epoch, where it is known to be the last.
      lastBatchCount = batch.count
      if inputTypes.isEmpty { inputTypes = batch.inputs.map(\.type) }
      lastLoss = try train(batch, isLast: known.map { position.batch + 1 >= $0 } ?? false)
      position.batch += 1
      position.batchInPass += 1
      try callbacks.onTrainBatchEnd(position.batch - 1, logs: logs)
      let now = monotonicSeconds()
      if now - lastLook > 0.2 {
        lastLook = now
        try checkLoss()
      }
      try writeRequestedCheckpoints()
    }
    guard position.batch > 0 else { throw TrainingError.emptyData("fit") }
    if stepsPerEpoch == nil && !stopTraining { stepsPerEpoch = position.batch }
    try checkLoss()
    var values = currentLogs()
    if let validation = run.validation, (epoch + 1) % run.plan.validationFrequency == 0 {
      let steps = run.plan.validationSteps ?? self.limit(options.limitValidationBatches, validation.batchCount)
      let random = RandomState(model)
      let states = random.tensors
      do {
        for (name, value) in try evaluation(validation, steps: steps) { values["val_" + name] = value }
      } catch {
        // A run that goes on evaluates anew.
        random.restore(states)
        throw error
      }
    }
    if !goesOverPasses { beginNextPass(run) }
    position.epoch = epoch + 1
    position.batch = 0
    position.epochHasBegun = false
    try callbacks.onEpochEnd(epoch, logs: &values)
    run.lastLogs = values
    try writeRequestedCheckpoints()
  }

  private func nextBatch(_ run: FitRun, _ goesOverPasses: Bool) throws -> TrainingBatch? {
    if let batch = try run.next?() { return batch }
    guard goesOverPasses else { return nil }
    guard position.batchInPass > 0 else { throw TrainingError.emptyData("fit") }
    beginNextPass(run)
    run.next = run.source.batches(pass: position.pass, from: 0)
    return try run.next?()
  }

  private func beginNextPass(_ run: FitRun) {
    if options.overfitBatches == nil { position.pass += 1 }
    position.batchInPass = 0
    run.source.pass = position.pass
    run.next = nil
  }

  /// - Throws: ``TrainingError/nonFiniteLoss(epoch:batch:step:value:)``.
  final func checkLoss() throws {
    let value = lossTracker.mean
    guard !value.isFinite, options.stopsOnNonFiniteLoss, !callbacks.flattened.contains(where: { $0 is TerminateOnNaN }) else {
      return
    }
    let batch = Int(lossTracker.finiteBatches.value.item(as: Double.self))
    throw TrainingError.nonFiniteLoss(
      epoch: position.epoch, batch: batch, step: position.step - position.batch + batch, value: value)
  }

  final func checkCancellation() throws {
    guard Task.isCancelled || Interruption.isRequested else { return }
    fitRun?.isBetweenBatches = true
    throw CancellationError()
  }

  /// Whether training was cancelled where a checkpoint can be gone on from.
  final var isBetweenBatches: Bool { fitRun?.isBetweenBatches ?? false }
}

extension BatchSource {
  /// - Throws: ``TrainingError``.
  func checkNotEmpty(_ name: String) throws {
    guard batchCount == 0 else { return }
    if let lack = lackingBatch { throw TrainingError.batchLargerThanData(batchSize: lack.batchSize, examples: lack.examples) }
    throw TrainingError.emptyData(name)
  }
}
