// Operations with kernels of their own, their decompositions into other operations, and their gradients.

/// The move of an axis to the end and back, around a row operation.
private func alongLast(_ x: Tensor, _ axis: Int, _ name: String, _ f: (Tensor) -> Tensor) -> Tensor {
  let axis = x.axis(axis, name)
  return axis == x.rank - 1 ? f(x) : f(x.movedAxis(axis, to: -1)).movedAxis(-1, to: axis)
}

/// eˣ / Σ eˣ along the axis.
public func softmax(_ x: Tensor, axis: Int = -1) -> Tensor { alongLast(x, axis, "softmax") { apply(.composite(.softmax), $0) } }
/// x − log Σ eˣ along the axis.
public func logSoftmax(_ x: Tensor, axis: Int = -1) -> Tensor {
  alongLast(x, axis, "logSoftmax") { apply(.composite(.logSoftmax), $0) }
}

/// (x − mean) / √(variance + ε) · weight + bias over the last `normalizedShape.count` dimensions.
public func layerNorm(
  _ x: Tensor, normalizedShape: Shape, weight: Tensor? = nil, bias: Tensor? = nil, epsilon: Double = 1e-5
) -> Tensor {
  guard x.rank >= normalizedShape.count, !normalizedShape.isEmpty, Shape(x.shape.suffix(normalizedShape.count)) == normalizedShape
  else {
    stop("layerNorm: an input of shape \(x.shape) does not end in \(normalizedShape)")
  }
  let n = normalizedShape.elementCount
  let rows = x.reshaped(Shape(Array(x.shape.dropLast(normalizedShape.count)) + [n]))
  let w = weight?.reshaped([n]) ?? Tensor.ones([n], x.elementType)
  let b = bias?.reshaped([n]) ?? Tensor.zeros([n], x.elementType)
  return apply(.composite(.layerNorm(epsilon: epsilon)), rows, w, b).reshaped(x.shape)
}

/// x / √(mean(x²) + ε) · weight over the last dimensions.
public func rmsNorm(_ x: Tensor, normalizedShape: Shape, weight: Tensor? = nil, epsilon: Double = 1e-6) -> Tensor {
  guard x.rank >= normalizedShape.count, !normalizedShape.isEmpty, Shape(x.shape.suffix(normalizedShape.count)) == normalizedShape
  else {
    stop("rmsNorm: an input of shape \(x.shape) does not end in \(normalizedShape)")
  }
  let n = normalizedShape.elementCount
  let rows = x.reshaped(Shape(Array(x.shape.dropLast(normalizedShape.count)) + [n]))
  let w = weight?.reshaped([n]) ?? Tensor.ones([n], x.elementType)
  return apply(.composite(.rmsNorm(epsilon: epsilon)), rows, w).reshaped(x.shape)
}

/// Normalization by the batch's own statistics per channel: y, and the mean and biased variance [channels].
public func batchNorm(
  _ x: Tensor, weight: Tensor, bias: Tensor, epsilon: Double = 1e-5
) -> (y: Tensor, mean: Tensor, variance: Tensor) {
  let results = apply(.composite(.batchNorm(epsilon: epsilon)), [x, weight, bias])
  return (results[0], results[1], results[2])
}

/// Normalization by given statistics per channel.
public func batchNorm(
  _ x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: Double = 1e-5
) -> Tensor {
  let type: ElementType = x.elementType == .float64 ? .float64 : .float32
  return apply(
    .composite(.batchNormInference(epsilon: epsilon)), x, weight, bias, mean.converted(to: type), variance.converted(to: type))
}

/// The cross entropy of each row's softmax with its label: [rows]. Zero where the label is `ignoreIndex`.
/// - Parameters:
///   - logits: [rows, classes].
///   - labels: int64 [rows].
public func softmaxCrossEntropy(_ logits: Tensor, _ labels: Tensor, ignoreIndex: Int = -100, labelSmoothing: Double = 0) -> Tensor
{
  let composite = Composite.softmaxCrossEntropy(ignoreIndex: ignoreIndex, labelSmoothing: labelSmoothing)
  return apply(.composite(composite), [logits, labels.converted(to: .int64)])[0].converted(to: logits.elementType)
}

