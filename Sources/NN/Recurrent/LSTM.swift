import ApusTensor

/// Long short-term memories over a sequence, one layer on another (Hochreiter and Schmidhuber 1997); PyTorch's LSTM.
///
/// Parameters: see ``RecurrentLayer``; gates in the order input, forget, cell, output.
public final class LSTM: RecurrentLayer {
  /// - Parameters:
  ///   - layers: how many, each over the outputs of the one before.
  ///   - batchFirst: inputs and outputs are [batch, steps, features] instead of [steps, batch, features].
  ///   - dropout: between layers, in training.
  ///   - bidirectional: a second memory in each layer goes from the last step to the first.
  ///   - projSize: if positive, the size that hidden states are projected to (Sak et al. 2014).
  public init(
    _ inputSize: Int, _ hiddenSize: Int, layers: Int = 1, bias: Bool = true, batchFirst: Bool = false, dropout: Double = 0,
    bidirectional: Bool = false, projSize: Int = 0, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      4, inputSize, hiddenSize, layers, bias, batchFirst, dropout, bidirectional, projSize: projSize, elementType, generator)
  }

  /// A layer that takes its input size, and element type if not given, from its first input.
  public init(
    _ hiddenSize: Int, layers: Int = 1, bias: Bool = true, batchFirst: Bool = false, dropout: Double = 0,
    bidirectional: Bool = false, projSize: Int = 0, elementType: ElementType? = nil, generator: Generator = .default
  ) {
    super.init(4, nil, hiddenSize, layers, bias, batchFirst, dropout, bidirectional, projSize: projSize, elementType, generator)
  }

  /// - Parameters:
  ///   - x: [steps, batch, input size], or with the first two exchanged if `batchFirst`.
  ///   - state: hidden states [layers · directions, batch, output size] and cells [layers · directions, batch, hidden] before the
  ///     first step; zeros if absent.
  ///   - lengths: integers [batch], how many steps each sequence has; see ``RecurrentLayer``.
  /// - Returns: the last layer's hidden states [steps, batch, directions · output size] (or batch first), and the states after
  ///   each sequence's last step.
  public func callAsFunction(
    _ x: Tensor, _ state: (hidden: Tensor, cell: Tensor)? = nil, lengths: Tensor? = nil
  ) -> (output: Tensor, state: (hidden: Tensor, cell: Tensor)) {
    let before = [(outputSize, state?.hidden), (hiddenSize, state?.cell)]
    let (output, states) = run(x, before, lengths: lengths) { cell, gates, states, reverse, mask in
      if let projection = cell.weightHR {
        return projected(gates(true), cell.weightHH.value, projection.value, states, reverse, mask)
      }
      let (y, h, c) = lstm(
        inputGates: gates(true), hiddenWeight: cell.weightHH.value, hidden: states[0], cell: states[1], reverse: reverse,
        mask: mask)
      return (y, [h, c])
    }
    return (output, (states[0], states[1]))
  }

  /// The same for a packed sequence; the output is packed alike, states are in the order of the sequences as they were given.
  public func callAsFunction(
    _ x: PackedSequence, _ state: (hidden: Tensor, cell: Tensor)? = nil
  ) -> (output: PackedSequence, state: (hidden: Tensor, cell: Tensor)) {
    let (padded, lengths) = padPacked(x, batchFirst: batchFirst)
    let (y, after) = self(padded, state, lengths: Tensor(lengths, shape: [lengths.count]))
    return (x.packing(y, batchFirst: batchFirst), after)
  }

  private func projected(
    _ gates: Tensor, _ weight: Tensor, _ projection: Tensor, _ states: [Tensor], _ reverse: Bool, _ mask: Tensor?
  ) -> (Tensor, [Tensor]) {
    let (after, outputs) = scan(states, over: [gates] + (mask.map { [$0] } ?? []), reverse: reverse) { states, elements in
      let (full, c) = lstmCell(gates: linear(states[0], weight) + elements[0], cell: states[1])
      let h = linear(full, projection)
      guard elements.count > 1 else { return ([h, c], [h]) }
      let seen = elements[1].expanded(at: 1)
      return ([`where`(seen, h, states[0]), `where`(seen, c, states[1])], [`where`(seen, h, 0)])
    }
    return (outputs[0], after)
  }
}
