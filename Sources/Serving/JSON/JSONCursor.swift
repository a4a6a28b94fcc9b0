import ApusIR
import ApusTensor

/// A place in bytes of JSON: what the inner loops work on.
struct JSONCursor {
  let base: UnsafeRawPointer
  let end: Int
  var index = 0

  init(_ bytes: UnsafeRawBufferPointer) {
    // Nothing is read where there are no bytes.
    base = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1)!
    end = bytes.count
  }

  @inline(__always) subscript(position: Int) -> UInt8 { base.load(fromByteOffset: position, as: UInt8.self) }

  /// The byte here.
  @inline(__always) var byte: UInt8 { self[index] }

  /// The byte here, or 0, which is no part of JSON, at the end.
  @inline(__always) var byteOrZero: UInt8 { index < end ? self[index] : 0 }

  @inline(__always) mutating func skipSpace() {
    while index < end, self[index] <= 0x20 {
      let byte = self[index]
      guard byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 else { return }
      index += 1
    }
  }

  /// Passes over this text if it is here.
  mutating func skip(_ text: StaticString) -> Bool {
    let count = text.utf8CodeUnitCount
    guard end - index >= count else { return false }
    for i in 0..<count where self[index + i] != text.utf8Start[i] { return false }
    index += count
    return true
  }

  /// Passes over decimal digits and adds them to a mantissa, which wraps around when there are too many; the caller counts them.
  @inline(__always) mutating func digits(_ mantissa: inout UInt64) {
    while index + 8 <= end {
      let word = UInt64(littleEndian: base.loadUnaligned(fromByteOffset: index, as: UInt64.self))
      // Eight digits at once: each byte has 3 in its upper half, and still has after 6 is added.
      guard
        (word & 0xf0f0_f0f0_f0f0_f0f0) | ((word &+ 0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0) >> 4 == 0x3333_3333_3333_3333
      else { break }
      var value = ((word & 0x0f0f_0f0f_0f0f_0f0f) &* 2561) >> 8
      value = ((value & 0x00ff_00ff_00ff_00ff) &* 6_553_601) >> 16
      value = ((value & 0x0000_ffff_0000_ffff) &* 42_949_672_960_001) >> 32
      mantissa = mantissa &* 100_000_000 &+ value
      index += 8
    }
    while index < end, case let digit = self[index] &- UInt8(ascii: "0"), digit < 10 {
      mantissa = mantissa &* 10 &+ UInt64(digit)
      index += 1
    }
  }

  /// Reads a number by RFC 8259's grammar.
  @inline(__always) mutating func number() throws(JSONFault) -> JSONNumber {
    var number = JSONNumber()
    number.start = index
    if byteOrZero == UInt8(ascii: "-") {
      number.isNegative = true
      index += 1
    }
    let first = index
    digits(&number.mantissa)
    var count = index - first
    if count == 0 {
      try special(&number)
      return number
    }
    if count > 1, self[first] == UInt8(ascii: "0") { throw .malformed }
    var next = byteOrZero
    if next == UInt8(ascii: ".") {
      number.isInteger = false
      index += 1
      let point = index
      digits(&number.mantissa)
      let fraction = index - point
      guard fraction > 0 else { throw .malformed }
      number.exponent = -fraction
      count += fraction
      next = byteOrZero
    }
    if next | 0x20 == UInt8(ascii: "e") {
      number.isInteger = false
      index += 1
      var isNegative = false
      if byteOrZero == UInt8(ascii: "-") || byteOrZero == UInt8(ascii: "+") {
        isNegative = byte == UInt8(ascii: "-")
        index += 1
      }
      let start = index
      var exponent = 0
      while index < end, case let digit = self[index] &- UInt8(ascii: "0"), digit < 10 {
        if exponent < 100_000 { exponent = exponent * 10 + Int(digit) }
        index += 1
      }
      guard index > start else { throw .malformed }
      number.exponent += isNegative ? -exponent : exponent
    }
    // Nineteen digits fit in the mantissa; zeros in front do not count.
    if count > 19 { number.isExact = significantDigits(from: first) <= 19 }
    return number
  }

  @inline(never)
  private func significantDigits(from start: Int) -> Int {
    var i = start
    while i < index, self[i] == UInt8(ascii: "0") || self[i] == UInt8(ascii: ".") { i += 1 }
    var count = 0
    while i < index, self[i] != UInt8(ascii: "e"), self[i] != UInt8(ascii: "E") {
      if self[i] != UInt8(ascii: ".") { count += 1 }
      i += 1
    }
    return count
  }

  @inline(never)
  private mutating func special(_ number: inout JSONNumber) throws(JSONFault) {
    number.isInteger = false
    if skip("NaN") {
      number.special = number.isNegative ? -Double.nan : .nan
    } else if skip("Infinity") || skip("Inf") {
      number.special = number.isNegative ? -Double.infinity : .infinity
    } else {
      index = number.start
      throw .notNumber
    }
  }
}

