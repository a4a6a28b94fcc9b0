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
  static func decode(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
    var isValid = true
    let result = [UInt8](unsafeUninitializedCapacity: text.count / 4 * 3 + 3) { target, count in
      values.withUnsafeBufferPointer { values in
        var i = 0
        // Four letters at once, until something is no letter.
        while i + 4 <= text.count {
          let (a, b) = (values[Int(text[i])], values[Int(text[i + 1])])
          let (c, d) = (values[Int(text[i + 2])], values[Int(text[i + 3])])
          guard a | b | c | d < 64 else { break }
          target[count] = a << 2 | b >> 4
          target[count + 1] = b << 4 | c >> 2
          target[count + 2] = c << 6 | d
          count += 3
          i += 4
        }
        var rest: [UInt8] = []
        while i < text.count, rest.count < 4, case let value = values[Int(text[i])], value < 64 {
          rest.append(value)
          i += 1
        }
        let padding = text.count - i
        isValid =
          text[i...].allSatisfy { $0 == UInt8(ascii: "=") } && (padding == 0 || rest.count + padding == 4) && rest.count != 1
          && (rest.count > 0 || padding == 0)
        guard isValid else { return }
        for j in 1..<max(1, rest.count) {
          target[count] = rest[j - 1] << UInt8(2 * j) | rest[j] >> UInt8(6 - 2 * j)
          count += 1
        }
      }
    }
    return isValid ? result : nil
  }
}
