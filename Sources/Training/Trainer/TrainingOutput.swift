import ApusNN
import ApusTensor

/// One output of a model, and what it is trained and measured by.
public struct TrainingOutput {
  public typealias Loss = (_ predictions: Tensor, _ targets: Tensor) -> Tensor

  /// The prefix of its values in logs where a model has several outputs: `side_loss`, `side_accuracy`.
  public var name: String
  /// From predictions [batch, …] and targets [batch, …] to a scalar, the mean over the batch.
  public var loss: Loss
  /// What the loss is multiplied by in the sum over outputs.
  public var lossWeight: Double
  /// Metrics that count every example alike.
  public var metrics: [Metric]
  /// Metrics that weigh examples by sample and class weights.
  public var weightedMetrics: [Metric]

  public init(
    _ name: String = "", loss: @escaping Loss, lossWeight: Double = 1, metrics: [Metric] = [], weightedMetrics: [Metric] = []
  ) {
    (self.name, self.loss, self.lossWeight) = (name, loss, lossWeight)
    (self.metrics, self.weightedMetrics) = (metrics, weightedMetrics)
  }

  /// The mean over the batch of each example's loss times its weight; divided by the number of examples, not by the weights' sum,
  /// as Keras does.
  func weighted(_ predictions: Tensor, _ targets: Tensor, _ weights: Tensor) -> Tensor {
    let each = vmap { [loss] (prediction: Tensor, target: Tensor) in
      loss(prediction.expanded(at: 0), target.expanded(at: 0)).mean()
    }
    let losses = each(predictions, targets)
    return (losses * weights.converted(to: losses.elementType)).mean()
  }
}

/// What a loss is multiplied by, so that gradients in float16 do not vanish.
final class LossScale: Module {
  static let growthSteps = 2000
  let scale = Variable(Tensor.full([], 32_768, .float32))
  /// Steps since the scale was changed.
  let steps = Variable(Tensor(0))
}

/// The mean of a loss over examples, kept in variables so that no step waits for it.
final class LossTracker: Module {
  /// float64: sums over an epoch of small steps.
  let total = Variable(Tensor.zeros([], .float64))
  let count = Variable(Tensor.zeros([], .float64))
  /// Batches before the total was no longer finite.
  let finiteBatches = Variable(Tensor.zeros([], .float64))

  func update(_ loss: Tensor, count examples: Int) {
    let sum = total.value + loss.detached().converted(to: .float64) * Double(examples)
    total.value = sum
    count.value = count.value + Double(examples)
    finiteBatches.value = finiteBatches.value + isFinite(sum).converted(to: .float64)
  }

  func reset() { for variable in [total, count, finiteBatches] { variable.value = Tensor.zeros([], .float64) } }

  var mean: Double {
    let count = count.value.item(as: Double.self)
    return count == 0 ? 0 : total.value.item(as: Double.self) / count
  }
}
