import ApusTensor
import CApusKernels

/// What a parameter group of ``SGD`` may set.
public struct SGDOptions: OptimizerOptions {
  public var learningRate: Double
  public var momentum: Double
  public var dampening: Double
  public var weightDecay: Double
  public var nesterov: Bool
  public var maximize: Bool
}

/// Stochastic gradient descent, with momentum on request (PyTorch's formula):
/// g ← g + weightDecay · p; b ← momentum · b + (1 − dampening) · g, at the first step b ← g; p ← p − learningRate · b,
/// or, with Nesterov's momentum, p ← p − learningRate · (g + momentum · b).
public final class SGD: GroupedOptimizer<SGDOptions> {
  public init(
    _ groups: [ParameterGroup<SGDOptions>], learningRate: Double = 1e-3, momentum: Double = 0, dampening: Double = 0,
    weightDecay: Double = 0, nesterov: Bool = false, maximize: Bool = false
  ) {
    super.init(
      "SGD", groups,
      SGDOptions(
        learningRate: learningRate, momentum: momentum, dampening: dampening, weightDecay: weightDecay, nesterov: nesterov,
        maximize: maximize))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, momentum: Double = 0, dampening: Double = 0, weightDecay: Double = 0,
    nesterov: Bool = false, maximize: Bool = false
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, momentum: momentum, dampening: dampening,
      weightDecay: weightDecay, nesterov: nesterov, maximize: maximize)
  }

  override var stateNames: [String] { ["momentum_buffer"] }
  override func uses(_ part: Int, _ options: SGDOptions) -> Bool { options.momentum != 0 }

  override func check(_ o: SGDOptions) {
    guard o.learningRate >= 0, o.momentum >= 0, o.weightDecay >= 0 else {
      stop("SGD: learningRate \(o.learningRate), momentum \(o.momentum) and weightDecay \(o.weightDecay) must not be negative")
    }
    guard !o.nesterov || (o.momentum > 0 && o.dampening == 0) else {
      stop("SGD: Nesterov's momentum needs a momentum above 0 and no dampening")
    }
  }

  override func rule(_ o: SGDOptions) -> OptimizerRule {
    var rule = OptimizerRule(.sgd)
    rule.momentum = o.momentum
    rule.dampening = o.dampening
    rule.nesterov = o.nesterov
    rule.maximize = o.maximize
    return rule
  }

  override func schedule(_ o: SGDOptions) -> [Double] { [o.learningRate, o.weightDecay] }

  override func kernelOptions(_ o: SGDOptions) -> apus_optimizer_options {
    var options = apus_optimizer_options()
    options.learning_rate = o.learningRate
    options.weight_decay = o.weightDecay
    options.momentum = o.momentum
    options.dampening = o.dampening
    options.nesterov = o.nesterov
    options.maximize = o.maximize
    return options
  }

  override func runKernel(_ type: Int32, _ tensors: [apus_optimizer_tensor], _ options: apus_optimizer_options) {
    withUnsafePointer(to: options) { apus_sgd_step(type, Int64(tensors.count), tensors, $0) }
  }

  override func formula(
    _ parameter: Tensor, _ gradient: Tensor, _ state: [Tensor?], _ step: Tensor?, _ o: SGDOptions
  ) -> (parameter: Tensor, state: [Tensor?]) {
    var g = o.maximize ? -gradient : gradient
    if o.weightDecay != 0 { g = g + parameter * o.weightDecay }
    guard o.momentum != 0 else { return (parameter - g * o.learningRate, state) }
    let buffer = state[0].map { $0 * o.momentum + g * (1 - o.dampening) } ?? g
    let direction = o.nesterov ? g + buffer * o.momentum : buffer
    return (parameter - direction * o.learningRate, [buffer])
  }
}
