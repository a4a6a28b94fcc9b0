// Types, literals and attributes of operations in a text.

/// One number of a literal, before its type is known.
enum LiteralNumber: Equatable {
  case bool(Bool)
  case int(Int)
  case double(Double)
  /// Hexadecimal digits: the bits of a floating point number, or an integer.
  case bits(UInt64)
}

/// `dense<…>`.
enum DenseLiteral: Equatable {
  case splat(LiteralNumber)
  case list(shape: [Int], [LiteralNumber])
  case bytes([UInt8])
}

indirect enum ParsedAttribute: Equatable {
  case number(LiteralNumber)
  case string([UInt8])
  case symbol(String)
  /// `[…]`, `array<i64: …>`.
  case list([ParsedAttribute])
  case dictionary([String: ParsedAttribute])
  case dense(DenseLiteral, TensorType)
  /// `#stablehlo<comparison_direction LT>`, a unit attribute, a type: words.
  case words([String])
  /// `#stablehlo.conv<[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]>`.
  case convolution([[String]])
}

extension MLIRLexer {
  mutating func expect(_ character: Character) throws(GraphTextError) {
    guard peek == .mark(character) else { throw error("expected \(character)") }
    _ = try next()
  }

  mutating func accept(_ character: Character) throws(GraphTextError) -> Bool {
    guard peek == .mark(character) else { return false }
    _ = try next()
    return true
  }

  mutating func accept(word: String) throws(GraphTextError) -> Bool {
    guard peek == .word(word) else { return false }
    _ = try next()
    return true
  }

  mutating func expect(word: String) throws(GraphTextError) {
    guard try accept(word: word) else { throw error("expected \(word)") }
  }

  mutating func word() throws(GraphTextError) -> String {
    guard case .word(let word) = peek else { throw error("expected a word") }
    _ = try next()
    return word
  }

  mutating func value() throws(GraphTextError) -> (name: String, index: Int?) {
    guard case .value(let name, let index) = peek else { throw error("expected a value, as in %0") }
    _ = try next()
    return (name, index)
  }

  mutating func symbol() throws(GraphTextError) -> String {
    guard case .symbol(let name) = peek else { throw error("expected a function's name, as in @f") }
    _ = try next()
    return name
  }

  // MARK: Types

  /// `tensor<2x3xf32>`.
  mutating func tensorType() throws(GraphTextError) -> TensorType {
    guard peek == .word("tensor") else { throw error("expected a tensor type") }
    let here = start
    _ = try next()
    guard peek == .mark("<") else { throw error("expected <") }
    let body = try tensorBody()
    func fail(_ message: String) -> GraphTextError { GraphTextError(position(here), "tensor<\(body)>: \(message)") }
    var shape: [Int] = []
    var rest = body
    while let first = rest.first, first.isNumber || first == "?" {
      guard let end = rest.firstIndex(of: "x") else { throw fail("has no element type") }
      if first == "?" { throw fail("sizes must be known") }
      guard let size = Int(rest[..<end]), size <= TextLimits.size else { throw fail("a size is too large") }
      shape.append(size)
      rest = rest[rest.index(after: end)...]
      if shape.count > Shape.maxRank { throw fail("at most \(Shape.maxRank) dimensions are possible") }
    }
    guard let element = ElementType(mlir: rest) else { throw fail("\(rest) is no element type of Apus's") }
    let type = TensorType(Shape(shape), element)
    guard let count = type.shape.checkedElementCount, count <= TextLimits.size else { throw fail("has too many elements") }
    return type
  }

  /// `(t, t)`, or one type.
  mutating func types() throws(GraphTextError) -> [TensorType] {
    guard try accept("(") else { return [try tensorType()] }
    var types: [TensorType] = []
    while try !accept(")") {
      if !types.isEmpty { try expect(",") }
      types.append(try tensorType())
      try skipLocation()
      if types.count > TextLimits.operands { throw error("too many types") }
    }
    return types
  }

  // MARK: Literals

