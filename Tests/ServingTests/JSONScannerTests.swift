import ApusFormats
import ApusServables
import ApusTensor
import Foundation
import NIOCore
import Testing

@testable import ApusServing

/// Reads one value with a scanner's method, and nothing may follow it.
private func scan<R>(
  _ text: String, maxDepth: Int = 64, _ body: (inout JSONScanner) throws(ServingError) -> R
) throws(ServingError) -> R {
  try ByteBuffer(string: text).scanJSON(maxDepth: maxDepth, body)
}

private func elements(
  _ text: String, _ type: ElementType = .float64, name: String? = nil, readsBytes: Bool = false, limit: Int = .max,
  maxDepth: Int = 64
) throws(ServingError) -> Tensor {
  try scan(text, maxDepth: maxDepth) { scanner throws(ServingError) in
    var elements = JSONElements(type, name: name, limit: limit, readsBytes: readsBytes)
    let shape = try elements.append(from: &scanner)
    return try elements.tensor(shape)
  }
}

private func message(_ body: () throws(ServingError) -> Void) -> String {
  do throws(ServingError) {
    try body()
    return "no error"
  } catch {
    return error.code == .invalidArgument ? error.message : "\(error.code): \(error.message)"
  }
}

@Suite struct JSONScannerTests {
  @Test func readsAnObjectMemberByMember() throws {
    let text = #" { "id" : "a\"b\\\u00e9\ud83d\ude00\n" , "n":-12, "on":true,"skip":[{"x":[1,2,{}]},null,"]"], "f":2.5e-1 } "#
    var seen: [String] = []
    try scan(text) { scanner throws(ServingError) in
      try scanner.beginObject()
      while let key = try scanner.nextKey() {
        seen.append(key)
        switch key {
        case "id": #expect(try scanner.string() == "a\"b\\é😀\n")
        case "n": #expect(try scanner.integer() == -12)
        case "on": #expect(try scanner.bool())
        case "f": #expect(try scanner.double() == 0.25)
        default: try scanner.skipValue()
        }
      }
    }
    #expect(seen == ["id", "n", "on", "skip", "f"])
  }

  @Test func readsArraysAndTrees() throws {
    let values = try scan("[ 1,2 , 3]") { scanner throws(ServingError) in
      var values: [Int] = []
      try scanner.beginArray()
      while try scanner.nextElement() { values.append(try scanner.integer()) }
      return values
    }
    #expect(values == [1, 2, 3])
    let text = #"{"a":[1,{"b":null}],"c":"d"}"#
    let tree = try scan(text) { scanner throws(ServingError) in try scanner.value() }
    #expect(tree == (try JSONValue(parsing: Array(text.utf8), file: "")))
  }

