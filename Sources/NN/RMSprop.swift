import ApusTensor
import CApusKernels

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
  override func uses(_ part: Int, _ options: RMSpropOptions) -> Bool {
    part == 0 || (part == 1 && options.momentum > 0) || (part == 2 && options.centered)
  }

  override func check(_ o: RMSpropOptions) {
    guard o.learningRate >= 0, o.alpha >= 0, o.epsilon >= 0, o.weightDecay >= 0, o.momentum >= 0 else {
      stop(
        "RMSprop: learningRate \(o.learningRate), alpha \(o.alpha), epsilon \(o.epsilon), weightDecay \(o.weightDecay) and momentum \(o.momentum) must not be negative"
      )
    }
  }

  override func rule(_ o: RMSpropOptions) -> OptimizerRule {
    var rule = OptimizerRule(.rmsprop)
    rule.momentum = o.momentum
    rule.beta2 = o.alpha
    rule.epsilon = o.epsilon
    rule.centered = o.centered
    rule.maximize = o.maximize
    return rule
  }

  override func schedule(_ o: RMSpropOptions) -> [Double] { [o.learningRate, o.weightDecay] }

  override func kernelOptions(_ o: RMSpropOptions) -> apus_optimizer_options {
    var options = apus_optimizer_options()
    options.learning_rate = o.learningRate
    options.weight_decay = o.weightDecay
    options.momentum = o.momentum
    options.beta2 = o.alpha
    options.epsilon = o.epsilon
    options.centered = o.centered
    options.maximize = o.maximize
    return options
  }

  override func runKernel(_ type: Int32, _ tensors: [apus_optimizer_tensor], _ options: apus_optimizer_options) {
    withUnsafePointer(to: options) { apus_rmsprop_step(type, Int64(tensors.count), tensors, $0) }
  }

  override func formula(
    _ parameter: Tensor, _ gradient: Tensor, _ state: [Tensor?], _ step: Tensor?, _ o: RMSpropOptions
  ) -> (parameter: Tensor, state: [Tensor?]) {
    var g = o.maximize ? -gradient : gradient
    if o.weightDecay != 0 { g = g + parameter * o.weightDecay }
    let v = (state[0] ?? zerosLike(g)) * o.alpha + square(g) * (1 - o.alpha)
    var mean = state[2]
    var deviation = v
    if o.centered {
      let a = (mean ?? zerosLike(g)) * o.alpha + g * (1 - o.alpha)
      mean = a
      deviation = v - square(a)
    }
    let direction = g / (sqrt(deviation) + o.epsilon)
    guard o.momentum > 0 else { return (parameter - direction * o.learningRate, [v, state[1], mean]) }
    let buffer = (state[1] ?? zerosLike(g)) * o.momentum + direction
    return (parameter - buffer * o.learningRate, [v, buffer, mean])
  }
}
