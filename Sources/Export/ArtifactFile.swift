import ApusFormats

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The files of an artifact, mapped or read.
enum ArtifactFile {
  /// - Parameter limit: the most bytes that are read.
  static func open(_ path: String, inMemory: Bool, limit: Int) throws(FormatError) -> FileBytes {
    guard inMemory else { return try FileBytes(mapping: path) }
    guard let size = size(path) else { throw FormatError(.missing, file: path, "is missing") }
    guard size <= limit else { throw FormatError(.limitExceeded, file: path, "has \(size) bytes; at most \(limit) are read") }
    return try read(path, size)
  }

  /// A file whose length and hash are those the manifest says.
  static func checked(_ path: String, _ expected: Manifest.File, inMemory: Bool) throws(FormatError) -> FileBytes {
    let file: FileBytes
    if inMemory {
      guard let size = size(path) else { throw FormatError(.missing, file: path, "is missing") }
      try check(size, expected, path)
      guard size <= physicalMemory() / 4 * 3 else {
        throw FormatError(.limitExceeded, file: path, "has \(size) bytes, more than this machine's memory can hold")
      }
      file = try read(path, size)
    } else {
      file = try FileBytes(mapping: path)
    }
    try check(file.count, expected, path)
    guard file.withUnsafeBytes({ SHA256.hexDigest($0) }) == expected.sha256 else {
      throw FormatError(.checksumMismatch, file: path, "is not the file that the manifest names: its SHA-256 is another one")
    }
    return file
  }

  static func check(_ size: Int, _ expected: Manifest.File, _ path: String) throws(FormatError) {
    guard size == expected.bytes else {
      throw FormatError(
        size < expected.bytes ? .truncated : .trailingBytes, file: path,
        "has \(size) bytes, but the manifest says \(expected.bytes)")
    }
  }

  /// The size of a file; nil if nothing is there.
  static func size(_ path: String) -> Int? {
    var status = stat()
    return stat(path, &status) == 0 ? Int(status.st_size) : nil
  }

  private static func read(_ path: String, _ size: Int) throws(FormatError) -> FileBytes {
    // Non-blocking: opening a named pipe must fail, not wait for a writer.
    let descriptor = systemOpen(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw FormatError(.cannotRead, file: path, "cannot be opened: \(systemMessage(errno))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, (status.st_mode & S_IFMT) == S_IFREG else {
      throw FormatError(.cannotRead, file: path, "is not a regular file")
    }
    var problem: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, filled in
      while filled < size, let base = buffer.baseAddress {
        let got = pread(descriptor, base + filled, Swift.min(size - filled, 1 << 30), off_t(filled))
        if got < 0, errno == EINTR { continue }
        if got < 0 { problem = errno }
        if got <= 0 { break }
        filled += got
      }
    }
    guard problem == 0 else { throw FormatError(.cannotRead, file: path, "cannot be read: \(systemMessage(problem))") }
    return FileBytes(bytes, name: path)
  }
}

/// The system call, under a name that the method `open` does not hide.
private func systemOpen(_ path: String, _ flags: Int32) -> Int32 { open(path, flags) }
