import ApusData
import ApusNN
import ApusTensor

// Mixed precision and loss scaling.

extension Trainer {
  /// The model's outputs, computed in the wanted precision; float32 for the loss.
  final func outputs(for batch: TrainingBatch) -> [Tensor] {
    var predictions: [Tensor]
    if let type = options.precision.elementType {
      let inputs = batch.inputs.map { $0.elementType == .float32 ? $0.converted(to: type) : $0 }
      predictions = withParameters(as: type) { forward(inputs) }
      predictions = predictions.map { $0.elementType == type ? $0.converted(to: .float32) : $0 }
    } else {
      predictions = forward(batch.inputs)
    }
    guard predictions.count == outputs.count else {
      stop("Trainer: the model gave \(predictions.count) outputs, \(outputs.count) were declared")
    }
    return predictions
  }

  /// Whether the optimizer scales the loss itself.
  final var scalesLoss: Bool { optimizer is LossScaleOptimizer }

  /// By the optimizer's parameters; times the loss scale in float16.
  final func gradients(of loss: Tensor) -> Gradients {
    func cotangent(_ scale: Tensor?) -> Tensor? { scale?.converted(to: loss.elementType).broadcast(to: loss.shape) }
    let scaling = (optimizer as? LossScaleOptimizer)?.dynamicScale
    guard let type = options.precision.elementType else {
      return loss.gradients(for: optimizer.parameters, cotangent: cotangent(scaling), releasingHistory: true)
    }
    let scale = type == .float16 && !scalesLoss ? lossScale.scale.value : nil
    // What is computed again on the way back reads parameters as the first time.
    return withParameters(as: type) {
      loss.gradients(for: optimizer.parameters, cotangent: cotangent(scaling ?? scale), releasingHistory: true)
    }
  }

  /// Changes the parameters by the gradients that wait, which were scaled, unless one is not finite.
  final func applyWaiting() {
    guard let waiting = programs.waiting else { return }
    func program(_ name: String, _ body: @escaping () -> Void) -> () -> Void {
      if options.runEagerly || options.detectAnomaly { return { withoutGradient(body) } }
      let program = compile(name) { withoutGradient(body) }
      return { program() }
    }
    let isFinite =
      programs.waitingIsFinite
      ?? {
        let program = compile("gradients are finite") { () -> Tensor in
          withoutGradient {
            let parts = waiting.map { ApusTensor.isFinite($0.value).all().reshaped([1]) }
            return concatenate(parts).all()
          }
        }
        return { program() }
      }()
    programs.waitingIsFinite = isFinite
    if isFinite().item(as: Bool.self) {
      let apply =
        programs.applyWaiting
        ?? program("optimizer step") { [unowned self] in
          let scale = lossScale.scale.value
          let gradients = zip(optimizer.parameters, waiting).map { parameter, sum -> Tensor? in
            // Read, so that freezing is another program.
            _ = parameter.value
            return parameter.isTrainable ? sum.value / scale.converted(to: sum.elementType) : nil
          }
          optimize(by: Gradients(variables: optimizer.parameters, values: gradients))
          let steps = lossScale.steps.value + 1
          let grows = steps .>= LossScale.growthSteps
          lossScale.scale.value = `where`(grows, scale * 2, scale)
          lossScale.steps.value = `where`(grows, 0, steps)
          for variable in waiting { variable.value = Tensor.zeros(variable.shape, variable.elementType) }
        }
      programs.applyWaiting = apply
      apply()
    } else {
      let drop =
        programs.dropWaiting
        ?? program("leave a step out") { [unowned self] in
          lossScale.scale.value = lossScale.scale.value * 0.5
          lossScale.steps.value = Tensor(0)
          for variable in waiting { variable.value = Tensor.zeros(variable.shape, variable.elementType) }
        }
      programs.dropWaiting = drop
      drop()
      position.optimizerStep -= 1
    }
  }
}