extension Composite {
  var saved: (inputs: UInt32, results: Bool) {
    switch self {
    case .softmax, .logSoftmax: (0, true)
    case .layerNorm, .rmsNorm, .batchNorm: (0b011, true)
    case .softmaxCrossEntropy: (0b11, true)
    case .linear: (0b011, false)
    case .softmaxGradient, .logSoftmaxGradient: (0b11, false)
    case .layerNormGradient, .batchNormGradient, .batchNormInference: (0b11111, false)
    case .rmsNormGradient, .softmaxCrossEntropyGradient: (0b1111, false)
    case .attention: (0b1111, true)
    case .attentionGradient: (0b1111111, false)
    case .rope: (0b111, false)
    case .lstmCell: (0b11, false)
    case .gruCell: (0b111, false)
    case .lstmCellGradient, .gruCellGradient: (0b1111, false)
    case .recurrentSequence: (0b11111, true)
    case .recurrentSequenceGradient: (0b1111111, false)
    case .optimizerStep: (0, false)
    }
  }

  /// The same results from other operations (``Operation/decomposition(_:)``): what second derivatives go through.
  func decomposed(_ x: [Tensor]) -> [Tensor] {
    guard let graph = ApusIR.Operation.composite(self).decomposition(x.map(\.type)) else {
      preconditionFailure("\(name) has no decomposition")
    }
    switch self {
    // Hidden keys are −∞ on purpose.
    case .attention, .attentionGradient: return withoutAnomalyDetection { applied(graph, x) }
    case .softmax, .logSoftmax, .softmaxGradient, .logSoftmaxGradient, .layerNorm, .layerNormGradient, .rmsNorm, .rmsNormGradient,
      .batchNorm, .batchNormGradient, .batchNormInference, .softmaxCrossEntropy, .softmaxCrossEntropyGradient, .linear, .rope,
      .lstmCell, .lstmCellGradient, .gruCell, .gruCellGradient, .recurrentSequence, .recurrentSequenceGradient, .optimizerStep:
      return applied(graph, x)
    }
  }
}

/// A graph as tensor functions: each operation applied in turn, recorded or traced as any.
func applied(_ graph: Graph, _ inputs: [Tensor]) -> [Tensor] {
  var values = inputs.map(Optional.some) + [Tensor?](repeating: nil, count: graph.valueCount - graph.inputCount)
  let last = graph.lastUses
  for (i, node) in graph.nodes.enumerated() {
    let results = apply(node.operation, node.inputs.map { values[$0].unsafelyUnwrapped })
    for (value, result) in zip(node.results, results) { values[value] = result }
    for value in node.inputs where last[value] == i { values[value] = nil }
  }
  return graph.outputs.map { values[$0].unsafelyUnwrapped }
}

