/// Decompression of DEFLATE data (RFC 1951), the compression inside gzip, zlib, zip, npz and PNG.
///
/// Huffman codes are read through one table lookup (two for rare long codes); the output itself is the 32 KiB window.
package enum Inflate {
  /// Decompresses one DEFLATE stream.
  /// - Parameters:
  ///   - input: the bytes that contain the stream, which begins at `start`.
  ///   - output: where the content goes, from `position` on.
  ///   - file: the name for error messages.
  /// - Returns: where the stream ends in `input` and the content in `output`; nil when `output` is too small.
  package static func run(
    _ input: UnsafeRawBufferPointer, from start: Int, into output: UnsafeMutableRawBufferPointer, at position: Int, file: String
  ) throws(FormatError) -> (inputEnd: Int, outputEnd: Int)? {
    var state = Inflater(input: input, start: start, output: output, position: position, file: file)
    defer { state.deallocate() }
    return try state.run() ? (state.inputEnd, state.out) : nil
  }
}

/// A decoding table: `primaryBits` bits of input index it; longer codes continue in a second table.
private struct HuffmanTable {
  /// Entry: bits 0–4 code length, bits 5–7 kind, bits 8–12 extra bits (or the second table's index bits), bits 16–31 value.
  let entries: UnsafeMutablePointer<UInt32>
  let primaryBits: Int
  let capacity: Int
  private let primaryMask: UInt64
  private let primaryShift: UInt64

  init(primaryBits: Int, symbols: Int) {
    self.primaryBits = primaryBits
    primaryShift = UInt64(primaryBits)
    primaryMask = 1 << UInt64(primaryBits) - 1
    capacity = 1 << primaryBits + symbols << (15 - primaryBits)
    entries = .allocate(capacity: capacity)
    entries.initialize(repeating: Kind.invalid, count: capacity)
  }

  enum Kind {
    static let literal: UInt32 = 0 << 5
    static let copy: UInt32 = 1 << 5
    static let end: UInt32 = 2 << 5
    static let second: UInt32 = 3 << 5
    static let invalid: UInt32 = 4 << 5
    static let mask: UInt32 = 7 << 5
  }

  /// Fills the table for canonical code lengths (RFC 1951, 3.2.2). False for an impossible set of lengths.
  func build(lengths: UnsafePointer<UInt8>, count: Int, meanings: UnsafePointer<UInt32>) -> Bool {
    var counts: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    return withUnsafeMutableBytes(of: &counts) { raw in
      let perLength = raw.bindMemory(to: UInt16.self)
      for symbol in 0..<count { perLength[Int(lengths[symbol])] += 1 }
      perLength[0] = 0
      var space = 1
      var longest = 0
      for length in 1...15 {
        space = space << 1 - Int(perLength[length])
        if space < 0 { return false }
        if perLength[length] > 0 { longest = length }
      }
      // An incomplete code is legal only as no code, or a single one of one bit (3.2.7: one distance code).
      guard space == 0 || longest == 0 || (longest == 1 && perLength[1] == 1) else { return false }

      let size = 1 << primaryBits
      entries.update(repeating: Kind.invalid, count: size)
      let secondBits = max(0, longest - primaryBits)
      var nextSecond = size
      var code = 0
      for length in stride(from: 1, through: longest, by: 1) {
        code <<= 1
        guard perLength[length] > 0 else { continue }
        for symbol in 0..<count where Int(lengths[symbol]) == length {
          // Codes are packed with their most significant bit first, everything else with the least.
          var reversed = 0
          for bit in 0..<length where code >> bit & 1 == 1 { reversed |= 1 << (length - 1 - bit) }
          let entry = meanings[symbol] | UInt32(length)
          if length <= primaryBits {
            for index in stride(from: reversed, to: size, by: 1 << length) { entries[index] = entry }
          } else {
            let prefix = reversed & (size - 1)
            if entries[prefix] & Kind.mask != Kind.second {
              guard nextSecond + 1 << secondBits <= capacity else { return false }
              entries[prefix] = UInt32(nextSecond) << 16 | UInt32(secondBits) << 8 | Kind.second
              (entries + nextSecond).update(repeating: Kind.invalid, count: 1 << secondBits)
              nextSecond += 1 << secondBits
            }
            let table = entries + Int(entries[prefix] >> 16)
            for index in stride(from: reversed >> primaryBits, to: 1 << secondBits, by: 1 << (length - primaryBits)) {
              table[index] = entry
            }
          }
          code += 1
        }
      }
      return true
    }
  }

