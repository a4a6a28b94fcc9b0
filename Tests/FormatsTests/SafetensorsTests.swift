import ApusFormats
import Foundation
import Testing

/// A file of this header and data.
private func file(_ header: String, _ data: [UInt8] = []) -> [UInt8] { file(Array(header.utf8), data) }
private func file(_ header: [UInt8], _ data: [UInt8] = []) -> [UInt8] {
  withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header + data
}
private func tensor(_ dtype: String, _ shape: String, _ begin: Int, _ end: Int) -> String {
  "{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":[\(begin),\(end)]}"
}
private func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

/// The tensors of `make_fixtures.py`, as sources for our writer.
private func referenceTensors() -> [SafetensorsFile.Source] {
  func ramp(_ count: Int, _ size: Int) -> [UInt8] {
    (0..<count).flatMap { index in (0..<size).map { $0 == 0 ? UInt8(index + 1) : 0 } }
  }
  func floats(_ values: [Float]) -> [UInt8] { values.flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian) { Array($0) } } }
  return [
    .init(name: "flags", dataType: .bool, shape: [3], bytes: [1, 0, 1]),
    .init(name: "pixels", dataType: .uint8, shape: [2, 3], bytes: ramp(6, 1)),
    .init(name: "signed", dataType: .int8, shape: [5], bytes: ramp(5, 1)),
    .init(name: "short", dataType: .int16, shape: [1, 3], bytes: ramp(3, 2)),
    .init(name: "half", dataType: .float16, shape: [2, 2], bytes: ramp(4, 2)),
    .init(name: "brain", dataType: .bfloat16, shape: [3], bytes: ramp(3, 2)),
    .init(name: "labels", dataType: .int32, shape: [2], bytes: ramp(2, 4)),
    .init(name: "b.weight", dataType: .float32, shape: [2, 3], bytes: ramp(6, 4)),
    .init(name: "double", dataType: .float64, shape: [], bytes: ramp(1, 8)),
    .init(name: "count", dataType: .int64, shape: [1], bytes: ramp(1, 8)),
    .init(name: "a.weight", dataType: .float32, shape: [2], bytes: floats([1.5, -2])),
    .init(name: "empty", dataType: .float32, shape: [0, 4], bytes: []),
    .init(name: "straße \"x\"\\\n\u{1}", dataType: .float32, shape: [1], bytes: floats([0.25])),
  ]
}

