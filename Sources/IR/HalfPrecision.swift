/// Halves of float32 as bits, for text and constants: engines have faster ways.
package enum HalfPrecision {
  package static func float(ofBFloat16 bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

  package static func bfloat16(of x: Double) -> UInt16 {
    let u = odd(x).bitPattern
    if u & 0x7fff_ffff > 0x7f80_0000 { return UInt16(truncatingIfNeeded: u >> 16) | 0x40 }
    return UInt16(truncatingIfNeeded: (u &+ 0x7fff &+ ((u >> 16) & 1)) >> 16)
  }

  package static func float(ofFloat16 bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let magnitude = UInt32(bits & 0x7fff)
    if magnitude >= 0x7c00 { return Float(bitPattern: sign | 0x7f80_0000 | (magnitude & 0x3ff) << 13) }
    // Placed in float32's exponent field the value is too small by 2^112.
    let value = Float(bitPattern: magnitude << 13) * 0x1p112
    return Float(bitPattern: sign | value.bitPattern)
  }

  package static func float16(of x: Double) -> UInt16 {
    let u = odd(x).bitPattern
    let sign = UInt16(truncatingIfNeeded: u >> 16) & 0x8000
    let magnitude = u & 0x7fff_ffff
    if magnitude > 0x7f80_0000 { return sign | 0x7e00 | UInt16(truncatingIfNeeded: (magnitude >> 13) & 0x3ff) }
    if magnitude >= 0x4780_0000 { return sign | 0x7c00 }
    if magnitude < 0x3880_0000 {
      // Subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits.
      return sign | UInt16(truncatingIfNeeded: (Float(bitPattern: magnitude) + 0.5).bitPattern & 0x7ff)
    }
    return sign | UInt16(truncatingIfNeeded: (magnitude &- 0x3800_0000 &+ 0xfff &+ ((magnitude >> 13) & 1)) >> 13)
  }

  /// To float32, an inexact result made odd: a second rounding, to fewer bits, is then as if it were the first.
  private static func odd(_ x: Double) -> Float {
    let nearest = Float(x)
    if Double(nearest) == x || !nearest.isFinite || nearest.bitPattern & 1 == 1 { return nearest }
    return (Double(nearest) < x) ? nearest.nextUp : nearest.nextDown
  }
}

extension ElementType {
  /// The number rounded to this type, as a double; integers cut off fractions.
  func rounded(_ x: Double) -> Double {
    switch self {
    case .float64: x
    case .float32: Double(Float(x))
    case .float16: Double(HalfPrecision.float(ofFloat16: HalfPrecision.float16(of: x)))
    case .bfloat16: Double(HalfPrecision.float(ofBFloat16: HalfPrecision.bfloat16(of: x)))
    case .bool: x == 0 ? 0 : 1
    case .uint8, .int8, .int16, .int32, .int64: x.rounded(.towardZero)
    }
  }

  /// The greatest value of the type below x, or with `up` the least above.
  func neighbour(_ x: Double, up: Bool) -> Double {
    let r = rounded(x)
    if up ? r > x : r < x { return r }
    switch self {
    case .float16, .bfloat16:
      var h = self == .float16 ? HalfPrecision.float16(of: r) : HalfPrecision.bfloat16(of: r)
      if h & 0x7fff == 0 {
        h = up ? 1 : 0x8001
      } else {
        h = (h >> 15 == 1) == up ? h &- 1 : h &+ 1
      }
      return Double(self == .float16 ? HalfPrecision.float(ofFloat16: h) : HalfPrecision.float(ofBFloat16: h))
    case .float32: return Double(up ? Float(r).nextUp : Float(r).nextDown)
    case .float64, .bool, .uint8, .int8, .int16, .int32, .int64: return up ? r.nextUp : r.nextDown
    }
  }

  /// The least and the largest number: infinities for floating point.
  var extremes: (low: Scalar, high: Scalar) {
    switch self {
    case .bool: (.bool(false), .bool(true))
    case .uint8: (.int(0), .int(255))
    case .int8: (.int(-128), .int(127))
    case .int16: (.int(Int(Int16.min)), .int(Int(Int16.max)))
    case .int32: (.int(Int(Int32.min)), .int(Int(Int32.max)))
    case .int64: (.int(.min), .int(.max))
    case .float16, .bfloat16, .float32, .float64: (.double(-.infinity), .double(.infinity))
    }
  }

  /// What half precision is computed in.
  var statistics: ElementType { self == .float64 ? .float64 : .float32 }
}
