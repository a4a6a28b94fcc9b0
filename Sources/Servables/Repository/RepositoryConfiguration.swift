import ApusFormats

/// What a settings file says: the models, and how they are loaded.
///
/// Three kinds are read: Apus's own in JSON, TensorFlow Serving's `model_config_list`, and Triton's `config.pbtxt` in a model's folder.
public struct RepositoryConfiguration: Sendable {
  public var models: [ModelConfiguration]
  /// nil: the file does not say.
  public var mode: ModelRepository.Mode?
  public var allowsLabelsForUnavailableVersions: Bool?
  public var loadThreads: Int?
  public var loadRetries: Int?

  public init(models: [ModelConfiguration]) { self.models = models }

  /// Reads a settings file; which kind it is follows from its contents. Paths in it are relative to its folder.
  /// - Throws: ``ServingError``, `invalidArgument`, naming the place.
  public init(file: String) throws(ServingError) {
    try ModelConfiguration.checkPath(file, "the settings file")
    switch fileKind(file) {
    case .file: break
    case nil: throw ServingError(.notFound, "there is no settings file '\(FormatError.excerpt(file))'")
    default: throw ServingError(.invalidArgument, "'\(FormatError.excerpt(file))' is no file")
    }
    try self.init(text: textFile(file, limit: 1 << 24), file: file)
  }

  /// Reads the text of a settings file.
  /// - Parameter file: its name for messages; paths are relative to its folder.
  public init(text: String, file: String) throws(ServingError) {
    let folder = parentFolder(of: file)
    let first = text.utf8.first { !($0 == 0x20 || (0x09...0x0d).contains($0)) }
    if file.hasSuffix(".json") || first == UInt8(ascii: "{") {
      let json: JSONValue
      do throws(FormatError) {
        json = try JSONValue(parsing: Array(text.utf8), file: file, limits: JSONLimits(depth: 16, values: 1_000_000))
      } catch {
        throw ServingError(.invalidArgument, Self.located(error, text))
      }
      try self.init(json: json, file: file, folder: folder)
    } else {
      let message = try ProtoText(parsing: text, file: file)
      let triton = ["name", "platform", "backend", "max_batch_size", "input", "output"]
      if message.fields.contains(where: { triton.contains($0.name) }) {
        let path = folder == "." ? resolvedPath(folder) ?? folder : folder
        self.init(models: [try ModelConfiguration(triton: message, name: lastComponent(of: path), path: path)])
      } else {
        self.init(models: try ModelConfiguration.tensorFlow(message, folder: folder))
      }
    }
    var names: Set<String> = []
    for model in models {
      try ModelConfiguration.checkName(model.name)
      guard names.insert(model.name).inserted else {
        throw ServingError(.invalidArgument, "\(FormatError.excerpt(file)): two models are called '\(model.name)'")
      }
    }
  }

  /// The error with line and column in the place of the byte's number.
  private static func located(_ error: FormatError, _ text: String) -> String {
    guard let offset = error.offset else { return error.description }
    let before = Array(text.utf8.prefix(offset))
    let line = before.count { $0 == UInt8(ascii: "\n") } + 1
    let column = before.count - (before.lastIndex(of: UInt8(ascii: "\n")) ?? -1)
    return "\(FormatError.excerpt(error.file)):\(line):\(column): \(error.message)"
  }
}

extension ModelConfiguration {
  /// The models of a settings file, whichever kind it is.
  /// - Throws: ``ServingError``, `invalidArgument`, naming the place.
  public static func parse(file: String) throws(ServingError) -> [ModelConfiguration] {
    try RepositoryConfiguration(file: file).models
  }
}
