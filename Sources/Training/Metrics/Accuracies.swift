import ApusTensor

/// How often predictions equal targets: Keras's `Accuracy`. Where the predictions have one more dimension, of scores, the class
/// with the highest score is compared with the target, as by ``SparseCategoricalAccuracy``.
///
/// `update` takes predictions and targets of one shape [batch, …]; or scores [batch, …, classes] and classes [batch, …].
public final class Accuracy: MeanMetricWrapper {
  public init(name: String = "accuracy") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    if predictions.rank == targets.rank + 1 && predictions.shape.last != 1 {
      return sparseMatches(predictions, targets, axis: -1)
    }
    let (x, t) = aligned(predictions, targets)
    return x .== t
  }
}

/// How often predictions above a threshold meet targets of 1, and others those of 0: Keras's `BinaryAccuracy`.
///
/// `update` takes probabilities (or logits, with the threshold 0) and targets of one shape [batch, …].
public final class BinaryAccuracy: MeanMetricWrapper {
  public let threshold: Double

  public init(threshold: Double = 0.5, name: String = "binary_accuracy") {
    self.threshold = threshold
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = aligned(predictions, targets)
    return (x .> threshold).converted(to: t.elementType) .== t
  }
}

/// How often the class with the highest score is the one-hot target's: Keras's `CategoricalAccuracy`.
///
/// `update` takes scores and targets [batch, …, classes]; `axis` says where the classes are.
public final class CategoricalAccuracy: MeanMetricWrapper {
  public let axis: Int

  public init(axis: Int = -1, name: String = "categorical_accuracy") {
    self.axis = axis
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    guard predictions.shape == targets.shape, predictions.rank > 0 else {
      stop("metric \(name): the predictions have shape \(predictions.shape), the targets \(targets.shape); they must be the same")
    }
    return predictions.argMax(axis: axis) .== targets.argMax(axis: axis)
  }
}

/// How often the class with the highest score is the target: Keras's `SparseCategoricalAccuracy`.
///
/// `update` takes scores [batch, …, classes] and classes [batch, …] (or [batch, …, 1]); `axis` says where the scores' classes
/// are: 1 for [batch, classes, …]. A target that names no class is never met.
public final class SparseCategoricalAccuracy: MeanMetricWrapper {
  public let axis: Int

  public init(axis: Int = -1, name: String = "sparse_categorical_accuracy") {
    self.axis = axis
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor { sparseMatches(predictions, targets, axis: axis) }
}

/// How often the one-hot target's class is among the `k` with the highest scores: Keras's `TopKCategoricalAccuracy`.
///
/// `update` takes scores and targets [batch, …, classes].
public final class TopKCategoricalAccuracy: MeanMetricWrapper {
  public let k: Int

  public init(k: Int = 5, name: String = "top_k_categorical_accuracy") {
    self.k = k
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    guard predictions.shape == targets.shape, predictions.rank > 0 else {
      stop("metric \(name): the predictions have shape \(predictions.shape), the targets \(targets.shape); they must be the same")
    }
    return isAmongTop(k, full(predictions), targets.argMax(axis: -1))
  }
}

/// How often the target is among the `k` classes with the highest scores: Keras's `SparseTopKCategoricalAccuracy`.
///
/// `update` takes scores [batch, …, classes] and classes [batch, …] (or [batch, …, 1]); with `fromSortedIDs` the predictions are
/// classes, the best first. Equal scores are all among the first k if one is. A target that names no class is never met.
public final class SparseTopKCategoricalAccuracy: MeanMetricWrapper {
  public let k: Int
  public let fromSortedIDs: Bool

  public init(k: Int = 5, fromSortedIDs: Bool = false, name: String = "sparse_top_k_categorical_accuracy") {
    self.k = k
    self.fromSortedIDs = fromSortedIDs
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let labels = checkedLabels(predictions, targets, axis: -1)
    if fromSortedIDs {
      let best = predictions[..., ..<Swift.min(k, predictions.shape[predictions.rank - 1])]
      return (best .== labels.expanded(at: -1)).any(axis: -1)
    }
    return isAmongTop(k, full(predictions), labels.converted(to: .int64))
  }
}

extension Metric {
  fileprivate final func sparseMatches(_ predictions: Tensor, _ targets: Tensor, axis: Int) -> Tensor {
    predictions.argMax(axis: axis) .== checkedLabels(predictions, targets, axis: axis)
  }

  /// Targets of the predictions' shape without the axis.
  fileprivate final func checkedLabels(_ predictions: Tensor, _ targets: Tensor, axis: Int) -> Tensor {
    guard (-predictions.rank..<predictions.rank).contains(axis) else {
      stop("metric \(name): the predictions of shape \(predictions.shape) have no axis \(axis) of classes")
    }
    var expected = predictions.shape
    expected.remove(at: axis < 0 ? axis + predictions.rank : axis)
    if targets.shape == expected { return targets }
    if targets.shape == Shape(Array(expected) + [1]) { return targets.squeezed(-1) }
    stop(
      "metric \(name): the targets have shape \(targets.shape), expected classes \(expected) for predictions of shape \(predictions.shape)\(predictions.rank > 2 && axis == -1 ? " (axis: 1 for [batch, classes, …])" : "")"
    )
  }
}

/// Whether fewer than `k` scores along the last dimension are above the label's.
private func isAmongTop(_ k: Int, _ scores: Tensor, _ labels: Tensor) -> Tensor {
  let classes = scores.shape[scores.rank - 1]
  let exists = (labels .>= 0) .& (labels .< classes)
  let own = scores.gather(axis: -1, indices: `where`(exists, labels, 0).expanded(at: -1))
  return ((scores .> own).sum(axis: -1) .< k) .& exists .& isFinite(own).squeezed(-1)
}