@Suite struct SafetensorsTests {
  @Test func readsWhatTheReferenceLibraryWrote() throws {
    let file = try SafetensorsFile(bytes: fixture("reference.safetensors"), name: "reference")
    #expect(file.metadata == ["format": "pt"])
    #expect(file.entries.count == 13)
    for expected in referenceTensors() {
      let entry = try #require(file[expected.name])
      #expect(entry.dataType == expected.dataType)
      #expect(entry.shape == expected.shape)
      let bytes = try file.withUnsafeBytes(of: expected.name) { Array($0) }
      try expected.provideBytes { #expect(bytes == Array($0)) }
    }
    #expect(file["absent"] == nil)
    #expect(formatError { try file.withUnsafeBytes(of: "absent") { _ in } }?.kind == .missing)
  }

  @Test func writesTheReferenceLibrarysBytes() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/model.safetensors"
      try SafetensorsFile.write(referenceTensors().shuffled(), metadata: ["format": "pt"], to: path)
      #expect(try Array(Data(contentsOf: URL(fileURLWithPath: path))) == fixture("reference.safetensors"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["model.safetensors"])
      #expect(try SafetensorsFile(path: path).entries.count == 13)
    }
  }

  @Test func emptyFilesAndTensors() throws {
    #expect(try SafetensorsFile(bytes: file("{}")).entries.isEmpty)
    #expect(try SafetensorsFile(bytes: file("{}      ")).entries.isEmpty)
    #expect(try SafetensorsFile(bytes: file("{\"__metadata__\":null}")).metadata.isEmpty)
    // Tensors without elements may share offsets with each other and with the one that begins or ends there.
    let shared =
      "{\"a\":\(tensor("F32", "[0]", 0, 0)),\"b\":\(tensor("F32", "[1]", 0, 4)),\"c\":\(tensor("I8", "[0,3]", 4, 4)),"
      + "\"d\":\(tensor("F32", "[3,0]", 0, 0)),\"e\":\(tensor("I64", "[2,0]", 4, 4))}"
    let opened = try SafetensorsFile(bytes: file(shared, zeros(4)))
    #expect(opened.entries.count == 5)
    #expect(try opened.withUnsafeBytes(of: "c") { $0.count } == 0)
    // A member that the format does not have is ignored, as by the reference implementation.
    let extra = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"note\":[]}}"
    #expect(try SafetensorsFile(bytes: file(extra, zeros(1)))["a"]?.shape == [1])
  }

  @Test func typesWithoutTensors() throws {
    for (name, shape, size) in [
      ("U16", "[2]", 4), ("U32", "[2]", 8), ("U64", "[2]", 16), ("F8_E5M2", "[2]", 2), ("F8_E4M3", "[2]", 2),
      ("F8_E8M0", "[2]", 2),
      ("C64", "[2]", 16), ("F4", "[2]", 1), ("F6_E2M3", "[4]", 3), ("F6_E3M2", "[4]", 3), ("F8_E4M3FNUZ", "[2]", 2),
      ("F8_E5M2FNUZ", "[2]", 2),
    ] {
      let opened = try SafetensorsFile(bytes: file("{\"w\":\(tensor(name, shape, 0, size))}", zeros(size)))
      let error = formatError { try opened.withUnsafeBytes(of: "w") { _ in } }
      #expect(error?.kind == .unsupported)
      #expect(error?.part == "w")
      #expect(error?.description.contains(name) == true)
    }
    #expect(formatError { _ = try SafetensorsFile(bytes: file("{\"w\":\(tensor("F4", "[1]", 0, 0))}")) }?.kind == .overflow)
  }

  struct Hostile: Sendable, CustomTestStringConvertible {
    var name: String
    var bytes: [UInt8]
    var kind: FormatError.Kind
    var part: String?
    var testDescription: String { name }
    init(_ name: String, _ bytes: [UInt8], _ kind: FormatError.Kind, part: String? = nil) {
      (self.name, self.bytes, self.kind, self.part) = (name, bytes, kind, part)
    }
  }

  static let hostile: [Hostile] = [
    Hostile("no bytes", [], .truncated),
    Hostile("seven bytes", zeros(7), .truncated),
    Hostile("length 2^64 - 1", [UInt8](repeating: 255, count: 8) + Array("{}".utf8), .limitExceeded),
    Hostile("length 2^63", zeros(7) + [128] + Array("{}".utf8), .limitExceeded),
    Hostile("length 100,000,001", withUnsafeBytes(of: UInt64(100_000_001).littleEndian) { Array($0) }, .limitExceeded),
    Hostile("length beyond the file", [9, 0, 0, 0, 0, 0, 0, 0] + Array("{}      ".utf8), .truncated),
    Hostile("length 0", zeros(8), .malformed),
    Hostile("begins with a space", file(" {}"), .malformed),
    Hostile("begins with a list", file("[]"), .malformed),
    Hostile("begins with a byte order mark", file([0xef, 0xbb, 0xbf] + Array("{}".utf8)), .malformed),
    Hostile("text after the object", file("{}x"), .trailingBytes),
    Hostile("zero bytes after the object", file("{}\0"), .trailingBytes),
    Hostile("unfinished object", file("{\"a\":"), .truncated),
    Hostile(
      "bad UTF-8 in a name", file(Array("{\"".utf8) + [0xff] + Array("\":\(tensor("U8", "[1]", 0, 1))}".utf8), [0]), .invalidUTF8),
    Hostile("lone surrogate in a name", file("{\"\\ud800\":\(tensor("U8", "[1]", 0, 1))}", [0]), .invalidUTF8),
    Hostile("deep nesting", file("{\"a\":" + String(repeating: "[", count: 200_000)), .nestingTooDeep),
    Hostile("deep nesting of objects", file(String(repeating: "{\"a\":", count: 100_000)), .nestingTooDeep),
    Hostile("too many values", file("{\"a\":[" + String(repeating: "0,", count: 2_000_001) + "0]}"), .limitExceeded),
    Hostile(
      "duplicate tensor", file("{\"a\":\(tensor("U8", "[1]", 0, 1)),\"a\":\(tensor("U8", "[1]", 1, 2))}", zeros(2)), .duplicateKey
    ),
    Hostile(
      "duplicate field", file("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", [0]),
      .duplicateKey),
    Hostile("duplicate metadata", file("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}"), .duplicateKey),
    Hostile(
      "overlap", file("{\"a\":\(tensor("U8", "[2]", 0, 2)),\"b\":\(tensor("U8", "[2]", 1, 3))}", zeros(3)), .overlap, part: "b"),
    Hostile(
      "same bytes twice", file("{\"a\":\(tensor("U8", "[2]", 0, 2)),\"b\":\(tensor("U8", "[2]", 0, 2))}", zeros(2)), .overlap),
    Hostile(
      "empty tensor inside another", file("{\"a\":\(tensor("U8", "[4]", 0, 4)),\"b\":\(tensor("U8", "[0]", 2, 2))}", zeros(4)),
      .overlap, part: "b"),
    Hostile(
      "hole between", file("{\"a\":\(tensor("U8", "[1]", 0, 1)),\"b\":\(tensor("U8", "[1]", 2, 3))}", zeros(3)), .hole, part: "b"),
    Hostile("hole at the beginning", file("{\"a\":\(tensor("U8", "[1]", 1, 2))}", zeros(2)), .hole, part: "a"),
    Hostile("trailing byte", file("{\"a\":\(tensor("U8", "[1]", 0, 1))}", zeros(2)), .trailingBytes),
    Hostile("data without tensors", file("{}", zeros(1)), .trailingBytes),
    Hostile("data missing", file("{\"a\":\(tensor("U8", "[2]", 0, 2))}", zeros(1)), .invalidRange, part: "a"),
    Hostile("begin after end", file("{\"a\":\(tensor("U8", "[2]", 2, 0))}", zeros(2)), .invalidRange, part: "a"),
    Hostile("negative offset", file("{\"a\":\(tensor("U8", "[2]", -2, 0))}", zeros(2)), .invalidEntry, part: "a"),
    Hostile("negative dimension", file("{\"a\":\(tensor("U8", "[-2]", 0, 2))}", zeros(2)), .invalidEntry, part: "a"),
    Hostile("two negative dimensions", file("{\"a\":\(tensor("U8", "[-1,-2]", 0, 2))}", zeros(2)), .invalidEntry, part: "a"),
    Hostile("dimension 2^64", file("{\"a\":\(tensor("U8", "[18446744073709551616]", 0, 0))}"), .invalidEntry, part: "a"),
    Hostile("offset 2^63 - 1", file("{\"a\":\(tensor("U8", "[9223372036854775807]", 0, .max))}"), .invalidRange, part: "a"),
    Hostile("fractional dimension", file("{\"a\":\(tensor("U8", "[1.0]", 0, 1))}", [0]), .invalidEntry, part: "a"),
    Hostile(
      "product overflow to a small number", file("{\"a\":\(tensor("U8", "[4194305,4194305,211106198978564]", 0, 4))}", zeros(4)),
      .overflow, part: "a"),
    Hostile(
      "overflow by the element size", file("{\"a\":\(tensor("F32", "[4611686018427387904]", 0, 0))}"), .overflow, part: "a"),
    Hostile("overflow beside a zero", file("{\"a\":\(tensor("F32", "[0,9223372036854775807,4]", 0, 0))}"), .overflow, part: "a"),
    Hostile("shape smaller than its bytes", file("{\"a\":\(tensor("F32", "[1]", 0, 8))}", zeros(8)), .sizeMismatch, part: "a"),
    Hostile("shape larger than its bytes", file("{\"a\":\(tensor("F32", "[3]", 0, 8))}", zeros(8)), .sizeMismatch, part: "a"),
    Hostile("scalar without bytes", file("{\"a\":\(tensor("F32", "[]", 0, 0))}"), .sizeMismatch, part: "a"),
    Hostile("unknown type", file("{\"a\":\(tensor("F99", "[1]", 0, 4))}", zeros(4)), .unknownType, part: "a"),
    Hostile("type in lower case", file("{\"a\":\(tensor("f32", "[1]", 0, 4))}", zeros(4)), .unknownType, part: "a"),
    Hostile(
      "type is a number", file("{\"a\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}}", zeros(4)), .invalidEntry, part: "a"),
    Hostile("type missing", file("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", zeros(4)), .missing, part: "a"),
    Hostile("shape missing", file("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", zeros(4)), .missing, part: "a"),
    Hostile("offsets missing", file("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", zeros(4)), .missing, part: "a"),
    Hostile(
      "one offset", file("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", zeros(4)), .invalidEntry, part: "a"),
    Hostile(
      "three offsets", file("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", zeros(4)), .invalidEntry,
      part: "a"),
    Hostile(
      "shape is an object", file("{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}", zeros(4)), .invalidEntry,
      part: "a"),
    Hostile("tensor is a list", file("{\"a\":[]}"), .invalidEntry, part: "a"),
    Hostile("metadata is a list", file("{\"__metadata__\":[]}"), .invalidEntry, part: "__metadata__"),
    Hostile("metadata with a number", file("{\"__metadata__\":{\"epoch\":3}}"), .invalidEntry, part: "__metadata__"),
    Hostile("metadata with an object", file("{\"__metadata__\":{\"a\":{}}}"), .invalidEntry, part: "__metadata__"),
  ]

  @Test(arguments: hostile)
  func refuses(_ item: Hostile) {
    let error = formatError { _ = try SafetensorsFile(bytes: item.bytes, name: "hostile.safetensors") }
    #expect(error?.kind == item.kind)
    if let part = item.part { #expect(error?.part == part) }
    #expect(error?.offset != nil)
    #expect(error?.description.hasPrefix("hostile.safetensors") == true)
  }

  @Test func messagesReadAsSentences() {
    let bytes = file("{\"fc.weight\":\(tensor("F32", "[3]", 0, 8))}", zeros(8))
    #expect(
      formatError { _ = try SafetensorsFile(bytes: bytes, name: "m.safetensors") }?.description
        == "m.safetensors, 'fc.weight', at byte 9: shape [3] of F32 takes 12 bytes, but its offsets span 8")
    // A name as long as the file, with control characters, does not flood the message.
    let name = String(repeating: "n", count: 100_000)
    let long = file("{\"\\u0007\(name)\":\(tensor("F32", "[3]", 0, 8))}", zeros(8))
    let error = formatError { _ = try SafetensorsFile(bytes: long) }
    #expect((error?.description.count ?? .max) < 400)
    #expect(error?.description.contains("\\u{7}nnn") == true)
  }

  @Test func mutatedFilesNeverTrap() throws {
    let valid = try fixture("reference.safetensors")
    var generator = SeededGenerator(state: 2026)
    var accepted = 0
    for _ in 0..<10_000 {
      var bytes = valid
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let index = Int.random(in: 0..<max(bytes.count, 1), using: &generator)
        switch Int.random(in: 0..<6, using: &generator) {
        case 0 where !bytes.isEmpty: bytes[index] = UInt8.random(in: 0...255, using: &generator)
        case 1 where !bytes.isEmpty: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 2: bytes.removeLast(min(bytes.count, Int.random(in: 1...200, using: &generator)))
        case 3 where !bytes.isEmpty: bytes.insert("0123456789-,[]{}\":.e".utf8.randomElement(using: &generator)!, at: index)
        case 4 where !bytes.isEmpty: bytes.remove(at: index)
        default:
          let end = min(bytes.count, index + Int.random(in: 1...40, using: &generator))
          if index < end { bytes.insert(contentsOf: Array(bytes[index..<end]), at: index) }
        }
      }
      do {
        let opened = try SafetensorsFile(bytes: bytes)
        for entry in opened.entries where entry.dataType.isSupported {
          #expect(try opened.withUnsafeBytes(of: entry.name) { $0.count } == entry.range.count)
        }
        accepted += 1
      } catch is FormatError {}
    }
    // Mutated data bytes leave a valid file; were none or all accepted, the mutations would test nothing.
    #expect((1..<9_000).contains(accepted))
  }

  @Test func unreadablePaths() throws {
    try withTemporaryFolder { folder in
      #expect(formatError { _ = try SafetensorsFile(path: folder + "/absent") }?.kind == .cannotRead)
      #expect(formatError { _ = try SafetensorsFile(path: folder) }?.description.contains("not a regular file") == true)
      #expect(mkfifo(folder + "/pipe", 0o600) == 0)
      #expect(formatError { _ = try SafetensorsFile(path: folder + "/pipe") }?.kind == .cannotRead)
      #expect(FileManager.default.createFile(atPath: folder + "/empty", contents: nil))
      #expect(formatError { _ = try SafetensorsFile(path: folder + "/empty") }?.kind == .truncated)
    }
  }
}
