import ApusFormats
import ApusTensor
import CApusKernels
import Synchronization

extension ModelRepository {
  /// A version that has been taken out of the table, without holding it.
  private final class Leaving: Sendable {
    let name: String
    let version: Int
    let departure: Signal
    /// Fires when its memory has been given back; nil if other settings of the same model have taken its place.
    let released: Signal?
    /// False if other files, or other settings, of the same version have taken its place.
    let endsVersion: Bool
    private let scheduler: Mutex<Scheduler?>

    init(_ model: ServedModel, endsVersion: Bool, keepsServable: Bool = false) {
      (name, version) = (model.name, model.version)
      scheduler = Mutex(model.scheduler)
      (departure, self.endsVersion) = (model.departure, endsVersion)
      released = keepsServable ? nil : (model.servable as? TrackedServable)?.released
    }

    /// Waits for what is in its queue, and lets go of it.
    func drain() async { await scheduler.withLock { $0.take() }?.drain() }
  }

  private func tell(_ event: RepositoryEvent) {
    let observers = state.withLock { $0.observers }
    for observer in observers { observer(event) }
  }

  private func tell(_ name: String, _ version: Int?, _ kind: RepositoryEvent.Kind) {
    tell(RepositoryEvent(model: name, version: version, kind: kind))
  }

  // MARK: The whole set

  func replaceAll(with list: [ModelConfiguration]?, source: Source?) async -> Result<Void, ServingError> {
    await changes.run { [self] in
      if state.withLock({ $0.phase == .draining }) { return .failure(Self.isDraining) }
      let current = state.withLock { $0.entries.mapValues { (labels: $0.labels, available: Set($0.available.keys)) } }
      let checked = await inBackground(quiet: isServing) { [options] () -> Result<[ModelConfiguration], ServingError> in
        do throws(ServingError) {
          let configurations: [ModelConfiguration]
          if let list { configurations = list } else { configurations = try source?() ?? [] }
          try Self.validate(configurations, options, current.mapValues(\.available))
          return .success(configurations)
        } catch { return .failure(error) }
      }
      let configurations: [ModelConfiguration]
      switch checked {
      case .failure(let error): return .failure(error)
      case .success(let list): configurations = list
      }
      let named = Set(configurations.map(\.name))
      let gone = state.withLock { state -> [String] in
        state.source = source
        for configuration in configurations {
          state.put(configuration, isWanted: mode != .explicit)
          if mode != .explicit { state.entries[configuration.name]?.isWanted = true }
        }
        return state.entries.keys.filter { !named.contains($0) }
      }
      await reconcileAll(configurations.map(\.name), force: true)
      for name in gone { await forget(name) }
      let problem = state.withLock { state -> ServingError? in
        if state.phase == .starting { state.phase = .running }
        guard !options.allowsLabelsForUnavailableVersions else { return nil }
        for configuration in configurations.sorted(by: { $0.name < $1.name }) {
          guard let entry = state.entries[configuration.name], entry.isWanted else { continue }
          for (label, version) in configuration.labels.sorted(by: { $0.key < $1.key }) where entry.available[version] == nil {
            let why = entry.records[version]?.error.map { ": \($0.message)" } ?? ""
            return ServingError(
              .failedPrecondition,
              "the label '\(label)' cannot be given to version \(version) of the model '\(configuration.name)', "
                + "which is not available" + why)
          }
        }
        return nil
      }
      startPolling()
      return problem.map { .failure($0) } ?? .success(())
    }
  }

  private static let isDraining = ServingError(.unavailable, "the server is shutting down")

  /// Whether requests are answered that loading should not disturb.
  private var isServing: Bool { state.withLock { $0.entries.values.contains { !$0.available.isEmpty } } }

