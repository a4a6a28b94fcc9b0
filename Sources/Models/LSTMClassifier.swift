import ApusNN
import ApusTensor

/// Classes of texts by a long short-term memory's last state (Hochreiter and Schmidhuber 1997): token ids [batch, positions] →
/// logits [batch, classes]. Parameters: embed, lstm, head.
public final class LSTMClassifier: Module {
  private let embed: Embedding
  private let lstm: LSTM
  private let head: Linear

  public init(
    vocabulary: Int = 10_000, embeddingDim: Int = 128, hiddenSize: Int = 256, classes: Int = 2,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    embed = Embedding(vocabulary, embeddingDim, elementType: elementType, generator: generator)
    lstm = LSTM(embeddingDim, hiddenSize, batchFirst: true, elementType: elementType, generator: generator)
    head = Linear(hiddenSize, classes, elementType: elementType, generator: generator)
  }

  /// - Parameter ids: integers [batch, positions].
  public func callAsFunction(_ ids: Tensor) -> Tensor {
    // The state after the last step is the output's last one, without the gradient of all the others' zeros.
    recorded(head(lstm(embed(ids)).state.hidden[-1]))
  }
}
