import ApusFormats

/// A message in Protocol Buffers' text format, in which TensorFlow Serving's and Triton's settings are written.
struct ProtoText: Sendable, Hashable {
  indirect enum Value: Sendable, Hashable {
    case message(ProtoText)
    case string(String)
    /// A number as it is written.
    case number(String)
    /// A name: an enumeration's, or a truth value.
    case word(String)
  }

  struct Field: Sendable, Hashable {
    var name: String
    var value: Value
    var place: Place
  }

  /// Where something stands, counted from 1.
  struct Place: Sendable, Hashable {
    var file: String
    var line: Int
    var column: Int

    func error(_ message: String, _ code: ServingError.Code = .invalidArgument) -> ServingError {
      ServingError(code, "\(FormatError.excerpt(file)):\(line):\(column): \(message)")
    }
  }

  /// In the order of the text; a list is several fields of one name.
  var fields: [Field] = []
  var place: Place

  /// Parses a whole text.
  /// - Throws: ``ServingError``, `invalidArgument`, with file, line and column.
  init(parsing text: String, file: String) throws(ServingError) {
    var parser = Parser(Array(text.utf8), file: file)
    self = try parser.document()
  }

  private init(at place: Place) { self.place = place }

  // MARK: Reading

  /// Refuses fields that there are not, naming the nearest one.
  func allow(_ known: [String]) throws(ServingError) {
    for field in fields where !known.contains(field.name) {
      let hint = nearName(field.name, in: known).map { "; did you mean '\($0)'?" } ?? ""
      throw field.place.error("there is no field '\(FormatError.excerpt(field.name))' here\(hint)")
    }
  }

  /// All fields of a name.
  func all(_ name: String) -> [Field] { fields.filter { $0.name == name } }

  /// The field of a name, which may stand there once.
  func one(_ name: String) throws(ServingError) -> Field? {
    let found = all(name)
    guard found.count <= 1 else { throw found[1].place.error("'\(name)' is given a second time") }
    return found.first
  }

  func string(_ name: String) throws(ServingError) -> String? { try one(name)?.string() }
  func bool(_ name: String) throws(ServingError) -> Bool? { try one(name)?.bool() }
  func message(_ name: String) throws(ServingError) -> ProtoText? { try one(name)?.message() }
  func integer(_ name: String, in range: ClosedRange<Int>) throws(ServingError) -> Int? { try one(name)?.integer(in: range) }

  /// A number in a message of its own, `{ value: 3 }`, as `google.protobuf.Int64Value` and its like are written.
  func wrapped(_ name: String, in range: ClosedRange<Int>) throws(ServingError) -> Int? {
    guard let message = try message(name) else { return nil }
    try message.allow(["value"])
    return try message.integer("value", in: range) ?? 0
  }

  func wrappedBool(_ name: String) throws(ServingError) -> Bool? {
    guard let message = try message(name) else { return nil }
    try message.allow(["value"])
    return try message.bool("value") ?? false
  }
}

extension ProtoText.Field {
  func string() throws(ServingError) -> String {
    guard case .string(let text) = value else { throw place.error("'\(name)' must be a text in quotes") }
    return text
  }

  func bool() throws(ServingError) -> Bool {
    switch value {
    case .word("true"), .word("True"), .word("t"), .number("1"): return true
    case .word("false"), .word("False"), .word("f"), .number("0"): return false
    case .word, .number, .string, .message: throw place.error("'\(name)' must be true or false")
    }
  }

  func message() throws(ServingError) -> ProtoText {
    guard case .message(let message) = value else { throw place.error("'\(name)' must be a message in braces") }
    return message
  }

  /// A name, of those that there are.
  func word(of known: [String]) throws(ServingError) -> String {
    guard case .word(let word) = value else { throw place.error("'\(name)' must be a name: \(known.joined(separator: ", "))") }
    guard known.contains(word) else {
      let hint = nearName(word, in: known).map { "; did you mean \($0)?" } ?? ", but \(known.joined(separator: ", "))"
      throw place.error("'\(name)' cannot be \(FormatError.excerpt(word))\(hint)")
    }
    return word
  }

