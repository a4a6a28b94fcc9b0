import ApusFormats
import ApusServables

/// The bearer tokens that a server accepts (RFC 6750). Only their SHA-256 hashes are kept.
public struct AccessTokens: Sendable {
  private let digests: [[UInt8]]

  /// - Parameter tokens: the tokens themselves.
  public init(_ tokens: some Sequence<String>) { digests = tokens.map { Self.digest($0.utf8) } }

  /// Reads a file with one token a line; empty lines and those that begin with `#` are left out.
  /// - Throws: ``ServingError`` if the file cannot be read or has no token.
  public init(file: String) throws(ServingError) {
    let text: String
    do throws(FormatError) { text = String(decoding: try FileBytes(mapping: file).bytes, as: UTF8.self) } catch {
      throw ServingError(.invalidArgument, "the file of tokens cannot be read: \(error.description)")
    }
    let tokens = text.split(whereSeparator: \.isNewline).map { $0.trimmed }.filter { !$0.isEmpty && !$0.hasPrefix("#") }
    guard !tokens.isEmpty else {
      throw ServingError(.invalidArgument, "the file of tokens '\(FormatError.excerpt(file))' has none")
    }
    self.init(tokens)
  }

  /// Whether an `Authorization` field has one of the tokens. Takes the same time whichever token it is, and wherever it differs.
  public func accepts(authorization field: String?) -> Bool {
    guard let field, field.utf8.count <= 8_192 else { return false }
    let parts = field.split(separator: " ", maxSplits: 1)
    guard parts.count == 2, parts[0].lowercased() == "bearer" else { return false }
    let digest = Self.digest(parts[1].trimmed.utf8)
    var isKnown = false
    for known in digests {
      var difference: UInt8 = 0
      for i in known.indices { difference |= known[i] ^ digest[i] }
      isKnown = isKnown || difference == 0
    }
    return isKnown
  }

  private static func digest(_ token: some Sequence<UInt8>) -> [UInt8] {
    Array([UInt8](token).withUnsafeBytes { SHA256.hexDigest($0) }.utf8)
  }
}

extension StringProtocol {
  /// Without spaces at its ends.
  fileprivate var trimmed: String {
    var part = self[...]
    while let first = part.first, first == " " || first == "\t" { part.removeFirst() }
    while let last = part.last, last == " " || last == "\t" { part.removeLast() }
    return String(part)
  }
}
