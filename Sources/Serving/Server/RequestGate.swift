import ApusServables
import Synchronization

/// What all connections of a server share: how many requests are being answered, and whether it is stopping.
final class RequestGate: Sendable {
  let options: ServerOptions
  let limits: ServingLimits
  private let active = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private let draining = Atomic<Bool>(false)

  init(_ options: ServerOptions, _ limits: ServingLimits) { (self.options, self.limits) = (options, limits) }

  /// Requests that have been accepted and not answered.
  var count: Int { active.load(ordering: .relaxed) }

  /// Takes a place for a request; `leave` gives it back.
  func enter() -> Bool {
    if active.add(1, ordering: .relaxed).newValue <= limits.maxConcurrentRequests { return true }
    active.subtract(1, ordering: .relaxed)
    return false
  }

  func leave() { active.subtract(1, ordering: .relaxed) }

  /// The server says that it is not ready, but answers as before.
  var isStopping: Bool { stopping.load(ordering: .relaxed) }
  func stop() { stopping.store(true, ordering: .relaxed) }

  /// Connections end after the answer.
  var isDraining: Bool { draining.load(ordering: .relaxed) }
  func drain() { draining.store(true, ordering: .relaxed) }

  // MARK: Refusals

  static let busy = ServingError(
    .unavailable, "the server answers as many requests as it may; try again", retryAfter: .seconds(1))
  static let unauthenticated = ServingError(.unauthenticated, "a bearer token is needed, and none that is known was given")

  /// Whether a request may come in without a token.
  /// The status page's files are open: the page itself asks for the token, and tells nothing without it.
  func isOpen(path: some StringProtocol) -> Bool {
    options.tokens == nil || (options.isHealthOpen && Self.isHealth(path: path))
      || StatusPage.isFile(path: String(path.prefix { $0 != "?" }))
  }

  /// Health checks and metrics are answered however busy the server is.
  static func isHealth(path: some StringProtocol) -> Bool {
    switch path.prefix(while: { $0 != "?" }) {
    case "/v2/health/live", "/v2/health/ready", "/metrics", "/monitoring/prometheus/metrics": true
    default: false
    }
  }

  func isOpen(service: String, method: String) -> Bool {
    options.tokens == nil || (options.isHealthOpen && Self.isHealth(service: service, method: method))
  }

  static func isHealth(service: String, method: String) -> Bool {
    service == "grpc.health.v1.Health"
      || (service == "inference.GRPCInferenceService" && (method == "ServerLive" || method == "ServerReady"))
  }
}