  func number(_ text: String) throws(GraphTextError) -> LiteralNumber {
    if text.hasPrefix("0x") {
      guard let bits = UInt64(text.dropFirst(2), radix: 16) else { throw error("\(text.prefix(40)) is too large") }
      return .bits(bits)
    }
    if text.contains(".") || text.contains("e") || text.contains("E") {
      guard let value = Double(text) else { throw error("\(text.prefix(40)) is no number") }
      return .double(value)
    }
    guard let value = Int(text) else { throw error("\(text.prefix(40)) is too large") }
    return .int(value)
  }

  private mutating func literalNumber() throws(GraphTextError) -> LiteralNumber {
    switch peek {
    case .number(let text):
      let value = try number(text)
      _ = try next()
      return value
    case .word("true"), .word("false"):
      return .bool(try word() == "true")
    default: throw error("expected a number")
    }
  }

  /// What follows `dense`.
  mutating func dense() throws(GraphTextError) -> DenseLiteral {
    try expect("<")
    if try accept(">") { return .list(shape: [0], []) }
    let literal: DenseLiteral
    switch peek {
    case .string(let digits):
      guard digits.count >= 2, digits[0] == 48, digits[1] == UInt8(ascii: "x"), digits.count % 2 == 0 else {
        throw error("expected hexadecimal bytes, as in \"0x3F80\"")
      }
      var bytes = [UInt8](repeating: 0, count: digits.count / 2 - 1)
      for i in bytes.indices {
        let (a, b) = (digits[2 + 2 * i], digits[3 + 2 * i])
        for d in [a, b] where !((d >= 48 && d <= 57) || ((d | 32) >= 97 && (d | 32) <= 102)) {
          throw error("expected hexadecimal digits")
        }
        bytes[i] = UInt8(hexDigit(a) << 4 | hexDigit(b))
      }
      literal = .bytes(bytes)
      _ = try next()
    case .mark("["):
      var numbers: [LiteralNumber] = []
      let shape = try list(&numbers, 0)
      literal = .list(shape: shape, numbers)
    default: literal = .splat(try literalNumber())
    }
    try expect(">")
    return literal
  }

  private mutating func list(_ numbers: inout [LiteralNumber], _ depth: Int) throws(GraphTextError) -> [Int] {
    if depth >= Shape.maxRank { throw error("a literal of more than \(Shape.maxRank) dimensions") }
    try expect("[")
    var (count, inner): (Int, [Int]?) = (0, nil)
    while try !accept("]") {
      if count > 0 { try expect(",") }
      if peek == .mark("[") {
        let shape = try list(&numbers, depth + 1)
        if inner != nil && inner != shape { throw error("the rows of the literal differ in length") }
        inner = shape
      } else {
        if let inner, !inner.isEmpty { throw error("the rows of the literal differ in length") }
        inner = []
        numbers.append(try literalNumber())
      }
      count += 1
    }
    return [count] + (inner ?? [])
  }

  // MARK: Attributes

  /// `{name = value, …}`; `{` is next.
  mutating func dictionary(_ depth: Int = 0) throws(GraphTextError) -> [String: ParsedAttribute] {
    if depth > TextLimits.depth { throw error("attributes are nested too deep") }
    try expect("{")
    var result: [String: ParsedAttribute] = [:]
    while try !accept("}") {
      if !result.isEmpty { try expect(",") }
      let name: String
      if case .string(let bytes) = peek {
        name = String(decoding: bytes, as: UTF8.self)
        _ = try next()
      } else {
        name = try word()
      }
      let value = try accept("=") ? try attribute(depth + 1) : ParsedAttribute.words([])
      guard result.updateValue(value, forKey: name) == nil else { throw error("the attribute \(name) is given twice") }
    }
    return result
  }

