import ApusFormats
import ApusNN
import ApusTensor

/// Tokens as their places in a vocabulary; Keras's StringLookup. Those it lacks get one of the first places.
///
/// ```swift
/// var lookup = StringLookup()
/// lookup.adapt(["a", "b", "b"])
/// try lookup(["b", "z"])               // [1, 0]
/// ```
public struct StringLookup: Sendable {
  public let maxTokens: Int?
  public let numOOVIndices: Int
  public let maskToken: String?
  public let oovToken: String
  public let outputMode: CategoryOutput
  public let padToMaxTokens: Bool
  /// The key of SipHash64, which finds the places of unknown tokens; nil: FarmHash64.
  public let salt: (UInt64, UInt64)?
  private var table: TokenTable?
  private var weights: [Float] = []

  /// - Parameters:
  ///   - maxTokens: the most places, those for unknown tokens and the mask included.
  ///   - numOOVIndices: places for tokens that are not in the vocabulary; 0: they are an error.
  ///   - maskToken: a token that is no data: place 0 for `.int`, else it does not count.
  ///   - padToMaxTokens: vectors have `maxTokens` elements even if the vocabulary is smaller.
  public init(
    maxTokens: Int? = nil, numOOVIndices: Int = 1, maskToken: String? = nil, oovToken: String = "[UNK]",
    outputMode: CategoryOutput = .int, padToMaxTokens: Bool = false, salt: (UInt64, UInt64)? = nil
  ) {
    (self.maxTokens, self.numOOVIndices, self.maskToken) = (maxTokens, numOOVIndices, maskToken)
    (self.oovToken, self.outputMode, self.padToMaxTokens, self.salt) = (oovToken, outputMode, padToMaxTokens, salt)
    guard maxTokens ?? 2 > 1, numOOVIndices >= 0 else {
      stop("StringLookup: maxTokens must be above 1, numOOVIndices not negative")
    }
    guard !padToMaxTokens || maxTokens != nil else { stop("StringLookup: padToMaxTokens needs maxTokens") }
  }

  /// A lookup with a vocabulary, as ``setVocabulary(_:idfWeights:)``.
  public init(
    maxTokens: Int? = nil, numOOVIndices: Int = 1, maskToken: String? = nil, oovToken: String = "[UNK]", vocabulary: [String],
    idfWeights: [Double]? = nil, outputMode: CategoryOutput = .int, padToMaxTokens: Bool = false, salt: (UInt64, UInt64)? = nil
  ) throws(PreprocessingError) {
    self.init(
      maxTokens: maxTokens, numOOVIndices: numOOVIndices, maskToken: maskToken, oovToken: oovToken, outputMode: outputMode,
      padToMaxTokens: padToMaxTokens, salt: salt)
    try setVocabulary(vocabulary, idfWeights: idfWeights)
  }

  // MARK: Vocabulary

  private var oovStart: Int { maskToken != nil && outputMode == .int ? 1 : 0 }
  private var tokenStart: Int { oovStart + numOOVIndices }
  private var specialTokens: [String] {
    (oovStart == 1 ? [maskToken ?? ""] : []) + Array(repeating: oovToken, count: numOOVIndices)
  }

  public var vocabularySize: Int { tokenStart + (table?.count ?? 0) }

  /// Whether there is a vocabulary.
  public var isAdapted: Bool { table != nil }

  /// The tokens in the order of their places; with special tokens those of the mask and of unknown tokens first.
  public func vocabulary(includeSpecialTokens: Bool = true) -> [String] {
    (includeSpecialTokens ? specialTokens : []) + (0..<(table?.count ?? 0)).map { table?[$0] ?? "" }
  }

  /// The inverse document frequencies of all places, for the output mode `.tfIdf`.
  public var idfWeights: [Float]? { outputMode == .tfIdf && table != nil ? weights : nil }