  private static func validate(
    _ configurations: [ModelConfiguration], _ options: RepositoryOptions, _ available: [String: Set<Int>]
  ) throws(ServingError) {
    var names: Set<String> = []
    for configuration in configurations {
      try configuration.validate(options.formats)
      let name = configuration.name
      guard names.insert(name).inserted else { throw ServingError(.invalidArgument, "two models are called '\(name)'") }
      guard fileKind(configuration.path) != nil else {
        throw ServingError(
          .notFound, "the model '\(name)': there is nothing at '\(FormatError.excerpt(configuration.path))'")
      }
      guard !configuration.labels.isEmpty, !options.allowsLabelsForUnavailableVersions else { continue }
      let folder = ModelFolder(configuration, formats: options.formats)
      for (label, version) in configuration.labels.sorted(by: { $0.key < $1.key }) {
        let isThere = folder.versions[version].map { $0.problem == nil } ?? false
        guard isThere || available[name]?.contains(version) == true else {
          throw ServingError(
            .failedPrecondition,
            "the label '\(label)' cannot be given to version \(version) of the model '\(name)', which is not available"
              + (folder.versions[version]?.problem.map { ": \($0.message)" } ?? ""))
        }
      }
    }
  }

  private func reconcileAll(_ names: [String], force: Bool) async {
    await withTaskGroup(of: Void.self) { group in
      for name in names { group.addTask { _ = await self.inTurn(name) { await self.reconcile(name, force: force) } } }
    }
  }

  /// Runs a change of one model when those before it are through; nil if there is no such model.
  private func inTurn<Result: Sendable>(_ name: String, _ body: @Sendable () async -> Result) async -> Result? {
    guard let turns = state.withLock({ $0.entries[name]?.turns }) else { return nil }
    return await turns.run(body)
  }

  /// Takes a model away that is no longer configured.
  private func forget(_ name: String) async {
    _ = await inTurn(name) { [self] in
      let leaving = state.withLock { state -> [Leaving] in
        state.entries[name]?.isWanted = false
        return state.take(name) { _ in false }.map { Leaving($0, endsVersion: true) }
      }
      await retire(leaving)
      state.withLock { state in
        guard let entry = state.entries.removeValue(forKey: name) else { return }
        // What still leaves will have left.
        let statuses = entry.statuses.map { status in
          var status = status
          if status.state != .end { status.state = .end }
          return status
        }
        state.former.removeAll { $0.name == name }
        state.former.append((name, statuses))
        if state.former.count > 64 { state.former.removeFirst() }
      }
    }
  }

  // MARK: Polling

  private func startPolling() {
    guard case .polling(let interval) = mode else { return }
    state.withLock { state in
      guard state.poller == nil, state.phase == .running else { return }
      state.poller = Task(priority: .utility) { [weak self] in
        while !Task.isCancelled {
          do { try await Task.sleep(for: interval) } catch { return }
          guard let self else { return }
          await self.pollOnce()
        }
      }
    }
  }

  func pollOnce() async {
    await changes.run { [self] in
      guard state.withLock({ $0.phase == .running }) else { return }
      if let source = state.withLock({ $0.source }) {
        let options = options
        let found = await inBackground(quiet: true) { () -> Result<[ModelConfiguration], ServingError> in
          do throws(ServingError) {
            let configurations = try source()
            for configuration in configurations { try configuration.validate(options.formats) }
            return .success(configurations)
          } catch { return .failure(error) }
        }
        switch found {
        case .success(let configurations):
          // What the source no longer finds is served on: a folder may be gone for a moment, or by mistake.
          state.withLock { state in
            for configuration in configurations { state.put(configuration, isWanted: mode != .explicit) }
          }
        case .failure(let error):
          tell("*", nil, .notice("the models cannot be looked up: \(error.message)"))
        }
      }
      let wanted = state.withLock { state in state.entries.filter(\.value.isWanted).keys.sorted() }
      await reconcileAll(wanted, force: false)
    }
  }

  // MARK: One model

