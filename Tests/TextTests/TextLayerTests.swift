import ApusFormats
import ApusNN
import ApusTensor
import ApusText
import Foundation
import Testing

/// Keras's values; Fixtures/make_text.py made them.
struct TextFixture: Decodable {
  struct Values: Decodable {
    var shape: [Int]
    var values: [Double]
    var vocabulary: [String]?
  }
  var words, fingerprints, siphashes: [String]
  var rows: [[String]]
  var numbers: [[Int]]
  var hashing: [String: Values]
  var crossed: [[Value]]
  var hashed_crossing: [String: Values]
  var documents, asked: [[String]]
  var string_lookup: [String: Values]
  var inverted: [String]
  var texts, asked_texts: [String]
  var text_vectorization: [String: Values]

  enum Value: Decodable {
    case text(String)
    case number(Int)
    init(from decoder: any Decoder) throws {
      let value = try decoder.singleValueContainer()
      if let text = try? value.decode(String.self) { self = .text(text) } else { self = .number(try value.decode(Int.self)) }
    }
    var text: String { if case .text(let value) = self { value } else { "" } }
    var number: Int { if case .number(let value) = self { value } else { 0 } }
  }

  static let shared = try? JSONDecoder().decode(
    TextFixture.self,
    from: Data(
      contentsOf: URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures/text.json")))
}

/// Counts and places are exact; tf-idf weights are logarithms in float32 on both sides.
func expect(_ x: Tensor, _ expected: TextFixture.Values?, _ what: String, sourceLocation: SourceLocation = #_sourceLocation) {
  guard let expected else {
    Issue.record("no values for \(what)", sourceLocation: sourceLocation)
    return
  }
  #expect(Array(x.shape) == expected.shape, "\(what): shape", sourceLocation: sourceLocation)
  let values = x.elements(as: Double.self)
  let same =
    values.count == expected.values.count && zip(values, expected.values).allSatisfy { abs($0 - $1) <= 1e-6 * max(1, abs($1)) }
  #expect(same, "\(what): \(values), expected \(expected.values)", sourceLocation: sourceLocation)
}

@Suite struct TextLayerTests {
  let fixture: TextFixture
  init() throws { fixture = try #require(TextFixture.shared) }

  // MARK: Hashes

  @Test func fingerprintsAreTensorFlows() {
    for (i, word) in fixture.words.enumerated() {
      #expect("\(FarmHash.fingerprint(word) % (1 << 62))" == fixture.fingerprints[i], "\(word)")
      #expect("\(SipHash.hash(word, key: (133, 137)) % (1 << 62))" == fixture.siphashes[i], "\(word)")
    }
    // The example of the SipHash paper, appendix A.
    let key: (UInt64, UInt64) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)
    #expect(Array(UInt8(0)..<15).withUnsafeBytes { SipHash.hash($0, key: key) } == 0xa129_ca61_49be_45e5)
  }

  @Test func hashing() throws {
    expect(try Hashing(numBins: 7)(fixture.rows), fixture.hashing["int"], "int")
    expect(try Hashing(numBins: 4, maskValue: "")(fixture.rows), fixture.hashing["mask"], "mask")
    expect(try Hashing(numBins: 7, salt: (133, 137))(fixture.rows), fixture.hashing["salt"], "salt")
    let numbers = Tensor(fixture.numbers.flatMap { $0 }, shape: [2, 2])
    expect(Hashing(numBins: 7)(numbers), fixture.hashing["integers"], "integers")
    expect(Hashing(numBins: 7)(Tensor([[1.7, -2.9], [3.0, 0.4]])), fixture.hashing["floats"], "floats")
    expect(try Hashing(numBins: 3, outputMode: .oneHot)(fixture.rows), fixture.hashing["one_hot"], "one_hot")
    expect(try Hashing(numBins: 5, outputMode: .multiHot)(fixture.rows), fixture.hashing["multi_hot"], "multi_hot")
    expect(try Hashing(numBins: 3, outputMode: .count)(fixture.rows), fixture.hashing["count"], "count")
    #expect(throws: PreprocessingError.ragged(row: 1, length: 2, expected: 1)) { try Hashing(numBins: 3)([["a"], ["b", "c"]]) }
  }

  @Test func hashedCrossing() throws {
    let (first, second) = (fixture.crossed[0].map(\.text), fixture.crossed[1].map(\.text))
    let third = Tensor(elements: fixture.crossed[2].map(\.number))
    expect(try HashedCrossing(numBins: 11)(first, second), fixture.hashed_crossing["strings"], "strings")
    expect(
      try HashedCrossing(numBins: 1000)([.strings(first), .integers(third)]), fixture.hashed_crossing["mixed"], "mixed")
    expect(
      try HashedCrossing(numBins: 1000)([.strings(first), .integers(third), .strings(second)]),
      fixture.hashed_crossing["three"], "three")
    expect(try HashedCrossing(numBins: 5, outputMode: .oneHot)(first, second), fixture.hashed_crossing["one_hot"], "one_hot")
    #expect(throws: PreprocessingError.self) { try HashedCrossing(numBins: 5)(["a"], ["b", "c"]) }
    #expect(throws: PreprocessingError.self) { try HashedCrossing(numBins: 5)([.strings(["a"])]) }
  }

  // MARK: Vocabularies

  private func check(_ name: String, _ lookup: StringLookup, adapts: Bool = true) throws {
    var lookup = lookup
    if adapts { lookup.adapt(fixture.documents) }
    #expect(lookup.vocabulary() == fixture.string_lookup[name]?.vocabulary, "\(name)")
    expect(try lookup(fixture.asked), fixture.string_lookup[name], name)
  }

  @Test func stringLookup() throws {
    try check("plain", StringLookup())
    try check("mask", StringLookup(maskToken: ""))
    try check("max", StringLookup(maxTokens: 4))
    try check("buckets", StringLookup(numOOVIndices: 3, maskToken: ""))
    try check("salt", StringLookup(numOOVIndices: 3, salt: (5, 6)))
    try check("one_hot", StringLookup(outputMode: .oneHot))
    try check("multi_hot", StringLookup(maskToken: "", outputMode: .multiHot))
    try check("count", StringLookup(numOOVIndices: 2, outputMode: .count))
    try check("tf_idf", StringLookup(maskToken: "", outputMode: .tfIdf))
    try check("padded", StringLookup(maxTokens: 12, outputMode: .count, padToMaxTokens: true))
    try check("given", StringLookup(maskToken: "", vocabulary: ["Z", "b"]), adapts: false)
    try check(
      "weights", StringLookup(vocabulary: ["Z", "b", "c"], idfWeights: [0.5, 0.25, 2], outputMode: .tfIdf), adapts: false)
    #expect(try StringLookup(vocabulary: ["a", "b"]).inverted(Tensor([1, 0, 2, 7])) == fixture.inverted)
  }

  @Test func stringLookupOfOneRow() throws {
    let lookup = try StringLookup(vocabulary: ["a", "b"])
    #expect(try lookup(["b", "z", "a"]).elements(as: Int.self) == [2, 0, 1])
    // A composed and a decomposed letter are different tokens.
    let letters = try StringLookup(vocabulary: ["\u{e9}", "e\u{301}"])
    #expect(try letters(["e\u{301}", "\u{e9}"]).elements(as: Int.self) == [2, 1])
  }

  @Test func stringLookupOfBadData() throws {
    #expect(throws: PreprocessingError.outOfVocabulary(token: "z", position: 3)) {
      try StringLookup(numOOVIndices: 0, vocabulary: ["a"])([["a", "a"], ["a", "z"]])
    }
    #expect(throws: PreprocessingError.ragged(row: 1, length: 1, expected: 2)) {
      try StringLookup(vocabulary: ["a"])([["a", "a"], ["a"]])
    }
    #expect(throws: PreprocessingError.invalidVocabulary("'a' occurs twice")) { try StringLookup(vocabulary: ["a", "b", "a"]) }
    #expect(throws: PreprocessingError.self) { try StringLookup(vocabulary: []) }
    #expect(throws: PreprocessingError.self) { try StringLookup(maskToken: "m", vocabulary: ["a", "m"]) }
    #expect(throws: PreprocessingError.self) { try StringLookup(maxTokens: 2, vocabulary: ["a", "b"]) }
    #expect(throws: PreprocessingError.self) { try StringLookup(vocabulary: ["a"], outputMode: .tfIdf) }
    #expect(throws: PreprocessingError.notAdapted(layer: "StringLookup")) { try StringLookup(outputMode: .count)(["a"]) }
  }

