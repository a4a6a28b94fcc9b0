/// The checksum of gzip, zip and PNG: CRC-32 with the reflected polynomial 0xEDB88320 (RFC 1952, section 8).
package struct CRC32: Sendable {
  private var state: UInt32 = ~0
  private static let tables = slicingTables(0xedb8_8320)

  package init() {}

  /// The checksum of the bytes so far.
  package var value: UInt32 { ~state }

  /// Takes in more bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) { state = advanced(state, over: bytes, by: Self.tables) }

  /// The checksum of `bytes`.
  package static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 { ~advanced(~0, over: bytes, by: tables) }
}

/// The checksum of TFRecord files: CRC-32C (Castagnoli) with the reflected polynomial 0x82F63B78 (RFC 3720, appendix B.4).
package enum CRC32C {
  private static let tables = slicingTables(0x82f6_3b78)

  /// The checksum of `bytes`.
  package static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 { ~advanced(~0, over: bytes, by: tables) }

  /// The checksum as records store it: turned and shifted, because a checksum of bytes that hold their own checksum is a poor one.
  package static func masked(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    let crc = checksum(bytes)
    return (crc >> 15 | crc << 17) &+ 0xa282_ead8
  }
}

/// Eight tables, so that eight bytes are taken per step ("slicing by 8"): table k advances a byte over k zero bytes.
private func slicingTables(_ polynomial: UInt32) -> [UInt32] {
  var tables = [UInt32](repeating: 0, count: 8 * 256)
  for index in 0..<256 {
    var crc = UInt32(index)
    for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ polynomial : crc >> 1 }
    tables[index] = crc
  }
  for index in 256..<8 * 256 {
    let previous = tables[index - 256]
    tables[index] = previous >> 8 ^ tables[Int(previous & 0xff)]
  }
  return tables
}

private func advanced(_ state: UInt32, over bytes: UnsafeRawBufferPointer, by tables: [UInt32]) -> UInt32 {
  guard var next = bytes.baseAddress else { return state }
  var left = bytes.count
  var crc = state
  tables.withUnsafeBufferPointer { tables in
    let table = tables.baseAddress!
    while left >= 8 {
      let word = UInt64(littleEndian: next.loadUnaligned(as: UInt64.self)) ^ UInt64(crc)
      let low =
        table[7 * 256 &+ Int(word & 0xff)] ^ table[6 * 256 &+ Int(word >> 8 & 0xff)]
        ^ table[5 * 256 &+ Int(word >> 16 & 0xff)] ^ table[4 * 256 &+ Int(word >> 24 & 0xff)]
      let high =
        table[3 * 256 &+ Int(word >> 32 & 0xff)] ^ table[2 * 256 &+ Int(word >> 40 & 0xff)]
        ^ table[256 &+ Int(word >> 48 & 0xff)] ^ table[Int(word >> 56)]
      crc = low ^ high
      next += 8
      left &-= 8
    }
    while left > 0 {
      crc = crc >> 8 ^ table[Int((crc ^ UInt32(next.load(as: UInt8.self))) & 0xff)]
      next += 1
      left &-= 1
    }
  }
  return crc
}

/// The checksum of zlib streams (RFC 1950, section 8).
package func adler32(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
  var (low, high): (UInt32, UInt32) = (1, 0)
  var start = 0
  while start < bytes.count {
    // 5552: the most bytes after which the sums still fit in 32 bits (zlib's NMAX).
    let end = min(start + 5552, bytes.count)
    for index in start..<end {
      low &+= UInt32(bytes[index])
      high &+= low
    }
    low %= 65521
    high %= 65521
    start = end
  }
  return high << 16 | low
}
