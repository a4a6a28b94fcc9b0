/// Tokens by number and numbers by token. Tokens are compared byte by byte, as TensorFlow does: Swift's strings would take
/// composed and decomposed letters for equal.
struct TokenTable: Sendable {
  private var bytes: [UInt8] = []
  private var ends: [Int] = []
  /// Open addressing: a token's number + 1, or 0; a power of two of places, at most half of them taken.
  private var slots: [Int32] = Array(repeating: 0, count: 64)

  var count: Int { ends.count }

  init() {}

  init(_ tokens: [String]) {
    for token in tokens { _ = insert(token) }
  }

  subscript(number: Int) -> String { String(decoding: bytes[range(number)], as: UTF8.self) }

  func find(_ token: UnsafeRawBufferPointer) -> Int? {
    let number = slots[place(of: token)]
    return number == 0 ? nil : Int(number) - 1
  }

  func find(_ token: String) -> Int? {
    var token = token
    return token.withUTF8 { find(UnsafeRawBufferPointer($0)) }
  }

  /// The number of the token, a new one if it is new.
  mutating func insert(_ token: UnsafeRawBufferPointer) -> Int {
    let place = place(of: token)
    if slots[place] != 0 { return Int(slots[place]) - 1 }
    bytes.append(contentsOf: token)
    ends.append(bytes.count)
    slots[place] = Int32(ends.count)
    if 2 * ends.count > slots.count { grow() }
    return ends.count - 1
  }

  mutating func insert(_ token: String) -> Int {
    var token = token
    return token.withUTF8 { insert(UnsafeRawBufferPointer($0)) }
  }

  /// Whether the bytes of one token come before those of another.
  func precedes(_ a: Int, _ b: Int) -> Bool { bytes[range(a)].lexicographicallyPrecedes(bytes[range(b)]) }

  private func range(_ number: Int) -> Range<Int> { (number == 0 ? 0 : ends[number - 1])..<ends[number] }

  private func place(of token: UnsafeRawBufferPointer) -> Int {
    // Swift's hash has a random key in each process: nobody can choose texts whose words collide.
    var hasher = Hasher()
    hasher.combine(bytes: token)
    var place = hasher.finalize() & (slots.count - 1)
    while slots[place] != 0 {
      let range = range(Int(slots[place]) - 1)
      if range.count == token.count && bytes[range].elementsEqual(token) { break }
      place = (place + 1) & (slots.count - 1)
    }
    return place
  }

  private mutating func grow() {
    slots = Array(repeating: 0, count: 2 * slots.count)
    bytes.withUnsafeBytes { all in
      for number in 0..<count {
        slots[place(of: UnsafeRawBufferPointer(rebasing: all[range(number)]))] = Int32(number + 1)
      }
    }
  }
}
