import ApusExport
import ApusFormats
import ApusServables
import ApusServingProtocols
import ApusTensor
import GRPCCore
import GRPCProtobuf
import SwiftProtobuf

/// TensorFlow Serving's API over gRPC: `PredictionService` and `ModelService`.
public enum TensorFlowServices {
  /// The services to give a server of gRPC.
  public static func all(_ context: ServingContext) -> [any RegistrableRPCService] {
    [PredictionRegistration(service: PredictionService(context: context)), ModelService(context: context)]
  }
}

private struct PredictionService: Tensorflow_Serving_PredictionService.ServiceProtocol {
  let context: ServingContext

  /// Runs one request; a client that has gone takes it out of the queue.
  func infer(
    _ model: ServedModel, _ request: InferenceRequest, timeout: Duration?, arrived: ContinuousClock.Instant
  ) async throws(ServingError) -> InferenceResponse {
    var request = request
    request.id = RequestIdentity.current?.id ?? ""
    if let timeout { request.deadline = arrived + timeout }
    return try await context.inferOnCall(model, request, api: .tensorFlowGRPC, arrived: arrived)
  }

  func predict(_ call: PredictCall, timeout: Duration?) async throws(ServingError) -> PredictReply {
    let (model, request) = try call.prepared.get()
    let response = try await infer(model, request, timeout: timeout, arrived: call.arrived)
    // As they were asked for, whatever order the model has.
    let wanted = request.outputs ?? response.outputs.map(\.name)
    var outputs: [(name: String, tensor: Tensor)] = []
    for name in wanted { if let output = response.outputs.first(where: { $0.name == name }) { outputs.append(output) } }
    return PredictReply(model: model.name, version: model.version, signature: call.signatureName, outputs: outputs)
  }

  func predict(
    request: ServerRequest<Tensorflow_Serving_PredictRequest>, context: ServerContext
  ) async throws -> ServerResponse<Tensorflow_Serving_PredictResponse> {
    // Another handler is registered in its place.
    throw RPCError(code: .unimplemented, message: "Predict is not supported by this server")
  }

  /// What came of examples.
  private struct Answer {
    var model: ServedModel
    /// What the client calls it.
    var signature: String
    var outputs: [(name: String, tensor: Tensor)]
    var count: Int

    var classification: Tensorflow_Serving_ClassificationResult {
      get throws(ServingError) {
        let result = try Classification(outputs, examples: count, labels: model.classLabels)
        return .with { message in
          message.classifications = (0..<count).map { row in
            .with { classifications in
              classifications.classes = (0..<result.classCount).map { column in
                .with {
                  $0.label = result.label(row, column)
                  $0.score = result.scores[row * result.classCount + column]
                }
              }
            }
          }
        }
      }
    }

    var regression: Tensorflow_Serving_RegressionResult {
      get throws(ServingError) {
        let values = try regressions(outputs, examples: count)
        return .with { $0.regressions = values.map { value in .with { $0.value = value } } }
      }
    }
  }

  /// Runs the model on examples.
  private func run(
    _ spec: Tensorflow_Serving_ModelSpec, _ input: Tensorflow_Serving_Input, _ timeout: Duration?
  ) async throws(ServingError) -> Answer {
    let arrived = ContinuousClock.now
    let specification = spec.specification
    let model = try context.servedModel(specification.name, specification.version)
    let inputs: (inputs: [String: Tensor], count: Int)
    let name: String
    do throws(ServingError) {
      let signature: Signature
      (name, signature) = try model.tensorFlowSignature(specification.signatureName)
      inputs = try input.tensors(for: signature)
    } catch {
      context.refused(model, id: "", api: .tensorFlowGRPC, arrived: arrived, error)
      throw error
    }
    let response = try await infer(
      model, InferenceRequest(signature: name, inputs: inputs.inputs), timeout: timeout, arrived: arrived)
    let called = spec.signatureName.isEmpty ? servingDefault : spec.signatureName
    return Answer(model: model, signature: called, outputs: response.outputs, count: inputs.count)
  }

  func classify(
    request: ServerRequest<Tensorflow_Serving_ClassificationRequest>, context: ServerContext
  ) async throws -> ServerResponse<Tensorflow_Serving_ClassificationResponse> {
    let message = request.message
    let timeout = request.metadata.timeoutOfCall
    return ServerResponse(
      message: try await answering { () async throws(ServingError) in
        let answer = try await run(message.modelSpec, message.input, timeout)
        let result = try answer.classification
        return .with {
          $0.modelSpec = Tensorflow_Serving_ModelSpec(answer.model, signature: answer.signature)
          $0.result = result
        }
      })
  }

