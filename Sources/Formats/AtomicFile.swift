#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file that appears under its name only when complete: written beside the target, synchronized to the disk, renamed over it.
///
/// Until `commit()` the old file is untouched; an error, `discard()` or a dropped object removes the temporary file.
/// A file in an ``AtomicFolder`` that is not visible yet is synchronized with it, all files at once: each wait for the disk takes
/// milliseconds. Not for use from several tasks at once.
package final class AtomicFile {
  /// The path the content will have.
  package let path: String
  /// The number of bytes written so far.
  package private(set) var count = 0

  private let temporary: String
  private let isPartOfFolder: Bool
  private var descriptor: Int32
  private var isFinished = false
  private var buffer: [UInt8] = []
  private static let bufferSize = 1 << 16

  /// Creates the temporary file in the target's folder. A symbolic link at `path` is followed: what it points to is replaced.
  package init(_ path: String) throws(FormatError) {
    var target = path
    var status = stat()
    var mode: mode_t?
    if lstat(path, &status) == 0 {
      if (status.st_mode & S_IFMT) == S_IFLNK, let resolved = resolvedPath(path) { target = resolved }
      if stat(target, &status) == 0 {
        guard (status.st_mode & S_IFMT) == S_IFREG else {
          throw FormatError(.cannotWrite, file: path, "exists and is not a regular file")
        }
        mode = status.st_mode & 0o777
      }
    }
    self.path = target
    let token = String(UInt64.random(in: .min ... .max), radix: 16)
    temporary = parentFolder(of: target) + "/.apus-\(token).tmp"
    isPartOfFolder = AtomicFolder.isTemporary(parentFolder(of: target))
    descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o666)
    guard descriptor >= 0 else {
      throw FormatError(.cannotWrite, file: path, "no file can be created in its folder: \(systemMessage(errno))")
    }
    if let mode { _ = fchmod(descriptor, mode) }
    buffer.reserveCapacity(Self.bufferSize)
  }

  deinit { discard() }

  /// Writes a whole file through `body`; on any error the old file (or none) stays.
  package static func write<Result>(to path: String, _ body: (AtomicFile) throws -> Result) throws -> Result {
    let file = try AtomicFile(path)
    do {
      let result = try body(file)
      try file.commit()
      return result
    } catch {
      file.discard()
      throw error
    }
  }

  /// Appends bytes.
  package func write(_ bytes: UnsafeRawBufferPointer) throws(FormatError) {
    count += bytes.count
    if buffer.count + bytes.count > Self.bufferSize { try flush() }
    if bytes.count >= Self.bufferSize {
      try writeThrough(bytes)
    } else {
      buffer.append(contentsOf: bytes)
    }
  }

  /// Appends bytes.
  package func write(_ bytes: [UInt8]) throws(FormatError) {
    try bytes.withUnsafeBufferPointer { (part) throws(FormatError) in try write(UnsafeRawBufferPointer(part)) }
  }

  /// Appends text as UTF-8.
  package func write(_ text: String) throws(FormatError) { try write(Array(text.utf8)) }

  /// Makes the content durable and visible under its name.
  package func commit() throws(FormatError) {
    precondition(descriptor >= 0, "AtomicFile: committed or discarded before")
    do throws(FormatError) {
      try flush()
      guard isPartOfFolder || fsync(descriptor) == 0 else { throw failure("cannot be synchronized to the disk") }
      guard close(descriptor) == 0 else {
        descriptor = -1
        throw failure("cannot be closed")
      }
      descriptor = -1
      guard rename(temporary, path) == 0 else { throw failure("cannot be renamed into place") }
      isFinished = true
    } catch {
      discard()
      throw error
    }
    if !isPartOfFolder { try synchronizeFolder() }
  }

  /// Removes the temporary file; does nothing after `commit()`.
  package func discard() {
    guard !isFinished else { return }
    isFinished = true
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
    unlink(temporary)
  }

  private func flush() throws(FormatError) {
    try buffer.withUnsafeBufferPointer { (part) throws(FormatError) in try writeThrough(UnsafeRawBufferPointer(part)) }
    buffer.removeAll(keepingCapacity: true)
  }

  private func writeThrough(_ bytes: UnsafeRawBufferPointer) throws(FormatError) {
    precondition(descriptor >= 0, "AtomicFile: written after commit or discard")
    guard var next = bytes.baseAddress else { return }
    var left = bytes.count
    while left > 0 {
      // Some systems refuse a single write of 2 GiB or more.
      let written = Self.systemWrite(descriptor, next, min(left, 1 << 30))
      if written < 0 {
        if errno == EINTR { continue }
        throw failure("cannot be written")
      }
      next += written
      left -= written
    }
  }

  /// The system call, under a name that the method `write` does not hide.
  private static func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    #if canImport(Glibc)
      Glibc.write(descriptor, bytes, count)
    #elseif canImport(Musl)
      Musl.write(descriptor, bytes, count)
    #elseif canImport(Darwin)
      Darwin.write(descriptor, bytes, count)
    #endif
  }

  /// The rename itself lasts through a power failure only when the folder is synchronized too.
  private func synchronizeFolder() throws(FormatError) {
    let folder = open(parentFolder(of: path), O_RDONLY | O_CLOEXEC)
    guard folder >= 0 else { throw failure("is in place, but its folder cannot be opened to synchronize it") }
    defer { close(folder) }
    // EINVAL: a file system that cannot synchronize folders.
    guard fsync(folder) == 0 || errno == EINVAL else {
      throw failure("is in place, but its folder cannot be synchronized to the disk")
    }
  }

  private func failure(_ what: String) -> FormatError {
    let code = errno
    return FormatError(.cannotWrite, file: path, "\(what): \(systemMessage(code))")
  }
}
