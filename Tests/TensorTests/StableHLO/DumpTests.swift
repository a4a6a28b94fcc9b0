import ApusCPU
import Foundation
import Testing

@testable import ApusTensor

/// `APUS_DUMP_STABLEHLO=folder` writes the text of every sample there, with operands and results, for check_stablehlo.py.
@Suite struct DumpTests {
  private static let folder = ProcessInfo.processInfo.environment["APUS_DUMP_STABLEHLO"]

  @Test(.enabled(if: folder != nil)) func dump() throws {
    let folder = URL(fileURLWithPath: try #require(Self.folder))
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    var data = Data()
    var lines: [String] = []
    func place(_ tensor: Tensor) -> [String: Any] {
      defer { data.append(contentsOf: bits(tensor)) }
      return ["type": tensor.elementType.name, "shape": Array(tensor.shape), "offset": data.count]
    }
    let samples = try GraphSample.programs() + Family.allCases.flatMap { try GraphSample.operations($0) }
    for (i, sample) in samples.enumerated() {
      let text = sample.graph.stableHLO(name: "sample")
      try text.write(to: folder.appendingPathComponent("\(i).mlir"), atomically: false, encoding: .utf8)
      let entry: [String: Any] = [
        "name": sample.name, "file": "\(i).mlir", "inputs": sample.inputs.map(place),
        "outputs": try sample.results().map(place), "ulps": sample.ulps, "magnitude": sample.magnitude,
      ]
      lines.append(String(decoding: try JSONSerialization.data(withJSONObject: entry), as: UTF8.self))
    }
    try data.write(to: folder.appendingPathComponent("data.bin"))
    try (lines.joined(separator: "\n") + "\n").write(
      to: folder.appendingPathComponent("index.jsonl"), atomically: false, encoding: .utf8)
  }
}
