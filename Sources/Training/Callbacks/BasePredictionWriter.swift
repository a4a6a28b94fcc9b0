import ApusTensor

/// Takes predictions as they come, to write them where memory has no room for all: Lightning's `BasePredictionWriter`.
open class BasePredictionWriter: Callback {
  /// Whether `predict` gives the predictions back too; if not, it gives nothing back.
  public final let keepsPredictions: Bool

  public init(keepsPredictions: Bool = true) { self.keepsPredictions = keepsPredictions }

  /// Writes one batch.
  /// - Parameter outputs: one tensor [batch, …] for each output of the model.
  open func write(batch: Int, outputs: [Tensor]) throws {}

  public final override func onPredictBatchEnd(_ batch: Int, outputs: [Tensor]) throws {
    try write(batch: batch, outputs: outputs)
  }
}
