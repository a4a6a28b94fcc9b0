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
  static func load(_ files: VersionFiles, _ configuration: ModelConfiguration) -> Result<LoadedVersion, ServingError> {
    do throws(ServingError) {
      guard let format = files.format else { throw ServingError(.failedPrecondition, "no model is there yet") }
      let start = ContinuousClock.now
      let servable = try format.load(files.path)
      let settings = try VersionSettings.read(files, configuration).get()
      let loadDuration = ContinuousClock.now - start
      return .success(LoadedVersion(servable: servable, settings: settings, loadDuration: loadDuration, warmUp: nil))
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
}
