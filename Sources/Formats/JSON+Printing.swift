extension JSONValue {
  /// The value as text: on one line without spaces, or indented by two spaces per level.
  package func printed(indented: Bool = false) -> String {
    var text = ""
    write(to: &text, indentation: indented ? 0 : nil)
    return text
  }

  private func write(to text: inout String, indentation: Int?) {
    switch self {
    case .null: text += "null"
    case .bool(let value): text += value ? "true" : "false"
    case .integer(let value): text += String(value)
    case .number(let value):
      precondition(value.isFinite, "JSON has no way to write \(value)")
      text += String(describing: value)
    case .string(let value): Self.write(string: value, to: &text)
    case .array(let elements):
      Self.list(elements, "[", "]", to: &text, indentation: indentation) { element, text, inner in
        element.write(to: &text, indentation: inner)
      }
    case .object(let object):
      Self.list(object.keys, "{", "}", to: &text, indentation: indentation) { key, text, inner in
        Self.write(string: key, to: &text)
        text += inner == nil ? ":" : ": "
        object[key]!.write(to: &text, indentation: inner)
      }
    }
  }

  private static func list<Item>(
    _ items: [Item], _ opening: String, _ closing: String, to text: inout String, indentation: Int?,
    _ body: (Item, inout String, Int?) -> Void
  ) {
    let inner = indentation.map { $0 + 1 }
    text += opening
    for (position, item) in items.enumerated() {
      if position > 0 { text += "," }
      if let inner { text += "\n" + String(repeating: "  ", count: inner) }
      body(item, &text, inner)
    }
    if let indentation, !items.isEmpty { text += "\n" + String(repeating: "  ", count: indentation) }
    text += closing
  }

  /// Escapes what RFC 8259 demands and nothing else, with the short forms where there is one.
  private static func write(string: String, to text: inout String) {
    text += "\""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\u{8}": text += "\\b"
      case "\u{c}": text += "\\f"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case "\0"..."\u{1f}":
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }
}
