// Scans and gradients of loops as loops.

extension ScanLoop {
  /// A loop that counts, takes the element of each sequence and puts the outputs where they belong.
  func decomposed(_ b: DecompositionBuilder) -> [Term] {
    let x = b.inputs
    let outputs = body.graph.outputTypes[carried...].map { type in
      TensorType(Shape([length] + Array(type.shape)), type.elementType)
    }
    let buffers = outputs.map { b.fill(.int(0), $0.shape, $0.elementType) }
    if length == 0 { return Array(x[..<carried]) + buffers }
    let states = [b.fill(0, [])] + Array(x[..<carried]) + buffers
    let constants = Array(x[carried...])
    let types = (states + constants).map(\.type)
    let count = states.count

    let condition = DecompositionBuilder(types)
    let more = condition.inputs[0].compare(.less, condition.fill(length, []))

    let round = DecompositionBuilder(types)
    let y = round.inputs
    let place = reverse ? round.fill(length - 1, []) - y[0] : y[0]
    func start(_ rank: Int) -> Term {
      rank == 1
        ? place.reshape([1]) : round.concatenate([place.reshape([1]), round.fill(0, [rank - 1])], axis: 0)
    }
    var operands = Array(y[1...carried])
    for sequence in y[count..<(count + sequences)] {
      var size = sequence.shape
      size[0] = 1
      let element = round.apply(.dynamicSlice(size: size), [sequence, start(sequence.rank)])[0]
      operands.append(element.reshape(Shape(size[1...])))
    }
    operands += y[(count + sequences)...]
    let results = round.apply(.call(body), operands)
    var next = [y[0] + y[0].like(1)] + Array(results[..<carried])
    for (buffer, output) in zip(y[(1 + carried)..<count], results[carried...]) {
      next.append(round.apply(.dynamicUpdateSlice, [buffer, output.expand(0), start(buffer.rank)])[0])
    }
    let loop = WhileLoop(
      condition: Function("\(body.name)_condition", condition.finish([more])),
      body: Function("\(body.name)_round", round.finish(next)), carried: count)
    return Array(b.apply(.whileLoop(loop), states + constants)[1...])
  }
}

extension WhileLoop {
  /// Counts the rounds, then walks them backward; each round's states are computed again from the start, since how many rounds
  /// there will be, and so how much memory they take, is not known before.
  func gradient(_ pullback: Function, _ b: DecompositionBuilder) -> [Term] {
    let x = b.inputs
    let states = Array(x[..<carried])
    let constants = Array(x[carried..<(x.count - carried)])
    let gradients = Array(x[(x.count - carried)...])
    let number = b.fill(0, [])

    // (round, states…, constants…): forward while the condition holds.
    let forwardTypes = [number.type] + (states + constants).map(\.type)
    let more = DecompositionBuilder(forwardTypes)
    let moreResult = more.apply(.call(condition), Array(more.inputs[1...]))
    let count = b.apply(
      .whileLoop(
        WhileLoop(
          condition: Function("\(condition.name)_more", more.finish(moreResult)), body: counted(forwardTypes),
          carried: 1 + carried)),
      [number] + states + constants)[0]

    // (rounds left, gradients…, sums…, states…, constants…).
    let sums = constants.map { b.fill(.int(0), $0.shape, $0.elementType) }
    let backTypes = [number.type] + (gradients + sums + states + constants).map(\.type)
    let left = DecompositionBuilder(backTypes)
    let isLeft = left.inputs[0].compare(.greater, left.fill(0, []))
    let back = DecompositionBuilder(backTypes)
    let y = back.inputs
    let (g, s) = (Array(y[1...carried]), Array(y[(1 + carried)..<(1 + carried + constants.count)]))
    let fixed = Array(y[(1 + carried + constants.count)...])
    let round = y[0] - y[0].like(1)

    // The states before this round: (round, states…, constants…, limit).
    let again = DecompositionBuilder(forwardTypes + [number.type])
    let isBefore = again.inputs[0].compare(.less, again.inputs[again.inputs.count - 1])
    let replay = WhileLoop(
      condition: Function("\(condition.name)_before", again.finish([isBefore])), body: counted(forwardTypes, limited: true),
      carried: 1 + carried)
    let replayed = back.apply(.whileLoop(replay), [back.fill(0, [])] + fixed + [round])
    let results = back.apply(.call(pullback), Array(replayed[1...]) + Array(fixed[carried...]) + g)
    let added = zip(s, results[carried...]).map { a, b in a.elementType.isFloatingPoint ? a + b : b }
    let loop = WhileLoop(
      condition: Function("\(body.name)_left", left.finish([isLeft])),
      body: Function("\(body.name)_back", back.finish([round] + results[..<carried] + added)),
      carried: 1 + carried + constants.count)
    return Array(b.apply(.whileLoop(loop), [count] + gradients + sums + states + constants)[1...])
  }

  /// One round of the body that counts.
  private func counted(_ types: [TensorType], limited: Bool = false) -> Function {
    let b = DecompositionBuilder(limited ? types + [types[0]] : types)
    let x = b.inputs
    let results = b.apply(.call(body), Array(x[1..<types.count]))
    return Function("\(body.name)_counted", b.finish([x[0] + x[0].like(1)] + results))
  }
}
