/// A safetensors file opened for reading: the names, types, shapes and bytes of its tensors.
///
/// Opening checks everything the reference implementation checks, and more: a header that begins with `{`, valid UTF-8, no
/// duplicate keys, bounded nesting, offsets that cover the data exactly (no holes, overlaps or trailing bytes), byte ranges
/// that agree with shape and type in checked arithmetic. The data itself is mapped, not read, until it is used.
/// Format: https://huggingface.co/docs/safetensors/index#format.
public struct SafetensorsFile: Sendable {
  /// An element type of the format. Values are little-endian.
  public enum DataType: String, Sendable, CaseIterable {
    // In the reference implementation's order, which is that of alignment; writing sorts by it.
    case bool = "BOOL"
    case float4 = "F4"
    case float6e2m3 = "F6_E2M3"
    case float6e3m2 = "F6_E3M2"
    case uint8 = "U8"
    case int8 = "I8"
    case float8e5m2 = "F8_E5M2"
    case float8e4m3 = "F8_E4M3"
    case float8e8m0 = "F8_E8M0"
    case float8e4m3fnuz = "F8_E4M3FNUZ"
    case float8e5m2fnuz = "F8_E5M2FNUZ"
    case int16 = "I16"
    case uint16 = "U16"
    case float16 = "F16"
    case bfloat16 = "BF16"
    case int32 = "I32"
    case uint32 = "U32"
    case float32 = "F32"
    case complex64 = "C64"
    case float64 = "F64"
    case int64 = "I64"
    case uint64 = "U64"

    /// The size of an element in bits.
    public var bitsPerElement: Int {
      switch self {
      case .float4: 4
      case .float6e2m3, .float6e3m2: 6
      case .bool, .uint8, .int8, .float8e5m2, .float8e4m3, .float8e8m0, .float8e4m3fnuz, .float8e5m2fnuz: 8
      case .int16, .uint16, .float16, .bfloat16: 16
      case .int32, .uint32, .float32: 32
      case .complex64, .float64, .int64, .uint64: 64
      }
    }

    /// Whether Apus has tensors of this element type. Others are listed, but reading them throws.
    public var isSupported: Bool {
      switch self {
      case .bool, .uint8, .int8, .int16, .int32, .int64, .float16, .bfloat16, .float32, .float64: true
      case .float4, .float6e2m3, .float6e3m2, .float8e5m2, .float8e4m3, .float8e8m0, .float8e4m3fnuz, .float8e5m2fnuz,
        .uint16, .uint32, .uint64, .complex64:
        false
      }
    }

    /// The bytes that a tensor of `shape` takes; nil when they do not fit in 64 bits, or are not whole.
    /// Dimensions of zero do not excuse an overflow of the others: strides would overflow later.
    func byteCount(shape: [Int]) -> Int? {
      var bits = bitsPerElement
      var isEmpty = false
      for dimension in shape {
        if dimension == 0 { isEmpty = true }
        let (product, overflow) = bits.multipliedReportingOverflow(by: max(dimension, 1))
        if overflow { return nil }
        bits = product
      }
      if isEmpty { return 0 }
      return bits % 8 == 0 ? bits / 8 : nil
    }
  }

  /// One tensor of the file.
  public struct Entry: Sendable, Equatable {
    /// The tensor's name, such as `layer1.0.conv1.weight`.
    public let name: String
    /// The element type.
    public let dataType: DataType
    /// The dimensions, outermost first; empty for a scalar.
    public let shape: [Int]
    /// Where the elements are: byte offsets from the beginning of the file, not necessarily aligned.
    public let range: Range<Int>
  }

  /// The most bytes of header accepted, as in the reference implementation.
  public static let headerLimit = 100_000_000

  /// The whole file.
  public let bytes: FileBytes
  /// The tensors in the order of their bytes.
  public let entries: [Entry]
  /// The free-form text pairs under `__metadata__`.
  public let metadata: [String: String]
  private let indices: [String: Int]

