/// Why training, evaluation or prediction did not begin, or ended.
public enum TrainingError: Error, Sendable, Equatable, CustomStringConvertible {
  /// There is no batch to take.
  case emptyData(String)
  /// Data of one batch or less, whose short last batch is left out.
  case batchLargerThanData(batchSize: Int, examples: Int)
  /// Two metrics (or a metric and the loss) go by one name.
  case duplicateName(String)
  /// A batch does not fit the model's outputs.
  case batchMismatch(String)
  /// An argument without sense, or two that exclude each other.
  case invalidArgument(String)
  /// The loss became NaN or infinite in this step of training, counted from 0.
  case nonFiniteLoss(epoch: Int, batch: Int, step: Int, value: Double)
  /// A folder or file cannot be written.
  case unwritable(path: String, reason: String)
  /// A checkpoint is broken: torn, altered, or none.
  case damagedCheckpoint(path: String, reason: String)
  /// A sound checkpoint is of another model, optimizer or other data.
  case differentCheckpoint(path: String, reason: String)

  public var description: String {
    switch self {
    case .emptyData(let what): "\(what): there are no examples"
    case .batchLargerThanData(let batchSize, let examples):
      "the data has \(examples) examples, fewer than one batch of \(batchSize), and a short last batch is left out (dropLast)"
    case .duplicateName(let name): "'\(name)' is the name of two values; give one of the metrics (or outputs) another name"
    case .batchMismatch(let sentence): sentence
    case .invalidArgument(let sentence): sentence
    case .nonFiniteLoss(let epoch, let batch, let step, let value):
      "the loss became \(value) in step \(step) (epoch \(epoch), batch \(batch)); `detectAnomaly: true` finds the operation"
    case .unwritable(let path, let reason): "\(path) cannot be written: \(reason)"
    case .damagedCheckpoint(let path, let reason): "the checkpoint \(path) is damaged: \(reason)"
    case .differentCheckpoint(let path, let reason): "the checkpoint \(path) does not belong to this run: \(reason)"
    }
  }
}
