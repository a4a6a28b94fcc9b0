import Apus
import ApusExport
import ApusServables
import Foundation
import Hummingbird
import HummingbirdTesting
import NIOCore
import Synchronization
import Testing

@testable import ApusServing

/// A model that is a Swift function.
struct FakeServable: Servable {
  var signatures: [String: Signature]
  var defaultSignature: String?
  var byteCount: Int { 0 }
  var platform: String { "fake" }
  var classLabels: [String]?
  var body: @Sendable ([String: Tensor], String) throws(ServingError) -> [String: Tensor]

  func run(_ inputs: [String: Tensor], signature: String?) throws(ServingError) -> [String: Tensor] {
    try body(inputs, signature ?? defaultSignature ?? "")
  }

  /// One signature, `serve`.
  init(
    _ inputs: [String: TensorSpec], _ outputs: [(String, ElementType, [ApusExport.Dimension?])], labels: [String]? = nil,
    _ body: @escaping @Sendable ([String: Tensor], String) throws(ServingError) -> [String: Tensor]
  ) {
    var open: [String: ClosedRange<Int>] = [:]
    for case .open(let name, let sizes) in inputs.values.flatMap(\.dimensions) { open[name] = sizes }
    let signature = Signature(
      inputs: inputs.sorted { $0.key < $1.key }.map { .init(name: $0.key, spec: $0.value) },
      outputs: outputs.map { .init(name: $0.0, elementType: $0.1, dimensions: $0.2) },
      openDimensions: open.sorted { $0.key < $1.key }.map { .init(name: $0.key, sizes: $0.value) })
    (signatures, defaultSignature, classLabels, self.body) = (["serve": signature], "serve", labels, body)
  }
}

extension FakeServable {
  static let halfPlusTwo: FakeServable = FakeServable(["x": .float32(["batch"])], [("y", .float32, ["batch"])]) { inputs, _ in
    ["y": inputs["x"]! * 0.5 + 2]
  }

  static let pair: FakeServable = FakeServable(
    ["a": .float32(["batch", 2]), "b": .int64(["batch"])], [("sum", .float32, ["batch", 2]), ("count", .int64, ["batch"])]
  ) { inputs, _ in
    ["sum": inputs["a"]! + inputs["b"]!.converted(to: .float32).reshaped([-1, 1]), "count": inputs["b"]! + 1]
  }

  static let bytes: FakeServable = FakeServable(
    ["image": .uint8(["batch", "length"])], [("image_bytes", .uint8, ["batch", "length"])]
  ) { inputs, _ in
    ["image_bytes": inputs["image"]!]
  }

  static let iris: FakeServable = FakeServable(
    ["x": .float32(["batch", 3])], [("scores", .float32, ["batch", 3])], labels: ["setosa", "versicolor", "virginica"]
  ) { inputs, _ in ["scores": inputs["x"]!] }

  static let sum: FakeServable = FakeServable(
    ["a": .float32(["batch", 2]), "b": .float32(["batch"])], [("outputs", .float32, ["batch", 1])]
  ) { inputs, _ in ["outputs": (inputs["a"]!.sum(axis: 1) + inputs["b"]!).reshaped([-1, 1])] }

  static let uneven: FakeServable = FakeServable(
    ["x": .float32(["batch"])], [("y", .float32, ["batch"]), ("z", .float32, [1]), ("s", .float32, [])]
  ) { inputs, _ in ["y": inputs["x"]!, "z": Tensor(elements: [Float(1)]), "s": Tensor(1.0)] }

  static let busy: FakeServable = FakeServable(["x": .float32(["batch"])], [("y", .float32, ["batch"])]) {
    (_, _) throws(ServingError) in
    throw ServingError(.unavailable, "too busy", retryAfter: .milliseconds(1_500))
  }

  static let two: FakeServable = {
    var servable = FakeServable(["x": .float32(["batch"])], [("y", .float32, ["batch"])]) { inputs, name in
      ["y": inputs["x"]! * (name == "double" ? 2 : 1)]
    }
    servable.signatures["double"] = servable.signatures["serve"]
    servable.signatures["flags"] = Signature(
      inputs: [.init(name: "flag", spec: .bool(["batch"]))],
      outputs: [.init(name: "y", elementType: .bool, dimensions: [.open("batch")])],
      openDimensions: [.init(name: "batch", sizes: 1...ApusExport.Dimension.largest)])
    let body = servable.body
    servable.body = { (inputs, name) throws(ServingError) in name == "flags" ? ["y": inputs["flag"]!] : try body(inputs, name) }
    return servable
  }()

  static let types: FakeServable = FakeServable(
    [
      "f16": .float16(["batch"]), "bf16": .bfloat16(["batch"]), "f64": .float64(["batch"]), "i8": .int8(["batch"]),
      "i16": .int16(["batch"]), "i32": .int32(["batch"]), "flag": .bool(["batch"]),
    ],
    [
      ("f16", .float16, ["batch"]), ("bf16", .bfloat16, ["batch"]), ("f64", .float64, ["batch"]), ("i8", .int8, ["batch"]),
      ("i16", .int16, ["batch"]), ("i32", .int32, ["batch"]), ("flag", .bool, ["batch"]),
    ]
  ) { inputs, _ in inputs }

