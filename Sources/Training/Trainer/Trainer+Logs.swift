import ApusTensor

extension Trainer {
  /// The loss and metrics since they were reset, read now.
  public final func currentLogs() -> Logs {
    var logs: Logs = ["loss": lossTracker.mean]
    withoutGradient {
      for (i, tracker) in outputTrackers.enumerated() { logs["\(outputs[i].name)_loss"] = tracker.mean }
      for output in outputs {
        let prefix = outputs.count > 1 ? output.name + "_" : ""
        for metric in output.metrics + output.weightedMetrics {
          let values = metric.result().elements(as: Double.self)
          if values.count == 1 {
            logs[prefix + metric.name] = values[0]
          } else {
            for (k, value) in values.enumerated() { logs["\(prefix)\(metric.name)_\(k)"] = value }
          }
        }
      }
    }
    return logs
  }

  /// Forgets the loss and metrics so far.
  public final func resetMetrics() {
    lossTracker.reset()
    outputTrackers.forEach { $0.reset() }
    metrics.forEach { $0.reset() }
  }
}