  /// Thousands of tokens: the table grows, and every token keeps its number.
  @Test func largeVocabulary() throws {
    let tokens = (0..<20_000).map { "token \($0 * 7)" }
    let lookup = try StringLookup(vocabulary: tokens)
    #expect(try lookup(tokens).elements(as: Int.self) == Array(1...20_000))
    #expect(lookup.vocabulary(includeSpecialTokens: false) == tokens)
  }

  // MARK: Texts

  private func check(_ name: String, _ layer: TextVectorization) {
    var layer = layer
    layer.adapt(fixture.texts)
    #expect(layer.vocabulary() == fixture.text_vectorization[name]?.vocabulary, "\(name)")
    expect(layer(fixture.asked_texts), fixture.text_vectorization[name], name)
  }

  @Test func textVectorization() {
    check("plain", TextVectorization())
    check("max", TextVectorization(maxTokens: 6))
    check("length", TextVectorization(outputSequenceLength: 4))
    check("long", TextVectorization(outputSequenceLength: 12))
    check("lower", TextVectorization(standardize: .lower))
    check("strip", TextVectorization(standardize: .stripPunctuation))
    check("as_is", TextVectorization(standardize: .none))
    check("character", TextVectorization(split: .character))
    check("whole", TextVectorization(split: .none))
    check("bigrams", TextVectorization(ngrams: 2))
    check("two_and_three", TextVectorization(ngrams: [2, 3]))
    check("multi_hot", TextVectorization(outputMode: .multiHot))
    check("count", TextVectorization(maxTokens: 8, outputMode: .count))
    check("padded", TextVectorization(maxTokens: 60, outputMode: .count, padToMaxTokens: true))
    check("tf_idf", TextVectorization(maxTokens: 10, outputMode: .tfIdf))
    check("tf_idf_bigrams", TextVectorization(maxTokens: 12, ngrams: 2, outputMode: .tfIdf))
  }