  mutating func attribute(_ depth: Int) throws(GraphTextError) -> ParsedAttribute {
    if depth > TextLimits.depth { throw error("attributes are nested too deep") }
    switch peek {
    case .number, .word("true"), .word("false"):
      let number = try literalNumber()
      // A colon may also begin the operation's types.
      let here = start
      if try accept(":") {
        if case .word(let type) = peek, type != "tensor" { _ = try next() } else { try seek(here) }
      }
      return .number(number)
    case .string(let bytes):
      _ = try next()
      return .string(bytes)
    case .symbol(let name):
      _ = try next()
      return .symbol(name)
    case .mark("["):
      _ = try next()
      var items: [ParsedAttribute] = []
      while try !accept("]") {
        if !items.isEmpty { try expect(",") }
        items.append(try attribute(depth + 1))
      }
      return .list(items)
    case .mark("{"): return .dictionary(try dictionary(depth + 1))
    case .word("dense"):
      _ = try next()
      let literal = try dense()
      try expect(":")
      return .dense(literal, try tensorType())
    case .word("array"):
      _ = try next()
      try expect("<")
      _ = try word()
      var items: [ParsedAttribute] = []
      if try accept(":") {
        repeat { items.append(.number(try literalNumber())) } while try accept(",")
      }
      try expect(">")
      return .list(items)
    case .word("tensor"): return .words(["\(try tensorType())"])
    case .word(let word):
      _ = try next()
      return .words([word])
    case .alias(let name):
      _ = try next()
      return try aliased(name, depth)
    default: throw error("expected an attribute")
    }
  }

  /// `<…>` after `#stablehlo` or one of its attributes.
  private mutating func aliased(_ name: String, _ depth: Int) throws(GraphTextError) -> ParsedAttribute {
    guard try accept("<") else { return .words([name]) }
    if peek == .mark("[") {
      let parts = try convolutionNumbers()
      try expect(">")
      return .convolution(parts)
    }
    var words: [String] = []
    var entries: [String: ParsedAttribute] = [:]
    while try !accept(">") {
      switch peek {
      case .word(let word):
        _ = try next()
        if try accept("=") {
          let value = try attribute(depth + 1)
          guard entries.updateValue(value, forKey: word) == nil else { throw error("\(word) is given twice") }
          if peek != .mark(">") { try expect(",") }
        } else {
          words.append(word)
        }
      case .number(let text):
        _ = try next()
        words.append(text)
      case .punctuation(let byte) where byte == UInt8(ascii: ",") || byte == UInt8(ascii: ":"): _ = try next()
      default: throw error("an attribute #\(name) that is not understood")
      }
    }
    return entries.isEmpty ? .words(words) : .dictionary(entries)
  }

  /// `[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]`.
  mutating func convolutionNumbers() throws(GraphTextError) -> [[String]] {
    func part(_ lexer: inout MLIRLexer) throws(GraphTextError) -> [String] {
      try lexer.expect("[")
      var items: [String] = []
      while try !lexer.accept("]") {
        if !items.isEmpty { try lexer.expect(",") }
        switch lexer.peek {
        case .word(let text), .number(let text): items.append(text)
        default: throw lexer.error("expected a dimension")
        }
        _ = try lexer.next()
        if items.count > Shape.maxRank { throw lexer.error("too many dimensions") }
      }
      return items
    }
    let lhs = try part(&self)
    try expect(word: "x")
    let rhs = try part(&self)
    guard try next() == .arrow else { throw error("expected ->") }
    return [lhs, rhs, try part(&self)]
  }

  /// `loc(…)`, if there is one.
  mutating func skipLocation() throws(GraphTextError) {
    guard try accept(word: "loc") else { return }
    try skipBalanced("(", ")")
  }

  /// From an opening bracket to its closing one.
  mutating func skipBalanced(_ open: Character, _ close: Character) throws(GraphTextError) {
    guard peek == .mark(open) else { throw error("expected \(open)") }
    let from = start
    var depth = 0
    repeat {
      let token = try next()
      if token == .mark(open) { depth += 1 }
      if token == .mark(close) { depth -= 1 }
      if token == .end { throw GraphTextError(position(from), "\(open) without its \(close)") }
    } while depth > 0
  }
}
