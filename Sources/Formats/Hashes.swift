// Our own, because swift-crypto, the usual package, adds two minutes to a clean build of the core (measured);
// downloads and content hashes need no secret keys, so no constant-time code is called for.

import CApusKernels

/// SHA-256 (FIPS 180-4).
package struct SHA256: Sendable {
  private var state: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
  ]
  private var blocks = BlockBuffer()

  package init() {}

  /// Takes in more bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    blocks.append(bytes) { Self.compress(&state, $0, count: $1) }
  }

  /// The digest, in lower-case hexadecimal digits. The value itself can take in more bytes afterwards.
  package func hexDigest() -> String {
    var copy = self
    copy.blocks.finish(lengthIsBigEndian: true) { Self.compress(&copy.state, $0, count: $1) }
    return hexadecimal(copy.state.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (24 - 8 * $0)) } })
  }

  /// The digest of `bytes`.
  package static func hexDigest(_ bytes: UnsafeRawBufferPointer) -> String {
    var hash = SHA256()
    hash.update(bytes)
    return hash.hexDigest()
  }

  private static func compress(_ state: inout [UInt32], _ blocks: UnsafeRawPointer, count: Int) {
    apus_sha256(&state, blocks, count)
  }
}

/// MD5 (RFC 1321): only to compare with sums that data sets have published; it is no protection against forgery.
package struct MD5: Sendable {
  private var state: [UInt32] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476]
  private var blocks = BlockBuffer()

  package init() {}

  /// Takes in more bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    blocks.append(bytes) { Self.compress(&state, $0, count: $1) }
  }

  /// The digest, in lower-case hexadecimal digits. The value itself can take in more bytes afterwards.
  package func hexDigest() -> String {
    var copy = self
    copy.blocks.finish(lengthIsBigEndian: false) { Self.compress(&copy.state, $0, count: $1) }
    return hexadecimal(copy.state.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } })
  }

  /// The digest of `bytes`.
  package static func hexDigest(_ bytes: UnsafeRawBufferPointer) -> String {
    var hash = MD5()
    hash.update(bytes)
    return hash.hexDigest()
  }

  private static func compress(_ state: inout [UInt32], _ blocks: UnsafeRawPointer, count: Int) {
    sines.withUnsafeBufferPointer { sines in
      let k = sines.baseAddress!
      for block in 0..<count {
        let message = blocks + block * 64
        var (a, b, c, d) = (state[0], state[1], state[2], state[3])
        for t in 0..<64 {
          // Four rotations per round, one byte each (RFC 1321, 3.4).
          let mixed, rotations: UInt32
          let word: Int
          switch t &>> 4 {
          case 0: (mixed, word, rotations) = ((b & c) | (~b & d), t, 0x1611_0c07)
          case 1: (mixed, word, rotations) = ((d & b) | (~d & c), (5 &* t &+ 1) & 15, 0x140e_0905)
          case 2: (mixed, word, rotations) = (b ^ c ^ d, (3 &* t &+ 5) & 15, 0x1710_0b04)
          default: (mixed, word, rotations) = (c ^ (b | ~d), (7 &* t) & 15, 0x150f_0a06)
          }
          let x = UInt32(littleEndian: message.loadUnaligned(fromByteOffset: word &* 4, as: UInt32.self))
          let sum = a &+ mixed &+ k[t] &+ x
          let rotation = rotations &>> UInt32(8 &* (t & 3)) & 31
          (a, d, c, b) = (d, c, b, b &+ rotateRight(sum, 32 &- rotation))
        }
        state[0] &+= a
        state[1] &+= b
        state[2] &+= c
        state[3] &+= d
      }
    }
  }

  /// floor(2^32 · |sin(t + 1)|) (RFC 1321, 3.4).
  private static let sines: [UInt32] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
  ]
}

@inline(__always) private func rotateRight(_ word: UInt32, _ count: UInt32) -> UInt32 {
  word &>> count | word &<< (32 &- count)
}

private func hexadecimal(_ bytes: [UInt8]) -> String {
  let digits = Array("0123456789abcdef".utf8)
  return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

/// Cuts a stream of bytes into the blocks of 64 bytes that both hashes work on, and pads the end.
private struct BlockBuffer: Sendable {
  private var pending: [UInt8] = []
  private var total: UInt64 = 0

  mutating func append(_ bytes: UnsafeRawBufferPointer, _ compress: (UnsafeRawPointer, Int) -> Void) {
    total &+= UInt64(bytes.count)
    var rest = bytes[...]
    if !pending.isEmpty {
      let part = rest.prefix(64 - pending.count)
      pending.append(contentsOf: part)
      rest = rest.dropFirst(part.count)
      guard pending.count == 64 else { return }
      pending.withUnsafeBytes { compress($0.baseAddress!, 1) }
      pending.removeAll(keepingCapacity: true)
    }
    let blocks = rest.count / 64
    if blocks > 0 {
      compress(UnsafeRawBufferPointer(rebasing: rest).baseAddress!, blocks)
      rest = rest.dropFirst(blocks * 64)
    }
    pending.append(contentsOf: rest)
  }

  mutating func finish(lengthIsBigEndian: Bool, _ compress: (UnsafeRawPointer, Int) -> Void) {
    let bits = total &* 8
    pending.append(0x80)
    while pending.count % 64 != 56 { pending.append(0) }
    for index in 0..<8 {
      pending.append(UInt8(truncatingIfNeeded: bits >> UInt64(8 * (lengthIsBigEndian ? 7 - index : index))))
    }
    pending.withUnsafeBytes { compress($0.baseAddress!, pending.count / 64) }
  }
}
