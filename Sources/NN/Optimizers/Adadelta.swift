import ApusTensor

/// What a parameter group of ``Adadelta`` may set.
public struct AdadeltaOptions: OptimizerOptions {
  public var learningRate: Double
  /// How slowly the averages forget.
  public var rho: Double
  public var epsilon: Double
  public var weightDecay: Double
  public var maximize: Bool
}

/// Steps by the root of squared changes over that of squared gradients (Zeiler 2012; PyTorch's formula):
/// g ← g + weightDecay · p; s ← ρ s + (1 − ρ) g²; d = √(u + ε) / √(s + ε) · g; u ← ρ u + (1 − ρ) d²; p ← p − learningRate · d.
public final class Adadelta: GroupedOptimizer<AdadeltaOptions> {
  public init(
    _ groups: [ParameterGroup<AdadeltaOptions>], learningRate: Double = 1, rho: Double = 0.9, epsilon: Double = 1e-6,
    weightDecay: Double = 0, maximize: Bool = false
  ) {
    super.init(
      "Adadelta", groups,
      AdadeltaOptions(
        learningRate: learningRate, rho: rho, epsilon: epsilon, weightDecay: weightDecay, maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1, rho: Double = 0.9, epsilon: Double = 1e-6, weightDecay: Double = 0,
    maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, rho: rho, epsilon: epsilon, weightDecay: weightDecay,
      maximize: maximize)
  }

  override var stateNames: [String] { ["square_avg", "acc_delta"] }

  override func check(_ o: AdadeltaOptions) {
    guard o.learningRate >= 0, (0...1).contains(o.rho), o.epsilon >= 0, o.weightDecay >= 0 else {
      stop(
        "Adadelta: learningRate \(o.learningRate), epsilon \(o.epsilon) and weightDecay \(o.weightDecay) must not be negative, rho \(o.rho) must be in 0 … 1"
      )
    }
  }

  override func rule(_ o: AdadeltaOptions) -> OptimizerRule? {
    var rule = OptimizerRule(.adadelta)
    rule.beta2 = o.rho
    rule.epsilon = o.epsilon
    rule.maximize = o.maximize
    return rule
  }
}
