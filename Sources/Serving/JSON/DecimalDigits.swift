#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// How numbers with fractions are printed.
enum JSONNumberStyle: Sendable {
  /// As TensorFlow Serving does: six significant digits if they stand for the same number, else as many as always do (9 for
  /// float32, 17 for float64); exponents from 1e6 (or those digits) on and below 1e-4.
  case sixDigits
  /// As few digits as stand for the same number (not fewer than 6 of float32's and 15 of float64's subnormal numbers).
  case shortest
}

/// Prints floating-point numbers in decimal. A number's digits come from exact integer arithmetic, so that they are those of `%.9g`.
enum DecimalDigits {
  /// The most bytes that ``write`` needs.
  static let maxLength = 28

  /// Writes a number that was a float16 or bfloat16 before it was widened: six digits tell all those apart.
  static func write(half value: Float, to target: UnsafeMutablePointer<UInt8>) -> Int {
    let (mantissa, exponent, isLowest) = value.parts
    guard value.isFinite, value != 0, var digits = Digits(mantissa, exponent, count: Float.digits) else {
      return write(value, .sixDigits, to: target)
    }
    _ = digits.shorten(to: 6, mantissa, isLowest, always: true)
    target[0] = UInt8(ascii: "-")
    let position = value < 0 ? 1 : 0
    return position + digits.write(.sixDigits, target + position)
  }

