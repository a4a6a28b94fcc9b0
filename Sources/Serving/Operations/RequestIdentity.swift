import ApusServables
import GRPCCore
import HTTPTypes
import Hummingbird
import Synchronization

/// Who a request is, for logs, traces and answers: `x-request-id`, and the ids of W3C's `traceparent`.
///
/// A task-local value, so that handlers need not hand it on: the journal finds it where the request is noted.
public final class RequestIdentity: Sendable {
  @TaskLocal public static var current: RequestIdentity?

  /// What the client sent as `x-request-id`, the trace's id, or one made here.
  public let id: String
  /// The 32 hexadecimal digits of the trace that the request is part of.
  public let traceID: String?
  /// The 16 hexadecimal digits of the caller's span.
  public let parentSpanID: String?
  /// Whether the caller records its trace.
  public let isSampled: Bool
  /// What is asked for, in one word: `predict`, `infer`, …
  public let operation: String
  private let wasNoted = Atomic<Bool>(false)

  public init(requestID: String?, traceparent: String?, operation: String) {
    let trace = traceparent.flatMap(TraceParent.init)
    traceID = trace?.traceID
    parentSpanID = trace?.spanID
    isSampled = trace?.isSampled ?? false
    self.operation = operation
    // Sent back in a header and written to logs: visible ASCII of a bounded length, or it is not taken.
    if let requestID, !requestID.isEmpty, requestID.utf8.count <= 128, requestID.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) {
      id = requestID
    } else {
      id = traceID ?? Self.newID()
    }
  }

  /// Says that the journal has this request.
  func markNoted() { wasNoted.store(true, ordering: .relaxed) }
  var isNoted: Bool { wasNoted.load(ordering: .relaxed) }

  private static func newID() -> String {
    var generator = SystemRandomNumberGenerator()
    return hexadecimal(generator.next()) + hexadecimal(generator.next())
  }

  private static func hexadecimal(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}

/// The header of W3C Trace Context: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
struct TraceParent: Sendable, Hashable {
  var traceID, spanID: String
  var isSampled: Bool

  /// nil if the header is not valid; a later version may have more fields.
  init?(_ header: String) {
    let parts = header.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
    func isLowerHex(_ part: Substring.UTF8View) -> Bool {
      part.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
    guard parts.count >= 4, parts[0].count == 2, parts[1].count == 32, parts[2].count == 16, parts[3].count == 2,
      parts[0...3].allSatisfy(isLowerHex)
    else { return nil }
    let version = Substring(parts[0])
    guard version != "ff", version != "00" || parts.count == 4, parts[1].contains(where: { $0 != 0x30 }),
      parts[2].contains(where: { $0 != 0x30 }), let flags = UInt8(Substring(parts[3]), radix: 16)
    else { return nil }
    (traceID, spanID, isSampled) = (String(Substring(parts[1])), String(Substring(parts[2])), flags & 1 == 1)
  }
}

extension HTTPField.Name {
  static let requestID = HTTPField.Name("x-request-id")!
  static let traceParent = HTTPField.Name("traceparent")!
}

/// Gives each request its identity, answers with `x-request-id`, and notes requests to models that were refused before they
/// could run. To be added before the routes.
public struct RequestIdentityMiddleware<Context: RequestContext>: RouterMiddleware {
  private let journal: any RequestJournal

  public init(_ journal: any RequestJournal = SilentJournal()) { self.journal = journal }

  public func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    let arrived = ContinuousClock.now
    let target = RequestTarget(path: request.uri.path)
    let identity = RequestIdentity(
      requestID: request.headers[.requestID], traceparent: request.headers[.traceParent], operation: target.operation)
    return try await RequestIdentity.$current.withValue(identity) {
      do {
        var response = try await next(request, context)
        response.headers[.requestID] = identity.id
        note(target, status: response.status.code, identity, arrived)
        return response
      } catch {
        note(target, status: (error as? any HTTPResponseError)?.status.code ?? 500, identity, arrived)
        throw error
      }
    }
  }

  private func note(_ target: RequestTarget, status: Int, _ identity: RequestIdentity, _ arrived: ContinuousClock.Instant) {
    guard let api = target.api, status >= 400, !identity.isNoted else { return }
    var record = RequestRecord(api: api, id: identity.id, model: target.model, version: 0, arrived: arrived)
    record.total = .now - arrived
    record.error = ServingError(ServingError.Code(httpStatus: status), "refused with status \(status)")
    journal.note(record)
  }
}

