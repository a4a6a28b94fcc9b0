/// The words of MLIR's text form, one at a time.
struct MLIRLexer {
  enum Token: Equatable {
    /// `stablehlo.add`, `dense`, `x`.
    case word(String)
    /// `%0`, or one of several results, `%0#1`.
    case value(String, Int?)
    case symbol(String)
    case block(String)
    case string([UInt8])
    /// As written: a number, perhaps hexadecimal.
    case number(String)
    /// `#stablehlo.gather`.
    case alias(String)
    case punctuation(UInt8)
    case arrow
    case end

    static func mark(_ character: Character) -> Token { .punctuation(character.asciiValue ?? 0) }
  }

  let text: [UInt8]
  private(set) var offset = 0
  /// Where the token that ``peek`` gives begins.
  private(set) var start = 0
  private(set) var peek = Token.end

  init(_ text: String) throws(GraphTextError) {
    self.text = Array(text.utf8)
    try advance()
  }

  /// Line and column of a byte, counted only when something is wrong.
  func position(_ offset: Int) -> TextPosition {
    var (line, column) = (1, 1)
    for byte in text[..<min(offset, text.count)] {
      if byte == 10 {
        line += 1
        column = 1
      } else if byte & 0xC0 != 0x80 {
        column += 1
      }
    }
    return TextPosition(line: line, column: column)
  }

  func error(_ message: String) -> GraphTextError { GraphTextError(position(start), message) }

  /// Back to a place where a token begins.
  mutating func seek(_ offset: Int) throws(GraphTextError) {
    self.offset = offset
    try advance()
  }

  private func isDigit(_ i: Int) -> Bool { i < text.count && text[i] >= 48 && text[i] <= 57 }
  private func isHex(_ i: Int) -> Bool {
    isDigit(i) || (i < text.count && ((text[i] | 32) >= 97 && (text[i] | 32) <= 102))
  }
  private func isWord(_ i: Int) -> Bool {
    i < text.count && (isDigit(i) || ((text[i] | 32) >= 97 && (text[i] | 32) <= 122) || text[i] == 95)
  }
  /// Words with points and dollars, and in names also minus signs.
  private func isDotted(_ i: Int) -> Bool { isWord(i) || (i < text.count && (text[i] == 46 || text[i] == 36)) }
  private func isName(_ i: Int) -> Bool { isDotted(i) || (i < text.count && text[i] == 45) }

  private enum Kind { case digits, dotted, name }

  private mutating func take(_ kind: Kind) -> String {
    let from = offset
    switch kind {
    case .digits: while isDigit(offset) { offset += 1 }
    case .dotted: while isDotted(offset) { offset += 1 }
    case .name: while isName(offset) { offset += 1 }
    }
    return String(decoding: text[from..<offset], as: UTF8.self)
  }

  mutating func next() throws(GraphTextError) -> Token {
    let token = peek
    try advance()
    return token
  }

  private mutating func advance() throws(GraphTextError) {
    while offset < text.count {
      if text[offset] == 32 || (text[offset] >= 9 && text[offset] <= 13) {
        offset += 1
      } else if text[offset] == 47 && offset + 1 < text.count && text[offset + 1] == 47 {
        while offset < text.count && text[offset] != 10 { offset += 1 }
      } else {
        break
      }
    }
    start = offset
    guard offset < text.count else {
      peek = .end
      return
    }
    let byte = text[offset]
    switch byte {
    case UInt8(ascii: "%"):
      offset += 1
      let name = take(.name)
      if name.isEmpty { throw error("a value needs a name after %") }
      var index: Int?
      if offset < text.count && text[offset] == UInt8(ascii: "#") && isDigit(offset + 1) {
        offset += 1
        guard let number = Int(take(.digits)) else { throw error("the number of the result is too large") }
        index = number
      }
      peek = .value(name, index)
    case UInt8(ascii: "@"):
      offset += 1
      if offset < text.count && text[offset] == UInt8(ascii: "\"") {
        peek = .symbol(String(decoding: try string(), as: UTF8.self))
      } else {
        let name = take(.name)
        if name.isEmpty { throw error("a function needs a name after @") }
        peek = .symbol(name)
      }
    case UInt8(ascii: "^"):
      offset += 1
      peek = .block(take(.name))
    case UInt8(ascii: "#"):
      offset += 1
      peek = .alias(take(.dotted))
    case UInt8(ascii: "\""): peek = .string(try string())
    case UInt8(ascii: "-"):
      if offset + 1 < text.count && text[offset + 1] == UInt8(ascii: ">") {
        offset += 2
        peek = .arrow
      } else {
        offset += 1
        guard isDigit(offset) else { throw error("a minus sign without a number") }
        peek = .number("-" + number())
      }
    default:
      if isDigit(offset) {
        peek = .number(number())
      } else if isWord(offset) {
        peek = .word(take(.dotted))
      } else if byte < 128 {
        offset += 1
        peek = .punctuation(byte)
      } else {
        throw error("a character that does not belong here")
      }
    }
  }

