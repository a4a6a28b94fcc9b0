import ApusFormats
import ApusServables
import ApusServingProtocols
import GRPCCore
import Hummingbird
import Logging
import NIOCore

/// Serves models over HTTP and gRPC: TensorFlow Serving's API and the Open Inference Protocol, both on the same ports.
///
/// As a server of its own:
/// ```swift
/// let server = try await ModelServer(models: "models")
/// try await server.run()
/// ```
/// In a Hummingbird application of your own:
/// ```swift
/// let serving = try await ModelServer(models: "models")
/// let router = Router()
/// serving.add(to: router)
/// try await Application(router: router).runService()
/// ```
/// What protects a server (``ServerOptions``: tokens, limits of time and number) belongs to ``run(handlesSignals:onEvent:)``; an
/// application of your own has its own. gRPC's services are ``services``.
public final class ModelServer: Sendable {
  /// Where it listens, as `host:port`.
  public struct Addresses: Sendable, Hashable {
    public var http: String?
    public var grpc: String?

    /// `http=HOST:PORT grpc=HOST:PORT`, without what there is not.
    public var line: String { [http.map { "http=\($0)" }, grpc.map { "grpc=\($0)" }].compactMap { $0 }.joined(separator: " ") }
  }

  /// What ``run(handlesSignals:onEvent:)`` tells.
  public enum Event: Sendable {
    /// The ports are open; models may still be loading.
    case listening(Addresses)
    /// Every model is served.
    case ready(Addresses)
    /// A model could not be loaded; the others are served.
    case notServed(String, ServingError)
    /// The models could not be found out again (SIGHUP); those there were are served on.
    case reloadFailed(ServingError)
    case reloaded
    /// The server takes no more connections, and finishes what it has.
    case stopping
    /// The time was over, and so many requests were not answered.
    case abandoned(Int)
  }

  public let context: ServingContext
  public let options: ServerOptions
  let source: ModelSource?
  let configure: @Sendable (inout ModelConfiguration) -> Void
  let logger: Logger
  let gate: RequestGate
  /// How often it was told to stop.
  let stops = Watched(0)

  public var repository: ModelRepository { context.repository }

  /// A server of a repository's models.
  /// - Parameters:
  ///   - source: where ``run(handlesSignals:onEvent:)`` loads models from, and SIGHUP again; nil: you load them yourself.
  ///   - configure: changes what the source says of a model.
  public init(
    _ context: ServingContext, source: ModelSource? = nil,
    configure: @escaping @Sendable (inout ModelConfiguration) -> Void = { _ in }, options: ServerOptions = .init(),
    logger: Logger = Logger(label: "apus.serving")
  ) {
    (self.context, self.source, self.configure, self.options, self.logger) = (context, source, configure, options, logger)
    gate = RequestGate(options, context.limits)
  }

  /// A server of a repository's models.
  public convenience init(_ repository: ModelRepository, options: ServerOptions = .init()) {
    self.init(ServingContext(repository), options: options)
  }

  /// Loads the models in a folder: `models/NAME/VERSION/any.apus`.
  /// - Throws: ``ServingError`` if the folder cannot be read. A model that cannot be loaded is no error: its status says why.
  public convenience init(models folder: String, options: ServerOptions = .init()) async throws(ServingError) {
    var repositoryOptions = RepositoryOptions()
    repositoryOptions.warmUpLog = WarmUpLogs.request
    let (repository, source) = (ModelRepository(options: repositoryOptions), ModelSource.folder(folder))
    try await repository.reload(from: { () throws(ServingError) in try source.read() })
    self.init(ServingContext(repository), source: source, options: options)
  }

  /// How many threads move bytes in this process, for all its servers; it counts only before the first one runs.
  public static func useThreads(_ count: Int) { NIOSingletons.groupLoopCountSuggestion = max(1, count) }

  /// Adds all routes to a router: those of both protocols, health, metrics and the status page.
  public func add<C: RequestContext>(to router: Router<C>) {
    router.add(middleware: RequestIdentityMiddleware(context.journal))
    TensorFlowRoutes(context).add(to: router)
    InferenceRoutes(context).add(to: router)
    OperationsRoutes(context).add(to: router)
  }

  /// All services of gRPC: those of both protocols, and its health check.
  public var services: [any RegistrableRPCService] {
    let services = TensorFlowServices.all(context) + InferenceServices.all(context)
    return services + [HealthService(context: context) { [gate] in gate.isStopping }]
  }

  /// Begins to stop a server that runs, as SIGTERM does. A second call makes it leave at once.
  public func stop() { stops.change { $0 += 1 } }
}
