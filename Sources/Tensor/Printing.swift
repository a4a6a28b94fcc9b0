#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// How tensors are printed.
struct PrintStyle {
  /// Digits after the point.
  var precision = 4
  /// Above so many elements only the ends of each dimension are shown.
  var threshold = 1000
  /// How many elements of each end.
  var edgeItems = 3
  var lineWidth = 75
}

extension Tensor: CustomStringConvertible, CustomDebugStringConvertible {
  /// Values in aligned columns, then shape and element type; the middle of large tensors is left out.
  public var description: String { description(PrintStyle()) }

  public var debugDescription: String { description + (isTracked ? " (tracked)" : "") }

  func description(_ style: PrintStyle) -> String {
    guard handle.array.storage != nil else { return "Tensor(traced, shape: \(shape), \(elementType))" }
    let prefix = "Tensor("
    let values = valueText(style, indent: String(repeating: " ", count: prefix.count))
    return "\(prefix)\(values), shape: \(shape), \(elementType))"
  }

  /// The values alone; lines after the first begin with `indent`.
  private func valueText(_ style: PrintStyle, indent: String) -> String {
    if count == 0 { return "[]" }
    let summarized = count > style.threshold
    let shown = summarized ? edges(style.edgeItems) : self
    let texts = shown.elementTexts(style.precision)
    let layout = Layout(shape: shape, shown: shown.shape, texts: texts, style: style)
    return layout.text(0, 0, indent, style.lineWidth)
  }

  /// The first and last `n` elements of each dimension that has more than 2n.
  private func edges(_ n: Int) -> Tensor {
    withoutGradient {
      var result = detached()
      for axis in 0..<rank where shape[axis] > 2 * n {
        let ends = [result.sliced(axis: axis, start: 0, count: n), result.sliced(axis: axis, start: shape[axis] - n, count: n)]
        result = concatenate(ends, axis: axis)
      }
      return result
    }
  }

  /// Every element as text, all of one width.
  private func elementTexts(_ precision: Int) -> [String] {
    let texts: [String]
    if elementType == .bool {
      texts = elements(as: Bool.self).map { $0 ? "true" : "false" }
    } else if elementType.isInteger {
      texts = elements(as: Int64.self).map(String.init)
    } else {
      texts = FloatFormat(elements(as: Double.self), elementType, precision).texts
    }
    let width = texts.map(\.count).max() ?? 0
    return rank == 0 ? texts : texts.map { String(repeating: " ", count: width - $0.count) + $0 }
  }
}

/// Brackets, commas and line breaks: NumPy's layout.
private struct Layout {
  let shape, shown: Shape
  let texts: [String]
  let style: PrintStyle

  /// The part at `offset` (in shown elements) from dimension `axis` on.
  func text(_ axis: Int, _ offset: Int, _ indent: String, _ width: Int) -> String {
    if axis == shape.count { return texts[offset] }
    let hanging = indent + " "
    let inner = shown[(axis + 1)...].reduce(1, *)
    let isSummarized = shown[axis] < shape[axis]
    var result = ""
    if axis == shape.count - 1 {
      var line = hanging
      func extend(_ word: String) {
        if line.count + word.count > width - 1 && line.count > hanging.count {
          while line.last == " " { line.removeLast() }
          result += line + "\n"
          line = hanging
        }
        line += word
      }
      for i in 0..<shown[axis] {
        if isSummarized && i == style.edgeItems {
          extend("...")
          line += ", "
        }
        extend(texts[offset + i])
        if i < shown[axis] - 1 { line += ", " }
      }
      result += line
    } else {
      let separator = "," + String(repeating: "\n", count: shape.count - axis - 1)
      for i in 0..<shown[axis] {
        if isSummarized && i == style.edgeItems { result += hanging + "..." + separator }
        result += hanging + text(axis + 1, offset + i * inner, hanging, width - 1)
        if i < shown[axis] - 1 { result += separator }
      }
    }
    return "[" + result.dropFirst(hanging.count) + "]"
  }
}

/// Numbers with a fraction in one form: as many digits as the one that needs most, up to a limit.
///
/// Which form, and how many digits, as NumPy decides: the shortest digits that tell a number from its neighbours,
/// cut off (rounded) at the precision.
private struct FloatFormat {
  private(set) var texts: [String]

