import ApusServables
import GRPCCore
import GRPCNIOTransportHTTP2
import HummingbirdCore
import NIOCore
import NIOExtras
import NIOHPACK
import NIOHTTP2
import NIOPosix
import NIOSSL

/// Listens for gRPC.
struct GRPCListener: HTTP2ServerTransport.ListenerFactory {
  typealias Configurator = HTTP2ServerTransport.ConnectionConfigurator

  let eventLoopGroup: any EventLoopGroup
  let gate: RequestGate
  let tls: NIOSSLContext?
  let onListener: @Sendable (any Channel) -> Void

  static func config(_ limits: ServingLimits) -> HTTP2ServerTransport.Custom<GRPCListener>.Config {
    var config = HTTP2ServerTransport.Custom<GRPCListener>.Config.defaults
    config.compression.enabledAlgorithms = [.gzip, .deflate]
    config.rpc.maxRequestPayloadSize = limits.maxBodyBytes
    // Large windows and frames: tensors of megabytes should not wait for permission every 64 KiB.
    config.http2.targetWindowSize = 1 << 20
    config.http2.maxFrameSize = 1 << 17
    config.http2.maxConcurrentStreams = 256
    // Waiting to join writes would add to the latency of each answer.
    config.connection.flushCoalescing = nil
    config.connection.keepalive.time = .seconds(300)
    config.connection.keepalive.clientBehavior = .init(minPingIntervalWithoutCalls: .seconds(10), allowWithoutCalls: true)
    let (limit, maxBytes) = (TimeAmount(limits.readTimeout), limits.maxBodyBytes)
    config.channelDebuggingCallbacks.onAcceptHTTP2Stream = { channel in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(CallGuard(limit, maxMessageBytes: maxBytes), position: .first)
      }
    }
    return config
  }

  func makeListeningChannel(
    listenerConfigurator: HTTP2ServerTransport.ListenerConfigurator, connectionConfigurator: Configurator
  ) async throws -> NIOAsyncChannel<Configurator.ConnectionChannel, Never> {
    let options = gate.options
    let listener = try await ServerBootstrap(group: eventLoopGroup)
      .serverChannelOption(.backlog, value: 1_024)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(
            AvailableConnectionsChannelHandler(maxConnections: options.maxConnections))
        }.flatMap { listenerConfigurator.configure(channel: channel) }
      }
      .bind(host: options.host, port: options.grpcPort ?? 0) { channel in
        channel.eventLoop.makeCompletedFuture {
          try? channel.syncOptions?.setOption(.tcpOption(.tcp_nodelay), value: 1)
          if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
          try channel.pipeline.syncOperations.addHandler(FirstBytesHandler(TimeAmount(gate.limits.readTimeout)))
        }.flatMap {
          connectionConfigurator.configure(channel: channel, tls: tls == nil ? .none : .configured(requireALPN: false))
        }
      }
    onListener(listener.channel)
    return listener
  }
}

/// Closes a connection on which nothing has been said for a while after it was made; behind TLS, nothing after its handshake.
final class FirstBytesHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let limit: TimeAmount
  private var timer: Scheduled<Void>?

  init(_ limit: TimeAmount) { self.limit = limit }

  func handlerAdded(context: ChannelHandlerContext) {
    timer = context.eventLoop.assumeIsolated().scheduleTask(in: limit) { context.close(promise: nil) }
  }

  func handlerRemoved(context: ChannelHandlerContext) { stop() }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    stop()
    context.fireChannelRead(data)
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    stop()
    context.fireChannelInactive()
  }

  private func stop() {
    timer?.cancel()
    timer = nil
  }
}

