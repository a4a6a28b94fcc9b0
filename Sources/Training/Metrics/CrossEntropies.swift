import ApusNN
import ApusTensor

/// The mean binary cross entropy: Keras's `BinaryCrossentropy`.
///
/// `update` takes probabilities (limited to 10⁻⁷ … 1 − 10⁻⁷) or logits, and targets of one shape [batch, …, values]; [batch] counts
/// as [batch, 1].
public final class BinaryCrossEntropy: MeanMetricWrapper {
  public let fromLogits: Bool
  public let labelSmoothing: Double

  public init(fromLogits: Bool = false, labelSmoothing: Double = 0, name: String = "binary_crossentropy") {
    guard (0...1).contains(labelSmoothing) else { stop("metric \(name): labelSmoothing \(labelSmoothing) is not in 0 … 1") }
    self.fromLogits = fromLogits
    self.labelSmoothing = labelSmoothing
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    var (x, t) = alignedRows(predictions, targets)
    t = t.converted(to: x.elementType)
    if labelSmoothing > 0 { t = t * (1 - labelSmoothing) + labelSmoothing / 2 }
    if fromLogits { return binaryCrossEntropyWithLogits(x, t, reduction: .none).mean(axis: -1) }
    return binaryCrossEntropy(x.clamped(kerasEpsilon, 1 - kerasEpsilon), t, reduction: .none).mean(axis: -1)
  }
}

/// The mean cross entropy of one-hot targets: Keras's `CategoricalCrossentropy`.
///
/// `update` takes probabilities or logits, and targets of one shape [batch, …, classes]; `axis` says where the classes are.
public final class CategoricalCrossEntropy: MeanMetricWrapper {
  public let fromLogits: Bool
  public let labelSmoothing: Double
  public let axis: Int

  public init(
    fromLogits: Bool = false, labelSmoothing: Double = 0, axis: Int = -1, name: String = "categorical_crossentropy"
  ) {
    self.fromLogits = fromLogits
    self.labelSmoothing = labelSmoothing
    self.axis = axis
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = aligned(predictions, targets)
    return categoricalCrossEntropy(
      x, t, fromLogits: fromLogits, labelSmoothing: labelSmoothing, axis: axis, reduction: .none)
  }
}

/// The mean cross entropy of classes: Keras's `SparseCategoricalCrossentropy`.
///
/// `update` takes probabilities or logits [batch, …, classes] and classes [batch, …]; `axis` says where the former have the classes. As in
/// Keras, a target that is `ignoreClass` adds 0 but still counts as a sample, unless there are weights: with weights it has none.
public final class SparseCategoricalCrossEntropy: MeanMetricWrapper {
  public let fromLogits: Bool
  public let ignoreClass: Int?
  public let axis: Int

  public init(
    fromLogits: Bool = false, ignoreClass: Int? = nil, axis: Int = -1, name: String = "sparse_categorical_crossentropy"
  ) {
    self.fromLogits = fromLogits
    self.ignoreClass = ignoreClass
    self.axis = axis
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let t = targets.rank == predictions.rank && targets.shape.last == 1 ? targets.squeezed(-1) : targets
    return sparseCategoricalCrossEntropy(
      full(predictions), t.converted(to: .int64), fromLogits: fromLogits, ignoreClass: ignoreClass, axis: axis,
      reduction: .none)
  }

  override func weights(_ sampleWeight: Tensor?, _ targets: Tensor, _ values: Tensor) -> Tensor? {
    guard let ignoreClass, let sampleWeight else { return sampleWeight }
    return weights(sampleWeight, for: values.shape) * (targets.reshaped(values.shape) .!= ignoreClass).converted(to: .float64)
  }
}
