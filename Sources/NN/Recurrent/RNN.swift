import ApusTensor

/// What a simple recurrent layer applies to its gate.
public enum RecurrentNonlinearity: String, Sendable { case tanh, relu }

/// Simple recurrent layers over a sequence, one on another: h' = tanh(W x + b + U h + c), or relu (Elman 1990); PyTorch's RNN,
/// Keras's SimpleRNN.
///
/// Parameters: see ``RecurrentLayer``.
public final class RNN: RecurrentLayer {
  public let nonlinearity: RecurrentNonlinearity

  /// - Parameters:
  ///   - layers: how many, each over the outputs of the one before.
  ///   - batchFirst: inputs and outputs are [batch, steps, features] instead of [steps, batch, features].
  ///   - dropout: between layers, in training.
  ///   - bidirectional: a second layer beside each goes from the last step to the first.
  public init(
    _ inputSize: Int, _ hiddenSize: Int, layers: Int = 1, nonlinearity: RecurrentNonlinearity = .tanh, bias: Bool = true,
    batchFirst: Bool = false, dropout: Double = 0, bidirectional: Bool = false, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    self.nonlinearity = nonlinearity
    super.init(1, inputSize, hiddenSize, layers, bias, batchFirst, dropout, bidirectional, elementType, generator)
  }

  /// A layer that takes its input size, and element type if not given, from its first input.
  public init(
    _ hiddenSize: Int, layers: Int = 1, nonlinearity: RecurrentNonlinearity = .tanh, bias: Bool = true, batchFirst: Bool = false,
    dropout: Double = 0,
    bidirectional: Bool = false, elementType: ElementType? = nil, generator: Generator = .default
  ) {
    self.nonlinearity = nonlinearity
    super.init(1, nil, hiddenSize, layers, bias, batchFirst, dropout, bidirectional, elementType, generator)
  }

  /// - Parameters:
  ///   - x: [steps, batch, input size], or with the first two exchanged if `batchFirst`.
  ///   - hidden: hidden states before the first step, [layers · directions, batch, hidden]; zeros if absent.
  ///   - lengths: integers [batch], how many steps each sequence has; see ``RecurrentLayer``.
  /// - Returns: the last layer's hidden states [steps, batch, directions · hidden] (or batch first), and the states after each
  ///   sequence's last step.
  public func callAsFunction(
    _ x: Tensor, _ hidden: Tensor? = nil, lengths: Tensor? = nil
  ) -> (output: Tensor, hidden: Tensor) {
    let (output, states) = run(x, [(hiddenSize, hidden)], lengths: lengths) { cell, gates, states, reverse, mask in
      let (y, h) = rnn(
        inputGates: gates(true), hiddenWeight: cell.weightHH.value, hidden: states[0], relu: nonlinearity == .relu,
        reverse: reverse, mask: mask)
      return (y, [h])
    }
    return (output, states[0])
  }

  /// The same for a packed sequence; the output is packed alike, states are in the order of the sequences as they were given.
  public func callAsFunction(_ x: PackedSequence, _ hidden: Tensor? = nil) -> (output: PackedSequence, hidden: Tensor) {
    let (padded, lengths) = padPacked(x, batchFirst: batchFirst)
    let (y, after) = self(padded, hidden, lengths: Tensor(lengths, shape: [lengths.count]))
    return (x.packing(y, batchFirst: batchFirst), after)
  }
}

/// Keras's name.
public typealias SimpleRNN = RNN
