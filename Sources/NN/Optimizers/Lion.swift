import ApusTensor

/// What a parameter group of ``Lion`` may set.
public struct LionOptions: OptimizerOptions {
  public var learningRate: Double
  public var beta1: Double
  public var beta2: Double
  public var weightDecay: Double
  public var maximize: Bool
}

/// Steps of one size, by the sign of a mean of gradients (Chen et al. 2023; Keras's formula and defaults; weight decay decoupled):
/// p ← p − learningRate · weightDecay · p; p ← p − learningRate · sign(β₁ m + (1 − β₁) g); m ← β₂ m + (1 − β₂) g.
public final class Lion: GroupedOptimizer<LionOptions> {
  public init(
    _ groups: [ParameterGroup<LionOptions>], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.99),
    weightDecay: Double = 0, maximize: Bool = false
  ) {
    super.init(
      "Lion", groups,
      LionOptions(
        learningRate: learningRate, beta1: betas.0, beta2: betas.1, weightDecay: weightDecay, maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.99), weightDecay: Double = 0,
    maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, weightDecay: weightDecay, maximize: maximize)
  }

  override var stateNames: [String] { ["exp_avg"] }

  override func check(_ o: LionOptions) {
    guard o.learningRate >= 0, o.weightDecay >= 0, (0...1).contains(o.beta1), (0...1).contains(o.beta2) else {
      stop(
        "Lion: learningRate \(o.learningRate) and weightDecay \(o.weightDecay) must not be negative, betas \(o.beta1) and \(o.beta2) must be in 0 … 1"
      )
    }
  }

  override func rule(_ o: LionOptions) -> OptimizerRule? {
    var rule = OptimizerRule(.lion)
    rule.beta1 = o.beta1
    rule.beta2 = o.beta2
    rule.decoupledWeightDecay = true
    rule.maximize = o.maximize
    return rule
  }
}
