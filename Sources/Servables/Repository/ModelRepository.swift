import ApusExport
import ApusFormats
import Synchronization

/// All models that are served, their versions, and what comes and goes.
///
/// Everything that answers requests looks models up here: ``model(_:version:)``. Changes are made one after the other for each
/// model; a new version is loaded and warmed up before it takes traffic, and the one before it leaves only then.
public final class ModelRepository: Sendable {
  /// Who decides what is loaded.
  public enum Mode: Sendable, Hashable {
    /// What is there at the start, and again at ``reload(_:)`` (SIGHUP).
    case fixed
    /// Folders are looked at again after each interval.
    case polling(Duration)
    /// Nothing is loaded unless ``load(_:configuration:)`` asks for it.
    case explicit
  }

  /// Finds out which models there are, for example by ``ModelConfiguration/scan(_:formats:)``.
  public typealias Source = @Sendable () throws(ServingError) -> [ModelConfiguration]

  public let mode: Mode
  public let options: RepositoryOptions
  let state = Mutex(State())
  /// Changes of the whole set, one after the other.
  let changes = TurnQueue()
  /// Loading, a few at once.
  let loads: TurnQueue

  public init(mode: Mode = .fixed, options: RepositoryOptions = .init()) {
    (self.mode, self.options) = (mode, options)
    loads = TurnQueue(options.loadThreads)
    if let observer = options.onEvent { state.withLock { $0.observers = [observer] } }
  }

  deinit { state.withLock { $0.poller }?.cancel() }

  // MARK: Looking up

  /// The version of a model that a request is for.
  /// - Throws: ``ServingError``: `notFound` if there is no such model, version or label; `unavailable` while it loads, if the model could
  ///   not be loaded, and after ``drain()``.
  public func model(_ name: String, version: VersionChoice = .latest) throws(ServingError) -> ServedModel {
    let found = state.withLock { state -> Result<ServedModel, ServingError> in
      if state.phase == .draining {
        return .failure(ServingError(.unavailable, "the server is shutting down", retryAfter: .seconds(1)))
      }
      guard let entry = state.entries[name], entry.isWanted || !entry.available.isEmpty else {
        return .failure(ServingError(.notFound, "there is no model '\(FormatError.excerpt(name))'"))
      }
      return entry.find(version)
    }
    return try found.get()
  }

  /// The names of all models that are configured, in order; in explicit mode those that are not loaded, too.
  public var names: [String] { state.withLock { $0.entries.keys.sorted() } }

  /// The versions that take traffic now, of one model or all.
  public func served(_ name: String? = nil) -> [ServedModel] {
    let models = state.withLock { state -> [ServedModel] in
      if let name { return state.entries[name].map { Array($0.available.values) } ?? [] }
      return state.entries.values.flatMap(\.available.values)
    }
    return models.sorted { ($0.name, $0.version) < ($1.name, $1.version) }
  }

  /// What is known of a model's versions, highest first, those that failed or have gone included.
  /// - Throws: ``ServingError``, `notFound`.
  public func status(_ name: String) throws(ServingError) -> [VersionStatus] {
    let found = state.withLock { state in state.entries[name]?.statuses ?? state.former.first { $0.name == name }?.statuses }
    guard let found else { throw ServingError(.notFound, "there is no model '\(FormatError.excerpt(name))'") }
    return found
  }

  /// The versions that a model's labels stand for now.
  public func labels(_ name: String) -> [String: Int] { state.withLock { $0.entries[name]?.labels ?? [:] } }

  /// What a person should know of a model's folder: why nothing is found there, names that are no versions.
  public func notices(_ name: String) -> [String] { state.withLock { $0.entries[name]?.notices ?? [] } }

  /// Whether every configured model has an available version: what `/v2/health/ready` says. In explicit mode, every model that
  /// was asked for. False until the first ``reload(_:)`` has ended, and from ``drain()`` on.
  public var isReady: Bool {
    state.withLock { state in
      state.phase == .running && state.entries.values.allSatisfy { !$0.isWanted || !$0.available.isEmpty }
    }
  }

