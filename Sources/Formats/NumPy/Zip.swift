/// A zip archive opened for reading (PKWARE's APPNOTE 6.3): entries stored or deflated, with zip64.
///
/// Opening reads the central directory and checks every entry's place: inside the file, with a local header of the same name,
/// without overlaps. Names are relative paths without `..`; nothing is ever written under them.
package struct ZipFile: Sendable {
  package struct Entry: Sendable, Equatable {
    package let name: String
    package let isDeflated: Bool
    package let crc: UInt32
    /// Bytes of content.
    package let count: Int
    /// Where the content lies in the file, perhaps compressed.
    let range: Range<Int>
  }

  package let bytes: FileBytes
  package let entries: [Entry]
  private let limit: Int

  /// - Parameter limit: the most bytes of content accepted for one entry, against small files that expand without end.
  package init(_ bytes: FileBytes, limit: Int = 1 << 36) throws(FormatError) {
    self.bytes = bytes
    self.limit = limit
    entries = try bytes.withUnsafeBytes { (raw) throws(FormatError) in
      var reader = ZipReader(bytes: raw, file: bytes.name)
      return try reader.entries()
    }
  }

  /// Calls `body` with an entry's content, checked against its length and checksum.
  /// - Throws: ``FormatError``, and what `body` throws.
  package func withContent<R>(of entry: Entry, _ body: (UnsafeRawBufferPointer) throws(FormatError) -> R) throws(FormatError) -> R
  {
    func error(_ kind: FormatError.Kind, _ message: String) -> FormatError {
      FormatError(kind, file: bytes.name, part: entry.name, offset: entry.range.lowerBound, message)
    }
    guard entry.count <= limit else {
      throw error(.limitExceeded, "\(entry.count) bytes of content; at most \(limit) are accepted")
    }
    return try bytes.withUnsafeBytes { (raw) throws(FormatError) in
      let stored = UnsafeRawBufferPointer(rebasing: raw[entry.range])
      func checked(_ content: UnsafeRawBufferPointer) throws(FormatError) -> R {
        guard CRC32.checksum(content) == entry.crc else {
          throw error(.checksumMismatch, "the content does not match its CRC-32")
        }
        return try body(content)
      }
      if !entry.isDeflated { return try checked(stored) }
      // 64: arrays are read from here. The size is at most 1,032 times that of the entry's bytes.
      let content = UnsafeMutableRawBufferPointer.allocate(byteCount: max(entry.count, 1), alignment: 64)
      defer { content.deallocate() }
      let target = UnsafeMutableRawBufferPointer(rebasing: content[..<entry.count])
      guard let end = try Inflate.run(stored, from: 0, into: target, at: 0, file: bytes.name) else {
        throw error(.sizeMismatch, "the content is longer than the \(entry.count) bytes that the archive says")
      }
      guard end.outputEnd == entry.count else {
        throw error(.sizeMismatch, "the content has \(end.outputEnd) bytes, but the archive says \(entry.count)")
      }
      guard end.inputEnd == stored.count else {
        throw error(.trailingBytes, "\(stored.count - end.inputEnd) bytes follow the end of the compressed data")
      }
      return try checked(UnsafeRawBufferPointer(target))
    }
  }
}

private struct ZipReader {
  let bytes: UnsafeRawBufferPointer
  let file: String

