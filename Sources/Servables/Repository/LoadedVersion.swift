import ApusExport
import ApusFormats
import ApusTensor

/// A model of whatever format, with the labels that were found beside it; says when it is gone.
final class TrackedServable: Servable {
  let base: any Servable
  let classLabels: [String]?
  let released = Signal()

  init(_ base: any Servable, classLabels: [String]?) { (self.base, self.classLabels) = (base, classLabels) }

  deinit { released.fire() }

  var signatures: [String: Signature] { base.signatures }
  var defaultSignature: String? { base.defaultSignature }
  var byteCount: Int { base.byteCount }
  var platform: String { base.platform }

  func run(_ inputs: [String: Tensor], signature: String?) throws(ServingError) -> [String: Tensor] {
    try base.run(inputs, signature: signature)
  }
}

/// What stands beside a model in the folder of its version.
struct VersionSettings: Sendable {
  var scheduling: SchedulingOptions
  var classLabels: [String]?

  static func read(_ files: VersionFiles, _ configuration: ModelConfiguration) -> Result<VersionSettings, ServingError> {
    do throws(ServingError) {
      var settings = VersionSettings(scheduling: configuration.scheduling, classLabels: configuration.classLabels)
      if settings.classLabels == nil { settings.classLabels = try ClassLabels.read(in: files.folder) }
      let batching = files.folder + "/batching_params.pbtxt"
      if fileKind(batching) == .file {
        let own = try SchedulingOptions(batchingParameters: batching)
        settings.scheduling.batching = own.batching
        settings.scheduling.instances = own.instances
        settings.scheduling.maxQueueSize = own.maxQueueSize
      }
      return .success(settings)
    } catch { return .failure(error) }
  }
}

/// A version that has been loaded and warmed up.
struct LoadedVersion: Sendable {
  var servable: any Servable
  var settings: VersionSettings
  var loadDuration: Duration
  var warmUp: WarmUpResult?

  /// Reads, checks and warms up on the calling thread.
  static func load(
    _ files: VersionFiles, _ configuration: ModelConfiguration, _ options: RepositoryOptions
  ) -> Result<LoadedVersion, ServingError> {
    do throws(ServingError) {
      guard let format = files.format else { throw ServingError(.failedPrecondition, "no model is there yet") }
      let start = ContinuousClock.now
      let servable = try format.load(files.path)
      let settings = try VersionSettings.read(files, configuration).get()
      try configuration.checkExpectations(servable)
      let loadDuration = ContinuousClock.now - start
      let warmUp = try WarmUp.run(servable, files, configuration, settings.scheduling, log: options.warmUpLog)
      return .success(LoadedVersion(servable: servable, settings: settings, loadDuration: loadDuration, warmUp: warmUp))
    } catch { return .failure(error) }
  }

  func served(
    _ name: String, _ version: Int, _ configuration: ModelConfiguration, statistics: ModelStatistics
  ) -> ServedModel {
    let tracked = TrackedServable(servable, classLabels: settings.classLabels ?? servable.classLabels)
    let scheduler = Scheduler(tracked, name: name, options: settings.scheduling, statistics: statistics)
    return ServedModel(
      name: name, version: version, configuration: configuration, scheduler: scheduler, loadDuration: loadDuration, warmUp: warmUp
    )
  }
}

extension ModelConfiguration {
  /// Whether a version that was loaded for one of the two can be served for the other as it is.
  func servesLike(_ other: ModelConfiguration) -> Bool {
    scheduling == other.scheduling && maxRequestBytes == other.maxRequestBytes && classLabels == other.classLabels
  }

  /// Whether the model takes and gives what the configuration promises.
  /// - Throws: ``ServingError``, `invalidArgument`, naming the tensor.
  func checkExpectations(_ servable: any Servable) throws(ServingError) {
    guard !expectedInputs.isEmpty || !expectedOutputs.isEmpty else { return }
    guard let name = servable.defaultSignature, let signature = servable.signatures[name] else {
      throw ServingError(.invalidArgument, "the configuration names inputs or outputs, but the model has no default signature")
    }
    let inputs = signature.inputs.map { ($0.name, $0.spec.elementType, $0.spec.dimensions.map(Optional.some)) }
    let outputs = signature.outputs.map { ($0.name, $0.elementType, $0.dimensions) }
    for (kind, expected, actual) in [("input", expectedInputs, inputs), ("output", expectedOutputs, outputs)] {
      for tensor in expected {
        let shown = FormatError.excerpt(tensor.name)
        guard let (_, type, dimensions) = actual.first(where: { $0.0 == tensor.name }) else {
          throw ServingError(
            .invalidArgument,
            "the configuration has the \(kind) '\(shown)', but the model's are \(actual.map(\.0).joined(separator: ", "))")
        }
        let words = "\(type)[\(dimensions.map { $0?.description ?? "?" }.joined(separator: ", "))]"
        if let wanted = tensor.elementType, wanted != type {
          throw ServingError(.invalidArgument, "the configuration's \(kind) '\(shown)' is \(wanted), but the model's is \(words)")
        }
        guard let sizes = tensor.dimensions else { continue }
        let own = expectsBatches ? Array(dimensions.dropFirst()) : dimensions
        let fits = zip(sizes, own).allSatisfy { size, dimension in
          switch dimension {
          case .fixed(let fixed)?: size == fixed
          case .open(_, let bounds)?: size == -1 || bounds.contains(size)
          case nil: true
          }
        }
        guard sizes.count == own.count, fits, !expectsBatches || !dimensions.isEmpty else {
          throw ServingError(
            .invalidArgument,
            "the configuration's \(kind) '\(shown)' has the dimensions \(sizes)\(expectsBatches ? " and that of a batch" : ""), "
              + "but the model's is \(words)")
        }
      }
    }
  }
}
