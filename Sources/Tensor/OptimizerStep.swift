/// One step of an optimizer as an operation: the new parameter and its new states.
package func applyOptimizerStep(
  _ rule: OptimizerRule, _ parameter: Tensor, _ gradient: Tensor, _ states: [Tensor], _ schedule: Tensor, _ step: Tensor
) -> [Tensor] { apply(.composite(.optimizerStep(rule)), [parameter, gradient] + states + [schedule, step]) }
