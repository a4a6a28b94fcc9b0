import ApusFormats
import ApusServables
import ApusTensor
import NIOCore

/// Reads JSON from bytes token by token, without a tree: tensors of a request go straight into their memory (``JSONElements``).
///
/// ```swift
/// try buffer.scanJSON(maxDepth: 64) { scanner in
///   try scanner.beginObject()
///   while let key = try scanner.nextKey() {
///     switch key {
///     case "id": id = try scanner.string()
///     default: try scanner.skipValue()
///     }
///   }
/// }
/// ```
///
/// It accepts what RFC 8259 does, and refuses duplicate keys, invalid UTF-8 and nesting deeper than its limit. Where numbers may have
/// fractions it also reads `NaN`, `Infinity`, `Inf` and their negatives, as TensorFlow Serving does.
/// Every error is a ``ServingError`` with `invalidArgument` that names the byte.
struct JSONScanner {
  enum Kind: Sendable {
    case object, array, string, number, bool, null

    /// With an article, for messages.
    var name: String {
      switch self {
      case .object: "an object"
      case .array: "a list"
      case .string: "a string"
      case .number: "a number"
      case .bool: "a truth value"
      case .null: "null"
      }
    }
  }

  /// An object or array that has begun and not ended.
  private struct Level {
    let isObject: Bool
    var isEmpty = true
    /// Where its keys begin in ``keys``.
    let firstKey: Int
    /// Its keys, once there are too many to compare one by one.
    var set: Set<String>?
  }

  var cursor: JSONCursor
  let maxDepth: Int
  private var levels: [Level] = []
  /// The keys so far of all objects that have not ended.
  private var keys: [String] = []

  /// - Parameter bytes: must outlive the scanner.
  init(_ bytes: UnsafeRawBufferPointer, maxDepth: Int = 64) {
    cursor = JSONCursor(bytes)
    self.maxDepth = maxDepth
  }

  /// The next byte's offset.
  var index: Int { cursor.index }
  /// How many more arrays may begin inside each other.
  var depthLeft: Int { maxDepth - levels.count }

  // MARK: Values

