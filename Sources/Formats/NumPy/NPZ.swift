import ApusTensor

/// NumPy's file of several arrays by name (`.npz`): a zip archive of `.npy` files, stored or deflated.
public struct NPZFile: Sendable {
  private let archive: ZipFile
  private let entries: [String: ZipFile.Entry]
  /// The arrays' names, in the order of the file.
  public let names: [String]

  /// Opens and checks the archive at `path`; arrays are read when they are asked for.
  /// - Parameter limit: the most bytes of one array accepted, against small files that expand without end.
  /// - Throws: ``FormatError``.
  public init(path: String, limit: Int = 1 << 36) throws(FormatError) {
    try self.init(FileBytes(mapping: path), limit: limit)
  }

  /// An archive's bytes held in memory.
  /// - Throws: ``FormatError``.
  public init(_ bytes: FileBytes, limit: Int = 1 << 36) throws(FormatError) {
    archive = try ZipFile(bytes, limit: limit)
    var entries: [String: ZipFile.Entry] = [:]
    var names: [String] = []
    for entry in archive.entries where entry.name.hasSuffix(".npy") {
      let name = String(entry.name.dropLast(4))
      entries[name] = entry
      names.append(name)
    }
    self.entries = entries
    self.names = names
  }

  /// Bytes that an array takes uncompressed, its header included; nil if there is none of this name.
  public func byteCount(_ name: String) -> Int? { entries[name]?.count }

  /// Reads one array.
  /// - Throws: ``FormatError``.
  public func tensor(_ name: String) throws(FormatError) -> Tensor {
    guard let entry = entries[name] else {
      throw FormatError(.missing, file: archive.bytes.name, part: name, "the archive has no array of this name")
    }
    return try archive.withContent(of: entry) { (bytes) throws(FormatError) in
      try NPY.tensor(bytes, file: archive.bytes.name, part: name)
    }
  }

  /// Reads all arrays.
  /// - Throws: ``FormatError``.
  public func tensors() throws(FormatError) -> [String: Tensor] {
    var result: [String: Tensor] = [:]
    for name in names { result[name] = try tensor(name) }
    return result
  }

  /// Writes arrays to the archive at `path`, uncompressed, in the order of their names, atomically.
  /// - Throws: ``FormatError``.
  public static func write(_ tensors: [String: Tensor], to path: String) throws {
    try AtomicFile.write(to: path) { file in
      var writer = ZipWriter(file)
      for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
        let isSafe =
          !name.isEmpty && !name.hasPrefix("/") && !name.utf8.contains(0) && !name.utf8.contains(UInt8(ascii: "\\"))
          && !name.split(separator: "/", omittingEmptySubsequences: false).contains("..")
        guard isSafe else {
          throw FormatError(.unsafePath, file: path, part: name, "cannot be the name of an array in an archive")
        }
        let prologue = NPY.prologue(of: tensor.type)
        try tensor.withUnsafeBytes { content in
          try prologue.withUnsafeBytes { header in try writer.add(name + ".npy", [header, content]) }
        }
      }
      try writer.finish()
    }
  }
}
