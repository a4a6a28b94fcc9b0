extension Match {
  /// softmax(q kᵀ · scale + mask) v with up to two batch dimensions, in any order of dimensions: the matrix of scores is never made.
  static func attention(_ match: inout Match, _ root: Value) -> Replacement? {
    guard let node = match.node(root), case .dot(let d) = node.operation else { return nil }
    _ = match.enter(root)
    for side in 0...1 {
      var attempt = match
      guard let weights = attempt.weights(node.inputs[side]) else { continue }
      let other = node.inputs[1 - side]
      let (pBatch, vBatch) = side == 0 ? (d.lhsBatch, d.rhsBatch) : (d.rhsBatch, d.lhsBatch)
      let (pContracting, vContracting) =
        side == 0 ? (d.lhsContracting, d.rhsContracting) : (d.rhsContracting, d.lhsContracting)
      let batch = weights.batch
      let vRank = match.shape(other).count
      // p is [batch…, queries, keys].
      guard pBatch.count == batch, Set(pBatch) == Set(0..<batch), pContracting.count == 1, pContracting[0] == batch + 1,
        vRank == batch + 2, match.shape(node.inputs[side]).elementCount > 0,
        match.type(other).elementType == match.type(root).elementType,
        match.type(weights.q).elementType == match.type(root).elementType
      else { continue }
      let vFree = (0..<vRank).first { !vBatch.contains($0) && !vContracting.contains($0) }
      guard let vFree else { continue }
      // v as [batch in p's order…, keys, dim].
      let vOrder = (0..<batch).map { b in vBatch[pBatch.firstIndex(of: b) ?? 0] } + [vContracting[0], vFree]
      // The product gives [batch in its own order…, queries, dim], or the last two exchanged.
      let order = Array(pBatch) + (side == 0 ? [batch, batch + 1] : [batch + 1, batch])
      match = attempt
      return { builder in
        weights.result(&builder, v: builder.transposed(builder.value(other), vOrder), order)
      }
    }
    return nil
  }

  private enum Mask {
    case causal
    /// bool; with `lowered`, scores that are not seen are finite.
    case seen(Value, inverted: Bool, lowered: Bool)
    case added(Value)
  }

  private struct Weights {
    let batch: Int
    let q, k: Value
    let qOrder, kOrder: [Int]
    let scale: Double
    let mask: Mask?

    /// Attention's result, its dimensions taken in this order from [batch…, queries, dim].
    func result(_ builder: inout Builder, v: Value, _ order: [Int]) -> Value {
      func heads(_ x: Value, _ builder: inout Builder) -> Value {
        let shape = builder.type(x).shape
        return builder.reshaped(x, Shape(Array(repeating: 1, count: 2 - batch) + Array(shape)))
      }
      let q = builder.transposed(builder.value(self.q), qOrder)
      let k = builder.transposed(builder.value(self.k), kOrder)
      var y = builder.type(q).shape
      y[y.count - 1] = builder.type(v).shape[batch + 1]
      var inputs = [heads(q, &builder), heads(k, &builder), heads(v, &builder)]
      let (first, type) = (builder.type(inputs[0]).shape, builder.type(q).elementType)
      let scores = Shape([first[0], first[1], first[2], builder.type(inputs[1]).shape[2]])
      var isCausal = false
      switch mask {
      case nil: break
      case .causal: isCausal = true
      case .added(let value): inputs.append(whole(builder.value(value), scores, &builder))
      case .seen(let value, let inverted, let lowered):
        var mask = builder.value(value)
        if inverted && !lowered { mask = builder.apply(.unary(.not), mask) }
        if lowered {
          // So low that nothing else counts: rows in which nothing is seen weigh all alike, as they do in softmax.
          let shape = builder.type(mask).shape
          let zero = builder.apply(.fill(shape, type, .double(0)))
          let low = builder.apply(.fill(shape, type, .double(-1e30)))
          mask = inverted ? builder.apply(.select, mask, low, zero) : builder.apply(.select, mask, zero, low)
        }
        inputs.append(whole(mask, scores, &builder))
      }
      let attention = Operation.composite(.attention(scale: scale, causal: isCausal))
      let result = builder.apply(attention, inputs)
      return builder.transposed(builder.reshaped(result, y), order)
    }

    /// A mask of at most [batch…, queries, keys], repeated.
    private func whole(_ mask: Value, _ scores: Shape, _ builder: inout Builder) -> Value {
      let shape = builder.type(mask).shape
      let full = Shape(Array(repeating: 1, count: 4 - shape.count) + Array(shape))
      return builder.broadcast(builder.reshaped(mask, full), scores)
    }
  }

  /// softmax(scores), where scores are a product with its scale and mask.
  private mutating func weights(_ value: Value) -> Weights? {
    let type = type(value).elementType
    guard let softmax = operands(pastConversions(value), .composite(.softmax)) else { return nil }
    var scores = pastConversions(softmax[0])
    var mask: Mask?
    if let node = node(scores) {
      switch node.operation {
      case .select:
        // Where the condition holds, the score; else what hides it. Or the other way round.
        let inverted = number(node.inputs[1]) != nil
        guard let hidden = number(node.inputs[inverted ? 1 : 2]), hidden <= -1e8 else { return nil }
        if !inverted && isCausal(node.inputs[0]) {
          mask = .causal
        } else {
          // float16 has no number that low.
          if hidden != -.infinity && type == .float16 { return nil }
          mask = .seen(unrepeated(node.inputs[0]), inverted: inverted, lowered: hidden != -.infinity)
        }
        _ = enter(scores)
        scores = pastConversions(node.inputs[inverted ? 2 : 1])
      case .binary(.add):
        guard let i = [0, 1].first(where: { isProduct(node.inputs[$0]) }) else { return nil }
        let added = node.inputs[1 - i]
        guard number(added) == nil, self.type(added).elementType == type else { return nil }
        mask = .added(unrepeated(added))
        _ = enter(scores)
        scores = pastConversions(node.inputs[i])
      default: break
      }
    }
    var scale = 1.0
    scores = scaled(scores, &scale)
    guard let node = node(scores), case .dot(let d) = node.operation, self.type(scores).elementType == type else { return nil }
    let batch = d.lhsBatch.count
    let (lhs, rhs) = (shape(node.inputs[0]), shape(node.inputs[1]))
    guard batch <= 2, lhs.count == batch + 2, rhs.count == batch + 2, d.lhsContracting.count == 1 else { return nil }
    _ = enter(scores)
    let qOrder = Array(d.lhsBatch) + Array(d.lhsFree(rank: lhs.count)) + [d.lhsContracting[0]]
    let kOrder = Array(d.rhsBatch) + Array(d.rhsFree(rank: rhs.count)) + [d.rhsContracting[0]]
    // A scale on one of the factors.
    let q = scaledOperand(node.inputs[0], &scale)
    let k = scaledOperand(node.inputs[1], &scale)
    guard scale.isFinite else { return nil }
    return Weights(batch: batch, q: q, k: k, qOrder: qOrder, kOrder: kOrder, scale: scale, mask: mask)
  }

  private mutating func pastConversions(_ value: Value) -> Value {
    var value = value
    while let node = node(value), case .convert = node.operation, type(node.inputs[0]).elementType.isFloatingPoint {
      _ = enter(value)
      value = node.inputs[0]
    }
    return value
  }

  /// Past multiplications by and divisions by numbers.
  private mutating func scaled(_ value: Value, _ scale: inout Double) -> Value {
    var value = pastConversions(value)
    while let node = node(value) {
      if let (other, number) = withNumber(value, .mul) {
        scale *= number
        value = pastConversions(other)
      } else if node.operation == .binary(.div), let number = number(node.inputs[1]) {
        scale /= number
        _ = enter(value)
        value = pastConversions(node.inputs[0])
      } else {
        break
      }
    }
    return value
  }

  /// A factor without its scale, if nothing else reads the scaled one and the type is the same.
  private mutating func scaledOperand(_ value: Value, _ scale: inout Double) -> Value {
    guard facts.readers[value].count == 1, !facts.isOutput[value], let node = node(value) else { return value }
    if node.operation == .binary(.div), let number = number(node.inputs[1]), number != 0 {
      scale /= number
      return enter(value)?.inputs[0] ?? value
    }
    if let (other, number) = withNumber(value, .mul) {
      scale *= number
      return other
    }
    return value
  }

  /// Whether a value is a product, perhaps scaled or converted.
  private func isProduct(_ value: Value) -> Bool {
    var probe = self
    var scale = 1.0
    guard let node = node(probe.scaled(value, &scale)), case .dot = node.operation else { return false }
    return true
  }

  // MARK: Masks

  /// A mask before it is repeated.
  private func unrepeated(_ value: Value) -> Value {
    var value = value
    while let node = node(value), case .broadcast = node.operation { value = node.inputs[0] }
    return value
  }

  /// Whether a bool mask [batch…, queries, keys] lets the last query see all keys, each one before it one fewer.
  private func isCausal(_ mask: Value) -> Bool {
    let shape = shape(mask)
    let (queries, keys) = (shape[shape.count - 2], shape[shape.count - 1])
    guard queries <= keys else { return false }  // queries before the first key see nothing
    return isTriangle(mask, offset: keys - queries, [queries, keys])
  }

  /// Whether the value is row + offset ≥ column in its last two dimensions.
  private func isTriangle(_ value: Value, offset: Int, _ size: [Int], depth: Int = 0) -> Bool {
    guard depth < 16, let node = node(value) else { return false }
    let shape = shape(value)
    guard shape.count >= 2, Array(shape.suffix(2)) == size else { return false }
    switch node.operation {
    case .broadcast, .reshape: return isTriangle(node.inputs[0], offset: offset, size, depth: depth + 1)
    case .triangle(let upper, let diagonal): return !upper && diagonal == offset && isTrue(node.inputs[0], true)
    case .select:
      return isTrue(node.inputs[1], true) && isTrue(node.inputs[2], false)
        && isTriangle(node.inputs[0], offset: offset, size, depth: depth + 1)
    case .binary(.and):
      return isTrue(node.inputs[1], true) && isTriangle(node.inputs[0], offset: offset, size, depth: depth + 1)
        || isTrue(node.inputs[0], true) && isTriangle(node.inputs[1], offset: offset, size, depth: depth + 1)
    case .compare(let kind):
      guard kind == .greaterEqual || kind == .lessEqual else { return false }
      let (row, column) = kind == .greaterEqual ? (node.inputs[0], node.inputs[1]) : (node.inputs[1], node.inputs[0])
      guard let r = position(row, shape.count - 2), let c = position(column, shape.count - 1) else { return false }
      return r - c == offset
    default: return false
    }
  }

  private func isTrue(_ value: Value, _ expected: Bool, depth: Int = 0) -> Bool {
    guard depth < 16, let node = node(value) else { return false }
    switch node.operation {
    case .fill(_, .bool, let scalar): return (scalar.double != 0) == expected
    case .broadcast, .reshape: return isTrue(node.inputs[0], expected, depth: depth + 1)
    default: return false
    }
  }

  /// The offset of a value that counts along an axis.
  private func position(_ value: Value, _ axis: Int, depth: Int = 0) -> Int? {
    guard depth < 16, let node = node(value) else { return nil }
    switch node.operation {
    case .iota(_, _, axis): return 0
    case .broadcast:
      let missing = shape(value).count - shape(node.inputs[0]).count
      guard axis >= missing, shape(node.inputs[0])[axis - missing] == shape(value)[axis] else { return nil }
      return position(node.inputs[0], axis - missing, depth: depth + 1)
    case .convert(let type): return type.isInteger ? position(node.inputs[0], axis, depth: depth + 1) : nil
    case .reshape:
      // From one dimension to a row or a column.
      let (from, to) = (shape(node.inputs[0]), shape(value))
      guard from.count == 1, to[axis] == from[0], to.elementCount == from[0] else { return nil }
      return position(node.inputs[0], 0, depth: depth + 1)
    case .binary(.add), .binary(.sub):
      if let number = number(node.inputs[1]), abs(number) < 1e9, let p = position(node.inputs[0], axis, depth: depth + 1) {
        return node.operation == .binary(.add) ? p + Int(number) : p - Int(number)
      }
      if node.operation == .binary(.add), let number = number(node.inputs[0]), abs(number) < 1e9 {
        return position(node.inputs[1], axis, depth: depth + 1).map { $0 + Int(number) }
      }
      return nil
    default: return nil
    }
  }
}