  /// Takes a vocabulary in place of learning one; special tokens at its beginning, as ``vocabulary(includeSpecialTokens:)`` gives
  /// them, are recognized.
  /// - Parameter idfWeights: for the output mode `.tfIdf`: of each element of `vocabulary`.
  /// - Throws: `PreprocessingError` for an empty one, one that is too large, tokens that occur twice, weights of another number.
  public mutating func setVocabulary(_ vocabulary: [String], idfWeights: [Double]? = nil) throws(PreprocessingError) {
    guard !vocabulary.isEmpty else { throw .invalidVocabulary("it is empty") }
    let special = specialTokens
    let hasSpecial = tokenStart > 0 && vocabulary.count >= tokenStart && vocabulary.prefix(tokenStart).elementsEqual(special)
    let terms = hasSpecial ? Array(vocabulary.dropFirst(tokenStart)) : vocabulary
    let table = TokenTable(terms)
    guard table.count == terms.count else {
      var seen = TokenTable()
      let twice = terms.first { token in
        let before = seen.count
        _ = seen.insert(token)
        return seen.count == before
      }
      throw .invalidVocabulary("'\(FormatError.excerpt(twice ?? ""))' occurs twice")
    }
    if let maskToken, table.find(maskToken) != nil {
      throw .invalidVocabulary("the mask token '\(maskToken)' is one of the terms; special tokens go first: \(special)")
    }
    if let maxTokens, terms.count + tokenStart > maxTokens {
      throw .invalidVocabulary("\(terms.count + tokenStart) tokens, at most \(maxTokens) are allowed")
    }
    if outputMode == .tfIdf {
      guard let idfWeights, idfWeights.count == vocabulary.count else {
        throw .invalidVocabulary("\(idfWeights?.count ?? 0) idf weights for \(vocabulary.count) tokens")
      }
      let mean = idfWeights.reduce(0, +) / Double(idfWeights.count)
      setWeights(hasSpecial ? idfWeights : Array(repeating: mean, count: tokenStart) + idfWeights)
    }
    self.table = table
  }

  private mutating func setWeights(_ values: [Double]) { weights = values.map(Float.init) }

  /// Learns a vocabulary from tokens, each a document of its own.
  public mutating func adapt(_ tokens: [String]) { adapt(tokens.map { [$0] }) }

  /// Learns a vocabulary: the most frequent tokens first; among those of one frequency the order of their bytes, backwards.
  /// - Parameter documents: the tokens of each.
  public mutating func adapt(_ documents: [[String]]) {
    var counter = TokenCounter(countsDocuments: outputMode == .tfIdf)
    for document in documents {
      counter.beginDocument()
      for token in document { counter.add(token) }
    }
    adapt(counter)
  }

  mutating func adapt(_ counter: TokenCounter) {
    let special = [maskToken, oovToken].compactMap { $0 }.compactMap { counter.table.find($0) }
    let order = counter.byFrequency(without: Set(special), limit: maxTokens.map { $0 - tokenStart })
    var table = TokenTable()
    for number in order { _ = table.insert(counter.table[number]) }
    self.table = table
    if outputMode == .tfIdf {
      setWeights(
        inverseDocumentFrequencies(
          order.map { Double(counter.documents[$0]) }, of: counter.documentCount, specialTokens: tokenStart))
    }
  }

  // MARK: Lookup

  /// The places of tokens: int64 [tokens] for `.int`; float32 [tokens, depth] for `.oneHot`; else all tokens as one sample, [depth].
  /// - Throws: `PreprocessingError` for a token that has no place.
  public func callAsFunction(_ tokens: [String]) throws(PreprocessingError) -> Tensor {
    let places = try places(of: tokens, from: 0)
    return try encoded(Tensor(places, shape: [places.count]))
  }

  /// The places of rows of tokens: int64 [rows, tokens] for `.int`; float32 [rows, tokens, depth] for `.oneHot` ([rows, depth] for one
  /// token each); else a sample for each row, [rows, depth]. Only these take rows of different lengths.
  /// - Throws: `PreprocessingError` for a token that has no place, and for rows of different lengths.
  public func callAsFunction(_ rows: [[String]]) throws(PreprocessingError) -> Tensor {
    var flat: [Int] = []
    var ends: [Int] = []
    for row in rows {
      flat += try places(of: row, from: flat.count)
      ends.append(flat.count)
    }
    if outputMode == .int || outputMode == .oneHot {
      let length = rows.first?.count ?? 0
      if let odd = rows.firstIndex(where: { $0.count != length }) {
        throw .ragged(row: odd, length: rows[odd].count, expected: length)
      }
      return try encoded(Tensor(flat, shape: [rows.count, length]))
    }
    return try encodedRows(flat, ends)
  }

