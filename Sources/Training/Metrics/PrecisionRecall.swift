import ApusTensor

/// What ``Precision`` and ``Recall`` share.
public class PositiveShare: Metric {
  public final let topK: Int?
  public final let classID: Int?
  private let thresholds: Thresholds

  fileprivate init(_ thresholds: [Double]?, _ topK: Int?, _ classID: Int?, _ name: String) {
    (self.topK, self.classID) = (topK, classID)
    // With the k best taken, these are positive whatever they are.
    self.thresholds =
      thresholds.map { Thresholds($0, "metric \(name)") } ?? Thresholds(single: topK == nil ? 0.5 : PositiveShare.never)
    super.init(name: name)
  }

  fileprivate final var stateCount: Int { thresholds.count }

  fileprivate final func confusion(_ predictions: Tensor, _ targets: Tensor, _ sampleWeight: Tensor?) -> Confusion {
    confusion(predictions, targets, thresholds, topK: topK, classID: classID, sampleWeight: sampleWeight)
  }
}

/// The share of true among positive predictions: Keras's `Precision`.
///
/// `update` takes probabilities and targets (positive where not 0) of one shape [batch, …], and weights [batch] or of their shape. States are
/// float64. ``result()`` is a scalar, or [thresholds] if there are several; 0 where nothing is predicted.
public final class Precision: PositiveShare {
  private let truePositives, falsePositives: Variable

  /// - Parameters:
  ///   - thresholds: above which predictions are positive; 1/2 if nil.
  ///   - topK: only the k highest predictions of a row can be positive, and all are without thresholds.
  ///   - classID: which of the last dimension counts; all if nil.
  public init(thresholds: [Double]? = nil, topK: Int? = nil, classID: Int? = nil, name: String = "precision") {
    let count = thresholds?.count ?? 1
    (truePositives, falsePositives) = (gathered([count]), gathered([count]))
    super.init(thresholds, topK, classID, name)
  }

  public override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    withoutGradient {
      let counts = confusion(predictions, targets, sampleWeight)
      add(counts.truePositives, to: truePositives)
      add(counts.falsePositives, to: falsePositives)
    }
  }

  public override func result() -> Tensor {
    only(quotient(truePositives.value, truePositives.value + falsePositives.value))
  }
}

/// The share of positive targets that are predicted: Keras's `Recall`.
///
/// `update` takes probabilities and targets (positive where not 0) of one shape [batch, …], and weights [batch] or of their shape. States are
/// float64. ``result()`` is a scalar, or [thresholds] if there are several; 0 where no target is positive.
public final class Recall: PositiveShare {
  private let truePositives, falseNegatives: Variable

  /// - Parameters:
  ///   - thresholds: above which predictions are positive; 1/2 if nil.
  ///   - topK: only the k highest predictions of a row can be positive, and all are without thresholds.
  ///   - classID: which of the last dimension counts; all if nil.
  public init(thresholds: [Double]? = nil, topK: Int? = nil, classID: Int? = nil, name: String = "recall") {
    let count = thresholds?.count ?? 1
    (truePositives, falseNegatives) = (gathered([count]), gathered([count]))
    super.init(thresholds, topK, classID, name)
  }

  public override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    withoutGradient {
      let counts = confusion(predictions, targets, sampleWeight)
      add(counts.truePositives, to: truePositives)
      add(counts.falseNegatives, to: falseNegatives)
    }
  }

  public override func result() -> Tensor {
    only(quotient(truePositives.value, truePositives.value + falseNegatives.value))
  }
}

/// What the four metrics below share: counts at thresholds of equal distances from 0 to 1, and the best of one quantity where another is at
/// least a given value.
///
/// `update` takes probabilities and targets (positive where not 0) of one shape [batch, …], and weights [batch] or of their shape; states are
/// float64 [thresholds].
public class ConstrainedShare: Metric {
  public final let classID: Int?
  /// What the other quantity has to reach.
  public final let value: Double
  private let thresholds: Thresholds
  private final let truePositives, falsePositives, trueNegatives, falseNegatives: Variable

  fileprivate init(_ value: Double, _ what: String, _ count: Int, _ classID: Int?, _ name: String) {
    guard (0...1).contains(value) else { stop("metric \(name): \(what) \(value) is not in 0 … 1") }
    self.value = value
    self.classID = classID
    thresholds = Thresholds(count: count, "metric \(name)")
    truePositives = gathered([count])
    falsePositives = gathered([count])
    trueNegatives = gathered([count])
    falseNegatives = gathered([count])
    super.init(name: name)
  }

  public final override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    withoutGradient {
      let counts = confusion(predictions, targets, thresholds, classID: classID, sampleWeight: sampleWeight)
      add(counts.truePositives, to: truePositives)
      add(counts.falsePositives, to: falsePositives)
      add(counts.trueNegatives, to: trueNegatives)
      add(counts.falseNegatives, to: falseNegatives)
    }
  }

  /// The share of positive targets that are predicted, at each threshold.
  fileprivate final var sensitivities: Tensor { quotient(truePositives.value, truePositives.value + falseNegatives.value) }
  /// The share of targets of 0 that are predicted as such.
  fileprivate final var specificities: Tensor { quotient(trueNegatives.value, trueNegatives.value + falsePositives.value) }
  fileprivate final var precisions: Tensor { quotient(truePositives.value, truePositives.value + falsePositives.value) }

  /// The largest of one where the other is at least the value; 0 where nothing is.
  fileprivate final func best(_ wanted: Tensor, where constrained: Tensor) -> Tensor {
    maximum(`where`(constrained .>= value, wanted, 0).max(), 0)
  }
}

/// The best sensitivity where the specificity is at least a given one: Keras's `SensitivityAtSpecificity`.
public final class SensitivityAtSpecificity: ConstrainedShare {
  public init(
    specificity: Double, thresholdCount: Int = 200, classID: Int? = nil, name: String = "sensitivity_at_specificity"
  ) { super.init(specificity, "specificity", thresholdCount, classID, name) }

  public override func result() -> Tensor { best(sensitivities, where: specificities) }
}

/// The best specificity where the sensitivity is at least a given one: Keras's `SpecificityAtSensitivity`.
public final class SpecificityAtSensitivity: ConstrainedShare {
  public init(
    sensitivity: Double, thresholdCount: Int = 200, classID: Int? = nil, name: String = "specificity_at_sensitivity"
  ) { super.init(sensitivity, "sensitivity", thresholdCount, classID, name) }

  public override func result() -> Tensor { best(specificities, where: sensitivities) }
}

/// The best precision where the recall is at least a given one: Keras's `PrecisionAtRecall`.
public final class PrecisionAtRecall: ConstrainedShare {
  public init(recall: Double, thresholdCount: Int = 200, classID: Int? = nil, name: String = "precision_at_recall") {
    super.init(recall, "recall", thresholdCount, classID, name)
  }

  public override func result() -> Tensor { best(precisions, where: sensitivities) }
}

/// The best recall where the precision is at least a given one: Keras's `RecallAtPrecision`.
public final class RecallAtPrecision: ConstrainedShare {
  public init(precision: Double, thresholdCount: Int = 200, classID: Int? = nil, name: String = "recall_at_precision") {
    super.init(precision, "precision", thresholdCount, classID, name)
  }

  public override func result() -> Tensor { best(sensitivities, where: precisions) }
}
