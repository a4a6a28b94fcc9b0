import Apus
import ApusServables
import ApusServingProtocols
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import SwiftProtobuf
import Synchronization
import Testing

@testable import ApusServing

/// Serves TensorFlow's services on a socket, and calls `body` with a client.
private func withServer(
  _ names: [String], change: (inout ModelConfiguration) -> Void = { _ in },
  _ body: @escaping @Sendable (GRPCClient<HTTP2ClientTransport.Posix>, ServingContext, String) async throws -> Void
) async throws {
  try await withFakes(names, change: change) { context, _, folder in
    let server = GRPCServer(
      transport: .http2NIOPosix(address: .ipv4(host: "127.0.0.1", port: 0), transportSecurity: .plaintext),
      services: TensorFlowServices.all(context))
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      let port = try #require(try await server.listeningAddress?.ipv4?.port)
      try await withGRPCClient(
        transport: .http2NIOPosix(target: .ipv4(address: "127.0.0.1", port: port), transportSecurity: .plaintext)
      ) { client in
        try await body(client, context, folder)
      }
      server.beginGracefulShutdown()
      try await group.waitForAll()
    }
  }
}

private func floats(_ values: [Float], _ shape: [Int]) -> Tensorflow_TensorProto {
  .with {
    $0.dtype = .dtFloat
    $0.tensorShape.dim = shape.map { size in .with { $0.size = Int64(size) } }
    $0.floatVal = values
  }
}

/// The code and message of a call that fails.
private func failure(_ body: () async throws -> Void) async -> (code: RPCError.Code?, message: String) {
  do {
    try await body()
    return (nil, "")
  } catch {
    let error = error as? RPCError
    return (error?.code, error?.message ?? "")
  }
}

@Suite struct TensorFlowServicesTests {
  @Test func predicts() async throws {
    try await withServer(["half_plus_two", "pair", "busy"]) { client, _, _ in
      let service = Tensorflow_Serving_PredictionService.Client(wrapping: client)
      let answer = try await service.predict(
        .with {
          $0.modelSpec.name = "half_plus_two"
          $0.modelSpec.signatureName = "serving_default"
          $0.inputs["x"] = floats([1, 2, 5], [3])
        })
      #expect(
        answer.modelSpec.name == "half_plus_two" && answer.modelSpec.version.value == 1
          && answer.modelSpec.signatureName == "serving_default")
      #expect(answer.outputs["y"]?.tensorContent == [Float](arrayLiteral: 2.5, 3, 4.5).withUnsafeBytes { Data($0) })
      let filtered = try await service.predict(
        .with {
          $0.modelSpec.name = "pair"
          $0.modelSpec.version = .with { $0.value = 1 }
          $0.inputs["a"] = floats([1, 2], [1, 2])
          $0.inputs["b"] = .with {
            $0.dtype = .dtInt64
            $0.tensorShape.dim = [.with { $0.size = 1 }]
            $0.int64Val = [41]
          }
          $0.outputFilter = ["count"]
        })
      #expect(
        Array(filtered.outputs.keys) == ["count"] && filtered.outputs["count"]?.tensorContent == Data([42, 0, 0, 0, 0, 0, 0, 0]))