  @inline(__always) func lookup(_ bits: UInt64) -> UInt32 {
    let entry = entries[Int(truncatingIfNeeded: bits & primaryMask)]
    guard entry & Kind.mask == Kind.second else { return entry }
    let index = (bits &>> primaryShift) & ((1 &<< UInt64(entry >> 8 & 31)) &- 1)
    return entries[Int(entry >> 16) &+ Int(truncatingIfNeeded: index)]
  }
}

/// What symbols mean, in the form of table entries without their code length.
private enum Meanings {
  /// Literals 0…255, end of block 256, lengths 257…285 (RFC 1951, 3.2.5).
  static let literals: [UInt32] = {
    var table = (0..<256).map { UInt32($0) << 16 | HuffmanTable.Kind.literal }
    table.append(HuffmanTable.Kind.end)
    var base: UInt32 = 3
    for symbol in 257..<285 {
      let extra = UInt32(max(0, (symbol - 261) / 4))
      table.append(base << 16 | extra << 8 | HuffmanTable.Kind.copy)
      base += 1 << extra
    }
    table.append(258 << 16 | HuffmanTable.Kind.copy)
    table += [HuffmanTable.Kind.invalid, HuffmanTable.Kind.invalid]
    return table
  }()

  /// Distances 0…29; 30 and 31 never occur in valid data.
  static let distances: [UInt32] = {
    var table: [UInt32] = []
    var base: UInt32 = 1
    for symbol in 0..<30 {
      let extra = UInt32(max(0, symbol / 2 - 1))
      table.append(base << 16 | extra << 8 | HuffmanTable.Kind.copy)
      base += 1 << extra
    }
    table += [HuffmanTable.Kind.invalid, HuffmanTable.Kind.invalid]
    return table
  }()

  /// The symbols of the code for code lengths stand for themselves.
  static let lengths = (0..<19).map { UInt32($0) << 16 | HuffmanTable.Kind.literal }
}

private struct Inflater {
  private let input: UnsafeRawBufferPointer
  private let output: UnsafeMutableRawBufferPointer
  private let file: String
  private let windowStart: Int
  private var next: Int
  private var bits: UInt64 = 0
  private var bitCount = 0
  private(set) var out: Int
  private let literals = HuffmanTable(primaryBits: 11, symbols: 288)
  private let distances = HuffmanTable(primaryBits: 9, symbols: 32)
  private let lengthCodes = HuffmanTable(primaryBits: 7, symbols: 0)

  init(input: UnsafeRawBufferPointer, start: Int, output: UnsafeMutableRawBufferPointer, position: Int, file: String) {
    (self.input, self.output, self.file) = (input, output, file)
    (next, out, windowStart) = (start, position, position)
  }

  func deallocate() {
    literals.entries.deallocate()
    distances.entries.deallocate()
    lengthCodes.entries.deallocate()
  }

  /// The first byte after the stream: whole bytes still in the bit buffer were not used.
  var inputEnd: Int { next - bitCount / 8 }

  private func error(_ kind: FormatError.Kind, _ message: String) -> FormatError {
    FormatError(kind, file: file, offset: max(0, inputEnd), "compressed data: " + message)
  }
  private var truncated: FormatError { error(.truncated, "the data ends inside a block") }

  /// False when the output is full.
  mutating func run() throws(FormatError) -> Bool {
    while true {
      let isLast = try take(1) == 1
      let hasRoom: Bool
      switch try take(2) {
      case 0: hasRoom = try stored()
      case 1:
        try fixedTables()
        hasRoom = try compressed()
      case 2:
        try dynamicTables()
        hasRoom = try compressed()
      default: throw error(.malformed, "a block has the reserved type 3")
      }
      guard hasRoom else { return false }
      if isLast { return true }
    }
  }

  /// Makes at least 56 bits available, or all that there are.
  private mutating func refill() {
    while bitCount <= 56, next < input.count {
      bits |= UInt64(input[next]) << UInt64(bitCount)
      next += 1
      bitCount += 8
    }
  }

  private mutating func take(_ count: Int) throws(FormatError) -> Int {
    if bitCount < count {
      refill()
      guard bitCount >= count else { throw truncated }
    }
    let result = Int(bits & (1 << UInt64(count) - 1))
    bits >>= UInt64(count)
    bitCount -= count
    return result
  }

  private mutating func stored() throws(FormatError) -> Bool {
    _ = try take(bitCount & 7)
    let count = try take(16)
    let complement = try take(16)
    guard count ^ complement == 0xffff else { throw error(.malformed, "a stored block's length fails its check") }
    next = inputEnd
    (bits, bitCount) = (0, 0)
    guard input.count - next >= count else { throw truncated }
    guard output.count - out >= count else { return false }
    if count > 0 {
      (output.baseAddress! + out).copyMemory(from: input.baseAddress! + next, byteCount: count)
    }
    next += count
    out += count
    return true
  }

