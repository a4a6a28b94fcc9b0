import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Kill -9 at any moment, start again: the run ends in the same bits as one never killed.
@Suite(.serialized) struct KillTests {
  /// Beside the test bundle, where the package manager puts it.
  private static var program: URL? {
    let named = ProcessInfo.processInfo.environment["APUS_TRAINING_PROGRAM"].map { URL(fileURLWithPath: $0) }
    let places =
      [named].compactMap { $0 }
      + CommandLine.arguments.prefix(1).map {
        URL(fileURLWithPath: $0).deletingLastPathComponent().appendingPathComponent("TrainingProgram")
      }
    return places.first { FileManager.default.isExecutableFile(atPath: $0.path) }
  }

  /// Ctrl-C: the process ends in order, with a checkpoint where it stands.
  @Test func anInterruptedRunEndsInTheSameBits() throws {
    let scratch = Scratch()
    let begin = Date()
    try start(scratch("whole"), scratch("expected")).waitUntilExit()
    let seconds = -begin.timeIntervalSinceNow
    var interrupted = 0
    for _ in 0..<20 where interrupted < 3 {
      let process = try start(scratch("backup"), scratch("result"))
      usleep(UInt32(seconds * Double.random(in: 0.3...0.9) * 1e6))
      process.interrupt()
      process.waitUntilExit()
      if process.terminationReason == .exit && process.terminationStatus == 0 { break }
      // Before the program has taken over the signal, it ends the process.
      #expect(process.terminationStatus == (process.terminationReason == .exit ? 130 : 2))
      interrupted += 1
    }
    let last = try start(scratch("backup"), scratch("result"))
    last.waitUntilExit()
    #expect(last.terminationStatus == 0)
    let (result, expected) = (URL(fileURLWithPath: scratch("result")), URL(fileURLWithPath: scratch("expected")))
    #expect(try Data(contentsOf: result) == Data(contentsOf: expected))
  }

  private func start(_ backup: String, _ result: String) throws -> Process {
    let process = Process()
    let program: URL = try #require(Self.program, "TrainingProgram is not built")
    process.executableURL = program
    process.arguments = [backup, result]
    process.environment = ProcessInfo.processInfo.environment.merging(["APUS_NUM_THREADS": "\(Int.random(in: 1...3))"]) { $1 }
    try process.run()
    return process
  }

  @Test func aKilledRunEndsInTheSameBits() throws {
    let scratch = Scratch()
    let begin = Date()
    let whole = try start(scratch("whole"), scratch("expected"))
    whole.waitUntilExit()
    let seconds = -begin.timeIntervalSinceNow
    #expect(whole.terminationStatus == 0)
    let expected = try Data(contentsOf: URL(fileURLWithPath: scratch("expected")))
    var (kills, runs, moments) = (0, 0, 0)
    while kills < 20 || runs == 0 {
      let backup = scratch("backup \(runs)")
      let result = scratch("result \(runs)")
      while true {
        let process = try start(backup, result)
        // Moments of the whole run, and a little beyond.
        let moment = UInt32.random(in: 0...1_000)
        usleep(moment * UInt32(seconds * 1_050))
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        if process.terminationReason == .exit {
          #expect(process.terminationStatus == 0)
          break
        }
        kills += 1
        if FileManager.default.fileExists(atPath: backup) { moments += 1 }
      }
      runs += 1
      #expect(try Data(contentsOf: URL(fileURLWithPath: result)) == expected)
    }
    #expect(moments > 0, "no kill came after the first checkpoint")
  }
}