  /// Opens and checks the file at `path`; its tensors' bytes are mapped, not read.
  /// - Throws: `FormatError`, which names the file, the tensor and the byte offset.
  public init(path: String) throws(FormatError) {
    try self.init(FileBytes(mapping: path))
  }

  /// Checks a file's bytes held in memory.
  /// - Parameter name: what error messages call it.
  /// - Throws: `FormatError`.
  public init(bytes: [UInt8], name: String = "bytes") throws(FormatError) {
    try self.init(FileBytes(bytes, name: name))
  }

  /// Checks bytes that are already mapped.
  /// - Throws: `FormatError`.
  public init(_ file: FileBytes) throws(FormatError) {
    let parsed = try file.withUnsafeBytes { (raw) throws(FormatError) in try Self.parse(raw, file: file.name) }
    bytes = file
    entries = parsed.entries
    metadata = parsed.metadata
    indices = Dictionary(uniqueKeysWithValues: parsed.entries.indices.map { (parsed.entries[$0].name, $0) })
  }

  /// The tensor of that name.
  public subscript(name: String) -> Entry? { indices[name].map { entries[$0] } }

  /// Calls `body` with the bytes of a tensor's elements: row-major, little-endian, not necessarily aligned, valid during the
  /// call only.
  /// - Throws: `FormatError` when the file has no tensor of that name, or its element type is one that Apus lacks; what `body` throws.
  public func withUnsafeBytes<Result>(of name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    guard let entry = self[name] else {
      throw FormatError(.missing, file: bytes.name, part: name, "the file has no tensor of this name")
    }
    guard entry.dataType.isSupported else {
      throw FormatError(
        .unsupported, file: bytes.name, part: name, offset: entry.range.lowerBound,
        "elements of type \(entry.dataType.rawValue) cannot be loaded")
    }
    return try bytes.withUnsafeBytes { raw in try body(UnsafeRawBufferPointer(rebasing: raw[entry.range])) }
  }
}

extension SafetensorsFile {
  private static func parse(
    _ raw: UnsafeRawBufferPointer, file: String
  ) throws(FormatError) -> (entries: [Entry], metadata: [String: String]) {
    guard raw.count >= 8 else {
      throw FormatError(.truncated, file: file, offset: raw.count, "a safetensors file begins with 8 bytes of header length")
    }
    let declared = UInt64(littleEndian: raw.loadUnaligned(as: UInt64.self))
    guard declared <= UInt64(headerLimit) else {
      throw FormatError(
        .limitExceeded, file: file, offset: 0, "a header of \(declared) bytes; at most \(headerLimit) are accepted")
    }
    let headerEnd = 8 + Int(declared)
    guard headerEnd <= raw.count else {
      throw FormatError(
        .truncated, file: file, offset: raw.count, "the header should end at byte \(headerEnd), beyond the end of the file")
    }
    guard declared > 0, raw[8] == UInt8(ascii: "{") else {
      throw FormatError(.malformed, file: file, offset: 8, "the header does not begin with '{'")
    }
    let header = UnsafeRawBufferPointer(rebasing: raw[8..<headerEnd])
    // The deepest legal value is a tensor's list of numbers. Two million values are some 200,000 tensors.
    guard
      case .object(let object) = try JSONValue(
        parsing: header, file: file, base: 8, limits: JSONLimits(depth: 8, values: 2_000_000))
    else { throw FormatError(.malformed, file: file, offset: 8, "the header is not an object") }

    var entries: [Entry] = []
    entries.reserveCapacity(object.count)
    var metadata: [String: String] = [:]
    for key in object.keys {
      let fields = HeaderFields(file: file, name: key, offset: object.position(of: key) ?? 8, value: object[key]!)
      if key == "__metadata__" {
        metadata = try fields.metadata()
      } else {
        entries.append(try fields.entry(dataStart: headerEnd, fileEnd: raw.count))
      }
    }
    // By beginning, then end: empty tensors come before the one whose beginning they share.
    entries.sort {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }
    try checkCoverage(entries, from: headerEnd, to: raw.count, file: file)
    return (entries, metadata)
  }