  /// Whether requests to this model (and version) are answered.
  public func isModelReady(_ name: String, version: VersionChoice = .latest) -> Bool {
    (try? model(name, version: version)) != nil
  }

  /// The configurations now, in order of the names.
  public var configurations: [ModelConfiguration] {
    state.withLock { $0.entries.values.map(\.configuration) }.sorted { $0.name < $1.name }
  }

  /// Adds someone who is told what happens, on whatever thread it happens.
  public func onEvent(_ observer: @escaping @Sendable (RepositoryEvent) -> Void) {
    state.withLock { $0.observers.append(observer) }
  }

  // MARK: Changing

  /// Serves these models and no others: what is new is loaded and warmed up first, what is no longer named leaves after.
  /// Returns when all has been done. Versions that failed before are tried again.
  /// - Throws: ``ServingError`` if the configurations are not valid as a whole; then nothing changes. Also if a label's version could
  ///   not be loaded. A model that cannot be loaded is no error of this call: ``status(_:)`` has it.
  public func reload(_ configurations: [ModelConfiguration]) async throws(ServingError) {
    try await detached { await self.replaceAll(with: configurations, source: nil) }
  }

  /// Serves the models that `source` finds now, and keeps it: ``reload()`` and polling ask it again.
  /// - Throws: ``ServingError``, as ``reload(_:)``, and what `source` throws.
  public func reload(from source: @escaping Source) async throws(ServingError) {
    try await detached { await self.replaceAll(with: nil, source: source) }
  }

  /// Looks again at everything: what the last source finds, or the configurations of the last reload.
  public func reload() async throws(ServingError) {
    try await detached { [self] in
      if let source = state.withLock({ $0.source }) { return await replaceAll(with: nil, source: source) }
      return await replaceAll(with: configurations, source: nil)
    }
  }

  /// Looks at all folders once, as polling does: new versions are loaded, and those the policy no longer has leave. Models whose
  /// folder has gone are served on.
  public func poll() async {
    let work = Task { await self.pollOnce() }
    await work.value
  }

  /// Loads a model, or looks for new versions and changed files of it; ends when they take traffic.
  /// - Parameter configuration: replaces the model's own.
  /// - Throws: ``ServingError``: `notFound` if it is not configured; why nothing could be loaded. What was served is served on.
  public func load(_ name: String, configuration: ModelConfiguration? = nil) async throws(ServingError) {
    try await detached { await self.loadOne(name, configuration) }
  }

  /// Takes a model out of traffic and memory; requests it has taken are answered first. It stays configured. Nothing happens if it is
  /// not loaded.
  public func unload(_ name: String) async throws(ServingError) {
    let work = Task { await self.unloadOne(name) }
    await work.value
  }

  /// Ends when every request that was taken has been answered; new ones are refused.
  public func drain() async {
    let (poller, schedulers) = state.withLock { state in
      state.phase = .draining
      let schedulers = state.entries.values.flatMap(\.available.values).map(\.scheduler)
      return (state.poller, schedulers)
    }
    poller?.cancel()
    await withTaskGroup(of: Void.self) { group in
      for scheduler in schedulers { group.addTask { await scheduler.drain() } }
    }
  }

  /// Does a change to its end, even if the caller's task is cancelled.
  private func detached(_ work: @escaping @Sendable () async -> Result<Void, ServingError>) async throws(ServingError) {
    let task = Task { await work() }
    try await task.value.get()
  }
}

// MARK: - What is known

extension ModelRepository {
  enum Phase: Sendable {
    case starting, running, draining
  }

  struct State: Sendable {
    var phase = Phase.starting
    var entries: [String: Entry] = [:]
    /// Models that are no longer configured, for their status; the last ones only.
    var former: [(name: String, statuses: [VersionStatus])] = []
    var observers: [@Sendable (RepositoryEvent) -> Void] = []
    var source: Source?
    var poller: Task<Void, Never>?
  }

