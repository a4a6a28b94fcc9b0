import ApusTensor

/// Dynamic loss scaling around another optimizer, for gradients that would vanish in float16 (Micikevicius et al. 2018; Keras's rule,
/// PyTorch's GradScaler): gradients are those of the loss times a scale. Where one is not finite, the step is left out and
/// the scale halved; after `dynamicGrowthSteps` steps in a row without that, it is doubled.
///
/// A compiled step has no branch: new and old values are both there, and a selection between them.
public final class LossScaleOptimizer: Optimizer {
  public let innerOptimizer: Optimizer
  public let dynamicGrowthSteps: Int
  public let growthFactor, backoffFactor: Double
  private let scaleVariable: Variable
  private let counter = Variable(Tensor(0))

  public init(
    _ innerOptimizer: Optimizer, initialScale: Double = 32_768, dynamicGrowthSteps: Int = 2000, growthFactor: Double = 2,
    backoffFactor: Double = 0.5
  ) {
    guard initialScale > 0, dynamicGrowthSteps > 0, growthFactor >= 1, backoffFactor > 0, backoffFactor < 1 else {
      stop(
        "LossScaleOptimizer: initialScale \(initialScale) and dynamicGrowthSteps \(dynamicGrowthSteps) must be positive, growthFactor \(growthFactor) at least 1, backoffFactor \(backoffFactor) between 0 and 1"
      )
    }
    self.innerOptimizer = innerOptimizer
    self.dynamicGrowthSteps = dynamicGrowthSteps
    self.growthFactor = growthFactor
    self.backoffFactor = backoffFactor
    scaleVariable = Variable(Tensor.full([], initialScale, .float32))
    super.init(innerOptimizer.parameters)
  }

  /// The present scale, float32 [].
  public var dynamicScale: Tensor { scaleVariable.value }

  public override var learningRates: [Double] {
    get { innerOptimizer.learningRates }
    set { innerOptimizer.learningRates = newValue }
  }
  public override var schedule: (any LearningRateSchedule)? {
    get { innerOptimizer.schedule }
    set { innerOptimizer.schedule = newValue }
  }
  /// Of the gradients without the scale.
  public override var clipping: GradientClipping? {
    get { innerOptimizer.clipping }
    set { innerOptimizer.clipping = newValue }
  }

  /// The loss times the scale, of the loss's type: what gradients for ``step(_:)`` are taken of.
  public func scaleLoss(_ loss: Tensor) -> Tensor { loss * dynamicScale.converted(to: loss.elementType) }

  /// The loss itself stays as it is: its gradient begins with the scale. In float16 a scale above 65,504 is infinite, so that the
  /// first steps may be left out; a loss in float32 has room.
  public override func step(minimizing loss: Tensor) {
    let scale = dynamicScale.converted(to: loss.elementType).broadcast(to: loss.shape)
    step(loss.gradients(for: parameters, cotangent: scale, releasingHistory: true))
  }

  /// - Parameter gradients: of the scaled loss.
  public override func step(_ gradients: Gradients) {
    withoutGradient {
      let isFinite = gradients.allFinite
      let scale = scaleVariable.value
      // In the type that the inner optimizer computes in: float16 would lose again what the scale has saved.
      let unscaled = gradients.map { g in
        let type: ElementType = g.elementType == .float64 ? .float64 : .float32
        return g.converted(to: type) / scale.converted(to: type)
      }
      if isTracing {
        stepSelecting(unscaled, isFinite)
      } else if isFinite.item(as: Bool.self) {
        innerOptimizer.step(unscaled)
      }
      let steps = counter.value + 1
      let grows = steps .>= dynamicGrowthSteps
      counter.value = `where`(isFinite, `where`(grows, 0, steps), 0)
      scaleVariable.value = `where`(isFinite, `where`(grows, scale * growthFactor, scale), scale * backoffFactor)
    }
  }

  private func stepSelecting(_ gradients: Gradients, _ isFinite: Tensor) {
    innerOptimizer.prepareState()
    let variables = innerOptimizer.parameters + innerOptimizer.state.sorted { $0.key < $1.key }.map(\.value)
    let before = variables.map { $0.value.detached() }
    innerOptimizer.step(gradients)
    for (variable, old) in zip(variables, before) {
      variable.value = `where`(isFinite.broadcast(to: old.shape), variable.value.detached(), old)
    }
  }

  public override var state: [String: Variable] {
    var result = innerOptimizer.state
    result["dynamic_scale"] = scaleVariable
    result["step_counter"] = counter
    return result
  }

  public override func prepareState() { innerOptimizer.prepareState() }

  public override func load(state: [String: Tensor]) throws {
    var rest = state
    let own = [("dynamic_scale", scaleVariable), ("step_counter", counter)]
    let found = try takeOwn(own, from: &rest)
    try innerOptimizer.load(state: rest)
    for (variable, value) in found { variable.value = value }
  }
}

/// A wrapping optimizer's own state, taken out of what was loaded.
/// - Throws: ``LoadError`` for what is missing or of another type.
func takeOwn(_ own: [(String, Variable)], from state: inout [String: Tensor]) throws -> [(Variable, Tensor)] {
  var report = LoadReport()
  var result: [(Variable, Tensor)] = []
  for (name, variable) in own {
    guard let value = state.removeValue(forKey: name) else {
      report.missing.append(name)
      continue
    }
    guard value.type == variable.type else {
      report.mismatched.append(.init(name: name, expected: variable.type.description, found: value.type.description))
      continue
    }
    result.append((variable, value))
  }
  guard report.isComplete else { throw LoadError(path: "optimizer state", report: report) }
  return result
}
