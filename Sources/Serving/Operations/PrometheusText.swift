/// Writes metrics in Prometheus' text format, version 0.0.4: families in order, each with its `HELP` and `TYPE` once.
struct PrometheusText {
  enum Kind: String { case counter, gauge, histogram, summary }

  private(set) var text = ""
  private var families: Set<String> = []

  /// One family; its samples are added by `body`. A family without samples is left out.
  mutating func family(_ name: String, _ kind: Kind, _ help: String, _ body: (inout Samples) -> Void) {
    precondition(families.insert(name).inserted, "the family \(name) twice")
    var samples = Samples(name: name)
    body(&samples)
    guard !samples.text.isEmpty else { return }
    text += "# HELP \(name) \(Self.escaped(help, quotes: false))\n# TYPE \(name) \(kind.rawValue)\n"
    text += samples.text
  }

  struct Samples {
    let name: String
    fileprivate(set) var text = ""

    fileprivate init(name: String) { self.name = name }

    mutating func add(_ labels: [(String, String)] = [], _ value: Int) { line("", labels, String(value)) }
    mutating func add(_ labels: [(String, String)] = [], _ value: Double) { line("", labels, PrometheusText.number(value)) }

    /// - Parameter counts: of each bucket by itself, one more than bounds.
    mutating func add(_ labels: [(String, String)], bounds: [Double], counts: [Int], sum: Double) {
      var total = 0
      for (i, count) in counts.enumerated() {
        total += count
        line("_bucket", labels + [("le", i < bounds.count ? PrometheusText.number(bounds[i]) : "+Inf")], String(total))
      }
      line("_sum", labels, PrometheusText.number(sum))
      line("_count", labels, String(total))
    }

    mutating func add(_ labels: [(String, String)], count: Int, sum: Double) {
      line("_sum", labels, PrometheusText.number(sum))
      line("_count", labels, String(count))
    }

    private mutating func line(_ suffix: String, _ labels: [(String, String)], _ value: String) {
      text += name
      text += suffix
      if !labels.isEmpty {
        text += "{"
        for (i, (key, value)) in labels.enumerated() {
          if i > 0 { text += "," }
          text += key + "=\"" + PrometheusText.escaped(value, quotes: true) + "\""
        }
        text += "}"
      }
      text += " " + value + "\n"
    }
  }

  static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if let whole = Int(exactly: value), abs(whole) < 1 << 53 { return String(whole) }
    return String(describing: value)
  }

  /// Backslashes and line feeds, and in values of labels quotation marks.
  static func escaped(_ text: String, quotes: Bool) -> String {
    guard text.utf8.contains(where: { $0 == UInt8(ascii: "\\") || $0 == 10 || $0 == UInt8(ascii: "\"") }) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\"" where quotes: result += "\\\""
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
