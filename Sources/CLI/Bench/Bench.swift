import Apus
import ApusCPU
import ApusTensor
import ArgumentParser
import CApusKernels

/// Measures one workload in this process, by the method of the peers' programs: the first step apart, a warm-up, then
/// steps in windows of about a second; windows in which other processes kept the cores busy are left out if they can be.
struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure a workload on this machine.",
    discussion: "Names and shapes are those of the peers' benchmark programs. `--list` shows them.")

  @Argument(help: "The workload's name, or an artifact (.apus).")
  var workload: String?

  @Option(help: "Threads to compute with.")
  var threads: Int = 2

  @Flag(help: "Run operation by operation (the default).")
  var eager = false

  @Flag(help: "Run as one compiled program.")
  var compiled = false

  @Flag(help: "Print one line of JSON.")
  var json = false

  @OptionGroup var profiling: Profiling

  @Option(help: "Of an artifact: which of its functions.")
  var signature: String?

  @Option(help: "Of an artifact: the size of an open dimension, as in batch=8; the smallest one if not given.")
  var inputSize: [String] = []

  @Flag(help: "List the workloads.")
  var list = false

  @Option(help: "Seconds of timed steps.")
  var budget: Double = 4

  func validate() throws {
    if threads < 1 || threads > 256 { throw ValidationError("--threads \(threads) is not within 1 and 256.") }
    if !(budget > 0 && budget <= 3600) { throw ValidationError("--budget \(budget) is not within 0 and 3600 seconds.") }
    if eager && compiled { throw ValidationError("--eager and --compiled exclude each other.") }
    if list { return }
    guard let workload else { throw ValidationError("Name a workload; --list shows them.") }
    if !Workload.isArtifact(workload) && Workload.named(workload) == nil {
      let near = Workload.all.map(\.name).filter { $0.contains(workload) || workload.contains($0.prefix(4)) }
      let hint = near.isEmpty ? "--list shows them." : "Near: \(near.joined(separator: ", "))."
      throw ValidationError("There is no workload '\(workload)'. \(hint)")
    }
    if compiled, let found = Workload.named(workload), !found.isProgram {
      throw ValidationError("--compiled: \(workload) measures single operations, which have no compiled form.")
    }
    if eager && Workload.isArtifact(workload) { throw ValidationError("--eager: an artifact is a compiled program.") }
  }

  func run() throws {
    if list {
      for workload in Workload.all { print(workload.name) }
      return
    }
    apus_set_thread_count(Int32(threads))
    guard let workload = try self.workload.flatMap(found) else { return }
    if workload.name == "peak" {
      let peak = Peak.measure(threads: threads, seconds: budget)
      print(json ? peak.json : peak.text)
      return
    }
    if profiling.path != nil { return try profile(workload) }
    let report = measure(workload)
    print(json ? report.json : report.text)
  }

  private func found(_ name: String) throws -> Workload? {
    Workload.isArtifact(name) ? try Workload.artifact(name, signature: signature, sizes: inputSize) : Workload.named(name)
  }

  /// The last of a few steps, kernel by kernel.
  private func profile(_ workload: Workload) throws {
    let step = workload.build(compiled ? .compiled : .eager)
    for _ in 0..<2 { step() }
    Workload.reports.store(true, ordering: .relaxed)
    step()
    Workload.reports.store(false, ordering: .relaxed)
    try profiling(step)
  }

  private func measure(_ workload: Workload) -> Report {
    let mode: Workload.Mode = compiled || self.workload.map(Workload.isArtifact) == true ? .compiled : .eager
    let step = workload.build(mode)
    let first = timed(step)
    let start = Clock.seconds()
    var warm = 0
    while warm < 3 || Clock.seconds() - start < 0.5 {
      step()
      warm += 1
    }
    let (samples, otherCores) = quietSamples(step)
    let sorted = samples.sorted()
    let middle = sorted.count / 2
    let median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    return Report(
      workload: workload.name, mode: mode.rawValue, threads: threads, medianMs: median * 1e3, minMs: sorted[0] * 1e3,
      count: samples.count,
      firstStep: first, peakMemory: ProcessUsage.peakMemoryMB(), throughput: workload.items / median, unit: workload.unit,
      otherCores: otherCores)
  }

  private func timed(_ step: () -> Void) -> Double {
    let start = Clock.seconds()
    step()
    return Clock.seconds() - start
  }

  /// Step times, and how many cores other processes used meanwhile.
  private func quietSamples(_ step: () -> Void) -> (samples: [Double], otherCores: Double) {
    let (window, noise) = (1.0, 0.12)
    var quiet: [([Double], Double)] = []
    var everything: [([Double], Double)] = []
    let start = Clock.seconds()
    func enough(_ windows: [([Double], Double)]) -> Bool {
      let times = windows.flatMap(\.0)
      return times.count >= 5 && times.reduce(0, +) >= budget
    }
    while !enough(quiet) && !(Clock.seconds() - start > 3 * budget && enough(everything)) {
      var times: [Double] = []
      let before = ProcessUsage.busySeconds()
      let begin = Clock.seconds()
      var total = 0.0
      while total < window {
        let t = timed(step)
        times.append(t)
        total += t
      }
      let elapsed = Clock.seconds() - begin
      let after = ProcessUsage.busySeconds()
      let other = max(0, (after.all - before.all) - (after.own - before.own)) / elapsed
      everything.append((times, other))
      if other <= noise { quiet.append((times, other)) }
    }
    let chosen = enough(quiet) ? quiet : everything
    return (chosen.flatMap(\.0), chosen.map(\.1).reduce(0, +) / Double(chosen.count))
  }
}

struct Report {
  let workload, mode: String
  let threads: Int
  let medianMs, minMs: Double
  let count: Int
  let firstStep, peakMemory, throughput: Double
  let unit: String
  let otherCores: Double

  var json: String {
    """
    {"workload": "\(workload)", "mode": "\(mode)", "threads": \(threads), "median_ms": \(decimals(medianMs, 4)), \
    "min_ms": \(decimals(minMs, 4)), "n": \(count), "first_step_s": \(decimals(firstStep, 4)), \
    "peak_rss_mb": \(decimals(peakMemory, 1)), "throughput": \(decimals(throughput, 3)), "unit": "\(unit)", \
    "other_cores": \(decimals(otherCores, 2))}
    """
  }

  var text: String {
    """
    \(workload) (\(mode), \(threads) thread\(threads == 1 ? "" : "s"))
      median      \(decimals(medianMs, 4)) ms   minimum \(decimals(minMs, 4)) ms   \(count) steps
      throughput  \(scaled(throughput)) \(unit)
      first step  \(decimals(firstStep * 1e3, 2)) ms
      peak memory \(decimals(peakMemory, 1)) MB
      others      \(decimals(otherCores, 2)) cores busy with other processes
    """
  }
}

func scaled(_ value: Double) -> String {
  for (scale, prefix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] where value >= scale {
    return "\(decimals(value / scale, 2)) \(prefix)"
  }
  return decimals(value, 2) + " "
}