  func u16(_ at: Int) -> Int { Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self))) }
  func u32(_ at: Int) -> Int { Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))) }
  func u64(_ at: Int) throws(FormatError) -> Int {
    let value = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
    guard let small = Int(exactly: value) else { throw error(.overflow, at, "a size of \(value) bytes") }
    return small
  }

  func error(_ kind: FormatError.Kind, _ offset: Int, _ message: String) -> FormatError {
    FormatError(kind, file: file, offset: offset, "zip: " + message)
  }

  /// Where the central directory lies, and how many entries it has.
  func directory() throws(FormatError) -> (range: Range<Int>, count: Int) {
    guard bytes.count >= 22 else { throw error(.truncated, bytes.count, "too short for an archive") }
    var end = bytes.count - 22
    let lowest = max(0, end - 65_535)
    while end >= lowest, u32(end) != 0x0605_4b50 || end + 22 + u16(end + 20) != bytes.count { end -= 1 }
    guard end >= lowest else {
      throw error(u32(0) == 0x0403_4b50 ? .truncated : .malformed, bytes.count, "there is no end of a central directory")
    }
    var (count, size, start, limit) = (u16(end + 10), u32(end + 12), u32(end + 16), end)
    var isOneDisk = u16(end + 4) == 0 && u16(end + 6) == 0 && u16(end + 8) == count
    if count == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
      guard end >= 20, u32(end - 20) == 0x0706_4b50 else {
        if count == 0xffff && size != 0xffff_ffff && start != 0xffff_ffff { return try placed(count, size, start, limit) }
        throw error(.missing, end, "the zip64 end of the directory is missing")
      }
      let place = try u64(end - 12)
      guard place <= end - 20 - 56, u32(place) == 0x0606_4b50 else {
        throw error(.invalidRange, end - 12, "the zip64 end of the directory is not where it should be")
      }
      isOneDisk = u32(end - 16) == 0 && u32(end - 4) <= 1 && u32(place + 16) == 0 && u32(place + 20) == 0
      (count, size, start, limit) = (try u64(place + 32), try u64(place + 40), try u64(place + 48), place)
      if try u64(place + 24) != count { isOneDisk = false }
    }
    guard isOneDisk else { throw error(.unsupported, end, "archives in several parts cannot be read") }
    return try placed(count, size, start, limit)
  }

  private func placed(_ count: Int, _ size: Int, _ start: Int, _ limit: Int) throws(FormatError) -> (
    range: Range<Int>, count: Int
  ) {
    guard start <= limit, size == limit - start else {
      throw error(.invalidRange, limit, "the central directory of \(size) bytes from \(start) does not end at \(limit)")
    }
    guard count <= size / 46 else {
      throw error(.sizeMismatch, start, "\(count) entries do not fit in a directory of \(size) bytes")
    }
    return (start..<limit, count)
  }

  mutating func entries() throws(FormatError) -> [ZipFile.Entry] {
    let (directory, count) = try directory()
    var entries: [ZipFile.Entry] = []
    entries.reserveCapacity(count)
    var spans: [(range: Range<Int>, name: String)] = []
    var names: Set<String> = []
    var next = directory.lowerBound
    for _ in 0..<count {
      guard directory.upperBound - next >= 46 else { throw error(.truncated, next, "the central directory ends too early") }
      guard u32(next) == 0x0201_4b50 else { throw error(.malformed, next, "no entry of the central directory begins here") }
      let lengths = (u16(next + 28), u16(next + 30), u16(next + 32))
      let end = next + 46 + lengths.0 + lengths.1 + lengths.2
      guard end <= directory.upperBound else { throw error(.truncated, next, "an entry reaches beyond the central directory") }
      let name = try self.name(next + 46, lengths.0)
      guard names.insert(name).inserted else {
        throw FormatError(.duplicateKey, file: file, part: name, offset: next, "zip: two entries have this name")
      }
      let (entry, span) = try entry(next, name, extra: (next + 46 + lengths.0)..<(next + 46 + lengths.0 + lengths.1), directory)
      // Folders have no content.
      if !name.hasSuffix("/") { entries.append(entry) }
      spans.append((span, name))
      next = end
    }
    guard next == directory.upperBound else { throw error(.trailingBytes, next, "bytes follow the last entry of the directory") }
    spans.sort { $0.range.lowerBound < $1.range.lowerBound }
    for (a, b) in zip(spans, spans.dropFirst()) where b.range.lowerBound < a.range.upperBound {
      throw FormatError(
        .overlap, file: file, part: b.name, offset: b.range.lowerBound, "zip: the entry begins inside of another one")
    }
    return entries
  }

  private func name(_ at: Int, _ length: Int) throws(FormatError) -> String {
    guard let name = String(validating: bytes[at..<(at + length)], as: UTF8.self) else {
      throw error(.invalidUTF8, at, "the name of an entry is not valid UTF-8")
    }
    let parts = name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    let isSafe =
      !name.isEmpty && !name.utf8.contains(0) && !name.utf8.contains(UInt8(ascii: "\\")) && !name.hasPrefix("/")
      && !parts.contains { $0.elementsEqual("..".utf8) }
    guard isSafe else {
      throw FormatError(.unsafePath, file: file, part: name, offset: at, "zip: the name of an entry leads out of the archive")
    }
    return name
  }

  private func entry(
    _ at: Int, _ name: String, extra: Range<Int>, _ directory: Range<Int>
  ) throws(FormatError) -> (entry: ZipFile.Entry, span: Range<Int>) {
    func fail(_ kind: FormatError.Kind, _ offset: Int, _ message: String) -> FormatError {
      FormatError(kind, file: file, part: name, offset: offset, "zip: " + message)
    }
    let (flags, method) = (u16(at + 8), u16(at + 10))
    guard flags & 0x2041 == 0 else { throw fail(.unsupported, at + 8, "encrypted entries cannot be read") }
    guard method == 0 || method == 8 else { throw fail(.unsupported, at + 10, "the compression method \(method) is unknown") }
    guard u32(at + 38) >> 28 != 0o12 else { throw fail(.unsupported, at + 38, "the entry is a symbolic link") }
    var (packed, count, local) = (u32(at + 20), u32(at + 24), u32(at + 42))
    if packed == 0xffff_ffff || count == 0xffff_ffff || local == 0xffff_ffff || u16(at + 34) == 0xffff {
      var field = try zip64(extra, fail)
      func take(_ value: inout Int) throws(FormatError) {
        guard value == 0xffff_ffff else { return }
        guard field.count >= 8 else { throw fail(.truncated, field.lowerBound, "a zip64 size is missing") }
        value = try u64(field.lowerBound)
        field = (field.lowerBound + 8)..<field.upperBound
      }
      try take(&count)
      try take(&packed)
      try take(&local)
    }
    guard local <= directory.lowerBound - 30 else {
      throw fail(.invalidRange, at + 42, "the local header is outside of the file")
    }
    guard u32(local) == 0x0403_4b50 else { throw fail(.malformed, local, "no local header begins here") }
    let start = local + 30 + u16(local + 26) + u16(local + 28)
    guard start <= directory.lowerBound, packed <= directory.lowerBound - start else {
      throw fail(.truncated, local, "the content of \(packed) bytes reaches beyond the entries")
    }
    guard bytes[(local + 30)..<(local + 30 + u16(local + 26))].elementsEqual(name.utf8), u16(local + 8) == method else {
      throw fail(.invalidEntry, local, "the local header is that of another entry")
    }
    if flags & 8 == 0 {
      let (localPacked, localCount) = (u32(local + 18), u32(local + 22))
      guard localPacked == packed || localPacked == 0xffff_ffff, localCount == count || localCount == 0xffff_ffff,
        u32(local + 14) == u32(at + 16)
      else { throw fail(.sizeMismatch, local, "the local header says other sizes or another checksum than the directory") }
    }
    if method == 0 {
      guard packed == count else {
        throw fail(.sizeMismatch, at + 20, "stored as it is, but \(packed) bytes in the archive are said to be \(count)")
      }
    } else {
      // DEFLATE expands at most 1,032-fold.
      guard count / 1032 <= packed else {
        throw fail(.limitExceeded, at + 24, "\(packed) compressed bytes cannot be the \(count) that the archive says")
      }
    }
    let entry = ZipFile.Entry(
      name: name, isDeflated: method == 8, crc: UInt32(u32(at + 16)), count: count, range: start..<(start + packed))
    return (entry, local..<(start + packed))
  }

  /// The zip64 field among the extra ones.
  private func zip64(
    _ extra: Range<Int>, _ fail: (FormatError.Kind, Int, String) -> FormatError
  ) throws(FormatError) -> Range<Int> {
    var next = extra.lowerBound
    while extra.upperBound - next >= 4 {
      let (id, size) = (u16(next), u16(next + 2))
      guard size <= extra.upperBound - next - 4 else { throw fail(.truncated, next, "an extra field reaches beyond its entry") }
      if id == 1 { return (next + 4)..<(next + 4 + size) }
      next += 4 + size
    }
    throw fail(.missing, extra.lowerBound, "the zip64 sizes are missing")
  }
}

