import ApusServables
import ApusServingProtocols
import GRPCCore

/// gRPC's standard health check: of the server (the empty name), of each service, and of each model by its name.
struct HealthService: Grpc_Health_V1_Health.SimpleServiceProtocol {
  typealias Status = Grpc_Health_V1_HealthCheckResponse.ServingStatus

  private static let services: Set<String> = [
    "grpc.health.v1.Health", "inference.GRPCInferenceService", "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
  ]
  /// How soon a watch sees a change.
  private static let interval = Duration.milliseconds(100)

  let context: ServingContext
  let isStopping: @Sendable () -> Bool

  private func status(_ name: String) -> Status {
    let isStopping = self.isStopping()
    if name.isEmpty || Self.services.contains(name) {
      return !isStopping && context.repository.isReady ? .serving : .notServing
    }
    if !context.repository.served(name).isEmpty { return isStopping ? .notServing : .serving }
    return context.repository.names.contains(name) ? .notServing : .serviceUnknown
  }

  func check(request: Grpc_Health_V1_HealthCheckRequest, context: ServerContext) async throws
    -> Grpc_Health_V1_HealthCheckResponse
  {
    let status = status(request.service)
    guard status != .serviceUnknown else {
      throw RPCError(code: .notFound, message: "there is no service or model of this name")
    }
    return .with { $0.status = status }
  }

  func list(request: Grpc_Health_V1_HealthListRequest, context: ServerContext) async throws -> Grpc_Health_V1_HealthListResponse {
    let names = [""] + Self.services.sorted() + self.context.repository.names
    return .with { response in
      for name in names { response.statuses[name] = .with { $0.status = status(name) } }
    }
  }

  func watch(
    request: Grpc_Health_V1_HealthCheckRequest, response: RPCWriter<Grpc_Health_V1_HealthCheckResponse>, context: ServerContext
  ) async throws {
    var last: Status?
    while true {
      // Read before the status: the last message of a server that stops must say so.
      let isOver = context.cancellation.isCancelled || isStopping()
      let now = status(request.service)
      if now != last {
        try await response.write(.with { $0.status = now })
        last = now
      }
      if isOver { return }
      try await Task.sleep(for: Self.interval)
    }
  }
}
