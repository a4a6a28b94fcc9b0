import ApusFormats
import ApusServables
import Hummingbird

/// Responses that all handlers give in one way.
enum Answer {
  static func json(_ bytes: ByteBuffer, status: HTTPResponse.Status = .ok) -> Response {
    Response(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: bytes))
  }

  static func json(_ value: JSONValue, status: HTTPResponse.Status = .ok, indented: Bool = false) -> Response {
    json(ByteBuffer(string: value.printed(indented: indented)), status: status)
  }

  /// `{"error": "…"}`, in both protocols.
  static func error(_ error: ServingError) -> Response {
    var text = JSONWriter(.indented)
    text.beginObject()
    text.key("error")
    text.string(error.message)
    text.endObject()
    var response = json(text.buffer, status: .init(code: error.code.httpStatus))
    if let wait = error.retryAfter {
      response.headers[.retryAfter] = "\(max(1, Int((Double(wait.nanoseconds) / 1e9).rounded(.up))))"
    }
    return response
  }
}
