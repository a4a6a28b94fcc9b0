import ApusData
import ApusNN
import ApusTensor

/// The compiled forms of a trainer's steps.
struct TrainerPrograms {
  /// Gradients, and the change of the parameters.
  var train: ((TrainingBatch) -> Tensor)?
  /// Gradients that are added to those that wait.
  var accumulate: ((TrainingBatch) -> Tensor)?
  /// As `train`, with the gradients that wait.
  var trainAccumulated: ((TrainingBatch) -> Tensor)?
  /// Whether the gradients that wait are finite, and the changes of parameters and loss scale if they are or are not.
  var waitingIsFinite: (() -> Tensor)?
  var applyWaiting: (() -> Void)?
  var dropWaiting: (() -> Void)?
  var test: ((TrainingBatch) -> Tensor)?
  var predict: ((TrainingBatch) -> [Tensor])?
  /// Sums of gradients that wait for a change of the parameters, one for each of the optimizer's.
  var waiting: [Variable]?
}

extension Trainer {
  /// Programs refer to the variables they were traced with: after these were replaced, they are traced anew.
  final func forgetPrograms() {
    let waiting = programs.waiting
    programs = TrainerPrograms()
    programs.waiting = waiting
  }

  private func program(_ name: String, _ body: @escaping (TrainingBatch) -> Tensor) -> (TrainingBatch) -> Tensor {
    if options.detectAnomaly { return { batch in withAnomalyDetection { body(batch) } } }
    if options.runEagerly { return body }
    let program = compile(name) { (batch: TrainingBatch) -> Tensor in body(batch) }
    return { program($0) }
  }

  // MARK: Steps

  /// One batch of training: the parameters change if it is the last of those whose gradients are averaged.
  final func train(_ batch: TrainingBatch, isLast: Bool) throws -> Tensor {
    try check(batch, needsTargets: true)
    let wanted = max(1, options.gradientAccumulation)
    position.accumulated += 1
    let changes = position.accumulated >= wanted || isLast
    defer {
      position.step += 1
      if changes {
        position.accumulated = 0
        position.optimizerStep += 1
      }
    }
    let usesScale = options.precision == .float16 && !scalesLoss
    if changes && position.accumulated == 1 && wanted == 1 && !usesScale {
      if let program = programs.train { return program(batch) }
      let program = program("train step") { [unowned self] in self.trainBody($0, .alone) }
      programs.train = program
      return program(batch)
    }
    if programs.waiting == nil {
      programs.waiting = optimizer.parameters.map { Variable(Tensor.zeros($0.shape, $0.elementType).contiguous()) }
    }
    if usesScale {
      let program = programs.accumulate ?? self.program("accumulate") { [unowned self] in self.trainBody($0, .waiting) }
      programs.accumulate = program
      let loss = program(batch)
      if changes { applyWaiting() }
      return loss
    }
    if changes {
      let program =
        programs.trainAccumulated ?? self.program("train step") { [unowned self] in self.trainBody($0, .withThoseThatWait) }
      programs.trainAccumulated = program
      return program(batch)
    }
    let program = programs.accumulate ?? self.program("accumulate") { [unowned self] in self.trainBody($0, .waiting) }
    programs.accumulate = program
    return program(batch)
  }

  private enum Change { case alone, waiting, withThoseThatWait }

  private func trainBody(_ batch: TrainingBatch, _ change: Change) -> Tensor {
    let predictions = outputs(for: batch)
    let loss = totalLoss(predictions, batch)
    var gradients = gradients(of: loss)
    withoutGradient {
      if change != .alone, let waiting = programs.waiting {
        let share = Tensor.host("1 / gradientAccumulation") { [unowned self] in [1 / Double(self.options.gradientAccumulation)] }
        let sums = zip(gradients.values, waiting).map { gradient, sum -> Tensor? in
          gradient.map { sum.value + $0 * share.reshaped([]).converted(to: $0.elementType) }
        }
        if change == .waiting {
          for (sum, variable) in zip(sums, waiting) { if let sum { variable.value = sum } }
        } else {
          gradients = Gradients(variables: gradients.variables, values: sums)
          for variable in waiting { variable.value = Tensor.zeros(variable.shape, variable.elementType) }
        }
      }
      if change != .waiting {
        optimize(by: gradients)
      }
      note(loss, predictions, batch)
    }
    return loss.detached()
  }

