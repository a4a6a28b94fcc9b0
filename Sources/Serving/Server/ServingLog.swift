import ApusFormats
import Logging

/// What a server says of itself, on standard error.
public struct ServingLog: Sendable {
  public static let levels = Logger.Level.allCases.map(\.rawValue)

  public let logger: Logger

  /// - Parameter level: one of ``levels``.
  public init(level: String, isJSON: Bool) {
    let level = Logger.Level(rawValue: level) ?? .info
    var logger = Logger(label: "apus.serving") { label in
      if isJSON { JSONLogHandler(label: label, level: level) } else { StreamLogHandler.standardError(label: label) }
    }
    logger.logLevel = level
    self.logger = logger
  }

  public func notice(_ message: String) { logger.notice("\(message)") }
  public func warning(_ message: String) { logger.warning("\(message)") }
  public func error(_ message: String) { logger.error("\(message)") }

  /// Replaces a file by a text, or says why not.
  public func write(_ text: String, to path: String) {
    do throws(FormatError) {
      let file = try AtomicFile(path)
      try file.write(text)
      try file.commit()
    } catch {
      logger.error("\(error.description)")
    }
  }
}