  static let gate = FakeServable(["x": .float32(["batch"])], [("y", .float32, ["batch"])]) { inputs, _ in
    Gate.shared.pass()
    return ["y": inputs["x"]!]
  }

  /// Held up by a gate of its own.
  static func held(_ gate: Gate) -> FakeServable {
    FakeServable(["x": .float32(["batch"])], [("y", .float32, ["batch"])]) { inputs, _ in
      gate.pass()
      return ["y": inputs["x"]!]
    }
  }

  static let models: [String: FakeServable] = [
    "gate": gate, "held": held(.held), "busy_one": held(.busyOne),
    "half_plus_two": halfPlusTwo, "pair": pair, "bytes": bytes, "iris": iris, "sum": sum, "uneven": uneven, "busy": busy,
    "two": two, "types": types,
  ]
}

/// What holds the model `gate` up until it is opened.
final class Gate: Sendable {
  static let shared = Gate()
  static let held = Gate()
  static let busyOne = Gate()
  private let condition = NSCondition()
  private let isOpen = Mutex(false)
  private let (arrivals, continuation) = AsyncStream.makeStream(of: Void.self)

  func pass() {
    continuation.yield()
    condition.lock()
    while !isOpen.withLock({ $0 }) { condition.wait() }
    condition.unlock()
  }

  /// Returns when somebody waits.
  func entered() async { for await _ in arrivals { return } }

  func open() {
    condition.lock()
    isOpen.withLock { $0 = true }
    condition.broadcast()
    condition.unlock()
  }
}

/// Files `NAME.fake` stand for the fakes of that name.
struct FakeFormat: ServableFormat {
  var name: String { "fake" }
  func recognizes(_ path: String) -> Bool { path.hasSuffix(".fake") }
  func verify(_ path: String) throws(ServingError) {}
  func load(_ path: String) throws(ServingError) -> any Servable {
    let name = String(path.split(separator: "/").last!.dropLast(5))
    guard let model = FakeServable.models[name] else { throw ServingError(.failedPrecondition, "there is no fake \(name)") }
    return model
  }
}

/// Remembers what happened to requests.
final class MemoryJournal: RequestJournal {
  private let records = Mutex<[RequestRecord]>([])
  var all: [RequestRecord] { records.withLock { $0 } }
  func note(_ record: RequestRecord) { records.withLock { $0.append(record) } }
}

/// Serves fakes, and calls `body` with what handlers share.
func withFakes(
  _ names: [String], change: (inout ModelConfiguration) -> Void = { _ in },
  _ body: (ServingContext, MemoryJournal, String) async throws -> Void
) async throws {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-fakes-\(UUID().uuidString)").path
  defer { try? FileManager.default.removeItem(atPath: folder) }
  var options = RepositoryOptions()
  options.formats = ModelFormats([FakeFormat(), ArtifactFormat()])
  options.loadRetries = 0
  let repository = ModelRepository(options: options)
  var configurations: [ModelConfiguration] = []
  for name in names {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try Data("fake".utf8).write(to: URL(fileURLWithPath: "\(folder)/\(name).fake"))
    var configuration = ModelConfiguration(name: name, path: "\(folder)/\(name).fake")
    change(&configuration)
    configurations.append(configuration)
  }
  try await repository.reload(configurations)
  let journal = MemoryJournal()
  var limits = ServingLimits()
  limits.maxBodyBytes = 1 << 20
  try await body(ServingContext(repository, limits: limits, journal: journal), journal, folder)
}

/// Serves TensorFlow's routes for fakes, and calls `body` with a client.
func withFakeRoutes(
  _ names: [String], answersAsKServe: Bool = false, change: (inout ModelConfiguration) -> Void = { _ in },
  _ body: @escaping @Sendable (RESTClient, MemoryJournal) async throws -> Void
) async throws {
  try await withFakes(names, change: change) { context, journal, _ in
    let router = Router()
    TensorFlowRoutes(context, answersAsKServe: answersAsKServe).add(to: router)
    try await Application(router: router).test(.router) { client in try await body(RESTClient(client: client), journal) }
  }
}

struct RESTClient: Sendable {
  let client: any TestClientProtocol

  /// What is answered: status, text.
  func send(_ method: HTTPRequest.Method, _ path: String, _ body: String? = nil) async throws -> (status: Int, text: String) {
    let answer = try await response(method, path, body)
    return (answer.status.code, String(buffer: answer.body))
  }

  func response(_ method: HTTPRequest.Method, _ path: String, _ body: String? = nil) async throws -> TestResponse {
    try await client.execute(uri: path, method: method, body: body.map { ByteBuffer(string: $0) })
  }

  func post(_ path: String, _ body: String) async throws -> (status: Int, text: String) { try await send(.post, path, body) }
}

/// Text without spaces and line breaks.
func squeezed(_ text: String) -> String { text.filter { !$0.isWhitespace } }

/// A value inside nested dictionaries.
func value(_ object: Any?, _ path: String) -> Any? {
  path.split(separator: ".").reduce(object) { ($0 as? [String: Any])?[String($1)] }
}
