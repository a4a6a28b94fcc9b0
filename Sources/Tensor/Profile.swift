import ApusCPU
import CApusKernels

/// Runs `body` and notes what it computes on this thread: every operation, or every kernel of a compiled program.
///
/// ```swift
/// let (_, profile) = profile { step(images, labels) }
/// print(profile.table())
/// ```
/// Operations that are profiled take the general way, so small ones look some 100 ns longer than they are.
public func profile<R, E>(_ body: () throws(E) -> R) throws(E) -> (result: R, profile: Profile) {
  let profiler = Profiler()
  let result = try profiler.noting(body)
  return (result, Profile(profiler.events))
}

/// Counts what this thread computes while a function runs.
package final class WorkMeter {
  private let profiler = Profiler()
  private var counted = 0

  package init() {}

  /// - Parameter onRead: told of each variable whose value is read.
  package func noting<R, E>(onRead: @escaping (Variable) -> Void, _ body: () throws(E) -> R) throws(E) -> R {
    profiler.onRead = { if let variable = $0 as? Variable { onRead(variable) } }
    defer { profiler.onRead = nil }
    return try profiler.noting(body)
  }

  /// The multiplications and additions since the last look, by the direct formula.
  package func flops() -> Double {
    defer { counted = profiler.events.count }
    return profiler.events[counted...].reduce(0) { $0 + $1.work.flops }
  }
}

/// Kernel calls with their times, and what they amount to.
public struct Profile: Sendable {
  public struct Event: Sendable {
    public let name: String
    /// In seconds; the start counts from the beginning of the profile.
    public let start, duration: Double
    public let inputs, results: [TensorType]
    /// Multiplications and additions by the direct formula; 0 where only memory counts.
    public let flops: Double
    /// Operands and results, each once.
    public let bytes: Int

    public var gflops: Double { duration > 0 ? flops / duration * 1e-9 : 0 }
    public var gigabytesPerSecond: Double { duration > 0 ? Double(bytes) / duration * 1e-9 : 0 }
  }

  public let events: [Event]

  init(_ events: [Profiler.Event]) {
    self.events = events.map {
      Event(
        name: $0.name, start: $0.start, duration: $0.duration, inputs: $0.work.inputs, results: $0.work.results,
        flops: $0.work.flops, bytes: $0.work.bytes)
    }
  }

  /// Seconds in kernels.
  public var total: Double { events.reduce(0) { $0 + $1.duration } }

  /// The machine's multiply-add peak with the present number of threads, in GFLOP/s: measured now, in a fifth of a second.
  public static func measuredPeak() -> Double { apus_measure_fma_gflops(apus_thread_count(), 0.2, nil) }

  /// A table by kernel, most time first: calls, milliseconds, share, GFLOP/s and GB/s, and the share of `peak` (GFLOP/s) if given.
  public func table(peak: Double? = nil, limit: Int = 30) -> String {
    struct Row {
      var calls = 0
      var seconds = 0.0
      var flops = 0.0
      var bytes = 0.0
    }
    var rows: [String: Row] = [:]
    for event in events {
      rows[event.name, default: Row()].calls += 1
      rows[event.name, default: Row()].seconds += event.duration
      rows[event.name, default: Row()].flops += event.flops
      rows[event.name, default: Row()].bytes += Double(event.bytes)
    }
    let sorted = rows.sorted { ($1.value.seconds, $0.key) < ($0.value.seconds, $1.key) }
    var lines = [["kernel", "calls", "ms", "share", "GFLOP/s", "GB/s"] + (peak == nil ? [] : ["of peak"])]
    for (name, row) in sorted.prefix(limit) {
      let rate = row.seconds > 0 ? row.flops / row.seconds * 1e-9 : 0
      lines.append(
        [
          name, "\(row.calls)", decimals(row.seconds * 1e3, 3), decimals(100 * row.seconds / max(total, 1e-12), 1) + " %",
          row.flops > 0 ? decimals(rate, 1) : "", decimals(row.seconds > 0 ? row.bytes / row.seconds * 1e-9 : 0, 1),
        ] + (peak.map { [row.flops > 0 ? decimals(100 * rate / $0, 1) + " %" : ""] } ?? []))
    }
    if sorted.count > limit { lines.append(["and \(sorted.count - limit) more"]) }
    lines.append(["all", "\(events.count)", decimals(total * 1e3, 3)])
    let width = lines.map { $0[0].count }.max() ?? 0
    return lines.map { line in
      line.enumerated().map { i, cell in
        i == 0
          ? cell + String(repeating: " ", count: width - cell.count)
          : String(repeating: " ", count: max(10 - cell.count, 1)) + cell
      }.joined()
    }.joined(separator: "\n")
  }
}
