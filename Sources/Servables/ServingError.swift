/// Why a request, or an operation on a model, failed: a code both protocols have a number for, and a sentence.
public struct ServingError: Error, Sendable, Hashable, CustomStringConvertible {
  /// gRPC's canonical codes, of which HTTP's are made; raw values are gRPC's.
  public enum Code: Int, Sendable, Hashable, CaseIterable {
    case cancelled = 1
    case unknown = 2
    case invalidArgument = 3
    case deadlineExceeded = 4
    case notFound = 5
    case alreadyExists = 6
    case permissionDenied = 7
    case resourceExhausted = 8
    case failedPrecondition = 9
    case aborted = 10
    case outOfRange = 11
    case unimplemented = 12
    case internalError = 13
    case unavailable = 14
    case unauthenticated = 16

    /// The status of HTTP that TensorFlow Serving answers with.
    public var httpStatus: Int {
      switch self {
      case .invalidArgument, .failedPrecondition, .outOfRange: 400
      case .unauthenticated: 401
      case .permissionDenied: 403
      case .notFound: 404
      case .alreadyExists, .aborted: 409
      case .resourceExhausted: 429
      case .cancelled: 499
      case .unimplemented: 501
      case .unavailable: 503
      case .deadlineExceeded: 504
      case .unknown, .internalError: 500
      }
    }
  }

  public let code: Code
  /// What was wrong, and where: of a request, the input's name.
  public let message: String
  /// When trying again makes sense, if the server is too busy now.
  public let retryAfter: Duration?

  public init(_ code: Code, _ message: String, retryAfter: Duration? = nil) {
    (self.code, self.message, self.retryAfter) = (code, message, retryAfter)
  }

  public var description: String { message }
}
