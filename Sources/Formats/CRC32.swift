/// The checksum of gzip, zip and PNG: CRC-32 with the reflected polynomial 0xEDB88320 (RFC 1952, section 8).
package struct CRC32: Sendable {
  private var state: UInt32 = ~0

  package init() {}

  /// The checksum of the bytes so far.
  package var value: UInt32 { ~state }

  /// The checksum of `bytes`.
  package static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var crc = CRC32()
    crc.update(bytes)
    return crc.value
  }

  /// Eight tables, so that eight bytes are taken per step ("slicing by 8"): table k advances a byte over k zero bytes.
  private static let tables: [UInt32] = {
    var tables = [UInt32](repeating: 0, count: 8 * 256)
    for index in 0..<256 {
      var crc = UInt32(index)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xedb8_8320 : crc >> 1 }
      tables[index] = crc
    }
    for index in 256..<8 * 256 {
      let previous = tables[index - 256]
      tables[index] = previous >> 8 ^ tables[Int(previous & 0xff)]
    }
    return tables
  }()

  /// Takes in more bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard var next = bytes.baseAddress else { return }
    var left = bytes.count
    var crc = state
    Self.tables.withUnsafeBufferPointer { tables in
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
    state = crc
  }
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