  init(_ values: [Double], _ type: ElementType, _ precision: Int) {
    let magnitudes = values.filter { $0.isFinite && $0 != 0 }.map { Swift.abs($0) }
    let (greatest, least) = (magnitudes.max() ?? 0, magnitudes.min() ?? 1)
    let cutoff = type == .float64 ? 1e8 : type == .float32 ? 1e6 : 1e3
    let isScientific = !magnitudes.isEmpty && (greatest >= cutoff || least < 1e-4 || greatest / least > 1000)
    let finite = values.filter(\.isFinite)
    if isScientific {
      let digits = finite.map { Swift.min(precision, shortestDigits($0, type) - 1) }
      let common = Swift.max(1, digits.max() ?? 1)
      let exponent = finite.map { format("%.*e", 0, $0).drop { $0 != "e" }.count - 2 }.max() ?? 2
      texts = values.map { $0.isFinite ? Self.scientific($0, common, shortestDigits($0, type), exponent) : Self.special($0) }
    } else {
      let digits = finite.map { Swift.min(precision, fractionDigits($0, type)) }
      let common = Swift.max(1, Self.needed(finite, digits))
      texts = values.map { value in
        guard value.isFinite else { return Self.special(value) }
        let own = Swift.min(common, fractionDigits(value, type))
        return padded(format("%.*f", own, value), common)
      }
    }
  }

  /// Digits after the point without zeros at the end, of the number that has most.
  private static func needed(_ values: [Double], _ digits: [Int]) -> Int {
    var most = 0
    for (value, count) in zip(values, digits) where count > most {
      let text = format("%.*f", count, value)
      let fraction = text.drop { $0 != "." }.dropFirst()
      most = Swift.max(most, fraction.count - fraction.reversed().prefix { $0 == "0" }.count)
    }
    return most
  }

  private static func scientific(_ value: Double, _ digits: Int, _ shortest: Int, _ exponentDigits: Int) -> String {
    let parts = format("%.*e", Swift.min(digits, shortest - 1), value).split(separator: "e")
    let zeros = String(repeating: "0", count: exponentDigits - (parts[1].count - 1))
    return "\(padded(String(parts[0]), digits))e\(parts[1].first!)\(zeros)\(parts[1].dropFirst())"
  }

  private static func special(_ value: Double) -> String { value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
}

/// With zeros added until there are `digits` after the point.
private func padded(_ number: String, _ digits: Int) -> String {
  let fraction = number.drop { $0 != "." }.dropFirst().count
  if fraction >= digits { return number }
  return number + (fraction == 0 && !number.contains(".") ? "." : "") + String(repeating: "0", count: digits - fraction)
}

/// C's printf of one number with a precision.
private func format(_ pattern: String, _ precision: Int, _ value: Double) -> String {
  withVaList([Int32(precision), value]) { arguments in
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 400) { buffer in
      let length = Int(vsnprintf(buffer.baseAddress!, buffer.count, pattern, arguments))
      return String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
  }
}

/// How many significant digits tell a number of this type from its neighbours.
private func shortestDigits(_ value: Double, _ type: ElementType) -> Int {
  if value == 0 { return 1 }
  let most = type == .float64 ? 17 : type == .float32 ? 9 : 5
  for digits in 1..<most where isSame(Double(format("%.*e", digits - 1, value)) ?? .nan, value, type) { return digits }
  return most
}

/// How many digits after the point its shortest digits have.
private func fractionDigits(_ value: Double, _ type: ElementType) -> Int {
  if value == 0 { return 0 }
  let digits = shortestDigits(value, type)
  let text = format("%.*e", digits - 1, value)
  let exponent = Int(text[text.index(after: text.firstIndex(of: "e")!)...]) ?? 0
  return Swift.max(0, digits - 1 - exponent)
}

/// Whether the nearest number of the type to `candidate` is `value`, which is of the type.
private func isSame(_ candidate: Double, _ value: Double, _ type: ElementType) -> Bool {
  switch type {
  case .float64: return candidate == value
  case .float32: return Float(candidate) == Float(value)
  default:
    // Significand bits after the first, and the least exponent.
    let (bits, least) = type == .bfloat16 ? (7, -126) : (10, -14)
    let exponent = Swift.max(Int(value.exponent), least)
    return Swift.abs(candidate - value) < scalbn(1, exponent - bits) / 2
  }
}

extension Tensor: CustomReflectable, CustomPlaygroundDisplayConvertible {
  /// What a debugger shows.
  public var customMirror: Mirror {
    let hasValues = handle.array.storage != nil
    return Mirror(
      self,
      children: [
        "shape": Array(shape), "elementType": elementType,
        "values": hasValues ? valueText(PrintStyle(), indent: "") : "traced",
      ] as KeyValuePairs<String, Any>, displayStyle: .struct)
  }

  public var playgroundDescription: Any { description }
}

/// A number with so many digits after the point, for tables and messages; `null` if it is not finite.
package func decimals(_ value: Double, _ places: Int) -> String {
  guard value.isFinite else { return "null" }
  let scale = (0..<places).reduce(1.0) { scale, _ in scale * 10 }
  let rounded = (abs(value) * scale).rounded()
  guard rounded < 9e15 else { return "\(value)" }
  let whole = Int(rounded) / Int(scale)
  let part = String(Int(rounded) % Int(scale))
  let sign = value < 0 && rounded != 0 ? "-" : ""
  if places == 0 { return "\(sign)\(whole)" }
  return "\(sign)\(whole).\(String(repeating: "0", count: places - part.count))\(part)"
}
