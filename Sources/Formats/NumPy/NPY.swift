import ApusTensor

/// NumPy's file of one array (`.npy`, versions 1 to 3).
/// Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
///
/// All element types of Apus's are read and written, of either byte order and memory order; structured and object arrays, text
/// and the types that Apus lacks are refused. NumPy has no bfloat16: as the package ml_dtypes does, it is two bytes without
/// meaning, `<V2`, which NumPy reads as such (`array.view(ml_dtypes.bfloat16)` gives the numbers).
public enum NPY {
  /// What a file's header says.
  public struct Header: Sendable, Equatable {
    /// NumPy's name of the element type, as in `<f4`.
    public var descriptor: String
    public var elementType: ElementType
    /// Whether bytes of elements are in the order that is not this format's usual one.
    var isBigEndian: Bool
    /// Whether the first dimension's neighbours are adjacent in memory, not the last one's.
    public var isFortranOrder: Bool
    public var shape: [Int]
    /// Where the elements begin.
    var start: Int
    public var type: TensorType { TensorType(Shape(shape), elementType) }
  }

  /// The longest header accepted; NumPy's own default is a sixth of it.
  static let headerLimit = 1 << 16

  /// Reads the array in the file at `path`.
  /// - Throws: ``FormatError``.
  public static func read(_ path: String) throws(FormatError) -> Tensor {
    let file = try FileBytes(mapping: path)
    return try file.withUnsafeBytes { (bytes) throws(FormatError) in try tensor(bytes, file: path) }
  }

  /// What the header of the file at `path` says, checked against the file's length.
  /// - Throws: ``FormatError``.
  public static func header(of path: String) throws(FormatError) -> Header {
    let file = try FileBytes(mapping: path)
    return try file.withUnsafeBytes { (bytes) throws(FormatError) in try checkedHeader(bytes, file: path, part: nil) }
  }

  /// Writes an array to the file at `path`, atomically.
  /// - Throws: ``FormatError``.
  public static func write(_ tensor: Tensor, to path: String) throws {
    try AtomicFile.write(to: path) { file in
      try file.write(prologue(of: tensor.type))
      try tensor.withUnsafeBytes { bytes in try file.write(bytes) }
    }
  }

  /// The array in the bytes of a file.
  package static func tensor(_ bytes: UnsafeRawBufferPointer, file: String, part: String? = nil) throws(FormatError) -> Tensor {
    let header = try checkedHeader(bytes, file: file, part: part)
    let content = UnsafeRawBufferPointer(rebasing: bytes[header.start...])
    let shape = Shape(header.isFortranOrder ? header.shape.reversed() : header.shape)
    var tensor: Tensor
    if header.elementType == .bool {
      // Any byte but zero is true to NumPy.
      let values = [UInt8](content.map { $0 == 0 ? 0 : 1 })
      tensor = values.withUnsafeBytes { Tensor(bytes: $0, shape: shape, elementType: .bool) }
    } else if header.isBigEndian && header.elementType.byteSize > 1 {
      let values = swapped(content, header.elementType.byteSize)
      tensor = values.withUnsafeBytes { Tensor(bytes: $0, shape: shape, elementType: header.elementType) }
    } else {
      tensor = Tensor(bytes: content, shape: shape, elementType: header.elementType)
    }
    if header.isFortranOrder && header.shape.count > 1 {
      tensor = tensor.transposed((0..<header.shape.count).reversed()).contiguous()
    }
    return tensor
  }