extension Operation {
  func propagate(composite: Composite, _ gradients: [Tensor?], _ sink: GradientSink) {
    switch composite {
    case .softmax:
      if let dy = gradients[0] { sink.add(0, apply(.composite(.softmaxGradient), sink.result(), dy)) }
    case .logSoftmax:
      if let dy = gradients[0] { sink.add(0, apply(.composite(.logSoftmaxGradient), sink.result(), dy)) }
    case .linear:
      guard let dy = gradients[0] else { return }
      let (x, w) = (sink.input(0), sink.input(1))
      let lead = Axes(0..<(x.rank - 1))
      if sink.needs(0) { sink.add(0, apply(.dot(DotDimensions(lhsContracting: [x.rank - 1], rhsContracting: [0])), dy, w)) }
      if sink.needs(1) { sink.add(1, apply(.dot(DotDimensions(lhsContracting: lead, rhsContracting: lead)), dy, x)) }
      if sink.needs(2) { sink.add(2, apply(.reduce(.sum, lead, keepDims: false), dy)) }
    case .layerNorm, .rmsNorm, .batchNorm:
      // The kernel covers the first result; if the statistics are differentiated too, so is the decomposition.
      // Second derivatives also go there: the saved statistics depend on x, which the kernel's formula hides.
      if !isRecording && gradients.dropFirst().allSatisfy({ $0 == nil }), let dy = gradients[0] {
        let statistics = sink.node.savedResults.dropFirst()
        let results: [Tensor]
        switch composite {
        case .layerNorm: results = apply(.composite(.layerNormGradient), [dy, sink.input(0), sink.input(1)] + statistics)
        case .rmsNorm: results = apply(.composite(.rmsNormGradient), [dy, sink.input(0), sink.input(1)] + statistics)
        default:
          guard case .batchNorm(let epsilon) = composite else { return }
          results = apply(.composite(.batchNormGradient(epsilon: epsilon)), [dy, sink.input(0), sink.input(1)] + statistics)
        }
        for (i, result) in results.enumerated() where sink.needs(i) { sink.add(i, result) }
      } else {
        // The bias enters linearly: zeros stand for its value.
        var inputs = [sink.input(0), sink.input(1)]
        if resultCount == 3 { inputs.append(zerosLike(sink.input(1))) }
        propagateDecomposed(composite, inputs, gradients, sink)
      }
    case .softmaxCrossEntropy(let ignoreIndex, let smoothing):
      if !isRecording && gradients[1] == nil, let dloss = gradients[0] {
        let composite = Composite.softmaxCrossEntropyGradient(ignoreIndex: ignoreIndex, labelSmoothing: smoothing)
        sink.add(0, apply(.composite(composite), dloss, sink.input(0), sink.input(1), sink.node.savedResults[1]))
      } else {
        propagateDecomposed(composite, [sink.input(0), sink.input(1)], gradients, sink)
      }
    case .attention(let scale, let causal):
      let inputs = (0..<4).compactMap { sink.node.saved($0) }
      if !isRecording && gradients[1] == nil, let dy = gradients[0] {
        let forMask = inputs.count == 4 && sink.needs(3)
        let composite = Composite.attentionGradient(scale: scale, causal: causal, forMask: forMask)
        let results = apply(.composite(composite), [dy] + inputs[..<3] + sink.node.savedResults + inputs[3...])
        for (i, result) in results.enumerated() where sink.needs(i) { sink.add(i, result) }
      } else {
        propagateDecomposed(composite, inputs, gradients, sink)
      }
    case .rope(let interleaved, let inverse):
      if sink.needs(1) || sink.needs(2) {
        propagateDecomposed(composite, (0..<3).map(sink.input), gradients, sink)
      } else if let dy = gradients[0] {
        // Turned back.
        let back = Composite.rope(interleaved: interleaved, inverse: !inverse)
        sink.add(0, apply(.composite(back), dy, sink.input(1), sink.input(2)))
      }
    case .lstmCell:
      let (gates, cell) = (sink.input(0), sink.input(1))
      let slopes = gradients.map { $0 ?? zerosLike(cell) }
      let results = apply(.composite(.lstmCellGradient), slopes + [gates, cell])
      for (i, result) in results.enumerated() where sink.needs(i) { sink.add(i, result) }
    case .gruCell:
      guard let dy = gradients[0] else { return }
      let results = apply(.composite(.gruCellGradient), [dy] + (0..<3).map(sink.input))
      for (i, result) in results.enumerated() where sink.needs(i) { sink.add(i, result) }
    case .recurrentSequence(let sequence, let keeps):
      let inputs = (0..<5).compactMap { sink.node.saved($0) }
      if keeps && !isRecording && gradients[sequence.resultCount...].allSatisfy({ $0 == nil }) {
        propagate(sequence, inputs, gradients, sink)
      } else {
        propagateDecomposed(composite, inputs, gradients, sink)
      }
    case .softmaxGradient, .logSoftmaxGradient, .layerNormGradient, .rmsNormGradient, .batchNormGradient, .batchNormInference,
      .softmaxCrossEntropyGradient, .attentionGradient, .lstmCellGradient, .gruCellGradient, .recurrentSequenceGradient:
      let inputs = (0..<7).compactMap { sink.node.saved($0) }
      propagateDecomposed(composite, inputs, gradients, sink)
    case .optimizerStep: missingGradient()
    }
  }

  private func propagateDecomposed(_ composite: Composite, _ inputs: [Tensor], _ gradients: [Tensor?], _ sink: GradientSink) {
    let floating = inputs.indices.filter { inputs[$0].elementType.isFloatingPoint }
    let (_, pull) = pullback(floating.map { inputs[$0] }) { arguments in
      var all = inputs
      for (i, argument) in zip(floating, arguments) { all[i] = argument }
      return composite.decomposed(all)
    }
    for (i, gradient) in zip(floating, pull(gradients)) where sink.needs(i) { sink.add(i, gradient) }
  }
}
