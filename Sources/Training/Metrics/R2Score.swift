import ApusTensor

/// The share of the targets' variance that predictions explain, 1 − Σ (t − p)² / Σ (t − mean t)²: Keras's `R2Score`.
///
/// `update` takes predictions and targets [batch, outputs] ([batch] counts as [batch, 1]), and weights [batch] or of their shape.
/// States are float64 [outputs], made at the first batch.
public final class R2Score: Metric {
  public enum Aggregation: Sendable {
    /// The plain mean over outputs.
    case uniformAverage
    /// The mean weighted by each output's variance.
    case varianceWeightedAverage
    /// One score for each output.
    case none
  }

  public let aggregation: Aggregation
  /// Of how many independent variables the predictions are made; if above 0, the score is the adjusted one. As in Keras every
  /// target of a sample counts as a sample in that.
  public let regressors: Int
  private var squaredSum, sum, totalMSE, count: Variable?
  let numSamples = gathered()

  public init(aggregation: Aggregation = .uniformAverage, regressors: Int = 0, name: String = "r2_score") {
    guard regressors >= 0 else { stop("R2Score: there are \(regressors) regressors") }
    self.aggregation = aggregation
    self.regressors = regressors
    super.init(name: name)
  }

  private func build(_ shape: Shape) {
    (squaredSum, sum, totalMSE, count) = (gathered(shape), gathered(shape), gathered(shape), gathered(shape))
  }

  public override func build(like state: [String: Tensor]) {
    if sum == nil, let saved = state["sum"] { build(saved.shape) }
  }

  public override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    let (x, t) = alignedRows(predictions.detached(), targets.detached())
    guard x.rank == 2 else { stop("metric \(name): takes [batch, outputs], got predictions of shape \(predictions.shape)") }
    let outputs = x.shape[1]
    if sum == nil { untraced { build([outputs]) } }
    guard let squaredSum, let sum, let totalMSE, let count, sum.shape == [outputs] else {
      stop("metric \(name): predictions of shape \(predictions.shape) after batches of \(sum?.shape[0] ?? 0) outputs")
    }
    withoutGradient {
      let (p, t) = (x.converted(to: .float64), t.converted(to: .float64))
      let w = weights(sampleWeight ?? Tensor.ones([], .float64), for: t.shape)
      let weighted = t * w
      add(weighted.sum(axis: 0), to: sum)
      add((t * weighted).sum(axis: 0), to: squaredSum)
      add((square(t - p) * w).sum(axis: 0), to: totalMSE)
      add(w.sum(axis: 0), to: count)
      add(Tensor.full([], t.count, .float64), to: numSamples)
    }
  }

  /// Scalar, or [outputs] without an aggregation.
  public override func result() -> Tensor {
    guard let squaredSum, let sum, let totalMSE, let count else { return Tensor.zeros([], .float64) }
    let total = squaredSum.value - sum.value * (sum.value / count.value)
    let raw = 1 - totalMSE.value / total
    let scores = `where`(isInfinite(raw), 0, raw)
    let score =
      switch aggregation {
      case .uniformAverage: scores.mean()
      case .varianceWeightedAverage: (total * scores).sum() / total.sum()
      case .none: scores
      }
    if regressors == 0 { return score }
    let room = numSamples.value - Double(regressors) - 1
    let isEnough = room .> 0
    return `where`(isEnough, 1 - (1 - score) * (numSamples.value - 1) / `where`(isEnough, room, 1), score)
  }
}
