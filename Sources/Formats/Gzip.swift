/// Reading of gzip files (RFC 1952).
package enum Gzip {
  /// Whether the bytes begin as a gzip file does.
  package static func isGzip(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.count >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b
  }

  /// The content of a gzip file (of all its members), with lengths and checksums verified.
  /// - Parameters:
  ///   - limit: the most bytes of content accepted, against small files that expand without end.
  package static func decompress(
    _ input: UnsafeRawBufferPointer, file: String, limit: Int = 1 << 32
  ) throws(FormatError) -> [UInt8] {
    guard input.count >= 18 else { throw FormatError(.truncated, file: file, offset: input.count, "too short for a gzip file") }
    // The last four bytes are the content's length if there is one member; DEFLATE expands at most 1,032-fold.
    let declared = Int(UInt32(littleEndian: input.loadUnaligned(fromByteOffset: input.count - 4, as: UInt32.self)))
    let plausible = declared <= input.count * 1032
    return try decompressGrowing(from: plausible ? declared : input.count * 4, limit: limit, file: file) {
      (output) throws(FormatError) in try members(of: input, into: output, file: file)
    }
  }

  /// Decodes all members; nil when the output is full.
  private static func members(
    of input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer, file: String
  ) throws(FormatError) -> Int? {
    var (next, out) = (0, 0)
    repeat {
      next = try headerEnd(input, from: next, file: file)
      guard let end = try Inflate.run(input, from: next, into: output, at: out, file: file) else { return nil }
      guard input.count - end.inputEnd >= 8 else {
        throw FormatError(.truncated, file: file, offset: input.count, "gzip: the checksum at the end is missing")
      }
      let crc = UInt32(littleEndian: input.loadUnaligned(fromByteOffset: end.inputEnd, as: UInt32.self))
      let size = UInt32(littleEndian: input.loadUnaligned(fromByteOffset: end.inputEnd + 4, as: UInt32.self))
      guard size == UInt32(truncatingIfNeeded: end.outputEnd - out) else {
        throw FormatError(
          .sizeMismatch, file: file, offset: end.inputEnd + 4,
          "gzip: the content has \(end.outputEnd - out) bytes, but the file says \(size) (modulo 2^32)")
      }
      guard crc == CRC32.checksum(UnsafeRawBufferPointer(rebasing: output[out..<end.outputEnd])) else {
        throw FormatError(.checksumMismatch, file: file, offset: end.inputEnd, "gzip: the content does not match its CRC-32")
      }
      (next, out) = (end.inputEnd + 8, end.outputEnd)
      // Tapes and some archivers pad with zeros.
      if input[next...].allSatisfy({ $0 == 0 }) { next = input.count }
    } while next < input.count
    return out
  }

  private static func headerEnd(
    _ input: UnsafeRawBufferPointer, from start: Int, file: String
  ) throws(FormatError) -> Int {
    let truncated = FormatError(.truncated, file: file, offset: input.count, "gzip: the data ends inside a header")
    guard input.count - start >= 2 else { throw truncated }
    guard input[start] == 0x1f, input[start + 1] == 0x8b else {
      throw FormatError(
        start == 0 ? .malformed : .trailingBytes, file: file, offset: start,
        start == 0 ? "not a gzip file" : "gzip: bytes follow the end that begin no further member")
    }
    guard input.count - start >= 10 else { throw truncated }
    guard input[start + 2] == 8 else {
      throw FormatError(
        .unknownType, file: file, offset: start + 2, "gzip: the compression method \(input[start + 2]) is unknown")
    }
    let flags = input[start + 3]
    guard flags & 0xe0 == 0 else {
      throw FormatError(.malformed, file: file, offset: start + 3, "gzip: reserved flags are set")
    }
    var next = start + 10
    if flags & 4 != 0 {
      guard input.count - next >= 2 else { throw truncated }
      next += 2 + Int(UInt16(littleEndian: input.loadUnaligned(fromByteOffset: next, as: UInt16.self)))
    }
    // A name, then a comment, each ended by a zero byte.
    for flag in [UInt8(8), 16] where flags & flag != 0 {
      guard next < input.count, let zero = input[next...].firstIndex(of: 0) else { throw truncated }
      next = zero + 1
    }
    if flags & 2 != 0 {
      guard input.count - next >= 2 else { throw truncated }
      let expected = UInt16(littleEndian: input.loadUnaligned(fromByteOffset: next, as: UInt16.self))
      let actual = CRC32.checksum(UnsafeRawBufferPointer(rebasing: input[start..<next]))
      guard expected == UInt16(truncatingIfNeeded: actual) else {
        throw FormatError(.checksumMismatch, file: file, offset: next, "gzip: the header does not match its checksum")
      }
      next += 2
    }
    guard next < input.count else { throw truncated }
    return next
  }
}

/// Reading of zlib streams (RFC 1950), as in PNG.
package enum Zlib {
  /// The content of a zlib stream that fills `input`, with its checksum verified.
  package static func decompress(
    _ input: UnsafeRawBufferPointer, file: String, sizeHint: Int = 0, limit: Int = 1 << 32
  ) throws(FormatError) -> [UInt8] {
    guard input.count >= 6 else { throw FormatError(.truncated, file: file, offset: input.count, "too short for zlib data") }
    let header = Int(input[0]) << 8 | Int(input[1])
    guard header % 31 == 0, input[0] >> 4 <= 7 else {
      throw FormatError(.malformed, file: file, offset: 0, "zlib: the header fails its check")
    }
    guard input[0] & 15 == 8 else {
      throw FormatError(.unknownType, file: file, offset: 0, "zlib: the compression method \(input[0] & 15) is unknown")
    }
    guard input[1] & 0x20 == 0 else {
      throw FormatError(.unsupported, file: file, offset: 1, "zlib: a preset dictionary is needed")
    }
    let hint = sizeHint > 0 ? sizeHint : input.count * 4
    return try decompressGrowing(from: hint, limit: limit, file: file) { (output) throws(FormatError) in
      guard let end = try Inflate.run(input, from: 2, into: output, at: 0, file: file) else { return nil }
      guard input.count - end.inputEnd >= 4 else {
        throw FormatError(.truncated, file: file, offset: input.count, "zlib: the checksum at the end is missing")
      }
      let expected = UInt32(bigEndian: input.loadUnaligned(fromByteOffset: end.inputEnd, as: UInt32.self))
      guard expected == adler32(UnsafeRawBufferPointer(rebasing: output[..<end.outputEnd])) else {
        throw FormatError(.checksumMismatch, file: file, offset: end.inputEnd, "zlib: the content does not match its checksum")
      }
      guard end.inputEnd + 4 == input.count else {
        throw FormatError(.trailingBytes, file: file, offset: end.inputEnd + 4, "zlib: bytes follow the end")
      }
      return end.outputEnd
    }
  }
}

/// Runs `body` on an output of the expected size; when that proves too small, again on one twice as large, up to the limit.
private func decompressGrowing(
  from hint: Int, limit: Int, file: String, _ body: (UnsafeMutableRawBufferPointer) throws(FormatError) -> Int?
) throws(FormatError) -> [UInt8] {
  var capacity = min(max(hint, 1), limit)
  while true {
    var failure: FormatError?
    var isFull = false
    let result = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
      do throws(FormatError) {
        let output = UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: capacity)
        if let produced = try body(output) { count = produced } else { isFull = true }
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    if !isFull { return result }
    guard capacity < limit else {
      throw FormatError(.limitExceeded, file: file, "the content is larger than the accepted \(limit) bytes")
    }
    capacity = min(limit, capacity * 2)
  }
}
