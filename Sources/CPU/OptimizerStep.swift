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
    var tensor = kernelTensor(rule, inputs[...], out[...])
    run(rule, out[0].elementType.code, 1, &tensor, options)
  }

  /// Many parameters at once: the operands and results of one after those of the other.
  static func run(optimizerSteps rule: OptimizerRule, _ count: Int, _ inputs: [CPUArray], _ out: [CPUArray]) {
    let (operands, results) = (4 + rule.stateCount, 1 + rule.stateCount)
    withUnsafeTemporaryAllocation(of: apus_optimizer_tensor.self, capacity: count) { tensors in
      guard let base = tensors.baseAddress else { return }
      var first = 0
      while first < count {
        // Usually all are at the same step.
        let step = inputs[(first + 1) * operands - 1].pointer.load(as: Int64.self)
        var next = first
        while next < count, inputs[(next + 1) * operands - 1].pointer.load(as: Int64.self) == step {
          base[next] = kernelTensor(
            rule, inputs[(next * operands)..<((next + 1) * operands)], out[(next * results)..<((next + 1) * results)])
          next += 1
        }
        let options = kernelOptions(rule, inputs[(first + 1) * operands - 2], inputs[(first + 1) * operands - 1])
        run(rule, out[0].elementType.code, next - first, base + first, options)
        first = next
      }
    }
  }

  private static func kernelTensor(_ rule: OptimizerRule, _ inputs: ArraySlice<CPUArray>, _ out: ArraySlice<CPUArray>)
    -> apus_optimizer_tensor
  {
    let (i, o) = (inputs.startIndex, out.startIndex)
    var tensor = apus_optimizer_tensor()
    tensor.count = Int64(inputs[i].elementCount)
    tensor.parameter = UnsafeRawPointer(inputs[i].pointer)
    tensor.gradient = UnsafeRawPointer(inputs[i + 1].pointer)
    tensor.parameter_out = out[o].pointer
    for (k, state) in rule.usedStates.enumerated() {
      let (from, to) = (UnsafeRawPointer(inputs[i + 2 + k].pointer), out[o + 1 + k].pointer)
      switch state {
      case 0: (tensor.state.0, tensor.state_out.0) = (from, to)
      case 1: (tensor.state.1, tensor.state_out.1) = (from, to)
      default: (tensor.state.2, tensor.state_out.2) = (from, to)
      }
    }
    return tensor
  }

  private static func run(
    _ rule: OptimizerRule, _ type: Int32, _ count: Int, _ tensors: UnsafePointer<apus_optimizer_tensor>,
    _ options: apus_optimizer_options
  ) {
    withUnsafePointer(to: options) { options in
      switch rule.kind {
      case .sgd: apus_sgd_step(type, Int64(count), tensors, options)
      case .adam: apus_adam_step(type, Int64(count), tensors, options)
      case .rmsprop: apus_rmsprop_step(type, Int64(count), tensors, options)
      }
    }
  }
}
