import ApusCPU
import ApusTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// How progress is shown: Keras's `verbose`.
public enum Verbosity: Sendable {
  /// A bar on a terminal, lines where output goes into a file or another program.
  case automatic
  case silent
  /// A bar that is drawn again in its line.
  case bar
  /// One line for each epoch.
  case lines

  var callback: ProgressBar? {
    switch self {
    case .automatic: ProgressBar(isatty(1) == 1 ? .bar : .lines)
    case .silent: nil
    case .bar: ProgressBar(.bar)
    case .lines: ProgressBar(.lines)
    }
  }
}

/// Shows progress: rate, time left, loss and metrics. On a terminal a bar that is drawn a few times a second; else plain lines, one for
/// each epoch, so that logs stay readable. Keras's `ProgbarLogger`, Lightning's `RichProgressBar`.
public final class ProgressBar: Callback {
  public enum Style: Sendable { case bar, lines }

  private let style: Style
  private let write: (String) -> Void
  private let seconds: () -> Double
  private let interval: Double
  private let width = 20

  private var start = 0.0
  private var lastDrawn = 0.0
  /// The batch the epoch began at in this process.
  private var first = 0
  private var seen = 0
  private var isTraining = false

  /// - Parameters:
  ///   - interval: seconds between two drawings.
  ///   - write: takes the text; standard output if absent.
  public convenience init(_ style: Style = .bar, interval: Double = 0.1, write: ((String) -> Void)? = nil) {
    self.init(style, interval: interval, seconds: monotonicSeconds, write: write)
  }

  init(_ style: Style, interval: Double, seconds: @escaping () -> Double, write: ((String) -> Void)?) {
    self.style = style
    self.interval = interval
    self.seconds = seconds
    self.write =
      write ?? {
        print($0, terminator: "")
        fflush(nil)
      }
  }

  public override func onEpochBegin(_ epoch: Int) { begin(epoch, at: 0) }

  public override func onResume(epoch: Int, batch: Int) {
    isTraining = true
    write("Going on from epoch \(epoch + 1), batch \(batch)\n")
    if batch > 0 { begin(epoch, at: batch) }
  }

  private func begin(_ epoch: Int, at batch: Int) {
    isTraining = true
    (start, lastDrawn, first, seen) = (seconds(), 0, batch, batch)
    if style == .bar { write("Epoch \(epoch + 1)/\(trainer.epochs)\n") }
  }

  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) { advance(batch, logs, trainer.stepsPerEpoch) }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) {
    isTraining = false
    switch style {
    case .bar: write("\r\u{1B}[K" + line(seen, seen, logs) + "\n")
    case .lines:
      let head = "epoch \(epoch + 1)/\(trainer.epochs): \(Self.duration(seconds() - start))"
      write(([head] + Self.texts(logs)).joined(separator: " - ") + "\n")
    }
  }

  public override func onTestBegin() { if !isTraining { (start, lastDrawn, first, seen) = (seconds(), 0, 0, 0) } }

  public override func onTestBatchEnd(_ batch: Int, logs: BatchLogs) { if !isTraining { advance(batch, logs, nil) } }

  public override func onTestEnd(logs: Logs) {
    guard !isTraining else { return }
    switch style {
    case .bar: write("\r\u{1B}[K" + line(seen, seen, logs) + "\n")
    case .lines: write((["evaluation: \(Self.duration(seconds() - start))"] + Self.texts(logs)).joined(separator: " - ") + "\n")
    }
  }

  public override func onException(_ error: any Error) { if style == .bar && isTraining { write("\n") } }

  private func advance(_ batch: Int, _ logs: BatchLogs, _ total: Int?) {
    seen = batch + 1
    guard style == .bar else { return }
    let now = seconds()
    guard now - lastDrawn >= interval else { return }
    lastDrawn = now
    write("\r\u{1B}[K" + line(seen, total, logs.values))
  }

  /// `120/938 ━━━━━━────────────── 00:04 left, 5.1 ms/step - loss: 0.4213`
  private func line(_ done: Int, _ total: Int?, _ logs: Logs) -> String {
    let elapsed = seconds() - start
    let each = elapsed / Double(max(1, done - first))
    var text = total.map { "\(done)/\($0)" } ?? "\(done)"
    if let total, total > 0 {
      let filled = min(width, width * done / total)
      text += " " + String(repeating: "━", count: filled) + String(repeating: "─", count: width - filled)
    }
    if let total, done < total {
      text += " \(Self.duration(each * Double(total - done))) left"
    } else {
      text += " \(Self.duration(elapsed))"
    }
    text += ", \(Self.stepTime(each))/step"
    return ([text] + Self.texts(logs)).joined(separator: " - ")
  }

  // MARK: Texts

  /// `loss: 0.4213`, first the loss, then by name, the validation's last.
  static func texts(_ logs: Logs) -> [String] {
    func rank(_ name: String) -> Int { (name.hasPrefix("val_") ? 2 : 0) + (name.hasSuffix("loss") ? 0 : 1) }
    return logs.keys.sorted { (rank($0), $0) < (rank($1), $1) }.map { "\($0): \(number(logs[$0] ?? .nan))" }
  }

  /// Four digits that tell something: `0.4213`, `12.5`, `1e-05`.
  static func number(_ value: Double) -> String {
    guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
    let magnitude = abs(value)
    if magnitude != 0 && magnitude < 1e-3 || magnitude >= 1e6 { return formatted("%.4e", value) }
    return formatted("%.4f", value)
  }

  static func duration(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded())
    if whole >= 3600 { return "\(whole / 3600):" + twoDigits(whole / 60 % 60) + ":" + twoDigits(whole % 60) }
    return twoDigits(whole / 60) + ":" + twoDigits(whole % 60)
  }

  private static func twoDigits(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

  static func stepTime(_ seconds: Double) -> String {
    if seconds >= 1 { return formatted("%.2f s", seconds) }
    if seconds >= 1e-3 { return formatted("%.1f ms", seconds * 1e3) }
    return formatted("%.0f µs", seconds * 1e6)
  }
}
