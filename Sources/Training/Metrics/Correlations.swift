import ApusNN
import ApusTensor

/// The mean cosine of the angles between predictions and targets along an axis: Keras's `CosineSimilarity`.
/// (``ApusNN`` has a layer of that name, PyTorch's.)
///
/// `update` takes vectors of one shape [batch, …, features].
public final class CosineSimilarityMetric: MeanMetricWrapper {
  public let axis: Int

  public init(axis: Int = -1, name: String = "cosine_similarity") {
    self.axis = axis
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = aligned(predictions, targets)
    return -cosineSimilarityLoss(x, t, axis: axis, reduction: .none)
  }
}

/// The mean over samples of Pearson's correlation of prediction and target along an axis: Keras's `PearsonCorrelation`.
///
/// `update` takes predictions and targets of one shape [batch, …, values].
public final class PearsonCorrelation: MeanMetricWrapper {
  public let axis: Int

  public init(axis: Int = -1, name: String = "pearson_correlation") {
    self.axis = axis
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = aligned(predictions, targets)
    func standardized(_ x: Tensor) -> Tensor {
      let centred = x - x.mean(axis: axis, keepDims: true)
      return centred / sqrt(square(centred).mean(axis: axis, keepDims: true))
    }
    return (standardized(x) * standardized(t.converted(to: x.elementType))).mean(axis: axis)
  }
}

/// The mean over samples of the concordance correlation 2 cov(p, t) / (var p + var t + (mean p − mean t)²) along an axis
/// (Lin 1989): Keras's `ConcordanceCorrelation`.
///
/// `update` takes predictions and targets of one shape [batch, …, values].
public final class ConcordanceCorrelation: MeanMetricWrapper {
  public let axis: Int

  public init(axis: Int = -1, name: String = "concordance_correlation") {
    self.axis = axis
    super.init(named: name)
  }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, targets) = aligned(predictions, targets)
    let t = targets.converted(to: x.elementType)
    let (meanX, meanT) = (x.mean(axis: axis, keepDims: true), t.mean(axis: axis, keepDims: true))
    let (dx, dt) = (x - meanX, t - meanT)
    let spread = square(dx).mean(axis: axis) + square(dt).mean(axis: axis) + square(meanT - meanX).mean(axis: axis)
    return (dx * dt).mean(axis: axis) * 2 / (spread + kerasEpsilon)
  }
}
