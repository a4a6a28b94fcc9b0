#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder of files that appears under its name only when complete: written beside the target, synchronized, renamed.
///
/// Where a folder of that name exists, the two change places in one step if the system can, and the old one is removed; else it
/// is renamed away first. Not for use from several tasks at once.
package final class AtomicFolder {
  /// The path the content will have.
  package let path: String
  private let temporary: String
  private var isFinished = false
  private var names: [String] = []

  /// - Throws: ``FormatError`` if the folder cannot be made, or something that is no folder is in its place.
  package init(_ path: String) throws(FormatError) {
    var target = path
    while target.count > 1 && target.hasSuffix("/") { target.removeLast() }
    if let resolved = resolvedPath(target) { target = resolved }
    self.path = target
    var status = stat()
    if stat(target, &status) == 0, (status.st_mode & S_IFMT) != S_IFDIR {
      throw FormatError(.cannotWrite, file: path, "exists and is not a folder")
    }
    let token = String(UInt64.random(in: .min ... .max), radix: 16)
    temporary = parentFolder(of: target) + "/.apus-\(token).tmp"
    guard mkdir(temporary, 0o777) == 0 else {
      throw FormatError(.cannotWrite, file: path, "no folder can be created beside it: \(systemMessage(errno))")
    }
  }

  deinit { discard() }

  /// Whether a folder of this name is one that is being written.
  static func isTemporary(_ folder: String) -> Bool {
    let name = lastComponent(of: folder)
    return name.hasPrefix(".apus-") && name.hasSuffix(".tmp")
  }

  /// Where a file of this name is written to.
  package func path(of name: String) -> String {
    if !names.contains(name) { names.append(name) }
    return temporary + "/" + name
  }

  /// Writes a file through `body`.
  package func write(_ name: String, _ body: (AtomicFile) throws -> Void) throws {
    try AtomicFile.write(to: path(of: name), body)
  }

  /// Makes the folder durable and visible under its name.
  /// - Parameter replaceable: a file by which an existing folder is known to be one of this kind; others are not replaced.
  package func commit(replaceable marker: String) throws(FormatError) {
    func failure(_ what: String) -> FormatError {
      let code = errno
      return FormatError(.cannotWrite, file: path, "\(what): \(systemMessage(code))")
    }
    for name in Self.names(in: temporary) { try synchronize(temporary + "/" + name) }
    try synchronize(temporary)
    var status = stat()
    if stat(path, &status) != 0 {
      guard rename(temporary, path) == 0 else { throw failure("the folder cannot be renamed into place") }
    } else {
      guard isRegularFile(path + "/" + marker) || Self.isEmpty(path) else {
        throw FormatError(.cannotWrite, file: path, "is a folder of something else (without \(marker)), which is not replaced")
      }
      let old = temporary + ".old"
      if Self.exchange(temporary, path) {
        guard rename(temporary, old) == 0 else { throw failure("the old folder cannot be renamed away") }
      } else {
        guard rename(path, old) == 0 else { throw failure("the old folder cannot be renamed away") }
        guard rename(temporary, path) == 0 else {
          let error = failure("the folder cannot be renamed into place")
          _ = rename(old, path)
          throw error
        }
      }
      Self.remove(old)
    }
    isFinished = true
    try synchronize(parentFolder(of: path))
  }

  /// Removes what was written; does nothing after `commit()`.
  package func discard() {
    guard !isFinished else { return }
    isFinished = true
    Self.remove(temporary)
  }

  private func synchronize(_ folder: String) throws(FormatError) {
    let descriptor = open(folder, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw FormatError(.cannotWrite, file: path, "a part of it cannot be opened to synchronize it: \(systemMessage(errno))")
    }
    defer { close(descriptor) }
    // EINVAL: a file system that cannot synchronize folders.
    guard fsync(descriptor) == 0 || errno == EINVAL else {
      throw FormatError(.cannotWrite, file: path, "a part of it cannot be synchronized to the disk: \(systemMessage(errno))")
    }
  }

  /// Two folders change names in one step.
  private static func exchange(_ a: String, _ b: String) -> Bool {
    #if os(Linux) && canImport(Glibc)
      // Glibc's headers declare it for GNU C only.
      guard let symbol = dlsym(nil, "renameat2") else { return false }
      typealias Rename = @convention(c) (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32) -> Int32
      return unsafeBitCast(symbol, to: Rename.self)(AT_FDCWD, a, AT_FDCWD, b, 2) == 0  // RENAME_EXCHANGE
    #elseif canImport(Darwin)
      return renamex_np(a, b, UInt32(RENAME_SWAP)) == 0
    #else
      return false
    #endif
  }

  /// The names in a folder.
  package static func names(in folder: String) -> [String] {
    guard let handle = opendir(folder) else { return [] }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names
  }

  private static func isEmpty(_ folder: String) -> Bool { names(in: folder).isEmpty }

  /// What is at a path: a file, or a folder and the files in it.
  package static func removeFileOrFolder(_ path: String) { if unlink(path) != 0 { remove(path) } }

  /// A folder and the files in it; folders in it are left, with it.
  package static func remove(_ folder: String) {
    for name in names(in: folder) { unlink(folder + "/" + name) }
    rmdir(folder)
  }
}