  private mutating func number() -> String {
    if text[offset] == 48 && offset + 1 < text.count && text[offset + 1] == UInt8(ascii: "x") && isHex(offset + 2) {
      let from = offset
      offset += 2
      while isHex(offset) { offset += 1 }
      return String(decoding: text[from..<offset], as: UTF8.self)
    }
    var number = take(.digits)
    if offset < text.count && text[offset] == 46 {
      offset += 1
      number += "." + take(.digits)
      if number.hasSuffix(".") { number += "0" }
    }
    if offset < text.count && (text[offset] | 32) == 101 {
      let isSigned = offset + 1 < text.count && (text[offset + 1] == 43 || text[offset + 1] == 45)
      if isDigit(offset + (isSigned ? 2 : 1)) {
        let from = offset
        offset += isSigned ? 2 : 1
        while isDigit(offset) { offset += 1 }
        number += String(decoding: text[from..<offset], as: UTF8.self)
      }
    }
    return number
  }

  /// The bytes between quotation marks.
  private mutating func string() throws(GraphTextError) -> [UInt8] {
    offset += 1
    var bytes: [UInt8] = []
    while offset < text.count {
      let byte = text[offset]
      if byte == UInt8(ascii: "\"") {
        offset += 1
        return bytes
      }
      if byte == 10 { break }
      if byte == UInt8(ascii: "\\") {
        guard offset + 1 < text.count else { break }
        let escaped = text[offset + 1]
        if isHex(offset + 1) && isHex(offset + 2) {
          bytes.append(UInt8(hexDigit(text[offset + 1]) << 4 | hexDigit(text[offset + 2])))
          offset += 3
          continue
        }
        switch escaped {
        case UInt8(ascii: "n"): bytes.append(10)
        case UInt8(ascii: "t"): bytes.append(9)
        case UInt8(ascii: "\\"), UInt8(ascii: "\""): bytes.append(escaped)
        default: throw error("an unknown escape in a string")
        }
        offset += 2
        continue
      }
      bytes.append(byte)
      offset += 1
    }
    throw error("a string without an end")
  }

  /// What stands up to the next `>`, after `tensor<`; goes past it. ``peek`` must be `<`.
  mutating func tensorBody() throws(GraphTextError) -> Substring {
    let from = offset
    while offset < text.count && text[offset] != UInt8(ascii: ">") {
      if text[offset] == UInt8(ascii: "<") { throw error("a tensor type with an encoding is not supported") }
      offset += 1
      if offset - from > 512 { throw error("a tensor type without an end") }
    }
    guard offset < text.count else { throw error("a tensor type without an end") }
    let body = String(decoding: text[from..<offset], as: UTF8.self)
    offset += 1
    try advance()
    return Substring(body.filter { $0 != " " })
  }
}

func hexDigit(_ byte: UInt8) -> Int { byte <= 57 ? Int(byte) - 48 : Int(byte | 32) - 87 }
