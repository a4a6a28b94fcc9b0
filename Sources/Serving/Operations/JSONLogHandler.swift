import ApusFormats
import Logging

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Writes each event of the log as a line of JSON: `{"time":"…","level":"info","message":"…",…}`, metadata as further members.
public struct JSONLogHandler: LogHandler {
  public var logLevel: Logger.Level
  public var metadata: Logger.Metadata = [:]
  private let label: String
  private let write: @Sendable (String) -> Void

  /// - Parameter write: takes whole lines, their ends included; standard error is the default. One line is one write, so lines of
  ///   several threads do not mix.
  public init(label: String, level: Logger.Level = .info, write: @escaping @Sendable (String) -> Void = Self.standardError) {
    (self.label, logLevel, self.write) = (label, level, write)
  }

  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    var line: JSONObject = [
      "time": .string(Self.timestamp(microseconds: wallMicroseconds())), "level": .string(event.level.rawValue),
      "logger": .string(label), "message": .string(event.message.description),
    ]
    let all = event.metadata.map { metadata.merging($0) { $1 } } ?? metadata
    for (key, value) in all.sorted(by: { $0.key < $1.key }) where line[key] == nil { line[key] = Self.json(value) }
    if let error = event.error, line["error"] == nil { line["error"] = .string("\(error)") }
    write(JSONValue.object(line).printed() + "\n")
  }

  private static func json(_ value: Logger.MetadataValue) -> JSONValue {
    switch value {
    case .string(let text): return .string(text)
    case .stringConvertible(let value):
      switch value {
      case let number as Int: return .integer(number)
      case let number as Double where number.isFinite: return .number(number)
      case let flag as Bool: return .bool(flag)
      default: return .string(value.description)
      }
    case .array(let values): return .array(values.map(json))
    case .dictionary(let values):
      var object = JSONObject()
      for (key, value) in values.sorted(by: { $0.key < $1.key }) { object[key] = json(value) }
      return .object(object)
    }
  }

  @Sendable public static func standardError(_ line: String) {
    var line = line
    line.withUTF8 { bytes in
      var rest = UnsafeRawBufferPointer(bytes)
      while let base = rest.baseAddress, !rest.isEmpty {
        #if canImport(Glibc)
          let count = Glibc.write(2, base, rest.count)
        #elseif canImport(Musl)
          let count = Musl.write(2, base, rest.count)
        #else
          let count = Darwin.write(2, base, rest.count)
        #endif
        // A log that cannot be written must not stop the server.
        if count < 0 { if errno == EINTR { continue } else { return } }
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
      }
    }
  }

  /// `2026-03-01T12:00:00.123456Z`.
  static func timestamp(microseconds: Int) -> String {
    var seconds = time_t(microseconds / 1_000_000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func padded(_ value: Int, _ width: Int) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }
    let date = [padded(Int(parts.tm_year) + 1900, 4), padded(Int(parts.tm_mon) + 1, 2), padded(Int(parts.tm_mday), 2)]
    let time = [padded(Int(parts.tm_hour), 2), padded(Int(parts.tm_min), 2), padded(Int(parts.tm_sec), 2)]
    return date.joined(separator: "-") + "T" + time.joined(separator: ":") + "." + padded(microseconds % 1_000_000, 6) + "Z"
  }
}
