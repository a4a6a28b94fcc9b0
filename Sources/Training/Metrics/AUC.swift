import ApusTensor

/// The area under a curve of two quantities over thresholds, by sums over them: Keras's `AUC`.
///
/// `update` takes probabilities (or logits) and targets (positive where not 0) of one shape [batch, …], and weights [batch] or of
/// their shape. With `multiLabel` they are [batch, labels], and the result is the mean of the labels' areas. States are float64
/// [thresholds] or [thresholds, labels].
public final class AUC: Metric {
  public enum Curve: Sendable {
    /// Sensitivity over the rate of false positives.
    case roc
    /// Precision over recall.
    case pr
    /// Gain of precision over gain of recall (Flach and Kull 2015).
    case prGain
  }

  /// How a piece between two thresholds counts.
  public enum Summation: Sendable {
    /// By the mean of its ends; along the true curve for precision and recall (Davis and Goadrich 2006).
    case interpolation
    /// By the greater end.
    case majoring
    /// By the smaller end.
    case minoring
  }

  public let curve: Curve
  public let summation: Summation
  public let multiLabel: Bool
  public let labelWeights: [Double]?
  public let fromLogits: Bool
  private let thresholds: Thresholds
  private var truePositives, falsePositives, trueNegatives, falseNegatives: Variable?

  /// - Parameters:
  ///   - thresholdCount: how many thresholds there are, at equal distances from 0 to 1.
  ///   - thresholds: thresholds of your own between 0 and 1; two more are added at the ends.
  ///   - multiLabel: whether each label has a curve of its own.
  ///   - labels: how many there are with `multiLabel`; if nil, the first batch says so.
  ///   - labelWeights: with `multiLabel` the weights of the labels in the mean, else of their predictions in the counts.
  ///   - fromLogits: whether predictions are logits.
  public init(
    thresholdCount: Int = 200, curve: Curve = .roc, summation: Summation = .interpolation, thresholds: [Double]? = nil,
    multiLabel: Bool = false, labels: Int? = nil, labelWeights: [Double]? = nil, fromLogits: Bool = false, name: String = "auc"
  ) {
    if let thresholds {
      for value in thresholds where !(0...1).contains(value) { stop("AUC: threshold \(value) is not in 0 … 1") }
      self.thresholds = Thresholds(between: thresholds.sorted())
    } else {
      guard thresholdCount > 1 else { stop("AUC: the number of thresholds \(thresholdCount) is not above 1") }
      self.thresholds = Thresholds(between: (1..<(thresholdCount - 1)).map { Double($0) / Double(thresholdCount - 1) })
    }
    if !multiLabel && labels != nil { stop("AUC: labels is for multiLabel only") }
    self.curve = curve
    self.summation = summation
    self.multiLabel = multiLabel
    self.labelWeights = labelWeights
    self.fromLogits = fromLogits
    super.init(name: name)
    if !multiLabel { build([self.thresholds.count]) } else if let labels { build([self.thresholds.count, labels]) }
  }

  private func build(_ shape: Shape) {
    (truePositives, falsePositives, trueNegatives, falseNegatives) = (
      gathered(shape), gathered(shape), gathered(shape), gathered(shape)
    )
  }

  public override func build(like state: [String: Tensor]) {
    if truePositives == nil, let saved = state["true_positives"], saved.rank == 2 { build(saved.shape) }
  }

  public override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    if multiLabel {
      guard predictions.rank == 2 else {
        stop("metric \(name): with multiLabel takes [batch, labels], got predictions of shape \(predictions.shape)")
      }
      if truePositives == nil { untraced { build([thresholds.count, predictions.shape[1]]) } }
    }
    guard let truePositives, let falsePositives, let trueNegatives, let falseNegatives,
      !multiLabel || truePositives.shape[1] == predictions.shape[1]
    else { stop("metric \(name): predictions of shape \(predictions.shape) for \(truePositives?.shape[1] ?? 0) labels") }
    withoutGradient {
      let x = fromLogits ? sigmoid(full(predictions.detached())) : predictions
      let counts = confusion(
        x, targets, thresholds, sampleWeight: sampleWeight, labelsApart: multiLabel,
        labelWeights: multiLabel ? nil : labelWeights)
      add(counts.truePositives, to: truePositives)
      add(counts.falsePositives, to: falsePositives)
      add(counts.trueNegatives, to: trueNegatives)
      add(counts.falseNegatives, to: falseNegatives)
    }
  }

  public override func result() -> Tensor {
    guard let truePositives, let falsePositives, let trueNegatives, let falseNegatives else { return Tensor.zeros([], .float64) }
    let (tp, fp, tn, fn) = (truePositives.value, falsePositives.value, trueNegatives.value, falseNegatives.value)
    let recall = quotient(tp, tp + fn)
    switch curve {
    case .roc: return area(x: quotient(fp, fp + tn), y: recall)
    case .pr:
      return summation == .interpolation ? mean(interpolated(tp, fp, fn)) : area(x: recall, y: quotient(tp, tp + fp))
    case .prGain:
      let scale = quotient(tp + fn, tn + fp)
      let isNone = tp .== 0
      let recallGain = maximum(`where`(isNone, 0, 1 - scale * quotient(fn, tp)), 0)
      return area(x: recallGain, y: `where`(isNone, 1, 1 - scale * quotient(fp, tp)))
    }
  }

  private func area(x: Tensor, y: Tensor) -> Tensor {
    let (left, right) = (y[..<(-1)], y[1...])
    let heights =
      switch summation {
      case .interpolation: (left + right) / 2
      case .minoring: minimum(left, right)
      case .majoring: maximum(left, right)
      }
    return mean((x[..<(-1)] - x[1...]) * heights)
  }

  /// The pieces' areas under the curve of precision over recall: between two thresholds true positives are linear in positives,
  /// and so precision is not linear in recall (Davis and Goadrich 2006, as Keras computes it).
  private func interpolated(_ tp: Tensor, _ fp: Tensor, _ fn: Tensor) -> Tensor {
    let positives = tp + fp
    let (p, next) = (positives[..<(-1)], positives[1...])
    let found = tp[..<(-1)] - tp[1...]
    let slope = quotient(found, maximum(p - next, 0))
    let intercept = tp[1...] - slope * next
    let ratio = `where`((p .> 0) .& (next .> 0), quotient(p, maximum(next, 0)), 1)
    return quotient(slope * (found + intercept * log(ratio)), maximum(tp[1...] + fn[1...], 0))
  }

  /// The sum of the pieces; over labels the mean.
  private func mean(_ pieces: Tensor) -> Tensor {
    let sums = pieces.sum(axis: 0)
    guard multiLabel else { return sums }
    guard let labelWeights else { return sums.mean() }
    let w = Tensor(elements: labelWeights)
    return quotient((sums * w).sum(), w.sum())
  }
}