  /// What happened to a version.
  struct Record: Sendable {
    var state: ModelState
    var error: ServingError?
    /// The files that this is about; of an available version, those that were loaded.
    var fingerprint: VersionFiles.Fingerprint?
    /// Of an available version, newer files that could not be loaded.
    var failed: VersionFiles.Fingerprint?
    /// A number that grows, so that the oldest can be forgotten.
    var order = 0
  }

  struct Entry: Sendable {
    var configuration: ModelConfiguration
    /// False in explicit mode until it is asked for, and after it was unloaded.
    var isWanted: Bool
    var available: [Int: ServedModel] = [:]
    var labels: [String: Int] = [:]
    var records: [Int: Record] = [:]
    var notices: [String] = []
    /// Why nothing is found in the folder.
    var problem: ServingError?
    /// Changes of this model, one after the other.
    let turns = TurnQueue()
    var order = 0

    init(_ configuration: ModelConfiguration, isWanted: Bool) {
      (self.configuration, self.isWanted) = (configuration, isWanted)
    }

    static let recordLimit = 32

    /// Notes the state of a version; of those that are over, only the last ones are kept.
    mutating func set(_ version: Int, _ state: ModelState, error: ServingError? = nil, _ print: VersionFiles.Fingerprint? = nil) {
      order += 1
      records[version] = Record(
        state: state, error: error, fingerprint: print ?? records[version]?.fingerprint, order: order)
      forgetOldest()
    }

    /// Notes how far loading is. A version that is served meanwhile, from older files, stays available.
    mutating func note(_ version: Int, _ state: ModelState, _ error: ServingError?, _ print: VersionFiles.Fingerprint) {
      guard available[version] != nil else { return set(version, state, error: error, print) }
      records[version]?.error = error
      records[version]?.failed = error == nil ? nil : print
    }

    private mutating func forgetOldest() {
      let over = records.filter { $0.value.state == .end || $0.value.state == .start }
      guard over.count > Self.recordLimit, let oldest = over.min(by: { $0.value.order < $1.value.order }) else { return }
      records[oldest.key] = nil
    }

    var statuses: [VersionStatus] {
      records.keys.sorted(by: >).map { VersionStatus(version: $0, state: records[$0]!.state, error: records[$0]!.error) }
    }

    func find(_ choice: VersionChoice) -> Result<ServedModel, ServingError> {
      let name = configuration.name
      func missing(_ version: Int) -> ServingError {
        switch records[version]?.state {
        case .loading:
          return ServingError(.unavailable, "version \(version) of the model '\(name)' is still loading", retryAfter: .seconds(1))
        case .start where records[version]?.error == nil:
          return ServingError(
            .unavailable, "version \(version) of the model '\(name)' waits to be loaded", retryAfter: .seconds(1))
        default:
          let why = records[version]?.error.map { ": \($0.message)" } ?? ""
          return ServingError(.notFound, "the model '\(name)' has no version \(version) that is served" + why)
        }
      }
      switch choice {
      case .latest:
        if let latest = available.max(by: { $0.key < $1.key })?.value { return .success(latest) }
        if records.values.contains(where: { $0.state == .loading || ($0.state == .start && $0.error == nil) })
          || records.isEmpty && problem == nil
        {
          return .failure(ServingError(.unavailable, "the model '\(name)' is still loading", retryAfter: .seconds(1)))
        }
        let why = records.sorted { $0.key > $1.key }.compactMap(\.value.error).first ?? problem
        return .failure(
          ServingError(.unavailable, "the model '\(name)' has no version that is served" + (why.map { ": \($0.message)" } ?? "")))
      case .number(let version):
        if let model = available[version] { return .success(model) }
        return .failure(missing(version))
      case .label(let label):
        guard let version = labels[label] else {
          let known = labels.isEmpty ? "it has none" : "it has \(labels.keys.sorted().joined(separator: ", "))"
          return .failure(
            ServingError(.notFound, "the model '\(name)' has no label '\(FormatError.excerpt(label))'; \(known)"))
        }
        if let model = available[version] { return .success(model) }
        return .failure(missing(version))
      }
    }
  }
}
