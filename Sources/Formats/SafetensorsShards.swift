#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A set of tensors spread over several safetensors files by an index such as `model.safetensors.index.json`.
public struct SafetensorsShards: Sendable {
  /// The path of the index.
  public let path: String
  /// The files by their names in the index.
  public let files: [String: SafetensorsFile]
  /// The names of all tensors, sorted.
  public let names: [String]
  /// The sum of the tensors' bytes that the index states, if it does.
  public let totalSize: Int?
  private let fileNames: [String: String]

  /// Opens the index at `path` and every file that it names.
  ///
  /// The index may name files in its own folder only: a name with a slash, `..`, or a link that leads out of the folder throws.
  /// - Parameter linkRoot: links may lead anywhere below this folder instead (the Hub's cache keeps its files so).
  /// - Throws: `FormatError`.
  public init(indexPath path: String, linkRoot: String? = nil) throws(FormatError) {
    let index = try FileBytes(mapping: path)
    let root = try index.withUnsafeBytes { (raw) throws(FormatError) in try JSONValue(parsing: raw, file: path) }
    guard let object = root.object else { throw FormatError(.malformed, file: path, offset: 0, "the index is not an object") }
    guard let map = object["weight_map"]?.object else {
      throw FormatError(.missing, file: path, "'weight_map' is missing or not an object")
    }
    var fileNames: [String: String] = [:]
    var files: [String: SafetensorsFile] = [:]
    for name in map.keys {
      let offset = map.position(of: name)
      guard let fileName = map[name]?.string else {
        throw FormatError(.invalidEntry, file: path, part: name, offset: offset, "the file name is not a string")
      }
      if files[fileName] == nil {
        let shard = try Self.checkedPath(fileName, index: path, linkRoot: linkRoot, part: name, offset: offset)
        files[fileName] = try SafetensorsFile(path: shard)
      }
      guard files[fileName]?[name] != nil else {
        throw FormatError(
          .missing, file: path, part: name, offset: offset,
          "the tensor is not in '\(FormatError.excerpt(fileName))', where the index says it is")
      }
      fileNames[name] = fileName
    }
    self.path = path
    self.files = files
    self.fileNames = fileNames
    // Some writers state the size as a float.
    totalSize = object["metadata"]?.object?["total_size"]?.number.flatMap { Int(exactly: $0) }
    names = fileNames.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// The file that holds a tensor, and the tensor's entry in it.
  public func location(of name: String) -> (file: SafetensorsFile, entry: SafetensorsFile.Entry)? {
    guard let file = fileNames[name].flatMap({ files[$0] }), let entry = file[name] else { return nil }
    return (file, entry)
  }

  private static func checkedPath(
    _ fileName: String, index: String, linkRoot: String?, part: String, offset: Int?
  ) throws(FormatError) -> String {
    let bytes = fileName.utf8
    func unsafe(_ why: String) -> FormatError {
      FormatError(.unsafePath, file: index, part: part, offset: offset, "the file name '\(FormatError.excerpt(fileName))' \(why)")
    }
    guard !bytes.isEmpty, fileName != ".", fileName != "..",
      !bytes.contains(UInt8(ascii: "/")), !bytes.contains(UInt8(ascii: "\\")), !bytes.contains(0)
    else { throw unsafe("is not a plain name in the index's own folder") }
    let path = parentFolder(of: index) + "/" + fileName
    guard let resolved = resolvedPath(path) else {
      throw FormatError(.missing, file: path, part: part, "the file that the index names does not exist")
    }
    let allowed = linkRoot ?? parentFolder(of: index)
    guard let root = resolvedPath(allowed) else {
      throw FormatError(.cannotRead, file: allowed, "the folder does not exist")
    }
    let prefix = root == "/" ? "/" : root + "/"
    guard resolved.utf8.starts(with: prefix.utf8) else { throw unsafe("is a link that leads out of the folder") }
    return path
  }
}

extension SafetensorsShards {
  /// Writes tensors to `folder` as `name.safetensors`, or, when they take more than `maximumShardSize` bytes, as
  /// `name-00001-of-00003.safetensors` … with `name.safetensors.index.json`, in the order given.
  ///
  /// Each file is written atomically, the index last. A tensor larger than the maximum gets a file of its own.
  /// - Returns: the names of the files written, the index (if any) last.
  /// - Throws: `FormatError`; what a source throws.
  @discardableResult
  public static func write(
    _ tensors: [SafetensorsFile.Source], metadata: [String: String] = [:], toFolder folder: String, name: String = "model",
    maximumShardSize: Int = 5_000_000_000
  ) throws -> [String] {
    var shards: [[SafetensorsFile.Source]] = [[]]
    var shardOf: [String: Int] = [:]
    var (used, total) = (0, 0)
    for tensor in tensors {
      guard tensor.shape.allSatisfy({ $0 >= 0 }), let size = tensor.dataType.byteCount(shape: tensor.shape),
        !total.addingReportingOverflow(size).overflow
      else { throw FormatError(.overflow, file: folder, part: tensor.name, "the shape \(tensor.shape) is impossible") }
      guard shardOf[tensor.name] == nil else {
        throw FormatError(.duplicateKey, file: folder, part: tensor.name, "two tensors have this name")
      }
      if used + size > maximumShardSize, !shards[shards.count - 1].isEmpty {
        shards.append([])
        used = 0
      }
      shardOf[tensor.name] = shards.count - 1
      shards[shards.count - 1].append(tensor)
      used += size
      total += size
    }
    let indexName = name + ".safetensors.index.json"
    if shards.count == 1 {
      let fileName = name + ".safetensors"
      try SafetensorsFile.write(tensors, metadata: metadata, to: folder + "/" + fileName)
      // An index from an earlier, larger save would lead readers to the old tensors.
      unlink(folder + "/" + indexName)
      return [fileName]
    }
    func padded(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    let fileNames = shards.indices.map { "\(name)-\(padded($0 + 1))-of-\(padded(shards.count)).safetensors" }
    for (fileName, shard) in zip(fileNames, shards) {
      try SafetensorsFile.write(shard, metadata: metadata, to: folder + "/" + fileName)
    }
    var map = JSONObject()
    for tensor in shardOf.keys.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
      map[tensor] = .string(fileNames[shardOf[tensor]!])
    }
    let index: JSONObject = ["metadata": .object(["total_size": .integer(total)]), "weight_map": .object(map)]
    try AtomicFile.write(to: folder + "/" + indexName) { try $0.write(JSONValue.object(index).printed(indented: true) + "\n") }
    return fileNames + [indexName]
  }
}