  func loadOne(_ name: String, _ configuration: ModelConfiguration?) async -> Result<Void, ServingError> {
    do throws(ServingError) {
      if state.withLock({ $0.phase == .draining }) { throw Self.isDraining }
      if var configuration {
        configuration.name = name
        try configuration.validate(options.formats)
        let new = configuration
        state.withLock { state in
          if state.entries[name] != nil { state.entries[name]?.configuration = new }
        }
      }
      if state.withLock({ $0.entries[name] == nil }), let source = state.withLock({ $0.source }) {
        // It may have come since the folder was looked at.
        let found = await inBackground(quiet: true) { () -> Result<[ModelConfiguration], ServingError> in
          do throws(ServingError) { return .success(try source()) } catch { return .failure(error) }
        }
        if let new = try found.get().first(where: { $0.name == name }) {
          try new.validate(options.formats)
          state.withLock { $0.put(configuration ?? new, isWanted: false) }
        }
      }
      let failures = await inTurn(name) { [self] () -> [ServingError] in
        let wasWanted = state.withLock { state -> Bool in
          defer {
            state.entries[name]?.isWanted = true
            if state.phase == .starting { state.phase = .running }
          }
          return state.entries[name]?.isWanted ?? false
        }
        let outcome = await reconcile(name, force: true)
        let isAvailable = state.withLock { state -> Bool in
          let isAvailable = !(state.entries[name]?.available.isEmpty ?? true)
          // What could not be loaded is not waited for: the other models are ready without it.
          if !isAvailable, !wasWanted { state.entries[name]?.isWanted = false }
          return isAvailable
        }
        if isAvailable, outcome.loaded > 0 || outcome.failures.isEmpty { return [] }
        if let first = outcome.failures.first { return [first] }
        return [ServingError(.failedPrecondition, "the model '\(name)' has no version that can be loaded")]
      }
      guard let failures else { throw ServingError(.notFound, "there is no model '\(FormatError.excerpt(name))'") }
      if let failure = failures.first {
        throw ServingError(
          failure.code, "the model '\(name)' could not be loaded: \(failure.message)", retryAfter: failure.retryAfter)
      }
      return .success(())
    } catch { return .failure(error) }
  }

  func unloadOne(_ name: String) async {
    _ = await inTurn(name) { [self] in
      state.withLock { $0.entries[name]?.isWanted = false }
      _ = await reconcile(name, force: false)
    }
  }

  /// What one look at a model's folder led to.
  struct Outcome: Sendable {
    var loaded = 0
    var failures: [ServingError] = []
  }

  /// Makes the versions that are served those that the configuration wants. To be called in the model's turn.
  /// - Parameter force: what failed before is tried again, though its files have not changed.
  private func reconcile(_ name: String, force: Bool) async -> Outcome {
    var outcome = Outcome()
    // Not the entry itself: it would hold the versions that are to leave.
    let before = state.withLock { state in
      state.entries[name].map { entry in
        (
          configuration: entry.configuration, isWanted: entry.isWanted, labels: entry.labels,
          served: entry.available.mapValues(\.configuration)
        )
      }
    }
    guard let before else { return outcome }
    let (configuration, oldLabels, known) = (before.configuration, before.labels, before.served)
    guard before.isWanted else {
      await retire(
        state.withLock { state in
          state.entries[name]?.labels = [:]
          return state.take(name) { _ in false }.map { Leaving($0, endsVersion: true) }
        })
      return outcome
    }
    let formats = options.formats
    let folder = await inBackground(quiet: isServing) { ModelFolder(configuration, formats: formats) }
    note(folder, of: name, isServed: !known.isEmpty)
    if let problem = folder.problem {
      outcome.failures.append(problem)
      return outcome
    }

    // The versions that are wanted, in the order of preference, and how many of them.
    let onDisk = folder.versions.keys.sorted(by: >)
    let (candidates, count) =
      switch configuration.versionPolicy {
      case .latest(let count): (onDisk, count)
      case .all: (onDisk, onDisk.count)
      case .specific(let versions): (Set(versions).sorted(by: >), versions.count)
      }
    var kept: Set<Int> = []

    /// Whether the version takes traffic in the end.
    func serve(_ version: Int) async -> Bool {
      if kept.contains(version) { return true }
      guard let files = folder.versions[version] else {
        if known[version] != nil { return true }
        let error = ServingError(.notFound, "there is no folder '\(version)' in '\(FormatError.excerpt(configuration.path))'")
        state.withLock { $0.entries[name]?.set(version, .start, error: error, .init()) }
        outcome.failures.append(error)
        return false
      }
      let record = state.withLock { $0.entries[name]?.records[version] }
      if let served = known[version] {
        if record?.fingerprint == files.fingerprint || (record?.error != nil && record?.failed == files.fingerprint && !force) {
          if !served.servesLike(configuration) { await exchange(name, version, configuration, files) }
          return true
        }
      } else if let record, record.error != nil, record.fingerprint == files.fingerprint, !force {
        return false
      }
      switch await load(name, files, configuration) {
      case nil:
        outcome.loaded += 1
        return true
      case let error?:
        outcome.failures.append(error)
        return known[version] != nil
      }
    }

    for version in candidates {
      if kept.count == count { break }
      if await serve(version) { kept.insert(version) }
    }
    // A version with a label stays, and a label stays with its version until the next one is there.
    for (label, version) in configuration.labels.sorted(by: { $0.key < $1.key }) {
      if await serve(version) {
        kept.insert(version)
      } else if let old = oldLabels[label], known[old] != nil {
        kept.insert(old)
      }
    }
    let keptNow = kept
    let allowsMissing = options.allowsLabelsForUnavailableVersions
    let leaving = state.withLock { state -> [Leaving] in
      guard let entry = state.entries[name] else { return [] }
      var labels: [String: Int] = [:]
      for (label, version) in configuration.labels {
        if entry.available[version] != nil || allowsMissing {
          labels[label] = version
        } else if let old = oldLabels[label], entry.available[old] != nil {
          labels[label] = old
        }
      }
      state.entries[name]?.labels = labels
      // The only version stays until another can take its place.
      guard !keptNow.isEmpty else { return [] }
      return state.take(name) { keptNow.contains($0) }.map { Leaving($0, endsVersion: true) }
    }
    await retire(leaving)
    // Versions that were not complete and have gone again.
    state.withLock { state in
      guard let entry = state.entries[name] else { return }
      for (version, record) in entry.records
      where record.state == .start && folder.versions[version] == nil && !candidates.contains(version) {
        state.entries[name]?.records[version] = nil
      }
    }
    return outcome
  }

