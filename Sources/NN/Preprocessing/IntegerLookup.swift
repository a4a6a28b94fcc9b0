import ApusFormats
import ApusTensor

/// Where integers that a vocabulary lacks go, if there are several places for them.
public enum OOVMethod: Sendable, Equatable {
  /// The remainder of division, never negative.
  case floormod
  /// A hash of the number's digits: FarmHash64.
  case farmhash
  /// SipHash64 with a key.
  case siphash(UInt64, UInt64)
}

/// Integers as their places in a vocabulary; Keras's IntegerLookup. Those it lacks get one of the first places.
///
/// int64 of any shape → int64 of that shape for `.int` (0 for `maskToken`), else vectors as of ``CategoryEncoding``, in which
/// `maskToken` does not count.
public final class IntegerLookup: Module, Layer {
  public let maxTokens: Int?
  public let numOOVIndices: Int
  public let maskToken: Int?
  public let oovToken: Int
  public let invert: Bool
  public let outputMode: CategoryOutput
  public let padToMaxTokens: Bool
  public let oovMethod: OOVMethod
  private var terms: [Int]?
  private var table: (keys: Tensor, places: Tensor, terms: Tensor)?
  private var idf: Tensor?

  /// - Parameters:
  ///   - maxTokens: the most places, those for unknown integers and the mask included.
  ///   - numOOVIndices: places for integers that are not in the vocabulary; 0: they are an error.
  ///   - maskToken: an integer that is no data.
  ///   - vocabulary: nil: ``adapt(_:)`` learns it.
  ///   - idfWeights: of each term, for the output mode `.tfIdf` with a vocabulary.
  ///   - invert: from places to integers instead; unknown places give `oovToken`.
  ///   - padToMaxTokens: vectors have `maxTokens` elements even if the vocabulary is smaller.
  public init(
    maxTokens: Int? = nil, numOOVIndices: Int = 1, maskToken: Int? = nil, oovToken: Int = -1, vocabulary: [Int]? = nil,
    idfWeights: [Double]? = nil, invert: Bool = false, outputMode: CategoryOutput = .int, padToMaxTokens: Bool = false,
    oovMethod: OOVMethod = .floormod
  ) {
    (self.maxTokens, self.numOOVIndices, self.maskToken) = (maxTokens, numOOVIndices, maskToken)
    (self.oovToken, self.invert, self.outputMode) = (oovToken, invert, outputMode)
    (self.padToMaxTokens, self.oovMethod) = (padToMaxTokens, oovMethod)
    super.init()
    guard maxTokens ?? 2 > 1, numOOVIndices >= 0 else { stop("\(label): maxTokens must be above 1, numOOVIndices not negative") }
    guard !invert || outputMode == .int else { stop("\(label): invert needs the output mode .int") }
    guard !padToMaxTokens || maxTokens != nil else { stop("\(label): padToMaxTokens needs maxTokens") }
    if let vocabulary {
      do { try setVocabulary(vocabulary, idfWeights: idfWeights) } catch { stop("\(label): \(error)") }
    }
  }

  private var oovStart: Int { maskToken != nil && outputMode == .int ? 1 : 0 }
  private var tokenStart: Int { oovStart + numOOVIndices }

  /// The terms in the order of their places; with special tokens those of the mask and of unknown integers first.
  public func vocabulary(includeSpecialTokens: Bool = true) -> [Int] {
    let special = (oovStart == 1 ? [maskToken!] : []) + Array(repeating: oovToken, count: numOOVIndices)
    return (includeSpecialTokens ? special : []) + (terms ?? [])
  }

  public var vocabularySize: Int { tokenStart + (terms?.count ?? 0) }

  /// Takes a vocabulary in place of learning one; special tokens at its beginning, as ``vocabulary(includeSpecialTokens:)`` gives
  /// them, are recognized.
  /// - Throws: `PreprocessingError` for an empty one, one that is too large, terms that occur twice, weights of another number.
  public func setVocabulary(_ vocabulary: [Int], idfWeights: [Double]? = nil) throws(PreprocessingError) {
    let special = self.vocabulary().prefix(tokenStart)
    let hasSpecial = tokenStart > 0 && vocabulary.starts(with: special)
    let terms = hasSpecial ? Array(vocabulary.dropFirst(tokenStart)) : vocabulary
    guard !vocabulary.isEmpty else { throw .invalidVocabulary("it is empty") }
    guard Set(terms).count == terms.count else { throw .invalidVocabulary("a term occurs twice") }
    if let maskToken, terms.contains(maskToken) { throw .invalidVocabulary("the mask token \(maskToken) is one of the terms") }
    if let maxTokens, terms.count + tokenStart > maxTokens {
      throw .invalidVocabulary("\(terms.count + tokenStart) tokens, at most \(maxTokens) are allowed")
    }
    var weights: [Double]?
    if outputMode == .tfIdf {
      guard let idfWeights, idfWeights.count == vocabulary.count else {
        throw .invalidVocabulary("\(idfWeights?.count ?? 0) idf weights for \(vocabulary.count) terms")
      }
      let mean = idfWeights.reduce(0, +) / Double(idfWeights.count)
      weights = hasSpecial ? idfWeights : Array(repeating: mean, count: tokenStart) + idfWeights
    }
    set(terms, weights)
  }

  private func set(_ terms: [Int], _ weights: [Double]?) {
    self.terms = terms
    let all = Tensor(elements: terms)
    let (keys, places) = all.sorted()
    table = (keys, places + tokenStart, all)
    idf = weights.map { Tensor(elements: ($0 + Array(repeating: 0, count: Swift.max(0, depth - $0.count))).map(Float.init)) }
  }

