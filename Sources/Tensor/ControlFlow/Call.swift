import ApusCPU

extension Graph {
  /// The graph run operation by operation on tensors: computed, traced and remembered for gradients as if written out.
  package func callAsFunction(_ inputs: [Tensor]) -> [Tensor] {
    guard inputs.map(\.type) == inputTypes else { stop("a graph takes \(inputTypes), got \(inputs.map(\.type))") }
    var values: [Tensor?] = inputs
    values += [Tensor?](repeating: nil, count: valueCount - inputCount)
    let last = lastUses
    for (i, node) in nodes.enumerated() {
      let operands = node.inputs.map { values[$0].unsafelyUnwrapped }
      for value in node.inputs where last[value] == i { values[value] = nil }
      for (value, result) in zip(node.results, apply(node.operation, operands)) where last[value] > i { values[value] = result }
    }
    return outputs.map { values[$0].unsafelyUnwrapped }
  }
}

/// Code outside of the operation set, registered under a name (see ``registerCustomCall(_:_:)``).
///
/// It has no gradient of its own: wrap it in ``customGradient(_:name:_:)`` to give it one.
/// - Parameter resultTypes: what it gives for these inputs.
public func customCall(_ name: String, _ inputs: [Tensor], configuration: String = "", resultTypes: [TensorType]) -> [Tensor] {
  apply(.customCall(CustomCall(name, configuration: configuration, resultTypes: resultTypes)), inputs)
}

/// Makes a function known under a name, in this process; programs that call the name can run then.
/// - Parameter function: from row-major inputs and the call's configuration to as many tensors as were promised.
public func registerCustomCall(_ name: String, _ function: @escaping @Sendable ([Tensor], String) throws -> [Tensor]) {
  CPU.register(customCall: name) { inputs, configuration in
    try untraced { try function(inputs.map { Tensor(array: $0) }, configuration).map(\.array) }
  }
}

extension Operation {
  /// Gradients of operations that came as data, as in a program that was read from a file: as if their graphs were traced now.
  func propagateControlFlow(_ gradients: [Tensor?], _ sink: GradientSink) {
    let inputs = Array((0...).lazy.map { sink.node.saved($0) }.prefix { $0 != nil }.compactMap { $0 })
    let floating = inputs.indices.filter { inputs[$0].elementType.isFloatingPoint }
    let (_, pull) = pullback(floating.map { inputs[$0] }) { arguments in
      var all = inputs
      for (i, argument) in zip(floating, arguments) { all[i] = argument }
      return rerun(all)
    }
    for (i, gradient) in zip(floating, pull(gradients)) where sink.needs(i) { sink.add(i, gradient) }
  }

  private func rerun(_ inputs: [Tensor]) -> [Tensor] {
    switch self {
    case .call(let function): return function.graph(inputs)
    case .conditional(let then, let otherwise):
      let operands = Array(inputs.dropFirst())
      return applyConditional(
        inputs[0], TracedBody(then, operands: operands), TracedBody(otherwise, operands: operands), operands)
    case .whileLoop(let loop):
      let body = tracedLoopBody("body", inputs, carried: loop.carried) { loop.body.graph($0) }
      let condition = TracedBody("condition", inputs.map(\.type), tracked: inputs.map { _ in false }) { loop.condition.graph($0) }
      return applyWhileLoop(condition, body, carried: loop.carried, inputs)
    case .scanLoop(let loop):
      let shape = ScanShape(carried: loop.carried, sequences: loop.sequences, length: loop.length, reverse: loop.reverse)
      return scanned(loop, shape, inputs)
    default: preconditionFailure("not control flow: \(name)")
    }
  }
}

/// A scan that came as data.
private func scanned(_ loop: ScanLoop, _ shape: ScanShape, _ inputs: [Tensor]) -> [Tensor] {
  let first = loop.carried + loop.sequences
  let operands = inputs.enumerated().map { i, x in
    i >= loop.carried && i < first ? x.abstractElement : x
  }
  let body = tracedLoopBody("scan body", operands, carried: loop.carried) { loop.body.graph($0) }
  return applyScan(body, shape, inputs)
}