  func integer(in range: ClosedRange<Int>) throws(ServingError) -> Int {
    guard case .number(let text) = value else { throw place.error("'\(name)' must be a whole number") }
    guard let number = Self.integer(text) else {
      throw place.error("'\(name)' must be a whole number of 64 bits, got \(FormatError.excerpt(text))")
    }
    guard range.contains(number) else {
      let most = range.upperBound == .max ? "" : " to \(range.upperBound)"
      throw place.error("'\(name)' must be from \(range.lowerBound)\(most), got \(number)")
    }
    return number
  }

  private static func integer(_ text: String) -> Int? {
    let isNegative = text.hasPrefix("-")
    let digits = isNegative ? text.dropFirst() : text[...]
    let sign = isNegative ? "-" : ""
    if digits.hasPrefix("0x") || digits.hasPrefix("0X") { return Int(sign + digits.dropFirst(2), radix: 16) }
    if digits.count > 1, digits.hasPrefix("0") { return Int(sign + digits.dropFirst(), radix: 8) }
    return Int(text)
  }
}

extension ProtoText {
  private struct Parser {
    let bytes: [UInt8]
    let file: String
    var index = 0
    var line = 1
    var lineStart = 0
    var fieldsLeft = 100_000

    static let depthLimit = 32

    init(_ bytes: [UInt8], file: String) { (self.bytes, self.file) = (bytes, file) }

    var place: Place { Place(file: file, line: line, column: index - lineStart + 1) }
    var current: UInt8? { index < bytes.count ? bytes[index] : nil }

    func error(_ message: String) -> ServingError { place.error(message) }

    func shown(_ byte: UInt8?) -> String {
      guard let byte else { return "the end of the text" }
      return (0x21...0x7e).contains(byte) ? "'\(Character(UnicodeScalar(byte)))'" : "the byte 0x\(String(byte, radix: 16))"
    }

    mutating func skipSpace() {
      while let byte = current {
        if byte == UInt8(ascii: "\n") {
          index += 1
          line += 1
          lineStart = index
        } else if byte == UInt8(ascii: "#") {
          while let byte = current, byte != UInt8(ascii: "\n") { index += 1 }
        } else if byte == 0x20 || (0x09...0x0d).contains(byte) {
          index += 1
        } else {
          return
        }
      }
    }

    mutating func take(_ character: Unicode.Scalar) -> Bool {
      guard current == UInt8(ascii: character) else { return false }
      index += 1
      skipSpace()
      return true
    }

    mutating func document() throws(ServingError) -> ProtoText {
      skipSpace()
      var result = ProtoText(at: place)
      try fields(into: &result, until: nil, depth: 0)
      return result
    }

    mutating func fields(into message: inout ProtoText, until close: UInt8?, depth: Int) throws(ServingError) {
      while true {
        guard let byte = current else {
          if let close {
            throw error("the text ends before \(shown(close)) of the message that begins in line \(message.place.line)")
          }
          return
        }
        if byte == close {
          index += 1
          skipSpace()
          return
        }
        try field(into: &message, depth: depth)
        if !take(",") { _ = take(";") }
      }
    }

    mutating func field(into message: inout ProtoText, depth: Int) throws(ServingError) {
      let place = place
      if current == UInt8(ascii: "[") { throw error("extensions and Any are not read here") }
      guard let name = identifier() else { throw error("expected the name of a field, got \(shown(current))") }
      skipSpace()
      let hasColon = take(":")
      if take("[") {
        if take("]") { return }
        repeat {
          try append(name, place, to: &message, hasColon: hasColon, depth: depth)
        } while take(",")
        guard take("]") else { throw error("expected ',' or ']' in the list of '\(name)', got \(shown(current))") }
      } else {
        try append(name, place, to: &message, hasColon: hasColon, depth: depth)
      }
    }

    mutating func append(
      _ name: String, _ place: Place, to message: inout ProtoText, hasColon: Bool, depth: Int
    ) throws(ServingError) {
      fieldsLeft -= 1
      guard fieldsLeft >= 0 else { throw error("there are more than 100000 fields") }
      let value = try value(of: name, hasColon: hasColon, depth: depth)
      message.fields.append(Field(name: name, value: value, place: place))
    }

