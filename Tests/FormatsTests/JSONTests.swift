import ApusFormats
import Testing

@Suite struct JSONTests {
  private func parse(_ text: String, limits: JSONLimits = JSONLimits()) throws -> JSONValue {
    try JSONValue(parsing: Array(text.utf8), file: "test", limits: limits)
  }

  @Test func valuesOfEveryKind() throws {
    let value = try parse(
      #" { "a" : [1, -2, 0.5, 1e3, true, false, null], "b": {"c": "x\n\u00e9\ud83d\ude00\/"}, "d":[],"e":{} } "#)
    #expect(
      value
        == .object([
          "a": .array([.integer(1), .integer(-2), .number(0.5), .number(1000), .bool(true), .bool(false), .null]),
          "b": .object(["c": .string("x\né😀/")]), "d": .array([]), "e": .object([:]),
        ]))
    #expect(value.object?.keys == ["a", "b", "d", "e"])
    #expect(value.object?.position(of: "a") == 3)
    #expect(value.object?["a"]?.array?[2].number == 0.5)
  }

  @Test(arguments: [
    ("9223372036854775807", JSONValue.integer(.max)), ("-9223372036854775808", .integer(.min)),
    ("18446744073709551615", .number(0x1p64)), ("-0", .number(-0.0)), ("0", .integer(0)), ("1E-2", .number(0.01)),
  ])
  func numbers(text: String, expected: JSONValue) throws {
    #expect(try parse(text) == expected)
  }

  @Test(arguments: [
    ("", FormatError.Kind.truncated, 0), ("   ", .truncated, 3), ("{", .truncated, 1), ("[1", .truncated, 2),
    ("\"ab", .truncated, 0),
    ("[1,]", .malformed, 3), ("{\"a\":1,}", .malformed, 7), ("{a:1}", .malformed, 1), ("{\"a\" 1}", .malformed, 5),
    ("01", .malformed, 0), ("1.", .malformed, 2), (".5", .malformed, 0), ("+1", .malformed, 0), ("-", .malformed, 1),
    ("1e", .malformed, 2), ("NaN", .malformed, 0), ("nul", .malformed, 0), ("1 2", .trailingBytes, 2), ("1e999", .overflow, 0),
    ("\"\u{1}\"", .malformed, 1), ("\"\\x\"", .malformed, 1), ("\"\\u12g4\"", .malformed, 5), ("\"\\ud800\"", .invalidUTF8, 1),
    ("\"\\udc00\"", .invalidUTF8, 1), ("\"\\ud800\\u0041\"", .invalidUTF8, 1), ("{\"a\":1,\"a\":2}", .duplicateKey, 7),
    ("{\"a\":1,\"\\u0061\":2}", .duplicateKey, 7), ("[1 2]", .malformed, 3), ("{\"a\":1 \"b\":2}", .malformed, 7),
  ])
  func refusals(text: String, kind: FormatError.Kind, offset: Int) {
    let error = formatError { _ = try parse(text) }
    #expect(error?.kind == kind)
    #expect(error?.offset == offset)
  }

  @Test func limits() throws {
    let deep = String(repeating: "[", count: 1_000_000)
    #expect(formatError { _ = try parse(deep) }?.kind == .nestingTooDeep)
    let deepObjects = String(repeating: "{\"a\":", count: 100_000)
    #expect(formatError { _ = try parse(deepObjects) }?.kind == .nestingTooDeep)
    #expect(try parse("[[1]]", limits: JSONLimits(depth: 2)) == .array([.array([.integer(1)])]))
    #expect(formatError { _ = try parse("[[[1]]]", limits: JSONLimits(depth: 2)) }?.kind == .nestingTooDeep)
    #expect(formatError { _ = try parse("[1,2,3]", limits: JSONLimits(values: 3)) }?.kind == .limitExceeded)
    #expect(formatError { _ = try parse(String(repeating: "1", count: 5000)) }?.kind == .limitExceeded)
    let badUTF8: [UInt8] = [0x22, 0x61, 0xff, 0x22]
    #expect(formatError { _ = try JSONValue(parsing: badUTF8, file: "test") }?.kind == .invalidUTF8)
    let overlong: [UInt8] = [0x22, 0xc0, 0x80, 0x22]
    #expect(formatError { _ = try JSONValue(parsing: overlong, file: "test") }?.kind == .invalidUTF8)
  }

  @Test func printing() throws {
    let value: JSONValue = .object([
      "b": .array([.integer(1), .number(0.5), .null, .bool(true)]), "a\"\\\n\u{1}é": .object([:]), "c": .array([]),
    ])
    #expect(value.printed() == #"{"b":[1,0.5,null,true],"a\"\\\n\u0001é":{},"c":[]}"#)
    #expect(try parse(value.printed()) == value)
    #expect(try parse(value.printed(indented: true)) == value)
    #expect(JSONValue.object(["k": .array([.integer(1)])]).printed(indented: true) == "{\n  \"k\": [\n    1\n  ]\n}")
  }

  @Test func members() {
    var object: JSONObject = ["a": .integer(1), "b": .integer(2)]
    object["a"] = .integer(3)
    object["b"] = nil
    #expect(object.keys == ["a"])
    #expect(object["a"] == .integer(3))
  }
}
