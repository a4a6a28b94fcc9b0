import ApusFormats
import ApusServables
import Dispatch
import GRPCCore
import GRPCNIOTransportHTTP2
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import ServiceLifecycle

extension ModelServer {
  private typealias GRPCTransport = HTTP2ServerTransport.Custom<GRPCListener>

  /// For connections that the system has made and nobody has accepted yet.
  private static let acceptGrace = Duration.milliseconds(100)

  /// Listens, loads the models of its source, and serves until it is told to stop: by ``stop()``, by SIGTERM or SIGINT, or because the
  /// task is cancelled. Then it says that it is not ready, takes no more connections, answers every request it has accepted, and
  /// returns. SIGHUP looks at the source again. It runs once.
  /// - Parameters:
  ///   - handlesSignals: whether SIGTERM, SIGINT and SIGHUP are for this server.
  ///   - onEvent: told what happens; quick.
  /// - Throws: ``ServingError`` if it cannot listen, if certificates cannot be read, or if the source cannot be read.
  public func run(handlesSignals: Bool = true, onEvent: @escaping @Sendable (Event) -> Void = { _ in }) async throws {
    signal(SIGPIPE, SIG_IGN)
    let tls = try makeTLS()
    let loops = MultiThreadedEventLoopGroup.singleton
    let signals = handlesSignals ? Signals(self, onEvent) : nil
    defer { signals?.cancel() }

    let listeners = Watched<[any Channel]>([])
    let onListener: @Sendable (any Channel) -> Void = { channel in listeners.change { $0.append(channel) } }
    let http = options.httpPort.map { HTTPRun(self, port: $0, tls: tls?.http, loops: loops, onListener: onListener) }
    let grpc = options.grpcPort.map { _ in
      GRPCServer(
        transport: GRPCTransport(
          listenerFactory: GRPCListener(eventLoopGroup: loops, gate: gate, tls: tls?.grpc, onListener: onListener),
          config: GRPCListener.config(context.limits)),
        services: services, interceptors: [RequestIdentityInterceptor(context.journal), CallGate(gate: gate)])
    }
    let ends = Watched(Ends())
    let tasks = [
      http.map { http in
        Task {
          let result = await ServingError.catching("HTTP cannot listen at \(options.host):\(options.httpPort ?? 0)") {
            try await http.group.run()
          }
          http.address.finish()
          ends.change { $0.note(result) }
        }
      },
      grpc.map { grpc in
        Task {
          let result = await ServingError.catching("gRPC cannot listen at \(options.host):\(options.grpcPort ?? 0)") {
            try await grpc.serve()
          }
          ends.change { $0.note(result) }
        }
      },
    ].compactMap { $0 }
    ends.change { $0.expected = tasks.count }

    var addresses = Addresses()
    addresses.http = await http?.address.value
    if let address = await grpc?.transport.listeningAddress, let port = address.ipv4?.port ?? address.ipv6?.port {
      addresses.grpc = "\(options.host):\(port)"
    }
    let isListening = (http == nil || addresses.http != nil) && (grpc == nil || addresses.grpc != nil)

    var failure: ServingError?
    var loading: Task<Void, Never>?
    if isListening {
      onEvent(.listening(addresses))
      let (addresses, ends) = (addresses, ends)
      loading = Task {
        do throws(ServingError) { try await self.load(onEvent) } catch { return ends.change { $0.failure = error } }
        while !Task.isCancelled, !self.gate.isStopping {
          if self.repository.isReady { return onEvent(.ready(addresses)) }
          try? await Task.sleep(for: .milliseconds(100))
        }
      }
    }

    // Until somebody wants it to stop, or it cannot go on.
    await withTaskCancellationHandler {
      await withTaskGroup(of: Void.self) { group in
        group.addTask { await self.stops.wait { $0 >= 1 } }
        group.addTask { await ends.wait { $0.failure != nil || $0.areAllOver } }
        await group.next()
        group.cancelAll()
      }
    } onCancel: {
      self.stop()
    }
    failure = ends.value.failure
    loading?.cancel()

    // Whoever asks is told first, so that balancers send no more.
    gate.stop()
    onEvent(.stopping)
    if failure == nil {
      // Not in this task, which may be cancelled.
      await Task.detached {
        for listener in listeners.value { await listener.stopTakingConnections() }
        try? await Task.sleep(for: Self.acceptGrace)
        // The threads have gone round since, however busy they are.
        for _ in 0..<2 { for listener in listeners.value { try? await listener.eventLoop.submit {}.get() } }
      }.value
    }
    gate.drain()
    await http?.group.triggerGracefulShutdown()
    grpc?.beginGracefulShutdown()
    let drainTimeout = failure == nil ? options.drainTimeout : .seconds(1)
    let isDone = await Task.detached { [stops] in
      await withTaskGroup(of: Bool.self) { group in
        group.addTask {
          await ends.wait { $0.areAllOver }
          return true
        }
        group.addTask {
          await stops.wait { $0 >= 2 }
          return false
        }
        group.addTask {
          try? await Task.sleep(for: drainTimeout)
          return false
        }
        let isDone = await group.next() ?? true
        group.cancelAll()
        return isDone && ends.value.areAllOver
      }
    }.value
    if !isDone {
      if failure == nil { onEvent(.abandoned(gate.count)) }
      for task in tasks { task.cancel() }
    } else {
      // Nobody asks any more.
      await repository.drain()
    }
    if let failure { throw failure }
  }