/// First on each stream of gRPC: a call whose message does not come is ended, and calls that have begun are not cancelled when the
/// server stops.
final class CallGuard: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTP2Frame.FramePayload
  typealias InboundOut = HTTP2Frame.FramePayload
  typealias OutboundOut = HTTP2Frame.FramePayload

  private let limit: TimeAmount
  private let maxMessageBytes: Int
  /// The first message's prefix: whether it is compressed, and its length.
  private var prefix: [UInt8] = []
  /// Calls in which either side may be silent for long.
  private var isOpenEnded = false
  private var isRead = false
  private var isRefused = false
  private var last = NIODeadline.now()
  private var timer: Scheduled<Void>?

  init(_ limit: TimeAmount, maxMessageBytes: Int) { (self.limit, self.maxMessageBytes) = (limit, maxMessageBytes) }

  func handlerAdded(context: ChannelHandlerContext) { schedule(context, .now() + limit) }

  func handlerRemoved(context: ChannelHandlerContext) { stop() }

  func channelInactive(context: ChannelHandlerContext) {
    stop()
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if isRefused { return }
    last = .now()
    switch unwrapInboundIn(data) {
    case .headers(let headers):
      // The transport stops the process at a negative time.
      if let timeout = headers.headers.first(name: "grpc-timeout"), !Self.isTimeout(timeout) {
        return refuse(context, 3, "grpc-timeout is not up to eight digits and a unit")
      }
      if let path = headers.headers.first(name: ":path") {
        isOpenEnded = path.hasSuffix("/ModelStreamInfer") || path.hasSuffix("/Watch")
      }
      isRead = isRead || headers.endStream
    case .data(let data):
      isRead = isRead || data.endStream
      if prefix.count < 5, case .byteBuffer(let bytes) = data.data {
        prefix += bytes.readableBytesView.prefix(5 - prefix.count)
        // What the transport would answer by resetting the stream, or not at all.
        if prefix.count == 5 {
          let length = prefix[1...].reduce(0) { $0 << 8 | Int($1) }
          if prefix[0] > 1 { return refuse(context, 13, "the message's first byte is \(prefix[0]), neither 0 nor 1") }
          if length > maxMessageBytes {
            return refuse(context, 8, "the message has \(length) bytes; at most \(maxMessageBytes) are accepted")
          }
        }
      }
    default: break
    }
    if isRead, !isOpenEnded, prefix.isEmpty { return refuse(context, 13, "the call has no message") }
    if isRead || isOpenEnded { stop() }
    context.fireChannelRead(data)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    // gRPC takes this as the call's cancellation, which would lose what has been accepted.
    if event is ChannelShouldQuiesceEvent, !isOpenEnded { return }
    context.fireUserInboundEventTriggered(event)
  }

  /// At most eight digits and a unit, as the protocol has it.
  static func isTimeout(_ text: String) -> Bool {
    guard (2...9).contains(text.utf8.count), let unit = text.utf8.last else { return false }
    return "HMSmun".utf8.contains(unit)
      && text.utf8.dropLast().allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }

  private func refuse(_ context: ChannelHandlerContext, _ code: Int, _ message: String) {
    isRefused = true
    stop()
    let answer: HPACKHeaders = [
      ":status": "200", "content-type": "application/grpc", "grpc-status": "\(code)", "grpc-message": message,
    ]
    context.writeAndFlush(wrapOutboundOut(.headers(.init(headers: answer, endStream: true))), promise: nil)
    // What the client still sends of it is not wanted.
    context.close(promise: nil)
  }

  private func schedule(_ context: ChannelHandlerContext, _ time: NIODeadline) {
    timer = context.eventLoop.assumeIsolated().scheduleTask(deadline: time) { [self] in
      timer = nil
      if isRead || isOpenEnded { return }
      if last + limit > .now() { return schedule(context, last + limit) }
      context.close(promise: nil)
    }
  }

  private func stop() {
    timer?.cancel()
    timer = nil
  }
}

@available(*, unavailable)
extension FirstBytesHandler: Sendable {}
@available(*, unavailable)
extension CallGuard: Sendable {}

/// Refuses calls without a token, and those that are too many.
struct CallGate: ServerInterceptor {
  let gate: RequestGate

  func intercept<Input: Sendable, Output: Sendable>(
    request: StreamingServerRequest<Input>, context: ServerContext,
    next: @Sendable (StreamingServerRequest<Input>, ServerContext) async throws -> StreamingServerResponse<Output>
  ) async throws -> StreamingServerResponse<Output> {
    let (service, method) = (context.descriptor.service.fullyQualifiedService, context.descriptor.method)
    if !gate.isOpen(service: service, method: method) {
      var field = request.metadata[stringValues: "authorization"].makeIterator()
      guard gate.options.tokens?.accepts(authorization: field.next()) != false else {
        throw RPCError(code: .unauthenticated, message: RequestGate.unauthenticated.message)
      }
    }
    // A watch is no work.
    if RequestGate.isHealth(service: service, method: method) { return try await next(request, context) }
    guard gate.enter() else {
      var metadata = Metadata()
      metadata.addString("1000", forKey: "grpc-retry-pushback-ms")
      throw RPCError(code: .unavailable, message: RequestGate.busy.message, metadata: metadata)
    }
    do {
      let response = try await next(request, context)
      // The work of a streamed answer is in its producer.
      switch response.accepted {
      case .failure:
        gate.leave()
        return response
      case .success(var contents):
        let producer = contents.producer
        contents.producer = { [gate] writer in
          defer { gate.leave() }
          return try await producer(writer)
        }
        return StreamingServerResponse(accepted: .success(contents))
      }
    } catch {
      gate.leave()
      throw error
    }
  }
}
