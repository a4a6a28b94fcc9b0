import ApusFormats

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Files read into memory: what happens to them afterwards harms nobody.
enum FileContents {
  /// - Throws: ``ServingError``: `failedPrecondition` if it is not there or longer than `limit` bytes, `unavailable` if it cannot be read.
  static func read(_ path: String, limit: Int) throws(ServingError) -> [UInt8] {
    let shown = FormatError.excerpt(path)
    // Non-blocking: opening a named pipe must fail, not wait for a writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      let code = errno
      throw ServingError(
        code == ENOENT ? .failedPrecondition : .unavailable, "'\(shown)' cannot be opened: \(systemMessage(code))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, (status.st_mode & S_IFMT) == S_IFREG else {
      throw ServingError(.failedPrecondition, "'\(shown)' is not a regular file")
    }
    guard status.st_size <= limit else {
      throw ServingError(.failedPrecondition, "'\(shown)' has \(status.st_size) bytes; at most \(limit) are read")
    }
    let count = Int(status.st_size)
    var problem: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = pread(descriptor, buffer.baseAddress! + filled, count - filled, off_t(filled))
        if got < 0 && errno == EINTR { continue }
        if got < 0 { problem = errno }
        if got <= 0 { break }
        filled += got
      }
    }
    guard problem == 0 else { throw ServingError(.unavailable, "'\(shown)' cannot be read: \(systemMessage(problem))") }
    return bytes
  }
}
