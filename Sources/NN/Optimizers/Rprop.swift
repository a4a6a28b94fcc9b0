import ApusTensor

/// What a parameter group of ``Rprop`` may set.
public struct RpropOptions: OptimizerOptions {
  public var learningRate: Double
  public var etaMinus: Double
  public var etaPlus: Double
  public var smallestStep: Double
  public var largestStep: Double
  public var maximize: Bool
  /// Has no meaning here.
  public var weightDecay = 0.0
}

/// Resilient propagation (Riedmiller and Braun 1993; PyTorch's formula), for gradients of the whole data: each element has a step size
/// of its own, larger by η₊ while its gradient keeps its sign, smaller by η₋ when it changes, and then the step is left out.
public final class Rprop: GroupedOptimizer<RpropOptions> {
  public init(
    _ groups: [ParameterGroup<RpropOptions>], learningRate: Double = 1e-2, etas: (Double, Double) = (0.5, 1.2),
    stepSizes: (Double, Double) = (1e-6, 50), maximize: Bool = false
  ) {
    super.init(
      "Rprop", groups,
      RpropOptions(
        learningRate: learningRate, etaMinus: etas.0, etaPlus: etas.1, smallestStep: stepSizes.0, largestStep: stepSizes.1,
        maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-2, etas: (Double, Double) = (0.5, 1.2),
    stepSizes: (Double, Double) = (1e-6, 50), maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, etas: etas, stepSizes: stepSizes, maximize: maximize)
  }

  override var stateNames: [String] { ["prev", "step_size"] }
  override var countsSteps: Bool { true }

  override func check(_ o: RpropOptions) {
    guard o.learningRate >= 0, o.etaMinus > 0, o.etaMinus < 1, o.etaPlus > 1 else {
      stop(
        "Rprop: learningRate \(o.learningRate) must not be negative, etas must be 0 < \(o.etaMinus) < 1 < \(o.etaPlus)"
      )
    }
  }

  override func initialState(_ i: Int, _ parameter: Parameter, _ o: RpropOptions) -> Tensor? {
    i == 1 ? Tensor.full(parameter.shape, o.learningRate, elementType(of: parameter)) : nil
  }

  override func update(_ step: inout ParameterStep, _ o: RpropOptions) {
    var g = step.directed(maximize: o.maximize)
    let turn = g * step.state(0)
    let factor = `where`(turn .> 0, o.etaPlus, `where`(turn .< 0, o.etaMinus, onesLike(g)))
    let size = (step.state(1) * factor).clamped(o.smallestStep, o.largestStep)
    g = `where`(turn .< 0, 0, g)
    step.parameter = step.parameter - sign(g) * size
    step.states = [g, size]
  }
}