  /// Keeps what a person should know of a model's folder, and says it once.
  private func note(_ folder: ModelFolder, of name: String, isServed: Bool) {
    var notices = folder.notices
    if let problem = folder.problem {
      notices.append(problem.message + (isServed ? "; what is loaded is served on" : ""))
    }
    let new = state.withLock { state -> [String] in
      let old = state.entries[name]?.notices ?? []
      state.entries[name]?.notices = notices
      state.entries[name]?.problem = folder.problem
      return notices.filter { !old.contains($0) }
    }
    for notice in new { tell(name, nil, .notice(notice)) }
  }

  // MARK: One version

  /// Loads a version, and gives it traffic.
  /// - Returns: why it could not be loaded.
  private func load(_ name: String, _ files: VersionFiles, _ configuration: ModelConfiguration) async -> ServingError? {
    let version = files.version
    state.withLock { $0.entries[name]?.note(version, .start, nil, files.fingerprint) }
    return await loads.run { [self] () async -> ServingError? in
      let incomplete = await inBackground(quiet: isServing) { () -> ServingError? in
        if let problem = files.problem { return problem }
        guard let format = files.format else { return ServingError(.failedPrecondition, "no model is there yet") }
        do throws(ServingError) {
          try format.verify(files.path)
          return nil
        } catch { return error }
      }
      if let incomplete { return notComplete(name, files, incomplete) }
      state.withLock { $0.entries[name]?.note(version, .loading, nil, files.fingerprint) }
      tell(name, version, .loading)
      var tries = 0
      while true {
        tries += 1
        switch await inBackground(quiet: isServing, { [options] in LoadedVersion.load(files, configuration, options) }) {
        case .success(let loaded):
          publish(name, files, configuration, loaded)
          await returnMemory()
          return nil
        case .failure(let error):
          // What the files say is not yet what they should.
          if error.code == .failedPrecondition { return notComplete(name, files, error) }
          let mayPass = error.code == .unavailable || error.code == .resourceExhausted
          if mayPass, tries <= options.loadRetries, state.withLock({ $0.phase != .draining && $0.entries[name] != nil }) {
            try? await Task.sleep(for: options.retryInterval)
            continue
          }
          state.withLock { $0.entries[name]?.note(version, .end, error, files.fingerprint) }
          tell(name, version, .failed(error))
          return error
        }
      }
    }
  }

  /// Notes that a version's files are not, or not yet, what they should be.
  private func notComplete(_ name: String, _ files: VersionFiles, _ error: ServingError) -> ServingError {
    // When nobody looks again by itself, it has failed.
    var isFinal = true
    if case .polling = mode { isFinal = false }
    state.withLock { $0.entries[name]?.note(files.version, isFinal ? .end : .start, error, files.fingerprint) }
    tell(name, files.version, isFinal ? .failed(error) : .incomplete(error))
    return error
  }

