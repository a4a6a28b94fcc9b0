import ApusServables
import Dispatch
import Synchronization

/// What every handler of requests shares: the models, the limits, and where it notes what happened.
public struct ServingContext: Sendable {
  public let repository: ModelRepository
  public let limits: ServingLimits
  /// Told of every request to a model, for metrics, logs and traces.
  public let journal: any RequestJournal

  public init(_ repository: ModelRepository, limits: ServingLimits = .init(), journal: any RequestJournal = ServingJournal()) {
    (self.repository, self.limits, self.journal) = (repository, limits, journal)
  }

  /// Runs a request and notes it. Cancelling the task takes it out of the queue.
  /// - Parameters:
  ///   - api: the protocol, for the record.
  ///   - arrived: when its first byte was there.
  func infer(
    _ model: ServedModel, _ request: InferenceRequest, api: RequestRecord.API, arrived: ContinuousClock.Instant
  ) async throws(ServingError) -> InferenceResponse {
    var record = RequestRecord(api: api, id: request.id, model: model.name, version: model.version, arrived: arrived)
    record.statistics = model.statistics
    record.parse = .now - arrived
    do throws(ServingError) {
      let response = try await model.infer(request)
      record.timings = response.timings
      record.total = .now - arrived
      journal.note(record)
      return response
    } catch {
      record.total = .now - arrived
      record.error = error
      journal.note(record)
      throw error
    }
  }
}

/// What a server accepts of its clients.
public struct ServingLimits: Sendable, Hashable {
  /// Most bytes of a request's body or message.
  public var maxBodyBytes = 1 << 28
  /// How deep JSON may nest.
  public var maxDepth = 64
  /// Most tensors in a request.
  public var maxTensors = 1_024
  /// How long a client may take for a request's head, and between two parts of its body.
  public var readTimeout: Duration = .seconds(30)
  /// Requests that are answered at once; more are refused.
  public var maxConcurrentRequests = 4_096
  public init() {}
}

/// A request to a model, when it has been answered.
public struct RequestRecord: Sendable {
  public enum API: String, Sendable {
    case tensorFlowREST = "tensorflow-rest"
    case tensorFlowGRPC = "tensorflow-grpc"
    case inferenceREST = "inference-rest"
    case inferenceGRPC = "inference-grpc"
  }

  public var api: API
  public var id: String
  public var model: String
  /// 0: no version of a model was found for it.
  public var version: Int
  public var arrived: ContinuousClock.Instant
  /// From arrival until its tensors were there.
  public var parse: Duration = .zero
  public var timings = InferenceTimings()
  public var total: Duration = .zero
  /// nil: it was answered.
  public var error: ServingError?
  /// The counters of the version, so that they outlive it.
  public var statistics: ModelStatistics?
}

/// Keeps, counts or writes what happens to requests. Called on the request's task: quick, and without waiting.
public protocol RequestJournal: Sendable {
  func note(_ record: RequestRecord)
}

/// Forgets everything.
public struct SilentJournal: RequestJournal {
  public init() {}
  public func note(_ record: RequestRecord) {}
}
