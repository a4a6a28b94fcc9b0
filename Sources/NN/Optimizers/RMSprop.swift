import ApusTensor

/// What a parameter group of ``RMSprop`` may set.
public struct RMSpropOptions: OptimizerOptions {
  public var learningRate: Double
  /// How slowly the mean of squares forgets.
  public var alpha: Double
  public var epsilon: Double
  public var weightDecay: Double
  public var momentum: Double
  public var centered: Bool
  public var maximize: Bool
}

/// RMSprop (Hinton 2012; centered: Graves 2013; PyTorch's formula):
/// g ← g + weightDecay · p; v ← α v + (1 − α) g²; d = g / (√v + ε), centered g / (√(v − a²) + ε) with a the mean of g;
/// p ← p − learningRate · d, with momentum b ← momentum · b + d and p ← p − learningRate · b.
public final class RMSprop: GroupedOptimizer<RMSpropOptions> {
  public init(
    _ groups: [ParameterGroup<RMSpropOptions>], learningRate: Double = 1e-2, alpha: Double = 0.99, epsilon: Double = 1e-8,
    weightDecay: Double = 0, momentum: Double = 0, centered: Bool = false, maximize: Bool = false
  ) {
    super.init(
      "RMSprop", groups,
      RMSpropOptions(
        learningRate: learningRate, alpha: alpha, epsilon: epsilon, weightDecay: weightDecay, momentum: momentum,
        centered: centered,
        maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-2, alpha: Double = 0.99, epsilon: Double = 1e-8, weightDecay: Double = 0,
    momentum: Double = 0, centered: Bool = false, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, alpha: alpha, epsilon: epsilon, weightDecay: weightDecay,
      momentum: momentum, centered: centered, maximize: maximize)
  }

  override var stateNames: [String] { ["square_avg", "momentum_buffer", "grad_avg"] }

  override func check(_ o: RMSpropOptions) {
    guard o.learningRate >= 0, o.alpha >= 0, o.epsilon >= 0, o.weightDecay >= 0, o.momentum >= 0 else {
      stop(
        "RMSprop: learningRate \(o.learningRate), alpha \(o.alpha), epsilon \(o.epsilon), weightDecay \(o.weightDecay) and momentum \(o.momentum) must not be negative"
      )
    }
  }

  override func rule(_ o: RMSpropOptions) -> OptimizerRule? {
    var rule = OptimizerRule(.rmsprop)
    rule.momentum = o.momentum
    rule.beta2 = o.alpha
    rule.epsilon = o.epsilon
    rule.centered = o.centered
    rule.maximize = o.maximize
    return rule
  }
}