  private func fixedTables() throws(FormatError) {
    // RFC 1951, 3.2.6.
    let lengths =
      [UInt8](repeating: 8, count: 144) + [UInt8](repeating: 9, count: 112) + [UInt8](repeating: 7, count: 24)
      + [UInt8](repeating: 8, count: 8)
    let distanceLengths = [UInt8](repeating: 5, count: 32)
    let valid =
      literals.build(lengths: lengths, count: 288, meanings: Meanings.literals)
      && distances.build(lengths: distanceLengths, count: 32, meanings: Meanings.distances)
    precondition(valid)
  }

  private mutating func dynamicTables() throws(FormatError) {
    // RFC 1951, 3.2.7.
    let literalCount = try take(5) + 257
    let distanceCount = try take(5) + 1
    let codeCount = try take(4) + 4
    guard literalCount <= 286, distanceCount <= 30 else {
      throw error(.malformed, "a block declares \(literalCount) literal and \(distanceCount) distance codes")
    }
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    var codeLengths = [UInt8](repeating: 0, count: 19)
    for index in 0..<codeCount { codeLengths[order[index]] = UInt8(try take(3)) }
    guard lengthCodes.build(lengths: codeLengths, count: 19, meanings: Meanings.lengths) else {
      throw error(.malformed, "impossible code lengths for the code lengths")
    }
    var lengths = [UInt8](repeating: 0, count: literalCount + distanceCount)
    var index = 0
    while index < lengths.count {
      refill()
      let entry = lengthCodes.lookup(bits)
      guard entry & HuffmanTable.Kind.mask == HuffmanTable.Kind.literal else {
        throw error(.malformed, "a code length that was not declared")
      }
      _ = try take(Int(entry & 31))
      let symbol = Int(entry >> 16)
      if symbol < 16 {
        lengths[index] = UInt8(symbol)
        index += 1
        continue
      }
      var repeated: UInt8 = 0
      let count: Int
      switch symbol {
      case 16:
        guard index > 0 else { throw error(.malformed, "a repetition of a code length that does not exist") }
        repeated = lengths[index - 1]
        count = try take(2) + 3
      case 17: count = try take(3) + 3
      default: count = try take(7) + 11
      }
      guard index + count <= lengths.count else { throw error(.malformed, "more code lengths than declared") }
      for position in index..<index + count { lengths[position] = repeated }
      index += count
    }
    guard lengths[256] != 0 else { throw error(.malformed, "a block without an end code") }
    let valid = lengths.withUnsafeBufferPointer {
      literals.build(lengths: $0.baseAddress!, count: literalCount, meanings: Meanings.literals)
        && distances.build(lengths: $0.baseAddress! + literalCount, count: distanceCount, meanings: Meanings.distances)
    }
    guard valid else { throw error(.malformed, "impossible code lengths") }
  }

  /// Decodes the symbols of one block. False when the output is full.
  private mutating func compressed() throws(FormatError) -> Bool {
    try fastPart()
    while true {
      refill()
      let entry = literals.lookup(bits)
      switch entry & HuffmanTable.Kind.mask {
      case HuffmanTable.Kind.literal:
        _ = try take(Int(entry & 31))
        guard out < output.count else { return false }
        output[out] = UInt8(truncatingIfNeeded: entry >> 16)
        out += 1
      case HuffmanTable.Kind.end:
        _ = try take(Int(entry & 31))
        return true
      case HuffmanTable.Kind.copy:
        _ = try take(Int(entry & 31))
        let count = Int(entry >> 16) + (try take(Int(entry >> 8 & 31)))
        refill()
        let code = distances.lookup(bits)
        guard code & HuffmanTable.Kind.mask == HuffmanTable.Kind.copy else {
          throw bitCount < 15 && next == input.count ? truncated : error(.malformed, "an undeclared distance code")
        }
        _ = try take(Int(code & 31))
        let distance = Int(code >> 16) + (try take(Int(code >> 8 & 31)))
        guard distance <= out - windowStart else { throw error(.malformed, "a copy from before the beginning") }
        guard output.count - out >= count else { return false }
        for index in out..<out + count { output[index] = output[index - distance] }
        out += count
      default:
        throw bitCount < 15 && next == input.count ? truncated : error(.malformed, "an undeclared code")
      }
    }
  }

