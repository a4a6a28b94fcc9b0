import ApusFormats

/// The content of an IDX file, the format of the MNIST family: an array of one element type.
///
/// Layout: two zero bytes, a type byte, the number of dimensions, the dimensions as big-endian 32-bit integers, the elements in
/// row-major order, big-endian. Definition: "The IDX file format" at http://yann.lecun.com/exdb/mnist/.
public struct IDXFile: Sendable, Equatable {
  /// The element type, with the format's type byte.
  public enum Element: UInt8, Sendable, CaseIterable {
    case uint8 = 0x08
    case int8 = 0x09
    case int16 = 0x0b
    case int32 = 0x0c
    case float32 = 0x0d
    case float64 = 0x0e

    /// The size of an element in bytes.
    public var byteCount: Int {
      switch self {
      case .uint8, .int8: 1
      case .int16: 2
      case .int32, .float32: 4
      case .float64: 8
      }
    }
  }

  /// The element type.
  public let element: Element
  /// The dimensions, outermost first.
  public let dimensions: [Int]
  /// The elements, row-major, in this machine's byte order.
  public let payload: [UInt8]

  /// Reads the bytes of an IDX file. The array is consumed and becomes the payload without a copy if it has no other owner.
  /// - Parameter file: the name for error messages.
  /// - Throws: `FormatError` for a wrong magic number, an unknown type, sizes that overflow, missing or trailing bytes.
  public static func parse(_ bytes: consuming [UInt8], file: String = "bytes") throws(FormatError) -> IDXFile {
    guard bytes.count >= 4 else { throw FormatError(.truncated, file: file, offset: bytes.count, "too short for an IDX file") }
    guard bytes[0] == 0, bytes[1] == 0 else {
      throw FormatError(.malformed, file: file, offset: 0, "an IDX file begins with two zero bytes")
    }
    guard let element = Element(rawValue: bytes[2]) else {
      throw FormatError(.unknownType, file: file, offset: 2, "the IDX element type \(bytes[2]) is unknown")
    }
    let rank = Int(bytes[3])
    let start = 4 + 4 * rank
    guard bytes.count >= start else {
      throw FormatError(.truncated, file: file, offset: bytes.count, "the data ends inside the \(rank) dimensions")
    }
    var dimensions: [Int] = []
    var size = element.byteCount
    for axis in 0..<rank {
      let at = 4 + 4 * axis
      let dimension = bytes[at..<at + 4].reduce(0) { $0 << 8 | Int($1) }
      dimensions.append(dimension)
      let (product, overflow) = size.multipliedReportingOverflow(by: dimension)
      guard !overflow else {
        throw FormatError(.overflow, file: file, offset: at, "the dimensions multiply to more than 2^63 - 1 bytes")
      }
      size = product
    }
    let available = bytes.count - start
    guard available >= size else {
      throw FormatError(
        .truncated, file: file, offset: bytes.count,
        "the dimensions \(dimensions) take \(size) bytes, but only \(available) follow")
    }
    guard available == size else {
      throw FormatError(.trailingBytes, file: file, offset: start + size, "\(available - size) bytes follow the last element")
    }
    bytes.removeFirst(start)
    if element.byteCount > 1 { swapToHost(&bytes, elementSize: element.byteCount) }
    return IDXFile(element: element, dimensions: dimensions, payload: bytes)
  }

  /// Reads an IDX file, gzip-compressed or not.
  /// - Parameter limit: the most bytes of content accepted.
  /// - Throws: `FormatError`.
  public static func read(path: String, limit: Int = 1 << 32) throws(FormatError) -> IDXFile {
    let file = try FileBytes(mapping: path)
    let content = try file.withUnsafeBytes { (raw) throws(FormatError) in
      if Gzip.isGzip(raw) { return try Gzip.decompress(raw, file: path, limit: limit) }
      guard raw.count <= limit else {
        throw FormatError(.limitExceeded, file: path, "the file is larger than the accepted \(limit) bytes")
      }
      return Array(raw)
    }
    return try parse(content, file: path)
  }

  private static func swapToHost(_ bytes: inout [UInt8], elementSize: Int) {
    bytes.withUnsafeMutableBytes { raw in
      for start in stride(from: 0, to: raw.count, by: elementSize) {
        switch elementSize {
        case 2:
          let value = raw.loadUnaligned(fromByteOffset: start, as: UInt16.self)
          raw.storeBytes(of: UInt16(bigEndian: value), toByteOffset: start, as: UInt16.self)
        case 4:
          let value = raw.loadUnaligned(fromByteOffset: start, as: UInt32.self)
          raw.storeBytes(of: UInt32(bigEndian: value), toByteOffset: start, as: UInt32.self)
        default:
          let value = raw.loadUnaligned(fromByteOffset: start, as: UInt64.self)
          raw.storeBytes(of: UInt64(bigEndian: value), toByteOffset: start, as: UInt64.self)
        }
      }
    }
  }
}
