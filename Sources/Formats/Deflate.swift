/// Compression to DEFLATE (RFC 1951): matches from chains of hashes, taken one byte later if the next one is longer, and for
/// each block whichever of stored, fixed and own codes is shortest.
package enum Deflate {
  /// The compressed form of `bytes`.
  package static func compress(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var out = DeflateBits()
    out.bytes.reserveCapacity(bytes.count / 2 + 64)
    var finder = MatchFinder(bytes)
    var position = 0
    repeat {
      let start = position
      let symbols = finder.block(from: &position)
      DeflateBlock(symbols, UnsafeRawBufferPointer(rebasing: bytes[start..<position])).write(
        to: &out, isLast: position == bytes.count)
    } while position < bytes.count
    out.align()
    return out.bytes
  }
}

extension Zlib {
  /// The content as a zlib stream (RFC 1950).
  package static func compress(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    let sum = adler32(bytes)
    return [0x78, 0x9c] + Deflate.compress(bytes) + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: sum >> $0) }
  }
}

/// A literal byte (distance 0), or a copy of `value` bytes from `distance` before.
private struct DeflateSymbol {
  var value: UInt16
  var distance: UInt16
}

private struct MatchFinder {
  static let window = 1 << 15
  static let hashBits = 15
  /// How many earlier places are tried, and the length that is good enough.
  static let chain = 48
  static let nice = 130
  static let symbolsPerBlock = 1 << 15

  let bytes: UnsafeRawBufferPointer
  private var heads = [Int32](repeating: -1, count: 1 << hashBits)
  private var previous = [Int32](repeating: -1, count: window)
  /// Where the places known begin: only 2³¹ of them have numbers, so a longer input starts anew.
  private var base = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  private func hash(_ position: Int) -> Int {
    let word = UInt32(bytes[position]) | UInt32(bytes[position + 1]) << 8 | UInt32(bytes[position + 2]) << 16
    return Int((word &* 0x9e37_79b1) >> UInt32(32 - Self.hashBits))
  }

  private mutating func insert(_ position: Int) {
    guard position + 3 <= bytes.count else { return }
    let slot = hash(position)
    previous[position & (Self.window - 1)] = heads[slot]
    heads[slot] = Int32(truncatingIfNeeded: position - base)
  }

  /// The longest match at `position`, not shorter than three.
  private func match(_ position: Int) -> (length: Int, distance: Int)? {
    guard position + 3 <= bytes.count else { return nil }
    let limit = min(258, bytes.count - position)
    var best = (length: 2, distance: 0)
    var candidate = Int(heads[hash(position)])
    var tries = Self.chain
    while candidate >= 0, tries > 0 {
      let place = base + candidate
      guard place < position, position - place <= Self.window - 1 else { break }
      if best.length < limit, bytes[place + best.length] == bytes[position + best.length] {
        var length = 0
        while length < limit, bytes[place + length] == bytes[position + length] { length += 1 }
        if length > best.length {
          best = (length, position - place)
          if length >= min(Self.nice, limit) { break }
        }
      }
      let next = Int(previous[place & (Self.window - 1)])
      guard next < candidate else { break }
      candidate = next
      tries -= 1
    }
    return best.length >= 3 ? best : nil
  }

  /// The symbols of the next block; moves the position on.
  mutating func block(from position: inout Int) -> [DeflateSymbol] {
    var symbols: [DeflateSymbol] = []
    if position - base > 1 << 30 {
      base = position
      for slot in heads.indices { heads[slot] = -1 }
    }
    while position < bytes.count, symbols.count < Self.symbolsPerBlock {
      var found = match(position)
      insert(position)
      // A literal and a longer match are better than this one.
      if let first = found, first.length < Self.nice, let second = match(position + 1), second.length > first.length {
        found = nil
      }
      guard let found else {
        symbols.append(DeflateSymbol(value: UInt16(bytes[position]), distance: 0))
        position += 1
        continue
      }
      symbols.append(DeflateSymbol(value: UInt16(found.length), distance: UInt16(found.distance)))
      for next in position + 1..<position + found.length { insert(next) }
      position += found.length
    }
    return symbols
  }
}

/// Bits, the low ones first.
private struct DeflateBits {
  var bytes: [UInt8] = []
  private var word: UInt64 = 0
  private var count = 0

  mutating func put(_ value: Int, _ bits: Int) {
    word |= UInt64(value) << UInt64(count)
    count += bits
    while count >= 8 {
      bytes.append(UInt8(truncatingIfNeeded: word))
      word >>= 8
      count -= 8
    }
  }

  mutating func align() { if count > 0 { put(0, 8 - count) } }
}

/// A prefix code: the length of each symbol and its bits, already turned around.
private struct PrefixCode {
  var lengths: [Int]
  var codes: [Int]

