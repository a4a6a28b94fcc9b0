import ApusIR
import ApusFormats
import ApusServables
import ApusTensor
import NIOCore

/// Prints JSON into bytes.
///
/// ```swift
/// var json = JSONWriter()
/// json.beginObject()
/// json.key("outputs")
/// json.elements(of: tensor, style: .sixDigits)
/// json.endObject()
/// return json.buffer
/// ```
struct JSONWriter {
  enum Layout: Sendable {
    case compact
    /// Four spaces a level and a line for each member and element, as TensorFlow Serving's.
    case indented
  }

  private(set) var buffer: ByteBuffer
  /// May change between two values, for lists on one line.
  var layout: Layout
  /// Whether lists are on one line though the layout is indented.
  var listsOnOneLine = false
  private var levels: [(isArray: Bool, count: Int)] = []
  /// Whether the next value belongs to a key.
  private var follows = false

  init(_ layout: Layout = .compact, capacity: Int = 1_024) {
    buffer = ByteBufferAllocator().buffer(capacity: capacity)
    self.layout = layout
  }

  // MARK: Values

  mutating func beginObject() { begin("{", isArray: false) }
  mutating func endObject() { end("}", onOneLine: false) }
  mutating func beginArray() { begin("[", isArray: true) }
  mutating func endArray() { end("]", onOneLine: listsOnOneLine) }

  /// The key of the value that follows.
  mutating func key(_ name: String) {
    separate()
    quoted(name)
    buffer.writeStaticString(layout == .compact ? ":" : ": ")
    follows = true
  }

  mutating func string(_ text: String) {
    separate()
    quoted(text)
  }

  mutating func integer(_ value: Int) {
    separate()
    put { $0.integer(Int64(value)) }
  }

  mutating func bool(_ value: Bool) {
    separate()
    buffer.writeStaticString(value ? "true" : "false")
  }

  mutating func null() {
    separate()
    buffer.writeStaticString("null")
  }

  mutating func number(_ value: Double, _ style: JSONNumberStyle = .shortest) {
    separate()
    put { $0.float(value, style) }
  }

  mutating func number(_ value: Float, _ style: JSONNumberStyle = .shortest) {
    separate()
    put { $0.float(value, style) }
  }

  mutating func value(_ value: JSONValue) {
    switch value {
    case .null: null()
    case .bool(let value): bool(value)
    case .integer(let value): integer(value)
    case .number(let value): number(value)
    case .string(let value): string(value)
    case .array(let elements):
      beginArray()
      for element in elements { self.value(element) }
      endArray()
    case .object(let object):
      beginObject()
      for key in object.keys {
        self.key(key)
        if let member = object[key] { self.value(member) }
      }
      endObject()
    }
  }

  /// Bytes that are a JSON value already.
  mutating func raw(_ json: ByteBuffer) {
    separate()
    buffer.writeImmutableBuffer(json)
  }

  /// `{"b64": "…"}`.
  mutating func base64(_ bytes: UnsafeRawBufferPointer) {
    beginObject()
    key("b64")
    separate()
    buffer.writeStaticString("\"")
    buffer.writeBytes(Base64.encode(bytes))
    buffer.writeStaticString("\"")
    endObject()
  }

  // MARK: Tensors

  /// A tensor's elements as lists nested by its shape; a scalar is one number.
  mutating func elements(of tensor: Tensor, style: JSONNumberStyle) {
    let shape = Array(tensor.shape)
    tensor.withUnsafeBytes { elements($0, tensor.elementType, shape: shape[...], style: style) }
  }

  /// What a tensor's list would hold, as elements of the list that has begun.
  /// - Precondition: the tensor is no scalar.
  mutating func items(of tensor: Tensor, style: JSONNumberStyle) {
    let shape = Array(tensor.shape)
    tensor.withUnsafeBytes { items($0, tensor.elementType, shape: shape[...], style: style) }
  }

  /// A tensor's elements as one list, in row-major order.
  mutating func flatElements(of tensor: Tensor, style: JSONNumberStyle) {
    tensor.withUnsafeBytes { bytes in
      elements(bytes, tensor.elementType, shape: [bytes.count / tensor.elementType.byteSize], style: style)
    }
  }

  /// Elements in row-major order as lists nested by a shape.
  /// - Precondition: the bytes are as many as the shape's elements take.
  mutating func elements(_ bytes: UnsafeRawBufferPointer, _ type: ElementType, shape: ArraySlice<Int>, style: JSONNumberStyle) {
    guard !shape.isEmpty else { return run(bytes, type, count: 1, style) }
    beginArray()
    items(bytes, type, shape: shape, style: style)
    endArray()
  }

  private mutating func items(
    _ bytes: UnsafeRawBufferPointer, _ type: ElementType, shape: ArraySlice<Int>, style: JSONNumberStyle
  ) {
    let size = shape[shape.startIndex]
    if shape.count == 1 {
      run(bytes, type, count: size, style)
    } else if size > 0 {
      let stride = bytes.count / size
      for i in 0..<size {
        elements(
          UnsafeRawBufferPointer(rebasing: bytes[i * stride..<(i + 1) * stride]), type, shape: shape.dropFirst(), style: style)
      }
    }
  }

