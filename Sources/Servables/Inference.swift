import ApusExport
import ApusTensor

/// One request to a model, its inputs already as tensors.
public struct InferenceRequest: Sendable {
  /// What the client calls it; also the id in logs and traces.
  public var id: String
  /// nil means the model's default.
  public var signature: String?
  public var inputs: [String: Tensor]
  /// The outputs that are wanted; nil means all.
  public var outputs: [String]?
  /// 1 is served first, larger numbers later; nil, 0 and levels that the model does not have mean its default level.
  public var priority: Int?
  /// Work that has not started by then is dropped.
  public var deadline: ContinuousClock.Instant?

  public init(
    id: String = "", signature: String? = nil, inputs: [String: Tensor], outputs: [String]? = nil, priority: Int? = nil,
    deadline: ContinuousClock.Instant? = nil
  ) {
    (self.id, self.signature, self.inputs, self.outputs) = (id, signature, inputs, outputs)
    (self.priority, self.deadline) = (priority, deadline)
  }
}

/// What a model answered.
public struct InferenceResponse: Sendable {
  /// In the signature's order.
  public var outputs: [(name: String, tensor: Tensor)]
  public var timings: InferenceTimings

  public init(outputs: [(name: String, tensor: Tensor)], timings: InferenceTimings = InferenceTimings()) {
    (self.outputs, self.timings) = (outputs, timings)
  }
}

/// Where a request's time went.
public struct InferenceTimings: Sendable, Hashable {
  /// From the request's arrival at the scheduler until its batch was begun.
  public var queue: Duration = .zero
  /// Joining requests to a batch.
  public var computeInput: Duration = .zero
  public var compute: Duration = .zero
  /// Splitting the batch's results.
  public var computeOutput: Duration = .zero
  /// Examples in the batch that it ran in.
  public var batchSize: Int = 1
  public var isCacheHit = false

  public init() {}
}
