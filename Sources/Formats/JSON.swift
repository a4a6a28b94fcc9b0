/// A JSON value (RFC 8259). The standard parser of Foundation accepts duplicate keys and gives no positions, and loading
/// Foundation costs each start of the command; files from strangers need all three.
package enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  /// A number written without fraction and exponent that fits in 64 bits.
  case integer(Int)
  /// Any other number; finite.
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// The members, if this is an object.
  package var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
  /// The elements, if this is an array.
  package var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  /// The text, if this is a string.
  package var string: String? { if case .string(let value) = self { value } else { nil } }
  /// The number, if it was written as an integer.
  package var integer: Int? { if case .integer(let value) = self { value } else { nil } }
  /// The truth value, if this is one.
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// The number, however it was written.
  package var number: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    case .null, .bool, .string, .array, .object: nil
    }
  }
}

/// The members of a JSON object in the order of the file.
package struct JSONObject: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  /// The keys in the order of the file (or of insertion).
  package private(set) var keys: [String] = []
  private var members: [String: (value: JSONValue, position: Int)] = [:]

  package init() {}
  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    for (key, value) in elements { self[key] = value }
  }

  /// The number of members.
  package var count: Int { keys.count }

  /// The value of a member; setting one to nil removes it.
  package subscript(key: String) -> JSONValue? {
    get { members[key]?.value }
    set {
      guard let newValue else {
        if members.removeValue(forKey: key) != nil { keys.removeAll { $0 == key } }
        return
      }
      _ = update(key, newValue, position: 0)
    }
  }

  /// The byte offset of a member's key in the parsed text.
  package func position(of key: String) -> Int? { members[key]?.position }

  /// Sets a member; false when it replaced one.
  fileprivate mutating func update(_ key: String, _ value: JSONValue, position: Int) -> Bool {
    let isNew = members.updateValue((value, position), forKey: key) == nil
    if isNew { keys.append(key) }
    return isNew
  }

  package static func == (left: JSONObject, right: JSONObject) -> Bool {
    left.keys == right.keys && left.keys.allSatisfy { left.members[$0]!.value == right.members[$0]!.value }
  }
}

/// What a parse accepts, so that hostile text is refused in bounded memory and stack.
package struct JSONLimits: Sendable {
  /// How deep arrays and objects may nest.
  package var depth: Int
  /// How many values there may be in all.
  package var values: Int

  package init(depth: Int = 64, values: Int = 2_000_000) { (self.depth, self.values) = (depth, values) }
}

extension JSONValue {
  /// Parses a whole text. Refuses what RFC 8259 refuses, and duplicate keys (which no two readers treat alike).
  /// Keys that differ only by Unicode normalization count as the same, as they do for Swift's `String`.
  /// - Parameters:
  ///   - file: the name for error messages.
  ///   - base: the offset of the text in that file, added to the positions in messages and objects.
  package init(
    parsing bytes: UnsafeRawBufferPointer, file: String, base: Int = 0, limits: JSONLimits = JSONLimits()
  ) throws(FormatError) {
    var parser = JSONParser(bytes: bytes, file: file, base: base, limits: limits)
    self = try parser.document()
  }

  /// Parses a whole text.
  package init(parsing bytes: [UInt8], file: String, limits: JSONLimits = JSONLimits()) throws(FormatError) {
    self = try bytes.withUnsafeBufferPointer { (part) throws(FormatError) in
      try JSONValue(parsing: UnsafeRawBufferPointer(part), file: file, limits: limits)
    }
  }
}

private struct JSONParser {
  let bytes: UnsafeRawBufferPointer
  let file: String
  let base: Int
  let limits: JSONLimits
  var index = 0
  var valuesLeft: Int

  init(bytes: UnsafeRawBufferPointer, file: String, base: Int, limits: JSONLimits) {
    (self.bytes, self.file, self.base, self.limits) = (bytes, file, base, limits)
    valuesLeft = limits.values
  }

  func error(_ kind: FormatError.Kind, _ message: String, at position: Int? = nil) -> FormatError {
    FormatError(kind, file: file, offset: base + (position ?? index), "JSON: " + message)
  }

