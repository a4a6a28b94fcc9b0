/// Base64 of RFC 4648, with its standard alphabet.
enum Base64 {
  private static let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  /// The six bits of each letter; 255 where there are none.
  private static let values: [UInt8] = {
    var result = [UInt8](repeating: 255, count: 256)
    for (value, letter) in letters.enumerated() { result[Int(letter)] = UInt8(value) }
    return result
  }()

  static func encode(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: (bytes.count + 2) / 3 * 4) { text, count in
      func put(_ value: UInt32) {
        text[count] = letters[Int(value & 63)]
        count += 1
      }
      var i = 0
      while i + 3 <= bytes.count {
        let group = UInt32(bytes[i]) << 16 | UInt32(bytes[i + 1]) << 8 | UInt32(bytes[i + 2])
        put(group >> 18)
        put(group >> 12)
        put(group >> 6)
        put(group)
        i += 3
      }
      let rest = bytes.count - i
      guard rest > 0 else { return }
      let group = UInt32(bytes[i]) << 16 | (rest == 2 ? UInt32(bytes[i + 1]) << 8 : 0)
      put(group >> 18)
      put(group >> 12)
      if rest == 2 { put(group >> 6) }
      for _ in rest..<3 {
        text[count] = UInt8(ascii: "=")
        count += 1
      }
    }
  }

  /// The bytes, or nil if it is not Base64. The padding may be missing.
  static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    var result: [UInt8] = []
    result.reserveCapacity(text.count / 4 * 3)
    var (group, letters, padding): (UInt32, Int, Int) = (0, 0, 0)
    for byte in text {
      if byte == UInt8(ascii: "=") {
        padding += 1
        continue
      }
      let value = values[Int(byte)]
      guard value != 255, padding == 0 else { return nil }
      group = group << 6 | UInt32(value)
      letters += 1
      if letters & 3 == 0 {
        result.append(UInt8(truncatingIfNeeded: group >> 16))
        result.append(UInt8(truncatingIfNeeded: group >> 8))
        result.append(UInt8(truncatingIfNeeded: group))
        group = 0
      }
    }
    guard padding == 0 || (padding <= 2 && (letters + padding) & 3 == 0) else { return nil }
    switch letters & 3 {
    case 0: break
    case 2: result.append(UInt8(truncatingIfNeeded: group >> 4))
    case 3:
      result.append(UInt8(truncatingIfNeeded: group >> 10))
      result.append(UInt8(truncatingIfNeeded: group >> 2))
    default: return nil
    }
    return result
  }
}
