import ApusCPU
import ApusData
import ApusNN
import ApusTensor
import CApusKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Adds what training takes of the machine to the epochs' values: Lightning's `DeviceStatsMonitor`.
///
/// `device_memory` and `device_peak_memory`: bytes that tensors hold and have held at most; `device_cached_memory`: bytes kept for
/// tensors to come; `device_resident_memory`: the most memory that the process has had; `device_processors`: processor seconds per second.
public final class DeviceStatsMonitor: Callback {
  private var start = (wall: 0.0, processor: 0.0)

  public override init() {}

  public override func onEpochBegin(_ epoch: Int) { start = (monotonicSeconds(), Self.processorSeconds()) }
  public override func onResume(epoch: Int, batch: Int) { start = (monotonicSeconds(), Self.processorSeconds()) }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) {
    let memory = apus_memory()
    logs["device_memory"] = Double(memory.in_use)
    logs["device_peak_memory"] = Double(memory.peak)
    logs["device_cached_memory"] = Double(memory.cached)
    logs["device_resident_memory"] = Self.residentBytes()
    let wall = monotonicSeconds() - start.wall
    if wall > 0 { logs["device_processors"] = (Self.processorSeconds() - start.processor) / wall }
  }

  private static func processorSeconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
  }

  private static func residentBytes() -> Double {
    var usage = rusage()
    #if canImport(Glibc)
      let whose = RUSAGE_SELF.rawValue  // Glibc imports it as an enumeration
    #else
      let whose = RUSAGE_SELF
    #endif
    getrusage(Int32(bitPattern: UInt32(truncatingIfNeeded: whose)), &usage)
    #if canImport(Darwin)
      return Double(usage.ru_maxrss)
    #else
      return Double(usage.ru_maxrss) * 1024
    #endif
  }
}

/// Adds batches and examples per second of training, without evaluation, to the epochs' values: Lightning's `ThroughputMonitor`.
public final class ThroughputMonitor: Callback {
  private let seconds: () -> Double
  private var start = 0.0
  private var elapsed = 0.0
  private var batches = 0
  private var examples = 0
  /// Of the last batches.
  public private(set) var batchesPerSecond = 0.0
  public private(set) var examplesPerSecond = 0.0

  public convenience override init() { self.init(seconds: monotonicSeconds) }
  init(seconds: @escaping () -> Double) { self.seconds = seconds }

  private func begin() { (start, elapsed, batches, examples) = (seconds(), 0, 0, 0) }
  public override func onEpochBegin(_ epoch: Int) { begin() }
  public override func onResume(epoch: Int, batch: Int) { begin() }

  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) {
    batches += 1
    examples += trainer.lastBatchCount
    elapsed = seconds() - start
  }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) {
    guard elapsed > 0 else { return }
    (batchesPerSecond, examplesPerSecond) = (Double(batches) / elapsed, Double(examples) / elapsed)
    logs["batches_per_second"] = batchesPerSecond
    logs["examples_per_second"] = examplesPerSecond
  }
}

/// Ends training after a time, over all processes of a run that was gone on with: Lightning's `Timer`. (Foundation has that name.)
public final class TrainingTimer: Callback {
  public enum Interval: Sendable { case epoch, step }

  private let duration: Double
  private let interval: Interval
  private let seconds: () -> Double
  private var before = 0.0
  private var start: Double?

  /// - Parameters:
  ///   - duration: in seconds.
  ///   - interval: whether the time is looked at after every batch or epoch.
  public convenience init(duration: Double, interval: Interval = .step) {
    self.init(duration: duration, interval: interval, seconds: monotonicSeconds)
  }
  init(duration: Double, interval: Interval, seconds: @escaping () -> Double) {
    (self.duration, self.interval, self.seconds) = (duration, interval, seconds)
  }

  /// Seconds of training so far.
  public var timeElapsed: Double { before + (start.map { seconds() - $0 } ?? 0) }
  public var timeRemaining: Double { max(0, duration - timeElapsed) }

  public override func onTrainBegin() { (before, start) = (0, seconds()) }
  public override func onTrainEnd(logs: Logs) { (before, start) = (timeElapsed, nil) }
  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) {
    if interval == .step && timeElapsed >= duration { trainer.stopTraining = true }
  }
  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) { if timeElapsed >= duration { trainer.stopTraining = true } }

  public override var state: CallbackState {
    get { CallbackState(numbers: ["elapsed": timeElapsed]) }
    set { (before, start) = (newValue.numbers["elapsed"] ?? 0, seconds()) }
  }
}

/// Prints the model's summary when training begins: Lightning's `ModelSummary`.
public final class ModelSummary: Callback {
  private let write: (String) -> Void

  /// - Parameter write: takes the text; standard output if absent.
  public init(write: @escaping (String) -> Void = { print($0) }) { self.write = write }

  public override func onTrainBegin() { write(trainer.model.summary().description) }
}
