import ApusData
import ApusFormats

/// Sends the values of every epoch to a server, by HTTP POST: Keras's `RemoteMonitor`. A server that does not answer is a warning.
public final class RemoteMonitor: Callback {
  private let url: String
  private let field: String
  private let headers: [String: String]
  private let sendAsJSON: Bool
  private let timeout: Double

  /// - Parameters:
  ///   - root, path: the address.
  ///   - field: the field of the form that holds the JSON object.
  ///   - sendAsJSON: send the object itself instead of a form.
  ///   - timeout: seconds that training waits for the server at most.
  public init(
    root: String = "http://localhost:9000", path: String = "/publish/epoch/end/", field: String = "data",
    headers: [String: String] = [:], sendAsJSON: Bool = false, timeout: Double = 10
  ) {
    url = root + path
    (self.field, self.headers, self.sendAsJSON, self.timeout) = (field, headers, sendAsJSON, timeout)
  }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) {
    var object: JSONObject = ["epoch": .integer(epoch)]
    for (name, value) in logs.sorted(by: { $0.key < $1.key }) { object[name] = value.isFinite ? .number(value) : .null }
    let text = JSONValue.object(object).printed()
    let body = sendAsJSON ? text : Self.formEncoded(field) + "=" + Self.formEncoded(text)
    var headers = headers
    if headers["Content-Type"] == nil {
      headers["Content-Type"] = sendAsJSON ? "application/json" : "application/x-www-form-urlencoded"
    }
    if let reason = post(Array(body.utf8), to: url, headers: headers, timeout: timeout) {
      trainer.warn("RemoteMonitor: \(url) took nothing: \(reason)")
    }
  }

  /// A text as a value of a form (the URL standard's `application/x-www-form-urlencoded`).
  static func formEncoded(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: " "): result += "+"
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
        UInt8(ascii: "*"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
        result.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        let digits = String(byte, radix: 16, uppercase: true)
        result += "%" + (digits.count == 1 ? "0" : "") + digits
      }
    }
    return result
  }
}
