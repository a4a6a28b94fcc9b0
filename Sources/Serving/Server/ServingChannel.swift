import Hummingbird
import HummingbirdCore
import HummingbirdHTTP2
import Logging
import NIOCore
import NIOExtras
import NIOHTTP1
import NIOHTTP2
import NIOHTTPTypesHTTP1
import NIOSSL
import NIOTLS
import Synchronization

/// A connection of HTTP/1.1 or HTTP/2: as the client prefers over TLS (ALPN), and as its first bytes say without (prior knowledge).
struct ServingChannel: ServerChildChannel {
  enum Connection: Sendable {
    case http1(HTTP1Channel.Value)
    case http2(HTTP2Channel.Value)
  }

  struct Value: ServerChildChannelValue {
    let connection: EventLoopFuture<Connection>
    let channel: any Channel
    fileprivate let work: ConnectionWork
  }

  private let gate: RequestGate
  private let tls: NIOSSLContext?
  private let responder: HTTPChannelHandler.Responder
  private let http2: HTTP2Channel

  init(_ gate: RequestGate, tls: NIOSSLContext?, responder: @escaping HTTPChannelHandler.Responder) {
    (self.gate, self.tls, self.responder) = (gate, tls, responder)
    http2 = HTTP2Channel(
      responder: responder,
      configuration: .init(
        idleTimeout: gate.options.idleTimeout, gracefulCloseTimeout: gate.options.drainTimeout,
        streamConfiguration: .init(additionalChannelHandlers: [RequestGuard(gate, isStream: true)])))
  }

  func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
    let work = ConnectionWork()
    return channel.eventLoop.makeCompletedFuture {
      let operations = channel.pipeline.syncOperations
      try? channel.syncOptions?.setOption(.tcpOption(.tcp_nodelay), value: 1)
      let connection: EventLoopFuture<Connection>
      let choose: @Sendable (Bool) -> EventLoopFuture<Connection> = { isHTTP2 in
        isHTTP2
          ? http2.setup(channel: channel, logger: logger).map { .http2($0) }
          : setupHTTP1(channel: channel, work: work, logger: logger).map { .http1($0) }
      }
      if let tls {
        try operations.addHandler(NIOSSLServerHandler(context: tls))
        let handler = NIOTypedApplicationProtocolNegotiationHandler<Connection> { result in
          switch result {
          case .negotiated("h2"): choose(true)
          case .negotiated, .fallback: choose(false)
          }
        }
        try operations.addHandler(handler)
        connection = handler.protocolNegotiationResult
      } else {
        let handler = PrefaceHandler(channel.eventLoop.makePromise(of: Connection.self), choose)
        try operations.addHandler(handler)
        connection = handler.promise.futureResult
      }
      // Who connects must say something.
      let late = channel.eventLoop.scheduleTask(in: TimeAmount(gate.limits.readTimeout)) { channel.close(promise: nil) }
      connection.whenComplete { _ in late.cancel() }
      channel.closeFuture.whenComplete { _ in late.cancel() }
      return Value(connection: connection, channel: channel, work: work)
    }
  }

  private func setupHTTP1(
    channel: any Channel, work: ConnectionWork, logger: Logger
  ) -> EventLoopFuture<HTTP1Channel.Value> {
    let gate = gate
    var configuration = HTTP1Channel.Configuration(
      additionalChannelHandlers: [RequestGuard(gate, isStream: false) { work.cancel() }])
    configuration.httpDecoder = .init(
      maxHeaderFieldSize: gate.options.maxHeadBytes, maxHeaderListSize: gate.options.maxHeadBytes,
      maxHeaderFieldCount: gate.options.maxHeadFields)
    return HTTP1Channel(responder: responder, configuration: configuration).setup(channel: channel, logger: logger)
      .flatMapThrowing { value in
        let operations = channel.pipeline.syncOperations
        let codec = try operations.handler(type: HTTP1ToHTTPServerCodec.self)
        try operations.addHandler(OldVersionHandler(), position: .before(codec))
        return value
      }
  }

  func handle(value: Value, logger: Logger) async {
    guard let connection = try? await value.connection.get() else { return }
    switch connection {
    case .http2(let http2): await self.http2.handle(value: http2, logger: logger)
    case .http1(let http1):
      let channel = HTTP1Channel(responder: responder)
      // The guard cancels this task when the client goes away; requests need not look for that themselves.
      let task = Task { await Disconnects.$areWatched.withValue(true) { await channel.handle(value: http1, logger: logger) } }
      value.work.attach(task)
      await withTaskCancellationHandler {
        await task.value
      } onCancel: {
        task.cancel()
      }
    }
  }
}

/// The task of a connection, which may end before it begins.
private final class ConnectionWork: Sendable {
  private let state = Mutex<(task: Task<Void, Never>?, isCancelled: Bool)>((nil, false))

  func attach(_ task: Task<Void, Never>) {
    let isCancelled = state.withLock { state in
      state.task = task
      return state.isCancelled
    }
    if isCancelled { task.cancel() }
  }

  func cancel() {
    let task = state.withLock { state in
      state.isCancelled = true
      return state.task
    }
    task?.cancel()
  }
}

/// Looks at the first bytes of a connection: those of HTTP/2 are always the same.
private final class PrefaceHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

  let promise: EventLoopPromise<ServingChannel.Connection>
  private let choose: @Sendable (Bool) -> EventLoopFuture<ServingChannel.Connection>
  private var seen: ByteBuffer?
  private var isChosen = false
  private var quiesces = false

  init(
    _ promise: EventLoopPromise<ServingChannel.Connection>,
    _ choose: @escaping @Sendable (Bool) -> EventLoopFuture<ServingChannel.Connection>
  ) {
    (self.promise, self.choose) = (promise, choose)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    if isChosen { return context.fireChannelRead(wrapInboundOut(bytes)) }
    if var seen {
      seen.writeBuffer(&bytes)
      bytes = seen
    }
    let isSame = zip(bytes.readableBytesView, Self.preface).allSatisfy { $0 == $1 }
    if isSame, bytes.readableBytes < Self.preface.count {
      seen = bytes
      return
    }
    isChosen = true
    seen = nil
    promise.completeWith(choose(isSame))
    if quiesces { context.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent()) }
    context.fireChannelRead(wrapInboundOut(bytes))
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is ChannelShouldQuiesceEvent, !isChosen {
      quiesces = true
      let channel = context.channel
      let promise = promise
      context.eventLoop.scheduleTask(in: RequestGuard.drainGrace) {
        promise.futureResult.eventLoop.assertInEventLoop()
        channel.pipeline.context(handlerType: PrefaceHandler.self).whenSuccess { _ in channel.close(promise: nil) }
      }
      return
    }
    if !isChosen, (event as? ChannelEvent) == .inputClosed { context.close(promise: nil) }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    if !isChosen { promise.fail(ChannelError.eof) }
    isChosen = true
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    if !isChosen { promise.fail(ChannelError.eof) }
    isChosen = true
  }
}

/// HTTP/1.0 closes after each answer, unless the client asks otherwise.
private final class OldVersionHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .head(var head) = unwrapInboundIn(data), head.version.major <= 1, head.version.minor == 0, !head.isKeepAlive else {
      return context.fireChannelRead(data)
    }
    head.headers.replaceOrAdd(name: "connection", value: "close")
    context.fireChannelRead(wrapInboundOut(.head(head)))
  }
}
