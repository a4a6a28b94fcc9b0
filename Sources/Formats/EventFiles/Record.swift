/// TFRecord's framing: length (8 bytes, little-endian), the length's masked checksum (4), the content, the content's masked checksum (4).
package enum TFRecord {
  package static let headerSize = 12
  package static let footerSize = 4

  /// The bytes of one record.
  package static func framed(_ content: [UInt8]) -> [UInt8] {
    var record: [UInt8] = []
    record.reserveCapacity(content.count + headerSize + footerSize)
    withUnsafeBytes(of: UInt64(content.count).littleEndian) { length in
      record += length
      append(CRC32C.masked(length), to: &record)
    }
    record += content
    append(content.withUnsafeBytes { CRC32C.masked($0) }, to: &record)
    return record
  }

  private static func append(_ value: UInt32, to record: inout [UInt8]) {
    withUnsafeBytes(of: value.littleEndian) { record += $0 }
  }
}
