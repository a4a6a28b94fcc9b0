import ApusTensor

/// What a parameter group of ``ScheduleFreeAdamW`` or ``ScheduleFreeSGD`` may set.
public struct ScheduleFreeOptions: OptimizerOptions {
  public var learningRate: Double
  /// The share of the average in the point where gradients are taken: beta1 of AdamW, momentum of SGD.
  public var momentum: Double
  /// Of the second moment; SGD has none.
  public var beta2 = 0.0
  public var epsilon = 0.0
  public var weightDecay: Double
  /// Steps in which the learning rate rises to its value.
  public var warmupSteps: Int
  /// Step t counts in the average with tʳ · (largest learning rate so far)^weightLearningRatePower.
  public var r: Double
  public var weightLearningRatePower: Double
}

/// What the schedule-free optimizers share (Defazio et al. 2024, and the formulas of its authors' package `schedulefree`):
/// parameters are y = (1 − β) z + β x in training, z the sequence of steps, x its average, which is what models are evaluated with.
///
/// Call ``eval()`` before evaluating or saving a model and ``train()`` before going on.
public class ScheduleFreeOptimizer: GroupedOptimizer<ScheduleFreeOptions> {
  private let adaptive: Bool
  /// Whether the parameters are those of training, y; else the averages x.
  public private(set) final var isTraining = true

  fileprivate init(
    _ name: String, _ groups: [ParameterGroup<ScheduleFreeOptions>], _ options: ScheduleFreeOptions, adaptive: Bool
  ) {
    self.adaptive = adaptive
    super.init(name, groups, options)
  }

  override final var stateNames: [String] {
    adaptive ? ["z", "weight_sum", "lr_max", "exp_avg_sq"] : ["z", "weight_sum", "lr_max"]
  }
  override final var countsSteps: Bool { true }

  override final func check(_ o: ScheduleFreeOptions) {
    guard o.learningRate >= 0, o.epsilon >= 0, o.weightDecay >= 0, o.momentum > 0, o.momentum < 1, (0..<1).contains(o.beta2)
    else {
      stop(
        "\(type(of: self)): learningRate \(o.learningRate), epsilon \(o.epsilon) and weightDecay \(o.weightDecay) must not be negative, \(adaptive ? "beta1" : "momentum") \(o.momentum) must be between 0 and 1, beta2 \(o.beta2) in 0 ..< 1"
      )
    }
  }

  override final func stateType(_ i: Int, _ parameter: Parameter) -> TensorType? {
    i == 1 || i == 2 ? TensorType([], .float64) : super.stateType(i, parameter)
  }
  override final func initialState(_ i: Int, _ parameter: Parameter, _ o: ScheduleFreeOptions) -> Tensor? {
    // z begins where the parameter is; a copy, so that both are changed in place.
    i == 0 ? parameter.value.detached().converted(to: elementType(of: parameter)) + 0 : nil
  }

  override final func update(_ step: inout ParameterStep, _ o: ScheduleFreeOptions) {
    guard isTraining else { stop("\(type(of: self)): a step while the parameters are the averages; call train() first") }
    guard let z = step.states[0], let weights = step.states[1], let largest = step.states[2] else { return }
    let (t, y) = (step.time, step.parameter)
    var rate = step.learningRate
    if o.warmupSteps > 0 { rate = rate * minimum(t / Double(o.warmupSteps), 1) }
    let top = maximum(largest, rate)
    let weight = pow(t, o.r) * pow(top, o.weightLearningRatePower)
    let sum = weights + weight
    // With a learning rate of 0 nothing counts.
    let share = `where`(sum .> 0, weight / sum, 0)
    var g = step.gradient
    var states = [z, sum, top]
    if adaptive {
      let v = step.state(3) * o.beta2 + square(g) * (1 - o.beta2)
      g = g / (sqrt(v / step.scalar(1 - pow(o.beta2, t))) + o.epsilon)
      states.append(v)
    }
    g = g + y * step.scalar(step.weightDecay)
    step.parameter = y + (z - y) * step.scalar(share) - g * step.scalar(rate * (1 - o.momentum * (1 - share)))
    states[0] = z - g * step.scalar(rate)
    step.states = states
  }

  /// Makes the parameters the averages: for evaluation, and for saving the model.
  public final func eval() { interpolate(training: false) }
  /// Makes the parameters those of training again.
  public final func train() { interpolate(training: true) }

  private func interpolate(training: Bool) {
    guard training != isTraining else { return }
    isTraining = training
    let (state, prefixes) = (state, prefixes)
    var i = 0
    withoutGradient {
      for group in groups {
        for parameter in group.parameters {
          defer { i += 1 }
          guard let z = state["\(prefixes[i]).z"]?.value else { continue }
          let p = parameter.value.detached().converted(to: z.elementType)
          let moved = p + (z - p) * (training ? 1 - group.options.momentum : 1 - 1 / group.options.momentum)
          parameter.value = moved.converted(to: parameter.elementType)
        }
      }
    }
  }
}

/// AdamW that needs no schedule and no end of training in advance (Defazio et al. 2024; the formula and defaults of its authors'
/// package). Keras's ScheduleFreeAdamW is this with `weightLearningRatePower: 0` (and decays weights before the step).
public final class ScheduleFreeAdamW: ScheduleFreeOptimizer {
  public init(
    _ groups: [ParameterGroup<ScheduleFreeOptions>], learningRate: Double = 2.5e-3, betas: (Double, Double) = (0.9, 0.999),
    epsilon: Double = 1e-8, weightDecay: Double = 0, warmupSteps: Int = 0, r: Double = 0, weightLearningRatePower: Double = 2
  ) {
    super.init(
      "ScheduleFreeAdamW", groups,
      ScheduleFreeOptions(
        learningRate: learningRate, momentum: betas.0, beta2: betas.1, epsilon: epsilon, weightDecay: weightDecay,
        warmupSteps: warmupSteps, r: r, weightLearningRatePower: weightLearningRatePower), adaptive: true)
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 2.5e-3, betas: (Double, Double) = (0.9, 0.999), epsilon: Double = 1e-8,
    weightDecay: Double = 0, warmupSteps: Int = 0, r: Double = 0, weightLearningRatePower: Double = 2
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon, weightDecay: weightDecay,
      warmupSteps: warmupSteps, r: r, weightLearningRatePower: weightLearningRatePower)
  }
}

/// Stochastic gradient descent that needs no schedule (Defazio et al. 2024; the formula and defaults of its authors' package).
public final class ScheduleFreeSGD: ScheduleFreeOptimizer {
  public init(
    _ groups: [ParameterGroup<ScheduleFreeOptions>], learningRate: Double = 1, momentum: Double = 0.9, weightDecay: Double = 0,
    warmupSteps: Int = 0, r: Double = 0, weightLearningRatePower: Double = 2
  ) {
    super.init(
      "ScheduleFreeSGD", groups,
      ScheduleFreeOptions(
        learningRate: learningRate, momentum: momentum, weightDecay: weightDecay, warmupSteps: warmupSteps, r: r,
        weightLearningRatePower: weightLearningRatePower), adaptive: false)
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1, momentum: Double = 0.9, weightDecay: Double = 0, warmupSteps: Int = 0,
    r: Double = 0, weightLearningRatePower: Double = 2
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, momentum: momentum, weightDecay: weightDecay,
      warmupSteps: warmupSteps, r: r, weightLearningRatePower: weightLearningRatePower)
  }
}
