// The hashes by which TensorFlow and Keras put strings into buckets. They are read by other programs, so they can never change.

/// FarmHash's Fingerprint64 (Pike and Alakuijala 2014, google/farmhash, `farmhashna::Hash64`).
package enum FarmHash {
  private static let k0: UInt64 = 0xc3a5_c85c_97cb_3127
  private static let k1: UInt64 = 0xb492_b66f_be98_f273
  private static let k2: UInt64 = 0x9ae1_6a3b_2f90_404f

  /// The fingerprint of a text's UTF-8 bytes.
  package static func fingerprint(_ text: String) -> UInt64 {
    var text = text
    return text.withUTF8 { fingerprint(UnsafeRawBufferPointer($0)) }
  }

  package static func fingerprint(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    let n = bytes.count
    if n <= 16 { return upTo16(bytes) }
    if n <= 32 { return upTo32(bytes) }
    if n <= 64 { return upTo64(bytes) }
    var x: UInt64 = 81
    var y = x &* k1 &+ 113
    var z = shiftMix(y &* k2 &+ 113) &* k2
    var v: (UInt64, UInt64) = (0, 0)
    var w: (UInt64, UInt64) = (0, 0)
    x = x &* k2 &+ bytes.word(0)
    func round(at i: Int, _ factor: UInt64, _ nine: UInt64) {
      x = rotated(x &+ y &+ v.0 &+ bytes.word(i + 8), 37) &* factor
      y = rotated(y &+ v.1 &+ bytes.word(i + 48), 42) &* factor
      x ^= w.1 &* nine
      y = y &+ v.0 &* nine &+ bytes.word(i + 40)
      z = rotated(z &+ w.0, 33) &* factor
      v = weak(bytes, i, v.1 &* factor, x &+ w.0)
      w = weak(bytes, i + 32, z &+ w.1, y &+ bytes.word(i + 16))
      swap(&z, &x)
    }
    let last = (n - 1) / 64 * 64
    for i in stride(from: 0, to: last, by: 64) { round(at: i, k1, 1) }
    let factor = k1 &+ ((z & 0xff) << 1)
    w.0 = w.0 &+ UInt64((n - 1) & 63)
    v.0 = v.0 &+ w.0
    w.0 = w.0 &+ v.0
    round(at: n - 64, factor, 9)
    return mixed(
      mixed(v.0, w.0, factor) &+ shiftMix(y) &* k0 &+ z, mixed(v.1, w.1, factor) &+ x, factor)
  }

  private static func upTo16(_ s: UnsafeRawBufferPointer) -> UInt64 {
    let n = UInt64(s.count)
    let factor = k2 &+ n &* 2
    if n >= 8 {
      let a = s.word(0) &+ k2
      let b = s.word(s.count - 8)
      return mixed(rotated(b, 37) &* factor &+ a, (rotated(a, 25) &+ b) &* factor, factor)
    }
    if n >= 4 { return mixed(n &+ s.halfWord(0) << 3, s.halfWord(s.count - 4), factor) }
    if n == 0 { return k2 }
    let y = UInt32(s[0]) &+ UInt32(s[s.count / 2]) << 8
    let z = UInt32(s.count) &+ UInt32(s[s.count - 1]) << 2
    return shiftMix(UInt64(y) &* k2 ^ UInt64(z) &* k0) &* k2
  }

  private static func upTo32(_ s: UnsafeRawBufferPointer) -> UInt64 {
    let factor = k2 &+ UInt64(s.count) &* 2
    let a = s.word(0) &* k1
    let b = s.word(8)
    let c = s.word(s.count - 8) &* factor
    let d = s.word(s.count - 16) &* k2
    return mixed(rotated(a &+ b, 43) &+ rotated(c, 30) &+ d, a &+ rotated(b &+ k2, 18) &+ c, factor)
  }

  private static func upTo64(_ s: UnsafeRawBufferPointer) -> UInt64 {
    let factor = k2 &+ UInt64(s.count) &* 2
    let a = s.word(0) &* k2
    let b = s.word(8)
    let c = s.word(s.count - 8) &* factor
    let d = s.word(s.count - 16) &* k2
    let y = rotated(a &+ b, 43) &+ rotated(c, 30) &+ d
    let z = mixed(y, a &+ rotated(b &+ k2, 18) &+ c, factor)
    let e = s.word(16) &* factor
    let f = s.word(24)
    let g = (y &+ s.word(s.count - 32)) &* factor
    let h = (z &+ s.word(s.count - 24)) &* factor
    return mixed(rotated(e &+ f, 43) &+ rotated(g, 30) &+ h, e &+ rotated(f &+ a, 18) &+ g, factor)
  }

  private static func weak(_ s: UnsafeRawBufferPointer, _ i: Int, _ a: UInt64, _ b: UInt64) -> (UInt64, UInt64) {
    let (w, x, y, z) = (s.word(i), s.word(i + 8), s.word(i + 16), s.word(i + 24))
    let first = a &+ w
    let sum = first &+ x &+ y
    return (sum &+ z, rotated(b &+ first &+ z, 21) &+ rotated(sum, 44) &+ first)
  }

  private static func mixed(_ u: UInt64, _ v: UInt64, _ factor: UInt64) -> UInt64 {
    let a = shiftMix((u ^ v) &* factor)
    return shiftMix((v ^ a) &* factor) &* factor
  }

  /// TensorFlow's `FingerprintCat64`: one fingerprint of two.
  package static func combined(_ first: UInt64, _ second: UInt64) -> UInt64 {
    let k: UInt64 = 0xc6a4_a793_5bd1_e995
    var result = first ^ k
    result ^= shiftMix(second &* k) &* k
    result = result &* k
    result = shiftMix(result) &* k
    return shiftMix(result)
  }

  private static func shiftMix(_ x: UInt64) -> UInt64 { x ^ (x >> 47) }
}