  /// The tensors must cover the data exactly, each byte once.
  private static func checkCoverage(_ entries: [Entry], from start: Int, to end: Int, file: String) throws(FormatError) {
    var covered = start
    for entry in entries {
      let begin = entry.range.lowerBound
      guard begin <= covered else {
        throw FormatError(
          .hole, file: file, part: entry.name, offset: covered, "\(begin - covered) bytes before this tensor belong to no tensor")
      }
      guard begin == covered else {
        throw FormatError(
          .overlap, file: file, part: entry.name, offset: begin,
          "begins inside the bytes of another tensor, which end at \(covered)")
      }
      covered = entry.range.upperBound
    }
    guard covered == end else {
      throw FormatError(.trailingBytes, file: file, offset: covered, "\(end - covered) bytes follow the last tensor")
    }
  }
}

/// The description of one tensor in the header.
private struct HeaderFields {
  let file: String
  let name: String
  let offset: Int
  let value: JSONValue

  func error(_ kind: FormatError.Kind, _ message: String) -> FormatError {
    FormatError(kind, file: file, part: name, offset: offset, message)
  }

  func metadata() throws(FormatError) -> [String: String] {
    // The reference implementation takes null for absent.
    if value == .null { return [:] }
    guard let object = value.object else { throw error(.invalidEntry, "is not an object") }
    var result: [String: String] = [:]
    for key in object.keys {
      guard let text = object[key]?.string else {
        throw error(.invalidEntry, "the value of '\(FormatError.excerpt(key))' is not a string")
      }
      result[key] = text
    }
    return result
  }

  func entry(dataStart: Int, fileEnd: Int) throws(FormatError) -> SafetensorsFile.Entry {
    guard let object = value.object else { throw error(.invalidEntry, "the tensor's description is not an object") }
    guard let typeName = try member("dtype", of: object).string else {
      throw error(.invalidEntry, "'dtype' is not a string")
    }
    guard let dataType = SafetensorsFile.DataType(rawValue: typeName) else {
      throw error(.unknownType, "the element type '\(FormatError.excerpt(typeName))' is unknown")
    }
    let shape = try naturals("shape", of: object)
    let offsets = try naturals("data_offsets", of: object)
    guard offsets.count == 2 else { throw error(.invalidEntry, "'data_offsets' has \(offsets.count) numbers instead of 2") }
    let (begin, end) = (offsets[0], offsets[1])
    guard begin <= end else { throw error(.invalidRange, "the bytes begin at \(begin), after their end \(end)") }
    guard end <= fileEnd - dataStart else {
      throw error(.invalidRange, "the bytes end at \(end), but the file has only \(fileEnd - dataStart) bytes of data")
    }
    guard let expected = dataType.byteCount(shape: shape) else {
      throw error(
        .overflow,
        "the size of \(typeName) elements of shape \(FormatError.excerpt("\(shape)")) is no whole 64-bit number of bytes")
    }
    guard expected == end - begin else {
      throw error(
        .sizeMismatch,
        "shape \(FormatError.excerpt("\(shape)")) of \(typeName) takes \(expected) bytes, but its offsets span \(end - begin)")
    }
    return SafetensorsFile.Entry(name: name, dataType: dataType, shape: shape, range: dataStart + begin..<dataStart + end)
  }

  private func member(_ key: String, of object: JSONObject) throws(FormatError) -> JSONValue {
    guard let value = object[key] else { throw error(.missing, "'\(key)' is missing") }
    return value
  }

  private func naturals(_ key: String, of object: JSONObject) throws(FormatError) -> [Int] {
    guard let values = try member(key, of: object).array else { throw error(.invalidEntry, "'\(key)' is not a list") }
    var result: [Int] = []
    result.reserveCapacity(values.count)
    for value in values {
      guard let number = value.integer, number >= 0 else {
        throw error(.invalidEntry, "'\(key)' contains something other than whole numbers from 0 to 2^63 - 1")
      }
      result.append(number)
    }
    return result
  }
}
