// Recurrent layers as scans over their steps, in the type of statistics.

extension RecurrentSequence {
  func decomposed(_ operands: [Term], keeps: Bool) -> [Term] {
    let own = operands[0].elementType
    let x = operands[..<operandCount].map { $0.convert(own.statistics) }
    let mask = Array(operands[operandCount...])
    let states = Array(kind == .lstm ? x[2...] : x[(operandCount - 1)...])
    let constants = kind == .gru ? [x[1], x[2]] : [x[1]]
    let (next, outputs) = scan(states, [x[0]], mask, constants, reverse: reverse) { states, elements, constants in
      let (gates, h) = (elements[0], states[0])
      let product = h.builder.apply(.dot(DotDimensions(lhsContracting: [1], rhsContracting: [1])), [h, constants[0]])[0]
      switch kind {
      case .lstm:
        let z = split(gates + product, 4)
        let (i, f, g, o) = (z[0].unary(.sigmoid), z[1].unary(.sigmoid), z[2].unary(.tanh), z[3].unary(.sigmoid))
        let c = f * states[1] + i * g
        let y = o * c.unary(.tanh)
        return ([y, c], [y, joined([i, f, g, o])])
      case .gru:
        let (p, q) = (split(gates, 3), split(product + constants[1], 3))
        let (r, z) = ((p[0] + q[0]).unary(.sigmoid), (p[1] + q[1]).unary(.sigmoid))
        let fresh = (p[2] + r * q[2]).unary(.tanh)
        let y = fresh + z * (h - fresh)
        return ([y], [y, joined([r, z, fresh, q[2]])])
      case .tanh, .relu:
        let y = (gates + product).unary(kind == .tanh ? .tanh : .relu)
        return ([y], [y])
      }
    }
    // Outputs of the scan: the states before each step, then what the step gave.
    let results = [outputs[states.count]] + next
    let kept = Array(outputs[..<states.count]) + Array(outputs[(states.count + 1)...])
    return (results + (keeps ? kept : [])).map { $0.convert(own) }
  }

  func decomposedGradient(_ operands: [Term]) -> [Term] {
    let own = operands[0].elementType
    let x = operands[..<gradientOperandCount].map { $0.convert(own.statistics) }
    let mask = Array(operands[gradientOperandCount...])
    let weight = gradientWeight
    let states = Array(x[1..<weight])
    let (next, outputs) = scan(states, [x[0]] + x[(weight + 1)...], mask, [x[weight]], reverse: !reverse) {
      states, elements, constants in
      let slope = states[0] + elements[0]
      func through(_ d: Term) -> Term {
        d.builder.apply(.dot(DotDimensions(lhsContracting: [1], rhsContracting: [0])), [d, constants[0]])[0]
      }
      switch kind {
      case .lstm:
        let (c, z) = (elements[1], split(elements[2], 4))
        let (i, f, g, o) = (z[0], z[1], z[2], z[3])
        let t = (f * c + i * g).unary(.tanh)
        let total = states[1] + slope * o * (1 - t * t)
        let d = joined([total * g * i * (1 - i), total * c * f * (1 - f), total * i * (1 - g * g), slope * t * o * (1 - o)])
        return ([through(d), total * f], [d])
      case .gru:
        let (h, kept) = (elements[1], split(elements[2], 4))
        let (r, z, fresh, product) = (kept[0], kept[1], kept[2], kept[3])
        let dfresh = slope * (1 - z) * (1 - fresh * fresh)
        let dr = dfresh * product * r * (1 - r)
        let dz = slope * (h - fresh) * z * (1 - z)
        let d = joined([dr, dz, dfresh * r])
        return ([through(d) + slope * z], [joined([dr, dz, dfresh]), d])
      case .tanh, .relu:
        let y = elements[1]
        let d =
          kind == .tanh
          ? slope * (1 - y * y) : y.builder.select(y.compare(.greater, y.like(0.0)), slope, y.like(0.0))
        return ([through(d)], [d])
      }
    }
    let results = outputs[states.count...] + next
    return results.map { $0.convert(own) }
  }

  /// Where the mask is false, states stay and outputs are zero.
  /// - Returns: the last states; the states before each step, then the outputs, of all steps.
  private func scan(
    _ states: [Term], _ sequences: [Term], _ mask: [Term], _ constants: [Term], reverse: Bool,
    _ step: (_ states: [Term], _ elements: [Term], _ constants: [Term]) -> (states: [Term], outputs: [Term])
  ) -> (states: [Term], outputs: [Term]) {
    let b = states[0].builder
    let length = sequences[0].shape[0]
    let elements = (sequences + mask).map { TensorType(Shape($0.shape.dropFirst()), $0.elementType) }
    let body = DecompositionBuilder(states.map(\.type) + elements + constants.map(\.type))
    let x = body.inputs
    let (first, last) = (states.count, states.count + sequences.count)
    let old = Array(x[..<first])
    var (next, outputs) = step(old, Array(x[first..<last]), Array(x[(last + mask.count)...]))
    if !mask.isEmpty {
      let seen = x[last].expand(1)
      next = zip(next, old).map { body.select(seen.broadcast($0.shape), $0, $1) }
      outputs = outputs.map { body.select(seen.broadcast($0.shape), $0, $0.like(0.0)) }
    }
    let loop = ScanLoop(
      body: Function("\(kind)_step", body.finish(next + old + outputs)), carried: states.count,
      sequences: sequences.count + mask.count, length: length, reverse: reverse)
    let results = b.apply(.scanLoop(loop), states + sequences + mask + constants)
    return (Array(results[..<first]), Array(results[first...]))
  }

  private func split(_ gates: Term, _ count: Int) -> [Term] {
    let n = gates.shape[1] / count
    return (0..<count).map { gates.slice(1, $0 * n, n) }
  }
  private func joined(_ parts: [Term]) -> Term { parts[0].builder.concatenate(parts, axis: 1) }
}
