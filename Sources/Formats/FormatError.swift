/// What is wrong with a file that is read or written: which file, which part of it, and why.
///
/// Every reader in this module throws this error (and no other) for whatever bytes it is given.
/// `description` is one sentence that names the file, the tensor (or other part) and the byte offset where known.
public struct FormatError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The kind of defect, for programs that react to it.
  public enum Kind: String, Sendable, CaseIterable {
    /// The file cannot be opened, read or mapped.
    case cannotRead
    /// The file cannot be created, written, synchronized or renamed.
    case cannotWrite
    /// The bytes end before what they promise.
    case truncated
    /// Bytes follow the end of the content.
    case trailingBytes
    /// The syntax of the file is broken.
    case malformed
    /// Text is not valid UTF-8.
    case invalidUTF8
    /// Values are nested deeper than is accepted.
    case nestingTooDeep
    /// An object has the same key twice.
    case duplicateKey
    /// A size or count is beyond the accepted limit.
    case limitExceeded
    /// A product or sum of sizes does not fit in 64 bits.
    case overflow
    /// A required entry is absent.
    case missing
    /// An entry has the wrong type or value.
    case invalidEntry
    /// A range begins after its end, or is outside the file.
    case invalidRange
    /// Two tensors claim the same bytes.
    case overlap
    /// Bytes between tensors belong to no tensor.
    case hole
    /// Shape and element type ask for another number of bytes than the file has.
    case sizeMismatch
    /// The element type (or compression method …) is not one of the format's.
    case unknownType
    /// The format has this type or feature, Apus does not read it.
    case unsupported
    /// A path leads outside the folder it must stay in.
    case unsafePath
    /// A checksum does not match the content.
    case checksumMismatch
  }

  /// The kind of defect.
  public var kind: Kind
  /// The file's path, or a word for bytes that come from no file.
  public var file: String
  /// The tensor (or other named part) concerned.
  public var part: String?
  /// The byte offset in the file at which the defect was noticed.
  public var offset: Int?
  /// What is wrong, in words.
  public var message: String

  /// Creates an error.
  public init(_ kind: Kind, file: String, part: String? = nil, offset: Int? = nil, _ message: String) {
    (self.kind, self.file, self.part, self.offset, self.message) = (kind, file, part, offset, message)
  }

  public var description: String {
    var text = file
    if let part { text += ", '\(Self.excerpt(part))'" }
    if let offset { text += ", at byte \(offset)" }
    return text + ": " + message
  }

  /// A name from a hostile file may be megabytes long or contain control characters; messages show a tame excerpt.
  package static func excerpt(_ text: String) -> String {
    var result = ""
    var count = 0
    for scalar in text.unicodeScalars {
      if count == 120 { return result + "…" }
      if scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        result.unicodeScalars.append(scalar)
      }
      count += 1
    }
    return result
  }
}
