import ApusTensor

/// Intersection over union, tp / (tp + fp + fn), of some classes, their mean over those that occur: Keras's `IoU`.
///
/// `update` takes classes of one shape [batch, …], or scores with a dimension `axis` of classes where not sparse, and weights of
/// their shape, or [batch]. Numbers that name no class count nothing. The state is a float64 confusion matrix
/// [classes, classes], so that fractional weights count as they are (Keras's is int32 unless told otherwise).
public class IoU: Metric {
  public final let classes: Int
  public final let targetClassIDs: [Int]
  public final let ignoreClass: Int?
  public final let sparseTargets, sparsePredictions: Bool
  public final let axis: Int
  /// How often each class (row) was predicted as each (column).
  final let totalConfusionMatrix: Variable

  /// - Parameters:
  ///   - classes: how many there are.
  ///   - targetClassIDs: those whose mean is taken.
  ///   - ignoreClass: targets of this class count nothing.
  ///   - sparseTargets: whether targets are classes; otherwise one-hot.
  ///   - sparsePredictions: whether predictions are classes; otherwise scores.
  ///   - axis: where the classes are in what is not sparse.
  public init(
    classes: Int, targetClassIDs: [Int], ignoreClass: Int? = nil, sparseTargets: Bool = true, sparsePredictions: Bool = true,
    axis: Int = -1, name: String = "io_u"
  ) {
    guard classes > 0 else { stop("IoU: there are \(classes) classes") }
    for id in targetClassIDs where !(0..<classes).contains(id) { stop("IoU: target class \(id) is not in 0 … \(classes - 1)") }
    self.classes = classes
    self.targetClassIDs = targetClassIDs
    self.ignoreClass = ignoreClass
    (self.sparseTargets, self.sparsePredictions) = (sparseTargets, sparsePredictions)
    self.axis = axis
    totalConfusionMatrix = gathered([classes, classes])
    super.init(name: name)
  }

  public override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    withoutGradient {
      let predicted = sparsePredictions ? predictions.detached() : predictions.detached().argMax(axis: axis)
      let wanted = sparseTargets ? targets.detached() : targets.detached().argMax(axis: axis)
      let (x, t) = aligned(predicted, wanted)
      let (p, c) = (x.converted(to: .int64), t.converted(to: .int64))
      var counts = (p .>= 0) .& (p .< classes) .& (c .>= 0) .& (c .< classes)
      if let ignoreClass { counts = counts .& (c .!= ignoreClass) }
      var w = counts.converted(to: .float64)
      if let sampleWeight { w = w * weights(sampleWeight, for: p.shape) }
      let places = `where`(counts, c * classes + p, 0).flattened()
      let matrix = Tensor.zeros([classes * classes], .float64).scatterAdd(axis: 0, indices: places, values: w.flattened())
      add(matrix.reshaped(classes, classes), to: totalConfusionMatrix)
    }
  }

  public final override func result() -> Tensor {
    let matrix = totalConfusionMatrix.value
    let ids = Tensor(elements: targetClassIDs)
    let all = matrix.diagonal()
    let found = all.take(ids)
    let union = (matrix.sum(axis: 0) + matrix.sum(axis: 1) - all).take(ids)
    let occurs = union .> 1e-9
    let scores = `where`(occurs, found / (union + kerasEpsilon), 0)
    return scores.sum() / (occurs.converted(to: .float64).sum() + kerasEpsilon)
  }
}

/// ``IoU`` of two classes that a threshold decides between: Keras's `BinaryIoU`. `update` takes probabilities (at least the threshold:
/// class 1) and targets 0 or 1.
public final class BinaryIoU: IoU {
  public let threshold: Double

  public init(targetClassIDs: [Int] = [0, 1], threshold: Double = 0.5, name: String = "binary_io_u") {
    self.threshold = threshold
    super.init(classes: 2, targetClassIDs: targetClassIDs, name: name)
  }

  public override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    super.update(full(predictions.detached()) .>= threshold, targets, sampleWeight: sampleWeight)
  }
}

/// ``IoU`` of all classes: Keras's `MeanIoU`.
public class MeanIoU: IoU {
  public init(
    classes: Int, ignoreClass: Int? = nil, sparseTargets: Bool = true, sparsePredictions: Bool = true, axis: Int = -1,
    name: String = "mean_io_u"
  ) {
    super.init(
      classes: classes, targetClassIDs: Array(0..<max(classes, 0)), ignoreClass: ignoreClass, sparseTargets: sparseTargets,
      sparsePredictions: sparsePredictions, axis: axis, name: name)
  }
}

/// ``IoU`` of some classes for one-hot targets and scores: Keras's `OneHotIoU`.
public final class OneHotIoU: IoU {
  public init(
    classes: Int, targetClassIDs: [Int], ignoreClass: Int? = nil, sparsePredictions: Bool = false, axis: Int = -1,
    name: String = "one_hot_io_u"
  ) {
    super.init(
      classes: classes, targetClassIDs: targetClassIDs, ignoreClass: ignoreClass, sparseTargets: false,
      sparsePredictions: sparsePredictions, axis: axis, name: name)
  }
}

/// ``IoU`` of all classes for one-hot targets and scores: Keras's `OneHotMeanIoU`.
public final class OneHotMeanIoU: MeanIoU {
  public init(
    classes: Int, ignoreClass: Int? = nil, sparsePredictions: Bool = false, axis: Int = -1, name: String = "one_hot_mean_io_u"
  ) {
    super.init(
      classes: classes, ignoreClass: ignoreClass, sparseTargets: false, sparsePredictions: sparsePredictions, axis: axis,
      name: name)
  }
}
