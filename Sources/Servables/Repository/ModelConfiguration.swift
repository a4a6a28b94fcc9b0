/// How one model is served.
public struct ModelConfiguration: Sendable, Hashable {
  /// Which of the numbered versions in its folder are served.
  public enum VersionPolicy: Sendable, Hashable {
    case latest(Int)
    case all
    case specific([Int])
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
  /// Names of the classes, for `classify`.
  public var classLabels: [String]?

  public init(name: String, path: String) { (self.name, self.path) = (name, path) }
}