  /// Writes a number and returns the number of bytes. Whole numbers get `.0`; what is not finite is `NaN`, `Infinity`, `-Infinity`.
  @inline(__always)
  static func write<T: PrintedFloat>(_ value: T, _ style: JSONNumberStyle, to target: UnsafeMutablePointer<UInt8>) -> Int {
    guard value.isFinite else { return text(value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity", target) }
    var position = 0
    if value.sign == .minus {
      target[0] = UInt8(ascii: "-")
      position = 1
    }
    if value == 0 { return position + text("0.0", target + position) }
    let (mantissa, exponent, isLowest) = value.parts
    // Most outputs that are whole are small.
    if exponent <= 0, exponent > -64, mantissa & ((1 << UInt64(-exponent)) - 1) == 0, mantissa >> UInt64(-exponent) < 1_000_000 {
      position += integer(mantissa >> UInt64(-exponent), target + position)
      return position + text(".0", target + position)
    }
    guard var digits = Digits(mantissa, exponent, count: T.digits) else {
      return position + slow(value.magnitude, style, target + position)
    }
    switch style {
    case .sixDigits: if !digits.shorten(to: 6, mantissa, isLowest) { digits.round() }
    case .shortest:
      if !(T.shortDigits.contains { digits.shorten(to: $0, mantissa, isLowest) }) { digits.round() }
    }
    return position + digits.write(style, target + position)
  }

  /// A number's first significant digits, and what lies below them.
  struct Digits {
    /// `count` digits, cut off.
    var value: UInt64
    var count: Int
    /// The power of ten of the first digit.
    var exponent: Int
    /// What was cut off, and one unit of the last digit, in the same parts.
    private var rest: UInt128
    private var unit: UInt128
    /// The distance between neighbouring numbers of the type, in these parts.
    private var gap: UInt128

    /// The digits of mantissa · 2^exponent, or nil if that is too small or too large for exact arithmetic in 128 bits.
    @inline(__always)
    init?(_ mantissa: UInt64, _ binary: Int, count: Int) {
      let bits = 64 - mantissa.leadingZeroBitCount
      // The power of ten may be this or one more.
      var decimal = ((bits - 1 + binary) * 78_913) >> 18
      while true {
        let scale = count - 1 - decimal
        if scale >= 0 {
          // mantissa · 10^scale · 2^binary = (mantissa · 5^scale) · 2^-shift
          guard scale < DecimalDigits.fives.count else { return nil }
          var five = DecimalDigits.fives[scale]
          guard bits + 128 - five.leadingZeroBitCount <= 128 else { return nil }
          var product = UInt128(mantissa) &* five
          var shift = -(binary + scale)
          if shift < 0 {
            product <<= UInt128(-shift)
            five <<= UInt128(-shift)
            shift = 0
          }
          guard shift < 127 else { return nil }
          value = UInt64(truncatingIfNeeded: product >> UInt128(shift))
          unit = 1 << UInt128(shift)
          rest = product & (unit &- 1)
          gap = five
        } else {
          guard bits + binary <= 127, -scale < DecimalDigits.fives.count, binary >= 0 else { return nil }
          let power = DecimalDigits.fives[-scale] << UInt128(-scale)
          let (quotient, remainder) = (UInt128(mantissa) << UInt128(binary)).quotientAndRemainder(dividingBy: power)
          value = UInt64(truncatingIfNeeded: quotient)
          unit = power
          rest = remainder
          gap = 1 << UInt128(binary)
        }
        if value < DecimalDigits.tens[count] { break }
        decimal += 1
      }
      (self.count, self.exponent) = (count, decimal)
    }

    /// Rounds to fewer digits if the result still stands for the same number of the type, or in any case.
    @inline(__always)
    mutating func shorten(to fewer: Int, _ mantissa: UInt64, _ isLowest: Bool, always: Bool = false) -> Bool {
      let divisor = DecimalDigits.tens[count - fewer]
      var (short, cut) = value.quotientAndRemainder(dividingBy: divisor)
      let half = divisor / 2
      let isUp = cut > half || (cut == half && (rest > 0 || short & 1 == 1))
      // The distance that rounding moves it, in parts.
      let below = UInt128(cut) &* unit &+ rest
      let distance = isUp ? UInt128(divisor) &* unit &- below : below
      // Numbers within half a gap are read as this one, and those at half of it if its mantissa is even; the gap below a power of two
      // is half as large.
      if always {
        // Whatever it stands for.
      } else if isLowest && !isUp {
        guard distance &* 4 <= gap else { return false }
      } else {
        guard distance &* 2 < gap || (distance &* 2 == gap && mantissa & 1 == 0) else { return false }
      }
      if isUp { short += 1 }
      (value, count, rest) = (short, fewer, 0)
      carry()
      return true
    }

    /// Rounds what is below the last digit, halves to even.
    @inline(__always)
    mutating func round() {
      if rest > unit &- rest || (rest == unit &- rest && value & 1 == 1) {
        value += 1
        carry()
      }
      rest = 0
    }

    @inline(__always)
    private mutating func carry() {
      if value == DecimalDigits.tens[count] {
        value = DecimalDigits.tens[count - 1]
        exponent += 1
      }
    }

    /// Writes it as `%g` does, with `.0` after whole numbers.
    func write(_ style: JSONNumberStyle, _ target: UnsafeMutablePointer<UInt8>) -> Int {
      let precision = style == .sixDigits ? count : 16
      var value = value
      var kept = count
      while value % 10 == 0 {
        value /= 10
        kept -= 1
      }
      if exponent < -4 || exponent >= precision {
        // d.ddde-05
        DecimalDigits.write(value, kept, target + 1)
        target[0] = target[1]
        target[1] = UInt8(ascii: ".")
        var position = kept == 1 ? 1 : kept + 1
        target[position] = UInt8(ascii: "e")
        target[position + 1] = UInt8(ascii: exponent < 0 ? "-" : "+")
        position += 2
        let size = UInt64(exponent.magnitude)
        if size < 10 {
          target[position] = UInt8(ascii: "0")
          position += 1
        }
        return position + DecimalDigits.integer(size, target + position)
      }
      if exponent < 0 {
        // 0.000ddd
        let zeros = -1 - exponent
        for i in 0..<zeros + 2 { target[i] = UInt8(ascii: "0") }
        target[1] = UInt8(ascii: ".")
        DecimalDigits.write(value, kept, target + zeros + 2)
        return zeros + 2 + kept
      }
      let whole = exponent + 1
      if kept <= whole {
        // ddd000.0
        DecimalDigits.write(value, kept, target)
        for i in kept..<whole { target[i] = UInt8(ascii: "0") }
        return whole + DecimalDigits.text(".0", target + whole)
      }
      // ddd.ddd
      DecimalDigits.write(value, kept, target + 1)
      for i in 0..<whole { target[i] = target[i + 1] }
      target[whole] = UInt8(ascii: ".")
      return kept + 1
    }
  }

  /// Writes all digits of a number that has `count`.
  @inline(__always)
  static func write(_ value: UInt64, _ count: Int, _ target: UnsafeMutablePointer<UInt8>) {
    var (rest, i) = (value, count)
    while i > 1 {
      let (quotient, pair) = rest.quotientAndRemainder(dividingBy: 100)
      i -= 2
      target[i] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: pair / 10)
      target[i + 1] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: pair % 10)
      rest = quotient
    }
    if i == 1 { target[0] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest) }
  }

  /// Writes an integer and returns the number of digits.
  @inline(__always)
  static func integer(_ value: UInt64, _ target: UnsafeMutablePointer<UInt8>) -> Int {
    var count = 1
    while count < 20, value >= tens[count] { count += 1 }
    write(value, count, target)
    return count
  }

  static func text(_ text: StaticString, _ target: UnsafeMutablePointer<UInt8>) -> Int {
    target.update(from: text.utf8Start, count: text.utf8CodeUnitCount)
    return text.utf8CodeUnitCount
  }

  /// Very large and very small numbers, by the C library.
  @inline(never)
  private static func slow<T: PrintedFloat>(_ value: T, _ style: JSONNumberStyle, _ target: UnsafeMutablePointer<UInt8>) -> Int {
    let double = value.asDouble
    func printed(_ digits: Int) -> String {
      withVaList([double]) { list in
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 40) { buffer in
          vsnprintf(buffer.baseAddress!, 40, "%.\(digits)g", list)
          return String(cString: buffer.baseAddress!)
        }
      }
    }
    var result = ""
    for digits in (style == .sixDigits ? [6] : T.shortDigits) + [T.digits] {
      result = printed(digits)
      if T(result) == value { break }
    }
    if !result.utf8.contains(UInt8(ascii: ".")), !result.utf8.contains(UInt8(ascii: "e")) { result += ".0" }
    var count = 0
    for byte in result.utf8 {
      target[count] = byte
      count += 1
    }
    return count
  }

  /// 10^0 to 10^19.
  static let tens: InlineArray<20, UInt64> = InlineArray { i in
    var result: UInt64 = 1
    for _ in 0..<i { result *= 10 }
    return result
  }
  /// 5^0 to 5^45.
  static let fives: InlineArray<46, UInt128> = InlineArray { i in
    var result: UInt128 = 1
    for _ in 0..<i { result *= 5 }
    return result
  }
}

