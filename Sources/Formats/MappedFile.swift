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