/// Writes a zip archive of stored entries, with zip64 where sizes or offsets ask for it. The same entries give the same bytes.
package struct ZipWriter: ~Copyable {
  private let file: AtomicFile
  private var directory: [UInt8] = []
  private var entryCount = 0

  package init(_ file: AtomicFile) { self.file = file }

  /// Adds an entry; `parts` are its consecutive bytes.
  package mutating func add(_ name: String, _ parts: [UnsafeRawBufferPointer]) throws(FormatError) {
    var crc = CRC32()
    var count = 0
    for part in parts {
      crc.update(part)
      count += part.count
    }
    let nameBytes = Array(name.utf8)
    guard nameBytes.count <= 0xffff else {
      throw FormatError(.limitExceeded, file: file.path, part: name, "a name of \(nameBytes.count) bytes")
    }
    let start = file.count
    let isLarge = count >= 0xffff_ffff
    let isFar = start >= 0xffff_ffff
    let isASCII = nameBytes.allSatisfy { $0 < 0x80 }
    // Version 4.5 for zip64; UTF-8 names by flag; 1980-01-01 as the date.
    var common: [UInt8] = []
    Self.append(&common, isLarge || isFar ? 45 : 20, 2)
    Self.append(&common, isASCII ? 0 : 0x800, 2)
    Self.append(&common, 0, 2)
    Self.append(&common, 0x0021_0000, 4)
    Self.append(&common, Int(crc.value), 4)
    Self.append(&common, isLarge ? 0xffff_ffff : count, 4)
    Self.append(&common, isLarge ? 0xffff_ffff : count, 4)
    Self.append(&common, nameBytes.count, 2)
    var sizes: [UInt8] = []
    if isLarge {
      Self.append(&sizes, count, 8)
      Self.append(&sizes, count, 8)
    }
    func field(_ content: [UInt8]) -> [UInt8] {
      var extra: [UInt8] = []
      if !content.isEmpty {
        Self.append(&extra, 1, 2)
        Self.append(&extra, content.count, 2)
      }
      return extra + content
    }
    var header: [UInt8] = []
    Self.append(&header, 0x0403_4b50, 4)
    header += common
    let localExtra = field(sizes)
    Self.append(&header, localExtra.count, 2)
    try file.write(header + nameBytes + localExtra)
    for part in parts { try file.write(part) }

    if isFar { Self.append(&sizes, start, 8) }
    let extra = field(sizes)
    Self.append(&directory, 0x0201_4b50, 4)
    Self.append(&directory, 45, 2)
    directory += common
    Self.append(&directory, extra.count, 2)
    // No comment, first disk, no attributes.
    Self.append(&directory, 0, 2)
    Self.append(&directory, 0, 2)
    Self.append(&directory, 0, 2)
    Self.append(&directory, 0, 4)
    Self.append(&directory, isFar ? 0xffff_ffff : start, 4)
    directory += nameBytes + extra
    entryCount += 1
  }

  /// Writes the central directory.
  package consuming func finish() throws(FormatError) {
    let start = file.count
    try file.write(directory)
    var end: [UInt8] = []
    if entryCount >= 0xffff || start >= 0xffff_ffff || directory.count >= 0xffff_ffff {
      let place = start + directory.count
      Self.append(&end, 0x0606_4b50, 4)
      Self.append(&end, 44, 8)
      Self.append(&end, 45, 2)
      Self.append(&end, 45, 2)
      Self.append(&end, 0, 4)
      Self.append(&end, 0, 4)
      Self.append(&end, entryCount, 8)
      Self.append(&end, entryCount, 8)
      Self.append(&end, directory.count, 8)
      Self.append(&end, start, 8)
      Self.append(&end, 0x0706_4b50, 4)
      Self.append(&end, 0, 4)
      Self.append(&end, place, 8)
      Self.append(&end, 1, 4)
    }
    Self.append(&end, 0x0605_4b50, 4)
    Self.append(&end, 0, 4)
    Self.append(&end, min(entryCount, 0xffff), 2)
    Self.append(&end, min(entryCount, 0xffff), 2)
    Self.append(&end, min(directory.count, 0xffff_ffff), 4)
    Self.append(&end, min(start, 0xffff_ffff), 4)
    Self.append(&end, 0, 2)
    try file.write(end)
  }

  private static func append(_ bytes: inout [UInt8], _ value: Int, _ count: Int) {
    for i in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * i))) }
  }
}