  private static func swapped(_ bytes: UnsafeRawBufferPointer, _ size: Int) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: bytes.count)
    for start in stride(from: 0, to: bytes.count, by: size) {
      for i in 0..<size { result[start + i] = bytes[start + size - 1 - i] }
    }
    return result
  }

  // MARK: Headers

  private static func checkedHeader(_ bytes: UnsafeRawBufferPointer, file: String, part: String?) throws(FormatError) -> Header {
    let header = try parse(bytes, file: file, part: part)
    func error(_ kind: FormatError.Kind, _ message: String) -> FormatError {
      FormatError(kind, file: file, part: part, offset: header.start, message)
    }
    guard header.shape.count <= Shape.maxRank else {
      throw error(.unsupported, "an array of \(header.shape.count) dimensions; tensors have at most \(Shape.maxRank)")
    }
    var byteCount = header.elementType.byteSize
    // Dimensions of zero do not excuse an overflow of the others: strides would overflow later.
    for size in header.shape {
      let (product, overflow) = byteCount.multipliedReportingOverflow(by: max(size, 1))
      guard !overflow else { throw error(.overflow, "the size of shape \(header.shape) does not fit in 64 bits") }
      byteCount = product
    }
    if header.shape.contains(0) { byteCount = 0 }
    let present = bytes.count - header.start
    guard present >= byteCount else {
      throw error(.truncated, "\(header.type) takes \(byteCount) bytes, but \(present) are there")
    }
    guard present == byteCount else { throw error(.trailingBytes, "\(present - byteCount) bytes follow the array") }
    return header
  }

  /// The bytes before an array's elements, a multiple of 64.
  package static func prologue(of type: TensorType) -> [UInt8] {
    let sizes = type.shape.map { "\($0)" }
    let shape = sizes.count == 1 ? "(\(sizes[0]),)" : "(\(sizes.joined(separator: ", ")))"
    let text = "{'descr': '\(descriptor(type.elementType))', 'fortran_order': False, 'shape': \(shape), }"
    // At most 8 dimensions: version 1 is enough.
    let count = (10 + text.utf8.count + 1 + 63) / 64 * 64
    var bytes: [UInt8] = [0x93] + Array("NUMPY".utf8) + [1, 0]
    bytes += [UInt8((count - 10) & 0xff), UInt8((count - 10) >> 8)]
    bytes += Array(text.utf8)
    bytes += [UInt8](repeating: 0x20, count: count - 1 - bytes.count) + [0x0a]
    return bytes
  }

  private static func descriptor(_ type: ElementType) -> String {
    switch type {
    case .bool: "|b1"
    case .uint8: "|u1"
    case .int8: "|i1"
    case .int16: "<i2"
    case .int32: "<i4"
    case .int64: "<i8"
    case .float16: "<f2"
    case .bfloat16: "<V2"
    case .float32: "<f4"
    case .float64: "<f8"
    }
  }

  private static func parse(_ bytes: UnsafeRawBufferPointer, file: String, part: String?) throws(FormatError) -> Header {
    func error(_ kind: FormatError.Kind, _ offset: Int, _ message: String) -> FormatError {
      FormatError(kind, file: file, part: part, offset: offset, message)
    }
    let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)
    guard bytes.count >= 10 else { throw error(.truncated, bytes.count, "too short for a .npy file") }
    guard bytes.prefix(6).elementsEqual(magic) else { throw error(.malformed, 0, "does not begin as a .npy file") }
    let version = bytes[6]
    guard (1...3).contains(version), bytes[7] == 0 else {
      throw error(.unsupported, 6, "version \(version).\(bytes[7]) of the .npy format is unknown")
    }
    let start = version == 1 ? 10 : 12
    guard bytes.count >= start else { throw error(.truncated, bytes.count, "too short for a .npy file") }
    let length =
      version == 1
      ? Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt16.self)))
      : Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
    guard length <= headerLimit else {
      throw error(.limitExceeded, 8, "a header of \(length) bytes; at most \(headerLimit) are accepted")
    }
    guard bytes.count - start >= length else { throw error(.truncated, bytes.count, "the header should have \(length) bytes") }
    var reader = PythonLiteral(
      bytes: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + length)]), base: start, file: file, part: part)
    let fields = try reader.header()
    guard let type = elementType(fields.descriptor) else {
      throw error(
        .unsupported, start, "elements of type '\(FormatError.excerpt(fields.descriptor))' cannot be loaded; see ElementType")
    }
    return Header(
      descriptor: fields.descriptor, elementType: type, isBigEndian: fields.descriptor.hasPrefix(">"),
      isFortranOrder: fields.isFortranOrder, shape: fields.shape, start: start + length)
  }

  private static func elementType(_ descriptor: String) -> ElementType? {
    guard let order = descriptor.first, "<>|=".contains(order) else { return nil }
    switch descriptor.dropFirst() {
    case "b1": return .bool
    case "u1": return .uint8
    case "i1": return .int8
    case "i2": return .int16
    case "i4": return .int32
    case "i8": return .int64
    case "f2": return .float16
    case "f4": return .float32
    case "f8": return .float64
    case "V2" where order != ">": return .bfloat16
    default: return nil
    }
  }
}

