import ApusNN
import ApusTensor

/// A quantity gathered over batches: accuracy, area under a curve, mean error.
///
/// What it gathers are ``Variable``s, found by reflection as in any ``Module``: so a metric can be updated inside of a compiled
/// step, is saved and restored with a checkpoint, and takes no values out of the graph before ``result()`` is read.
///
/// ```swift
/// let accuracy = Accuracy()
/// for (x, y) in loader { accuracy.update(model(x), y) }
/// print(accuracy.result().item())
/// accuracy.reset()
/// ```
open class Metric: Module {
  /// The name in logs, histories and progress lines, such as `accuracy`.
  public final let name: String

  public init(name: String) { self.name = name }

  /// Adds a batch.
  /// - Parameters:
  ///   - predictions: the model's output [batch, …].
  ///   - targets: what it should be; a subclass says in which form.
  ///   - sampleWeight: how much each sample counts [batch], or a shape that broadcasts to the metric's values; 1 if nil.
  open func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    stop("\(type(of: self)) does not override update(_:_:sampleWeight:)")
  }

  /// The quantity over all batches since the last ``reset()``: a scalar unless a subclass says otherwise.
  open func result() -> Tensor { stop("\(type(of: self)) does not override result()") }

  /// Makes the variables whose shapes only the first batch tells, so that a saved state, by the variables' names, can be put
  /// into them before there was a batch. A metric whose variables are there from the start needs nothing.
  open func build(like state: [String: Tensor]) {}

  /// Forgets all batches.
  open func reset() {
    for variable in variables { variable.value = Tensor.zeros(variable.shape, variable.elementType) }
  }
}