/// What a path of a request to a model says.
struct RequestTarget: Sendable, Hashable {
  /// nil: it is not for a model.
  var api: RequestRecord.API?
  var operation = ""
  var model = ""

  init(path: String) {
    // Almost all requests are one of few forms, told apart by their ends; nothing here decides what is answered.
    let parts = path.split(separator: "/", maxSplits: 8)
    guard parts.count >= 3, parts[1] == "models", let last = parts.last else { return }
    if parts[0] == "v1", let colon = last.utf8.lastIndex(of: UInt8(ascii: ":")) {
      let verb = last[last.utf8.index(after: colon)...].lowercased()
      guard ["predict", "classify", "regress"].contains(verb) else { return }
      (api, operation) = (.tensorFlowREST, verb)
      model = Self.name(parts.count == 3 ? last[..<colon] : parts[2])
    } else if parts[0] == "v2", last == "infer" {
      (api, operation, model) = (.inferenceREST, "infer", Self.name(parts[2]))
    }
  }

  private static func name(_ part: Substring) -> String { TensorFlowPath.decoded(part) ?? String(part) }
}

extension ServingError.Code {
  /// The code that a status most likely stands for.
  init(httpStatus status: Int) {
    self =
      switch status {
      case 401: .unauthenticated
      case 403: .permissionDenied
      case 404: .notFound
      case 408, 504: .deadlineExceeded
      case 409: .aborted
      case 413, 429: .resourceExhausted
      case 499: .cancelled
      case 501: .unimplemented
      case 503: .unavailable
      case 400..<500: .invalidArgument
      default: .internalError
      }
  }
}

/// The same for gRPC: metadata `x-request-id` and `traceparent` come in, `x-request-id` goes out.
public struct RequestIdentityInterceptor: ServerInterceptor {
  private let journal: any RequestJournal

  public init(_ journal: any RequestJournal = SilentJournal()) { self.journal = journal }

  public func intercept<Input: Sendable, Output: Sendable>(
    request: StreamingServerRequest<Input>, context: ServerContext,
    next: @Sendable (StreamingServerRequest<Input>, ServerContext) async throws -> StreamingServerResponse<Output>
  ) async throws -> StreamingServerResponse<Output> {
    let arrived = ContinuousClock.now
    let (api, operation) = Self.target(context.descriptor)
    let identity = RequestIdentity(
      requestID: Self.first(request.metadata, "x-request-id"), traceparent: Self.first(request.metadata, "traceparent"),
      operation: operation)
    return try await RequestIdentity.$current.withValue(identity) {
      func note(_ code: RPCError.Code, _ message: String) {
        guard let api, !identity.isNoted else { return }
        var record = RequestRecord(api: api, id: identity.id, model: "", version: 0, arrived: arrived)
        record.total = .now - arrived
        record.error = ServingError(.init(rawValue: code.rawValue) ?? .unknown, message)
        journal.note(record)
      }
      do {
        var response = try await next(request, context)
        switch response.accepted {
        case .success(var contents):
          contents.metadata.replaceOrAddString(identity.id, forKey: "x-request-id")
          response.accepted = .success(contents)
        case .failure(let error): note(error.code, error.message)
        }
        return response
      } catch {
        note((error as? RPCError)?.code ?? .unknown, "\(error)")
        throw error
      }
    }
  }

  private static func first(_ metadata: Metadata, _ key: String) -> String? {
    for value in metadata[stringValues: key] { return value }
    return nil
  }

  private static func target(_ method: MethodDescriptor) -> (RequestRecord.API?, String) {
    switch (method.service.fullyQualifiedService, method.method) {
    case ("inference.GRPCInferenceService", "ModelInfer"): (.inferenceGRPC, "infer")
    case ("tensorflow.serving.PredictionService", "Predict"): (.tensorFlowGRPC, "predict")
    case ("tensorflow.serving.PredictionService", "Classify"): (.tensorFlowGRPC, "classify")
    case ("tensorflow.serving.PredictionService", "Regress"): (.tensorFlowGRPC, "regress")
    case ("tensorflow.serving.PredictionService", "MultiInference"): (.tensorFlowGRPC, "multi-inference")
    default: (nil, "")
    }
  }
}
