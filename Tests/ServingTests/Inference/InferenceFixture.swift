import Apus
import ApusFormats
import ApusServables
import Foundation
import Hummingbird
import HummingbirdTesting
import NIOCore

@testable import ApusServing

/// Small models that are exported once and served to all tests of the protocol.
enum InferenceFixture {
  static let types: [ElementType] = [
    .bool, .uint8, .int8, .int16, .int32, .int64, .float16, .bfloat16, .float32, .float64,
  ]

  /// - `echo`: one input and output of each type, [n, 2], reversed along the second dimension.
  /// - `sums`: a and b, float32 [batch, 3]; `sum` and `difference`.
  /// - `pixels`: uint8 [batch, 4]; `scores`, float32 [batch, 4].
  /// - `two`: two signatures.
  static let repository = Task { () throws -> ModelRepository in
    let folder = FileManager.default.temporaryDirectory.path + "/apus-inference-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try export(
      signatures: [
        "serve": Exported(inputs: echoInputs) { inputs in
          var outputs: [String: Tensor] = [:]
          for type in types {
            guard let x = inputs["x_\(type)"] else { continue }
            outputs["y_\(type)"] = x.reversed(1)
          }
          return outputs
        }
      ], to: folder + "/echo.apus")
    let pair: KeyValuePairs<String, TensorSpec> = ["a": .float32(["batch", 3]), "b": .float32(["batch", 3])]
    try export(
      signatures: [
        "serve": Exported(inputs: pair) { inputs in
          guard let a = inputs["a"], let b = inputs["b"] else { return [:] }
          return ["sum": a + b, "difference": a - b]
        }
      ], to: folder + "/sums.apus")
    try export(
      signatures: [
        "serve": Exported(inputs: ["image": .uint8(["batch", 4])]) { inputs in
          inputs["image"].map { ["scores": $0.converted(to: .float32) / 4] } ?? [:]
        }
      ], to: folder + "/pixels.apus")
    try export(
      signatures: [
        "double": Exported(inputs: ["x": .float32(["n"])]) { inputs in inputs["x"].map { ["y": $0 * 2] } ?? [:] },
        "negate": Exported(inputs: ["x": .float32(["n"])]) { inputs in inputs["x"].map { ["y": 0 - $0] } ?? [:] },
      ], to: folder + "/two.apus")
    let repository = ModelRepository()
    let configurations = ["echo", "sums", "pixels", "two"].map { name in
      var configuration = ModelConfiguration(name: name, path: folder + "/\(name).apus")
      configuration.maxRequestBytes = 1 << 20
      if name == "pixels" { configuration.classLabels = ["cat", "dog", "bird"] }
      return configuration
    }
    try await repository.reload(configurations)
    return repository
  }

  static let echoInputs: KeyValuePairs<String, TensorSpec> = [
    "x_bool": .bool(["n", 2]), "x_uint8": .uint8(["n", 2]), "x_int8": .int8(["n", 2]), "x_int16": .int16(["n", 2]),
    "x_int32": .int32(["n", 2]), "x_int64": .int64(["n", 2]), "x_float16": .float16(["n", 2]),
    "x_bfloat16": .bfloat16(["n", 2]), "x_float32": .float32(["n", 2]), "x_float64": .float64(["n", 2]),
  ]

  static func context() async throws -> ServingContext {
    var limits = ServingLimits()
    limits.maxBodyBytes = 1 << 22
    return ServingContext(try await repository.value, limits: limits)
  }

  /// Gives a client of the routes.
  static func withClient<R: Sendable>(_ body: @escaping @Sendable (any TestClientProtocol) async throws -> R) async throws -> R {
    let router = Router()
    InferenceRoutes(try await context()).add(to: router)
    return try await Application(router: router).test(.router) { client in try await body(client) }
  }
}

extension TestClientProtocol {
  func get(_ path: String) async throws -> (status: Int, json: JSONValue) {
    try await execute(uri: path, method: .get) {
      ($0.status.code, try JSONValue(parsing: Array($0.body.readableBytesView), file: "answer"))
    }
  }

  func post(
    _ path: String, _ body: String, data: [UInt8] = [], headers: HTTPFields = [:]
  ) async throws -> (status: Int, json: JSONValue, data: [UInt8], headers: HTTPFields) {
    var headers = headers
    if !data.isEmpty { headers[.inferenceHeaderContentLength] = "\(body.utf8.count)" }
    return try await execute(
      uri: path, method: .post, headers: headers, body: ByteBuffer(bytes: Array(body.utf8) + data)
    ) { answer in
      let bytes = Array(answer.body.readableBytesView)
      let head = answer.headers[.inferenceHeaderContentLength].flatMap { Int($0) } ?? bytes.count
      return (
        answer.status.code, try JSONValue(parsing: Array(bytes[..<head]), file: "answer"), Array(bytes[head...]), answer.headers
      )
    }
  }
}