  init(lengths: [Int]) {
    self.lengths = lengths
    codes = [Int](repeating: 0, count: lengths.count)
    var counts = [Int](repeating: 0, count: 17)
    for length in lengths where length > 0 { counts[length] += 1 }
    var next = [Int](repeating: 0, count: 17)
    for length in 1...16 { next[length] = (next[length - 1] + counts[length - 1]) << 1 }
    for (symbol, length) in lengths.enumerated() where length > 0 {
      var (code, turned) = (next[length], 0)
      for _ in 0..<length {
        turned = turned << 1 | code & 1
        code >>= 1
      }
      codes[symbol] = turned
      next[length] += 1
    }
  }

  /// Huffman's code for these frequencies, no symbol longer than `limit`.
  init(frequencies: [Int], limit: Int) {
    let used = frequencies.indices.filter { frequencies[$0] > 0 }.sorted { (frequencies[$0], $0) < (frequencies[$1], $1) }
    var lengths = [Int](repeating: 0, count: frequencies.count)
    guard used.count > 1 else {
      // A complete code has two symbols; some decoders insist.
      lengths[used.first ?? 0] = 1
      lengths[used.first == 0 || used.isEmpty ? 1 : 0] = 1
      self.init(lengths: lengths)
      return
    }
    // Two queues: leaves by rising frequency, and inner nodes, which come by rising frequency by themselves.
    var weights = used.map { frequencies[$0] }
    var parents = [Int](repeating: 0, count: 2 * used.count - 1)
    var (leaf, inner) = (0, used.count)
    for node in used.count..<2 * used.count - 1 {
      weights.append(0)
      for _ in 0..<2 {
        let takesLeaf = leaf < used.count && (inner >= node || weights[leaf] <= weights[inner])
        let child = takesLeaf ? leaf : inner
        if takesLeaf { leaf += 1 } else { inner += 1 }
        weights[node] += weights[child]
        parents[child] = node
      }
    }
    var depths = [Int](repeating: 0, count: parents.count)
    var counts = [Int](repeating: 0, count: limit + 1)
    for node in stride(from: parents.count - 2, through: 0, by: -1) {
      depths[node] = depths[parents[node]] + 1
      if node < used.count { counts[min(depths[node], limit)] += 1 }
    }
    // Too long ones were cut off: as long as the code is over-full, one of the longest takes a place beside a shorter one.
    var total = (1...limit).reduce(0) { $0 + counts[$1] << (limit - $1) }
    while total > 1 << limit {
      counts[limit] -= 1
      if let shorter = (1..<limit).last(where: { counts[$0] > 0 }) {
        counts[shorter] -= 1
        counts[shorter + 1] += 2
      }
      total -= 1
    }
    var next = 0
    for length in stride(from: limit, through: 1, by: -1) {
      for _ in 0..<counts[length] {
        lengths[used[next]] = length
        next += 1
      }
    }
    self.init(lengths: lengths)
  }
}

