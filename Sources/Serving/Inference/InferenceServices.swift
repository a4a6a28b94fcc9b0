import ApusServables
import ApusServingProtocols
import GRPCCore
import GRPCProtobuf

/// The Open Inference Protocol and Triton's extensions of it over gRPC.
public enum InferenceServices {
  /// The services to give a server of gRPC.
  public static func all(_ context: ServingContext) -> [any RegistrableRPCService] {
    [InferenceRegistration(service: InferenceService(context: context))]
  }
}

private struct InferenceService: Inference_GRPCInferenceService.SimpleServiceProtocol {
  let context: ServingContext

  /// Runs one request; a client that has gone takes it out of the queue.
  func infer(_ call: InferCall, timeout: Duration?) async throws(ServingError) -> InferReply {
    var prepared = try call.prepared.get()
    if let timeout {
      let limit = call.arrived + timeout
      prepared.request.deadline = prepared.request.deadline.map { min($0, limit) } ?? limit
    }
    let model = prepared.model
    let response = try await context.inferOnCall(model, prepared.request, api: .inferenceGRPC, arrived: call.arrived)
    let outputs = try prepared.answer(response, isBinary: true)
    return InferReply(model: model.name, version: "\(model.version)", id: call.id, outputs: outputs)
  }

  // MARK: Health and metadata

  func serverLive(request: Inference_ServerLiveRequest, context: ServerContext) async throws -> Inference_ServerLiveResponse {
    .with { $0.live = true }
  }

  func serverReady(request: Inference_ServerReadyRequest, context: ServerContext) async throws -> Inference_ServerReadyResponse {
    .with { $0.ready = self.context.repository.isReady }
  }

  func modelReady(request: Inference_ModelReadyRequest, context: ServerContext) async throws -> Inference_ModelReadyResponse {
    let isReady = try await answering { () throws(ServingError) in
      do throws(ServingError) {
        _ = try self.context.repository.inferenceModel(request.name, version: request.version)
        return true
      } catch {
        // A model that is not here is no error: it is not ready.
        guard error.code == .notFound || error.code == .unavailable else { throw error }
        return false
      }
    }
    return .with { $0.ready = isReady }
  }

  func serverMetadata(
    request: Inference_ServerMetadataRequest, context: ServerContext
  ) async throws -> Inference_ServerMetadataResponse {
    .with {
      ($0.name, $0.version) = (ServingContext.serverName, ServingContext.serverVersion)
      $0.extensions = ServingContext.serverExtensions
    }
  }

  private func description(_ name: String, _ version: String) throws(ServingError) -> ModelDescription {
    let model = try context.repository.inferenceModel(name, version: version)
    return ModelDescription(model, in: context.repository, isVersioned: !version.isEmpty)
  }

  func modelMetadata(
    request: Inference_ModelMetadataRequest, context: ServerContext
  ) async throws -> Inference_ModelMetadataResponse {
    try await answering { () throws(ServingError) in try description(request.name, request.version).metadataMessage }
  }

  func modelConfig(request: Inference_ModelConfigRequest, context: ServerContext) async throws -> Inference_ModelConfigResponse {
    let config = try await answering { () throws(ServingError) in
      try description(request.name, request.version).configurationMessage
    }
    return .with { $0.config = config }
  }

  func modelStatistics(
    request: Inference_ModelStatisticsRequest, context: ServerContext
  ) async throws -> Inference_ModelStatisticsResponse {
    let all = try await answering { () throws(ServingError) in
      try self.context.inferenceStatistics(request.name, version: request.version)
    }
    return .with { $0.modelStats = all.map(\.message) }
  }

  // MARK: Repository

  private func checkRepository(_ name: String) throws(ServingError) {
    guard name.isEmpty else {
      throw ServingError(.unimplemented, "'repository_name' specification is not supported: there is one repository")
    }
  }

  func repositoryIndex(
    request: Inference_RepositoryIndexRequest, context: ServerContext
  ) async throws -> Inference_RepositoryIndexResponse {
    let entries = try await answering { () throws(ServingError) in
      try checkRepository(request.repositoryName)
      return IndexEntry.all(self.context.repository, isReady: request.ready)
    }
    return .with {
      $0.models = entries.map { entry in
        .with {
          ($0.name, $0.version) = (entry.name, entry.version.map { "\($0)" } ?? "")
          ($0.state, $0.reason) = (entry.state ?? "", entry.reason)
        }
      }
    }
  }