  private func publish(_ name: String, _ files: VersionFiles, _ configuration: ModelConfiguration, _ loaded: LoadedVersion) {
    let model = loaded.served(name, files.version, configuration, statistics: .init())
    let (old, isTaken) = state.withLock { state -> (Leaving?, Bool) in
      guard state.phase != .draining, state.entries[name] != nil else { return (nil, false) }
      let old = state.entries[name]?.available.updateValue(model, forKey: files.version)
      state.entries[name]?.set(files.version, .available, files.fingerprint)
      return (old.map { Leaving($0, endsVersion: false) }, true)
    }
    guard isTaken else { return }
    tell(name, files.version, .available(load: loaded.loadDuration, warmUp: loaded.warmUp))
    if let old { Task { await retire([old]) } }
  }

  /// Gives a version that is served other settings, without loading it again.
  private func exchange(_ name: String, _ version: Int, _ configuration: ModelConfiguration, _ files: VersionFiles) async {
    guard let old = state.withLock({ $0.entries[name]?.available[version] }) else { return }
    let settings = await inBackground(quiet: true) { VersionSettings.read(files, configuration) }
    guard case .success(let settings) = settings else { return }
    let base = (old.servable as? TrackedServable)?.base ?? old.servable
    let loaded = LoadedVersion(servable: base, settings: settings, loadDuration: old.loadDuration, warmUp: old.warmUp)
    let model = loaded.served(name, version, configuration, statistics: old.statistics)
    let leaving = state.withLock { state -> Leaving? in
      state.entries[name]?.available.updateValue(model, forKey: version).map {
        Leaving($0, endsVersion: false, keepsServable: true)
      }
    }
    if let leaving { Task { await retire([leaving]) } }
  }

  /// Lets versions go that have been taken out of the table. Returns when their memory is back, or after two seconds if somebody still
  /// holds them; the rest is then done when they are through.
  private func retire(_ leaving: [Leaving]) async {
    guard !leaving.isEmpty else { return }
    for model in leaving where model.endsVersion { tell(model.name, model.version, .unloading) }
    let done = Signal()
    Task { [self] in
      await withTaskGroup(of: Void.self) { group in
        for model in leaving { group.addTask { await self.finish(model) } }
      }
      done.fire()
    }
    _ = await done.wait(for: .seconds(2))
  }

  private func finish(_ model: Leaving) async {
    // Requests that had found it may not have entered its queue yet: it is drained when nobody holds it, or after a long time.
    _ = await model.departure.wait(for: options.drainTimeout)
    await model.drain()
    if let released = model.released {
      // The last run's thread may hold it a moment longer.
      _ = await released.wait(for: .seconds(1))
      await returnMemory()
    }
    let isOver = state.withLock { state -> Bool in
      guard model.endsVersion else { return false }
      if state.entries[model.name]?.records[model.version]?.state == .unloading {
        state.entries[model.name]?.set(model.version, .end)
      }
      return true
    }
    if isOver { tell(model.name, model.version, .unloaded) }
  }

  /// Gives memory that is cached back to the system. At the usual priority: it holds locks that others may want.
  private func returnMemory() async {
    await inBackground(quiet: false) {
      apus_trim_memory()
      apus_reset_peak_memory()
    }
  }
}

extension ModelRepository.State {
  /// Adds a model, or changes how one is served.
  mutating func put(_ configuration: ModelConfiguration, isWanted: Bool) {
    if entries[configuration.name] != nil {
      entries[configuration.name]?.configuration = configuration
    } else {
      entries[configuration.name] = ModelRepository.Entry(configuration, isWanted: isWanted)
    }
  }

  /// Takes all versions out of the table but those that are kept.
  fileprivate mutating func take(_ name: String, keeping isKept: (Int) -> Bool) -> [ServedModel] {
    guard let entry = entries[name] else { return [] }
    var taken: [ServedModel] = []
    for (version, model) in entry.available where !isKept(version) {
      entries[name]?.available[version] = nil
      entries[name]?.set(version, .unloading)
      taken.append(model)
    }
    return taken
  }
}
