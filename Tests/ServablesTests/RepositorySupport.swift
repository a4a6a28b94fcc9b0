import Apus
import ApusServables
import Foundation
import Synchronization
import Testing

/// Calls `body` with a new folder that is removed afterwards.
func withFolder<R>(_ body: (String) async throws -> R) async throws -> R {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-repository-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try await body(folder.resolvingSymlinksInPath().path)
}

/// Artifacts whose answer says which one it is: y = x + number.
enum Adders {
  private static let made = Mutex<[Int: String]>([:])
  private static let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-adders-\(UUID().uuidString)")
    .path

  /// Where the artifact of a number is; each is exported once.
  static func artifact(_ number: Int) throws -> String {
    try made.withLock { made in
      if let path = made[number] { return path }
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      let path = folder + "/adder\(number).apus"
      let weight = Variable(Tensor.full([128], Double(number), .float32), name: "number")
      let model = Adder(weight)
      try export(model, input: ["x": .float32(["batch", 128])], to: path)
      made[number] = path
      return path
    }
  }

  private final class Adder: Module, Layer {
    let number: Variable
    init(_ number: Variable) { self.number = number }
    func callAsFunction(_ x: Tensor) -> Tensor { x + number.value }
  }

  /// Copies the artifact of `number` to a version's folder.
  static func put(_ number: Int, at version: String) throws {
    try FileManager.default.createDirectory(atPath: version, withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: artifact(number), toPath: version + "/model.apus")
  }

  /// Which artifact answers.
  static func number(of model: ServedModel) async throws -> Int {
    let x = Tensor.zeros([2, 128])
    let response = try await model.infer(InferenceRequest(inputs: ["x": x]))
    let tensor = try #require(response.outputs.first?.tensor)
    return tensor.elements(as: Int.self)[0]
  }
}

extension ModelRepository {
  /// Which artifact answers.
  func number(_ name: String, _ version: VersionChoice = .latest) async throws -> Int {
    try await Adders.number(of: model(name, version: version))
  }

  func states(_ name: String) throws -> [Int: ModelState] {
    Dictionary(uniqueKeysWithValues: try status(name).map { ($0.version, $0.state) })
  }

  func error(_ name: String, _ version: Int) throws -> String? {
    try status(name).first { $0.version == version }?.error?.message
  }
}
