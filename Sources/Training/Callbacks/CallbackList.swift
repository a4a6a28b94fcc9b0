import ApusTensor

/// Several callbacks as one: each hook calls all of them in order.
///
/// `fit` makes one of the callbacks it is given; it may also be one of these.
public final class CallbackList: Callback {
  public private(set) var callbacks: [Callback]

  public init(_ callbacks: [Callback]) { self.callbacks = callbacks }

  public func append(_ callback: Callback) { callbacks.append(callback) }

  /// All callbacks, those in lists too.
  public var flattened: [Callback] {
    callbacks.flatMap { callback -> [Callback] in (callback as? CallbackList)?.flattened ?? [callback] }
  }

  final func attachAll(_ trainer: Trainer?) {
    attach(trainer)
    for callback in callbacks {
      if let list = callback as? CallbackList { list.attachAll(trainer) } else { callback.attach(trainer) }
    }
  }

  public override func onTrainBegin() throws { for c in callbacks { try c.onTrainBegin() } }
  public override func onTrainEnd(logs: Logs) throws { for c in callbacks { try c.onTrainEnd(logs: logs) } }
  public override func onEpochBegin(_ epoch: Int) throws { for c in callbacks { try c.onEpochBegin(epoch) } }
  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) throws {
    for c in callbacks { try c.onEpochEnd(epoch, logs: &logs) }
  }
  public override func onTrainBatchBegin(_ batch: Int) throws { for c in callbacks { try c.onTrainBatchBegin(batch) } }
  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) throws {
    for c in callbacks { try c.onTrainBatchEnd(batch, logs: logs) }
  }
  public override func onTestBegin() throws { for c in callbacks { try c.onTestBegin() } }
  public override func onTestEnd(logs: Logs) throws { for c in callbacks { try c.onTestEnd(logs: logs) } }
  public override func onTestBatchBegin(_ batch: Int) throws { for c in callbacks { try c.onTestBatchBegin(batch) } }
  public override func onTestBatchEnd(_ batch: Int, logs: BatchLogs) throws {
    for c in callbacks { try c.onTestBatchEnd(batch, logs: logs) }
  }
  public override func onPredictBegin() throws { for c in callbacks { try c.onPredictBegin() } }
  public override func onPredictEnd() throws { for c in callbacks { try c.onPredictEnd() } }
  public override func onPredictBatchBegin(_ batch: Int) throws { for c in callbacks { try c.onPredictBatchBegin(batch) } }
  public override func onPredictBatchEnd(_ batch: Int, outputs: [Tensor]) throws {
    for c in callbacks { try c.onPredictBatchEnd(batch, outputs: outputs) }
  }
  public override func onResume(epoch: Int, batch: Int) throws {
    for c in callbacks { try c.onResume(epoch: epoch, batch: batch) }
  }
  public override func onException(_ error: any Error) { for c in callbacks { c.onException(error) } }
}