  /// The kind of the next value.
  mutating func kind() throws(ServingError) -> Kind {
    cursor.skipSpace()
    guard cursor.index < cursor.end else { throw error("the text ends where a value is expected") }
    switch cursor.byte {
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    case UInt8(ascii: "\""): return .string
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "N"), UInt8(ascii: "I"): return .number
    default: throw error("a value cannot begin with \(Self.describe(cursor.byte))")
    }
  }

  private mutating func expect(_ expected: Kind) throws(ServingError) {
    let found = try kind()
    guard found == expected else { throw error("expected \(expected.name), not \(found.name)") }
  }

  mutating func string() throws(ServingError) -> String {
    try expect(.string)
    return try text()
  }

  /// A string of Base64, decoded; nil if it is none.
  mutating func base64() throws(ServingError) -> [UInt8]? {
    try expect(.string)
    let start = cursor.index + 1
    // Found by what it must not have; where that is an escape, it is read as any string is.
    var end = start
    while end < cursor.end, cursor[end] != UInt8(ascii: "\""), cursor[end] != UInt8(ascii: "\\") { end += 1 }
    guard end < cursor.end, cursor[end] == UInt8(ascii: "\"") else {
      var text = try text()
      return text.withUTF8 { Base64.decode(UnsafeRawBufferPointer($0)) }
    }
    cursor.index = end + 1
    return Base64.decode(UnsafeRawBufferPointer(start: cursor.base + start, count: end - start))
  }

  mutating func bool() throws(ServingError) -> Bool {
    try expect(.bool)
    if cursor.skip("true") { return true }
    if cursor.skip("false") { return false }
    throw error("expected 'true' or 'false'")
  }

  mutating func null() throws(ServingError) {
    try expect(.null)
    guard cursor.skip("null") else { throw error("expected 'null'") }
  }

  /// A number written without fraction and exponent that fits in 64 bits.
  mutating func integer() throws(ServingError) -> Int {
    try expect(.number)
    let start = cursor.index
    do throws(JSONFault) { return Int(try Int64.read(&cursor)) } catch { throw self.error(error, type: .int64, at: start) }
  }

  /// A number as double precision; `NaN` and infinities included.
  mutating func double() throws(ServingError) -> Double {
    try expect(.number)
    let start = cursor.index
    do throws(JSONFault) { return try Double.read(&cursor) } catch { throw self.error(error, type: .float64, at: start) }
  }

  /// The next value as a tree.
  mutating func value() throws(ServingError) -> JSONValue {
    cursor.skipSpace()
    let start = cursor.index
    try skipValue()
    do throws(FormatError) {
      return try JSONValue(
        parsing: UnsafeRawBufferPointer(start: cursor.base + start, count: cursor.index - start), file: "request", base: start,
        limits: JSONLimits(depth: maxDepth))
    } catch { throw ServingError(.invalidArgument, error.description) }
  }

  /// Passes over the next value, checking it.
  mutating func skipValue() throws(ServingError) {
    let outer = levels.count
    repeat {
      if levels.count > outer {
        let isObject = levels[levels.count - 1].isObject
        guard try isObject ? nextKey() != nil : nextElement() else { continue }
      }
      switch try kind() {
      case .object: try beginObject()
      case .array: try beginArray()
      case .string: _ = try text()
      case .number: _ = try double()
      case .bool: _ = try bool()
      case .null: try null()
      }
    } while levels.count > outer
  }

  /// Nothing may follow the value.
  mutating func finish() throws(ServingError) {
    cursor.skipSpace()
    guard cursor.index == cursor.end else { throw error("the value has ended, but more text follows") }
  }

  // MARK: Objects and arrays

  mutating func beginObject() throws(ServingError) {
    try expect(.object)
    try begin(isObject: true)
  }

  /// Then come, in turn, ``nextElement()`` and a value, until that says that there are no more.
  mutating func beginArray() throws(ServingError) {
    try expect(.array)
    try begin(isObject: false)
  }

  private mutating func begin(isObject: Bool) throws(ServingError) {
    guard levels.count < maxDepth else { throw error("nested deeper than \(maxDepth) levels") }
    cursor.index += 1
    levels.append(Level(isObject: isObject, firstKey: keys.count))
  }

  /// The next member's key, or nil where the object has ended.
  /// - Precondition: the last thing begun and not ended is an object, and the value of its last key has been read.
  mutating func nextKey() throws(ServingError) -> String? {
    guard try another(closing: UInt8(ascii: "}")) else { return nil }
    guard cursor.index < cursor.end else { throw error("the text ends inside an object") }
    guard cursor.byte == UInt8(ascii: "\"") else { throw error("expected a key in quotes, not \(Self.describe(cursor.byte))") }
    let start = cursor.index
    let key = try text()
    try note(key, at: start)
    cursor.skipSpace()
    guard cursor.index < cursor.end else { throw error("the text ends inside an object") }
    guard cursor.byte == UInt8(ascii: ":") else { throw error("expected ':' after a key, not \(Self.describe(cursor.byte))") }
    cursor.index += 1
    return key
  }

  /// Whether another element follows; else the array has ended.
  /// - Precondition: the last thing begun and not ended is an array, and its last element has been read.
  mutating func nextElement() throws(ServingError) -> Bool { try another(closing: UInt8(ascii: "]")) }

  private mutating func another(closing: UInt8) throws(ServingError) -> Bool {
    let last = levels.count - 1
    precondition(last >= 0 && levels[last].isObject == (closing == UInt8(ascii: "}")), "JSONScanner: nothing to go on with")
    cursor.skipSpace()
    guard cursor.index < cursor.end else { throw error("the text ends inside \(levels[last].isObject ? "an object" : "a list")") }
    if cursor.byte == closing {
      cursor.index += 1
      keys.removeSubrange(levels[last].firstKey...)
      levels.removeLast()
      return false
    }
    if levels[last].isEmpty {
      levels[last].isEmpty = false
      return true
    }
    guard cursor.byte == UInt8(ascii: ",") else {
      throw error("expected ',' or '\(levels[last].isObject ? "}" : "]")', not \(Self.describe(cursor.byte))")
    }
    cursor.index += 1
    cursor.skipSpace()
    return true
  }

  private mutating func note(_ key: String, at start: Int) throws(ServingError) {
    let last = levels.count - 1
    let known: Bool
    if levels[last].set != nil {
      known = !levels[last].set!.insert(key).inserted
    } else {
      known = keys[levels[last].firstKey...].contains(key)
      keys.append(key)
      // From here on a search would take the square of the number of keys.
      if keys.count - levels[last].firstKey > 16 { levels[last].set = Set(keys[levels[last].firstKey...]) }
    }
    guard !known else { throw error("the key '\(FormatError.excerpt(key))' occurs twice in one object", at: start) }
  }

  // MARK: Strings

  private mutating func text() throws(ServingError) -> String {
    let start = cursor.index + 1
    var i = start
    // Most strings have no escapes: they are copied in one piece.
    while i < cursor.end, case let byte = cursor[i], byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
      i += 1
    }
    if i < cursor.end, cursor[i] == UInt8(ascii: "\"") {
      cursor.index = i + 1
      return try validated(UnsafeRawBufferPointer(start: cursor.base + start, count: i - start), at: start)
    }
    var content = [UInt8](UnsafeRawBufferPointer(start: cursor.base + start, count: i - start))
    cursor.index = i
    while cursor.index < cursor.end {
      let byte = cursor.byte
      cursor.index += 1
      switch byte {
      case UInt8(ascii: "\""):
        return try content.withUnsafeBufferPointer { (part) throws(ServingError) in
          try validated(UnsafeRawBufferPointer(part), at: start)
        }
      case UInt8(ascii: "\\"): try escape(into: &content)
      case 0..<0x20: throw error("a string contains \(Self.describe(byte)), a control character", at: cursor.index - 1)
      default: content.append(byte)
      }
    }
    throw error("the text ends inside a string", at: start - 1)
  }

  private func validated(_ content: UnsafeRawBufferPointer, at start: Int) throws(ServingError) -> String {
    guard let result = String(validating: content, as: UTF8.self) else { throw error("a string is not valid UTF-8", at: start) }
    return result
  }

  private mutating func escape(into content: inout [UInt8]) throws(ServingError) {
    let start = cursor.index - 1
    guard cursor.index < cursor.end else { throw error("the text ends inside a string") }
    let byte = cursor.byte
    cursor.index += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): content.append(byte)
    case UInt8(ascii: "b"): content.append(0x08)
    case UInt8(ascii: "f"): content.append(0x0c)
    case UInt8(ascii: "n"): content.append(0x0a)
    case UInt8(ascii: "r"): content.append(0x0d)
    case UInt8(ascii: "t"): content.append(0x09)
    case UInt8(ascii: "u"):
      var code = try fourHexDigits()
      if (0xd800...0xdbff).contains(code), cursor.skip("\\u") {
        let low = try fourHexDigits()
        guard (0xdc00...0xdfff).contains(low) else { throw error("half of a surrogate pair stands alone", at: start) }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
      }
      guard let scalar = UnicodeScalar(code) else { throw error("half of a surrogate pair stands alone", at: start) }
      content.append(contentsOf: UTF8.encode(scalar)!)
    default: throw error("'\\' cannot be followed by \(Self.describe(byte))", at: start)
    }
  }

  private mutating func fourHexDigits() throws(ServingError) -> UInt32 {
    var result: UInt32 = 0
    for _ in 0..<4 {
      guard cursor.index < cursor.end else { throw error("the text ends inside a string") }
      let digit: UInt8
      switch cursor.byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = cursor.byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = cursor.byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = cursor.byte - UInt8(ascii: "A") + 10
      default: throw error("'\\u' needs four hexadecimal digits")
      }
      result = result << 4 | UInt32(digit)
      cursor.index += 1
    }
    return result
  }

  // MARK: Errors

  /// An error at a byte, by default the next one.
  @inline(never)
  func error(_ message: String, at position: Int? = nil) -> ServingError {
    ServingError(.invalidArgument, "JSON Parse error: \(message) at offset: \(position ?? cursor.index)")
  }

  /// Why a number could not be read that starts at a byte.
  @inline(never)
  func error(_ fault: JSONFault, type: ElementType, at start: Int) -> ServingError {
    error(fault.message(excerpt(at: start), type), at: start)
  }

  /// The beginning of the value at a byte, for messages.
  @inline(never)
  func excerpt(at start: Int) -> String {
    var i = start
    if i < cursor.end, cursor[i] == UInt8(ascii: "\"") {
      i += 1
      while i < cursor.end, i - start < 40, cursor[i] != UInt8(ascii: "\"") { i += 1 }
      i = min(cursor.end, i + 1)
    } else {
      while i < cursor.end, i - start < 40, !" \t\r\n,:{}[]\"".utf8.contains(cursor[i]) { i += 1 }
      if i == start, i < cursor.end { i += 1 }
    }
    let text = FormatError.excerpt(
      String(decoding: UnsafeRawBufferPointer(start: cursor.base + start, count: i - start), as: UTF8.self))
    return i - start >= 40 ? text + "…" : text
  }

  static func describe(_ byte: UInt8) -> String {
    (0x21...0x7e).contains(byte) ? "'\(Character(UnicodeScalar(byte)))'" : "the byte \(byte)"
  }
}

extension ByteBuffer {
  /// Reads one JSON value that fills the readable bytes.
  func scanJSON<R>(
    maxDepth: Int = 64, _ body: (inout JSONScanner) throws(ServingError) -> R
  ) throws(ServingError) -> R {
    let result: Result<R, ServingError> = withUnsafeReadableBytes { bytes in
      do throws(ServingError) {
        var scanner = JSONScanner(bytes, maxDepth: maxDepth)
        let result = try body(&scanner)
        try scanner.finish()
        return .success(result)
      } catch { return .failure(error) }
    }
    return try result.get()
  }
}