    mutating func value(of name: String, hasColon: Bool, depth: Int) throws(ServingError) -> Value {
      guard let byte = current else { throw error("the text ends before the value of '\(name)'") }
      if byte == UInt8(ascii: "{") || byte == UInt8(ascii: "<") {
        guard depth < Self.depthLimit else { throw error("messages are nested more than \(Self.depthLimit) deep") }
        var inner = ProtoText(at: place)
        index += 1
        skipSpace()
        try fields(into: &inner, until: byte == UInt8(ascii: "{") ? UInt8(ascii: "}") : UInt8(ascii: ">"), depth: depth + 1)
        return .message(inner)
      }
      guard hasColon else { throw error("expected ':' or '{' after '\(name)', got \(shown(byte))") }
      if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
        var content: [UInt8] = []
        while let quote = current, quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'") {
          try string(quote, into: &content)
          skipSpace()
        }
        guard let text = String(validating: content, as: UTF8.self) else {
          throw error("the text of '\(name)' is not valid UTF-8")
        }
        return .string(text)
      }
      if let word = identifier() {
        skipSpace()
        return .word(word)
      }
      if let number = number() {
        skipSpace()
        return .number(number)
      }
      throw error("expected a value of '\(name)', got \(shown(byte))")
    }

    func isLetter(_ byte: UInt8) -> Bool { (0x41...0x5a).contains(byte & 0xdf) && byte < 0x80 || byte == UInt8(ascii: "_") }
    func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

    mutating func identifier() -> String? {
      guard let first = current, isLetter(first) else { return nil }
      let start = index
      while let byte = current, isLetter(byte) || isDigit(byte) || byte == UInt8(ascii: ".") { index += 1 }
      return String(decoding: bytes[start..<index], as: UTF8.self)
    }

    mutating func number() -> String? {
      let start = index
      if current == UInt8(ascii: "-") { index += 1 }
      let digits = index
      while let byte = current,
        isLetter(byte) || isDigit(byte) || byte == UInt8(ascii: ".")
          || (index > digits && (byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+"))
            && (bytes[index - 1] | 0x20) == UInt8(ascii: "e"))
      { index += 1 }
      guard index > digits else {
        index = start
        return nil
      }
      return String(decoding: bytes[start..<index], as: UTF8.self)
    }

    mutating func string(_ quote: UInt8, into content: inout [UInt8]) throws(ServingError) {
      let start = place
      index += 1
      while let byte = current {
        index += 1
        switch byte {
        case quote: return
        case UInt8(ascii: "\n"): throw start.error("a text is not closed in its line")
        case UInt8(ascii: "\\"): try escape(into: &content)
        default: content.append(byte)
        }
      }
      throw start.error("a text is not closed")
    }

    mutating func escape(into content: inout [UInt8]) throws(ServingError) {
      guard let byte = current else { throw error("the text ends inside a string") }
      index += 1
      switch byte {
      case UInt8(ascii: "n"): content.append(0x0a)
      case UInt8(ascii: "t"): content.append(0x09)
      case UInt8(ascii: "r"): content.append(0x0d)
      case UInt8(ascii: "a"): content.append(0x07)
      case UInt8(ascii: "b"): content.append(0x08)
      case UInt8(ascii: "f"): content.append(0x0c)
      case UInt8(ascii: "v"): content.append(0x0b)
      case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""), UInt8(ascii: "?"): content.append(byte)
      case UInt8(ascii: "0")...UInt8(ascii: "7"):
        index -= 1
        let code = digits(radix: 8, atMost: 3)
        guard let code, code < 256 else { throw error("an octal number in a text is no byte") }
        content.append(UInt8(code))
      case UInt8(ascii: "x"), UInt8(ascii: "X"):
        guard let code = digits(radix: 16, atMost: 2) else { throw error("'\\x' needs hexadecimal digits") }
        content.append(UInt8(code))
      case UInt8(ascii: "u"), UInt8(ascii: "U"):
        let count = byte == UInt8(ascii: "u") ? 4 : 8
        let start = index
        guard let code = digits(radix: 16, atMost: count), index - start == count, let scalar = UnicodeScalar(UInt32(code)) else {
          throw error("'\\\(Character(UnicodeScalar(byte)))' needs \(count) hexadecimal digits of a character")
        }
        content.append(contentsOf: Character(scalar).utf8)
      default: throw error("'\\' cannot be followed by \(shown(byte)) in a text")
      }
    }

    mutating func digits(radix: Int, atMost count: Int) -> Int? {
      var (value, taken) = (0, 0)
      while taken < count, let byte = current, let digit = Character(UnicodeScalar(byte)).hexDigitValue, digit < radix {
        value = value * radix + digit
        index += 1
        taken += 1
      }
      return taken == 0 ? nil : value
    }
  }
}
