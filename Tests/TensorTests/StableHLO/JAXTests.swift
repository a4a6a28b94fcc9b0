import ApusCPU
import Foundation
import Testing

@testable import ApusTensor

/// Programs that JAX wrote (make_jax.py): read, run, and compared with JAX's results.
@Suite struct JAXTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("JAX")

  private struct Program: Decodable {
    struct Place: Decodable {
      var type: String
      var shape: [Int]
      var bytes: String

      func tensor() throws -> Tensor {
        let type = try #require(ElementType.allCases.first { $0.name == self.type })
        let digits = Array(bytes.utf8)
        let data = try (0..<(digits.count / 2)).map { i in
          try #require(UInt8(String(decoding: digits[(2 * i)..<(2 * i + 2)], as: UTF8.self), radix: 16))
        }
        return data.withUnsafeBytes { Tensor(bytes: $0, shape: Shape(shape), elementType: type) }
      }
    }
    var name: String
    var inputs: [Place]
    var outputs: [Place]
  }

  @Test func programsOfJAX() throws {
    let text = try String(contentsOf: Self.folder.appendingPathComponent("values.jsonl"), encoding: .utf8)
    let programs = try text.split(separator: "\n").map { try JSONDecoder().decode(Program.self, from: Data($0.utf8)) }
    #expect(programs.count >= 7)
    for program in programs {
      let source = try String(contentsOf: Self.folder.appendingPathComponent(program.name + ".mlir"), encoding: .utf8)
      let graph: Graph
      do { graph = try Graph(stableHLO: source) } catch {
        Issue.record("\(program.name): \(error)")
        continue
      }
      try graph.verify()
      // Written by us, it is still the same program.
      for graph in [graph, try Graph(stableHLO: graph.stableHLO())] {
        let results = try CPU.run(graph, try program.inputs.map { try $0.tensor().array }).map { Tensor(array: $0) }
        let expected = try program.outputs.map { try $0.tensor() }
        #expect(results.map(\.type) == expected.map(\.type), "\(program.name)")
        for (i, (result, reference)) in zip(results, expected).enumerated() {
          #expect(Reference(reference).mismatch(result, ulps: 64, magnitude: 1) == nil, "\(program.name), result \(i)")
        }
      }
    }
  }
}
