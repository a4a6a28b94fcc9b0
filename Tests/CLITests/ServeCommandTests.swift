import Apus
import Foundation
#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif
import Synchronization
import Testing

/// The process `apus serve`, and what signals do to it.
@Suite struct ServeCommandTests {
  private final class Server {
    let process = Process()
    let folder: String
    private let output = Pipe()
    private(set) var lines: [String] = []
    private var rest = ""

    init(_ folder: String, _ arguments: [String]) throws {
      self.folder = folder
      process.executableURL = CommandTests.command
      process.arguments = ["serve", "--http-port", "0", "--grpc-port", "0"] + arguments
      process.standardOutput = output
      process.standardError = FileHandle.nullDevice
      try process.run()
    }

    deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

    /// The next line it prints; nil at its end.
    func line() -> String? {
      while true {
        if let end = rest.firstIndex(of: "\n") {
          let line = String(rest[..<end])
          rest = String(rest[rest.index(after: end)...])
          return line
        }
        let data = output.fileHandleForReading.availableData
        if data.isEmpty { return nil }
        rest += String(decoding: data, as: UTF8.self)
      }
    }

    /// The HTTP address once every model is served.
    func ready() -> String? {
      while let line = line() {
        guard line.hasPrefix("ready ") else { continue }
        return line.split(separator: " ").first { $0.hasPrefix("http=") }.map { String($0.dropFirst(5)) }
      }
      return nil
    }
  }

  private func withModels(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-serve-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder + "/double/1", withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try export(Linear(2, 1), input: ["x": .float32(["batch", 2])], to: folder + "/double/1/m.apus")
    try body(folder)
  }

  private func status(_ url: String) -> (Int, String) {
    let done = DispatchSemaphore(value: 0)
    let result = Mutex((0, ""))
    let task = URLSession(configuration: .ephemeral).dataTask(with: URL(string: url)!) { data, response, _ in
      result.withLock { $0 = ((response as? HTTPURLResponse)?.statusCode ?? 0, String(decoding: data ?? Data(), as: UTF8.self)) }
      done.signal()
    }
    task.resume()
    done.wait()
    return result.withLock { $0 }
  }

  @Test func servesUntilItIsToldToStop() throws {
    try withModels { folder in
      let server = try Server(folder, ["--models", folder, "--ready-file", folder + "/ready"])
      let address = try #require(server.ready())
      #expect(status("http://\(address)/v2/health/ready").0 == 200)
      #expect(status("http://\(address)/v1/models/double").1.contains("AVAILABLE"))
      // Another model appears at SIGHUP only.
      try FileManager.default.createDirectory(atPath: folder + "/second/3", withIntermediateDirectories: true)
      try export(Linear(2, 1), input: ["x": .float32(["batch", 2])], to: folder + "/second/3/m.apus")
      #expect(status("http://\(address)/v1/models/second").0 == 404)
      kill(server.process.processIdentifier, SIGHUP)
      for _ in 0..<200 where status("http://\(address)/v2/models/second/ready").0 != 200 { usleep(50_000) }
      #expect(status("http://\(address)/v2/models/second/ready").0 == 200)
      #expect(try String(contentsOfFile: folder + "/ready", encoding: .utf8).contains("http=\(address)"))
      kill(server.process.processIdentifier, SIGTERM)
      server.process.waitUntilExit()
      #expect(server.process.terminationReason == .exit)
      #expect(server.process.terminationStatus == 0)
    }
  }

  @Test func saysWhatIsWrong() throws {
    try withModels { folder in
      for (arguments, text) in [
        (["serve"], "--models DIR"), (["serve", "--model", "a", "--models", "b"], "Only one of"),
        (["serve", "--models", folder, "--tls-cert", "x"], "belong together"),
        (["serve", "--models", folder, "--batch-delay-us", "5"], "--max-batch-size"),
        (["serve", "--model", folder + "/none.apus", "--http-port", "0", "--grpc-port", "0"], "none.apus"),
      ] {
        let output = try CommandTests.run(arguments)
        #expect(output.status != 0)
        #expect((output.out + output.err).contains(text), "\(arguments)")
      }
    }
  }
}