  final func optimize(by gradients: Gradients) {
    var gradients = gradients
    switch options.clipping {
    case .norm(let limit): gradients.clip(norm: limit)
    case .value(let limit): gradients.clip(value: limit)
    case nil: break
    }
    optimizer.step(gradients)
    if model.isConstrained { model.applyConstraints() }
  }

  /// The loss with the penalties of regularizers, which Keras's losses have too, in evaluation as well.
  private func totalLoss(_ predictions: [Tensor], _ batch: TrainingBatch) -> Tensor {
    let loss = computeLoss(predictions, batch)
    return model.isRegularized ? loss + model.regularizationLoss().converted(to: loss.elementType) : loss
  }

  /// The bytes that a step of training on such a batch takes.
  final func plannedMemory(_ batch: TrainingBatch) throws -> Int {
    try check(batch, needsTargets: true)
    return compile("train step") { [unowned self] (batch: TrainingBatch) -> Tensor in self.trainBody(batch, .alone) }
      .program(batch).plan.memory.total
  }

  /// One batch of evaluation. The model is in evaluation mode.
  final func test(_ batch: TrainingBatch) throws -> Tensor {
    try check(batch, needsTargets: true)
    let program =
      programs.test
      ?? self.program("test step") { [unowned self] batch in
        withoutGradient {
          let predictions = self.outputs(for: batch)
          let loss = self.totalLoss(predictions, batch)
          self.note(loss, predictions, batch)
          return loss
        }
      }
    programs.test = program
    return program(batch)
  }

  /// One batch of prediction. The model is in evaluation mode.
  final func predict(_ batch: TrainingBatch) throws -> [Tensor] {
    try check(batch, needsTargets: false)
    if programs.predict == nil {
      let body = { [unowned self] (batch: TrainingBatch) -> [Tensor] in withoutGradient { self.outputs(for: batch) } }
      if options.detectAnomaly {
        programs.predict = { batch in withAnomalyDetection { body(batch) } }
      } else if options.runEagerly {
        programs.predict = body
      } else {
        let program = compile("predict step") { (batch: TrainingBatch) -> [Tensor] in body(batch) }
        programs.predict = { program(TrainingBatch($0.inputs)) }
      }
    }
    return programs.predict?(batch) ?? []
  }

  private func note(_ loss: Tensor, _ predictions: [Tensor], _ batch: TrainingBatch) {
    lossTracker.update(loss, count: batch.count)
    for (i, output) in outputs.enumerated() {
      let prediction = predictions[i].detached()
      for metric in output.metrics { metric.update(prediction, batch.targets[i], sampleWeight: nil) }
      guard !output.weightedMetrics.isEmpty else { continue }
      let weights = weights(batch, output: i)
      for metric in output.weightedMetrics { metric.update(prediction, batch.targets[i], sampleWeight: weights) }
    }
  }

  private func check(_ batch: TrainingBatch, needsTargets: Bool) throws {
    guard !batch.inputs.isEmpty else { throw TrainingError.batchMismatch("a batch has no inputs") }
    if needsTargets && batch.targets.count != outputs.count {
      throw TrainingError.batchMismatch(
        "the model has \(outputs.count) output\(outputs.count == 1 ? "" : "s"), a batch \(batch.targets.count) targets")
    }
    let count = batch.count
    for target in batch.targets where target.shape.first != count {
      throw TrainingError.batchMismatch("a batch has \(count) inputs and targets of shape \(target.shape)")
    }
    if let weight = batch.sampleWeight, weight.shape != [count] {
      throw TrainingError.batchMismatch("sample weights have shape \(weight.shape), a batch \(count) examples")
    }
  }

}
