import ApusTensor

/// What a parameter group of ``SparseAdam`` may set.
public struct SparseAdamOptions: OptimizerOptions {
  public var learningRate: Double
  public var beta1: Double
  public var beta2: Double
  public var epsilon: Double
  public var maximize: Bool
  /// Has no meaning here.
  public var weightDecay = 0.0
}

/// Adam for gradients of which most rows are zero, as those of embeddings (PyTorch's formula): rows (along the first dimension)
/// whose gradient is all zeros keep their values and moments. Gradients are dense here, so a row that was looked up counts as absent
/// if its gradient happens to be exactly zero; PyTorch's sparse gradients would decay its moments.
/// m ← m + (1 − β₁)(g − m), v ← v + (1 − β₂)(g² − v), p ← p − learningRate · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε).
public final class SparseAdam: GroupedOptimizer<SparseAdamOptions> {
  public init(
    _ groups: [ParameterGroup<SparseAdamOptions>], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999),
    epsilon: Double = 1e-8, maximize: Bool = false
  ) {
    super.init(
      "SparseAdam", groups,
      SparseAdamOptions(
        learningRate: learningRate, beta1: betas.0, beta2: betas.1, epsilon: epsilon, maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, betas: (Double, Double) = (0.9, 0.999), epsilon: Double = 1e-8,
    maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon, maximize: maximize)
  }

  override var stateNames: [String] { ["exp_avg", "exp_avg_sq"] }
  override var countsSteps: Bool { true }

  override func check(_ o: SparseAdamOptions) {
    guard o.learningRate >= 0, o.epsilon >= 0, (0..<1).contains(o.beta1), (0..<1).contains(o.beta2) else {
      stop(
        "SparseAdam: learningRate \(o.learningRate) and epsilon \(o.epsilon) must not be negative, betas \(o.beta1) and \(o.beta2) must be in 0 ..< 1"
      )
    }
  }

  override func update(_ step: inout ParameterStep, _ o: SparseAdamOptions) {
    let g = step.directed(maximize: o.maximize)
    let (m, v) = (step.state(0), step.state(1))
    let axes = Array(1..<Swift.max(g.rank, 1))
    let isPresent = (g.rank > 1 ? (g .!= 0).any(axes: axes, keepDims: true) : g .!= 0).broadcast(to: g.shape)
    let (newM, newV) = (m + (g - m) * (1 - o.beta1), v + (square(g) - v) * (1 - o.beta2))
    let t = step.time
    let rate = step.scalar(step.learningRate * sqrt(1 - pow(o.beta2, t)) / (1 - pow(o.beta1, t)))
    step.parameter = `where`(isPresent, step.parameter - newM / (sqrt(newV) + o.epsilon) * rate, step.parameter)
    step.states = [`where`(isPresent, newM, m), `where`(isPresent, newV, v)]
  }
}
