import ApusFormats

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Writes the values of every epoch as a line of a CSV file, byte for byte as Keras's `CSVLogger` does.
public final class CSVLogger: Callback {
  public let filename: String
  private let separator: String
  private let append: Bool
  private var keys: [String]?
  /// Where the next line goes; nil before the first.
  private var offset: Int?

  /// - Parameter append: keep what the file holds, for a run that goes on; else the file is begun anew.
  public init(_ filename: String, separator: String = ",", append: Bool = false) {
    (self.filename, self.separator, self.append) = (filename, separator, append)
  }

  public override func onTrainBegin() { (keys, offset) = (nil, nil) }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) throws {
    let keys = self.keys ?? Self.keys(logs)
    self.keys = keys
    let file = open(filename, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
    guard file >= 0 else { throw TrainingError.unwritable(path: filename, reason: systemMessage(errno)) }
    defer { close(file) }
    let size = Int(lseek(file, 0, SEEK_END))
    let begin = offset ?? (append ? size : 0)
    // Lines of epochs that a killed run had written after its checkpoint are written anew.
    guard ftruncate(file, off_t(begin)) == 0, lseek(file, off_t(begin), SEEK_SET) >= 0 else {
      throw TrainingError.unwritable(path: filename, reason: systemMessage(errno))
    }
    var text = ""
    if begin == 0 { text += row(["epoch"] + keys) }
    text += row(["\(epoch)"] + keys.map { key in logs[key].map(Self.number) ?? "NA" })
    let bytes = Array(text.utf8)
    guard bytes.withUnsafeBytes({ write(file, $0.baseAddress, $0.count) }) == bytes.count else {
      throw TrainingError.unwritable(path: filename, reason: systemMessage(errno))
    }
    offset = begin + bytes.count
  }

  /// As Keras: the names sorted, and `val_` columns even if this epoch was not evaluated.
  static func keys(_ logs: Logs) -> [String] {
    let keys = logs.keys.sorted()
    return keys.contains { $0.hasPrefix("val_") } ? keys : keys + keys.map { "val_" + $0 }
  }

  /// As Python prints it.
  static func number(_ value: Double) -> String { value.isNaN ? "nan" : "\(value)" }

  private func row(_ fields: [String]) -> String {
    fields.map { field in
      let needsQuotes = field.contains { "\"\r\n".contains($0) } || field.contains(separator)
      return needsQuotes
        ? "\"" + field.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\"" : field
    }.joined(separator: separator) + "\r\n"
  }

  public override var state: CallbackState {
    get {
      var state = CallbackState()
      state.numbers["offset"] = offset.map(Double.init)
      for (i, key) in (keys ?? []).enumerated() { state.texts["key \(i)"] = key }
      return state
    }
    set {
      offset = newValue.numbers["offset"].map { Int($0) }
      let found = (0..<newValue.texts.count).compactMap { newValue.texts["key \($0)"] }
      keys = found.isEmpty ? nil : found
    }
  }
}
