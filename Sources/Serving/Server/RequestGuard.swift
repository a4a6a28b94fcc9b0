import ApusFormats
import ApusServables
import HTTPTypes
import NIOCore
import NIOExtras
import NIOHTTP1
import NIOHTTPTypes

/// Stands between the decoder of HTTP and those who answer, on a connection of HTTP/1.1 or a stream of HTTP/2.
///
/// It refuses what is too much, too large or without a token as soon as the head is there, before anything else is done; ends
/// requests that come too slowly; joins the small pieces of a body; lets through one request at a time; says `Connection: close`
/// when the server stops; and cancels the work if the client goes away.
final class RequestGuard: ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart
  typealias OutboundIn = HTTPResponsePart
  typealias OutboundOut = HTTPResponsePart

  /// How a client's way to the end of a connection is shown.
  static let lingering = TimeAmount.seconds(1)
  /// How long an idle connection is kept when the server stops, for a request that is on its way.
  static let drainGrace = TimeAmount.milliseconds(500)
  /// Pieces of a body below this are joined.
  private static let smallPiece = 4_096
  private static let joinedSize = 65_536
  /// What is read and thrown away of a body that is not wanted, so that the connection can be kept.
  private static let swallowed = 65_536
  /// Parts of the next requests that may be held while one is answered.
  private static let heldLimit = 256

  private let gate: RequestGate
  /// A stream of HTTP/2: one request, and no `Connection` fields.
  private let isStream: Bool
  /// Called when the client has gone while its request is answered.
  private let onGone: (@Sendable () -> Void)?

  // Of the request that is now on its way.
  private enum Phase { case idle, reading, answering, lingering }
  private var phase = Phase.idle
  private var isCounted = false
  /// Its head has been passed on, so that others write an answer.
  private var isPassedOn = false
  /// What is still to come of it is little enough to be read and thrown away.
  private var isShort = true
  /// It is not passed on: it has been answered here.
  private var isRefused = false
  private var hasAnswerBegun = false
  private var hasAnswerEnded = false
  /// What others write of the answer is dropped, because it was answered here.
  private var dropsAnswer = false
  private var closesAfter = false
  private var bodyCount = 0
  private var joined: ByteBuffer?

  private var held = CircularBuffer<HTTPRequestPart>()
  private var isReadHeldBack = false
  private var isQuiescing = false
  private var isFirst = true

  private var began = NIODeadline.now()
  private var deadline: NIODeadline?
  private var timer: Scheduled<Void>?
  private var timerDeadline = NIODeadline.distantFuture

  init(_ gate: RequestGate, isStream: Bool, onGone: (@Sendable () -> Void)? = nil) {
    (self.gate, self.isStream, self.onGone) = (gate, isStream, onGone)
  }

  private var readTimeout: TimeAmount { TimeAmount(gate.limits.readTimeout) }

  // MARK: Connection

  func handlerAdded(context: ChannelHandlerContext) {
    if context.channel.isActive { waitForHead(context) }
  }

  func handlerRemoved(context: ChannelHandlerContext) { end() }

  func channelActive(context: ChannelHandlerContext) {
    waitForHead(context)
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    if phase == .reading || phase == .answering { onGone?() }
    end()
    context.fireChannelInactive()
  }

  private func end() {
    timer?.cancel()
    timer = nil
    deadline = nil
    phase = .lingering
    giveBack()
    held.removeAll()
    joined = nil
  }

  private func giveBack() {
    if isCounted { gate.leave() }
    isCounted = false
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case is ChannelShouldQuiesceEvent:
      // The next handler would close an idle connection at once, and lose a request that is on its way.
      isQuiescing = true
      if phase == .idle, !isStream { setDeadline(context, min(deadline ?? .distantFuture, .now() + Self.drainGrace)) }
    case ChannelEvent.inputClosed:
      if !isStream, phase == .answering, !hasAnswerEnded { onGone?() }
      if phase == .lingering { context.close(promise: nil) }
      context.fireUserInboundEventTriggered(event)
    default: context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // A head that cannot be read is answered by the next handler; a body in the middle of a request is answered here.
    if error is HTTPParserError, phase == .reading, !isRefused, !hasAnswerBegun {
      answer(
        context, status: .badRequest, ServingError(.invalidArgument, "the request cannot be read: \(error)"), isComplete: false)
      return
    }
    context.fireErrorCaught(error)
  }

  // MARK: Reading

  func read(context: ChannelHandlerContext) {
    // Reading goes on while a request is answered, to see the client go, but what comes is bounded.
    if held.count >= Self.heldLimit { isReadHeldBack = true } else { context.read() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let part = unwrapInboundIn(data)
    if phase == .answering {
      held.append(part)
    } else {
      take(context, part)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    passJoined(context)
    context.fireChannelReadComplete()
  }

  private func take(_ context: ChannelHandlerContext, _ part: HTTPRequestPart) {
    switch (phase, part) {
    case (.idle, .head(let head)): begin(context, head)
    case (.reading, .body(let buffer)): takeBody(context, buffer)
    case (.reading, .end(let trailers)):
      passJoined(context)
      deadline = nil
      phase = .answering
      if !isRefused { context.fireChannelRead(wrapInboundOut(.end(trailers))) }
      if hasAnswerEnded { finish(context) }
    default: break
    }
  }

  private func begin(_ context: ChannelHandlerContext, _ head: HTTPRequest) {
    phase = .reading
    (isRefused, hasAnswerBegun, hasAnswerEnded, dropsAnswer) = (false, false, false, false)
    (isPassedOn, bodyCount) = (false, 0)
    isFirst = false
    began = .now()
    if let field = head.headerFields[.connection], field.lowercased().contains("close") { closesAfter = true }
    if isQuiescing || gate.isDraining { closesAfter = true }
    setDeadline(context, began + readTimeout)

    let path = head.path ?? ""
    let length = head.headerFields[.contentLength].flatMap { Int($0) }
    let hasBody = (length ?? 0) > 0 || head.headerFields[.transferEncoding] != nil
    isShort = !hasBody || (length ?? .max) <= Self.swallowed
    if !gate.isOpen(path: path), gate.options.tokens?.accepts(authorization: head.headerFields[.authorization]) == false {
      return answer(context, status: .unauthorized, RequestGate.unauthenticated, isComplete: isShort)
    }
    if let length, length > gate.limits.maxBodyBytes {
      return answer(context, status: .contentTooLarge, tooLarge, isComplete: isShort)
    }
    if gate.isStopping, path.hasPrefix("/v2/health/ready") {
      return answer(
        context, status: .serviceUnavailable, ServingError(.unavailable, "the server is stopping"), isComplete: isShort)
    }
    isCounted = gate.enter()
    guard isCounted || RequestGate.isHealth(path: path) else {
      return answer(context, status: .serviceUnavailable, RequestGate.busy, isComplete: isShort)
    }
    if let expected = head.headerFields[.expect], expected.lowercased() == "100-continue" {
      context.writeAndFlush(wrapOutboundOut(.head(HTTPResponse(status: .continue))), promise: nil)
    }
    var head = head
    if closesAfter, !isStream { head.headerFields[.connection] = "close" }
    isPassedOn = true
    context.fireChannelRead(wrapInboundOut(.head(head)))
  }

  private var tooLarge: ServingError {
    ServingError(.outOfRange, "the body has more than the \(gate.limits.maxBodyBytes) bytes that are accepted")
  }

  private func takeBody(_ context: ChannelHandlerContext, _ buffer: ByteBuffer) {
    bodyCount += buffer.readableBytes
    // Each piece gives more time, but not more than a body at the least rate would need.
    let allowed = TimeAmount.nanoseconds(Int64(Double(bodyCount) / Double(max(1, gate.options.minBodyRate)) * 1e9))
    deadline = min(.now() + readTimeout, began + readTimeout + allowed)
    guard !isRefused, !hasAnswerEnded else {
      // Nobody reads it. More than a little of it ends the connection.
      if bodyCount > Self.swallowed, hasAnswerEnded { linger(context) }
      return
    }
    if bodyCount > gate.limits.maxBodyBytes {
      joined = nil
      return answer(context, status: .contentTooLarge, tooLarge, isComplete: false)
    }
    if buffer.readableBytes >= Self.smallPiece {
      passJoined(context)
      context.fireChannelRead(wrapInboundOut(.body(buffer)))
    } else if joined == nil {
      joined = buffer
    } else {
      joined?.writeImmutableBuffer(buffer)
      if joined?.readableBytes ?? 0 >= Self.joinedSize { passJoined(context) }
    }
  }

  private func passJoined(_ context: ChannelHandlerContext) {
    guard let buffer = joined else { return }
    joined = nil
    if !isRefused, phase == .reading { context.fireChannelRead(wrapInboundOut(.body(buffer))) }
  }

  // MARK: Answering

  /// Answers the request here. `isComplete`: the rest of it is short, so that the connection can be kept.
  private func answer(_ context: ChannelHandlerContext, status: HTTPResponse.Status, _ error: ServingError, isComplete: Bool) {
    dropsAnswer = isPassedOn
    isRefused = true
    hasAnswerBegun = true
    if !isComplete { closesAfter = true }
    let body = ByteBuffer(string: JSONValue.object(["error": .string(error.message)]).printed() + "\n")
    var head = HTTPResponse(status: status, headerFields: [.contentType: "application/json"])
    head.headerFields[.contentLength] = "\(body.readableBytes)"
    if status == .unauthorized { head.headerFields[.wwwAuthenticate] = "Bearer realm=\"apus\"" }
    if error.retryAfter != nil { head.headerFields[.retryAfter] = "1" }
    if closesAfter, !isStream { head.headerFields[.connection] = "close" }
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(body)), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    answerEnded(context)
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    if dropsAnswer || phase == .lingering || phase == .idle {
      // Without a request there is only the answer to a head that could not be read.
      if phase == .idle, !dropsAnswer { return context.write(data, promise: promise) }
      promise?.succeed()
      return
    }
    switch unwrapOutboundIn(data) {
    case .head(var head):
      if head.status.kind == .informational { return context.write(data, promise: promise) }
      hasAnswerBegun = true
      if isQuiescing || gate.isDraining || (phase == .reading && !isShort) { closesAfter = true }
      if closesAfter, !isStream { head.headerFields[.connection] = "close" }
      context.write(wrapOutboundOut(.head(head)), promise: promise)
    case .body: context.write(data, promise: promise)
    case .end:
      context.writeAndFlush(data, promise: promise)
      answerEnded(context)
    }
  }

  private func answerEnded(_ context: ChannelHandlerContext) {
    hasAnswerEnded = true
    giveBack()
    if phase == .answering {
      finish(context)
    } else if closesAfter, !isStream {
      linger(context)
    }
  }

  /// The request has been read and answered.
  private func finish(_ context: ChannelHandlerContext) {
    giveBack()
    if closesAfter, !isStream { return linger(context) }
    phase = .idle
    guard !isStream else { return }
    waitForHead(context)
    guard !held.isEmpty || isReadHeldBack else { return }
    while phase != .answering, phase != .lingering, let part = held.popFirst() { take(context, part) }
    passJoined(context)
    context.fireChannelReadComplete()
    if isReadHeldBack, held.count < Self.heldLimit {
      isReadHeldBack = false
      context.read()
    }
  }

  /// Says that nothing more is sent, and waits a little for the client to have read it: closing at once could take the answer back.
  private func linger(_ context: ChannelHandlerContext) {
    guard phase != .lingering else { return }
    phase = .lingering
    held.removeAll()
    giveBack()
    if isStream { return context.close(promise: nil) }
    context.close(mode: .output, promise: nil)
    setDeadline(context, .now() + Self.lingering)
    if isReadHeldBack {
      isReadHeldBack = false
      context.read()
    }
  }

  // MARK: Time

  private func waitForHead(_ context: ChannelHandlerContext) {
    guard phase == .idle else { return }
    var wait = isFirst ? readTimeout : TimeAmount(gate.options.idleTimeout)
    if isQuiescing || gate.isDraining, !isStream { wait = min(wait, Self.drainGrace) }
    setDeadline(context, .now() + wait)
  }

  /// One timer is kept for all deadlines; it is set anew only when it comes too late.
  private func setDeadline(_ context: ChannelHandlerContext, _ time: NIODeadline) {
    deadline = time
    if timer != nil, timerDeadline <= time { return }
    timer?.cancel()
    timerDeadline = time
    timer = context.eventLoop.assumeIsolated().scheduleTask(deadline: time) { self.timerFired(context) }
  }

  private func timerFired(_ context: ChannelHandlerContext) {
    timer = nil
    guard let deadline else { return }
    if deadline > .now() { return setDeadline(context, deadline) }
    switch phase {
    case .idle, .lingering: context.close(promise: nil)
    case .reading:
      if isRefused || hasAnswerBegun { return context.close(promise: nil) }
      answer(
        context, status: .requestTimeout, ServingError(.deadlineExceeded, "the request came too slowly"), isComplete: false)
    case .answering: break
    }
  }
}

@available(*, unavailable)
extension RequestGuard: Sendable {}
