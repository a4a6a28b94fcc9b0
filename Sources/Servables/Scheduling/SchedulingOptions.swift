/// How requests to a model wait, are joined to batches and run. The defaults run each request by itself, at once.
public struct SchedulingOptions: Sendable, Hashable {
  /// What happens to requests whose time in the queue is over.
  public enum TimeoutAction: Sendable, Hashable {
    case reject
    /// They wait on, and are served after all others.
    case delay
  }

  /// How requests of one priority wait.
  public struct QueuePolicy: Sendable, Hashable {
    /// Requests that may wait; 0 is no limit of its own.
    public var maxQueueSize = 0
    /// How long a request may wait; nil: until its deadline, if it has one.
    public var defaultTimeout: Duration?
    public var timeoutAction = TimeoutAction.reject
    /// Whether a request's own deadline may be shorter than the default; else it does not matter while the request waits.
    public var allowTimeoutOverride = true
    public init() {}
  }

  /// Batches are made of several requests along the first dimension, where all inputs and outputs have the same open one.
  public struct Batching: Sendable, Hashable {
    /// Most examples in a batch.
    public var maxBatchSize = 32
    /// Sizes at which a batch is begun without waiting (Triton's `preferred_batch_size`).
    public var preferredBatchSizes: [Int] = []
    /// Sizes that a batch may have: it is padded to the next one (TensorFlow Serving's `allowed_batch_sizes`). Empty: any.
    public var allowedBatchSizes: [Int] = []
    /// Whether batches have few different sizes, of those that wait the one that was measured to take the least time per example:
    /// a model is planned anew for each size, and not every model gains from large batches. Else a batch takes all that wait, up to
    /// its most. Does not matter where preferred sizes are given.
    public var adaptsSizes = true
    /// How long the first request of a batch waits for others. Zero: whatever waits when an instance becomes free is joined.
    public var maxQueueDelay: Duration = .zero
    /// Whether a request with more examples than a batch may have is split; else it is refused.
    public var splitsLargeRequests = true
    /// Whether inputs that differ in another open dimension than the first are padded to the longest (with zeros, results cut back).
    public var padsVariableLengths = false
    /// Whether answers leave in the order in which requests came.
    public var preservesOrder = false
    public init() {}
  }

  /// nil: requests are not joined.
  public var batching: Batching?
  /// Runs of the model at once, each on a thread of its own.
  public var instances = 1
  /// Requests that may wait in all; more are refused with `unavailable` and a hint when to come back.
  public var maxQueueSize = 1_024
  /// Bytes of inputs that may wait in all.
  public var maxQueueBytes = 1 << 30
  /// Requests that are expected to wait longer, by what was measured, are refused with `unavailable` at once; nil: none is.
  public var maxQueueWait: Duration?
  /// Levels of priority, 1 the first; 0: there are none.
  public var priorityLevels = 0
  /// Of requests that name no level, or one that there is not; 0: the last one.
  public var defaultPriorityLevel = 0
  public var queuePolicy = QueuePolicy()
  /// Other policies for some levels.
  public var priorityPolicies: [Int: QueuePolicy] = [:]
  /// Bytes of answers that are kept for requests with the same inputs; 0: none.
  public var cacheBytes = 0

  public init() {}
}
