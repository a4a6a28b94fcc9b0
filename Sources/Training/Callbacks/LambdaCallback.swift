/// A callback made of closures: Keras's `LambdaCallback`.
public final class LambdaCallback: Callback {
  private let epochBegin: ((Int, Trainer) throws -> Void)?
  private let epochEnd: ((Int, inout Logs, Trainer) throws -> Void)?
  private let trainBegin: ((Trainer) throws -> Void)?
  private let trainEnd: ((Logs, Trainer) throws -> Void)?
  private let trainBatchBegin: ((Int, Trainer) throws -> Void)?
  private let trainBatchEnd: ((Int, BatchLogs, Trainer) throws -> Void)?

  public init(
    onEpochBegin: ((_ epoch: Int, Trainer) throws -> Void)? = nil,
    onEpochEnd: ((_ epoch: Int, inout Logs, Trainer) throws -> Void)? = nil,
    onTrainBegin: ((Trainer) throws -> Void)? = nil, onTrainEnd: ((Logs, Trainer) throws -> Void)? = nil,
    onTrainBatchBegin: ((_ batch: Int, Trainer) throws -> Void)? = nil,
    onTrainBatchEnd: ((_ batch: Int, BatchLogs, Trainer) throws -> Void)? = nil
  ) {
    (epochBegin, epochEnd, trainBegin, trainEnd) = (onEpochBegin, onEpochEnd, onTrainBegin, onTrainEnd)
    (trainBatchBegin, trainBatchEnd) = (onTrainBatchBegin, onTrainBatchEnd)
  }

  public override func onEpochBegin(_ epoch: Int) throws { try epochBegin?(epoch, trainer) }
  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) throws { try epochEnd?(epoch, &logs, trainer) }
  public override func onTrainBegin() throws { try trainBegin?(trainer) }
  public override func onTrainEnd(logs: Logs) throws { try trainEnd?(logs, trainer) }
  public override func onTrainBatchBegin(_ batch: Int) throws { try trainBatchBegin?(batch, trainer) }
  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) throws { try trainBatchEnd?(batch, logs, trainer) }
}
