import ApusFormats
import ApusServables
import HTTPTypes
import Hummingbird
import NIOCore

/// The Open Inference Protocol and Triton's extensions of it over HTTP.
public struct InferenceRoutes: Sendable {
  let context: ServingContext

  public init(_ context: ServingContext) { self.context = context }

  /// Adds everything below `/v2`.
  public func add<C: RequestContext>(to router: Router<C>) {
    addHealth(to: router)
    addModels(to: router)
    addRepository(to: router)
    addMissing(to: router)
  }

  private func addHealth<C: RequestContext>(to router: Router<C>) {
    let repository = context.repository
    router.get("/v2") { _, _ in
      Answer.json(
        .object([
          "name": .string(ServingContext.serverName), "version": .string(ServingContext.serverVersion),
          "extensions": .array(ServingContext.serverExtensions.map { .string($0) }),
        ]))
    }
    router.get("/v2/health/live") { _, _ in Answer.json(.object(["live": .bool(true)])) }
    router.get("/v2/health/ready") { _, _ in
      let isReady = repository.isReady
      // The protocol's text calls the member `live` here too; clients go by the status.
      return Answer.json(
        .object(["ready": .bool(isReady), "live": .bool(isReady)]), status: isReady ? .ok : .serviceUnavailable)
    }
  }

  private func addModels<C: RequestContext>(to router: Router<C>) {
    let context = context
    router.get("/v2/models/stats") { _, _ in
      answering { () throws(ServingError) in try statistics(nil, version: "") }
    }
    for isVersioned in [false, true] {
      let path = isVersioned ? "/v2/models/{model}/versions/{version}" : "/v2/models/{model}"
      func describe(
        _ suffix: String, _ answer: @escaping @Sendable (ServedModel) throws(ServingError) -> JSONValue
      ) {
        router.get(RouterPath(path + suffix)) { _, request in
          answering { () throws(ServingError) in
            try answer(try context.repository.inferenceModel(request.modelName, version: request.modelVersion(isVersioned)))
          }
        }
      }
      describe("") { ModelDescription($0, in: context.repository, isVersioned: isVersioned).metadata }
      describe("/config") { ModelDescription($0, in: context.repository, isVersioned: isVersioned).configurationJSON }
      describe("/ready") { .object(["name": .string($0.name), "ready": .bool(true)]) }
      router.get(RouterPath(path + "/stats")) { _, request in
        answering { () throws(ServingError) in
          try statistics(request.modelName, version: request.modelVersion(isVersioned))
        }
      }
      router.post(RouterPath(path + "/infer")) { request, path in
        await infer(request, model: path.modelName, version: path.modelVersion(isVersioned))
      }
    }
  }

  private func statistics(_ name: String?, version: String) throws(ServingError) -> JSONValue {
    .object(["model_stats": .array(try context.inferenceStatistics(name, version: version).map(\.json))])
  }

  // MARK: Repository

  private func addRepository<C: RequestContext>(to router: Router<C>) {
    let repository = context.repository
    router.post("/v2/repository/index") { request, _ in
      await answering { () async throws(ServingError) in
        let options = try await object(of: request)
        let isReady = options["ready"]?.bool ?? false
        return .array(IndexEntry.all(repository, isReady: isReady).map(\.json))
      }
    }
    router.post("/v2/repository/models/{model}/load") { request, path in
      await answering { () async throws(ServingError) in
        let parameters = try await object(of: request)["parameters"]?.object ?? [:]
        if let key = parameters.keys.first {
          throw ServingError(
            .unimplemented, "the load parameter \(quoted(key)) is not supported: models load as they are configured")
        }
        try await repository.load(path.modelName)
        return .object([:])
      }
    }
    router.post("/v2/repository/models/{model}/unload") { request, path in
      await answering { () async throws(ServingError) in
        _ = try await object(of: request)
        try await repository.unload(path.modelName)
        return .object([:])
      }
    }
  }

  /// The object in a small body; an empty body is an empty object.
  private func object(of request: Request) async throws(ServingError) -> JSONObject {
    let body = try await request.bodyChunks(upTo: 1 << 20)
    guard body.count > 0 else { return [:] }
    return try body.withPrefix(body.count) { (bytes) throws(ServingError) in
      do throws(FormatError) {
        guard let object = try JSONValue(parsing: bytes, file: "body").object else {
          throw FormatError(.invalidEntry, file: "body", "it must be an object")
        }
        return object
      } catch {
        throw ServingError(.invalidArgument, error.description)
      }
    }
  }

  // MARK: What is not here

  private func addMissing<C: RequestContext>(to router: Router<C>) {
    let missing: [(path: String, name: String)] = [
      ("/v2/trace/setting", "trace settings"), ("/v2/models/{model}/trace/setting", "trace settings"),
      ("/v2/logging", "log settings"), ("/v2/systemsharedmemory/**", "shared memory"),
      ("/v2/cudasharedmemory/**", "shared memory"),
    ]
    for (path, name) in missing {
      for method in [HTTPRequest.Method.get, .post] {
        router.on(RouterPath(path), method: method) { _, _ in
          Answer.error(ServingError(.unimplemented, "\(name): not supported by this server"))
        }
      }
    }
    for method in [HTTPRequest.Method.get, .head, .post, .put, .delete, .patch] {
      router.on("/v2/**", method: method) { request, _ in
        let path = request.uri.path
        return Answer.error(ServingError(.notFound, "there is no \(request.method.rawValue) \(FormatError.excerpt(path))"))
      }
    }
  }
}

extension RequestContext {
  fileprivate var modelName: String {
    let text = parameters.get("model") ?? ""
    return TensorFlowPath.decoded(text[...]) ?? text
  }
  fileprivate func modelVersion(_ isVersioned: Bool) -> String {
    guard isVersioned else { return "" }
    // An empty one is not the same as none.
    let version = parameters.get("version") ?? ""
    return version.isEmpty ? "?" : version
  }
}

private func answering(_ body: () throws(ServingError) -> JSONValue) -> Response {
  do throws(ServingError) { return Answer.json(try body()) } catch { return Answer.error(error) }
}

private func answering(_ body: () async throws(ServingError) -> JSONValue) async -> Response {
  do throws(ServingError) { return Answer.json(try await body()) } catch { return Answer.error(error) }
}
