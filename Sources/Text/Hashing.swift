import ApusFormats
import ApusNN
import ApusTensor

/// Tokens or integers in as many bins as are wanted, by a hash; Keras's Hashing, with the same bins: FarmHash64, or SipHash64 with a key.
/// Numbers are hashed as their decimal digits.
public struct Hashing: Sendable {
  public let numBins: Int
  public let maskValue: String?
  public let salt: (UInt64, UInt64)?
  public let outputMode: CategoryOutput

  /// - Parameters:
  ///   - maskValue: what goes to bin 0, which is then kept for it; an integer as its digits.
  ///   - salt: the key of SipHash64.
  ///   - outputMode: `.int`, `.oneHot`, `.multiHot` or `.count`.
  public init(numBins: Int, maskValue: String? = nil, salt: (UInt64, UInt64)? = nil, outputMode: CategoryOutput = .int) {
    guard numBins > 0 else { stop("Hashing: \(numBins) bins") }
    guard outputMode != .tfIdf else { stop("Hashing: there is no output mode .tfIdf") }
    (self.numBins, self.maskValue, self.salt, self.outputMode) = (numBins, maskValue, salt, outputMode)
  }

  /// int64 [tokens] for `.int`; float32 [tokens, bins] for `.oneHot`; else all tokens as one sample, [bins].
  public func callAsFunction(_ tokens: [String]) -> Tensor { encoded(Tensor(tokens.map(bin), shape: [tokens.count])) }

  /// int64 [rows, tokens] for `.int`; float32 [rows, tokens, bins] for `.oneHot` ([rows, bins] for one token each); else [rows, bins].
  /// - Throws: `PreprocessingError` for rows of different lengths.
  public func callAsFunction(_ rows: [[String]]) throws(PreprocessingError) -> Tensor {
    let length = rows.first?.count ?? 0
    if let odd = rows.firstIndex(where: { $0.count != length }) {
      throw .ragged(row: odd, length: rows[odd].count, expected: length)
    }
    return encoded(Tensor(rows.flatMap { $0.map(bin) }, shape: [rows.count, length]))
  }

  /// The bins of integers; numbers with a fraction are cut off first. Not in a compiled function: digits need the values.
  public func callAsFunction(_ x: Tensor) -> Tensor {
    guard !isTracing else { stop("Hashing: needs the values, so it cannot be part of a compiled function") }
    return encoded(Tensor(x.converted(to: .int64).elements(as: Int.self).map { bin("\($0)") }, shape: x.shape))
  }

  private func bin(_ token: String) -> Int {
    let hash = salt.map { SipHash.hash(token, key: $0) } ?? FarmHash.fingerprint(token)
    guard let maskValue, numBins > 1 else { return Int(hash % UInt64(numBins)) }
    return maskValue.utf8.elementsEqual(token.utf8) ? 0 : 1 + Int(hash % UInt64(numBins - 1))
  }

  private func encoded(_ bins: Tensor) -> Tensor { encodeCategories(bins, outputMode, depth: numBins) }
}

/// Combinations of several features in as many bins as are wanted, by a hash; Keras's HashedCrossing, with the same bins.
public struct HashedCrossing: Sendable {
  /// One of the features that are combined: a value for each sample.
  public enum Feature: Sendable {
    case strings([String])
    /// Integers [samples] or [samples, 1].
    case integers(Tensor)
  }

  public let numBins: Int
  public let outputMode: CategoryOutput

  /// - Parameter outputMode: `.int` or `.oneHot`.
  public init(numBins: Int, outputMode: CategoryOutput = .int) {
    guard numBins > 0 else { stop("HashedCrossing: \(numBins) bins") }
    guard outputMode == .int || outputMode == .oneHot else { stop("HashedCrossing: takes .int or .oneHot") }
    (self.numBins, self.outputMode) = (numBins, outputMode)
  }

  public func callAsFunction(_ a: [String], _ b: [String]) throws(PreprocessingError) -> Tensor {
    try self([.strings(a), .strings(b)])
  }

  /// - Returns: int64 [samples], or float32 [samples, bins] for `.oneHot`.
  /// - Throws: `PreprocessingError` for fewer than two features, and for features of different sizes.
  public func callAsFunction(_ features: [Feature]) throws(PreprocessingError) -> Tensor {
    guard features.count >= 2 else { throw .sizesDiffer("HashedCrossing combines at least two features, got \(features.count)") }
    // Integers stand for themselves, strings for their fingerprints (TensorFlow's SparseCross).
    let hashes = features.map { feature -> [UInt64] in
      switch feature {
      case .strings(let values): values.map { FarmHash.fingerprint($0) }
      case .integers(let x): x.elements(as: Int.self).map { UInt64(bitPattern: Int64($0)) }
      }
    }
    guard hashes.allSatisfy({ $0.count == hashes[0].count }) else {
      throw .sizesDiffer("HashedCrossing combines features of one size, got \(hashes.map(\.count)) values")
    }
    let bins = hashes[0].indices.map { i in
      Int(hashes.reduce(0xDECA_FCAF_FE) { FarmHash.combined($0, $1[i]) } % UInt64(numBins))
    }
    return encodeCategories(Tensor(bins, shape: [bins.count]), outputMode, depth: numBins)
  }
}
