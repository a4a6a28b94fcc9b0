import Apus
import ApusFormats
import ApusServables
import Foundation
import Synchronization
import Testing

@Suite struct RepositoryWarmUpTests {
  /// A model that notes what it was asked.
  private final class Recorder: Sendable {
    let requests = Mutex<[(signature: String?, shapes: [Shape], sum: Double)]>([])
  }

  private struct RecordingFormat: ServableFormat {
    let recorder: Recorder
    let base = ArtifactFormat()
    var name: String { base.name }
    func recognizes(_ path: String) -> Bool { base.recognizes(path) }
    func verify(_ path: String) throws(ServingError) { try base.verify(path) }
    func load(_ path: String) throws(ServingError) -> any Servable { Recording(base: try base.load(path), recorder: recorder) }
  }

  private struct Recording: Servable {
    let base: any Servable
    let recorder: Recorder
    var signatures: [String: Signature] { base.signatures }
    var defaultSignature: String? { base.defaultSignature }
    var byteCount: Int { base.byteCount }
    var platform: String { base.platform }
    var classLabels: [String]? { base.classLabels }
    func run(_ inputs: [String: Tensor], signature: String?) throws(ServingError) -> [String: Tensor] {
      let sum = inputs.values.reduce(0.0) { $0 + $1.converted(to: .float64).sum().elements(as: Double.self)[0] }
      recorder.requests.withLock { $0.append((signature, inputs.values.map(\.shape), sum)) }
      return try base.run(inputs, signature: signature)
    }
  }

  /// Loads version 1 of a model and says by which requests it was warmed up.
  private func warmUp(
    _ folder: String, _ change: (inout ModelConfiguration) -> Void = { _ in }
  ) async throws -> (requests: [(signature: String?, shapes: [Shape], sum: Double)], repository: ModelRepository) {
    let recorder = Recorder()
    var options = RepositoryOptions()
    options.formats = ModelFormats([RecordingFormat(recorder: recorder)])
    let repository = ModelRepository(options: options)
    var configuration = ModelConfiguration(name: "add", path: folder + "/add")
    change(&configuration)
    try await repository.reload([configuration])
    return (recorder.requests.withLock { $0 }, repository)
  }

  private func write(_ bytes: [UInt8], _ folder: String, _ name: String) throws {
    let extra = folder + "/add/1/assets.extra"
    try FileManager.default.createDirectory(atPath: extra, withIntermediateDirectories: true)
    try Data(bytes).write(to: URL(fileURLWithPath: extra + "/" + name))
  }

