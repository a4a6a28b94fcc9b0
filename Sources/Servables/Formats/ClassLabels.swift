import ApusFormats

/// Names of classes in a text file, one a line.
enum ClassLabels {
  private static let names = ["labels.txt", "assets/labels.txt"]

  /// The labels in the folder of a version; nil if there are none.
  static func read(in folder: String) throws(ServingError) -> [String]? {
    for name in names where fileKind(folder + "/" + name) == .file { return try read(folder + "/" + name) }
    return nil
  }

  static func read(_ path: String) throws(ServingError) -> [String] {
    let text = try textFile(path, limit: 1 << 24)
    // By bytes: of characters, a line's two ends are one.
    var lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { line in
      String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
    }
    // The end of the last line, not an empty name.
    while lines.last?.isEmpty == true { lines.removeLast() }
    return lines
  }
}

/// A whole text file.
/// - Throws: ``ServingError`` if it cannot be read, is longer than `limit` bytes or no UTF-8.
func textFile(_ path: String, limit: Int) throws(ServingError) -> String {
  let bytes = try FileContents.read(path, limit: limit)
  guard let text = String(validating: bytes, as: UTF8.self) else {
    throw ServingError(.invalidArgument, "'\(FormatError.excerpt(path))' is not valid UTF-8")
  }
  // A mark that some editors write.
  return text.unicodeScalars.first == "\u{feff}" ? String(text.unicodeScalars.dropFirst()) : text
}
