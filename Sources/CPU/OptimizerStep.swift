import ApusIR
import CApusKernels

extension CPU {
  /// The kernel's options; learning rate, weight decay and step are operands.
  static func kernelOptions(_ rule: OptimizerRule, _ options: CPUArray, _ step: CPUArray) -> apus_optimizer_options {
    var o = apus_optimizer_options()
    let numbers = options.pointer.assumingMemoryBound(to: Double.self)
    o.learning_rate = numbers[0]
    o.weight_decay = numbers[1]
    o.step = step.pointer.load(as: Int64.self)
    o.gradient_scale = 1
    o.momentum = rule.momentum
    o.dampening = rule.dampening
    o.beta1 = rule.beta1
    o.beta2 = rule.beta2
    o.epsilon = rule.epsilon
    o.nesterov = rule.nesterov
    o.decoupled_weight_decay = rule.decoupledWeightDecay
    o.amsgrad = rule.amsgrad
    o.centered = rule.centered
    o.maximize = rule.maximize
    return o
  }

  /// Results may lie in their operands' memory.
  static func run(optimizerStep rule: OptimizerRule, _ inputs: [CPUArray], _ out: [CPUArray]) {
    let options = kernelOptions(rule, inputs[inputs.count - 2], inputs[inputs.count - 1])
    var tensor = apus_optimizer_tensor()
    tensor.count = Int64(inputs[0].elementCount)
    tensor.parameter = UnsafeRawPointer(inputs[0].pointer)
    tensor.gradient = UnsafeRawPointer(inputs[1].pointer)
    tensor.parameter_out = out[0].pointer
    for (i, state) in rule.usedStates.enumerated() {
      let (from, to) = (UnsafeRawPointer(inputs[2 + i].pointer), out[1 + i].pointer)
      switch state {
      case 0: (tensor.state.0, tensor.state_out.0) = (from, to)
      case 1: (tensor.state.1, tensor.state_out.1) = (from, to)
      default: (tensor.state.2, tensor.state_out.2) = (from, to)
      }
    }
    let type = out[0].elementType.code
    withUnsafePointer(to: options) { options in
      switch rule.kind {
      case .sgd: apus_sgd_step(type, 1, &tensor, options)
      case .adam: apus_adam_step(type, 1, &tensor, options)
      case .rmsprop: apus_rmsprop_step(type, 1, &tensor, options)
      }
    }
  }
}
