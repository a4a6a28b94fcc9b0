import ApusTensor

/// What a parameter group of ``Ftrl`` may set.
public struct FtrlOptions: OptimizerOptions {
  public var learningRate: Double
  /// At most 0; 0: a fixed learning rate.
  public var learningRatePower: Double
  public var initialAccumulatorValue: Double
  public var l1RegularizationStrength: Double
  public var l2RegularizationStrength: Double
  /// Of a penalty on the magnitude of steps, where l2RegularizationStrength stabilizes.
  public var l2ShrinkageRegularizationStrength: Double
  public var beta: Double
  public var weightDecay: Double
  public var maximize: Bool
}

/// Follow the regularized leader (McMahan et al. 2013; Keras's formula and defaults), with L1 and L2 penalties and shrinkage:
/// n′ = n + g²; z ← z + g + 2 · shrinkage · p − (n′^−q − n^−q) / learningRate · p, q = learningRatePower;
/// p ← (clip(z, −l1, l1) − z) / (n′^−q / learningRate + 2 (l2 + β / (2 learningRate))); n ← n′. States: accumulator n, linear z.
public final class Ftrl: GroupedOptimizer<FtrlOptions> {
  public init(
    _ groups: [ParameterGroup<FtrlOptions>], learningRate: Double = 1e-3, learningRatePower: Double = -0.5,
    initialAccumulatorValue: Double = 0.1, l1RegularizationStrength: Double = 0, l2RegularizationStrength: Double = 0,
    l2ShrinkageRegularizationStrength: Double = 0, beta: Double = 0, weightDecay: Double = 0, maximize: Bool = false
  ) {
    super.init(
      "Ftrl", groups,
      FtrlOptions(
        learningRate: learningRate, learningRatePower: learningRatePower, initialAccumulatorValue: initialAccumulatorValue,
        l1RegularizationStrength: l1RegularizationStrength, l2RegularizationStrength: l2RegularizationStrength,
        l2ShrinkageRegularizationStrength: l2ShrinkageRegularizationStrength, beta: beta, weightDecay: weightDecay,
        maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, learningRatePower: Double = -0.5,
    initialAccumulatorValue: Double = 0.1, l1RegularizationStrength: Double = 0, l2RegularizationStrength: Double = 0,
    l2ShrinkageRegularizationStrength: Double = 0, beta: Double = 0, weightDecay: Double = 0, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, learningRatePower: learningRatePower,
      initialAccumulatorValue: initialAccumulatorValue, l1RegularizationStrength: l1RegularizationStrength,
      l2RegularizationStrength: l2RegularizationStrength, l2ShrinkageRegularizationStrength: l2ShrinkageRegularizationStrength,
      beta: beta, weightDecay: weightDecay, maximize: maximize)
  }

  override var stateNames: [String] { ["accumulator", "linear"] }

  override func check(_ o: FtrlOptions) {
    guard o.learningRate > 0, o.learningRatePower <= 0, o.initialAccumulatorValue >= 0, o.l1RegularizationStrength >= 0,
      o.l2RegularizationStrength >= 0,
      o.l2ShrinkageRegularizationStrength >= 0
    else {
      stop(
        "Ftrl: learningRate \(o.learningRate) must be positive, learningRatePower \(o.learningRatePower) at most 0, initialAccumulatorValue and regularization strengths must not be negative"
      )
    }
  }

  override func initialState(_ i: Int, _ parameter: Parameter, _ o: FtrlOptions) -> Tensor? {
    i == 0 ? Tensor.full(parameter.shape, o.initialAccumulatorValue, elementType(of: parameter)) : nil
  }

  override func update(_ step: inout ParameterStep, _ o: FtrlOptions) {
    step.decay()
    let (p, g) = (step.parameter, step.directed(maximize: o.maximize))
    let rate = step.scalar(step.learningRate)
    let (before, now) = (step.state(0), step.state(0) + square(g))
    func power(_ x: Tensor) -> Tensor { o.learningRatePower == -0.5 ? sqrt(x) : pow(x, -o.learningRatePower) }
    let top = power(now)
    let linear = step.state(1) + (g + p * (2 * o.l2ShrinkageRegularizationStrength) - (top - power(before)) / rate * p)
    let l2 = o.beta / (2 * rate) + o.l2RegularizationStrength
    let l1 = o.l1RegularizationStrength
    step.parameter = (linear.clamped(-l1, l1) - linear) / (top / rate + 2 * l2)
    step.states = [now, linear]
  }
}
