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
    inMemory ? try FileBytes(reading: path, limit: limit) : try FileBytes(mapping: path)
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
      file = try FileBytes(reading: path)
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
}
