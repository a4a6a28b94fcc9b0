import ApusIR
import CApusKernels

extension CPU {
  /// Changes many tensors of float32 or float64 by one rule; `step` is 1 at the first.
  package static func step(
    _ rule: OptimizerRule, learningRate: Double, weightDecay: Double, muProduct: Double = 1, step: Int, _ type: ElementType,
    _ tensors: UnsafeBufferPointer<apus_optimizer_tensor>
  ) {
    var o = apus_optimizer_options()
    o.learning_rate = learningRate
    o.weight_decay = weightDecay
    o.mu_product = muProduct
    o.step = Int64(step)
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
    let count = Int64(tensors.count)
    switch rule.kind {
    case .sgd: apus_sgd_step(type.code, count, tensors.baseAddress, &o)
    case .adam: apus_adam_step(type.code, count, tensors.baseAddress, &o)
    case .rmsprop: apus_rmsprop_step(type.code, count, tensors.baseAddress, &o)
    case .adamax: apus_adamax_step(type.code, count, tensors.baseAddress, &o)
    case .nadam: apus_nadam_step(type.code, count, tensors.baseAddress, &o)
    case .radam: apus_radam_step(type.code, count, tensors.baseAddress, &o)
    case .adagrad: apus_adagrad_step(type.code, count, tensors.baseAddress, &o)
    case .adadelta: apus_adadelta_step(type.code, count, tensors.baseAddress, &o)
    case .lion: apus_lion_step(type.code, count, tensors.baseAddress, &o)
    }
  }

  /// Results may lie in their operands' memory.
  static func run(optimizerStep rule: OptimizerRule, _ inputs: [CPUArray], _ out: [CPUArray]) {
    run(optimizerSteps: rule, 1, inputs, out)
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
        let options = inputs[(first + 1) * operands - 2].pointer.assumingMemoryBound(to: Double.self)
        self.step(
          rule, learningRate: options[0], weightDecay: options[1], muProduct: rule.optionCount > 2 ? options[2] : 1,
          step: Int(step), out[0].elementType, UnsafeBufferPointer(start: base + first, count: next - first))
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
      tensor.setState(state, UnsafeRawPointer(inputs[i + 2 + k].pointer), out[o + 1 + k].pointer)
    }
    return tensor
  }
}

extension apus_optimizer_tensor {
  /// Where one of the states is read, nil at the first step, and written.
  package mutating func setState(_ i: Int, _ input: UnsafeRawPointer?, _ output: UnsafeMutableRawPointer) {
    switch i {
    case 0: (state.0, state_out.0) = (input, output)
    case 1: (state.1, state_out.1) = (input, output)
    default: (state.2, state_out.2) = (input, output)
    }
  }
}
