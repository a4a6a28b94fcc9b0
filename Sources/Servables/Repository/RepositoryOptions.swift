/// How a repository loads and lets go.
public struct RepositoryOptions: Sendable {
  /// Versions that are loaded at once.
  public var loadThreads = 1
  /// How often loading is tried again after an error that may pass, such as a disk that cannot be read now.
  public var loadRetries = 2
  public var retryInterval: Duration = .seconds(1)
  /// Whether labels may name versions that are not there; requests for them fail until they are.
  public var allowsLabelsForUnavailableVersions = false
  /// How long requests to a version that left may take; those that have not begun by then are refused.
  public var drainTimeout: Duration = .seconds(60)
  /// Reads a record of `assets.extra/tf_serving_warmup_requests`, a `PredictionLog`. nil: requests to Predict are read, others are left out.
  public var warmUpLog: WarmUpLog?
  /// The kinds of models that can be read.
  public var formats = ModelFormats.standard
  /// Told what happens, on whatever thread it happens: quick, and without waiting.
  public var onEvent: (@Sendable (RepositoryEvent) -> Void)?

  /// Makes the request of a recorded one, for a model.
  public typealias WarmUpLog =
    @Sendable (_ record: UnsafeRawBufferPointer, _ servable: any Servable) throws(ServingError) -> InferenceRequest

  public init() {}
}
