import ApusNN
import ApusTensor

// Means of losses over samples: `update` takes predictions and targets of one shape [batch, …, values]; [batch] counts as
// [batch, 1].

/// The mean of (prediction − target)²: Keras's `MeanSquaredError`.
public final class MeanSquaredError: MeanMetricWrapper {
  public init(name: String = "mean_squared_error") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = alignedRows(predictions, targets)
    return mseLoss(x, t, reduction: .none).mean(axis: -1)
  }
}

/// The root of the mean of (prediction − target)² over all samples: Keras's `RootMeanSquaredError`.
public final class RootMeanSquaredError: MeanMetricWrapper {
  public init(name: String = "root_mean_squared_error") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = alignedRows(predictions, targets)
    return mseLoss(x, t, reduction: .none)
  }

  public override func result() -> Tensor { sqrt(super.result()) }
}

/// The mean of |prediction − target|: Keras's `MeanAbsoluteError`.
public final class MeanAbsoluteError: MeanMetricWrapper {
  public init(name: String = "mean_absolute_error") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = alignedRows(predictions, targets)
    return l1Loss(x, t, reduction: .none).mean(axis: -1)
  }
}

/// The mean of 100 · |target − prediction| / |target|: Keras's `MeanAbsolutePercentageError`.
public final class MeanAbsolutePercentageError: MeanMetricWrapper {
  public init(name: String = "mean_absolute_percentage_error") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = alignedRows(predictions, targets)
    return meanAbsolutePercentageError(x, t, reduction: .none)
  }
}

/// The mean of (log(1 + prediction) − log(1 + target))²: Keras's `MeanSquaredLogarithmicError`.
public final class MeanSquaredLogarithmicError: MeanMetricWrapper {
  public init(name: String = "mean_squared_logarithmic_error") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = alignedRows(predictions, targets)
    return meanSquaredLogarithmicError(x, t, reduction: .none)
  }
}

/// The mean of log cosh(prediction − target): Keras's `LogCoshError`.
public final class LogCoshError: MeanMetricWrapper {
  public init(name: String = "logcosh") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = alignedRows(predictions, targets)
    return logCoshLoss(x, t, reduction: .none)
  }
}

/// The mean of max(0, 1 − target · prediction) for targets −1 and 1 (or 0 and 1): Keras's `Hinge`.
public final class Hinge: MeanMetricWrapper {
  public init(name: String = "hinge") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = alignedRows(predictions, targets)
    return hingeLoss(x, t, reduction: .none)
  }
}

/// The mean of max(0, 1 − target · prediction)² for targets −1 and 1 (or 0 and 1): Keras's `SquaredHinge`.
public final class SquaredHinge: MeanMetricWrapper {
  public init(name: String = "squared_hinge") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = alignedRows(predictions, targets)
    return squaredHingeLoss(x, t, reduction: .none)
  }
}

/// The mean of max(0, 1 + max((1 − target) · prediction) − Σ target · prediction) for one-hot targets [batch, …, classes]:
/// Keras's `CategoricalHinge`.
public final class CategoricalHinge: MeanMetricWrapper {
  public init(name: String = "categorical_hinge") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = aligned(predictions, targets)
    return categoricalHingeLoss(x, t, reduction: .none)
  }
}

/// The mean of prediction − target · log prediction, for rates and counts: Keras's `Poisson`.
public final class Poisson: MeanMetricWrapper {
  public init(name: String = "poisson") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = alignedRows(predictions, targets)
    return poissonLoss(x, t, reduction: .none)
  }
}

/// The mean of Σ target · log(target / prediction), for probabilities [batch, …, classes]: Keras's `KLDivergence`.
public final class KLDivergence: MeanMetricWrapper {
  public init(name: String = "kl_divergence") { super.init(named: name) }

  override func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor {
    let (x, t) = aligned(predictions, targets)
    return klDivergenceLoss(x, t, reduction: .none)
  }
}