      func refused(_ fill: @escaping @Sendable (inout Tensorflow_Serving_PredictRequest) -> Void) async -> (
        code: RPCError.Code?, message: String
      ) {
        await failure { _ = try await service.predict(.with(fill)) }
      }
      let unknown = await refused { $0.modelSpec.name = "no" }
      #expect(unknown.code == .notFound && unknown.message == "Servable not found for request: Latest(no)")
      let version = await refused {
        $0.modelSpec.name = "pair"
        $0.modelSpec.version = .with { $0.value = 7 }
      }
      #expect(version.code == .notFound && version.message == "Servable not found for request: Specific(pair, 7)")
      let label = await refused {
        $0.modelSpec.name = "pair"
        $0.modelSpec.versionLabel = "beta"
      }
      #expect(label.code == .invalidArgument && label.message == "Unrecognized servable version label: beta")
      #expect(await refused { _ in }.message == "ModelSpec has no name specified.")
      let signature = await refused {
        $0.modelSpec.name = "pair"
        $0.modelSpec.signatureName = "no"
      }
      #expect(signature.code == .failedPrecondition && signature.message == "Serving signature key \"no\" not found.")
      let missing = await refused { $0.modelSpec.name = "pair" }
      #expect(missing.code == .invalidArgument && missing.message.contains("Missing but required: {a,b}"))
      let busy = await refused {
        $0.modelSpec.name = "busy"
        $0.inputs["x"] = floats([1], [1])
      }
      #expect(busy.code == .unavailable && busy.message == "too busy")
    }
  }

  @Test func classifiesRegressesAndBoth() async throws {
    try await withServer(["iris", "sum", "two"]) { client, _, _ in
      let service = Tensorflow_Serving_PredictionService.Client(wrapping: client)
      let example = Tensorflow_Example.with { $0.features.feature["x"] = .with { $0.floatList.value = [0.1, 0.7, 0.2] } }
      let classes = try await service.classify(
        .with {
          $0.modelSpec.name = "iris"
          $0.input.exampleList.examples = [example, example]
        })
      #expect(classes.result.classifications.count == 2)
      #expect(classes.result.classifications[0].classes.map(\.label) == ["setosa", "versicolor", "virginica"])
      #expect(classes.result.classifications[1].classes.map(\.score) == [0.1, 0.7, 0.2])
      #expect(classes.modelSpec.name == "iris" && classes.modelSpec.version.value == 1)
      let numbers = try await service.regress(
        .with {
          $0.modelSpec.name = "sum"
          $0.input.exampleListWithContext.context.features.feature["b"] = .with { $0.int64List.value = [10] }
          $0.input.exampleListWithContext.examples = [
            .with { $0.features.feature["a"] = .with { $0.floatList.value = [1, 2] } },
            .with {
              $0.features.feature["a"] = .with { $0.floatList.value = [3, 4.5] }
              $0.features.feature["b"] = .with { $0.floatList.value = [1] }
            },
          ]
        })
      #expect(numbers.result.regressions.map(\.value) == [13, 8.5])

      func task(_ signature: String, _ method: String, model: String = "two") -> Tensorflow_Serving_InferenceTask {
        .with {
          $0.modelSpec.name = model
          $0.modelSpec.signatureName = signature
          $0.methodName = "tensorflow/serving/\(method)"
        }
      }
      func both(_ tasks: [Tensorflow_Serving_InferenceTask]) async throws -> Tensorflow_Serving_MultiInferenceResponse {
        try await service.multiInference(
          .with {
            $0.tasks = tasks
            $0.input.exampleList.examples = [.with { $0.features.feature["x"] = .with { $0.floatList.value = [1.5] } }]
          })
      }
      let results = try await both([task("", "classify"), task("double", "regress")]).results
      #expect(results.map(\.modelSpec.signatureName) == ["serving_default", "double"])
      #expect(results[0].classificationResult.classifications[0].classes.map(\.score) == [1.5])
      #expect(results[1].regressionResult.regressions.map(\.value) == [3])
      #expect(
        await failure { _ = try await both([task("", "classify"), task("serving_default", "regress")]) }.message.contains(
          "Duplicate evaluation of signature"))
      #expect(
        await failure { _ = try await both([task("", "classify"), task("", "classify", model: "iris")]) }.message.contains(
          "same model name"))
      #expect(await failure { _ = try await both([task("", "predict")]) }.code == .unimplemented)
      #expect(
        await failure { _ = try await both([task("", "classify", model: "")]) }.message
          == "Found ModelSpec with an empty model name.")
      let empty = await failure { _ = try await service.classify(.with { $0.modelSpec.name = "iris" }) }
      #expect(empty.code == .invalidArgument && empty.message == "Input is empty.")
    }
  }

  @Test func givesMetadataAndStatus() async throws {
    try await withServer(["pair", "unknown"]) { client, _, _ in
      let service = Tensorflow_Serving_PredictionService.Client(wrapping: client)
      let answer = try await service.getModelMetadata(
        .with {
          $0.modelSpec.name = "pair"
          $0.metadataField = ["signature_def"]
        })
      #expect(answer.modelSpec.name == "pair" && answer.modelSpec.version.value == 1)
      let any = try #require(answer.metadata["signature_def"])
      #expect(any.typeURL == "type.googleapis.com/tensorflow.serving.SignatureDefMap")
      let map = try Tensorflow_Serving_SignatureDefMap(unpackingAny: any)
      let definition = try #require(map.signatureDef["serving_default"])
      #expect(definition.methodName == "tensorflow/serving/predict" && map.signatureDef["serve"] == definition)
      #expect(definition.inputs["a"]?.dtype == .dtFloat && definition.inputs["a"]?.tensorShape.dim.map(\.size) == [-1, 2])
      #expect(definition.outputs["count"]?.dtype == .dtInt64)
      for (fields, expected) in [([], "at least one metadata_field"), (["x"], "Metadata field x is not supported")]
        as [([String], String)]
      {
        let refused = await failure {
          _ = try await service.getModelMetadata(
            .with {
              $0.modelSpec.name = "pair"
              $0.metadataField = fields
            })
        }
        #expect(refused.code == .invalidArgument && refused.message.contains(expected))
      }
      #expect(await failure { _ = try await service.getModelMetadata(.init()) }.message == "Missing ModelSpec")

      let models = Tensorflow_Serving_ModelService.Client(wrapping: client)
      let status = try await models.getModelStatus(.with { $0.modelSpec.name = "pair" })
      #expect(status.modelVersionStatus.map(\.version) == [1] && status.modelVersionStatus.map(\.state) == [.available])
      #expect(status.modelVersionStatus[0].status.errorCode == .ok)
      let failed = try await models.getModelStatus(.with { $0.modelSpec.name = "unknown" })
      #expect(failed.modelVersionStatus[0].state == .end && failed.modelVersionStatus[0].status.errorCode == .failedPrecondition)
      #expect(await failure { _ = try await models.getModelStatus(.with { $0.modelSpec.name = "no" }) }.code == .notFound)
      #expect(await failure { _ = try await models.getModelStatus(.init()) }.message == "Missing ModelSpec")
    }
  }

  @Test func reloadsTheWholeConfiguration() async throws {
    try await withServer(["pair", "iris"], change: { $0.maxRequestBytes = 77 }) { client, context, folder in
      let models = Tensorflow_Serving_ModelService.Client(wrapping: client)
      try Data("fake".utf8).write(to: URL(fileURLWithPath: "\(folder)/sum.fake"))
      func config(_ name: String) -> Tensorflow_Serving_ModelConfig {
        .with {
          $0.name = name
          $0.basePath = "\(folder)/\(name).fake"
          $0.modelPlatform = "tensorflow"
          $0.versionLabels = ["stable": 1]
          $0.modelVersionPolicy.specific.versions = [1]
        }
      }
      let answer = try await models.handleReloadConfigRequest(
        .with { $0.config.modelConfigList.config = [config("pair"), config("sum")] })
      #expect(answer.status.errorCode == .ok)
      #expect(context.repository.names == ["pair", "sum"])
      let pair = try #require(context.repository.configurations.first { $0.name == "pair" })
      #expect(pair.labels == ["stable": 1] && pair.versionPolicy == .specific([1]) && pair.maxRequestBytes == 77)
      #expect(try context.repository.model("sum", version: .label("stable")).version == 1)
      // What is not valid changes nothing.
      for (tasks, expected) in [
        ([config("")], "has no name"), ([Tensorflow_Serving_ModelConfig.with { $0.name = "x" }], "no base_path"),
        (
          [
            .with {
              $0.name = "x"; $0.basePath = "/x"; $0.modelVersionPolicy.specific = .init()
            }
          ], "names no version"
        ),
      ] as [([Tensorflow_Serving_ModelConfig], String)] {
        let refused = await failure {
          _ = try await models.handleReloadConfigRequest(.with { $0.config.modelConfigList.config = tasks })
        }
        #expect(refused.code == .invalidArgument && refused.message.contains(expected), "\(refused)")
      }
      #expect(
        await failure { _ = try await models.handleReloadConfigRequest(.init()) }.message.contains(
          "Only ModelConfigList is currently supported"))
      #expect(context.repository.names == ["pair", "sum"])
    }
  }

  /// A call whose time is over, or whose client has gone, leaves the queue before the one that runs has ended.
  @Test(.timeLimit(.minutes(1))) func callsThatNobodyWaitsForLeaveTheQueue() async throws {
    try await withServer(["gate"]) { client, context, _ in
      let service = Tensorflow_Serving_PredictionService.Client(wrapping: client)
      let gate = Gate.shared
      defer { gate.open() }  // also when something fails: the server waits for who waits
      let request = Tensorflow_Serving_PredictRequest.with {
        $0.modelSpec.name = "gate"
        $0.inputs["x"] = floats([1], [1])
      }
      let journal = try #require(context.journal as? MemoryJournal)
      let first = Task { try await service.predict(request) }
      await gate.entered()
      func pending() throws -> Int { try context.repository.model("gate").statistics.snapshot.pending }
      let gone = Task { try await service.predict(request) }
      while try pending() == 0 { try await Task.sleep(for: .milliseconds(2)) }
      gone.cancel()
      while journal.all.isEmpty { try await Task.sleep(for: .milliseconds(2)) }
      #expect(journal.all.map(\.error?.code) == [.cancelled])
      var options = CallOptions.defaults
      options.timeout = .milliseconds(50)
      let late = await failure { _ = try await service.predict(request, options: options) }
      #expect(late.code == .deadlineExceeded)
      while try pending() > 0 { try await Task.sleep(for: .milliseconds(2)) }
      gate.open()
      #expect(try await first.value.outputs["y"]?.tensorContent.count == 4)
      _ = await gone.result
    }
  }
}