  func repositoryModelLoad(
    request: Inference_RepositoryModelLoadRequest, context: ServerContext
  ) async throws -> Inference_RepositoryModelLoadResponse {
    try await answering { () async throws(ServingError) in
      try checkRepository(request.repositoryName)
      if let key = request.parameters.keys.min() {
        throw ServingError(
          .unimplemented, "the load parameter \(quoted(key)) is not supported: models load as they are configured")
      }
      try await self.context.repository.load(request.modelName)
    }
    return .init()
  }

  func repositoryModelUnload(
    request: Inference_RepositoryModelUnloadRequest, context: ServerContext
  ) async throws -> Inference_RepositoryModelUnloadResponse {
    try await answering { () async throws(ServingError) in
      try checkRepository(request.repositoryName)
      try await self.context.repository.unload(request.modelName)
    }
    return .init()
  }

  // MARK: What is not here

  private func missing(_ context: ServerContext) -> RPCError {
    RPCError(code: .unimplemented, message: "\(context.descriptor.method) is not supported by this server")
  }

  func modelInfer(request: Inference_ModelInferRequest, context: ServerContext) async throws -> Inference_ModelInferResponse {
    throw missing(context)  // Another handler is registered in its place.
  }

  func modelStreamInfer(
    request: RPCAsyncSequence<Inference_ModelInferRequest, any Error>, response: RPCWriter<Inference_ModelStreamInferResponse>,
    context: ServerContext
  ) async throws {
    throw missing(context)  // As above.
  }

  func systemSharedMemoryStatus(
    request: Inference_SystemSharedMemoryStatusRequest, context: ServerContext
  ) async throws -> Inference_SystemSharedMemoryStatusResponse { throw missing(context) }

  func systemSharedMemoryRegister(
    request: Inference_SystemSharedMemoryRegisterRequest, context: ServerContext
  ) async throws -> Inference_SystemSharedMemoryRegisterResponse { throw missing(context) }

  func systemSharedMemoryUnregister(
    request: Inference_SystemSharedMemoryUnregisterRequest, context: ServerContext
  ) async throws -> Inference_SystemSharedMemoryUnregisterResponse { throw missing(context) }

  func cudaSharedMemoryStatus(
    request: Inference_CudaSharedMemoryStatusRequest, context: ServerContext
  ) async throws -> Inference_CudaSharedMemoryStatusResponse { throw missing(context) }

  func cudaSharedMemoryRegister(
    request: Inference_CudaSharedMemoryRegisterRequest, context: ServerContext
  ) async throws -> Inference_CudaSharedMemoryRegisterResponse { throw missing(context) }

  func cudaSharedMemoryUnregister(
    request: Inference_CudaSharedMemoryUnregisterRequest, context: ServerContext
  ) async throws -> Inference_CudaSharedMemoryUnregisterResponse { throw missing(context) }

  func traceSetting(request: Inference_TraceSettingRequest, context: ServerContext) async throws -> Inference_TraceSettingResponse
  {
    throw missing(context)
  }

  func logSettings(request: Inference_LogSettingsRequest, context: ServerContext) async throws -> Inference_LogSettingsResponse {
    throw missing(context)
  }
}

/// Registers the service's methods. The two with tensors read and write their messages themselves.
private struct InferenceRegistration: RegistrableRPCService {
  let service: InferenceService

  func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
    service.registerMethods(with: &router)
    router.registerHandler(
      forMethod: Inference_GRPCInferenceService.Method.ModelInfer.descriptor,
      deserializer: InferCallDeserializer(context: service.context), serializer: InferReplySerializer(isStream: false)
    ) { request, _ in
      let timeout = request.metadata.timeoutOfCall
      let single = try await ServerRequest(stream: request)
      let reply = try await answering { () async throws(ServingError) in try await service.infer(single.message, timeout: timeout)
      }
      return StreamingServerResponse(single: ServerResponse(message: reply))
    }
    router.registerHandler(
      forMethod: Inference_GRPCInferenceService.Method.ModelStreamInfer.descriptor,
      deserializer: InferCallDeserializer(context: service.context), serializer: InferReplySerializer(isStream: true)
    ) { request, _ in
      StreamingServerResponse { writer in
        for try await call in request.messages {
          var reply: InferReply
          do throws(ServingError) {
            reply = try await service.infer(call, timeout: nil)
          } catch {
            reply = InferReply(model: "", version: "", id: call.id, outputs: [], error: error.message)
          }
          reply.isMarkedFinal = call.wantsFinalMark
          try await writer.write(reply)
        }
        return [:]
      }
    }
  }
}