  private var depth: Int { padToMaxTokens ? maxTokens ?? vocabularySize : vocabularySize }

  /// Learns a vocabulary: the most frequent integers first, the greater first among those of one frequency.
  /// - Parameter data: integers [documents, …] or [count].
  public func adapt(_ data: Tensor) {
    guard data.elementType.isInteger else { stop("\(label): takes integers, got \(data.type)") }
    withoutGradient {
      let rows = data.rank <= 1 ? data.reshaped([data.count, 1]) : data.reshaped([data.shape[0], -1])
      let (values, inverse, counts) = rows.converted(to: .int64).unique()
      var order = counts.argSort().reversed(0).elements(as: Int.self)
      let found = values.elements(as: Int.self)
      order.removeAll { found[$0] == maskToken || found[$0] == oovToken }
      if let maxTokens { order = Array(order.prefix(maxTokens - tokenStart)) }
      guard !order.isEmpty else { stop("\(label): there is no data to adapt to") }
      var weights: [Double]?
      if outputMode == .tfIdf {
        let occurs = Tensor.zeros([rows.shape[0], found.count]).scatter(axis: 1, indices: inverse, values: onesLike(inverse))
        let documents = occurs.sum(axis: 0).take(Tensor(elements: order)).elements(as: Double.self)
        weights = inverseDocumentFrequencies(documents, of: rows.shape[0], specialTokens: tokenStart)
      }
      set(order.map { found[$0] }, weights)
    }
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    guard x.elementType.isInteger else { stop("\(label): takes integers, got \(x.type)") }
    guard let table else { stop("\(label): \(PreprocessingError.notAdapted(layer: "it"))") }
    let x = x.converted(to: .int64)
    if invert { return recorded(inverted(x, table.terms)) }
    if !isTracing, let error = problem(x) { stop("\(label): \(error)") }
    var places = `where`(contains(x), table.places.take(position(x)), unknownPlaces(x))
    if let maskToken { places = `where`(x .== maskToken, outputMode == .int ? 0 : -1, places) }
    if outputMode == .int { return recorded(places) }
    let encoded = encodeCategories(places, outputMode, depth: depth)
    return recorded(idf.map { encoded * $0 } ?? encoded)
  }

  /// Whether all integers have a place, for data from outside; a call stops if not.
  /// - Throws: `PreprocessingError` with the first one without and its position in row-major order.
  public func validate(_ x: Tensor) throws(PreprocessingError) {
    if let error = problem(x.converted(to: .int64)) { throw error }
  }

  private func problem(_ x: Tensor) -> PreprocessingError? {
    guard numOOVIndices == 0, !invert, table != nil else { return nil }
    var known = contains(x)
    if let maskToken { known = known .| (x .== maskToken) }
    let isUnknown = (.!known).flattened()
    guard isUnknown.any().item(as: Bool.self) else { return nil }
    let at = isUnknown.converted(to: .int64).argMax(axis: 0).item(as: Int.self)
    return .outOfVocabulary(token: "\(x.flattened()[at].item(as: Int.self))", position: at)
  }

  private func position(_ x: Tensor) -> Tensor {
    guard let keys = table?.keys else { return zerosLike(x) }
    return minimum(searchSorted(keys, x), keys.count - 1)
  }

  private func contains(_ x: Tensor) -> Tensor {
    guard let keys = table?.keys else { return onesLike(x) .== 0 }
    return keys.take(position(x)) .== x
  }

  private func unknownPlaces(_ x: Tensor) -> Tensor {
    if numOOVIndices <= 1 { return Tensor.full(x.shape, oovStart, .int64) }
    func hashed(_ hash: (String) -> UInt64) -> Tensor {
      guard !isTracing else { stop("\(label): hashes need the values, so they cannot be part of a compiled function") }
      let buckets = x.elements(as: Int.self).map { Int(hash("\($0)") % UInt64(numOOVIndices)) }
      return Tensor(buckets, shape: x.shape) + oovStart
    }
    return switch oovMethod {
    case .floormod: x % numOOVIndices + oovStart
    case .farmhash: hashed { FarmHash.fingerprint($0) }
    case .siphash(let a, let b): hashed { SipHash.hash($0, key: (a, b)) }
    }
  }

  private func inverted(_ x: Tensor, _ terms: Tensor) -> Tensor {
    let place = x - tokenStart
    let isTerm = (place .>= 0) .& (place .< terms.count)
    let values = `where`(isTerm, terms.take(minimum(maximum(place, 0), terms.count - 1)), oovToken)
    return maskToken.map { `where`(x .== 0, $0, values) } ?? values
  }

  override var members: [Member] { [] }
  override var arguments: String { (invert ? "invert: true, " : "") + "outputMode: .\(outputMode)" }
}

/// ln(1 + documents / (1 + documents with the term)), after as many of their mean as there are special tokens (Keras's formula).
package func inverseDocumentFrequencies(_ documents: [Double], of count: Int, specialTokens: Int) -> [Double] {
  guard !documents.isEmpty else { return Array(repeating: 0, count: specialTokens) }
  let weights = ApusTensor.log(1 + Double(count) / (1 + Tensor(elements: documents)))
  let mean = weights.mean().item(as: Double.self)
  return Array(repeating: mean, count: specialTokens) + weights.elements(as: Double.self)
}
