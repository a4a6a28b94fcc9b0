import ApusTensor

/// What a parameter group of ``Adafactor`` may set.
public struct AdafactorOptions: OptimizerOptions {
  public var learningRate: Double
  public var beta2Decay: Double
  /// nil: the smallest relative difference of the parameter's type.
  public var epsilon1: Double?
  public var epsilon2: Double
  /// The limit on the size of a step.
  public var d: Double
  public var weightDecay: Double
  public var maximize: Bool
}

/// Adam without its memory: of a matrix's second moment only the means of rows and columns are kept (Shazeer and Stern 2018; PyTorch's
/// formula). Along the last two dimensions of a parameter of two and more, ρₜ = min(learningRate, 1/√t), α = max(ε₂, RMS(p)) ρₜ:
/// p ← p − learningRate · weightDecay · p; r, c ← means of g² along rows and columns, mixed in by t^beta2Decay;
/// v̂ = r c / max(mean(r), ε₁); u = g / √max(v̂, ε₁²); p ← p − α u / max(1, RMS(u) / d).
/// States: row_var, col_var; variance for vectors.
public final class Adafactor: GroupedOptimizer<AdafactorOptions> {
  public init(
    _ groups: [ParameterGroup<AdafactorOptions>], learningRate: Double = 1e-2, beta2Decay: Double = -0.8,
    epsilons: (Double?, Double) = (nil, 1e-3), d: Double = 1, weightDecay: Double = 0, maximize: Bool = false
  ) {
    super.init(
      "Adafactor", groups,
      AdafactorOptions(
        learningRate: learningRate, beta2Decay: beta2Decay, epsilon1: epsilons.0, epsilon2: epsilons.1, d: d,
        weightDecay: weightDecay, maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-2, beta2Decay: Double = -0.8,
    epsilons: (Double?, Double) = (nil, 1e-3), d: Double = 1, weightDecay: Double = 0, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, beta2Decay: beta2Decay, epsilons: epsilons, d: d,
      weightDecay: weightDecay, maximize: maximize)
  }

  override var stateNames: [String] { ["row_var", "col_var", "variance"] }
  override var countsSteps: Bool { true }

  override func check(_ o: AdafactorOptions) {
    guard o.learningRate >= 0, o.beta2Decay <= 0, o.epsilon1 ?? 0 >= 0, o.epsilon2 >= 0, o.d >= 1, o.weightDecay >= 0 else {
      stop(
        "Adafactor: learningRate \(o.learningRate), epsilons and weightDecay \(o.weightDecay) must not be negative, beta2Decay \(o.beta2Decay) at most 0, d \(o.d) at least 1"
      )
    }
  }

  override func stateType(_ i: Int, _ parameter: Parameter) -> TensorType? {
    let type = elementType(of: parameter)
    var sizes = Array(parameter.shape)
    guard sizes.count > 1 else { return i == 2 ? TensorType(parameter.shape, type) : nil }
    if i == 2 { return nil }
    sizes[sizes.count - 1 - i] = 1
    return TensorType(Shape(sizes), type)
  }

  override func update(_ step: inout ParameterStep, _ o: AdafactorOptions) {
    let g = step.directed(maximize: o.maximize)
    let epsilon = o.epsilon1 ?? (step.type == .float64 ? 0x1p-52 : 0x1p-23)
    let t = step.time
    let share = step.scalar(pow(t, o.beta2Decay))
    let size = minimum(step.learningRate, rsqrt(t))
    let root = Double(Swift.max(g.count, 1)).squareRoot()
    let rate = maximum(wholeNorm(step.parameter) / root, o.epsilon2) * step.scalar(size)
    step.decay()
    func mixed(_ state: Tensor, _ new: Tensor) -> Tensor { state + (new - state) * share }
    let variance: Tensor
    if let row = step.states[0], let column = step.states[1] {
      let squares = square(g)
      let (newRow, newColumn) = (
        mixed(row, squares.mean(axis: -1, keepDims: true)), mixed(column, squares.mean(axis: -2, keepDims: true))
      )
      variance = newRow * newColumn / maximum(newRow.mean(axis: -2, keepDims: true), epsilon)
      step.states = [newRow, newColumn, nil]
    } else {
      variance = mixed(step.state(2), square(g))
      step.states = [nil, nil, variance]
    }
    let direction = g * rsqrt(maximum(variance, epsilon * epsilon))
    let excess = maximum(wholeNorm(direction) / (root * o.d), 1)
    step.parameter = step.parameter - direction * (rate / excess)
  }
}