private struct DeflateBlock {
  /// The first length (distance) of each code and its extra bits: RFC 1951, section 3.2.5.
  static let lengthBases = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
  ]
  static let lengthBits = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0]
  static let distanceBases = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193,
    12289,
    16385, 24577,
  ]
  static let distanceBits = (0..<30).map { max(0, $0 / 2 - 1) }
  static let lengthCodes: [UInt8] = (0...258).map { length in UInt8(lengthBases.lastIndex { $0 <= length } ?? 0) }
  static let codeOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
  static let fixedLiterals = PrefixCode(
    lengths: (0..<288).map { $0 < 144 ? 8 : $0 < 256 ? 9 : $0 < 280 ? 7 : 8 })
  static let fixedDistances = PrefixCode(lengths: [Int](repeating: 5, count: 30))

  static func distanceCode(_ distance: Int) -> Int {
    if distance <= 4 { return distance - 1 }
    let bits = Int.bitWidth - 1 - (distance - 1).leadingZeroBitCount
    return 2 * bits + ((distance - 1) >> (bits - 1) & 1)
  }

  let symbols: [DeflateSymbol]
  let content: UnsafeRawBufferPointer
  private var literalCounts = [Int](repeating: 0, count: 286)
  private var distanceCounts = [Int](repeating: 0, count: 30)

  init(_ symbols: [DeflateSymbol], _ content: UnsafeRawBufferPointer) {
    (self.symbols, self.content) = (symbols, content)
    literalCounts[256] = 1
    for symbol in symbols {
      if symbol.distance == 0 {
        literalCounts[Int(symbol.value)] += 1
      } else {
        literalCounts[257 + Int(Self.lengthCodes[Int(symbol.value)])] += 1
        distanceCounts[Self.distanceCode(Int(symbol.distance))] += 1
      }
    }
  }

  private func cost(_ literals: [Int], _ distances: [Int]) -> Int {
    var bits = 0
    for (symbol, count) in literalCounts.enumerated() where count > 0 {
      bits += count * (literals[symbol] + (symbol > 256 ? Self.lengthBits[symbol - 257] : 0))
    }
    for (symbol, count) in distanceCounts.enumerated() where count > 0 {
      bits += count * (distances[symbol] + Self.distanceBits[symbol])
    }
    return bits
  }

  func write(to out: inout DeflateBits, isLast: Bool) {
    let literals = PrefixCode(frequencies: literalCounts, limit: 15)
    let distances = PrefixCode(frequencies: distanceCounts, limit: 15)
    let header = CodeLengths(literals.lengths, distances.lengths)
    let own = header.cost + cost(literals.lengths, distances.lengths)
    let fixed = cost(Self.fixedLiterals.lengths, Self.fixedDistances.lengths)
    let stored = content.count * 8 + (content.count / 65535 + 1) * 40
    if stored <= min(own, fixed) { return writeStored(to: &out, isLast: isLast) }
    out.put(isLast ? 1 : 0, 1)
    if fixed <= own {
      out.put(1, 2)
      writeSymbols(to: &out, Self.fixedLiterals, Self.fixedDistances)
    } else {
      out.put(2, 2)
      header.write(to: &out)
      writeSymbols(to: &out, literals, distances)
    }
  }

  private func writeStored(to out: inout DeflateBits, isLast: Bool) {
    var start = 0
    repeat {
      let count = min(65535, content.count - start)
      out.put(isLast && start + count == content.count ? 1 : 0, 3)
      out.align()
      out.put(count, 16)
      out.put(~count & 0xffff, 16)
      out.bytes += content[start..<start + count]
      start += count
    } while start < content.count
  }

  private func writeSymbols(to out: inout DeflateBits, _ literals: PrefixCode, _ distances: PrefixCode) {
    for symbol in symbols {
      let value = Int(symbol.value)
      if symbol.distance == 0 {
        out.put(literals.codes[value], literals.lengths[value])
        continue
      }
      let length = Int(Self.lengthCodes[value])
      out.put(literals.codes[257 + length], literals.lengths[257 + length])
      out.put(value - Self.lengthBases[length], Self.lengthBits[length])
      let distance = Self.distanceCode(Int(symbol.distance))
      out.put(distances.codes[distance], distances.lengths[distance])
      out.put(Int(symbol.distance) - Self.distanceBases[distance], Self.distanceBits[distance])
    }
    out.put(literals.codes[256], literals.lengths[256])
  }

  /// A block's own codes as they stand before it: lengths with repetitions, in a code of their own.
  private struct CodeLengths {
    let literals, distances: Int
    private var items: [(symbol: Int, extra: Int, bits: Int)] = []
    private let code: PrefixCode
    private let codes: Int

    init(_ literalLengths: [Int], _ distanceLengths: [Int]) {
      literals = max(257, (literalLengths.lastIndex { $0 > 0 } ?? 0) + 1)
      distances = max(1, (distanceLengths.lastIndex { $0 > 0 } ?? 0) + 1)
      let all = literalLengths[..<literals] + distanceLengths[..<distances]
      let lengths = Array(all)
      var index = 0
      while index < lengths.count {
        let value = lengths[index]
        var run = 1
        while index + run < lengths.count, lengths[index + run] == value { run += 1 }
        var left = run
        if value == 0 {
          while left >= 3 {
            let part = min(left, 138)
            items.append(part <= 10 ? (17, part - 3, 3) : (18, part - 11, 7))
            left -= part
          }
        } else {
          items.append((value, 0, 0))
          left -= 1
          while left >= 3 {
            let part = min(left, 6)
            items.append((16, part - 3, 2))
            left -= part
          }
        }
        for _ in 0..<left { items.append((value, 0, 0)) }
        index += run
      }
      var counts = [Int](repeating: 0, count: 19)
      for item in items { counts[item.symbol] += 1 }
      let code = PrefixCode(frequencies: counts, limit: 7)
      self.code = code
      codes = max(4, (DeflateBlock.codeOrder.lastIndex { code.lengths[$0] > 0 } ?? 0) + 1)
    }

    var cost: Int { 14 + 3 * codes + items.reduce(0) { $0 + code.lengths[$1.symbol] + $1.bits } }

    func write(to out: inout DeflateBits) {
      out.put(literals - 257, 5)
      out.put(distances - 1, 5)
      out.put(codes - 4, 4)
      for symbol in DeflateBlock.codeOrder[..<codes] { out.put(code.lengths[symbol], 3) }
      for item in items {
        out.put(code.codes[item.symbol], code.lengths[item.symbol])
        out.put(item.extra, item.bits)
      }
    }
  }
}
