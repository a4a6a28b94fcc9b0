// The C library is all that this module needs of the system: Foundation would cost every start of the command its loading time.
#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The C library's words for an error number.
package func systemMessage(_ code: Int32) -> String {
  var buffer = [CChar](repeating: 0, count: 256)
  guard strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
  return buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
}

/// The folder that holds `path` ("." for a plain name).
package func parentFolder(of path: String) -> String {
  guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
  let folder = String(path[..<slash])
  return folder.isEmpty ? "/" : folder
}

/// The last component of `path`.
package func lastComponent(of path: String) -> String {
  guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return path }
  return String(path[path.utf8.index(after: slash)...])
}

/// The path with symbolic links resolved, or nil where it does not exist.
package func resolvedPath(_ path: String) -> String? {
  guard let resolved = realpath(path, nil) else { return nil }
  defer { free(resolved) }
  return String(cString: resolved)
}

/// An environment variable's value, nil when unset or empty.
package func environmentValue(_ name: String) -> String? {
  guard let value = getenv(name), value.pointee != 0 else { return nil }
  return String(cString: value)
}

/// Whether a regular file is at `path` (following symbolic links).
package func isRegularFile(_ path: String) -> Bool {
  var status = stat()
  return stat(path, &status) == 0 && (status.st_mode & S_IFMT) == S_IFREG
}

/// Creates a folder and the folders above it.
package func createFolder(_ path: String) throws(FormatError) {
  var status = stat()
  if stat(path, &status) == 0, (status.st_mode & S_IFMT) == S_IFDIR { return }
  let parent = parentFolder(of: path)
  if parent != path, parent != "." { try createFolder(parent) }
  if mkdir(path, 0o777) != 0 {
    let code = errno
    if code == EEXIST, stat(path, &status) == 0, (status.st_mode & S_IFMT) == S_IFDIR { return }
    throw FormatError(.cannotWrite, file: path, "the folder cannot be created: \(systemMessage(code))")
  }
}

/// The machine's memory in bytes.
package func physicalMemory() -> Int {
  let (pages, size) = (sysconf(Int32(_SC_PHYS_PAGES)), sysconf(Int32(_SC_PAGESIZE)))
  return pages > 0 && size > 0 ? pages * size : 1 << 32
}
