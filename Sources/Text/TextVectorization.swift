import ApusFormats
import ApusNN
import ApusTensor

/// Texts as numbers: cleaned, split into tokens, looked up in a vocabulary; Keras's TextVectorization.
///
/// ```swift
/// var vectorize = TextVectorization(maxTokens: 10_000, outputSequenceLength: 40)
/// vectorize.adapt(train.texts)
/// let ids = vectorize(["a moving, funny film"])        // int64 [1, 40]
/// ```
/// Place 0 is padding, place 1 stands for unknown tokens.
public struct TextVectorization: Sendable {
  /// What is done to a text first. Letters are ASCII's, as in Keras; others stay as they are.
  public enum Standardize: Sendable {
    case none, lower, stripPunctuation, lowerAndStripPunctuation
    case custom(@Sendable (String) -> String)
  }

  /// Where a text is cut into tokens.
  public enum Split: Sendable {
    /// The whole text is one.
    case none
    /// At ASCII white space, of which none stays.
    case whitespace
    /// Each code point is one.
    case character
    case custom(@Sendable (String) -> [String])
  }

  /// How many neighbours in a row are tokens together: `2` for one and two, `[2, 3]` for two and three.
  public struct NGrams: Sendable, Equatable, ExpressibleByIntegerLiteral, ExpressibleByArrayLiteral {
    public let sizes: [Int]
    public init(_ sizes: [Int]) {
      guard sizes.allSatisfy({ $0 > 0 }) else { stop("NGrams: the sizes \(sizes) are not all positive") }
      self.sizes = sizes
    }
    public init(integerLiteral value: Int) { self.init(Array(1...Swift.max(1, value))) }
    public init(arrayLiteral elements: Int...) { self.init(elements) }
  }

  public let standardize: Standardize
  public let split: Split
  public let ngrams: NGrams?
  public let outputSequenceLength: Int?
  /// What knows the vocabulary.
  public private(set) var lookup: StringLookup

  /// - Parameters:
  ///   - maxTokens: the most places of the vocabulary, padding and unknown tokens included.
  ///   - outputSequenceLength: for `.int`: longer rows are cut, shorter ones padded with 0; nil: as long as the longest text.
  ///   - padToMaxTokens: vectors have `maxTokens` elements even if the vocabulary is smaller.
  public init(
    maxTokens: Int? = nil, standardize: Standardize = .lowerAndStripPunctuation, split: Split = .whitespace,
    ngrams: NGrams? = nil,
    outputMode: CategoryOutput = .int, outputSequenceLength: Int? = nil, padToMaxTokens: Bool = false
  ) {
    guard outputSequenceLength == nil || (outputMode == .int && outputSequenceLength ?? 0 > 0) else {
      stop("TextVectorization: outputSequenceLength must be positive, and needs the output mode .int")
    }
    guard outputMode != .oneHot else { stop("TextVectorization: takes .int, .multiHot, .count or .tfIdf") }
    (self.standardize, self.split, self.ngrams) = (standardize, split, ngrams)
    self.outputSequenceLength = outputSequenceLength
    lookup = StringLookup(maxTokens: maxTokens, maskToken: "", outputMode: outputMode, padToMaxTokens: padToMaxTokens)
  }

  public var outputMode: CategoryOutput { lookup.outputMode }
  public var vocabularySize: Int { lookup.vocabularySize }

  /// The tokens in the order of their places.
  public func vocabulary(includeSpecialTokens: Bool = true) -> [String] {
    lookup.vocabulary(includeSpecialTokens: includeSpecialTokens)
  }

  /// Takes a vocabulary in place of learning one; see ``StringLookup/setVocabulary(_:idfWeights:)``.
  public mutating func setVocabulary(_ vocabulary: [String], idfWeights: [Double]? = nil) throws(PreprocessingError) {
    try lookup.setVocabulary(vocabulary, idfWeights: idfWeights)
  }

  /// Learns the vocabulary of texts: the most frequent tokens first; among those of one frequency the order of their bytes, backwards.
  public mutating func adapt(_ texts: some Sequence<String>) {
    var counter = TokenCounter(countsDocuments: outputMode == .tfIdf)
    var tokenizer = Tokenizer(self)
    for text in texts {
      counter.beginDocument()
      tokenizer.forEachToken(of: text) { counter.add($0) }
    }
    lookup.adapt(counter)
  }

