import ApusTensor

/// What a parameter group of ``NAdam`` may set.
public struct NAdamOptions: OptimizerOptions {
  public var learningRate: Double
  public var beta1: Double
  public var beta2: Double
  public var epsilon: Double
  public var weightDecay: Double
  public var momentumDecay: Double
  /// Whether weight decay is a step of its own, as AdamW's.
  public var decoupledWeightDecay: Bool
  public var maximize: Bool
}

/// Adam with Nesterov's momentum (Dozat 2016; PyTorch's formula, which Keras's Nadam shares but for a momentum decay of 0.004 and
/// ε beside √v̂):
/// μₜ = β₁ (1 − 0.96^(t · momentumDecay) / 2); m and v as Adam's;
/// p ← p − learningRate · ((1 − μₜ) / (1 − Πμᵢ) · g + μₜ₊₁ / (1 − Πμᵢ · μₜ₊₁) · m) / (√v̂ + ε).
///
/// The product Πμᵢ is part of the state, as float64 (PyTorch: of the default type).
public final class NAdam: GroupedOptimizer<NAdamOptions> {
  public init(
    _ groups: [ParameterGroup<NAdamOptions>], learningRate: Double = 2e-3, betas: (Double, Double) = (0.9, 0.999),
    epsilon: Double = 1e-8, weightDecay: Double = 0, momentumDecay: Double = 4e-3, decoupledWeightDecay: Bool = false,
    maximize: Bool = false
  ) {
    super.init(
      "NAdam", groups,
      NAdamOptions(
        learningRate: learningRate, beta1: betas.0, beta2: betas.1, epsilon: epsilon, weightDecay: weightDecay,
        momentumDecay: momentumDecay, decoupledWeightDecay: decoupledWeightDecay, maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 2e-3, betas: (Double, Double) = (0.9, 0.999), epsilon: Double = 1e-8,
    weightDecay: Double = 0, momentumDecay: Double = 4e-3, decoupledWeightDecay: Bool = false, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon, weightDecay: weightDecay,
      momentumDecay: momentumDecay, decoupledWeightDecay: decoupledWeightDecay, maximize: maximize)
  }

  override var stateNames: [String] { ["exp_avg", "exp_avg_sq"] }
  override var countsSteps: Bool { true }

  override func check(_ o: NAdamOptions) {
    guard o.learningRate >= 0, o.epsilon >= 0, o.weightDecay >= 0, (0..<1).contains(o.beta1), (0..<1).contains(o.beta2),
      o.momentumDecay >= 0
    else {
      stop(
        "NAdam: learningRate \(o.learningRate), epsilon \(o.epsilon) and weightDecay \(o.weightDecay) must not be negative, betas \(o.beta1) and \(o.beta2) must be in 0 ..< 1, momentumDecay \(o.momentumDecay) must not be negative"
      )
    }
  }

  override func rule(_ o: NAdamOptions) -> OptimizerRule? {
    var rule = OptimizerRule(.nadam)
    rule.beta1 = o.beta1
    rule.beta2 = o.beta2
    rule.epsilon = o.epsilon
    rule.momentum = o.momentumDecay
    rule.decoupledWeightDecay = o.decoupledWeightDecay
    rule.maximize = o.maximize
    return rule
  }

  override var factorName: String? { "mu_product" }
  override func nextFactor(_ factor: Tensor, _ step: Tensor, _ o: NAdamOptions) -> Tensor {
    factor * ((1 - pow(0.96, step.converted(to: .float64) * o.momentumDecay) * 0.5) * o.beta1)
  }
}
