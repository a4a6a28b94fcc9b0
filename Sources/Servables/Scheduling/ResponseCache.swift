import ApusCPU
import ApusFormats
import ApusTensor

/// Answers to requests that came before, those used longest ago making room. A hash finds an entry, and the inputs are then compared
/// in full: an answer is never another request's.
struct ResponseCache {
  private final class Entry {
    let hash: UInt64
    let signature: Int
    /// In the signature's order.
    let inputs: [Tensor]
    let outputs: [Tensor]
    let byteCount: Int
    /// The list by use, the latest first.
    var next: Entry?
    unowned(unsafe) var previous: Entry?

    init(_ hash: UInt64, _ signature: Int, _ inputs: [Tensor], _ outputs: [Tensor], byteCount: Int) {
      (self.hash, self.signature, self.inputs, self.outputs, self.byteCount) = (hash, signature, inputs, outputs, byteCount)
    }
  }

  private var entries: [UInt64: Entry] = [:]
  private var first: Entry?
  private unowned(unsafe) var last: Entry?
  private(set) var byteCount = 0
  let limit: Int

  init(limit: Int) { self.limit = limit }

  static func hash(_ signature: Int, _ inputs: [Tensor]) -> UInt64 {
    var hash = UInt64(truncatingIfNeeded: signature)
    for tensor in inputs {
      for size in tensor.shape { hash = (hash ^ UInt64(truncatingIfNeeded: size)) &* 0x9ddf_ea08_eb38_2d69 }
      let bytes = tensor.withUnsafeBytes { FarmHash.fingerprint($0) }
      hash = (hash.multipliedFullWidth(by: 0x9ae1_6a3b_2f90_404f).high ^ hash ^ bytes) &* 0x9ddf_ea08_eb38_2d69
    }
    return hash
  }

  /// A candidate, to be compared without a lock: whether its inputs are the request's is for ``areEqual(_:_:)`` to say.
  mutating func candidate(_ hash: UInt64, _ signature: Int) -> (inputs: [Tensor], outputs: [Tensor])? {
    guard let entry = entries[hash], entry.signature == signature else { return nil }
    unlink(entry)
    link(entry)
    return (entry.inputs, entry.outputs)
  }

  static func areEqual(_ a: [Tensor], _ b: [Tensor]) -> Bool {
    a.count == b.count
      && zip(a, b).allSatisfy { a, b in
        a.type == b.type && a.withUnsafeBytes { a in b.withUnsafeBytes { b in a.elementsEqual(b) } }
      }
  }

  mutating func insert(_ hash: UInt64, _ signature: Int, _ inputs: [Tensor], _ outputs: [Tensor]) {
    let bytes = (inputs + outputs).reduce(256) { $0 + $1.count * $1.elementType.byteSize }
    guard bytes <= limit else { return }
    if let old = entries[hash] { remove(old) }
    let entry = Entry(hash, signature, inputs, outputs, byteCount: bytes)
    entries[hash] = entry
    byteCount += bytes
    link(entry)
    while byteCount > limit, let last { remove(last) }
  }

  private mutating func remove(_ entry: Entry) {
    unlink(entry)
    entries[entry.hash] = nil
    byteCount -= entry.byteCount
  }

  private mutating func link(_ entry: Entry) {
    entry.next = first
    first?.previous = entry
    first = entry
    if last == nil { last = entry }
  }

  private mutating func unlink(_ entry: Entry) {
    let (previous, next) = (entry.previous, entry.next)
    if let previous { previous.next = next } else { first = next }
    if let next { next.previous = previous } else { last = previous }
    entry.next = nil
    entry.previous = nil
  }
}

/// A tensor with memory of its own: a view of a batch's results would keep all of them.
func compact(_ tensor: Tensor) -> Tensor {
  let array = tensor.array
  let bytes = array.elementCount * array.elementType.byteSize
  return array.isRowMajor && (array.storage?.byteCount ?? 0) <= bytes ? tensor : Tensor(values: array.copy())
}
