/// Which way a monitored value gets better.
public enum MonitorMode: Sendable {
  /// A loss and errors downwards, accuracies and the like upwards; by name.
  case automatic
  case min, max
}

/// A callback that watches one value of the logs; the comparisons are Keras's.
open class MonitorCallback: Callback {
  public final let monitor: String
  public final let mode: MonitorMode
  /// How much better than the best a value must be to count.
  public final let minDelta: Double
  /// The best value so far.
  public final internal(set) var best: Double?

  init(monitor: String, mode: MonitorMode, minDelta: Double, best: Double? = nil) {
    (self.monitor, self.mode, self.minDelta, self.best) = (monitor, mode, abs(minDelta), best)
  }

  /// Whether smaller is better.
  /// - Throws: ``TrainingError/invalidArgument(_:)`` where the name does not tell.
  final func isDownward() throws -> Bool {
    switch mode {
    case .min: return true
    case .max: return false
    case .automatic:
      var name = monitor
      if name.hasPrefix("val_") { name.removeFirst(4) }
      if let direction = Self.isDownward(name) { return direction }
      throw TrainingError.invalidArgument(
        "\(type(of: self)): whether \(monitor) is better large or small is not known by its name; give mode: .max or .min")
    }
  }

  /// What a metric's name says; nil if it says nothing.
  static func isDownward(_ name: String) -> Bool? {
    let downward = [
      "loss", "error", "mse", "mae", "rmse", "hinge", "crossentropy", "divergence", "poisson", "perplexity", "false_",
    ]
    if downward.contains(where: { name.contains($0) }) { return true }
    let upward = [
      "acc", "auc", "precision", "recall", "f1", "fbeta", "f_beta", "iou", "io_u", "dice", "r2", "correlation", "similarity",
      "true_", "sensitivity", "specificity", "score",
    ]
    return upward.contains { name.contains($0) } ? false : nil
  }

  final func isImprovement(_ value: Double, over reference: Double?) throws -> Bool {
    guard let reference else { return true }
    return try isDownward() ? value + minDelta < reference : value - minDelta > reference
  }

  /// The value of this epoch; nil, with a warning, if there is none.
  final func value(_ logs: Logs) -> Double? {
    if let value = logs[monitor] { return value }
    trainer.warn(
      "\(type(of: self)) watches \(monitor), which the epoch does not have; it has \(logs.keys.sorted().joined(separator: ", "))")
    return nil
  }
}
