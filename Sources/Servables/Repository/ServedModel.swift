import ApusExport

/// A version of a model that takes traffic. Holding it keeps the model in memory, so that a request that has begun ends with it.
public final class ServedModel: Sendable {
  public let name: String
  public let version: Int
  public let configuration: ModelConfiguration
  public let scheduler: Scheduler
  /// When it was ready, for orderings and pages.
  public let loadedAt = ContinuousClock.now

  public var servable: any Servable { scheduler.servable }
  public var statistics: ModelStatistics { scheduler.statistics }

  public init(name: String, version: Int, configuration: ModelConfiguration, scheduler: Scheduler) {
    (self.name, self.version, self.configuration, self.scheduler) = (name, version, configuration, scheduler)
  }

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
