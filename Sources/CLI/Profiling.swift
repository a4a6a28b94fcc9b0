import Apus
import ApusTensor
import ArgumentParser

/// `--profile FILE`, as the commands share it.
struct Profiling: ParsableArguments {
  @Option(
    name: .customLong("profile"),
    help: "Write a Chrome trace of operations and kernels to FILE (open it in Perfetto), and print a table by kernel.")
  var path: String?

  /// Runs `body`; with `--profile` notes what it computes.
  func callAsFunction<R>(_ body: () throws -> R) throws -> R {
    guard path != nil else { return try body() }
    let (result, found) = try ApusTensor.profile(body)
    try write(found)
    return result
  }

  func write(_ profile: Profile) throws {
    guard let path else { return }
    let peak = Profile.measuredPeak()
    try AtomicFile.write(to: path) { try $0.write(profile.chromeTrace(peak: peak)) }
    print(profile.table(peak: peak))
    print("measured peak \(decimals(peak, 1)) GFLOP/s; trace in \(path)")
  }
}
