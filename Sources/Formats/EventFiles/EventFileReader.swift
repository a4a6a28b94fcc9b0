#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Reads a TensorBoard event file record by record, also one that is still being written.
///
/// ```swift
/// let reader = try EventFileReader("runs/a/events.out.tfevents.1700000000.host.1.0")
/// while let event = try reader.next() { print(event.step, event.content) }
/// if reader.tornBytes > 0 { print("the last record is cut off after \(reader.tornBytes) bytes") }
/// ```
/// Whole records are given out; the beginning of one at the end of the file waits until the rest is there, so ``next()`` may be called
/// again when the file has grown. Not for use from several tasks at once.
public final class EventFileReader {
  public let path: String
  /// Where the next record begins.
  public private(set) var offset = 0
  /// Bytes at the end, as of the last call, that are no whole record: the writer is at work, or was stopped there.
  public private(set) var tornBytes = 0
  /// Longer records are refused.
  private let limit: Int
  private let descriptor: Int32
  private var damage: FormatError?
  /// A piece of the file, so that small records take no system call each.
  private var buffer: [UInt8] = []
  private var bufferStart = 0
  private static let bufferSize = 1 << 18

  /// Opens the file at `path`.
  /// - Parameters:
  ///   - offset: where to begin, an ``offset`` of an earlier reader.
  ///   - limit: the most bytes accepted in one record.
  public init(_ path: String, offset: Int = 0, limit: Int = 1 << 30) throws(FormatError) {
    self.path = path
    self.offset = offset
    self.limit = limit
    // Non-blocking: a named pipe must not wait for a writer.
    descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FormatError(.cannotRead, file: path, "cannot be opened: \(systemMessage(errno))") }
    var status = stat()
    guard fstat(descriptor, &status) == 0, (status.st_mode & S_IFMT) == S_IFREG else {
      close(descriptor)
      throw FormatError(.cannotRead, file: path, "is not a regular file")
    }
  }

  deinit { close(descriptor) }

  /// The next event; nil at the end of what is there now.
  /// - Throws: `FormatError`. After a record whose content is damaged, reading goes on behind it; after a damaged length nothing
  ///   more can be found, and the error is thrown again.
  public func next() throws(FormatError) -> Event? {
    let start = offset
    guard let content = try nextRecord() else { return nil }
    return try content.withUnsafeBufferPointer { (bytes) throws(FormatError) in
      try Event(parsing: UnsafeRawBufferPointer(bytes), file: path, base: start + TFRecord.headerSize)
    }
  }

  /// The next record's content; nil at the end of what is there now.
  package func nextRecord() throws(FormatError) -> [UInt8]? {
    if let damage { throw damage }
    let header = try bytes(at: offset, TFRecord.headerSize)
    guard header.count == TFRecord.headerSize else {
      tornBytes = header.count
      return nil
    }
    let (length, sum, expected) = header.withUnsafeBytes { bytes in
      (
        UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)),
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)),
        CRC32C.masked(UnsafeRawBufferPointer(rebasing: bytes[..<8]))
      )
    }
    guard sum == expected else {
      throw stopped(.checksumMismatch, "a record's length does not match its checksum: the file is damaged from here on")
    }
    guard length <= UInt64(limit) else {
      throw stopped(.limitExceeded, "a record of \(length) bytes; \(limit) are accepted")
    }
    // The content is only fetched when all of it is there: a length costs no memory.
    let total = TFRecord.headerSize + Int(length) + TFRecord.footerSize
    let available = try size() - offset
    guard available >= total else {
      tornBytes = max(0, available)
      return nil
    }
    let record = try bytes(at: offset + TFRecord.headerSize, Int(length) + TFRecord.footerSize)
    guard record.count == Int(length) + TFRecord.footerSize else {
      tornBytes = TFRecord.headerSize + record.count
      return nil
    }
    let start = offset
    offset += total
    tornBytes = 0
    let isWhole = record.withUnsafeBytes { bytes in
      UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: Int(length), as: UInt32.self))
        == CRC32C.masked(UnsafeRawBufferPointer(rebasing: bytes[..<Int(length)]))
    }
    guard isWhole else {
      throw FormatError(.checksumMismatch, file: path, offset: start, "a record's content does not match its checksum")
    }
    return Array(record.dropLast(TFRecord.footerSize))
  }

  private func stopped(_ kind: FormatError.Kind, _ message: String) -> FormatError {
    let error = FormatError(kind, file: path, offset: offset, message)
    damage = error
    return error
  }

  private func size() throws(FormatError) -> Int {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw FormatError(.cannotRead, file: path, "cannot be examined: \(systemMessage(errno))")
    }
    return Int(status.st_size)
  }

  /// Up to `count` bytes from `position`, fewer at the end of the file.
  private func bytes(at position: Int, _ count: Int) throws(FormatError) -> ArraySlice<UInt8> {
    if position < bufferStart || position + count > bufferStart + buffer.count {
      buffer = try read(at: position, max(count, Self.bufferSize))
      bufferStart = position
    }
    let start = position - bufferStart
    return buffer[start..<min(start + count, buffer.count)]
  }

  private func read(at position: Int, _ count: Int) throws(FormatError) -> [UInt8] {
    var failure: Int32 = 0
    let result = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = pread(descriptor, buffer.baseAddress! + filled, count - filled, off_t(position + filled))
        if got < 0, errno == EINTR { continue }
        if got < 0 { failure = errno }
        if got <= 0 { return }
        filled += got
      }
    }
    guard failure == 0 else {
      throw FormatError(.cannotRead, file: path, offset: position, "cannot be read: \(systemMessage(failure))")
    }
    return result
  }
}
