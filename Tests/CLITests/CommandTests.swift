import Foundation
import Testing

/// Runs the built command as a user would.
@Suite struct CommandTests {
  struct Output {
    var status: Int32
    var out, err: String
  }

  /// The command stands beside the test runner.
  static let command = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appendingPathComponent(
    "apus")

  private func run(_ arguments: String...) throws -> Output { try Self.run(arguments) }

  static func run(_ arguments: [String]) throws -> Output {
    let process = Process()
    process.executableURL = command
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(["APUS_CACHE": "/nonexistent-cache"]) { $1 }
    let (out, err) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = err
    try process.run()
    let text = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let errors = String(decoding: err.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit, "the command must not be stopped by a signal: \(errors)")
    return Output(status: process.terminationStatus, out: text, err: errors)
  }

  private func temporaryFile(_ bytes: [UInt8]) throws -> String {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).safetensors").path
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return path
  }

  @Test func helpNamesTheCommands() throws {
    let help = try run("--help")
    #expect(help.status == 0)
    for name in ["quickstart", "run", "inspect", "export", "info", "bench"] { #expect(help.out.contains(name)) }
  }

  @Test func infoNamesKernelsAndThreads() throws {
    let info = try run("info")
    #expect(info.status == 0)
    #expect(info.out.contains("kernels") && info.out.contains("threads"))
  }

  @Test func benchListsItsWorkloads() throws {
    let list = try run("bench", "--list")
    #expect(list.status == 0)
    let names = Set(list.out.split(separator: "\n").map(String.init))
    #expect(
      names.isSuperset(of: [
        "peak", "op_overhead", "op_overhead_tape", "op_overhead_grad", "elementwise_chain", "softmax", "layernorm",
        "matmul_f32_256",
        "matmul_f32_1024", "matmul_f32_2048", "matmul_bf16_1024", "conv_64_56_fwd", "conv_64_56_bwd", "conv_256_14_fwd",
        "conv_256_14_bwd", "conv_dw128_28_fwd", "conv_dw128_28_bwd", "mlp_train", "lenet_train", "cifar_cnn_train",
      ]))
  }

  @Test func benchPrintsOneLineOfJSON() throws {
    let bench = try run("bench", "matmul_f32_256", "--json", "--budget", "0.05", "--threads", "1")
    #expect(bench.status == 0)
    let object = try JSONSerialization.jsonObject(with: Data(bench.out.utf8)) as? [String: Any]
    for key in ["workload", "mode", "threads", "median_ms", "min_ms", "n", "first_step_s", "peak_rss_mb", "throughput", "unit"] {
      #expect(object?[key] != nil, "\(key) is missing in \(bench.out)")
    }
    #expect(bench.out.split(separator: "\n").count == 1)
  }

  @Test func mistakesInArgumentsAreNamed() throws {
    let unknown = try run("bench", "matmul")
    #expect(unknown.status != 0 && unknown.err.contains("matmul_f32_1024"))
    #expect(try run("bench", "softmax", "--threads", "0").err.contains("--threads 0"))
    #expect(try run("quickstart", "--epochs", "0").err.contains("--epochs 0"))
    #expect(try run("inspect").status != 0)
  }

  @Test func inspectShowsWhatIsInAFile() throws {
    let header = #"{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"__metadata__":{"note":"hello"}}"#
    var bytes = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) }
    bytes += Array(header.utf8) + [UInt8](repeating: 0, count: 24)
    let path = try temporaryFile(bytes)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let shown = try run("inspect", path)
    #expect(shown.status == 0)
    #expect(shown.out.contains("1 tensors, 6 elements, 24 B") && shown.out.contains("note: hello"))
    #expect(shown.out.contains("w  F32   [2, 3]  24 B"))
  }

  @Test func brokenFilesAreRefusedWithASentence() throws {
    for bytes in [[], [1, 2, 3], [UInt8](repeating: 255, count: 64)] as [[UInt8]] {
      let path = try temporaryFile(bytes)
      defer { try? FileManager.default.removeItem(atPath: path) }
      let refused = try run("inspect", path)
      #expect(refused.status == 1)
      #expect(refused.err.contains(path) && refused.err.hasPrefix("Error: "))
    }
    #expect(try run("inspect", "/nonexistent/file.safetensors").err.contains("/nonexistent/file.safetensors"))
  }
}
