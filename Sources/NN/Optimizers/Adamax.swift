import ApusTensor

/// What a parameter group of ``Adamax`` may set.
public struct AdamaxOptions: OptimizerOptions {
  public var learningRate: Double
  public var beta1: Double
  public var beta2: Double
  public var epsilon: Double
  public var weightDecay: Double
  public var maximize: Bool
}

/// Adam with the largest gradient in place of the second moment (Kingma and Ba 2015, section 7.1; PyTorch's formula):
/// g ← g + weightDecay · p; m ← β₁ m + (1 − β₁) g; u ← max(β₂ u, |g| + ε); p ← p − learningRate / (1 − β₁ᵗ) · m / u.
public final class Adamax: GroupedOptimizer<AdamaxOptions> {
  public init(
    _ groups: [ParameterGroup<AdamaxOptions>], learningRate: Double = 2e-3, betas: (Double, Double) = (0.9, 0.999),
    epsilon: Double = 1e-8, weightDecay: Double = 0, maximize: Bool = false
  ) {
    super.init(
      "Adamax", groups,
      AdamaxOptions(
        learningRate: learningRate, beta1: betas.0, beta2: betas.1, epsilon: epsilon, weightDecay: weightDecay,
        maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 2e-3, betas: (Double, Double) = (0.9, 0.999), epsilon: Double = 1e-8,
    weightDecay: Double = 0, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon, weightDecay: weightDecay,
      maximize: maximize)
  }

  override var stateNames: [String] { ["exp_avg", "exp_inf"] }
  override var countsSteps: Bool { true }

  override func check(_ o: AdamaxOptions) {
    guard o.learningRate >= 0, o.epsilon >= 0, o.weightDecay >= 0, (0..<1).contains(o.beta1), (0..<1).contains(o.beta2) else {
      stop(
        "Adamax: learningRate \(o.learningRate), epsilon \(o.epsilon) and weightDecay \(o.weightDecay) must not be negative, betas \(o.beta1) and \(o.beta2) must be in 0 ..< 1"
      )
    }
  }

  override func rule(_ o: AdamaxOptions) -> OptimizerRule? {
    var rule = OptimizerRule(.adamax)
    rule.beta1 = o.beta1
    rule.beta2 = o.beta2
    rule.epsilon = o.epsilon
    rule.maximize = o.maximize
    return rule
  }
}