  func regress(
    request: ServerRequest<Tensorflow_Serving_RegressionRequest>, context: ServerContext
  ) async throws -> ServerResponse<Tensorflow_Serving_RegressionResponse> {
    let message = request.message
    let timeout = request.metadata.timeoutOfCall
    return ServerResponse(
      message: try await answering { () async throws(ServingError) in
        let answer = try await run(message.modelSpec, message.input, timeout)
        let result = try answer.regression
        return .with {
          $0.modelSpec = Tensorflow_Serving_ModelSpec(answer.model, signature: answer.signature)
          $0.result = result
        }
      })
  }

  func multiInference(
    request: ServerRequest<Tensorflow_Serving_MultiInferenceRequest>, context: ServerContext
  ) async throws -> ServerResponse<Tensorflow_Serving_MultiInferenceResponse> {
    let message = request.message
    let timeout = request.metadata.timeoutOfCall
    return ServerResponse(
      message: try await answering { () async throws(ServingError) in
        try Self.check(message.tasks)
        var response = Tensorflow_Serving_MultiInferenceResponse()
        for task in message.tasks {
          let answer = try await run(task.modelSpec, message.input, timeout)
          var result = Tensorflow_Serving_InferenceResult()
          result.modelSpec = Tensorflow_Serving_ModelSpec(answer.model, signature: answer.signature)
          if task.methodName == "tensorflow/serving/classify" {
            result.classificationResult = try answer.classification
          } else {
            result.regressionResult = try answer.regression
          }
          response.results.append(result)
        }
        return response
      })
  }

  private static func check(_ tasks: [Tensorflow_Serving_InferenceTask]) throws(ServingError) {
    var seen: Set<String> = []
    for task in tasks {
      guard !task.modelSpec.name.isEmpty else {
        throw ServingError(.invalidArgument, "Found ModelSpec with an empty model name.")
      }
      guard task.modelSpec.name == tasks[0].modelSpec.name else {
        throw ServingError(.invalidArgument, "All ModelSpecs in a MultiInferenceRequest must access the same model name.")
      }
      let signature = task.modelSpec.signatureName.isEmpty ? servingDefault : task.modelSpec.signatureName
      guard seen.insert(signature).inserted else {
        throw ServingError(.invalidArgument, "Duplicate evaluation of signature: \(FormatError.excerpt(signature))")
      }
      guard ["tensorflow/serving/classify", "tensorflow/serving/regress"].contains(task.methodName) else {
        throw ServingError(.unimplemented, "Unsupported signature method_name: \(FormatError.excerpt(task.methodName))")
      }
    }
  }

  func getModelMetadata(
    request: ServerRequest<Tensorflow_Serving_GetModelMetadataRequest>, context: ServerContext
  ) async throws -> ServerResponse<Tensorflow_Serving_GetModelMetadataResponse> {
    let message = request.message
    let model = try await answering { () throws(ServingError) in
      guard message.hasModelSpec else { throw ServingError(.invalidArgument, "Missing ModelSpec") }
      guard !message.metadataField.isEmpty else {
        throw ServingError(.invalidArgument, "GetModelMetadataRequest must specify at least one metadata_field")
      }
      if let other = message.metadataField.first(where: { $0 != "signature_def" }) {
        throw ServingError(.invalidArgument, "Metadata field \(FormatError.excerpt(other)) is not supported")
      }
      let spec = message.modelSpec.specification
      return try self.context.servedModel(spec.name, spec.version)
    }
    var response = Tensorflow_Serving_GetModelMetadataResponse()
    response.modelSpec.name = model.name
    response.modelSpec.version = .with { $0.value = Int64(model.version) }
    response.metadata["signature_def"] = try Google_Protobuf_Any(message: Signature.definitions(of: model.servable))
    return ServerResponse(message: response)
  }
}

extension Signature {
  /// The signatures as TensorFlow's metadata has them.
  static func definitions(of servable: any Servable) -> Tensorflow_Serving_SignatureDefMap {
    func info(_ name: String, _ type: ElementType, _ sizes: [Int]) -> Tensorflow_TensorInfo {
      .with { info in
        info.name = "\(name):0"
        info.dtype = Tensorflow_DataType(rawValue: type.tensorFlowType) ?? .dtInvalid
        info.tensorShape = .with { $0.dim = sizes.map { size in .with { $0.size = Int64(size) } } }
      }
    }
    var map = Tensorflow_Serving_SignatureDefMap()
    for (name, signature) in named(of: servable) {
      map.signatureDef[name] = .with { definition in
        for input in signature.inputs {
          definition.inputs[input.name] = info(input.name, input.spec.elementType, input.spec.dimensions.map(\.sizeOrOpen))
        }
        for output in signature.outputs {
          definition.outputs[output.name] = info(output.name, output.elementType, output.dimensions.map { $0?.sizeOrOpen ?? -1 })
        }
        definition.methodName = predictMethod
      }
    }
    return map
  }
}

