import ApusServables
import Dispatch
import GRPCCore
import GRPCNIOTransportHTTP2
import Hummingbird
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle

/// Serves the models of a repository over HTTP and gRPC.
public final class ModelServer: Sendable {
  /// Where it listens.
  public struct Addresses: Sendable, Hashable {
    public var http: String?
    public var grpc: String?
  }

  public let context: ServingContext
  public let options: ServerOptions
  private let logger: Logger

  public var repository: ModelRepository { context.repository }

  public init(_ context: ServingContext, options: ServerOptions = .init(), logger: Logger = Logger(label: "apus.serving")) {
    (self.context, self.options, self.logger) = (context, options, logger)
  }

  public convenience init(_ repository: ModelRepository, options: ServerOptions = .init()) {
    self.init(ServingContext(repository), options: options)
  }

  /// Adds all routes to a router.
  public func add<C: RequestContext>(to router: Router<C>) {
    router.add(middleware: RequestIdentityMiddleware(context.journal))
    TensorFlowRoutes(context).add(to: router)
    InferenceRoutes(context).add(to: router)
    OperationsRoutes(context).add(to: router)
  }

  /// All services of gRPC, for a server of your own.
  public var services: [any RegistrableRPCService] {
    let services = TensorFlowServices.all(context) + InferenceServices.all(context)
    return services + [HealthService(context: context, services: [])]
  }

  /// Listens until SIGTERM or SIGINT arrives or the task is cancelled.
  /// - Parameter onListening: told where it listens.
  public func run(onListening: @escaping @Sendable (Addresses) -> Void = { _ in }) async throws {
    let loops = MultiThreadedEventLoopGroup(numberOfThreads: options.eventLoopThreads)
    let (httpAddress, httpContinuation) = AsyncStream.makeStream(of: String.self)
    let router = Router(context: BasicRequestContext.self)
    add(to: router)
    let application = Application(
      router: router,
      configuration: .init(address: .hostname(options.host, port: options.httpPort ?? 0)),
      onServerRunning: { channel in
        httpContinuation.yield("\(self.options.host):\(channel.localAddress?.port ?? 0)")
        httpContinuation.finish()
      },
      eventLoopGroupProvider: .shared(loops), logger: logger)
    let http = ServiceGroup(configuration: .init(services: [application], logger: logger))
    let grpc = GRPCServer(
      transport: .http2NIOPosix(
        address: .ipv4(host: options.host, port: options.grpcPort ?? 0), transportSecurity: .plaintext,
        config: .defaults { $0.rpc.maxRequestPayloadSize = self.context.limits.maxBodyBytes }, eventLoopGroup: loops),
      services: services, interceptors: [RequestIdentityInterceptor(context.journal)])

    let (signals, signalContinuation) = AsyncStream.makeStream(of: Int32.self)
    let sources = [SIGTERM, SIGINT].map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { signalContinuation.yield(number) }
      source.resume()
      return source
    }
    defer { for source in sources { source.cancel() } }

    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await http.run() }
      group.addTask { try await grpc.serve() }
      group.addTask {
        var addresses = Addresses()
        for await address in httpAddress { addresses.http = address }
        addresses.grpc = "\(self.options.host):\(try await grpc.transport.listeningAddress.ipv4?.port ?? 0)"
        onListening(addresses)
      }
      group.addTask {
        for await _ in signals {
          await http.triggerGracefulShutdown()
          grpc.beginGracefulShutdown()
          await self.repository.drain()
          break
        }
      }
      try await group.waitForAll()
    }
    try await loops.shutdownGracefully()
  }
}