/// The literal of a Python dictionary that a header is.
private struct PythonLiteral {
  let bytes: UnsafeRawBufferPointer
  let base: Int
  let file: String
  let part: String?
  private var next = 0

  init(bytes: UnsafeRawBufferPointer, base: Int, file: String, part: String?) {
    (self.bytes, self.base, self.file, self.part) = (bytes, base, file, part)
  }

  private func error(_ kind: FormatError.Kind, _ message: String) -> FormatError {
    FormatError(kind, file: file, part: part, offset: base + next, message)
  }

  private var peek: UInt8? {
    mutating get {
      while next < bytes.count, [0x20, 0x0a, 0x0d, 0x09].contains(bytes[next]) { next += 1 }
      return next < bytes.count ? bytes[next] : nil
    }
  }

  private mutating func accept(_ character: Unicode.Scalar) -> Bool {
    guard peek == UInt8(ascii: character) else { return false }
    next += 1
    return true
  }

  private mutating func expect(_ character: Unicode.Scalar) throws(FormatError) {
    guard accept(character) else { throw error(.malformed, "the header should have '\(character)' here") }
  }

  mutating func header() throws(FormatError) -> (descriptor: String, isFortranOrder: Bool, shape: [Int]) {
    var descriptor: String?
    var order: Bool?
    var shape: [Int]?
    try expect("{")
    while !accept("}") {
      let key = try string()
      try expect(":")
      switch key {
      case "descr" where descriptor == nil:
        if peek == UInt8(ascii: "[") || peek == UInt8(ascii: "(") {
          throw error(.unsupported, "structured arrays cannot be loaded")
        }
        descriptor = try string()
      case "fortran_order" where order == nil: order = try truth()
      case "shape" where shape == nil: shape = try sizes()
      case "descr", "fortran_order", "shape": throw error(.duplicateKey, "'\(key)' is given twice")
      default: throw error(.invalidEntry, "the key '\(FormatError.excerpt(key))' is unknown")
      }
      if !accept(",") {
        try expect("}")
        break
      }
    }
    guard peek == nil else { throw error(.malformed, "something follows the header's dictionary") }
    guard let descriptor, let order, let shape else {
      throw error(.missing, "one of 'descr', 'fortran_order' and 'shape' is missing")
    }
    return (descriptor, order, shape)
  }

  private mutating func string() throws(FormatError) -> String {
    guard let quote = peek, quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"") else {
      throw error(.malformed, "the header should have a string here")
    }
    next += 1
    let start = next
    while next < bytes.count, bytes[next] != quote {
      if bytes[next] == UInt8(ascii: "\\") { throw error(.malformed, "an escape in a string of the header") }
      next += 1
    }
    guard next < bytes.count else { throw error(.malformed, "a string of the header does not end") }
    defer { next += 1 }
    return String(decoding: bytes[start..<next], as: UTF8.self)
  }

  private mutating func truth() throws(FormatError) -> Bool {
    guard peek != nil else { throw error(.malformed, "the header ends too early") }
    for (word, value) in [("True", true), ("False", false)] where bytes[next...].starts(with: word.utf8) {
      next += word.utf8.count
      return value
    }
    throw error(.invalidEntry, "'fortran_order' is neither True nor False")
  }

  private mutating func sizes() throws(FormatError) -> [Int] {
    try expect("(")
    var sizes: [Int] = []
    while !accept(")") {
      var value = 0
      var digits = 0
      while let byte = peek, (0x30...0x39).contains(byte) {
        let (tens, over) = value.multipliedReportingOverflow(by: 10)
        let (sum, more) = tens.addingReportingOverflow(Int(byte - 0x30))
        if over || more { throw error(.overflow, "a size in 'shape' does not fit in 64 bits") }
        (value, digits, next) = (sum, digits + 1, next + 1)
      }
      guard digits > 0 else { throw error(.invalidEntry, "'shape' contains something other than whole numbers from 0") }
      sizes.append(value)
      // Python 2 wrote long integers as 3L.
      _ = accept("L")
      if !accept(",") {
        try expect(")")
        break
      }
    }
    return sizes
  }
}
