/// Reading of tape archives (POSIX.1-1988 ustar and the older form): the contents of files in them, by name.
package enum Tar {
  private static let block = 512

  /// The content of the regular file whose path is `name` or ends in `/name`; the first of them.
  /// - Throws: `FormatError` if there is none, or the archive is damaged before it.
  package static func content(of name: String, in archive: [UInt8], file: String) throws(FormatError) -> [UInt8] {
    var at = 0
    while at + block <= archive.count {
      let header = archive[at..<at + block]
      if header.allSatisfy({ $0 == 0 }) { break }
      guard octal(header[(at + 148)..<(at + 156)]) == checksum(header) else {
        throw FormatError(.checksumMismatch, file: file, offset: at, "tar: a header does not match its checksum")
      }
      guard let size = octal(header[(at + 124)..<(at + 136)]) else {
        throw FormatError(.malformed, file: file, offset: at + 124, "tar: a size is not an octal number")
      }
      let start = at + block
      guard size <= archive.count - start else {
        throw FormatError(
          .truncated, file: file, offset: archive.count, "tar: \(size) bytes are promised, \(archive.count - start) follow")
      }
      // '0' and zero are regular files; names longer than 100 bytes have no place in this form and are passed over.
      let kind = header[at + 156]
      if kind == 0x30 || kind == 0 {
        let path = text(header[at..<(at + 100)])
        if path == name || path.hasSuffix("/" + name) { return Array(archive[start..<(start + size)]) }
      }
      at = start + (size + block - 1) / block * block
    }
    throw FormatError(.missing, file: file, part: name, "the archive has no such file")
  }

  private static func text(_ field: ArraySlice<UInt8>) -> String {
    String(decoding: field.prefix { $0 != 0 }, as: UTF8.self)
  }

  /// Octal digits with spaces around them; nil for anything else.
  private static func octal(_ field: ArraySlice<UInt8>) -> Int? {
    let digits = field.drop { $0 == 0x20 }.prefix { $0 != 0 && $0 != 0x20 }
    guard !digits.isEmpty, digits.count <= 12, digits.allSatisfy({ (0x30...0x37).contains($0) }) else { return nil }
    return digits.reduce(0) { $0 << 3 | Int($1 - 0x30) }
  }

  /// The sum of the header's bytes, with spaces for the sum itself.
  private static func checksum(_ header: ArraySlice<UInt8>) -> Int {
    let own = (header.startIndex + 148)..<(header.startIndex + 156)
    return header.indices.reduce(0) { $0 + (own.contains($1) ? 0x20 : Int(header[$1])) }
  }
}