  private func load(_ onEvent: @Sendable (Event) -> Void) async throws(ServingError) {
    guard let source else { return }
    try await reload()
    for name in repository.names where repository.served(name).isEmpty {
      guard let error = try repository.status(name).compactMap(\.error).first else { continue }
      // A server for one model is of no use without it.
      if case .model = source { throw error }
      onEvent(.notServed(name, error))
    }
  }

  fileprivate func reload() async throws(ServingError) {
    guard let source else { return }
    let configure = configure
    // The repository keeps this, and asks again when it polls.
    try await repository.reload(from: { () throws(ServingError) in
      var models = try source.read()
      for i in models.indices { configure(&models[i]) }
      return models
    })
  }

  // MARK: Certificates

  private func makeTLS() throws(ServingError) -> (http: NIOSSLContext, grpc: NIOSSLContext)? {
    guard let files = options.tls else { return nil }
    func read<Value>(_ what: String, _ file: String, _ body: () throws -> Value) throws(ServingError) -> Value {
      do { return try body() } catch {
        throw ServingError(.invalidArgument, "\(what) cannot be read from '\(FormatError.excerpt(file))': \(error)")
      }
    }
    let chain = try read("the certificate", files.certificateFile) { try NIOSSLCertificate.fromPEMFile(files.certificateFile) }
    let key = try read("the private key", files.privateKeyFile) {
      try NIOSSLPrivateKey(file: files.privateKeyFile, format: .pem)
    }
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
    configuration.minimumTLSVersion = .tlsv12
    if let file = files.clientAuthorityFile {
      let authorities = try read("the clients' authority", file) { try NIOSSLCertificate.fromPEMFile(file) }
      configuration.trustRoots = .certificates(authorities)
      configuration.certificateVerification = .noHostnameVerification
    }
    var (http, grpc) = (configuration, configuration)
    http.applicationProtocols = ["h2", "http/1.1"]
    grpc.applicationProtocols = ["grpc-exp", "h2"]
    return try read("the certificate", files.certificateFile) {
      (try NIOSSLContext(configuration: http), try NIOSSLContext(configuration: grpc))
    }
  }
}

/// The server of HTTP.
private struct HTTPRun {
  let group: ServiceGroup
  let address = Later()

  init(
    _ server: ModelServer, port: Int, tls: NIOSSLContext?, loops: any EventLoopGroup,
    onListener: @escaping @Sendable (any Channel) -> Void
  ) {
    let router = Router(context: BasicRequestContext.self)
    server.add(to: router)
    var logger = server.logger
    // Its own words on starting and on each closed connection are not for whoever runs the server.
    logger.logLevel = max(logger.logLevel, .warning)
    let (gate, options, address) = (server.gate, server.options, address)
    let application = Application(
      router: router, server: HTTPServerBuilder { ServingChannel(gate, tls: tls, responder: $0) },
      configuration: .init(
        address: .hostname(options.host, port: port), serverName: "apus", backlog: 1_024,
        availableConnectionsDelegate: .maximum(options.maxConnections, logger: logger)),
      onServerRunning: { channel in
        onListener(channel)
        address.set("\(options.host):\(channel.localAddress?.port ?? port)")
      },
      eventLoopGroupProvider: .shared(loops), logger: logger)
    group = ServiceGroup(configuration: .init(services: [application], logger: logger))
  }
}

/// A text that is there later, or never.
private final class Later: Sendable {
  private let stream: AsyncStream<String>
  private let continuation: AsyncStream<String>.Continuation
  init() { (stream, continuation) = AsyncStream.makeStream() }

  func set(_ value: String) {
    continuation.yield(value)
    continuation.finish()
  }

  func finish() { continuation.finish() }

  var value: String? {
    get async { await stream.first { _ in true } }
  }
}

/// How the two servers ended.
private struct Ends {
  var over = 0
  var expected = Int.max
  var failure: ServingError?

  var areAllOver: Bool { over >= expected }

  mutating func note(_ result: Result<Void, ServingError>) {
    over += 1
    if case .failure(let error) = result { failure = failure ?? error }
  }
}

extension ServingError {
  /// What `body` did; its error in words.
  fileprivate static func catching(_ what: String, _ body: () async throws -> Void) async -> Result<Void, ServingError> {
    do {
      try await body()
      return .success(())
    } catch {
      // The transport of gRPC wraps what the system says.
      let cause = (error as? RuntimeError)?.cause ?? error
      return .failure(ServingError(.unavailable, "\(what): \((cause as? IOError).map { "\($0)" } ?? "\(cause)")"))
    }
  }
}

/// SIGTERM and SIGINT stop the server, SIGHUP reads its source again.
private final class Signals {
  private let sources: [any DispatchSourceSignal]

  init(_ server: ModelServer, _ onEvent: @escaping @Sendable (ModelServer.Event) -> Void) {
    sources = [SIGTERM, SIGINT, SIGHUP].map { number in
      // The default would end the process before the source hears of it.
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler {
        guard number == SIGHUP else { return server.stop() }
        Task {
          do throws(ServingError) {
            try await server.reload()
            onEvent(.reloaded)
          } catch {
            onEvent(.reloadFailed(error))
          }
        }
      }
      source.resume()
      return source
    }
  }

  func cancel() {
    for source in sources { source.cancel() }
  }
}