  private mutating func run(_ bytes: UnsafeRawBufferPointer, _ type: ElementType, count: Int, _ style: JSONNumberStyle) {
    switch type {
    case .bool: run(count) { $0.bool(bytes[$1] != 0) }
    case .uint8: run(count) { $0.integer(Int64(bytes[$1])) }
    case .int8: run(count) { $0.integer(Int64(Int8(bitPattern: bytes[$1]))) }
    case .int16: run(count) { $0.integer(Int64(bytes.loadUnaligned(fromByteOffset: $1 * 2, as: Int16.self))) }
    case .int32: run(count) { $0.integer(Int64(bytes.loadUnaligned(fromByteOffset: $1 * 4, as: Int32.self))) }
    case .int64: run(count) { $0.integer(bytes.loadUnaligned(fromByteOffset: $1 * 8, as: Int64.self)) }
    case .float16:
      run(count) { $0.half(HalfPrecision.float(ofFloat16: bytes.loadUnaligned(fromByteOffset: $1 * 2, as: UInt16.self))) }
    case .bfloat16:
      run(count) { $0.half(HalfPrecision.float(ofBFloat16: bytes.loadUnaligned(fromByteOffset: $1 * 2, as: UInt16.self))) }
    case .float32: run(count) { $0.float(bytes.loadUnaligned(fromByteOffset: $1 * 4, as: Float.self), style) }
    case .float64: run(count) { $0.float(bytes.loadUnaligned(fromByteOffset: $1 * 8, as: Double.self), style) }
    }
  }

  /// Prints elements one after the other, many into each piece of memory that is asked for.
  @inline(__always)
  private mutating func run(_ count: Int, _ body: (inout Target, Int) -> Void) {
    var next = 0
    while next < count {
      if layout == .indented, !listsOnOneLine || levels.isEmpty {
        separate()
        put { body(&$0, next) }
        next += 1
        continue
      }
      let part = min(count, next + 256)
      var isFirst = follows || (levels.last?.count ?? 0) == 0
      follows = false
      let hasSpace = layout == .indented
      put(room: (part - next) * (DecimalDigits.maxLength + 2)) { target in
        for i in next..<part {
          if !isFirst { target.comma(hasSpace) }
          isFirst = false
          body(&target, i)
        }
      }
      if !levels.isEmpty { levels[levels.count - 1].count += part - next }
      next = part
    }
  }

  /// Memory that numbers are printed to.
  private struct Target {
    let base: UnsafeMutablePointer<UInt8>
    var count = 0

    @inline(__always) mutating func integer(_ value: Int64) {
      if value < 0 {
        base[count] = UInt8(ascii: "-")
        count += 1
      }
      count += DecimalDigits.integer(value.magnitude, base + count)
    }
    @inline(__always) mutating func float(_ value: some PrintedFloat, _ style: JSONNumberStyle) {
      count += DecimalDigits.write(value, style, to: base + count)
    }
    mutating func half(_ value: Float) { count += DecimalDigits.write(half: value, to: base + count) }
    @inline(__always) mutating func bool(_ value: Bool) { count += DecimalDigits.text(value ? "true" : "false", base + count) }
    @inline(__always) mutating func comma(_ hasSpace: Bool) {
      base[count] = UInt8(ascii: ",")
      count += 1
      if hasSpace {
        base[count] = UInt8(ascii: " ")
        count += 1
      }
    }
  }

  @inline(__always)
  private mutating func put(room: Int = DecimalDigits.maxLength, _ body: (inout Target) -> Void) {
    buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      var target = Target(base: base.assumingMemoryBound(to: UInt8.self))
      body(&target)
      return target.count
    }
  }

  // MARK: Layout

  /// What comes before a value or a key.
  private mutating func separate() {
    if follows {
      follows = false
      return
    }
    guard let level = levels.last else { return }
    if level.count > 0 { buffer.writeStaticString(",") }
    levels[levels.count - 1].count += 1
    guard layout == .indented else { return }
    if level.isArray && listsOnOneLine {
      if level.count > 0 { buffer.writeStaticString(" ") }
    } else {
      newLine()
    }
  }

  private mutating func begin(_ bracket: StaticString, isArray: Bool) {
    separate()
    buffer.writeStaticString(bracket)
    levels.append((isArray, 0))
  }

  private mutating func end(_ bracket: StaticString, onOneLine: Bool) {
    let level = levels.removeLast()
    if layout == .indented, !onOneLine, level.count > 0 { newLine() }
    buffer.writeStaticString(bracket)
  }

  private mutating func newLine() {
    buffer.writeStaticString("\n")
    buffer.writeRepeatingByte(UInt8(ascii: " "), count: 4 * levels.count)
  }

  /// Escapes what RFC 8259 demands and nothing else, with the short forms where there is one.
  private mutating func quoted(_ text: String) {
    buffer.writeStaticString("\"")
    var text = text
    text.withUTF8 { bytes in
      var start = 0
      for i in 0..<bytes.count {
        let byte = bytes[i]
        guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
        buffer.writeBytes(bytes[start..<i])
        start = i + 1
        switch byte {
        case UInt8(ascii: "\""): buffer.writeStaticString("\\\"")
        case UInt8(ascii: "\\"): buffer.writeStaticString("\\\\")
        case 0x08: buffer.writeStaticString("\\b")
        case 0x0c: buffer.writeStaticString("\\f")
        case 0x0a: buffer.writeStaticString("\\n")
        case 0x0d: buffer.writeStaticString("\\r")
        case 0x09: buffer.writeStaticString("\\t")
        default:
          buffer.writeStaticString(byte < 0x10 ? "\\u000" : "\\u001")
          buffer.writeBytes(CollectionOfOne(Array("0123456789abcdef".utf8)[Int(byte & 15)]))
        }
      }
      buffer.writeBytes(bytes[start...])
    }
    buffer.writeStaticString("\"")
  }
}
