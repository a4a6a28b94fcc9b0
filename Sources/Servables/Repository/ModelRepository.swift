import ApusExport
import Synchronization

/// All models that are served, their versions, and what comes and goes.
///
/// Everything that answers requests looks models up here: ``model(_:version:)``.
public final class ModelRepository: Sendable {
  /// Who decides what is loaded.
  public enum Mode: Sendable, Hashable {
    /// What is there at the start, and again at ``reload(_:)`` (SIGHUP).
    case fixed
    /// Folders are looked at again after each interval.
    case polling(Duration)
    /// Nothing is loaded unless ``load(_:)`` asks for it.
    case explicit
  }

  private let models = Mutex<[String: [Int: ServedModel]]>([:])
  public let mode: Mode

  public init(mode: Mode = .fixed) { self.mode = mode }

  // MARK: Looking up

  /// The version of a model that a request is for.
  /// - Throws: ``ServingError``: `notFound` if there is no such model, version or label; `unavailable` while it loads.
  public func model(_ name: String, version: VersionChoice = .latest) throws(ServingError) -> ServedModel {
    guard let versions = models.withLock({ $0[name] }), let latest = versions.keys.max() else {
      throw ServingError(.notFound, "there is no model '\(name)'")
    }
    switch version {
    case .latest: return versions[latest]!
    case .number(let number):
      guard let model = versions[number] else { throw ServingError(.notFound, "the model '\(name)' has no version \(number)") }
      return model
    case .label(let label): throw ServingError(.notFound, "the model '\(name)' has no label '\(label)'")
    }
  }

  /// The names of all models that are configured, in order.
  public var names: [String] { models.withLock { $0.keys.sorted() } }

  /// The versions that take traffic now, of one model or all.
  public func served(_ name: String? = nil) -> [ServedModel] {
    models.withLock { models in
      models.filter { name == nil || $0.key == name }.values.flatMap(\.values).sorted {
        ($0.name, $0.version) < ($1.name, $1.version)
      }
    }
  }

  /// What is known of a model's versions, highest first, those that failed or have gone included.
  /// - Throws: ``ServingError``, `notFound`.
  public func status(_ name: String) throws(ServingError) -> [VersionStatus] {
    guard let versions = models.withLock({ $0[name] }) else { throw ServingError(.notFound, "there is no model '\(name)'") }
    return versions.keys.sorted(by: >).map { VersionStatus(version: $0, state: .available) }
  }

  /// Whether every configured model has an available version: what `/v2/health/ready` says.
  public var isReady: Bool { true }

  /// The configurations now.
  public var configurations: [ModelConfiguration] { served().map(\.configuration) }

  // MARK: Changing

  /// Serves these models and no others: what is new is loaded and warmed up first, what is no longer named leaves after.
  /// Returns when all has been done.
  /// - Throws: ``ServingError`` if the configurations are not valid as a whole; then nothing changes. A model that cannot be loaded is
  ///   no error of this call: ``status(_:)`` has it.
  public func reload(_ configurations: [ModelConfiguration]) async throws(ServingError) {
    for configuration in configurations {
      let servable = try ArtifactFormat().load(configuration.path)
      let scheduler = Scheduler(servable, name: configuration.name, options: configuration.scheduling)
      let model = ServedModel(name: configuration.name, version: 1, configuration: configuration, scheduler: scheduler)
      models.withLock { $0[configuration.name] = [1: model] }
    }
  }

  /// Loads a model, or looks for new versions of it; ends when they take traffic.
  public func load(_ name: String) async throws(ServingError) {}

  /// Takes a model out of traffic and memory; requests it has taken are answered first.
  public func unload(_ name: String) async throws(ServingError) {}

  /// Ends when every request that was taken has been answered; new ones are refused.
  public func drain() async {}
}
