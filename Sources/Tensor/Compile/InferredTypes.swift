/// The types of what `f` makes of tensors of these types. Nothing is computed: `f` is traced, and must not read values.
package func inferredTypes(_ inputs: [TensorType], _ f: ([Tensor]) -> [Tensor]) -> [TensorType] {
  let trace = Trace("shapes")
  return trace.recording {
    let arguments = inputs.enumerated().map { trace.addInput($1, "input \($0)", .argument($0)) }
    return withoutGradient { f(arguments) }.map(\.type)
  }
}
