import ApusTensor

/// The values of every epoch: what `fit` gives back.
public final class History: Callback {
  /// The epochs, in order.
  public private(set) var epochs: [Int] = []
  /// One value for each epoch, by name; NaN for an epoch that had no such value.
  public private(set) var values: [String: [Double]] = [:]

  public override init() {}

  /// The values of this name, one for each epoch.
  public subscript(name: String) -> [Double] { values[name] ?? [] }

  /// Adds an epoch.
  public func append(_ epoch: Int, _ logs: Logs) {
    for name in logs.keys where values[name] == nil { values[name] = Array(repeating: .nan, count: epochs.count) }
    epochs.append(epoch)
    for name in values.keys { values[name]?.append(logs[name] ?? .nan) }
  }

  public override func onTrainBegin() { (epochs, values) = ([], [:]) }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) { append(epoch, logs) }

  public override var state: CallbackState {
    get {
      var lists = values
      lists["epochs of the history"] = epochs.map(Double.init)
      return CallbackState(lists: lists)
    }
    set {
      values = newValue.lists
      epochs = (values.removeValue(forKey: "epochs of the history") ?? []).map { Int($0) }
    }
  }
}