/// Why a value is not an element of a type: small, so that the loops that read elements stay so.
enum JSONFault: Error {
  /// It begins as no number, or no truth value, does.
  case notNumber
  case malformed
  /// Written with a fraction or exponent where an integer is wanted.
  case notInteger
  case outOfRange
  /// Beyond double precision.
  case tooBig
  case tooLong

  func message(_ excerpt: String, _ type: ElementType) -> String {
    switch self {
    case .notNumber:
      excerpt.isEmpty
        ? "the text ends where \(type) is expected" : "\(excerpt) is not \(type == .bool ? "true or false" : "a number")"
    case .malformed: "\(excerpt) is not a number as JSON writes it"
    case .notInteger: "\(excerpt) is not an integer, as \(type) wants"
    case .outOfRange: "\(excerpt) is not within \(type)"
    case .tooBig: "the number \(excerpt) is too big to be stored in double"
    case .tooLong: "the number \(excerpt) has too many characters"
    }
  }
}

/// A number as it is written: ± mantissa · 10^exponent.
struct JSONNumber {
  var mantissa: UInt64 = 0
  var exponent = 0
  var isNegative = false
  /// Written without fraction and exponent.
  var isInteger = true
  /// Whether the mantissa holds all digits.
  var isExact = true
  var special: Double?
  var start = 0

  /// The double nearest to it.
  @inline(__always) func double(_ cursor: JSONCursor) throws(JSONFault) -> Double {
    if isExact, special == nil {
      // Both numbers are exact in double, so that their product or quotient is rounded once (Clinger).
      if mantissa <= 1 << 53, exponent >= -22, exponent <= 22 {
        let value = Double(mantissa)
        let result = exponent < 0 ? value / PowersOfTen.doubles[-exponent] : value * PowersOfTen.doubles[exponent]
        return isNegative ? -result : result
      }
      if mantissa != 0, exponent >= -27, exponent <= 27 {
        let result = exponent < 0 ? quotient() : product()
        return isNegative ? -result : result
      }
    }
    return try slow(cursor)
  }

  /// mantissa · 5^e in 128 bits, rounded once.
  private func product() -> Double {
    let (high, low) = mantissa.multipliedFullWidth(by: PowersOfTen.fives[exponent])
    if high == 0 { return Double(low) * Self.power(exponent) }
    let shift = high.leadingZeroBitCount
    var top = shift == 0 ? high : high << UInt64(shift) | low >> UInt64(64 - shift)
    // Whether anything is below the 64 bits that are kept decides ties.
    if low << UInt64(shift) != 0 { top |= 1 }
    return Double(top) * Self.power(64 - shift + exponent)
  }

  /// mantissa / 5^e with 62 or more bits and whether a remainder is left, rounded once.
  private func quotient() -> Double {
    let five = PowersOfTen.fives[-exponent]
    let (a, b) = (mantissa.leadingZeroBitCount, five.leadingZeroBitCount)
    let numerator = mantissa << UInt64(a)
    let (quotient, rest) = (five << UInt64(b)).dividingFullWidth((numerator >> 1, numerator << 63))
    return Double(rest == 0 ? quotient : quotient | 1) * Self.power(b - a - 63 + exponent)
  }

  /// 2^exponent, within the normal range.
  @inline(__always) private static func power(_ exponent: Int) -> Double { Double(bitPattern: UInt64(1023 + exponent) << 52) }

