import Testing

@testable import ApusCPU
@testable import ApusIR

@Suite struct MemoryPlanTests {
  /// Random lifetimes: what lives at the same time never overlaps, everything is aligned, and memory is used again.
  @Test func whatLivesAtOnceDoesNotOverlap() {
    var random = Seeded(3)
    for round in 0..<300 {
      let count = Int.random(in: 0...40, using: &random)
      let steps = Int.random(in: 1...30, using: &random)
      let buffers = (0..<count).map { _ -> MemoryPlan.Buffer in
        let first = Int.random(in: 0..<steps, using: &random)
        let last = min(steps - 1, first + Int.random(in: 0...6, using: &random))
        let size =
          Bool.random(using: &random) ? Int.random(in: 0...300, using: &random) : 1 << Int.random(in: 0...20, using: &random)
        return MemoryPlan.Buffer(byteCount: size, first: first, last: last)
      }
      let plan = MemoryPlan(buffers)
      #expect(plan.offsets.count == count)
      for (i, a) in buffers.enumerated() where a.byteCount > 0 {
        #expect(plan.offsets[i] % MemoryPlan.alignment == 0 && plan.offsets[i] + a.byteCount <= plan.byteCount)
        for (j, b) in buffers.enumerated().dropFirst(i + 1) where b.byteCount > 0 && a.first <= b.last && b.first <= a.last {
          let apart =
            plan.offsets[i] + a.byteCount <= plan.offsets[j] || plan.offsets[j] + b.byteCount <= plan.offsets[i]
          #expect(apart, "round \(round): buffers \(i) and \(j)")
        }
      }
      // Never more than everything side by side, never less than the most that lives at once.
      func rounded(_ x: Int) -> Int { (x + 63) / 64 * 64 }
      let all = buffers.reduce(0) { $0 + rounded($1.byteCount) }
      let most =
        (0..<steps).map { t in
          buffers.filter { $0.first <= t && t <= $0.last }.reduce(0) { $0 + rounded($1.byteCount) }
        }.max() ?? 0
      #expect(plan.byteCount <= all && plan.byteCount >= most)
    }
  }

  @Test func memoryIsUsedAgain() {
    let plan = MemoryPlan((0..<10).map { MemoryPlan.Buffer(byteCount: 1000, first: $0, last: $0 + 1) })
    #expect(plan.byteCount == 2048, "two live at any time")
    #expect(MemoryPlan([]).byteCount == 0)
    #expect(MemoryPlan([MemoryPlan.Buffer(byteCount: 0, first: 0, last: -1)]).byteCount == 0)
  }

  /// A chain of operations that cannot be fused needs two buffers, however long it is; what overwrites its operand needs one.
  @Test func chainsNeedTwoBuffers() throws {
    let x = float([64, 64])
    let chain = graph([x]) { b, x in
      var y = x[0]
      for _ in 0..<10 { y = b.apply(.scan(.sum, axis: 0, reverse: false, exclusive: false), [y])[0] * 0.01 }
      return [y.sum([0, 1])]
    }
    #expect(Plan(chain).memory.arena == 2 * 64 * 64 * 4)
    let rows = graph([x]) { b, x in
      var y = x[0]
      for _ in 0..<10 { y = b.apply(.composite(.softmax), [y])[0] }
      return [y.sum([0, 1])]
    }
    #expect(Plan(rows).memory.arena == 64 * 64 * 4)
  }
}