/// Registers the service's methods. `Predict`, the one with tensors, reads and writes its messages itself.
private struct PredictionRegistration: RegistrableRPCService {
  let service: PredictionService

  func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
    service.registerMethods(with: &router)
    router.registerHandler(
      forMethod: Tensorflow_Serving_PredictionService.Method.Predict.descriptor,
      deserializer: PredictCallDeserializer(context: service.context), serializer: PredictReplySerializer()
    ) { request, _ in
      let timeout = request.metadata.timeoutOfCall
      let single = try await ServerRequest(stream: request)
      let reply = try await answering { () async throws(ServingError) in
        try await service.predict(single.message, timeout: timeout)
      }
      return StreamingServerResponse(single: ServerResponse(message: reply))
    }
  }
}

private struct ModelService: Tensorflow_Serving_ModelService.SimpleServiceProtocol {
  let context: ServingContext

  func getModelStatus(
    request: Tensorflow_Serving_GetModelStatusRequest, context: ServerContext
  ) async throws -> Tensorflow_Serving_GetModelStatusResponse {
    let statuses = try await answering { () throws(ServingError) in
      guard request.hasModelSpec else { throw ServingError(.invalidArgument, "Missing ModelSpec") }
      let spec = request.modelSpec.specification
      return try self.context.versionStatuses(spec.name, spec.version)
    }
    return .with { response in
      response.modelVersionStatus = statuses.map { status in
        .with {
          $0.version = Int64(status.version)
          $0.state = .init(rawValue: status.state.rawValue) ?? .unknown
          $0.status = .with {
            guard let error = status.error else { return }
            $0.errorCode = .init(rawValue: error.code.rawValue) ?? .unknown
            $0.errorMessage = error.message
          }
        }
      }
    }
  }

  func handleReloadConfigRequest(
    request: Tensorflow_Serving_ReloadConfigRequest, context: ServerContext
  ) async throws -> Tensorflow_Serving_ReloadConfigResponse {
    try await answering { () async throws(ServingError) in
      guard case .modelConfigList(let list) = request.config.config else {
        throw ServingError(
          .invalidArgument,
          "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported")
      }
      let known = self.context.repository.configurations
      var configurations: [ModelConfiguration] = []
      for config in list.config { configurations.append(try ModelConfiguration(config, known: known)) }
      try await self.context.repository.reload(configurations)
    }
    return .with { $0.status = .init() }
  }
}

extension ModelConfiguration {
  /// The configuration that a `ModelConfig` makes. Of a model that is known by this name, what the message does not say stays.
  /// - Throws: ``ServingError``, `invalidArgument`.
  init(_ config: Tensorflow_Serving_ModelConfig, known: [ModelConfiguration]) throws(ServingError) {
    func invalid(_ message: String) -> ServingError {
      ServingError(.invalidArgument, "the configuration of the model '\(FormatError.excerpt(config.name))': \(message)")
    }
    guard !config.name.isEmpty else { throw ServingError(.invalidArgument, "the configuration of a model has no name") }
    guard !config.basePath.isEmpty else { throw invalid("there is no base_path") }
    self = known.first { $0.name == config.name } ?? ModelConfiguration(name: config.name, path: config.basePath)
    path = config.basePath
    // Configurations that were written for TensorFlow Serving name its own platform; the files decide.
    platform = config.modelPlatform.isEmpty || config.modelPlatform == "tensorflow" ? nil : config.modelPlatform
    switch config.modelVersionPolicy.policyChoice {
    case nil: versionPolicy = .latest(1)
    case .latest(let latest): versionPolicy = .latest(max(1, Int(latest.numVersions)))
    case .all: versionPolicy = .all
    case .specific(let specific):
      guard !specific.versions.isEmpty else { throw invalid("the policy 'specific' names no version") }
      if let negative = specific.versions.first(where: { $0 < 0 }) { throw invalid("\(negative) is no version") }
      versionPolicy = .specific(specific.versions.map { Int($0) })
    }
    labels = config.versionLabels.mapValues { Int($0) }
  }
}