  @inline(never)
  private func slow(_ cursor: JSONCursor) throws(JSONFault) -> Double {
    if let special { return special }
    // The longest number that any writer needs is far below this; longer ones only cost time.
    guard cursor.index - start <= 1_100 else { throw .tooLong }
    let text = String(decoding: UnsafeRawBufferPointer(start: cursor.base + start, count: cursor.index - start), as: UTF8.self)
    guard let value = Double(text) else { throw .malformed }
    guard value.isFinite else { throw .tooBig }
    return value
  }
}

enum PowersOfTen {
  /// 10^0 to 10^22, which double precision holds exactly.
  static let doubles: InlineArray<23, Double> = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
    1e22,
  ]
  /// 5^0 to 5^27, which 64 bits hold.
  static let fives: InlineArray<28, UInt64> = [
    1, 5, 25, 125, 625, 3_125, 15_625, 78_125, 390_625, 1_953_125, 9_765_625, 48_828_125, 244_140_625, 1_220_703_125,
    6_103_515_625,
    30_517_578_125, 152_587_890_625, 762_939_453_125, 3_814_697_265_625, 19_073_486_328_125, 95_367_431_640_625,
    476_837_158_203_125, 2_384_185_791_015_625, 11_920_928_955_078_125, 59_604_644_775_390_625, 298_023_223_876_953_125,
    1_490_116_119_384_765_625, 7_450_580_596_923_828_125,
  ]
}

/// A type of elements that JSON can be read as.
protocol JSONElement: BitwiseCopyable {
  static func read(_ cursor: inout JSONCursor) throws(JSONFault) -> Self
}

extension Double: JSONElement {
  @inline(__always) static func read(_ cursor: inout JSONCursor) throws(JSONFault) -> Double {
    let number = try cursor.number()
    return try number.double(cursor)
  }
}

extension Float: JSONElement {
  @inline(__always) static func read(_ cursor: inout JSONCursor) throws(JSONFault) -> Float {
    let value = try Double.read(&cursor)
    let result = Float(value)
    if !result.isFinite, value.isFinite { throw .outOfRange }
    return result
  }
}

/// The bits of a float16, on every platform.
struct Float16Bits: JSONElement {
  let bits: UInt16
  static func read(_ cursor: inout JSONCursor) throws(JSONFault) -> Float16Bits {
    let value = try Double.read(&cursor)
    let bits = HalfPrecision.float16(of: value)
    if bits & 0x7fff == 0x7c00, value.isFinite { throw .outOfRange }
    return Float16Bits(bits: bits)
  }
}

struct BFloat16Bits: JSONElement {
  let bits: UInt16
  static func read(_ cursor: inout JSONCursor) throws(JSONFault) -> BFloat16Bits {
    let value = try Double.read(&cursor)
    let bits = HalfPrecision.bfloat16(of: value)
    if bits & 0x7fff == 0x7f80, value.isFinite { throw .outOfRange }
    return BFloat16Bits(bits: bits)
  }
}

extension JSONElement where Self: FixedWidthInteger {
  @inline(__always) static func read(_ cursor: inout JSONCursor) throws(JSONFault) -> Self {
    let number = try cursor.number()
    guard number.isInteger else { throw .notInteger }
    guard number.isExact else { throw .outOfRange }
    if number.isNegative {
      guard number.mantissa <= 1 << 63 else { throw .outOfRange }
      guard let value = Self(exactly: Int64(truncatingIfNeeded: 0 &- number.mantissa)) else { throw .outOfRange }
      return value
    }
    guard let value = Self(exactly: number.mantissa) else { throw .outOfRange }
    return value
  }
}

extension UInt8: JSONElement {}
extension Int8: JSONElement {}
extension Int16: JSONElement {}
extension Int32: JSONElement {}
extension Int64: JSONElement {}

extension Bool: JSONElement {
  @inline(__always) static func read(_ cursor: inout JSONCursor) throws(JSONFault) -> Bool {
    if cursor.skip("true") { return true }
    if cursor.skip("false") { return false }
    throw .notNumber
  }
}
