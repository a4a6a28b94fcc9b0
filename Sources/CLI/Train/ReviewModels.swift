import Apus
import ApusTensor
import ArgumentParser

/// The two models of `apus train reviews`: token ids int64 [batch, length] → logits [batch], above zero for a good review.
///
/// Benchmarks/peers/reviews_torch.py and reviews_keras.py define the same ones: the same sizes, and all parameters uniform
/// within the same bounds (embeddings ± 0.05, the rest ± 1 / √fan in; for the LSTM ± 1 / √hidden).
enum ReviewModel: String, CaseIterable, ExpressibleByArgument {
  case lstm, conv

  func make(vocabulary: Int, embedding: Int, hidden: Int, dropout: Double) -> any Layer {
    switch self {
    case .lstm: ReviewLSTM(vocabulary, embedding, hidden, dropout)
    case .conv: ReviewConvolution(vocabulary, embedding, hidden, dropout)
    }
  }
}

private func smallEmbedding(_ vocabulary: Int, _ size: Int) -> Embedding {
  let layer = Embedding(vocabulary, size)
  layer.weight.value = Tensor.uniform([vocabulary, size], low: -0.05, high: 0.05)
  return layer
}

/// The state of a long short-term memory that has read the sentence. Padding comes first, so the last state is that after the last word.
final class ReviewLSTM: Module, Layer {
  let embed: Embedding
  let lstm: LSTM
  let dropout: Dropout
  let head: Linear

  init(_ vocabulary: Int, _ embedding: Int, _ hidden: Int, _ dropout: Double) {
    embed = smallEmbedding(vocabulary, embedding)
    lstm = LSTM(embedding, hidden, batchFirst: true)
    self.dropout = Dropout(dropout)
    head = Linear(hidden, 1)
  }

  func callAsFunction(_ ids: Tensor) -> Tensor { head(dropout(lstm(embed(ids)).state.hidden[-1])).squeezed(-1) }
}

/// Five words at a time, and of each feature its strongest place (Kim 2014).
final class ReviewConvolution: Module, Layer {
  let embed: Embedding
  let conv: Conv1d
  let dropout: Dropout
  let head: Linear

  init(_ vocabulary: Int, _ embedding: Int, _ hidden: Int, _ dropout: Double) {
    embed = smallEmbedding(vocabulary, embedding)
    conv = Conv1d(embedding, hidden, kernelSize: 5)
    self.dropout = Dropout(dropout)
    head = Linear(hidden, 1)
  }

  func callAsFunction(_ ids: Tensor) -> Tensor {
    let features = relu(conv(embed(ids).transposed(1, 2)))
    return head(dropout(features.max(axis: 2))).squeezed(-1)
  }
}
