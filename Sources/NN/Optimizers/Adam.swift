import ApusTensor

/// What a parameter group of ``Adam`` or ``AdamW`` may set.
public struct AdamOptions: OptimizerOptions {
  public var learningRate: Double
  public var beta1: Double
  public var beta2: Double
  public var epsilon: Double
  public var weightDecay: Double
  public var amsgrad: Bool
  public var maximize: Bool
}

/// What Adam and AdamW share.
public class AdamOptimizer: GroupedOptimizer<AdamOptions> {
  /// Whether weight decay is a step of its own (AdamW) or part of the gradient (Adam).
  private let decoupled: Bool

  fileprivate init(_ name: String, _ groups: [ParameterGroup<AdamOptions>], _ options: AdamOptions, decoupled: Bool) {
    self.decoupled = decoupled
    super.init(name, groups, options)
  }

  override final var stateNames: [String] { ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"] }
  override final var countsSteps: Bool { true }

  override final func check(_ o: AdamOptions) {
    guard o.learningRate >= 0, o.epsilon >= 0, o.weightDecay >= 0, (0..<1).contains(o.beta1), (0..<1).contains(o.beta2) else {
      stop(
        "\(type(of: self)): learningRate \(o.learningRate), epsilon \(o.epsilon) and weightDecay \(o.weightDecay) must not be negative, betas \(o.beta1) and \(o.beta2) must be in 0 ..< 1"
      )
    }
  }

  override final func rule(_ o: AdamOptions) -> OptimizerRule? {
    var rule = OptimizerRule(.adam)
    rule.beta1 = o.beta1
    rule.beta2 = o.beta2
    rule.epsilon = o.epsilon
    rule.amsgrad = o.amsgrad
    rule.decoupledWeightDecay = decoupled
    rule.maximize = o.maximize
    return rule
  }
}

/// Adam (Kingma and Ba 2015; PyTorch's formula), with weight decay in the gradient:
/// g ← g + weightDecay · p; m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²;
/// p ← p − learningRate · m̂ / (√v̂ + ε), m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ); with `amsgrad` the largest v so far.
public final class Adam: AdamOptimizer {
  public init(
    _ groups: [ParameterGroup<AdamOptions>], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999),
    epsilon: Double = 1e-8, weightDecay: Double = 0, amsgrad: Bool = false, maximize: Bool = false
  ) {
    super.init(
      "Adam", groups,
      AdamOptions(
        learningRate: learningRate, beta1: betas.0, beta2: betas.1, epsilon: epsilon, weightDecay: weightDecay, amsgrad: amsgrad,
        maximize: maximize), decoupled: false)
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999), epsilon: Double = 1e-8,
    weightDecay: Double = 0, amsgrad: Bool = false, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon, weightDecay: weightDecay,
      amsgrad: amsgrad, maximize: maximize)
  }
}

/// Adam with weight decay as a step of its own, p ← p − learningRate · weightDecay · p (Loshchilov and Hutter 2019;
/// PyTorch's formula and defaults).
public final class AdamW: AdamOptimizer {
  public init(
    _ groups: [ParameterGroup<AdamOptions>], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999),
    epsilon: Double = 1e-8, weightDecay: Double = 1e-2, amsgrad: Bool = false, maximize: Bool = false
  ) {
    super.init(
      "AdamW", groups,
      AdamOptions(
        learningRate: learningRate, beta1: betas.0, beta2: betas.1, epsilon: epsilon, weightDecay: weightDecay, amsgrad: amsgrad,
        maximize: maximize), decoupled: true)
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999), epsilon: Double = 1e-8,
    weightDecay: Double = 1e-2, amsgrad: Bool = false, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon, weightDecay: weightDecay,
      amsgrad: amsgrad, maximize: maximize)
  }
}