  /// int64 [texts, sequence length] for `.int`, else float32 [texts, vocabulary].
  public func callAsFunction(_ texts: [String]) -> Tensor {
    var tokenizer = Tokenizer(self)
    if outputMode != .int {
      var places: [Int] = []
      var ends: [Int] = []
      for text in texts {
        tokenizer.forEachToken(of: text) { places.append(lookup.place(of: $0) ?? -1) }
        ends.append(places.count)
      }
      do { return try lookup.encodedRows(places, ends) } catch { stop("TextVectorization: \(error)") }
    }
    var rows: [[Int]] = []
    rows.reserveCapacity(texts.count)
    for text in texts {
      var row: [Int] = []
      tokenizer.forEachToken(of: text) { token in
        if row.count < outputSequenceLength ?? Int.max { row.append(lookup.place(of: token) ?? 0) }
      }
      rows.append(row)
    }
    let length = outputSequenceLength ?? rows.map(\.count).max() ?? 0
    let flat = rows.flatMap { $0 + repeatElement(0, count: length - $0.count) }
    return Tensor(flat, shape: [texts.count, length])
  }

  /// The numbers of one text: int64 [sequence length] for `.int`, else float32 [vocabulary].
  public func callAsFunction(_ text: String) -> Tensor { self([text]).squeezed(0) }

  /// The tokens of a text, before the vocabulary is asked.
  public func tokens(of text: String) -> [String] {
    var tokenizer = Tokenizer(self)
    var tokens: [String] = []
    tokenizer.forEachToken(of: text) { tokens.append(String(decoding: $0, as: UTF8.self)) }
    return tokens
  }
}

/// Cuts texts, in memory that it keeps from text to text.
private struct Tokenizer {
  private let standardize: TextVectorization.Standardize
  private let split: TextVectorization.Split
  private let ngrams: TextVectorization.NGrams?
  private var text: [UInt8] = []
  /// Where the tokens lie in `text`.
  private var tokens: [Range<Int>] = []
  private var joined: [UInt8] = []

  init(_ layer: TextVectorization) { (standardize, split, ngrams) = (layer.standardize, layer.split, layer.ngrams) }

  mutating func forEachToken(of string: String, _ body: (UnsafeRawBufferPointer) -> Void) {
    clean(string)
    cut()
    guard let ngrams else {
      text.withUnsafeBytes { bytes in for token in tokens { body(UnsafeRawBufferPointer(rebasing: bytes[token])) } }
      return
    }
    for size in ngrams.sizes where size <= tokens.count {
      for first in 0...(tokens.count - size) {
        joined.removeAll(keepingCapacity: true)
        for i in first..<(first + size) {
          if i > first { joined.append(0x20) }
          joined.append(contentsOf: text[tokens[i]])
        }
        joined.withUnsafeBytes(body)
      }
    }
  }

  private mutating func clean(_ string: String) {
    text.removeAll(keepingCapacity: true)
    let (lowers, strips) =
      switch standardize {
      case .none, .custom: (false, false)
      case .lower: (true, false)
      case .stripPunctuation: (false, true)
      case .lowerAndStripPunctuation: (true, true)
      }
    var string = string
    if case .custom(let change) = standardize { string = change(string) }
    string.withUTF8 { bytes in
      for byte in bytes {
        if strips && Self.isPunctuation(byte) { continue }
        text.append(lowers && (0x41...0x5a).contains(byte) ? byte | 0x20 : byte)
      }
    }
  }

  /// ASCII's, all of them: Keras's expression lists the 32.
  private static func isPunctuation(_ byte: UInt8) -> Bool {
    (0x21...0x2f).contains(byte) || (0x3a...0x40).contains(byte) || (0x5b...0x60).contains(byte) || (0x7b...0x7e).contains(byte)
  }

  private mutating func cut() {
    tokens.removeAll(keepingCapacity: true)
    switch split {
    case .none: tokens.append(0..<text.count)
    case .whitespace:
      var start: Int?
      for (i, byte) in text.enumerated() {
        if byte == 0x20 || (0x09...0x0d).contains(byte) {
          if let first = start { tokens.append(first..<i) }
          start = nil
        } else if start == nil {
          start = i
        }
      }
      if let first = start { tokens.append(first..<text.count) }
    case .character:
      var i = 0
      while i < text.count {
        var end = i + 1
        while end < text.count && text[end] & 0xc0 == 0x80 { end += 1 }
        tokens.append(i..<end)
        i = end
      }
    case .custom(let cut):
      let parts = cut(String(decoding: text, as: UTF8.self))
      text.removeAll(keepingCapacity: true)
      for part in parts {
        tokens.append(text.count..<(text.count + part.utf8.count))
        text.append(contentsOf: part.utf8)
      }
    }
  }
}
