import ApusExport
import ApusFormats
import ApusTensor

/// How one model is served.
public struct ModelConfiguration: Sendable, Hashable {
  /// Which of the numbered versions in its folder are served.
  public enum VersionPolicy: Sendable, Hashable {
    /// The highest so many of those that can be loaded.
    case latest(Int)
    case all
    case specific([Int])
  }

  /// How a version is made ready before it takes traffic, so that the first requests are as fast as others.
  public enum WarmUp: Sendable, Hashable {
    /// By the requests in `assets.extra/warmup.json` or `assets.extra/tf_serving_warmup_requests` of its folder, if they are there.
    case recorded
    /// By those, or else by zeros at the smallest sizes and at the sizes that batches may have.
    case generated
    case none
  }

  /// An input or output that the configuration promises; a model that differs is not served.
  public struct ExpectedTensor: Sendable, Hashable {
    public var name: String
    /// nil: any.
    public var elementType: ElementType?
    /// Sizes without the first one if the model takes batches; -1 is any. nil: any.
    public var dimensions: [Int]?

    public init(name: String, elementType: ElementType? = nil, dimensions: [Int]? = nil) {
      (self.name, self.elementType, self.dimensions) = (name, elementType, dimensions)
    }
  }

  public var name: String
  /// The folder with the numbered versions; or, for a single model, the artifact itself.
  public var path: String
  /// nil: whichever format recognizes the files.
  public var platform: String?
  public var versionPolicy = VersionPolicy.latest(1)
  /// Names for versions, such as `stable` and `canary`.
  public var labels: [String: Int] = [:]
  public var scheduling = SchedulingOptions()
  /// Most bytes that the tensors of a request may have.
  public var maxRequestBytes = 1 << 28
  /// Names of the classes, for `classify`; nil: what the model came with.
  public var classLabels: [String]?
  public var warmUp = WarmUp.recorded
  /// What the model's default signature must take and give.
  public var expectedInputs: [ExpectedTensor] = []
  public var expectedOutputs: [ExpectedTensor] = []
  /// Whether the dimensions of ``expectedInputs`` are those of one example, without that of a batch.
  public var expectsBatches = false

  public init(name: String, path: String) { (self.name, self.path) = (name, path) }
}

extension ModelConfiguration {
  /// The model at `path` by itself, named like its file: `digits.apus` is the model `digits`, version 1.
  /// - Throws: ``ServingError`` if there is nothing of this name, or its name cannot be a model's.
  public static func single(_ path: String, formats: ModelFormats = .standard) throws(ServingError) -> ModelConfiguration {
    var path = path
    while path.utf8.count > 1, path.hasSuffix("/") { path.removeLast() }
    try checkPath(path, "the model's path")
    guard fileKind(path) != nil else { throw ServingError(.notFound, "there is no model at '\(FormatError.excerpt(path))'") }
    guard formats.recognizing(path) != nil else {
      throw ServingError(
        .invalidArgument, "'\(FormatError.excerpt(path))' is no model that can be read: an artifact is NAME.apus")
    }
    var name = lastComponent(of: path)
    if let dot = name.lastIndex(of: "."), dot != name.startIndex { name = String(name[..<dot]) }
    try checkName(name)
    return ModelConfiguration(name: name, path: path)
  }

  /// The models in a folder, in order of their names: each folder with numbered versions, and each artifact (`name.apus`, version 1).
  /// A `config.pbtxt` in a model's folder is read as Triton does.
  /// - Throws: ``ServingError`` if the folder cannot be read, or what is in it contradicts itself.
  public static func scan(_ folder: String, formats: ModelFormats = .standard) throws(ServingError) -> [ModelConfiguration] {
    try checkPath(folder, "the folder of models")
    let shown = FormatError.excerpt(folder)
    switch fileKind(folder) {
    case .folder: break
    case nil: throw ServingError(.notFound, "there is no folder '\(shown)'")
    default: throw ServingError(.invalidArgument, "'\(shown)' is no folder")
    }
    var found: [String: ModelConfiguration] = [:]
    let names = try folderEntries(folder)
    if names.contains(where: { versionNumber($0) != nil && fileKind(folder + "/" + $0) == .folder }) {
      throw ServingError(
        .invalidArgument,
        "'\(shown)' has numbered folders, so it is the folder of one model; the folder with all models is wanted, which holds it")
    }
    for entry in names where !entry.hasPrefix(".") {
      let path = folder + "/" + entry
      guard fileKind(path) == .folder || formats.recognizing(path) != nil else { continue }
      let configuration: ModelConfiguration
      if formats.recognizing(path) != nil {
        guard let single = try? single(path, formats: formats) else { continue }
        configuration = single
      } else {
        guard (try? checkName(entry)) != nil else { continue }
        let settings = path + "/config.pbtxt"
        if fileKind(settings) != nil {
          configuration = try ModelConfiguration(tritonFile: settings, name: entry, path: path)
        } else {
          // Any other folder may be anything; one whose first version is still to come is seen when it is there.
          guard let inside = try? folderEntries(path), inside.contains(where: { versionNumber($0) != nil }) else { continue }
          configuration = ModelConfiguration(name: entry, path: path)
        }
      }
      if let other = found[configuration.name] {
        throw ServingError(
          .alreadyExists, "'\(shown)' has two models '\(configuration.name)': '\(other.path)' and '\(configuration.path)'")
      }
      found[configuration.name] = configuration
    }
    return found.values.sorted { $0.name < $1.name }
  }

  /// Names are parts of addresses and of paths.
  static func checkName(_ name: String) throws(ServingError) {
    let shown = FormatError.excerpt(name)
    guard !name.isEmpty, name.utf8.count <= 255 else {
      throw ServingError(.invalidArgument, name.isEmpty ? "a model has an empty name" : "the model name '\(shown)' is too long")
    }
    guard name != ".", name != "..", !name.unicodeScalars.contains(where: { $0 == "/" || $0.value < 0x20 || $0.value == 0x7f })
    else { throw ServingError(.invalidArgument, "'\(shown)' cannot be the name of a model: it leads to another folder") }
  }

  static func checkPath(_ path: String, _ what: String) throws(ServingError) {
    guard !path.isEmpty, path.utf8.count < 4096, !path.utf8.contains(0) else {
      throw ServingError(.invalidArgument, "\(what) '\(FormatError.excerpt(path))' is no path")
    }
  }

  /// Whether it makes sense by itself, whatever is on the disk.
  func validate(_ formats: ModelFormats) throws(ServingError) {
    try Self.checkName(name)
    try Self.checkPath(path, "the path of the model '\(name)'")
    if let platform { _ = try formats.named(platform) }
    switch versionPolicy {
    case .latest(let count):
      guard count >= 1 else {
        throw ServingError(
          .invalidArgument, "the model '\(name)': the latest \(count) versions are none; at least 1 must be served")
      }
    case .all: break
    case .specific(let versions):
      guard !versions.isEmpty, versions.allSatisfy({ $0 >= 0 }) else {
        throw ServingError(
          .invalidArgument, "the model '\(name)': specific versions are wanted, but none (or a negative one) is named")
      }
    }
    for (label, version) in labels where label.isEmpty || version < 0 {
      throw ServingError(
        .invalidArgument, "the model '\(name)': the label '\(FormatError.excerpt(label))' cannot be that of version \(version)")
    }
  }
}
