import ApusTensor

/// What a parameter group of ``Lamb`` may set.
public struct LambOptions: OptimizerOptions {
  public var learningRate: Double
  public var beta1: Double
  public var beta2: Double
  public var epsilon: Double
  public var weightDecay: Double
  public var maximize: Bool
}

/// Adam whose step of each parameter is scaled to the parameter's norm (You et al. 2020; Keras's formula and defaults; weight decay
/// decoupled, before the step): u = m̂ / (√v̂ + ε); p ← p − ‖p‖ / ‖u‖ · learningRate · u, without the ratio where a norm is 0.
public final class Lamb: GroupedOptimizer<LambOptions> {
  public init(
    _ groups: [ParameterGroup<LambOptions>], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999),
    epsilon: Double = 1e-7, weightDecay: Double = 0, maximize: Bool = false
  ) {
    super.init(
      "Lamb", groups,
      LambOptions(
        learningRate: learningRate, beta1: betas.0, beta2: betas.1, epsilon: epsilon, weightDecay: weightDecay,
        maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999), epsilon: Double = 1e-7,
    weightDecay: Double = 0, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon, weightDecay: weightDecay,
      maximize: maximize)
  }

  override var stateNames: [String] { ["exp_avg", "exp_avg_sq"] }
  override var countsSteps: Bool { true }

  override func check(_ o: LambOptions) {
    guard o.learningRate >= 0, o.epsilon >= 0, o.weightDecay >= 0, (0..<1).contains(o.beta1), (0..<1).contains(o.beta2) else {
      stop(
        "Lamb: learningRate \(o.learningRate), epsilon \(o.epsilon) and weightDecay \(o.weightDecay) must not be negative, betas \(o.beta1) and \(o.beta2) must be in 0 ..< 1"
      )
    }
  }

  override func update(_ step: inout ParameterStep, _ o: LambOptions) {
    step.decay()
    let (p, g) = (step.parameter, step.directed(maximize: o.maximize))
    let m = step.state(0) + (g - step.state(0)) * (1 - o.beta1)
    let v = step.state(1) + (square(g) - step.state(1)) * (1 - o.beta2)
    let t = step.time
    let direction =
      m / step.scalar(1 - pow(o.beta1, t)) / (sqrt(v / step.scalar(1 - pow(o.beta2, t))) + o.epsilon)
    let (size, length) = (wholeNorm(p), wholeNorm(direction))
    let ratio = `where`((size .> 0) .& (length .> 0), size / length, 1)
    step.parameter = p - direction * (ratio * step.scalar(step.learningRate))
    step.states = [m, v]
  }
}
