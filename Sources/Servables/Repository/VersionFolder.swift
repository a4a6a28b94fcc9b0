import ApusFormats

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

enum FileKind {
  case file, folder, other
}

/// What is at a path, symbolic links followed; nil if nothing is.
func fileKind(_ path: String) -> FileKind? {
  var status = stat()
  guard stat(path, &status) == 0 else { return nil }
  return switch status.st_mode & S_IFMT {
  case S_IFREG: .file
  case S_IFDIR: .folder
  default: .other
  }
}

/// The most names of a folder that are looked at.
private let entryLimit = 100_000

/// The names in a folder, sorted.
func folderEntries(_ path: String) throws(ServingError) -> [String] {
  guard let handle = opendir(path) else {
    let code = errno
    throw ServingError(
      code == ENOENT ? .notFound : .unavailable,
      "the folder '\(FormatError.excerpt(path))' cannot be read: \(systemMessage(code))")
  }
  defer { closedir(handle) }
  var names: [String] = []
  while names.count < entryLimit, let entry = readdir(handle) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
      tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if name != ".", name != ".." { names.append(name) }
  }
  return names.sorted()
}

/// The number that a folder's name says; nil if it is none, or is not written as a number is.
func versionNumber(_ name: String) -> Int? {
  guard let number = Int(name), number >= 0, String(number) == name else { return nil }
  return number
}

/// What is in the folder of one version.
struct VersionFiles: Sendable {
  var version: Int
  /// Where labels, warm-up requests and settings are.
  var folder: String
  /// The model itself.
  var path: String = ""
  var format: (any ServableFormat)?
  /// Changes whenever any file in the folder does.
  var fingerprint = Fingerprint()
  /// Why there is nothing to load.
  var problem: ServingError?

  /// Names, sizes and times of the files of a version.
  struct Fingerprint: Sendable, Hashable {
    var entries: [String] = []
  }
}

/// What is in the folder of a model.
struct ModelFolder: Sendable {
  var versions: [Int: VersionFiles] = [:]
  /// What a person should know of it.
  var notices: [String] = []
  /// Why it cannot be read.
  var problem: ServingError?

  init(_ configuration: ModelConfiguration, formats: ModelFormats) {
    let path = configuration.path
    let shown = FormatError.excerpt(path)
    guard fileKind(path) != nil else {
      problem = ServingError(.notFound, "there is nothing at '\(shown)'")
      return
    }
    if let format = formats.recognizing(path, platform: configuration.platform) {
      var files = VersionFiles(version: 1, folder: path, path: path, format: format)
      files.examine(root: path)
      versions[1] = files
      return
    }
    guard fileKind(path) == .folder else {
      problem = ServingError(.failedPrecondition, "'\(shown)' is neither a folder with versions nor a model that can be read")
      return
    }
    let names: [String]
    do throws(ServingError) { names = try folderEntries(path) } catch {
      problem = error
      return
    }
    for name in names where name.utf8.first != UInt8(ascii: ".") {
      let inside = path + "/" + name
      guard let number = versionNumber(name) else {
        // What looks like a number, but is not written as one, was probably meant as a version.
        if !name.isEmpty, name.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x20 || $0 == 0x2b || $0 == 0x2d }) {
          notices.append(
            "'\(FormatError.excerpt(name))' is no version: its name is not a whole number from 0 to 2^63 - 1 without zeros before it"
          )
        }
        continue
      }
      guard fileKind(inside) == .folder else {
        notices.append("'\(name)' is no version: it is \(fileKind(inside) == nil ? "a link that leads nowhere" : "no folder")")
        continue
      }
      var files = VersionFiles(version: number, folder: inside)
      files.find(formats, platform: configuration.platform)
      files.examine(root: path)
      versions[number] = files
    }
    if versions.isEmpty {
      problem = ServingError(.notFound, "the folder '\(shown)' has no versions")
    }
  }
}

extension VersionFiles {
  /// Looks for the model in the folder.
  fileprivate mutating func find(_ formats: ModelFormats, platform: String?) {
    do throws(ServingError) {
      let names = try folderEntries(folder)
      var found: [(path: String, format: any ServableFormat)] = []
      for name in names where name.utf8.first != UInt8(ascii: ".") {
        if let format = formats.recognizing(folder + "/" + name, platform: platform) {
          found.append((folder + "/" + name, format))
        }
      }
      if found.isEmpty, let format = formats.recognizing(folder, platform: platform) { found = [(folder, format)] }
      guard let first = found.first else {
        throw ServingError(.failedPrecondition, "the folder '\(FormatError.excerpt(folder))' has no model yet (NAME.apus)")
      }
      guard found.count == 1 else {
        throw ServingError(
          .failedPrecondition,
          "the folder '\(FormatError.excerpt(folder))' has \(found.count) models, "
            + "'\(lastComponent(of: found[0].path))' and '\(lastComponent(of: found[1].path))'; a version is one")
      }
      (path, format) = first
    } catch { problem = error }
  }

  /// Takes the fingerprint, and refuses links that lead out of the model's folder.
  fileprivate mutating func examine(root: String) {
    guard let root = resolvedPath(root) else {
      problem = problem ?? ServingError(.notFound, "the folder '\(FormatError.excerpt(root))' is gone")
      return
    }
    var entries: [String] = []
    var refusal: ServingError?
    func isInside(_ path: String) -> Bool { path == root || path.hasPrefix(root + "/") || root == "/" }
    func visit(_ path: String, depth: Int) {
      guard entries.count < 10_000, let names = try? folderEntries(path) else {
        entries.append(path + ": ?")
        return
      }
      for name in names {
        let inside = path + "/" + name
        var status = stat()
        guard lstat(inside, &status) == 0 else { continue }
        var kind = status.st_mode & S_IFMT
        if kind == S_IFLNK {
          guard let target = resolvedPath(inside), stat(target, &status) == 0 else {
            refusal =
              refusal ?? ServingError(.failedPrecondition, "'\(FormatError.excerpt(inside))' is a link that leads nowhere")
            entries.append(inside + ": link")
            continue
          }
          guard isInside(target) else {
            refusal =
              refusal
              ?? ServingError(
                .failedPrecondition, "'\(FormatError.excerpt(inside))' is a link that leads out of the model's folder")
            entries.append(inside + ": link to " + target)
            continue
          }
          kind = status.st_mode & S_IFMT
          entries.append(inside + ": link to " + target)
          // A linked folder in the model's folder could hold itself.
          if kind == S_IFDIR, depth >= 4 { continue }
        }
        #if canImport(Darwin)
          let time = status.st_mtimespec
        #else
          let time = status.st_mtim
        #endif
        if kind == S_IFDIR {
          entries.append(inside + "/")
          if depth < 4 { visit(inside, depth: depth + 1) }
        } else {
          entries.append("\(inside) \(status.st_ino) \(status.st_size) \(time.tv_sec).\(time.tv_nsec)")
        }
      }
    }
    if let target = resolvedPath(folder), !isInside(target) {
      refusal = ServingError(
        .failedPrecondition, "'\(FormatError.excerpt(folder))' is a link that leads out of the model's folder")
      entries.append(folder + ": link to " + target)
    } else {
      visit(folder, depth: 0)
    }
    fingerprint = Fingerprint(entries: entries)
    problem = refusal ?? problem
  }
}
