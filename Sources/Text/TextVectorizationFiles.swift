import ApusFormats
import ApusNN
import ApusTensor

extension TextVectorization {
  private static let format = "apus.text_vectorization"

  /// Writes the layer with its vocabulary to a JSON file, atomically.
  /// - Throws: `FormatError`; one of the kind `.unsupported` for functions of one's own, which no file can hold.
  public func save(_ path: String) throws(FormatError) {
    let file = try AtomicFile(path)
    try file.write(json(path).printed(indented: true) + "\n")
    try file.commit()
  }

  private func json(_ path: String) throws(FormatError) -> JSONValue {
    func unsupported() -> FormatError {
      FormatError(.unsupported, file: path, "a function that standardizes or splits texts cannot be written to a file")
    }
    guard let standardize = standardize.name, let split = split.name else { throw unsupported() }
    var object: JSONObject = [
      "format": .string(Self.format), "version": .integer(1), "standardize": .string(standardize), "split": .string(split),
      "output_mode": .string(outputMode.rawValue), "pad_to_max_tokens": .bool(lookup.padToMaxTokens),
    ]
    object["max_tokens"] = lookup.maxTokens.map(JSONValue.integer)
    object["ngrams"] = ngrams.map { .array($0.sizes.map(JSONValue.integer)) }
    object["output_sequence_length"] = outputSequenceLength.map(JSONValue.integer)
    if lookup.isAdapted {
      object["vocabulary"] = .array(vocabulary(includeSpecialTokens: false).map(JSONValue.string))
      object["idf_weights"] = lookup.idfWeights.map { .array($0.map { .number(Double($0)) }) }
    }
    return .object(object)
  }

  /// Reads what ``save(_:)`` wrote.
  /// - Throws: `FormatError` for whatever the file holds instead.
  public init(contentsOf path: String) throws(FormatError) {
    let json = try FileBytes(mapping: path).withUnsafeBytes { (bytes) throws(FormatError) in
      try JSONValue(parsing: bytes, file: path)
    }
    func invalid(_ key: String, _ what: String) -> FormatError { FormatError(.invalidEntry, file: path, part: key, what) }
    guard let object = json.object, object["format"]?.string == Self.format else {
      throw FormatError(.malformed, file: path, "this is not a file of \(Self.format)")
    }
    guard object["version"]?.integer == 1 else {
      throw FormatError(.unsupported, file: path, part: "version", "only version 1 is known")
    }
    guard let standardize = object["standardize"]?.string.flatMap(Standardize.init(name:)) else {
      throw invalid("standardize", "unknown or absent")
    }
    guard let split = object["split"]?.string.flatMap(Split.init(name:)) else { throw invalid("split", "unknown or absent") }
    guard let output = object["output_mode"]?.string.flatMap(CategoryOutput.init(rawValue:)), output != .oneHot else {
      throw invalid("output_mode", "unknown or absent")
    }
    func positive(_ key: String, from least: Int = 1) throws(FormatError) -> Int? {
      guard let value = object[key] else { return nil }
      guard let number = value.integer, number >= least, number < 1 << 31 else {
        throw invalid(key, "is no integer from \(least) on")
      }
      return number
    }
    var sizes: NGrams?
    if let value = object["ngrams"] {
      let numbers = value.array?.compactMap(\.integer) ?? []
      guard let list = value.array, numbers.count == list.count, numbers.count <= 64,
        numbers.allSatisfy({ (1...64).contains($0) })
      else {
        throw invalid("ngrams", "is no list of integers within 1 and 64")
      }
      sizes = NGrams(numbers)
    }
    let maxTokens = try positive("max_tokens", from: 2)
    let length = try positive("output_sequence_length")
    let pads = object["pad_to_max_tokens"]?.bool ?? false
    guard !pads || maxTokens != nil else { throw invalid("pad_to_max_tokens", "needs max_tokens") }
    guard length == nil || output == .int else { throw invalid("output_sequence_length", "needs the output mode int") }
    self.init(
      maxTokens: maxTokens, standardize: standardize, split: split, ngrams: sizes, outputMode: output,
      outputSequenceLength: length,
      padToMaxTokens: pads)
    guard let entry = object["vocabulary"] else { return }
    let tokens = entry.array?.compactMap(\.string) ?? []
    guard tokens.count == entry.array?.count else { throw invalid("vocabulary", "is no list of strings") }
    // The special tokens' weight is the mean, or what the file says of all places.
    let all = object["idf_weights"]?.array?.compactMap(\.number)
    do {
      if output == .tfIdf {
        try setVocabulary(vocabulary().prefix(vocabularySize) + tokens, idfWeights: all)
      } else {
        try setVocabulary(tokens)
      }
    } catch { throw invalid("vocabulary", error.description) }
  }

  /// Writes the tokens alone, with the special ones, one to a line: Keras's vocabulary.txt.
  /// - Throws: `FormatError`, also for a token that contains the end of a line.
  public func saveVocabulary(_ path: String) throws(FormatError) {
    let tokens = vocabulary()
    if let bad = tokens.first(where: { $0.utf8.contains { $0 == 0x0a || $0 == 0x0d } }) {
      throw FormatError(
        .unsupported, file: path, part: bad, "a token with the end of a line in it does not fit on a line; use save(_:)")
    }
    let file = try AtomicFile(path)
    try file.write(tokens.joined(separator: "\n"))
    try file.commit()
  }

  /// Reads a vocabulary, one token to a line, as ``saveVocabulary(_:)`` and Keras write it.
  /// - Throws: `FormatError`; not for the output mode `.tfIdf`, whose weights such a file lacks.
  public mutating func loadVocabulary(_ path: String) throws(FormatError) {
    guard outputMode != .tfIdf else {
      throw FormatError(.unsupported, file: path, "a list of tokens has no weights for the output mode tf_idf")
    }
    let text = try FileBytes(mapping: path).withUnsafeBytes { (bytes) throws(FormatError) in
      guard bytes.count <= 1 << 30 else { throw FormatError(.limitExceeded, file: path, "a vocabulary of \(bytes.count) bytes") }
      guard let text = String(validating: bytes, as: UTF8.self) else {
        throw FormatError(.invalidUTF8, file: path, "the vocabulary is not UTF-8")
      }
      return text
    }
    var lines = text.utf8.split(separator: 0x0a, omittingEmptySubsequences: false).map { line in
      String(Substring(line.last == 0x0d ? line.dropLast() : line))
    }
    while lines.last == "" { lines.removeLast() }
    do { try setVocabulary(lines) } catch { throw FormatError(.invalidEntry, file: path, error.description) }
  }
}

extension TextVectorization.Standardize {
  fileprivate var name: String? {
    switch self {
    case .none: "none"
    case .lower: "lower"
    case .stripPunctuation: "strip_punctuation"
    case .lowerAndStripPunctuation: "lower_and_strip_punctuation"
    case .custom: nil
    }
  }
  fileprivate init?(name: String) {
    switch name {
    case "none": self = .none
    case "lower": self = .lower
    case "strip_punctuation": self = .stripPunctuation
    case "lower_and_strip_punctuation": self = .lowerAndStripPunctuation
    default: return nil
    }
  }
}

extension TextVectorization.Split {
  fileprivate var name: String? {
    switch self {
    case .none: "none"
    case .whitespace: "whitespace"
    case .character: "character"
    case .custom: nil
    }
  }
  fileprivate init?(name: String) {
    switch name {
    case "none": self = .none
    case "whitespace": self = .whitespace
    case "character": self = .character
    default: return nil
    }
  }
}
