extension SafetensorsFile {
  /// A tensor to be written.
  public struct Source {
    /// The name in the file.
    public var name: String
    /// The element type.
    public var dataType: DataType
    /// The dimensions, outermost first.
    public var shape: [Int]
    /// Calls its argument, any number of times, with consecutive parts of the elements: row-major, little-endian.
    public var provideBytes: (_ take: (UnsafeRawBufferPointer) throws -> Void) throws -> Void

    /// A tensor whose bytes are fetched only when their turn comes, so that they need not all be in memory at once.
    public init(
      name: String, dataType: DataType, shape: [Int],
      provideBytes: @escaping (_ take: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) {
      (self.name, self.dataType, self.shape, self.provideBytes) = (name, dataType, shape, provideBytes)
    }

    /// A tensor whose bytes are given.
    public init(name: String, dataType: DataType, shape: [Int], bytes: [UInt8]) {
      self.init(name: name, dataType: dataType, shape: shape) { take in try bytes.withUnsafeBytes(take) }
    }
  }

  /// Writes tensors to the file at `path`, atomically: an error leaves the old file, or none.
  ///
  /// The same tensors always give the same bytes, those of the reference library: larger elements first, then by name,
  /// so that all data is aligned; the header padded with spaces to a multiple of 8.
  /// - Throws: `FormatError` for duplicate or reserved names, impossible shapes, wrong byte counts, and what the system refuses;
  ///   what a source throws.
  public static func write(_ tensors: [Source], metadata: [String: String] = [:], to path: String) throws {
    let (header, ordered) = try layOut(tensors, metadata: metadata, file: path)
    try AtomicFile.write(to: path) { file in
      try file.write(header)
      for (source, byteCount) in ordered {
        let end = file.count + byteCount
        try source.provideBytes { part in
          guard part.count <= end - file.count else {
            throw FormatError(.sizeMismatch, file: path, part: source.name, "more bytes were given than the shape takes")
          }
          try file.write(part)
        }
        guard file.count == end else {
          throw FormatError(
            .sizeMismatch, file: path, part: source.name, "\(end - file.count) bytes fewer were given than the shape takes")
        }
      }
    }
  }

  /// The header with its length before it, and the tensors in the order of the file.
  private static func layOut(
    _ tensors: [Source], metadata: [String: String], file: String
  ) throws(FormatError) -> (header: [UInt8], ordered: [(Source, Int)]) {
    let ranks = Dictionary(uniqueKeysWithValues: DataType.allCases.enumerated().map { ($1, $0) })
    let sorted = tensors.sorted { left, right in
      let (leftRank, rightRank) = (ranks[left.dataType]!, ranks[right.dataType]!)
      // By bytes, as the reference library does; Swift's own order of strings is another.
      return leftRank != rightRank ? leftRank > rightRank : left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
    }
    var object = JSONObject()
    if !metadata.isEmpty {
      var pairs = JSONObject()
      for key in metadata.keys.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
        pairs[key] = .string(metadata[key]!)
      }
      object["__metadata__"] = .object(pairs)
    }
    var ordered: [(Source, Int)] = []
    var offset = 0
    for source in sorted {
      guard source.name != "__metadata__" else {
        throw FormatError(.invalidEntry, file: file, part: source.name, "this name is reserved by the format")
      }
      guard object[source.name] == nil else {
        throw FormatError(.duplicateKey, file: file, part: source.name, "two tensors have this name")
      }
      guard source.shape.allSatisfy({ $0 >= 0 }) else {
        throw FormatError(.invalidEntry, file: file, part: source.name, "the shape \(source.shape) has a negative dimension")
      }
      guard let byteCount = source.dataType.byteCount(shape: source.shape) else {
        throw FormatError(.overflow, file: file, part: source.name, "the shape \(source.shape) is too large")
      }
      let (end, overflow) = offset.addingReportingOverflow(byteCount)
      guard !overflow else { throw FormatError(.overflow, file: file, part: source.name, "the file would be too large") }
      object[source.name] = .object([
        "dtype": .string(source.dataType.rawValue),
        "shape": .array(source.shape.map { .integer($0) }),
        "data_offsets": .array([.integer(offset), .integer(end)]),
      ])
      ordered.append((source, byteCount))
      offset = end
    }
    var text = Array(JSONValue.object(object).printed().utf8)
    while text.count % 8 != 0 { text.append(UInt8(ascii: " ")) }
    guard text.count <= headerLimit else {
      throw FormatError(.limitExceeded, file: file, "the header would have \(text.count) bytes; \(headerLimit) are allowed")
    }
    let length = Swift.withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) }
    return (length + text, ordered)
  }
}