/// A type whose numbers are printed.
protocol PrintedFloat: BinaryFloatingPoint, LosslessStringConvertible {
  /// Significant digits that tell all numbers apart.
  static var digits: Int { get }
  /// Fewer digits that may do.
  static var shortDigits: [Int] { get }
  /// The magnitude as mantissa · 2^exponent, and whether the number below is nearer than the one above.
  var parts: (mantissa: UInt64, exponent: Int, isLowest: Bool) { get }
  var asDouble: Double { get }
}

extension Float: PrintedFloat {
  static var digits: Int { 9 }
  static let shortDigits = [6, 7, 8]
  @inline(__always) var parts: (mantissa: UInt64, exponent: Int, isLowest: Bool) {
    let field = Int((bitPattern >> 23) & 0xff)
    let fraction = UInt64(bitPattern & 0x7f_ffff)
    return field == 0 ? (fraction, -149, false) : (fraction | 0x80_0000, field - 150, fraction == 0 && field > 1)
  }
  var asDouble: Double { Double(self) }
}

extension Double: PrintedFloat {
  static var digits: Int { 17 }
  static let shortDigits = [15, 16]
  @inline(__always) var parts: (mantissa: UInt64, exponent: Int, isLowest: Bool) {
    let field = Int((bitPattern >> 52) & 0x7ff)
    let fraction = bitPattern & 0xf_ffff_ffff_ffff
    return field == 0 ? (fraction, -1074, false) : (fraction | 1 << 52, field - 1075, fraction == 0 && field > 1)
  }
  var asDouble: Double { self }
}