  var current: UInt8? { index < bytes.count ? bytes[index] : nil }

  mutating func document() throws(FormatError) -> JSONValue {
    skipSpace()
    let result = try value(depth: 0)
    skipSpace()
    guard index == bytes.count else { throw error(.trailingBytes, "the value has ended, but more text follows") }
    return result
  }

  mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { index += 1 }
  }

  mutating func value(depth: Int) throws(FormatError) -> JSONValue {
    guard let byte = current else { throw error(.truncated, "the text ends where a value is expected") }
    valuesLeft -= 1
    guard valuesLeft >= 0 else { throw error(.limitExceeded, "more than \(limits.values) values") }
    switch byte {
    case UInt8(ascii: "{"): return .object(try object(depth: depth))
    case UInt8(ascii: "["): return .array(try array(depth: depth))
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"):
      try word("true")
      return .bool(true)
    case UInt8(ascii: "f"):
      try word("false")
      return .bool(false)
    case UInt8(ascii: "n"):
      try word("null")
      return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default: throw error(.malformed, "a value cannot begin with \(describe(byte))")
    }
  }

  func describe(_ byte: UInt8) -> String {
    (0x21...0x7e).contains(byte) ? "'\(Character(UnicodeScalar(byte)))'" : "the byte \(byte)"
  }

  mutating func word(_ text: StaticString) throws(FormatError) {
    let expected = UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    guard bytes.count - index >= expected.count, bytes[index..<index + expected.count].elementsEqual(expected) else {
      throw error(.malformed, "expected '\(text)'")
    }
    index += expected.count
  }

  mutating func object(depth: Int) throws(FormatError) -> JSONObject {
    guard depth < limits.depth else { throw error(.nestingTooDeep, "nested deeper than \(limits.depth) levels") }
    index += 1
    var result = JSONObject()
    skipSpace()
    if current == UInt8(ascii: "}") {
      index += 1
      return result
    }
    while true {
      skipSpace()
      let position = index
      guard let byte = current else { throw error(.truncated, "the text ends inside an object") }
      guard byte == UInt8(ascii: "\"") else { throw error(.malformed, "expected a key in quotes, not \(describe(byte))") }
      let key = try string()
      skipSpace()
      guard let colon = current else { throw error(.truncated, "the text ends inside an object") }
      guard colon == UInt8(ascii: ":") else { throw error(.malformed, "expected ':' after a key, not \(describe(colon))") }
      index += 1
      skipSpace()
      let member = try value(depth: depth + 1)
      guard result.update(key, member, position: base + position) else {
        throw error(.duplicateKey, "the key '\(FormatError.excerpt(key))' occurs twice in one object", at: position)
      }
      skipSpace()
      guard let separator = current else { throw error(.truncated, "the text ends inside an object") }
      index += 1
      if separator == UInt8(ascii: "}") { return result }
      guard separator == UInt8(ascii: ",") else {
        throw error(.malformed, "expected ',' or '}', not \(describe(separator))", at: index - 1)
      }
    }
  }

  mutating func array(depth: Int) throws(FormatError) -> [JSONValue] {
    guard depth < limits.depth else { throw error(.nestingTooDeep, "nested deeper than \(limits.depth) levels") }
    index += 1
    var result: [JSONValue] = []
    skipSpace()
    if current == UInt8(ascii: "]") {
      index += 1
      return result
    }
    while true {
      skipSpace()
      result.append(try value(depth: depth + 1))
      skipSpace()
      guard let separator = current else { throw error(.truncated, "the text ends inside an array") }
      index += 1
      if separator == UInt8(ascii: "]") { return result }
      guard separator == UInt8(ascii: ",") else {
        throw error(.malformed, "expected ',' or ']', not \(describe(separator))", at: index - 1)
      }
    }
  }

  mutating func number() throws(FormatError) -> JSONValue {
    let start = index
    var isInteger = true
    if current == UInt8(ascii: "-") { index += 1 }
    let firstDigit = index
    try digits()
    if index - firstDigit > 1, bytes[firstDigit] == UInt8(ascii: "0") {
      throw error(.malformed, "a number has a leading zero", at: start)
    }
    if current == UInt8(ascii: ".") {
      isInteger = false
      index += 1
      try digits()
    }
    if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
      isInteger = false
      index += 1
      if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { index += 1 }
      try digits()
    }
    // The longest number that any writer needs is far below this; longer ones only cost time.
    guard index - start <= 1_100 else { throw error(.limitExceeded, "a number of \(index - start) characters", at: start) }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    if isInteger, text != "-0", let integer = Int(text) { return .integer(integer) }
    guard let number = Double(text), number.isFinite else {
      throw error(.overflow, "the number \(FormatError.excerpt(text)) is beyond the range of a 64-bit float", at: start)
    }
    return .number(number)
  }

  mutating func digits() throws(FormatError) {
    let start = index
    while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { index += 1 }
    guard index > start else { throw error(.malformed, "expected a digit") }
  }

  mutating func string() throws(FormatError) -> String {
    index += 1
    let start = index
    // Most strings have no escapes: they are copied in one piece.
    while let byte = current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { index += 1 }
    if current == UInt8(ascii: "\"") {
      index += 1
      return try text(UnsafeRawBufferPointer(rebasing: bytes[start..<index - 1]), at: start)
    }
    var content = Array(bytes[start..<index])
    while let byte = current {
      index += 1
      switch byte {
      case UInt8(ascii: "\""):
        return try content.withUnsafeBufferPointer { (part) throws(FormatError) in
          try text(UnsafeRawBufferPointer(part), at: start)
        }
      case UInt8(ascii: "\\"): try escape(into: &content)
      case 0..<0x20: throw error(.malformed, "a string contains \(describe(byte)), a control character", at: index - 1)
      default: content.append(byte)
      }
    }
    throw error(.truncated, "the text ends inside a string", at: start - 1)
  }

  func text(_ content: UnsafeRawBufferPointer, at position: Int) throws(FormatError) -> String {
    guard let result = String(validating: content, as: UTF8.self) else {
      throw error(.invalidUTF8, "a string is not valid UTF-8", at: position)
    }
    return result
  }

  mutating func escape(into content: inout [UInt8]) throws(FormatError) {
    guard let byte = current else { throw error(.truncated, "the text ends inside a string") }
    let position = index - 1
    index += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): content.append(byte)
    case UInt8(ascii: "b"): content.append(0x08)
    case UInt8(ascii: "f"): content.append(0x0c)
    case UInt8(ascii: "n"): content.append(0x0a)
    case UInt8(ascii: "r"): content.append(0x0d)
    case UInt8(ascii: "t"): content.append(0x09)
    case UInt8(ascii: "u"):
      var code = UInt32(try fourHexDigits())
      if (0xd800...0xdbff).contains(code), index + 1 < bytes.count, bytes[index] == UInt8(ascii: "\\"),
        bytes[index + 1] == UInt8(ascii: "u")
      {
        index += 2
        let low = UInt32(try fourHexDigits())
        guard (0xdc00...0xdfff).contains(low) else {
          throw error(.invalidUTF8, "half of a surrogate pair stands alone", at: position)
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
      }
      guard let scalar = UnicodeScalar(code) else {
        throw error(.invalidUTF8, "half of a surrogate pair stands alone", at: position)
      }
      content.append(contentsOf: Character(scalar).utf8)
    default: throw error(.malformed, "'\\' cannot be followed by \(describe(byte))", at: position)
    }
  }

  mutating func fourHexDigits() throws(FormatError) -> UInt16 {
    var result: UInt16 = 0
    for _ in 0..<4 {
      guard let byte = current else { throw error(.truncated, "the text ends inside a string") }
      guard let digit = Character(UnicodeScalar(byte)).hexDigitValue else {
        throw error(.malformed, "'\\u' needs four hexadecimal digits")
      }
      result = result << 4 | UInt16(digit)
      index += 1
    }
    return result
  }
}