  @Test(arguments: [
    (#"{"a":1,"a":2}"#, "the key 'a' occurs twice in one object at offset: 7"),
    (#"{"a":1,}"#, "expected a key in quotes, not '}' at offset: 7"),
    (#"{"a" 1}"#, "expected ':' after a key, not '1' at offset: 5"), (#"{"a":1"#, "the text ends inside an object at offset: 6"),
    (#"{a:1}"#, "expected a key in quotes, not 'a' at offset: 1"), ("[1 2]", "expected ',' or ']', not '2' at offset: 3"),
    ("[1,]", "a value cannot begin with ']' at offset: 3"), ("[,1]", "a value cannot begin with ','"),
    ("[1", "the text ends inside a list"), ("", "the text ends where a value is expected at offset: 0"),
    ("[1] x", "the value has ended, but more text follows at offset: 4"), ("\"\u{1}\"", "the byte 1, a control character"),
    (#""\ud800""#, "half of a surrogate pair"), (#""\ud800\u0041""#, "half of a surrogate pair"),
    (#""\udc00""#, "half of a surrogate pair"), (#""\x""#, "'\\' cannot be followed by 'x'"),
    (#""\u00g0""#, "four hexadecimal digits"),
    (#""abc"#, "the text ends inside a string"), ("tru", "expected 'true' or 'false'"), ("nul", "expected 'null'"),
    ("01", "01 is not a number"), ("1.", "1. is not a number"), (".5", "a value cannot begin with '.'"),
    ("-", "- is not a number"),
    ("1e", "1e is not a number"), ("+1", "a value cannot begin with '+'"), ("1e999", "1e999 is too big"),
    ("0x10", "more text follows"),
  ])
  func refusesWhatIsNotJSON(_ text: String, _ expected: String) {
    let found = message { () throws(ServingError) in try scan(text) { scanner throws(ServingError) in try scanner.skipValue() } }
    #expect(found.contains(expected), "\(found)")
  }

  @Test func refusesInvalidUTF8() {
    for bytes: [UInt8] in [
      [0x22, 0xff, 0x22], [0x22, 0xc0, 0x80, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22], [0x22, 0xe2, 0x82, 0x22],
    ] {
      let found = message { () throws(ServingError) in
        try ByteBuffer(bytes: bytes).scanJSON { scanner throws(ServingError) in _ = try scanner.string() }
      }
      #expect(found.contains("not valid UTF-8"))
    }
  }

  @Test func refusesDeepNestingWithoutUsingTheStack() {
    for text in [String(repeating: "[", count: 1_000_000), String(repeating: #"{"a":"#, count: 1_000_000)] {
      #expect(
        message { () throws(ServingError) in try scan(text) { scanner throws(ServingError) in try scanner.skipValue() } }
          .contains("nested deeper than 64 levels"))
      #expect(
        message { () throws(ServingError) in try scan(text) { scanner throws(ServingError) in _ = try scanner.value() } }
          .contains("nested deeper than 64 levels"))
      #expect(message { () throws(ServingError) in _ = try elements(text) } != "no error")
    }
    #expect(message { () throws(ServingError) in _ = try elements("[[[[1]]]]", maxDepth: 3) }.contains("deeper than 3 levels"))
    #expect(
      message { () throws(ServingError) in _ = try elements("[[[[[[[[[1]]]]]]]]]") }.contains("at most 8 dimensions"))
  }

  @Test func refusesDuplicatesAmongManyKeys() {
    let members = (0..<5_000).map { #""k\#($0)":0"# }.joined(separator: ",")
    #expect(throws: Never.self) { try scan("{\(members)}") { scanner throws(ServingError) in try scanner.skipValue() } }
    let found = message { () throws(ServingError) in
      try scan("{\(members),\"k77\":0}") { scanner throws(ServingError) in try scanner.skipValue() }
    }
    #expect(found.contains("'k77' occurs twice"))
    // The same key in two objects is no duplicate.
    #expect(throws: Never.self) {
      try scan(#"[{"a":{"a":1}},{"a":2}]"#) { scanner throws(ServingError) in try scanner.skipValue() }
    }
  }

  @Test(arguments: ["1.5", "1e2", "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890", "NaN"])
  func refusesWhatIsNoInteger(_ text: String) {
    #expect(
      message { () throws(ServingError) in _ = try scan(text) { scanner throws(ServingError) in try scanner.integer() } }
        .contains(text))
  }

  @Test func readsIntegersToTheirLimits() throws {
    for value in [Int.min, Int.min + 1, -1, 0, 1, Int.max] {
      #expect(try scan("\(value)") { scanner throws(ServingError) in try scanner.integer() } == value)
    }
  }

  @Test func readsDoublesToTheLastBit() throws {
    var texts = [
      "0", "-0", "0.1", "1e22", "1e23", "123456789012345678", "9007199254740993", "9007199254740993.0", "0.30000001192092896",
      "1.7976931348623157e308", "4.9406564584124654e-324", "2.2250738585072011e-308", "1e-400", "8.5e-27",
      "1.8446744073709551615e19",
      "3.1415926535897932384626433832795028841971", "0.000000000000000000000000000000000000000000000000001",
      "9999999999999999999e27",
      "9999999999999999999e-27", "1E+5", "18446744073709551615",
      "0.00000000000000000000000000000000000000000000012345678901234567890",
    ]
    var random = SplitMix(seed: 1)
    for _ in 0..<50_000 {
      let value = Double(bitPattern: random.next())
      if value.isFinite { texts.append("\(value)") }
      texts.append("\(Double(Float(bitPattern: UInt32(truncatingIfNeeded: random.next() % 0x7f00_0000))))")
      texts.append("\(random.next() >> (random.next() % 64))e\(Int(random.next() % 60) - 30)")
      texts.append("0.\(random.next())")
    }
    let list = "[" + texts.joined(separator: ",") + "]"
    let values = try elements(list).elements(as: Double.self)
    #expect(values.count == texts.count)
    for (text, value) in zip(texts, values) where Double(text)!.bitPattern != value.bitPattern {
      Issue.record("\(text) was read as \(value)")
    }
  }

  @Test func readsTensorsOfEveryType() throws {
    #expect(try elements("[[1,2,3],[4,5,6]]", .int64).shape == [2, 3])
    #expect(try elements(" [ [ [ 1 ] , [ -2 ] ] ] ", .int8).elements(as: Int8.self) == [1, -2])
    #expect(try elements("[[],[]]", .float32).shape == [2, 0])
    #expect(try elements("[]", .float32).shape == [0])
    #expect(try elements("7", .int16).shape == [])
    #expect(try elements("[0,255]", .uint8).elements(as: UInt8.self) == [0, 255])
    #expect(try elements("[-32768,32767]", .int16).elements(as: Int16.self) == [-32768, 32767])
    #expect(try elements("[-2147483648,2147483647]", .int32).elements(as: Int32.self) == [.min, .max])
    #expect(try elements("[-9223372036854775808,9223372036854775807]", .int64).elements(as: Int64.self) == [.min, .max])
    #expect(try elements("[true,false]", .bool).elements(as: Bool.self) == [true, false])
    let special = try elements("[NaN, Infinity, -Infinity, Inf, -Inf, 1, 2.5]", .float32).floats
    #expect(special[0].isNaN && special[1...] == [.infinity, -.infinity, .infinity, -.infinity, 1, 2.5])
    #expect(
      try elements("[0.1,1,65504,1e-7,NaN]", .float16).converted(to: .float32).floats[..<4] == [
        0.099975586, 1, 65504, 1.1920929e-07,
      ])
    #expect(try elements("[0.1,3.3895e38]", .bfloat16).converted(to: .float32).floats == [0.100097656, 3.3895314e38])
    // Longer than any first guess of the memory.
    let many = (0..<100_000).map { $0 % 10 }
    #expect(
      try elements("[" + many.map(String.init).joined(separator: ",") + "]", .int32).elements(as: Int32.self)
        == many.map(Int32.init))
  }

  @Test(arguments: [
    ("[[1,2,300]]", ElementType.uint8, "300 at [0, 2] is not within uint8"), ("[-1]", .uint8, "-1 at [0] is not within uint8"),
    ("128", .int8, "128 is not within int8"), ("[1.0]", .int32, "1.0 at [0] is not an integer, as int32 wants"),
    ("[[1,2],[3]]", .float32, "the list at [1] has 1 elements, where those before it have 2"),
    ("[[1],[]]", .float32, "the list at [1] has 0 elements, where those before it have 1"),
    ("[[],[1]]", .float32, "the list at [1] has 1 elements, where those before it have 0"),
    ("[[1,2],3]", .float32, "a number at [1], where a list belongs as before"),
    ("[1,[2]]", .float32, "[ at [1] is not a number"),
    ("[[1],[[2]]]", .float32, "a list at [1, 0], where a number belongs as before"),
    ("[[[1]],[2]]", .float32, "a number at [1, 0], where a list belongs as before"),
    ("[1,\"a\"]", .float32, "\"a\" at [1] is not a number"), ("[1,true]", .float32, "true at [1] is not a number"),
    ("[null]", .int64, "null at [0] is not a number"), ("[1]", .bool, "1 at [0] is not true or false"),
    ("{}", .float32, "{ is not a number"),
    ("[1e39]", .float32, "1e39 at [0] is not within float32"), ("[65520]", .float16, "65520 at [0] is not within float16"),
    ("[3.4e38]", .bfloat16, "3.4e38 at [0] is not within bfloat16"), ("[1e999]", .float64, "1e999 at [0] is too big"),
    ("[1 2]", .float32, "expected ',' or ']', not '2' at offset: 3"),
    ("[1,2", .float32, "the text ends inside a list at offset: 4"),
    ("[1,", .float32, "text ends"),
    ("[1,]", .float32, "] at [1] is not a number"), ("", .float32, "text ends"),
    ("[[1]", .float32, "the text ends inside a list"),
    ("[01]", .float32, "01 at [0] is not a number as JSON"), ("[- 1]", .float32, "- at [0] is not a number"),
    ("[\(String(repeating: "9", count: 2_000))]", .float64, "has too many characters"),
  ])
  func namesWhatIsWrongWithElements(_ text: String, _ type: ElementType, _ expected: String) {
    let found = message { () throws(ServingError) in _ = try elements(text, type, name: "x") }
    #expect(found.contains(expected), "\(found)")
    #expect(found.hasPrefix("input 'x': ") || found.hasPrefix("JSON Parse error"))
  }

  @Test func readsBytes() throws {
    #expect(try elements(#"{"b64":"aGVsbG8="}"#, .uint8, readsBytes: true).elements(as: UInt8.self) == Array("hello".utf8))
    let two = try elements(#"[{"b64":"AQI"}, "ab", [3, 4]]"#, .uint8, readsBytes: true)
    #expect(two.shape == [3, 2] && two.elements(as: UInt8.self) == [1, 2, 97, 98, 3, 4])
    #expect(
      message { () throws(ServingError) in _ = try elements(#"[{"b64":"A"}]"#, .uint8, readsBytes: true) }.contains(
        "Unable to base64 decode"))
    #expect(
      message { () throws(ServingError) in _ = try elements(#"[{"b64":"AQI="},{"b64":"AQ=="}]"#, .uint8, readsBytes: true) }
        .contains("at [1] has 1 elements"))
    for other in [#"{"b65":"AQ=="}"#, #"{"b64":1}"#, #"{"b64":"AQ==","x":1}"#, "{}"] {
      #expect(
        message { () throws(ServingError) in _ = try elements(other, .uint8, readsBytes: true) }.contains("is not {\"b64\""))
    }
    #expect(message { () throws(ServingError) in _ = try elements(#"{"b64":"AQ=="}"#, .uint8) }.contains("is not a number"))
  }

  @Test func everyByteSurvivesBase64() throws {
    var random = SplitMix(seed: 4)
    for count in 0..<100 {
      let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      let text = String(decoding: bytes.withUnsafeBytes { Base64.encode($0) }, as: UTF8.self)
      #expect(decoded(text) == bytes)
      #expect(text == Data(bytes).base64EncodedString())
      // Some writers escape the slash.
      let escaped = "{\"b64\":\"" + text.replacingOccurrences(of: "/", with: "\\/") + "\"}"
      #expect(try elements(escaped, .uint8, readsBytes: true).elements(as: UInt8.self) == bytes)
    }
    #expect(
      message { () throws(ServingError) in _ = try elements("{\"b64\":\"AAAA", .uint8, readsBytes: true) }.contains(
        "ends inside a string"))
  }

  @Test func boundsMemory() {
    #expect(
      message { () throws(ServingError) in _ = try elements("[1,2,3,4,5]", .float64, limit: 32) }.contains("more than 32 bytes"))
    #expect(message { () throws(ServingError) in _ = try elements("[1,2,3,4]", .float64, limit: 32) } == "no error")
    // An announced size takes no more than the text could fill.
    let found = message { () throws(ServingError) in
      try scan("[1]") { scanner throws(ServingError) in
        var elements = JSONElements(.float32, expecting: .max)
        #expect(try elements.append(from: &scanner) == [1])
      }
    }
    #expect(found == "no error")
  }

  @Test func appendsValueAfterValue() throws {
    try scan("[[1,2],[3,4]]") { scanner throws(ServingError) in
      var elements = JSONElements(.float32, expecting: 4)
      try scanner.beginArray()
      while try scanner.nextElement() { #expect(try elements.append(from: &scanner) == [2]) }
      #expect(try elements.tensor([2, 2]).floats == [1, 2, 3, 4])
      #expect(message { () throws(ServingError) in _ = try elements.tensor([3]) } != "no error")
      #expect(message { () throws(ServingError) in _ = try elements.tensor([1 << 62, 8]) } != "no error")
    }
  }

  @Test(arguments: [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")])
  func decodesBase64(_ text: String, _ expected: String) {
    #expect(decoded(text).map { String(decoding: $0, as: UTF8.self) } == expected)
    let encoded = Array(expected.utf8).withUnsafeBytes { Base64.encode($0) }
    #expect(encoded.filter { $0 != 61 } == text.utf8.filter { $0 != 61 } && encoded.count % 4 == 0)
  }

  @Test(arguments: ["Z", "Zg=", "Zg===", "=", "Zg==Zg==", "Z!==", "Zm9 v", "Zm9v===="])
  func refusesWhatIsNotBase64(_ text: String) { #expect(decoded(text) == nil) }
}

private func decoded(_ text: String) -> [UInt8]? { Array(text.utf8).withUnsafeBytes { Base64.decode($0) } }

struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
