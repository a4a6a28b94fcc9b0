import ApusExport

/// A version of a model that takes traffic. Holding it keeps the model in memory, so that a request that has begun ends with it.
public final class ServedModel: Sendable {
  public let name: String
  public let version: Int
  public let configuration: ModelConfiguration
  public let scheduler: Scheduler
  /// When it was ready, for orderings and pages.
  public let loadedAt = ContinuousClock.now
  /// How long reading and checking its files took.
  public let loadDuration: Duration
  /// How long its warm-up took, and how many requests it had; nil if it had none.
  public let warmUp: WarmUpResult?
  /// Fires when nobody holds it any more.
  let departure = Signal()

  public var servable: any Servable { scheduler.servable }
  public var statistics: ModelStatistics { scheduler.statistics }

  public init(
    name: String, version: Int, configuration: ModelConfiguration, scheduler: Scheduler, loadDuration: Duration = .zero,
    warmUp: WarmUpResult? = nil
  ) {
    (self.name, self.version, self.configuration, self.scheduler) = (name, version, configuration, scheduler)
    (self.loadDuration, self.warmUp) = (loadDuration, warmUp)
  }

  deinit { departure.fire() }

  /// The signature of this name, or the default one.
  /// - Throws: ``ServingError``, `notFound` or `invalidArgument`, naming those there are.
  public func signature(_ name: String?) throws(ServingError) -> (name: String, signature: Signature) {
    let known = servable.signatures
    guard let name = name ?? servable.defaultSignature else {
      throw ServingError(
        .invalidArgument,
        "the model '\(self.name)' has several signatures, so a request must name one: "
          + known.keys.sorted().joined(separator: ", "))
    }
    guard let signature = known[name] else {
      throw ServingError(
        .invalidArgument,
        "the model '\(self.name)' has no signature '\(name)'; it has \(known.keys.sorted().joined(separator: ", "))")
    }
    return (name, signature)
  }

  public func infer(_ request: InferenceRequest) async throws(ServingError) -> InferenceResponse {
    try await scheduler.infer(request)
  }
}

/// How warming up a version went.
public struct WarmUpResult: Sendable, Hashable {
  public var requests: Int
  public var duration: Duration

  public init(requests: Int, duration: Duration) { (self.requests, self.duration) = (requests, duration) }
}
