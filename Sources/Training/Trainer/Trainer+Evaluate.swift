import ApusData
import ApusNN
import ApusTensor

extension Trainer {
  /// The loss and metrics over data, with the model in evaluation mode: Keras's `evaluate`.
  ///
  /// - Parameters:
  ///   - steps: batches that are used at most.
  /// - Returns: values by name, `loss` among them.
  /// - Throws: ``TrainingError``; `CancellationError`; whatever reading the data throws.
  public nonisolated(nonsending) final func evaluate(
    _ data: any TrainingData, batchSize: Int = 32, steps: Int? = nil, callbacks: [Callback] = [], verbose: Verbosity = .silent
  ) async throws -> Logs {
    try checkBatchSize(batchSize)
    await Task.yield()
    let source = data.batchSource(BatchRequest(batchSize: batchSize))
    try source.checkNotEmpty("evaluate")
    try checkNames()
    return try with(callbacks, verbose) {
      let limit = steps ?? options.limitTestBatches.applied(to: source.batchCount)
      return try evaluation(source, steps: limit)
    }
  }

  /// The model's outputs for all examples, in evaluation mode: one tensor [examples, …] for each output.
  public nonisolated(nonsending) final func predictAll(
    _ data: any TrainingData, batchSize: Int = 32, steps: Int? = nil, callbacks: [Callback] = [], verbose: Verbosity = .silent
  ) async throws -> [Tensor] {
    try checkBatchSize(batchSize)
    await Task.yield()
    let source = data.batchSource(BatchRequest(batchSize: batchSize))
    try source.checkNotEmpty("predict")
    var parts: [[Tensor]] = []
    try with(callbacks, verbose) {
      let limit = steps ?? options.limitPredictBatches.applied(to: source.batchCount)
      let next = source.batches(pass: source.pass, from: 0)
      try self.callbacks.onPredictBegin()
      try model.evaluating {
        var i = 0
        while limit.map({ i < $0 }) ?? true {
          try checkCancellation()
          guard let batch = try next() else { break }
          try self.callbacks.onPredictBatchBegin(i)
          let outputs = try predict(batch)
          if !self.callbacks.flattened.contains(where: { ($0 as? BasePredictionWriter)?.keepsPredictions == false }) {
            parts.append(outputs)
          }
          try self.callbacks.onPredictBatchEnd(i, outputs: outputs)
          i += 1
        }
        guard i > 0 else { throw TrainingError.emptyData("predict") }
      }
      try self.callbacks.onPredictEnd()
    }
    guard let first = parts.first else { return [] }
    return first.indices.map { i in concatenate(parts.map { $0[i] }) }
  }

  /// The model's only output for all examples [examples, …], in evaluation mode: Keras's `predict`.
  public nonisolated(nonsending) final func predict(
    _ data: any TrainingData, batchSize: Int = 32, steps: Int? = nil, callbacks: [Callback] = [], verbose: Verbosity = .silent
  ) async throws -> Tensor {
    let outputs = try await predictAll(data, batchSize: batchSize, steps: steps, callbacks: callbacks, verbose: verbose)
    guard outputs.count == 1 else {
      throw TrainingError.batchMismatch("predict: the model has \(outputs.count) outputs; use predictAll")
    }
    return outputs[0]
  }

  // MARK: One batch

  /// One step of training on a batch: Keras's `train_on_batch`. Reading the values is up to the caller (``currentLogs()``).
  /// - Returns: the batch's loss, a scalar.
  @discardableResult
  public final func trainStep(_ batch: TrainingBatch) throws -> Tensor { try train(batch, isLast: false) }

  @discardableResult
  public final func trainStep(_ x: Tensor, _ y: Tensor, sampleWeight: Tensor? = nil) throws -> Tensor {
    try trainStep(TrainingBatch([x], [y], sampleWeight: sampleWeight))
  }

  /// The loss of a batch, a scalar, in evaluation mode; metrics are updated. Keras's `test_on_batch`.
  @discardableResult
  public final func testStep(_ batch: TrainingBatch) throws -> Tensor { try model.evaluating { try test(batch) } }

  @discardableResult
  public final func testStep(_ x: Tensor, _ y: Tensor, sampleWeight: Tensor? = nil) throws -> Tensor {
    try testStep(TrainingBatch([x], [y], sampleWeight: sampleWeight))
  }

  /// The model's outputs for a batch, in evaluation mode: Keras's `predict_on_batch`.
  public final func predictStep(_ batch: TrainingBatch) throws -> [Tensor] { try model.evaluating { try predict(batch) } }

  public final func predictStep(_ x: Tensor) throws -> Tensor {
    let outputs = try predictStep(TrainingBatch([x]))
    guard outputs.count == 1 else {
      throw TrainingError.batchMismatch("predictStep: the model has \(outputs.count) outputs; give a TrainingBatch")
    }
    return outputs[0]
  }

  // MARK: For fit

  /// The values over data. What the metrics had gathered before is there again afterwards: they may be an epoch's.
  final func evaluation(_ source: any BatchSource, steps: Int?) throws -> Logs {
    let trackers = [lossTracker] + outputTrackers
    let gathered = (metrics as [Module] + trackers).flatMap(\.variables)
    let before = fitRun == nil ? [] : gathered.map(\.value)
    defer { for (variable, value) in zip(gathered, before) { variable.value = value } }
    resetMetrics()
    // What is evaluated are the averages; training goes on with the very bits it had.
    let averaging = fitRun == nil ? nil : optimizer as? ScheduleFreeOptimizer
    let parameters = averaging == nil ? [] : optimizer.parameters.map { $0.value.detached() }
    averaging?.eval()
    defer {
      averaging?.train()
      for (parameter, value) in zip(optimizer.parameters, parameters) { parameter.value = value }
    }
    try callbacks.onTestBegin()
    let logs = BatchLogs { [unowned self] in self.currentLogs() }
    let next = source.batches(pass: source.pass, from: 0)
    try model.evaluating {
      var i = 0
      while steps.map({ i < $0 }) ?? true {
        try checkCancellation()
        guard let batch = try next() else { break }
        try callbacks.onTestBatchBegin(i)
        _ = try test(batch)
        try callbacks.onTestBatchEnd(i, logs: logs)
        i += 1
      }
      guard i > 0 else { throw TrainingError.emptyData("evaluate") }
    }
    let values = currentLogs()
    try callbacks.onTestEnd(logs: values)
    return values
  }

  /// Runs `body` with these callbacks, or within a `fit` with its own.
  private func with<R>(_ callbacks: [Callback], _ verbose: Verbosity, _ body: () throws -> R) throws -> R {
    guard fitRun == nil else { return try body() }
    let list = CallbackList(callbacks + [verbose.callback].compactMap { $0 })
    self.callbacks = list
    list.attachAll(self)
    defer {
      list.attachAll(nil)
      self.callbacks = CallbackList([])
    }
    do { return try body() } catch {
      list.onException(error)
      throw error
    }
  }
}
