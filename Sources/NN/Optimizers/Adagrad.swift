import ApusTensor

/// What a parameter group of ``Adagrad`` may set.
public struct AdagradOptions: OptimizerOptions {
  public var learningRate: Double
  public var learningRateDecay: Double
  public var weightDecay: Double
  /// What the sum of squares begins with.
  public var initialAccumulatorValue: Double
  public var epsilon: Double
  public var maximize: Bool
}

/// Steps by the root of the sum of all squared gradients (Duchi et al. 2011; PyTorch's formula):
/// g ← g + weightDecay · p; s ← s + g²; p ← p − learningRate / (1 + (t − 1) · learningRateDecay) · g / (√s + ε).
public final class Adagrad: GroupedOptimizer<AdagradOptions> {
  public init(
    _ groups: [ParameterGroup<AdagradOptions>], learningRate: Double = 1e-2, learningRateDecay: Double = 0,
    weightDecay: Double = 0, initialAccumulatorValue: Double = 0, epsilon: Double = 1e-10, maximize: Bool = false
  ) {
    super.init(
      "Adagrad", groups,
      AdagradOptions(
        learningRate: learningRate, learningRateDecay: learningRateDecay, weightDecay: weightDecay,
        initialAccumulatorValue: initialAccumulatorValue, epsilon: epsilon, maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-2, learningRateDecay: Double = 0, weightDecay: Double = 0,
    initialAccumulatorValue: Double = 0, epsilon: Double = 1e-10, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, learningRateDecay: learningRateDecay, weightDecay: weightDecay,
      initialAccumulatorValue: initialAccumulatorValue, epsilon: epsilon, maximize: maximize)
  }

  override var stateNames: [String] { ["sum"] }
  override var countsSteps: Bool { true }

  override func check(_ o: AdagradOptions) {
    guard o.learningRate >= 0, o.learningRateDecay >= 0, o.weightDecay >= 0, o.initialAccumulatorValue >= 0, o.epsilon >= 0 else {
      stop(
        "Adagrad: learningRate \(o.learningRate), learningRateDecay \(o.learningRateDecay), weightDecay \(o.weightDecay), initialAccumulatorValue \(o.initialAccumulatorValue) and epsilon \(o.epsilon) must not be negative"
      )
    }
  }

  override func rule(_ o: AdagradOptions) -> OptimizerRule? {
    var rule = OptimizerRule(.adagrad)
    rule.dampening = o.learningRateDecay
    rule.epsilon = o.epsilon
    rule.maximize = o.maximize
    return rule
  }

  override func initialState(_ i: Int, _ parameter: Parameter, _ o: AdagradOptions) -> Tensor? {
    o.initialAccumulatorValue == 0
      ? nil : Tensor.full(parameter.shape, o.initialAccumulatorValue, elementType(of: parameter))
  }
}
