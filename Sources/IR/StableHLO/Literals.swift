// Types, numbers and strings as MLIR writes them.

extension ElementType {
  /// MLIR's name.
  var mlir: String {
    switch self {
    case .bool: "i1"
    case .uint8: "ui8"
    case .int8: "i8"
    case .int16: "i16"
    case .int32: "i32"
    case .int64: "i64"
    case .float16: "f16"
    case .bfloat16: "bf16"
    case .float32: "f32"
    case .float64: "f64"
    }
  }

  init?(mlir name: Substring) {
    switch name {
    case "i1": self = .bool
    case "ui8": self = .uint8
    case "i8": self = .int8
    case "i16": self = .int16
    case "i32": self = .int32
    case "i64": self = .int64
    case "f16": self = .float16
    case "bf16": self = .bfloat16
    case "f32": self = .float32
    case "f64": self = .float64
    default: return nil
    }
  }
}

extension TensorType {
  var mlir: String { "tensor<" + shape.map { "\($0)x" }.joined() + elementType.mlir + ">" }
}

enum MLIRLiteral {
  private static let digits = Array("0123456789ABCDEF".utf8)

  static func hex(_ bytes: some Sequence<UInt8>, into text: inout String) {
    var out: [UInt8] = []
    for byte in bytes {
      out.append(digits[Int(byte >> 4)])
      out.append(digits[Int(byte & 15)])
    }
    text += String(decoding: out, as: UTF8.self)
  }

  private static func padded(_ bits: UInt64, _ count: Int) -> String {
    let text = String(bits, radix: 16, uppercase: true)
    return "0x" + String(repeating: "0", count: max(count - text.count, 0)) + text
  }

  /// A number with a point, as MLIR's floats need.
  private static func pointed(_ text: String) -> String {
    if text.contains(".") { return text }
    if let e = text.firstIndex(of: "e") { return text[..<e] + ".0" + text[e...] }
    return text + ".0"
  }

  /// The shortest digits that give the number back; what is not finite by its bits.
  static func double(_ x: Double) -> String { x.isFinite ? pointed("\(x)") : padded(x.bitPattern, 16) }

  /// A number as an element of a type, after rounding to it.
  static func element(_ value: Scalar, _ type: ElementType) -> String {
    switch type {
    case .bool: return value.double != 0 ? "true" : "false"
    case .uint8, .int8, .int16, .int32, .int64:
      switch value {
      case .int(let x): return "\(wrapped(x, type))"
      case .bool(let x): return x ? "1" : "0"
      case .double(let x): return "\(wrapped(Int(exactly: x.rounded(.towardZero)) ?? 0, type))"
      }
    case .float16: return float(UInt64(HalfPrecision.float16(of: value.double)), type)
    case .bfloat16: return float(UInt64(HalfPrecision.bfloat16(of: value.double)), type)
    case .float32: return float(UInt64(Float(value.double).bitPattern), type)
    case .float64: return float(value.double.bitPattern, type)
    }
  }

  static func wrapped(_ x: Int, _ type: ElementType) -> Int {
    switch type {
    case .uint8: Int(UInt8(truncatingIfNeeded: x))
    case .int8: Int(Int8(truncatingIfNeeded: x))
    case .int16: Int(Int16(truncatingIfNeeded: x))
    case .int32: Int(Int32(truncatingIfNeeded: x))
    case .bool, .int64, .float16, .bfloat16, .float32, .float64: x
    }
  }

  private static func float(_ bits: UInt64, _ type: ElementType) -> String {
    switch type {
    case .float16:
      let x = HalfPrecision.float(ofFloat16: UInt16(bits))
      return x.isFinite ? pointed("\(x)") : padded(bits, 4)
    case .bfloat16:
      let x = HalfPrecision.float(ofBFloat16: UInt16(bits))
      return x.isFinite ? pointed("\(x)") : padded(bits, 4)
    case .float32:
      let x = Float(bitPattern: UInt32(bits))
      return x.isFinite ? pointed("\(x)") : padded(bits, 8)
    case .bool, .uint8, .int8, .int16, .int32, .int64, .float64: return double(Double(bitPattern: bits))
    }
  }

  /// Element `i` of a constant's bytes.
  private static func element(_ bytes: UnsafeRawBufferPointer, _ i: Int, _ type: ElementType) -> String {
    switch type {
    case .bool: bytes[i] != 0 ? "true" : "false"
    case .uint8: "\(bytes[i])"
    case .int8: "\(Int8(bitPattern: bytes[i]))"
    case .int16: "\(bytes.loadUnaligned(fromByteOffset: 2 * i, as: Int16.self))"
    case .int32: "\(bytes.loadUnaligned(fromByteOffset: 4 * i, as: Int32.self))"
    case .int64: "\(bytes.loadUnaligned(fromByteOffset: 8 * i, as: Int64.self))"
    case .float16, .bfloat16: float(UInt64(bytes.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)), type)
    case .float32: float(UInt64(bytes.loadUnaligned(fromByteOffset: 4 * i, as: UInt32.self)), type)
    case .float64: float(bytes.loadUnaligned(fromByteOffset: 8 * i, as: UInt64.self), type)
    }
  }

  /// Lists up to this many elements; beyond, the bytes.
  private static let listed = 64

  /// `dense<…>`. A scalar is written by its bytes, so that it differs from a fill; bool has no bytes in MLIR but for scalars.
  static func dense(_ constant: Constant) -> String {
    let type = constant.type
    let count = type.shape.elementCount
    if count == 0 { return "dense<>" }
    return constant.withUnsafeBytes { bytes in
      if type.shape.isEmpty && type.elementType == .bool { return bytes[0] != 0 ? "dense<\"0xFF\">" : "dense<\"0x00\">" }
      if type.shape.isEmpty || (count > listed && type.elementType != .bool) {
        var text = "dense<\"0x"
        hex(bytes, into: &text)
        return text + "\">"
      }
      var next = 0
      func list(_ axis: Int) -> String {
        if axis == type.shape.count {
          defer { next += 1 }
          return element(bytes, next, type.elementType)
        }
        return "[" + (0..<type.shape[axis]).map { _ in list(axis + 1) }.joined(separator: ", ") + "]"
      }
      return "dense<" + list(0) + ">"
    }
  }

  /// `"…"` with everything but printable ASCII as `\XX`.
  static func string(_ text: String) -> String {
    var out = "\""
    for byte in text.utf8 {
      if byte >= 32 && byte < 127 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\") {
        out.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        out += "\\"
        hex([byte], into: &out)
      }
    }
    return out + "\""
  }

  static func array(_ values: some Collection<Int>) -> String {
    values.isEmpty ? "array<i64>" : "array<i64: " + values.map(String.init).joined(separator: ", ") + ">"
  }

  static func list(_ values: some Sequence<Int>) -> String { "[" + values.map(String.init).joined(separator: ", ") + "]" }

  static func attribute(_ value: TextAttribute) -> String {
    switch value {
    case .int(let x): "\(x) : i64"
    case .double(let x): double(x) + " : f64"
    case .bool(let x): x ? "true" : "false"
    case .string(let x): string(x)
    case .ints(let x): array(x)
    case .symbol(let x): "@" + x
    }
  }
}
