import ApusIR

/// Where each temporary of a plan lies in one arena, from when it is first written to when it is last read.
///
/// The largest first, each at the lowest place that is free for its whole life ("greedy by size", Pisarchyk and Lee 2020).
struct MemoryPlan: Sendable {
  struct Buffer: Sendable {
    let byteCount: Int
    /// The steps during which the content matters.
    var first, last: Int
  }

  static let alignment = 64
  let offsets: [Int]
  let byteCount: Int

  init(_ buffers: [Buffer]) {
    var offsets = [Int](repeating: 0, count: buffers.count)
    var placed: [Int] = []  // by rising offset
    var end = 0
    let order = buffers.indices.sorted { (buffers[$0].byteCount, $1) > (buffers[$1].byteCount, $0) }
    for i in order where buffers[i].byteCount > 0 {
      let size = (buffers[i].byteCount + MemoryPlan.alignment - 1) / MemoryPlan.alignment * MemoryPlan.alignment
      var at = 0
      for other in placed {
        let o = buffers[other]
        if o.last < buffers[i].first || o.first > buffers[i].last { continue }
        if offsets[other] >= at + size { break }
        at = max(at, offsets[other] + (o.byteCount + MemoryPlan.alignment - 1) / MemoryPlan.alignment * MemoryPlan.alignment)
      }
      offsets[i] = at
      let position = placed.firstIndex { offsets[$0] > at } ?? placed.count
      placed.insert(i, at: position)
      end = max(end, at + size)
    }
    self.offsets = offsets
    byteCount = end
  }
}
