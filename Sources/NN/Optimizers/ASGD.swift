import ApusTensor

/// What a parameter group of ``ASGD`` may set.
public struct ASGDOptions: OptimizerOptions {
  public var learningRate: Double
  /// The decay term λ.
  public var lambda: Double
  public var alpha: Double
  /// The step after which averaging begins.
  public var t0: Double
  public var weightDecay: Double
  public var maximize: Bool
}

/// Averaged stochastic gradient descent (Polyak and Juditsky 1992; PyTorch's formula):
/// g ← g + weightDecay · p; p ← (1 − λ η) p − η g; a ← a + μ (p − a); η ← learningRate / (1 + λ · learningRate · t)^α;
/// μ ← 1 / max(1, t − t₀). States: eta, mu, ax (the average a).
public final class ASGD: GroupedOptimizer<ASGDOptions> {
  public init(
    _ groups: [ParameterGroup<ASGDOptions>], learningRate: Double = 1e-2, lambda: Double = 1e-4, alpha: Double = 0.75,
    t0: Double = 1e6, weightDecay: Double = 0, maximize: Bool = false
  ) {
    super.init(
      "ASGD", groups,
      ASGDOptions(
        learningRate: learningRate, lambda: lambda, alpha: alpha, t0: t0, weightDecay: weightDecay, maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-2, lambda: Double = 1e-4, alpha: Double = 0.75, t0: Double = 1e6,
    weightDecay: Double = 0, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, lambda: lambda, alpha: alpha, t0: t0, weightDecay: weightDecay,
      maximize: maximize)
  }

  override var stateNames: [String] { ["ax", "eta", "mu"] }
  override var countsSteps: Bool { true }

  override func check(_ o: ASGDOptions) {
    guard o.learningRate >= 0, o.weightDecay >= 0 else {
      stop(
        "ASGD: learningRate \(o.learningRate) and weightDecay \(o.weightDecay) must not be negative"
      )
    }
  }

  override func stateType(_ i: Int, _ parameter: Parameter) -> TensorType? {
    i == 0 ? super.stateType(i, parameter) : TensorType([], .float64)
  }
  override func initialState(_ i: Int, _ parameter: Parameter, _ o: ASGDOptions) -> Tensor? {
    i == 0 ? nil : Tensor.full([], i == 1 ? o.learningRate : 1, .float64)
  }

  override func update(_ step: inout ParameterStep, _ o: ASGDOptions) {
    guard let ax = step.states[0], let eta = step.states[1], let mu = step.states[2] else { return }
    let g = step.directed(maximize: o.maximize, decaying: true)
    let p = step.parameter * step.scalar(1 - eta * o.lambda) - g * step.scalar(eta)
    let (rate, t) = (step.learningRate, step.time)
    step.parameter = p
    step.states = [
      // Where μ is 1 the average is the parameter itself, without rounding.
      `where`((mu .== 1).broadcast(to: p.shape), p, ax + (p - ax) * step.scalar(mu)),
      rate / pow(1 + rate * o.lambda * t, o.alpha),
      1 / maximum(t - o.t0, 1),
    ]
  }
}
