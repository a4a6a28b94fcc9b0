import ApusFormats
import ApusNN
import ApusTensor
import Foundation
import Testing

/// The path of a file beside these tests; the script that made it is there too.
func fixturePath(_ name: String) -> String {
  URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures").appendingPathComponent(name).path
}

/// PyTorch's values for a case, by what follows `case/`.
struct Fixture: Sendable {
  private static let files = ["layers", "losses", "optimizers", "sequences"].reduce(into: [String: [String: Tensor]]()) {
    $0[$1] = try? loadTensors(from: fixturePath($1 + ".safetensors"))
  }
  let values: [String: Tensor]

  init(_ file: String, _ name: String) throws {
    let all = try #require(Fixture.files[file])
    values = Dictionary(
      uniqueKeysWithValues: all.filter { $0.key.hasPrefix(name + "/") }.map {
        (String($0.key.dropFirst(name.count + 1)), $0.value)
      })
    try #require(!values.isEmpty, "no values for \(name)")
  }

  static func all(_ file: String) throws -> [String: Tensor] { try #require(files[file]) }

  /// The value, converted if it is floating point.
  func callAsFunction(_ key: String, _ type: ElementType) throws -> Tensor {
    let value = try #require(values[key], "no value \(key)")
    return value.elementType.isFloatingPoint ? value.converted(to: type) : value
  }

  /// Those whose key begins with `prefix`, without it.
  func group(_ prefix: String) -> [String: Tensor] {
    Dictionary(
      uniqueKeysWithValues: values.filter { $0.key.hasPrefix(prefix) }.map { (String($0.key.dropFirst(prefix.count)), $0.value) })
  }
}

/// Compares with PyTorch's float64 values, relative to the largest of them.
///
/// float64 sums differ only in their order: 1e-12. float32: some hundred roundings of 6e-8 each.
func expectClose(
  _ actual: Tensor, _ expected: Tensor, _ type: ElementType, _ what: String, tolerance64: Double = 1e-12,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(actual.shape == expected.shape, "\(what): shape", sourceLocation: sourceLocation)
  guard actual.shape == expected.shape else { return }
  let (a, b) = (actual.elements(as: Double.self), expected.elements(as: Double.self))
  let scale = b.map(abs).filter(\.isFinite).max() ?? 0
  let tolerance = (type == .float64 ? tolerance64 : 2e-5) * max(scale, 1e-3)
  for (x, y) in zip(a, b) where !(abs(x - y) <= tolerance || (x.isNaN && y.isNaN) || x == y) {
    Issue.record("\(what): \(x), expected \(y) within \(tolerance)", sourceLocation: sourceLocation)
    return
  }
}

/// Calls `body` with a new folder that is removed afterwards.
func withTemporaryFolder(_ body: (String) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try body(folder.path)
}
