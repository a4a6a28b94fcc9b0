/// A message in Protocol Buffers' wire format, field by field. Fields with the default value (zero, empty) can be left out: readers
/// take them for it.
package struct ProtobufWriter: Sendable {
  package private(set) var bytes: [UInt8] = []

  package init() {}

  private mutating func raw(_ value: UInt64) {
    var value = value
    while value >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: value) | 0x80)
      value >>= 7
    }
    bytes.append(UInt8(value))
  }

  private mutating func key(_ field: Int, _ wire: UInt64) { raw(UInt64(field) << 3 | wire) }

  /// int32, int64, uint64, bool or an enumeration.
  package mutating func put(_ field: Int, _ value: Int) {
    key(field, 0)
    raw(UInt64(bitPattern: Int64(value)))
  }

  package mutating func put(_ field: Int, _ value: Bool) { put(field, value ? 1 : 0) }

  package mutating func put(_ field: Int, _ value: Double) {
    key(field, 1)
    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += $0 }
  }

  package mutating func put(_ field: Int, _ value: Float) {
    key(field, 5)
    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += $0 }
  }

  package mutating func put(_ field: Int, _ value: [UInt8]) {
    key(field, 2)
    raw(UInt64(value.count))
    bytes += value
  }

  package mutating func put(_ field: Int, _ value: String) { put(field, Array(value.utf8)) }

  /// A repeated double, packed.
  package mutating func put(_ field: Int, _ values: [Double]) {
    key(field, 2)
    raw(UInt64(values.count * 8))
    for value in values { withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += $0 } }
  }

  /// A message inside.
  package mutating func put(_ field: Int, _ message: (inout ProtobufWriter) -> Void) {
    var inner = ProtobufWriter()
    message(&inner)
    put(field, inner.bytes)
  }
}

/// Reads a message in Protocol Buffers' wire format, field by field, without copying. Whatever the bytes are, it ends with an error
/// or at their end.
package struct ProtobufReader {
  package enum Value {
    case varint(UInt64)
    case fixed64(UInt64)
    case fixed32(UInt32)
    case bytes(UnsafeRawBufferPointer)

    /// An integer, a boolean or an enumeration.
    package var int: Int? { if case .varint(let value) = self { Int(Int64(bitPattern: value)) } else { nil } }
    package var double: Double? { if case .fixed64(let value) = self { Double(bitPattern: value) } else { nil } }
    package var float: Float? { if case .fixed32(let value) = self { Float(bitPattern: value) } else { nil } }
    package var bytes: UnsafeRawBufferPointer? { if case .bytes(let value) = self { value } else { nil } }
    /// Text; what is not UTF-8 in it is replaced.
    package var string: String? { bytes.map { String(decoding: $0, as: UTF8.self) } }
  }

  private let input: UnsafeRawBufferPointer
  private var index = 0
  private let file: String
  /// Where the message begins in the file, for errors.
  private let base: Int

  package init(_ input: UnsafeRawBufferPointer, file: String, base: Int = 0) {
    (self.input, self.file, self.base) = (input, file, base)
  }

  private func error(_ kind: FormatError.Kind, _ message: String) -> FormatError {
    FormatError(kind, file: file, offset: base + index, "protocol buffer: " + message)
  }

  /// The next field's number and value; nil at the end.
  package mutating func next() throws(FormatError) -> (field: Int, value: Value)? {
    guard index < input.count else { return nil }
    let key = try varint()
    guard key >> 3 > 0, key >> 3 < 1 << 29 else { throw error(.malformed, "the field number \(key >> 3) is not possible") }
    let field = Int(key >> 3)
    switch key & 7 {
    case 0: return (field, .varint(try varint()))
    case 1:
      let start = try take(8)
      return (field, .fixed64(UInt64(littleEndian: input.loadUnaligned(fromByteOffset: start, as: UInt64.self))))
    case 2:
      let length = try varint()
      guard length <= UInt64(input.count - index) else {
        throw error(.truncated, "field \(field) should have \(length) bytes, \(input.count - index) are left")
      }
      let start = try take(Int(length))
      return (field, .bytes(UnsafeRawBufferPointer(rebasing: input[start..<index])))
    case 5:
      let start = try take(4)
      return (field, .fixed32(UInt32(littleEndian: input.loadUnaligned(fromByteOffset: start, as: UInt32.self))))
    default: throw error(.malformed, "field \(field) has the wire type \(key & 7)")
    }
  }

  private mutating func take(_ count: Int) throws(FormatError) -> Int {
    guard input.count - index >= count else { throw error(.truncated, "the message ends inside a field") }
    defer { index += count }
    return index
  }

  private mutating func varint() throws(FormatError) -> UInt64 {
    var result: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard index < input.count else { throw error(.truncated, "the message ends inside a number") }
      let byte = input[index]
      index += 1
      result |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return result }
    }
    throw error(.malformed, "a number has more than ten bytes")
  }

  /// A repeated double that may be packed, added to `values`.
  package static func append(_ value: Value, to values: inout [Double]) {
    if let single = value.double { values.append(single) }
    guard let packed = value.bytes else { return }
    for start in stride(from: 0, to: packed.count - packed.count % 8, by: 8) {
      values.append(Double(bitPattern: UInt64(littleEndian: packed.loadUnaligned(fromByteOffset: start, as: UInt64.self))))
    }
  }
}
