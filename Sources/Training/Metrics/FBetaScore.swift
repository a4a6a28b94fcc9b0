import ApusTensor

/// How scores of single classes become one.
public enum ClassAverage: Sendable {
  /// One score for each class.
  case none
  /// From the counts of all classes together.
  case micro
  /// The plain mean over classes.
  case macro
  /// The mean over classes, weighted by how often each is a target.
  case weighted
}

/// (1 + β²) precision · recall / (β² precision + recall): Keras's `FBetaScore`.
///
/// `update` takes scores and one-hot (or multi-hot) targets [batch, classes], and weights [batch]. Without a threshold the class with
/// the highest score is predicted, with one every class above it. States are float64, made at the first batch.
public class FBetaScore: Metric {
  public final let average: ClassAverage
  public final let beta: Double
  public final let threshold: Double?
  private final var truePositives, falsePositives, falseNegatives, intermediateWeights: Variable?

  public init(average: ClassAverage = .none, beta: Double = 1, threshold: Double? = nil, name: String = "fbeta_score") {
    guard beta > 0 else { stop("FBetaScore: beta \(beta) is not positive") }
    if let threshold, !(threshold > 0 && threshold <= 1) {
      stop("FBetaScore: threshold \(threshold) is not above 0 and at most 1")
    }
    self.average = average
    self.beta = beta
    self.threshold = threshold
    super.init(name: name)
  }

  private final func build(_ shape: Shape) {
    (truePositives, falsePositives) = (gathered(shape), gathered(shape))
    (falseNegatives, intermediateWeights) = (gathered(shape), gathered(shape))
  }

  public final override func build(like state: [String: Tensor]) {
    if truePositives == nil, let saved = state["true_positives"] { build(saved.shape) }
  }

  public final override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    let x = full(predictions.detached())
    guard x.rank == 2, targets.shape == x.shape else {
      stop(
        "metric \(name): takes predictions and targets [batch, classes], got shapes \(predictions.shape) and \(targets.shape)")
    }
    let shape: Shape = average == .micro ? [] : [x.shape[1]]
    if truePositives == nil { untraced { build(shape) } }
    guard let truePositives, let falsePositives, let falseNegatives, let intermediateWeights, truePositives.shape == shape else {
      stop("metric \(name): predictions of shape \(predictions.shape) after batches of other classes")
    }
    withoutGradient {
      let isPredicted = threshold.map { x .> $0 } ?? ((x .>= x.max(axis: -1, keepDims: true)) .& (abs(x) .> 1e-9))
      let (p, t) = (isPredicted.converted(to: .float64), targets.detached().converted(to: .float64))
      let w = sampleWeight.map { weights($0, for: t.shape) }
      func summed(_ counts: Tensor) -> Tensor {
        let counts = w.map { counts * $0 } ?? counts
        return average == .micro ? counts.sum() : counts.sum(axis: 0)
      }
      add(summed(p * t), to: truePositives)
      add(summed(p * (1 - t)), to: falsePositives)
      add(summed((1 - p) * t), to: falseNegatives)
      add(summed(t), to: intermediateWeights)
    }
  }

  /// Scalar, or [classes] without an average; 0 before the first batch.
  public final override func result() -> Tensor {
    guard let truePositives, let falsePositives, let falseNegatives, let intermediateWeights else {
      return Tensor.zeros([], .float64)
    }
    let found = truePositives.value
    let precision = found / (found + falsePositives.value + kerasEpsilon)
    let recall = found / (found + falseNegatives.value + kerasEpsilon)
    let square = beta * beta
    let score = precision * recall / (precision * square + recall + kerasEpsilon) * (1 + square)
    switch average {
    case .none, .micro: return score
    case .macro: return score.mean()
    case .weighted:
      let share = intermediateWeights.value
      return (score * (share / (share.sum() + kerasEpsilon))).sum()
    }
  }
}

/// The harmonic mean of precision and recall, ``FBetaScore`` with β = 1: Keras's `F1Score`.
public final class F1Score: FBetaScore {
  public init(average: ClassAverage = .none, threshold: Double? = nil, name: String = "f1_score") {
    super.init(average: average, beta: 1, threshold: threshold, name: name)
  }
}
