extension Composite {
  /// One step in tensor functions: the formulas of PyTorch's optimizers (see the optimizers of the NN room).
  func decomposed(_ rule: OptimizerRule, _ x: [Tensor]) -> [Tensor] {
    let type = x[0].elementType
    let options = x[x.count - 2]
    let (rate, decay) = (options[0].converted(to: type), options[1].converted(to: type))
    let states = Dictionary(uniqueKeysWithValues: zip(rule.usedStates, x[2..<(2 + rule.stateCount)]))
    func state(_ i: Int) -> Tensor { states[i] ?? zerosLike(x[0]) }
    var p = x[0]
    var g = rule.maximize ? -x[1] : x[1]
    if rule.decoupledWeightDecay { p = p * (1 - rate * decay) } else { g = g + p * decay }
    switch rule.kind {
    case .sgd:
      guard rule.momentum != 0 else { return [p - g * rate] }
      let buffer = state(0) * rule.momentum + g * (1 - rule.dampening)
      return [p - (rule.nesterov ? g + buffer * rule.momentum : buffer) * rate, buffer]
    case .adam:
      let m = state(0) * rule.beta1 + g * (1 - rule.beta1)
      let v = state(1) * rule.beta2 + square(g) * (1 - rule.beta2)
      let largest = maximum(state(2), v)
      // In float64: 1 − 0.999 in float32 has three digits.
      let t = x[x.count - 1].converted(to: .float64)
      let stepSize = options[0] / (1 - pow(rule.beta1, t))
      let correction = sqrt(1 - pow(rule.beta2, t))
      let root = sqrt(rule.amsgrad ? largest : v) / correction.converted(to: type)
      p = p - m / (root + rule.epsilon) * stepSize.converted(to: type)
      return rule.amsgrad ? [p, m, v, largest] : [p, m, v]
    case .rmsprop:
      let v = state(0) * rule.beta2 + square(g) * (1 - rule.beta2)
      let mean = state(2) * rule.beta2 + g * (1 - rule.beta2)
      let direction = g / (sqrt(rule.centered ? v - square(mean) : v) + rule.epsilon)
      let buffer = state(1) * rule.momentum + direction
      var results = [p - (rule.momentum != 0 ? buffer : direction) * rate, v]
      if rule.momentum != 0 { results.append(buffer) }
      if rule.centered { results.append(mean) }
      return results
    }
  }
}

/// One step of an optimizer as an operation: the new parameter and its new states.
package func applyOptimizerStep(
  _ rule: OptimizerRule, _ parameter: Tensor, _ gradient: Tensor, _ states: [Tensor], _ schedule: Tensor, _ step: Tensor
) -> [Tensor] { apply(.composite(.optimizerStep(rule)), [parameter, gradient] + states + [schedule, step]) }
