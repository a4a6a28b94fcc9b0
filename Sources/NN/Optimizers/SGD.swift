import ApusTensor

/// What a parameter group of ``SGD`` may set.
public struct SGDOptions: OptimizerOptions {
  public var learningRate: Double
  public var momentum: Double
  public var dampening: Double
  public var weightDecay: Double
  public var nesterov: Bool
  public var maximize: Bool
}

/// Stochastic gradient descent, with momentum on request (PyTorch's formula):
/// g ← g + weightDecay · p; b ← momentum · b + (1 − dampening) · g, at the first step b ← g; p ← p − learningRate · b,
/// or, with Nesterov's momentum, p ← p − learningRate · (g + momentum · b).
public final class SGD: GroupedOptimizer<SGDOptions> {
  public init(
    _ groups: [ParameterGroup<SGDOptions>], learningRate: Double = 1e-3, momentum: Double = 0, dampening: Double = 0,
    weightDecay: Double = 0, nesterov: Bool = false, maximize: Bool = false
  ) {
    super.init(
      "SGD", groups,
      SGDOptions(
        learningRate: learningRate, momentum: momentum, dampening: dampening, weightDecay: weightDecay, nesterov: nesterov,
        maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, momentum: Double = 0, dampening: Double = 0, weightDecay: Double = 0,
    nesterov: Bool = false, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, momentum: momentum, dampening: dampening,
      weightDecay: weightDecay, nesterov: nesterov, maximize: maximize)
  }

  override var stateNames: [String] { ["momentum_buffer"] }

  override func check(_ o: SGDOptions) {
    guard o.learningRate >= 0, o.momentum >= 0, o.weightDecay >= 0 else {
      stop("SGD: learningRate \(o.learningRate), momentum \(o.momentum) and weightDecay \(o.weightDecay) must not be negative")
    }
    guard !o.nesterov || (o.momentum > 0 && o.dampening == 0) else {
      stop("SGD: Nesterov's momentum needs a momentum above 0 and no dampening")
    }
  }

  override func rule(_ o: SGDOptions) -> OptimizerRule? {
    var rule = OptimizerRule(.sgd)
    rule.momentum = o.momentum
    rule.dampening = o.dampening
    rule.nesterov = o.nesterov
    rule.maximize = o.maximize
    return rule
  }
}
