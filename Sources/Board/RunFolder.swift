import ApusFormats

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Finds the event files below a folder.
enum RunFolder {
  static let depthLimit = 12
  static let entryLimit = 200_000

  /// Event files by the folder they are in, relative to `root` ("." for itself). Links to folders are followed, each folder is visited
  /// once.
  static func eventFiles(below root: String) -> [String: [String]] {
    var result: [String: [String]] = [:]
    var visited: Set<[UInt64]> = []
    var entries = 0
    var open = [(path: root, name: ".", depth: 0)]
    while let (path, name, depth) = open.popLast() {
      var status = stat()
      guard stat(path, &status) == 0, (status.st_mode & S_IFMT) == S_IFDIR,
        visited.insert([UInt64(status.st_dev), UInt64(status.st_ino)]).inserted, let folder = opendir(path)
      else { continue }
      defer { closedir(folder) }
      while let entry = readdir(folder), entries < entryLimit {
        entries += 1
        let child = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
          // A name that is not UTF-8 could not be opened again.
          String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        guard let child, !child.hasPrefix(".") else { continue }
        let childPath = path + "/" + child
        if child.contains("tfevents") {
          if isRegularFile(childPath) { result[name, default: []].append(childPath) }
        } else if depth < depthLimit, entry.pointee.d_type != UInt8(DT_REG) {
          open.append((childPath, name == "." ? child : name + "/" + child, depth + 1))
        }
      }
    }
    return result.mapValues { $0.sorted() }
  }

  /// A file's size; nil if there is none.
  static func size(of path: String) -> Int? {
    var status = stat()
    return stat(path, &status) == 0 ? Int(status.st_size) : nil
  }

  /// The folder's canonical path.
  static func checked(_ path: String) throws(FormatError) -> String {
    guard let resolved = resolvedPath(path) else {
      throw FormatError(
        .cannotRead, file: path, "there is no such folder. Give the folder that runs are written to, as in `apus board runs`")
    }
    var status = stat()
    guard stat(resolved, &status) == 0, (status.st_mode & S_IFMT) == S_IFDIR else {
      throw FormatError(.cannotRead, file: path, "is not a folder. Give the folder that the event file is in, or one above it")
    }
    guard let folder = opendir(resolved) else {
      throw FormatError(.cannotRead, file: path, "cannot be opened: \(systemMessage(errno))")
    }
    closedir(folder)
    return resolved
  }
}
