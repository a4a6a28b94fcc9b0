// Control flow of a batch. A condition that all examples share stays one; else work is done for all as long as one needs it,
// and each example takes what is its own.

extension Batch {
  /// `a` for the examples where the condition holds, else `b`.
  private func choose(_ condition: Tensor, _ a: Tensor, _ b: Tensor) -> Tensor {
    `where`(condition.reshaped([size] + Array(repeating: 1, count: a.rank - 1)).broadcast(to: a.shape), a, b)
  }

  func conditional(_ x: [Batched], _ then: Function, _ otherwise: Function) -> [Tensor] {
    let operands = Array(x[1...])
    func run(_ function: Function) -> [Tensor] { function.graph.batched(operands, self).map(whole) }
    if !x[0].isBatched {
      return ApusTensor.conditional(x[0].tensor, then: { run(then) }, otherwise: { run(otherwise) })
    }
    return zip(run(then), run(otherwise)).map { choose(x[0].tensor, $0, $1) }
  }

  func whileLoop(_ x: [Batched], _ loop: WhileLoop) -> [Tensor] {
    // Which states differ between examples, after any number of rounds.
    var flags = x.map(\.isBatched)
    while true {
      if loop.condition.graph.batchedOutputs(flags)[0] { for i in 0..<loop.carried { flags[i] = true } }
      let after = loop.body.graph.batchedOutputs(flags)
      let fresh = (0..<loop.carried).filter { after[$0] && !flags[$0] }
      if fresh.isEmpty { break }
      for i in fresh { flags[i] = true }
    }
    let isApart = loop.condition.graph.batchedOutputs(flags)[0]
    func operands(_ states: [Tensor]) -> [Batched] { zip(states, flags).map { Batched($0, $1) } + x[loop.carried...] }
    func holds(_ states: [Tensor]) -> Tensor { loop.condition.graph.batched(operands(states), self)[0].tensor }
    let initial = (0..<loop.carried).map { flags[$0] ? whole(x[$0]) : x[$0].tensor }
    let last = ApusTensor.whileLoop(
      initial, while: { isApart ? holds($0).any() : holds($0) },
      do: { states in
        let results = loop.body.graph.batched(operands(states), self)
        let next = results.enumerated().map { flags[$0] ? whole($1) : $1.tensor }
        if !isApart { return next }
        let running = holds(states)
        return zip(next, states).map { choose(running, $0, $1) }
      })
    return zip(last, flags).map { whole(Batched($0, $1)) }
  }

  func scan(_ x: [Batched], _ loop: ScanLoop) -> [Tensor] {
    let first = loop.carried + loop.sequences
    var flags = x.map(\.isBatched)
    while true {
      let after = loop.body.graph.batchedOutputs(flags)
      let fresh = (0..<loop.carried).filter { after[$0] && !flags[$0] }
      if fresh.isEmpty { break }
      for i in fresh { flags[i] = true }
    }
    let initial = (0..<loop.carried).map { flags[$0] ? whole(x[$0]) : x[$0].tensor }
    // Rounds come before examples.
    let sequences = x[loop.carried..<first].map { $0.isBatched ? $0.tensor.movedAxis(1, to: 0) : $0.tensor }
    let results = scanTensors(initial, sequences, length: loop.length, reverse: loop.reverse) { states, elements in
      let operands = zip(states + elements, flags).map { Batched($0, $1) } + x[first...]
      let results = loop.body.graph.batched(operands, self)
      return (
        (0..<loop.carried).map { flags[$0] ? whole(results[$0]) : results[$0].tensor }, results[loop.carried...].map(whole)
      )
    }
    return zip(results.states, flags).map { whole(Batched($0, $1)) } + results.outputs.map { $0.movedAxis(1, to: 0) }
  }
}
