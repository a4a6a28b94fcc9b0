import ApusTensor

/// What a parameter group of ``RAdam`` may set.
public struct RAdamOptions: OptimizerOptions {
  public var learningRate: Double
  public var beta1: Double
  public var beta2: Double
  public var epsilon: Double
  public var weightDecay: Double
  /// Whether weight decay is a step of its own, as AdamW's.
  public var decoupledWeightDecay: Bool
  public var maximize: Bool
}

/// Adam whose steps are rectified while too few gradients are known for the second moment (Liu et al. 2020; PyTorch's formula):
/// ρ∞ = 2 / (1 − β₂) − 1, ρₜ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ); m, v, m̂ as Adam's; where ρₜ > 5
/// p ← p − learningRate · m̂ · r · √(1 − β₂ᵗ) / (√v + ε), r = √((ρₜ − 4)(ρₜ − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρₜ)); before, p ← p − learningRate · m̂.
public final class RAdam: GroupedOptimizer<RAdamOptions> {
  public init(
    _ groups: [ParameterGroup<RAdamOptions>], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999),
    epsilon: Double = 1e-8, weightDecay: Double = 0, decoupledWeightDecay: Bool = false, maximize: Bool = false
  ) {
    super.init(
      "RAdam", groups,
      RAdamOptions(
        learningRate: learningRate, beta1: betas.0, beta2: betas.1, epsilon: epsilon, weightDecay: weightDecay,
        decoupledWeightDecay: decoupledWeightDecay, maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999), epsilon: Double = 1e-8,
    weightDecay: Double = 0, decoupledWeightDecay: Bool = false, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon, weightDecay: weightDecay,
      decoupledWeightDecay: decoupledWeightDecay, maximize: maximize)
  }

  override var stateNames: [String] { ["exp_avg", "exp_avg_sq"] }
  override var countsSteps: Bool { true }

  override func check(_ o: RAdamOptions) {
    guard o.learningRate >= 0, o.epsilon >= 0, o.weightDecay >= 0, (0..<1).contains(o.beta1), (0..<1).contains(o.beta2) else {
      stop(
        "RAdam: learningRate \(o.learningRate), epsilon \(o.epsilon) and weightDecay \(o.weightDecay) must not be negative, betas \(o.beta1) and \(o.beta2) must be in 0 ..< 1"
      )
    }
  }

  override func rule(_ o: RAdamOptions) -> OptimizerRule? {
    var rule = OptimizerRule(.radam)
    rule.beta1 = o.beta1
    rule.beta2 = o.beta2
    rule.epsilon = o.epsilon
    rule.decoupledWeightDecay = o.decoupledWeightDecay
    rule.maximize = o.maximize
    return rule
  }
}
