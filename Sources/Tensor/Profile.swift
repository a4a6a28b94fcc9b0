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
          name, "\(row.calls)", fixed(row.seconds * 1e3, 3), fixed(100 * row.seconds / max(total, 1e-12), 1) + " %",
          row.flops > 0 ? fixed(rate, 1) : "", fixed(row.seconds > 0 ? row.bytes / row.seconds * 1e-9 : 0, 1),
        ] + (peak.map { [row.flops > 0 ? fixed(100 * rate / $0, 1) + " %" : ""] } ?? []))
    }
    if sorted.count > limit { lines.append(["and \(sorted.count - limit) more"]) }
    lines.append(["all", "\(events.count)", fixed(total * 1e3, 3)])
    let width = lines.map { $0[0].count }.max() ?? 0
    return lines.map { line in
      line.enumerated().map { i, cell in
        i == 0
          ? cell + String(repeating: " ", count: width - cell.count)
          : String(repeating: " ", count: max(10 - cell.count, 1)) + cell
      }.joined()
    }.joined(separator: "\n")
  }

  /// The events in the Trace Event Format (chrome://tracing, Perfetto), times in microseconds.
  public func chromeTrace(peak: Double? = nil) -> String {
    let lines = events.map { event in
      var details = [
        "\"inputs\":\"\(event.inputs.map(\.description).joined(separator: " "))\"",
        "\"results\":\"\(event.results.map(\.description).joined(separator: " "))\"", "\"bytes\":\(event.bytes)",
        "\"GB/s\":\(fixed(event.gigabytesPerSecond, 3))",
      ]
      if event.flops > 0 {
        details.append("\"flops\":\(fixed(event.flops, 0))")
        details.append("\"GFLOP/s\":\(fixed(event.gflops, 3))")
        if let peak, peak > 0 { details.append("\"share of peak\":\(fixed(event.gflops / peak, 4))") }
      }
      return
        "{\"name\":\"\(event.name)\",\"cat\":\"kernel\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":\(fixed(event.start * 1e6, 3)),"
        + "\"dur\":\(fixed(event.duration * 1e6, 3)),\"args\":{\(details.joined(separator: ","))}}"
    }
    return "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n" + lines.joined(separator: ",\n") + "\n]}\n"
  }
}

/// A number with so many digits after the point.
private func fixed(_ value: Double, _ digits: Int) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "0" }
  let scale = (0..<digits).reduce(1.0) { scale, _ in scale * 10 }
  let scaled = (abs(value) * scale).rounded()
  let sign = value < 0 && scaled > 0 ? "-" : ""
  let whole = Int(scaled / scale)
  if digits == 0 { return "\(sign)\(whole)" }
  let rest = Int(scaled - Double(whole) * scale)
  let text = "\(rest)"
  return "\(sign)\(whole)." + String(repeating: "0", count: max(digits - text.count, 0)) + text
}
