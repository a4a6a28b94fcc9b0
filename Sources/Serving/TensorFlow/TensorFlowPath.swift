import ApusServables
import Hummingbird

/// What a request of TensorFlow Serving's REST API is for: `/v1/models/NAME[/versions/N|/labels/L][:VERB|/metadata]`.
struct TensorFlowPath: Equatable {
  enum Subject: Equatable {
    case predict, classify, regress
    case status, metadata
  }

  var subject: Subject
  /// Empty in `GET /v1/models`.
  var model: String
  var version: VersionChoice

  /// Reads a path. Its words match without regard to case; the model's name and the label are percent-decoded.
  /// - Throws: ``ServingError``, `invalidArgument`, with TensorFlow Serving's texts.
  init(_ method: HTTPRequest.Method, _ path: String) throws(ServingError) {
    func malformed() -> ServingError { ServingError(.invalidArgument, "Malformed request: \(method.rawValue) \(path)") }
    var parts = path.split(separator: "/", omittingEmptySubsequences: false)[...]
    guard parts.popFirst() == "", parts.popFirst()?.lowercased() == "v1", let models = parts.popFirst() else { throw malformed() }
    switch method {
    case .post:
      guard models.lowercased() == "models", var last = parts.popLast(), let colon = last.lastIndex(of: ":") else {
        throw malformed()
      }
      switch last[last.index(after: colon)...].lowercased() {
      case "predict": subject = .predict
      case "classify": subject = .classify
      case "regress": subject = .regress
      default: throw malformed()
      }
      last = last[..<colon]
      parts.append(last)
    case .get:
      guard models.lowercased() == "models" else { throw malformed() }
      subject = .status
      if parts.count > 1, parts.last?.lowercased() == "metadata" {
        subject = .metadata
        parts.removeLast()
      }
    default: throw malformed()
    }
    guard !parts.contains(where: { $0.isEmpty || $0.contains(":") }) else { throw malformed() }
    version = .latest
    guard let name = parts.popFirst() else {
      guard method == .get else { throw malformed() }
      model = ""
      return
    }
    guard let decoded = Self.decoded(name) else {
      throw ServingError(.invalidArgument, "Failed to decode model name:\(name)")
    }
    model = decoded
    guard let kind = parts.popFirst() else { return }
    guard let value = parts.popFirst(), parts.isEmpty else { throw malformed() }
    switch kind.lowercased() {
    case "versions":
      guard value.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { throw malformed() }
      guard let number = Int(value) else {
        throw ServingError(.invalidArgument, "Failed to convert version: \(value) to numeric.")
      }
      version = .number(number)
    case "labels":
      guard let label = Self.decoded(value) else {
        throw ServingError(.invalidArgument, "Failed to decode model version label:\(value)")
      }
      version = .label(label)
    default: throw malformed()
    }
  }

  /// Percent-decoded text, or nil if that is not UTF-8. A `%` that no two hexadecimal digits follow stands for itself.
  static func decoded(_ text: Substring) -> String? {
    guard text.utf8.contains(UInt8(ascii: "%")) else { return String(text) }
    func digit(_ byte: UInt8) -> UInt8? {
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
      default: nil
      }
    }
    let bytes = Array(text.utf8)
    var result: [UInt8] = []
    var i = 0
    while i < bytes.count {
      if bytes[i] == UInt8(ascii: "%"), i + 2 < bytes.count, let high = digit(bytes[i + 1]), let low = digit(bytes[i + 2]) {
        result.append(high << 4 | low)
        i += 3
      } else {
        result.append(bytes[i])
        i += 1
      }
    }
    return String(validating: result, as: UTF8.self)
  }
}
