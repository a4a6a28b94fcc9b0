import Apus
import Foundation
import Testing

/// One loaded program, many tasks: its plans, their memory and what is computed once are shared.
@Suite struct ConcurrentProgramTests {
  private final class Net: Module, Layer {
    let first = Linear(6, 8)
    let second = Linear(8, 3)
    func callAsFunction(_ x: Tensor) -> Tensor { second(gelu(first(x))) }
  }

  @Test func manyTasksRunOneProgram() async throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).apus").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try export(Net(), input: ["x": .float32(["batch", 6])], to: path)
    // Fewer plans than sizes, so that they are made and dropped while others run.
    let program = try load(path, limits: ProgramLimits(plans: 2, planMemory: 0))
    let inputs = (1...4).map { Tensor.randn([$0, 6], generator: Generator(seed: UInt64($0))) }
    let expected = try inputs.map { try program.run(["x": $0])["output"].map(bits) }
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for task in 0..<12 {
        group.addTask {
          try (0..<25).allSatisfy { i in
            let k = (task + i) % inputs.count
            return try program.run(["x": inputs[k]])["output"].map(bits) == expected[k]
          }
        }
      }
      for try await isSame in group { #expect(isSame) }
    }
  }
}