  /// The same without checks per symbol, as long as input and output have room for any symbol; stops before a symbol that
  /// is not ordinary, for the careful loop to judge.
  private mutating func fastPart() throws(FormatError) {
    guard input.count >= 16, output.count >= 300 else { return }
    let inputBase = input.baseAddress!
    let outputBase = output.baseAddress!
    let lastInput = input.count - 8
    let lastOutput = output.count - 2 - 258 - 8
    let (literals, distances) = (self.literals, self.distances)
    var (next, out, bits, bitCount) = (self.next, self.out, self.bits, UInt64(self.bitCount))
    var isBeforeStart = false

    while next <= lastInput, out <= lastOutput {
      bits |= UInt64(littleEndian: inputBase.loadUnaligned(fromByteOffset: next, as: UInt64.self)) &<< bitCount
      next &+= Int(truncatingIfNeeded: (63 &- bitCount) &>> 3)
      bitCount |= 56
      var entry = literals.lookup(bits)
      if entry & HuffmanTable.Kind.mask == HuffmanTable.Kind.literal {
        // Three literals of at most 15 bits fit in what one refill gives.
        outputBase.storeBytes(of: UInt8(truncatingIfNeeded: entry >> 16), toByteOffset: out, as: UInt8.self)
        out &+= 1
        bits &>>= UInt64(entry & 31)
        bitCount &-= UInt64(entry & 31)
        entry = literals.lookup(bits)
        if entry & HuffmanTable.Kind.mask == HuffmanTable.Kind.literal {
          outputBase.storeBytes(of: UInt8(truncatingIfNeeded: entry >> 16), toByteOffset: out, as: UInt8.self)
          out &+= 1
          bits &>>= UInt64(entry & 31)
          bitCount &-= UInt64(entry & 31)
          entry = literals.lookup(bits)
          if entry & HuffmanTable.Kind.mask == HuffmanTable.Kind.literal {
            outputBase.storeBytes(of: UInt8(truncatingIfNeeded: entry >> 16), toByteOffset: out, as: UInt8.self)
            out &+= 1
            bits &>>= UInt64(entry & 31)
            bitCount &-= UInt64(entry & 31)
            continue
          }
        }
      }
      guard entry & HuffmanTable.Kind.mask == HuffmanTable.Kind.copy else { break }
      guard next <= lastInput else { break }
      // A length and distance with their extra bits take at most 48 bits.
      bits |= UInt64(littleEndian: inputBase.loadUnaligned(fromByteOffset: next, as: UInt64.self)) &<< bitCount
      next &+= Int(truncatingIfNeeded: (63 &- bitCount) &>> 3)
      bitCount |= 56
      let (bitsBefore, countBefore) = (bits, bitCount)
      bits &>>= UInt64(entry & 31)
      bitCount &-= UInt64(entry & 31)
      let extra = UInt64(entry >> 8 & 31)
      let count = Int(entry >> 16) &+ Int(truncatingIfNeeded: bits & ((1 &<< extra) &- 1))
      bits &>>= extra
      bitCount &-= extra
      let code = distances.lookup(bits)
      guard code & HuffmanTable.Kind.mask == HuffmanTable.Kind.copy else {
        (bits, bitCount) = (bitsBefore, countBefore)
        break
      }
      bits &>>= UInt64(code & 31)
      bitCount &-= UInt64(code & 31)
      let distanceExtra = UInt64(code >> 8 & 31)
      let distance = Int(code >> 16) &+ Int(truncatingIfNeeded: bits & ((1 &<< distanceExtra) &- 1))
      bits &>>= distanceExtra
      bitCount &-= distanceExtra
      guard distance <= out &- windowStart else {
        isBeforeStart = true
        break
      }
      var to = outputBase + out
      var from = UnsafeRawPointer(to) - distance
      let end = to + count
      if distance >= 8 {
        // Up to 7 bytes too many are written; the next symbols overwrite them.
        repeat {
          to.storeBytes(of: from.loadUnaligned(as: UInt64.self), as: UInt64.self)
          to += 8
          from += 8
        } while to < end
      } else if distance == 1 {
        to.initializeMemory(as: UInt8.self, repeating: from.load(as: UInt8.self), count: count)
      } else {
        repeat {
          to.storeBytes(of: from.load(as: UInt8.self), as: UInt8.self)
          to += 1
          from += 1
        } while to < end
      }
      out &+= count
    }
    (self.next, self.out, self.bitCount) = (next, out, Int(bitCount))
    // Above `bitCount` the buffer holds bits that will be read again.
    self.bits = bits & (1 << bitCount &- 1)
    if isBeforeStart { throw error(.malformed, "a copy from before the beginning") }
  }
}