  /// The tokens at places: what `invert` is in Keras. `oovToken` for a place that none has.
  public func inverted(_ places: Tensor) -> [String] {
    let vocabulary = vocabulary()
    return places.elements(as: Int.self).map { vocabulary.indices.contains($0) ? vocabulary[$0] : oovToken }
  }

  private var depth: Int { padToMaxTokens ? maxTokens ?? vocabularySize : vocabularySize }

  /// −1 for a token that does not count.
  private func places(of tokens: [String], from position: Int) throws(PreprocessingError) -> [Int] {
    var places: [Int] = []
    places.reserveCapacity(tokens.count)
    for (i, token) in tokens.enumerated() {
      var token = token
      guard let place = token.withUTF8({ place(of: UnsafeRawBufferPointer($0)) }) else {
        throw .outOfVocabulary(token: FormatError.excerpt(token), position: position + i)
      }
      places.append(place)
    }
    return places
  }

  /// nil: the token has no place.
  func place(of token: UnsafeRawBufferPointer) -> Int? {
    if let maskToken, maskToken.utf8.elementsEqual(token) { return outputMode == .int ? 0 : -1 }
    if let number = table?.find(token) { return tokenStart + number }
    switch numOOVIndices {
    case 0: return nil
    case 1: return oovStart
    default:
      let hash = salt.map { SipHash.hash(token, key: $0) } ?? FarmHash.fingerprint(token)
      return oovStart + Int(hash % UInt64(numOOVIndices))
    }
  }

  private func encoded(_ places: Tensor) throws(PreprocessingError) -> Tensor {
    if outputMode == .int { return places }
    guard table != nil || padToMaxTokens else { throw .notAdapted(layer: "StringLookup") }
    return weighted(encodeCategories(places, outputMode, depth: depth))
  }

  /// Rows of any lengths, one after another, as vectors [rows, depth].
  func encodedRows(_ places: [Int], _ ends: [Int]) throws(PreprocessingError) -> Tensor {
    guard table != nil || padToMaxTokens else { throw .notAdapted(layer: "StringLookup") }
    let depth = self.depth
    var row = 0
    var targets: [Int] = []
    for (i, place) in places.enumerated() {
      while ends[row] <= i { row += 1 }
      if place >= 0 { targets.append(row * depth + place) }
    }
    let at = Tensor(elements: targets)
    let zeros = Tensor.zeros([ends.count * depth])
    let kind: ScatterKind = outputMode == .multiHot ? .max : .add
    let counted = zeros.scatterReduce(kind, axis: 0, indices: at, values: Tensor.ones([targets.count]))
    return weighted(counted.reshaped([ends.count, depth]))
  }

  private func weighted(_ counts: Tensor) -> Tensor {
    guard outputMode == .tfIdf else { return counts }
    let missing = depth - weights.count
    return counts * Tensor(elements: weights).padded([(0, missing)])
  }
}

/// How often tokens occur, and in how many documents.
struct TokenCounter {
  private(set) var table = TokenTable()
  private(set) var counts: [Int] = []
  private(set) var documents: [Int] = []
  private(set) var documentCount = 0
  private var lastDocument: [Int] = []
  private let countsDocuments: Bool

  init(countsDocuments: Bool) { self.countsDocuments = countsDocuments }

  mutating func beginDocument() { documentCount += 1 }

  mutating func add(_ token: String) {
    var token = token
    token.withUTF8 { add(UnsafeRawBufferPointer($0)) }
  }

  mutating func add(_ token: UnsafeRawBufferPointer) {
    let number = table.insert(token)
    if number == counts.count {
      counts.append(0)
      if countsDocuments {
        documents.append(0)
        lastDocument.append(0)
      }
    }
    counts[number] += 1
    if countsDocuments && lastDocument[number] != documentCount {
      lastDocument[number] = documentCount
      documents[number] += 1
    }
  }

  /// The numbers of the tokens, the most frequent first; equally frequent ones by their bytes, the greatest first.
  func byFrequency(without excluded: Set<Int>, limit: Int?) -> [Int] {
    let order = (0..<table.count).filter { !excluded.contains($0) }.sorted {
      counts[$0] != counts[$1] ? counts[$0] > counts[$1] : table.precedes($1, $0)
    }
    return limit.map { Array(order.prefix(Swift.max(0, $0))) } ?? order
  }
}
