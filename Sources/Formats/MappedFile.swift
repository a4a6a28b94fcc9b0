#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Bytes that stay in place as long as this object lives: a read-only mapping of a file, or an array.
///
/// A mapped file must not be shortened by somebody else while it is in use (the system stops a process that reads a page
/// that is gone); Apus itself replaces files only by renaming, which leaves existing mappings whole.
public final class FileBytes: @unchecked Sendable {
  // Unchecked: the bytes are never written after initialization.

  /// The path the bytes come from, or a word for bytes that come from no file.
  public let name: String
  /// All bytes; valid only while this object is alive.
  package let bytes: UnsafeRawBufferPointer
  private let isMapped: Bool

  /// Maps the regular file at `path` for reading.
  /// - Throws: `FormatError` when it cannot be opened or is not a regular file.
  public init(mapping path: String) throws(FormatError) {
    // Non-blocking: opening a named pipe must fail, not wait for a writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw FormatError(.cannotRead, file: path, "cannot be opened: \(systemMessage(errno))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw FormatError(.cannotRead, file: path, "cannot be examined: \(systemMessage(errno))")
    }
    guard (status.st_mode & S_IFMT) == S_IFREG else {
      throw FormatError(.cannotRead, file: path, "is not a regular file")
    }
    name = path
    let count = Int(status.st_size)
    if count == 0 {
      (bytes, isMapped) = (UnsafeRawBufferPointer(start: nil, count: 0), false)
      return
    }
    guard let address = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
      throw FormatError(.cannotRead, file: path, "cannot be mapped into memory: \(systemMessage(errno))")
    }
    (bytes, isMapped) = (UnsafeRawBufferPointer(start: address, count: count), true)
  }

  /// Reads the regular file at `path` into memory: nothing that is done to the file afterwards changes the bytes.
  /// - Parameter limit: the most bytes that are read.
  /// - Throws: `FormatError`: `missing` when nothing is there, `cannotRead` when it cannot be read or is not a regular file,
  ///   `limitExceeded`, `truncated` when it became shorter meanwhile.
  public init(reading path: String, limit: Int = .max) throws(FormatError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      let code = errno
      let isMissing = code == ENOENT || code == ENOTDIR
      throw FormatError(
        isMissing ? .missing : .cannotRead, file: path, isMissing ? "is missing" : "cannot be opened: \(systemMessage(code))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, (status.st_mode & S_IFMT) == S_IFREG else {
      throw FormatError(.cannotRead, file: path, "is not a regular file")
    }
    let count = Int(status.st_size)
    guard count <= limit else { throw FormatError(.limitExceeded, file: path, "has \(count) bytes; at most \(limit) are read") }
    let memory: UnsafeMutableRawPointer
    // Pages of its own for what is large: they go back to the system with it.
    let isLarge = count >= 1 << 20
    if isLarge {
      guard
        let pages = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | Self.anonymous, -1, 0), pages != MAP_FAILED
      else { throw FormatError(.cannotRead, file: path, "has \(count) bytes, for which there is no memory") }
      memory = pages
    } else {
      memory = .allocate(byteCount: count, alignment: 64)
    }
    name = path
    bytes = UnsafeRawBufferPointer(start: memory, count: count)
    isMapped = isLarge
    // From here on `deinit` gives the memory back.
    var filled = 0
    while filled < count {
      let got = pread(descriptor, memory + filled, min(count - filled, 1 << 30), off_t(filled))
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else { throw FormatError(.cannotRead, file: path, "cannot be read: \(systemMessage(errno))") }
      guard got > 0 else {
        throw FormatError(.truncated, file: path, "ended after \(filled) of \(count) bytes: it is being changed")
      }
      filled += got
    }
  }

  #if canImport(Darwin)
    private static let anonymous = MAP_ANON
  #else
    private static let anonymous = MAP_ANONYMOUS
  #endif

  /// Keeps a copy of an array's bytes under a name used in error messages.
  public init(_ array: [UInt8], name: String = "bytes") {
    self.name = name
    isMapped = false
    // 64: any element type may be read in place, by whole vectors.
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: array.count, alignment: 64)
    array.withUnsafeBytes { copy.copyMemory(from: $0) }
    bytes = UnsafeRawBufferPointer(copy)
  }

  deinit {
    if isMapped {
      munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count)
    } else if bytes.baseAddress != nil {
      bytes.deallocate()
    }
  }

  /// The number of bytes.
  public var count: Int { bytes.count }

  /// Calls `body` with all bytes, which are valid during the call only.
  public func withUnsafeBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { withExtendedLifetime(self) {} }
    return try body(bytes)
  }
}
