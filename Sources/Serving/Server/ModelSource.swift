import ApusServables

/// Where a server finds out which models there are; it is asked again at SIGHUP.
public enum ModelSource: Sendable, Hashable {
  /// One model; it is named like its file if there is no name.
  case model(path: String, name: String?)
  /// A folder of models, each with numbered versions.
  case folder(String)
  /// A configuration file: TensorFlow Serving's, Triton's `config.pbtxt`, or our own in JSON.
  case configuration(String)

  /// The models now.
  /// - Throws: ``ServingError`` if they cannot be found out.
  public func read() throws(ServingError) -> [ModelConfiguration] {
    switch self {
    case .model(let path, let name):
      var model = try ModelConfiguration.single(path)
      if let name { model.name = name }
      return [model]
    case .folder(let folder): return try ModelConfiguration.scan(folder)
    case .configuration(let file): return try ModelConfiguration.parse(file: file)
    }
  }
}
