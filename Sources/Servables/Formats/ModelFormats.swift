import ApusFormats

/// The kinds of models that can be read, the first that recognizes a path being taken.
public struct ModelFormats: Sendable {
  public var formats: [any ServableFormat]

  public init(_ formats: [any ServableFormat] = [ArtifactFormat()]) { self.formats = formats }

  /// Those that Apus brings.
  public static let standard = ModelFormats()

  /// The format of this name (`model_platform`, `backend`).
  /// - Throws: ``ServingError``, `invalidArgument`, naming those there are.
  public func named(_ name: String) throws(ServingError) -> any ServableFormat {
    if let format = formats.first(where: { $0.name == name }) { return format }
    throw ServingError(
      .invalidArgument,
      "the platform '\(FormatError.excerpt(name))' is unknown; there is \(formats.map(\.name).joined(separator: ", "))")
  }

  /// The format that a model at this path has; nil if none recognizes it.
  /// - Parameter platform: only the one of this name is asked.
  public func recognizing(_ path: String, platform: String? = nil) -> (any ServableFormat)? {
    formats.first { (platform == nil || $0.name == platform) && $0.recognizes(path) }
  }
}
