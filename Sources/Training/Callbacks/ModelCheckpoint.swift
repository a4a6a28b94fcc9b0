import ApusFormats
import ApusTensor

/// Saves the model, or all that training is, after epochs or batches: Keras's `ModelCheckpoint`.
///
/// A path that ends in `.safetensors` gets parameters and variables alone; any other a folder with everything a run goes on from
/// (``Trainer/loadCheckpoint(from:)``, `fit(resume:)`).
public final class ModelCheckpoint: CheckpointWriter {
  public enum SaveFrequency: Sendable, Equatable {
    case epoch
    case batches(Int)
  }

  public let filepath: String
  private let watch: MonitorCallback
  private let saveBestOnly: Bool
  private let frequency: SaveFrequency
  private let keep: Int?
  private let threshold: Double?
  private let verbose: Bool

  private var batchesSinceSaving = 0
  private var pending: String?
  /// What is kept, in order, with the monitored value.
  private var written: [(path: String, value: Double)] = []

  /// The best value so far.
  public var best: Double? { watch.best }

  /// - Parameters:
  ///   - filepath: may hold `{epoch}`, `{batch}` (both counted from 1), `{step}` and names of values, with a format as in Python:
  ///     `model-{epoch:02d}-{val_loss:.2f}.safetensors`.
  ///   - saveBestOnly: only where the monitored value is better than the best before.
  ///   - saveFrequency: after every epoch, or every so many batches.
  ///   - initialValueThreshold: a value to be beaten by the first.
  ///   - keep: at most so many files of different names: those of the best values, or the last ones where there is no value.
  public init(
    _ filepath: String, monitor: String = "val_loss", verbose: Bool = false, saveBestOnly: Bool = false,
    mode: MonitorMode = .automatic, saveFrequency: SaveFrequency = .epoch, initialValueThreshold: Double? = nil, keep: Int? = nil
  ) {
    self.filepath = filepath
    self.verbose = verbose
    self.saveBestOnly = saveBestOnly
    self.frequency = saveFrequency
    self.keep = keep
    threshold = initialValueThreshold
    watch = MonitorCallback(monitor: monitor, mode: mode, minDelta: 0, best: initialValueThreshold)
  }

  public override func onTrainBegin() {
    (isDue, pending, batchesSinceSaving) = (false, nil, 0)
    watch.attach(trainer)
  }

  public override func onTrainEnd(logs: Logs) { watch.attach(nil) }
  public override func onException(_ error: any Error) { watch.attach(nil) }

  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) throws {
    guard case .batches(let count) = frequency else { return }
    batchesSinceSaving += 1
    guard batchesSinceSaving >= count else { return }
    batchesSinceSaving = 0
    try request(trainer.position.epoch, batch, logs.values)
  }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) throws {
    if frequency == .epoch { try request(epoch, nil, logs) }
  }

  private func request(_ epoch: Int, _ batch: Int?, _ logs: Logs) throws {
    if saveBestOnly, let current = watch.value(logs) {
      let before = watch.best.map { formatted("%.5f", $0) } ?? "none"
      guard try watch.isImprovement(current, over: watch.best) else {
        if verbose { print("Epoch \(epoch + 1): \(watch.monitor) did not improve from \(before)") }
        return
      }
      watch.best = current
      if verbose { print("Epoch \(epoch + 1): \(watch.monitor) improved from \(before) to \(formatted("%.5f", current))") }
    }
    let path = try Self.path(filepath, epoch, batch, trainer.position.step, logs)
    pending = path
    isDue = true
    written.removeAll { $0.path == path }
    written.append((path, logs[watch.monitor] ?? .nan))
  }

  override func write() throws {
    isDue = false
    guard let path = pending else { return }
    pending = nil
    let removed = try surplus(path)
    if path.hasSuffix(".safetensors") {
      do {
        try createFolder(parentFolder(of: path))
        try trainer.model.save(path)
      } catch let error as FormatError { throw TrainingError.unwritable(path: path, reason: error.description) }
    } else {
      try trainer.saveCheckpoint(to: path)
    }
    if verbose { print("Saved \(path)") }
    for old in removed { AtomicFolder.removeFileOrFolder(old) }
  }

  /// What is beyond the number to keep; never what is being written.
  private func surplus(_ path: String) throws -> [String] {
    var removed: [String] = []
    while let keep, written.count > max(1, keep) {
      let others = written.filter { $0.path != path }
      let rated = others.filter { !$0.value.isNaN }
      let down = rated.isEmpty ? true : try watch.isDownward()
      guard let victim = down ? rated.max(by: { $0.value < $1.value }) ?? others.first : rated.min(by: { $0.value < $1.value })
      else { break }
      removed.append(victim.path)
      written.removeAll { $0.path == victim.path }
    }
    return removed
  }

  /// The path with its placeholders filled.
  static func path(_ pattern: String, _ epoch: Int, _ batch: Int?, _ step: Int, _ logs: Logs) throws -> String {
    var result = ""
    var rest = Substring(pattern)
    while let open = rest.firstIndex(of: "{") {
      guard let close = rest[open...].firstIndex(of: "}") else { break }
      result += rest[..<open]
      let parts = rest[rest.index(after: open)..<close].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts.first ?? "")
      let format = parts.count > 1 ? String(parts[1]) : ""
      switch (name, batch) {
      case ("epoch", _): result += integer(epoch + 1, format)
      case ("batch", let batch?): result += integer(batch + 1, format)
      case ("step", _): result += integer(step, format)
      default:
        guard let value = logs[name] else {
          throw TrainingError.invalidArgument(
            "ModelCheckpoint: the path \(pattern) names \(name), but the values are \(logs.keys.sorted().joined(separator: ", "))"
          )
        }
        let allowed = format.isEmpty || format.allSatisfy { "0123456789.+-eEfFgG ".contains($0) }
        result += format.isEmpty || !allowed ? "\(value)" : formatted("%" + format, value)
      }
      rest = rest[rest.index(after: close)...]
    }
    return result + rest
  }

  private static func integer(_ value: Int, _ format: String) -> String {
    let digits = String(value)
    guard format.hasPrefix("0"), let width = Int(format.filter(\.isNumber)) else { return digits }
    return String(repeating: "0", count: max(0, min(width, 100) - digits.count)) + digits
  }

  public override var state: CallbackState {
    get {
      var state = CallbackState(numbers: ["since": Double(batchesSinceSaving)], lists: ["values": written.map(\.value)])
      state.numbers["best"] = watch.best
      for (i, item) in written.enumerated() { state.texts["path \(i)"] = item.path }
      return state
    }
    set {
      batchesSinceSaving = Int(newValue.numbers["since"] ?? 0)
      watch.best = newValue.numbers["best"] ?? threshold
      written = (newValue.lists["values"] ?? []).enumerated().compactMap { i, value in
        newValue.texts["path \(i)"].map { ($0, value) }
      }
    }
  }
}

/// Writes all that training is where it ends by an error or is cancelled: Lightning's `OnExceptionCheckpoint`.
///
/// After an error within a step the parameters may have changed and the place in the data not: such a checkpoint is for looking into.
public final class OnExceptionCheckpoint: Callback {
  public let path: String

  public init(_ folder: String, filename: String = "on_exception") { path = folder + "/" + filename }

  public override var isLeftOutOfFastRuns: Bool { true }

  public override func onException(_ error: any Error) {
    do { try trainer.saveCheckpoint(to: path) } catch { trainer.warn("\(error)") }
  }
}
