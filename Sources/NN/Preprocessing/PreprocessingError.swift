/// Data that a preprocessing layer cannot take. The layers that are called on tensors stop with the same sentence.
public enum PreprocessingError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A token that is not in the vocabulary, where there is no place for such tokens.
  case outOfVocabulary(token: String, position: Int)
  /// A category outside of 0 ..< count.
  case categoryOutOfRange(value: Int, position: Int, count: Int)
  /// Rows of different lengths where each must give as many numbers.
  case ragged(row: Int, length: Int, expected: Int)
  /// Inputs that belong together have different sizes.
  case sizesDiffer(String)
  /// A vocabulary, or the weights of its terms, that cannot be one.
  case invalidVocabulary(String)
  /// The layer has no vocabulary yet.
  case notAdapted(layer: String)

  public var description: String {
    switch self {
    case .outOfVocabulary(let token, let position):
      "'\(token)' at position \(position) is not in the vocabulary, and numOOVIndices is 0"
    case .categoryOutOfRange(let value, let position, let count):
      "the category \(value) at position \(position) is not within 0 ..< \(count)"
    case .ragged(let row, let length, let expected): "row \(row) has \(length) tokens, the rows before it \(expected)"
    case .sizesDiffer(let what): what
    case .invalidVocabulary(let what): "invalid vocabulary: \(what)"
    case .notAdapted(let layer): "\(layer) has no vocabulary: call adapt(_:) or give it one"
    }
  }
}
