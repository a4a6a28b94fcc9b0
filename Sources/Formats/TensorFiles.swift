import ApusTensor

// Tensors to and from safetensors files.

extension SafetensorsFile.DataType {
  /// The format's name of an element type.
  public init(_ type: ElementType) {
    switch type {
    case .bool: self = .bool
    case .uint8: self = .uint8
    case .int8: self = .int8
    case .int16: self = .int16
    case .int32: self = .int32
    case .int64: self = .int64
    case .float16: self = .float16
    case .bfloat16: self = .bfloat16
    case .float32: self = .float32
    case .float64: self = .float64
    }
  }

  /// The element type of tensors; nil for types that Apus lacks.
  public var elementType: ElementType? {
    switch self {
    case .bool: .bool
    case .uint8: .uint8
    case .int8: .int8
    case .int16: .int16
    case .int32: .int32
    case .int64: .int64
    case .float16: .float16
    case .bfloat16: .bfloat16
    case .float32: .float32
    case .float64: .float64
    case .float4, .float6e2m3, .float6e3m2, .float8e5m2, .float8e4m3, .float8e8m0, .float8e4m3fnuz, .float8e5m2fnuz, .uint16,
      .uint32, .uint64, .complex64:
      nil
    }
  }
}

extension SafetensorsFile.Source {
  /// A tensor to be written under this name.
  public init(name: String, _ tensor: Tensor) {
    self.init(name: name, dataType: .init(tensor.elementType), shape: Array(tensor.shape)) { take in
      try tensor.withUnsafeBytes { (bytes) throws in try take(bytes) }
    }
  }
}

extension SafetensorsFile {
  /// Reads a tensor into memory of its own.
  /// - Throws: ``FormatError`` when there is none of that name, or its type or number of dimensions is none of Apus's.
  public func tensor(_ name: String) throws -> Tensor {
    try withUnsafeBytes(of: name) { bytes in
      let entry = self[name]!
      guard let type = entry.dataType.elementType else {
        throw FormatError(
          .unsupported, file: self.bytes.name, part: name, "elements of type \(entry.dataType.rawValue) cannot be loaded")
      }
      guard entry.shape.count <= Shape.maxRank else {
        throw FormatError(
          .unsupported, file: self.bytes.name, part: name, offset: entry.range.lowerBound,
          "\(entry.shape.count) dimensions; tensors have at most \(Shape.maxRank)")
      }
      // Any byte other than 0 means true; in memory it must be 1.
      let stored = type == .bool ? ElementType.uint8 : type
      return Tensor(bytes: bytes, shape: Shape(entry.shape), elementType: stored).converted(to: type)
    }
  }
}

/// Writes tensors to a safetensors file, atomically: an error leaves the old file, or none.
/// - Parameter metadata: free text kept in the file's header.
/// - Throws: ``FormatError``.
public func saveTensors(_ tensors: [String: Tensor], to path: String, metadata: [String: String] = [:]) throws {
  let sources = tensors.keys.sorted().map { SafetensorsFile.Source(name: $0, tensors[$0]!) }
  try SafetensorsFile.write(sources, metadata: metadata, to: path)
}

/// Reads all tensors of a safetensors file, or of the files that an index (`….safetensors.index.json`) names.
/// - Throws: ``FormatError``, which names the file and the tensor.
public func loadTensors(from path: String) throws -> [String: Tensor] { try TensorFile(path: path).tensors() }

/// A safetensors file, or a set of them with an index: tensors by name, read when they are asked for.
public struct TensorFile: Sendable {
  private enum Content {
    case file(SafetensorsFile)
    case shards(SafetensorsShards)
  }

  private let content: Content
  /// The names of all tensors.
  public let names: [String]

  /// - Parameter path: of the file; of an index if it ends in `.json`.
  /// - Throws: ``FormatError``.
  public init(path: String) throws(FormatError) {
    if path.hasSuffix(".json") {
      let shards = try SafetensorsShards(indexPath: path)
      content = .shards(shards)
      names = shards.names
    } else {
      let file = try SafetensorsFile(path: path)
      content = .file(file)
      names = file.entries.map(\.name)
    }
  }

  /// The free text of the header, of all files together.
  public var metadata: [String: String] {
    switch content {
    case .file(let file): file.metadata
    case .shards(let shards):
      shards.files.keys.sorted().reduce(into: [:]) { $0.merge(shards.files[$1]!.metadata) { first, _ in first } }
    }
  }

  /// Shape and type as the file has them; nil if there is no tensor of this name.
  public func entry(_ name: String) -> SafetensorsFile.Entry? {
    switch content {
    case .file(let file): file[name]
    case .shards(let shards): shards.location(of: name)?.entry
    }
  }

  /// Reads one tensor.
  /// - Throws: ``FormatError``.
  public func tensor(_ name: String) throws -> Tensor {
    switch content {
    case .file(let file): return try file.tensor(name)
    case .shards(let shards):
      guard let file = shards.location(of: name)?.file else {
        throw FormatError(.missing, file: shards.path, part: name, "the index has no tensor of this name")
      }
      return try file.tensor(name)
    }
  }

  /// Reads all tensors.
  /// - Throws: ``FormatError``.
  public func tensors() throws -> [String: Tensor] {
    try Dictionary(uniqueKeysWithValues: names.map { ($0, try tensor($0)) })
  }
}