  @Test func functionsOfOnesOwn() {
    var layer = TextVectorization(
      standardize: .custom { $0.replacing("-", with: " ") }, split: .custom { $0.split(separator: "|").map(String.init) })
    layer.adapt(["a-b|c", "c|c"])
    #expect(layer.vocabulary() == ["", "[UNK]", "c", "a b"])
    #expect(layer("a b|d").elements(as: Int.self) == [3, 1])
    #expect(layer.tokens(of: "x-y|z") == ["x y", "z"])
  }

  // MARK: Files

  private func withFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  @Test func savedAndReadAgain() throws {
    let layers = [
      TextVectorization(maxTokens: 12, ngrams: [1, 2], outputSequenceLength: 6),
      TextVectorization(standardize: .lower, split: .character),
      TextVectorization(maxTokens: 40, outputMode: .tfIdf, padToMaxTokens: true), TextVectorization(outputMode: .count),
    ]
    try withFolder { folder in
      for (i, start) in layers.enumerated() {
        var layer = start
        let path = "\(folder)/\(i).json"
        layer.adapt(fixture.texts + ["new\nline"])
        try layer.save(path)
        let again = try TextVectorization(contentsOf: path)
        #expect(again.vocabulary() == layer.vocabulary())
        let (a, b) = (layer(fixture.asked_texts), again(fixture.asked_texts))
        #expect(a.shape == b.shape && a.elements(as: Float.self) == b.elements(as: Float.self))
      }
      let path = folder + "/none.json"
      try TextVectorization(maxTokens: 5).save(path)
      #expect(try !TextVectorization(contentsOf: path).lookup.isAdapted)
      #expect(throws: FormatError.self) { try TextVectorization(standardize: .custom { $0 }).save(path) }
    }
  }

  @Test func vocabularyFile() throws {
    try withFolder { folder in
      let path = folder + "/vocabulary.txt"
      var layer = TextVectorization()
      layer.adapt(["b b a", "b"])
      try layer.saveVocabulary(path)
      #expect(try String(contentsOfFile: path, encoding: .utf8) == "\n[UNK]\nb\na")
      var again = TextVectorization()
      try again.loadVocabulary(path)
      #expect(again.vocabulary() == layer.vocabulary())
      try Data("c\r\nd\r\n".utf8).write(to: URL(fileURLWithPath: path))
      try again.loadVocabulary(path)
      #expect(again.vocabulary(includeSpecialTokens: false) == ["c", "d"])
      for bad in [Data(), Data("a\na\n".utf8), Data([0x61, 0xff])] {
        try bad.write(to: URL(fileURLWithPath: path))
        #expect(throws: FormatError.self) { try again.loadVocabulary(path) }
      }
      #expect(throws: FormatError.self) { try again.loadVocabulary(folder + "/absent") }
      var characters = TextVectorization(standardize: .none, split: .character)
      characters.adapt(["a\nb"])
      #expect(throws: FormatError.self) { try characters.saveVocabulary(path) }
    }
  }

  /// Whatever a file holds, the reader throws its one error.
  @Test func hostileFiles() throws {
    try withFolder { folder in
      let path = folder + "/layer.json"
      var layer = TextVectorization(maxTokens: 9, outputSequenceLength: 5)
      layer.adapt(fixture.texts)
      try layer.save(path)
      let good = try String(contentsOfFile: path, encoding: .utf8)
      let changes = [
        ("apus.text_vectorization", "other"), ("\"version\": 1", "\"version\": 2"), ("\"int\"", "\"one_hot\""),
        ("\"int\"", "\"count\""),
        ("whitespace", "spaces"), ("lower_and_strip_punctuation", "upper"), ("\"max_tokens\": 9", "\"max_tokens\": 1"),
        ("\"max_tokens\": 9", "\"max_tokens\": 4"), ("\"max_tokens\": 9", "\"max_tokens\": \"9\""), ("[", "[3, "),
        ("[", "[\"film\", "),
        ("\"output_sequence_length\": 5", "\"output_sequence_length\": -5"), ("{", "{\"ngrams\": [0],"), ("{", "{\"ngrams\": 2,"),
        ("}", ""),
      ]
      for (old, new) in changes {
        guard let range = good.range(of: old) else {
          Issue.record("\(old) is not in the file: \(good)")
          continue
        }
        try good.replacingCharacters(in: range, with: new).write(toFile: path, atomically: true, encoding: .utf8)
        #expect(throws: FormatError.self, "\(old) → \(new)") { try TextVectorization(contentsOf: path) }
      }
      for length in stride(from: 0, to: good.utf8.count - 2, by: 7) {
        try Data(good.utf8.prefix(length)).write(to: URL(fileURLWithPath: path))
        #expect(throws: FormatError.self) { try TextVectorization(contentsOf: path) }
      }
    }
  }
}