/// SipHash-2-4 (Aumasson and Bernstein 2012): a hash with a key, whose collisions nobody finds without it.
package enum SipHash {
  package static func hash(_ text: String, key: (UInt64, UInt64)) -> UInt64 {
    var text = text
    return text.withUTF8 { hash(UnsafeRawBufferPointer($0), key: key) }
  }

  package static func hash(_ bytes: UnsafeRawBufferPointer, key: (UInt64, UInt64)) -> UInt64 {
    var v0 = key.0 ^ 0x736f_6d65_7073_6575
    var v1 = key.1 ^ 0x646f_7261_6e64_6f6d
    var v2 = key.0 ^ 0x6c79_6765_6e65_7261
    var v3 = key.1 ^ 0x7465_6462_7974_6573
    func rounds(_ count: Int) {
      for _ in 0..<count {
        v0 = v0 &+ v1
        v2 = v2 &+ v3
        v1 = rotated(v1, 51) ^ v0
        v3 = rotated(v3, 48) ^ v2
        v0 = rotated(v0, 32)
        v2 = v2 &+ v1
        v0 = v0 &+ v3
        v1 = rotated(v1, 47) ^ v2
        v3 = rotated(v3, 43) ^ v0
        v2 = rotated(v2, 32)
      }
    }
    func absorb(_ word: UInt64) {
      v3 ^= word
      rounds(2)
      v0 ^= word
    }
    let whole = bytes.count / 8 * 8
    for i in stride(from: 0, to: whole, by: 8) { absorb(bytes.word(i)) }
    var tail = UInt64(bytes.count & 0xff) << 56
    for i in whole..<bytes.count { tail |= UInt64(bytes[i]) << UInt64(8 * (i - whole)) }
    absorb(tail)
    v2 ^= 0xff
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3
  }
}

/// To the right, as FarmHash counts.
private func rotated(_ x: UInt64, _ by: UInt64) -> UInt64 { (x &>> by) | (x &<< (64 &- by)) }

extension UnsafeRawBufferPointer {
  fileprivate func word(_ at: Int) -> UInt64 { UInt64(littleEndian: loadUnaligned(fromByteOffset: at, as: UInt64.self)) }
  fileprivate func halfWord(_ at: Int) -> UInt64 {
    UInt64(UInt32(littleEndian: loadUnaligned(fromByteOffset: at, as: UInt32.self)))
  }
}
