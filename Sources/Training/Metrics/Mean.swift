import ApusNN
import ApusTensor

/// The mean of values over all batches, weighted if there are weights: Keras's `Mean`.
///
/// States are float64. ``result()`` is a float64 scalar, 0 before the first batch.
open class Mean: Metric {
  let total = gathered(), count = gathered()

  override public init(name: String = "mean") { super.init(name: name) }

  /// Adds a batch of values [batch, …]: each sample counts the mean of its values.
  public final func update(_ values: Tensor, sampleWeight: Tensor? = nil) {
    withoutGradient {
      let (values, weights) = samplewise(values.detached(), sampleWeight) { $0.mean(axes: $1) }
      add(values.sum(), to: total)
      add(weights?.sum() ?? Tensor.full([], values.shape.first ?? 1, .float64), to: count)
    }
  }

  /// Adds the predictions as values.
  open override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    update(predictions, sampleWeight: sampleWeight)
  }

  open override func result() -> Tensor { quotient(total.value, count.value) }
}

/// The sum of values over all batches, weighted if there are weights: Keras's `Sum`.
public final class Sum: Metric {
  let total = gathered()

  public override init(name: String = "sum") { super.init(name: name) }

  /// Adds a batch of values [batch, …].
  public func update(_ values: Tensor, sampleWeight: Tensor? = nil) {
    withoutGradient {
      add(samplewise(values.detached(), sampleWeight) { $0.sum(axes: $1) }.values.sum(), to: total)
    }
  }

  /// Adds the predictions as values.
  public override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    update(predictions, sampleWeight: sampleWeight)
  }

  public override func result() -> Tensor { total.value }
}

/// The mean of what a function makes of predictions and targets, such as a loss with `reduction: .none`: Keras's
/// `MeanMetricWrapper`.
///
/// ```swift
/// MeanMetricWrapper(name: "huber") { huberLoss($0, $1, reduction: .none) }
/// ```
open class MeanMetricWrapper: Mean {
  private let function: (Tensor, Tensor) -> Tensor

  /// - Parameter function: from predictions and targets to values [batch, …]. It has to work without reading values if the
  ///   metric is to be updated inside of ``compile(_:_:)``.
  public init(name: String, _ function: @escaping (Tensor, Tensor) -> Tensor) {
    self.function = function
    super.init(name: name)
  }

  /// For subclasses, whose function asks the metric itself for its name and options.
  init(named name: String) {
    function = { _, _ in preconditionFailure("values(_:_:) is overridden") }
    super.init(name: name)
  }

  /// The values whose mean is taken.
  func values(_ predictions: Tensor, _ targets: Tensor) -> Tensor { function(predictions, targets) }

  /// The weights that are used with them.
  func weights(_ sampleWeight: Tensor?, _ targets: Tensor, _ values: Tensor) -> Tensor? { sampleWeight }

  public final override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    withoutGradient {
      let values = values(predictions.detached(), targets.detached())
      update(values, sampleWeight: weights(sampleWeight, targets.detached(), values))
    }
  }
}

extension Metric {
  /// One value for each sample, weighted, and the sample's weight, as Keras reduces them: `reduce` joins a sample's values, those
  /// below the weights before they are weighted.
  fileprivate final func samplewise(
    _ values: Tensor, _ sampleWeight: Tensor?, _ reduce: (Tensor, [Int]) -> Tensor
  ) -> (values: Tensor, weights: Tensor?) {
    var values = values.converted(to: .float64)
    var weights = sampleWeight?.detached().converted(to: .float64)
    if var w = weights {
      while w.rank > values.rank && w.shape.last == 1 && values.rank > 0 { w = w.squeezed(-1) }
      if values.rank > w.rank { values = reduce(values, Array(w.rank..<values.rank)) }
      guard Shape.broadcast(w.shape, values.shape) == values.shape else {
        stop(
          "metric \(name): sampleWeight has shape \(sampleWeight?.shape ?? []), which does not fit values of shape \(values.shape)"
        )
      }
      w = w.broadcast(to: values.shape)
      values = values * w
      weights = w.rank > 1 ? reduce(w, Array(1..<w.rank)) : w
    }
    if values.rank > 1 { values = reduce(values, Array(1..<values.rank)) }
    return (values, weights)
  }
}