  @Test func madeUpRequestsHaveTheSizesOfBatches() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      #expect(try await warmUp(folder).requests.isEmpty, "only by option")
      let (requests, repository) = try await warmUp(folder) { configuration in
        configuration.warmUp = .generated
        configuration.scheduling.batching = .init()
        configuration.scheduling.batching?.maxBatchSize = 8
        configuration.scheduling.batching?.allowedBatchSizes = [4, 8]
      }
      #expect(requests.map(\.shapes) == [[[1, 128]], [[4, 128]], [[8, 128]]])
      #expect(try repository.model("add").warmUp?.requests == 3)
      #expect(try repository.model("add").statistics.snapshot.executionCount == 0)
    }
  }

  @Test func recordedRequests() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      let ones = String(repeating: "1,", count: 127) + "1"
      func load(_ text: String) async throws -> (requests: [(signature: String?, shapes: [Shape], sum: Double)], error: String?) {
        try write(Array(text.utf8), folder, "warmup.json")
        let (requests, repository) = try await warmUp(folder)
        return (requests, try repository.error("add", 1))
      }
      let good = try await load(
        """
        {"requests": [
          {"inputs": [{"name": "x", "shape": [2, 128], "data": [[\(ones)], [\(ones)]]}], "count": 2},
          {"signature_name": "serve", "inputs": [{"name": "x"}]}
        ]}
        """)
      #expect(good.error == nil)
      #expect(
        good.requests.map(\.shapes) == [[[2, 128]], [[2, 128]], [[1, 128]]] && good.requests.map(\.sum) == [256, 256, 0])
      for (text, message) in [
        (#"{"requests": [{"inputs": [{"name": "y"}]}]}"#, "'requests[0].inputs[0].name' must be one of x"),
        (#"{"requests": [{"inputs": []}]}"#, "warm-up request 1 failed"),
        (#"{"requests": [{"inputs": [{"name": "x", "shape": [1, 127]}]}]}"#, "warm-up request 1 failed"),
        (#"{"requests": [{"inputs": [{"name": "x", "shape": [1, 128], "data": [1]}]}]}"#, "has 1 elements"),
        (#"{"requests": [{"inputs": [{"name": "x", "shape": [4611686018427387904, 4]}]}]}"#, "must be a list of whole numbers"),
        (#"{"requests": [{"inputs": [{"name": "x", "shape": [1099511627776, 1099511627776]}]}]}"#, "more than 2^30 bytes"),
        (#"{"requests": [{"inputs": [{"name": "x"}], "count": 1001}]}"#, "'requests[0].count' must be a whole number"),
        (#"{"requests": [{"input": []}]}"#, "did you mean 'inputs'?"),
        (#"{"requests": ["#, "JSON"),
      ] {
        let error = try await load(text).error ?? "none"
        #expect(error.contains(message), "\(error)")
      }
    }
  }

  /// A `PredictionLog` as TensorFlow Serving writes it.
  private func log(_ signature: String, _ tensor: (inout ProtobufWriter) -> Void, input: String = "x") -> [UInt8] {
    var log = ProtobufWriter()
    log.put(6) { predict in
      predict.put(1) { request in
        request.put(1) { spec in
          spec.put(1, "add")
          spec.put(3, signature)
        }
        request.put(2) { entry in
          entry.put(1, input)
          entry.put(2, tensor)
        }
      }
    }
    return log.bytes
  }

  private func shape(_ sizes: Int..., to tensor: inout ProtobufWriter) {
    tensor.put(2) { shape in for size in sizes { shape.put(2) { $0.put(1, size) } } }
  }

  @Test func requestsThatTensorFlowServingRecorded() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      let content = log("serving_default") { tensor in
        tensor.put(1, 1)
        shape(3, 128, to: &tensor)
        tensor.put(4, [Float](repeating: 0.5, count: 384).withUnsafeBytes { Array($0) })
      }
      // One value stands for all.
      let single = log("serve") { tensor in
        tensor.put(1, 1)
        shape(1, 128, to: &tensor)
        tensor.put(5, Float(2))
      }
      var other = ProtobufWriter()
      other.put(2) { $0.put(1, "classify") }
      func load(_ bytes: [UInt8]) async throws -> (requests: [(signature: String?, shapes: [Shape], sum: Double)], error: String?)
      {
        try write(bytes, folder, "tf_serving_warmup_requests")
        let (requests, repository) = try await warmUp(folder)
        return (requests, try repository.error("add", 1))
      }
      let records = [content, single, other.bytes].flatMap { TFRecord.framed($0) }
      let good = try await load(records)
      #expect(good.error == nil)
      #expect(good.requests.map(\.shapes) == [[[3, 128]], [[1, 128]]] && good.requests.map(\.sum) == [192, 256])

      var damaged = records
      damaged[20] ^= 1
      #expect(try await load(damaged).error?.contains("warm-up") == true)
      #expect(try await load(records.dropLast(3)).error?.contains("cut off") == true)
      let many = (0..<1001).flatMap { _ in TFRecord.framed(single) }
      #expect(try await load(many).error?.contains("more than 1000 requests") == true)
      func texts(_ tensor: inout ProtobufWriter) { tensor.put(1, 7) }
      for (tensor, message) in [
        (texts, "TensorFlow's type 7"),
        (
          { tensor in
            tensor.put(1, 1)
            self.shape(1 << 40, 1 << 40, to: &tensor)
          }, "more than 2^30 bytes"
        ),
        (
          { tensor in
            tensor.put(1, 1)
            self.shape(-1, 128, to: &tensor)
          }, "more than 2^30 bytes"
        ),
        (
          { tensor in
            tensor.put(1, 1)
            self.shape(1, 128, to: &tensor)
            tensor.put(4, [1, 2, 3] as [UInt8])
          }, "has 3 bytes"
        ),
        ({ tensor in for _ in 0..<20 { self.shape(1, to: &tensor) } }, "dimensions"),
      ] as [((inout ProtobufWriter) -> Void, String)] {
        let error = try await load(TFRecord.framed(log("", tensor))).error ?? "none"
        #expect(error.contains(message), "\(error)")
      }
      // Whatever the bytes are, it ends.
      for cut in stride(from: 1, to: content.count, by: 37) { _ = try await load(TFRecord.framed(Array(content.prefix(cut)))) }
    }
  }

  @Test func recordsOfOtherKindsAreReadByWhoeverKnowsThem() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      try write(TFRecord.framed([1, 2, 3]) + TFRecord.framed([4]), folder, "tf_serving_warmup_requests")
      var options = RepositoryOptions()
      options.warmUpLog = { (record, servable) throws(ServingError) in
        guard record.count <= 3, servable.platform == "apus" else { throw ServingError(.invalidArgument, "no record") }
        return InferenceRequest(inputs: ["x": Tensor.zeros([record.count, 128])])
      }
      let repository = ModelRepository(options: options)
      try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      #expect(try repository.model("add").warmUp?.requests == 2)
    }
  }

  @Test func aFailedWarmUpKeepsTheOldVersion() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      let repository = ModelRepository(mode: .polling(.seconds(3600)))
      try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      try Adders.put(2, at: folder + "/add/2")
      try FileManager.default.createDirectory(atPath: folder + "/add/2/assets.extra", withIntermediateDirectories: true)
      try #"{"requests": [{"inputs": []}]}"#.write(
        toFile: folder + "/add/2/assets.extra/warmup.json", atomically: true, encoding: .utf8)
      await repository.poll()
      #expect(try repository.states("add") == [1: .available, 2: .end])
      #expect(try repository.error("add", 2)?.contains("warm-up request 1 failed") == true)
      #expect(try await repository.number("add") == 1)
    }
  }

  @Test func settingsBesideTheModel() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      try "max_batch_size { value: 16 } num_batch_threads { value: 2 }".write(
        toFile: folder + "/add/1/batching_params.pbtxt", atomically: true, encoding: .utf8)
      try FileManager.default.createDirectory(atPath: folder + "/add/1/assets", withIntermediateDirectories: true)
      try "tench\r\ngoldfish\r\n".write(toFile: folder + "/add/1/assets/labels.txt", atomically: true, encoding: .utf8)
      let repository = ModelRepository()
      try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      let model = try repository.model("add")
      #expect(model.scheduler.options.batching?.maxBatchSize == 16 && model.scheduler.options.instances == 2)
      #expect(model.servable.classLabels == ["tench", "goldfish"])
    }
  }
}
