// Composites of a batch: with their kernels where the batch is more rows or channels, else by their decomposition.

extension Batch {
  func results(_ composite: Composite, _ x: [Batched]) -> [Tensor] {
    let operation = Operation.composite(composite)
    func same() -> [Tensor] { ApusTensor.apply(operation, x.map(whole)) }
    /// With parameters that all examples share the batch is just more rows.
    func rows(sharing parameters: Range<Int>) -> [Tensor] {
      if parameters.contains(where: { x[$0].isBatched }) { return decomposed(composite, x) }
      return ApusTensor.apply(operation, x.enumerated().map { parameters.contains($0) ? $1.tensor : whole($1) })
    }
    switch composite {
    case .softmax, .logSoftmax, .softmaxGradient, .logSoftmaxGradient, .rope, .lstmCell, .lstmCellGradient, .gruCell,
      .gruCellGradient:
      return same()
    case .recurrentSequence(let sequence, _):
      return sequences(composite, x, shared: sequence.kind == .gru ? [1, 2] : [1])
    case .recurrentSequenceGradient(let sequence): return sequences(composite, x, shared: [sequence.gradientWeight])
    case .layerNorm: return rows(sharing: 1..<3)
    case .rmsNorm: return rows(sharing: 1..<2)
    case .linear: return rows(sharing: 1..<3)
    case .optimizerStep: missing(operation, "update outside of vmap")
    // The gradients of weights are sums over the rows of one example.
    case .layerNormGradient, .rmsNormGradient: return decomposed(composite, x)
    case .batchNorm: return perChannel(operation, x, data: 1)
    case .batchNormGradient: return perChannel(operation, x, data: 2)
    case .batchNormInference:
      return x[1...].contains(where: \.isBatched) ? perChannel(operation, x, data: 1) : folded(operation, x, [0])
    case .softmaxCrossEntropy, .softmaxCrossEntropyGradient, .attention, .attentionGradient:
      return folded(operation, x, Array(x.indices))
    }
  }

  /// Each example's channels are channels of their own: their statistics are apart.
  private func perChannel(_ operation: Operation, _ x: [Batched], data: Int) -> [Tensor] {
    let results = ApusTensor.apply(operation, x.enumerated().map { channels($1, $0 < data ? 1 : 0) })
    return results.map { fromChannels($0, $0.rank == 1 ? 0 : 1) }
  }

  /// With a weight that all examples share, the rows of all are one batch: [steps, batch, …] and [batch, …].
  private func sequences(_ composite: Composite, _ x: [Batched], shared: [Int]) -> [Tensor] {
    if shared.contains(where: { x[$0].isBatched }) { return decomposed(composite, x) }
    // Whole sequences count their steps first; states, of two dimensions, do not, and masks do.
    func hasSteps(_ i: Int) -> Bool { x[i].rank == 3 || x[i].tensor.elementType == .bool }
    let operands = x.enumerated().map { i, operand -> Tensor in
      if shared.contains(i) { return operand.tensor }
      let all = whole(operand)
      return hasSteps(i) ? all.movedAxis(1, to: 0).flattened(from: 1, to: 2) : all.flattened(from: 0, to: 1)
    }
    return ApusTensor.apply(.composite(composite), operands).map { y in
      if y.rank == 3 {
        return y.reshaped([y.shape[0], size, y.shape[1] / Swift.max(size, 1), y.shape[2]]).movedAxis(1, to: 0)
      }
      return y.reshaped([size, y.shape[0] / Swift.max(size, 1), y.shape[1]])
    }
  }

  /// By other operations, which are written down for one example first.
  private func decomposed(_ composite: Composite, _ x: [Batched]) -> [Tensor] {
    let types = x.map { TensorType($0.shape, $0.tensor.elementType) }
    let graph = withoutGradient {
      TracedBody(composite.name, types, tracked: types.map { _ in false }) { composite.decomposed($0) }.graph()
    }
    return graph.batched(x, self).map(whole)
  }
}
