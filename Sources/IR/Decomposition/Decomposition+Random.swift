// Random numbers: Philox4x32-10 (Salmon et al. 2011) in int64 arithmetic, and the distributions of its words.

extension RandomParameters {
  private static let low32 = 0xffff_ffff

  private static func low(_ x: Term) -> Term { x.binary(.and, x.like(low32)) }

  /// The upper half of a word without its sign.
  private static func high(_ x: Term) -> Term { low(x.binary(.shiftRight, x.like(32))) }

  /// The 32-bit words number counter … counter + count − 1 of the stream, as int64 [count].
  private func words(_ state: Term, _ count: Int) -> Term {
    let b = state.builder
    let (key, counter) = (state.slice(0, 0, 1), state.slice(0, 1, 1))
    let blocks = (count + 6) / 4
    // Blocks from the one that holds the first word; the counter is unsigned.
    let first = counter.binary(.shiftRight, counter.like(2)).binary(.and, counter.like(Int.max >> 1))
    let block = b.iota([blocks], axis: 0) + first
    var c = [Self.low(block), Self.high(block), b.fill(0, [blocks]), b.fill(0, [blocks])]
    var (k0, k1) = (Self.low(key), Self.high(key))
    for _ in 0..<10 {
      let (p0, p1) = (c[0] * c[0].like(0xD251_1F53), c[2] * c[2].like(0xCD9E_8D57))
      c = [
        Self.high(p1).binary(.xor, c[1]).binary(.xor, k0), Self.low(p1), Self.high(p0).binary(.xor, c[3]).binary(.xor, k1),
        Self.low(p0),
      ]
      k0 = Self.low(k0 + k0.like(0x9E37_79B9))
      k1 = Self.low(k1 + k1.like(0xBB67_AE85))
    }
    let table = b.concatenate(c.map { $0.expand(1) }, axis: 1).reshape([4 * blocks])
    return b.apply(.dynamicSlice(size: [count]), [table, counter.binary(.and, counter.like(3))])[0]
  }

  /// Pairs of words: the lower and the upper half of 64 bits each.
  private func pairs(_ state: Term, _ count: Int) -> (low: Term, high: Term) {
    let table = words(state, 2 * count).reshape([count, 2])
    return (table.slice(1, 0, 1).squeeze(1), table.slice(1, 1, 1).squeeze(1))
  }

  /// The upper 64 bits of x · range; x is given in halves.
  private static func scaled(_ x: (low: Term, high: Term), _ range: Term) -> Term {
    let (r0, r1) = (low(range), high(range))
    let (p00, p01, p10, p11) = (x.low * r0, x.low * r1, x.high * r0, x.high * r1)
    let middle = high(p00) + low(p01) + low(p10)
    return p11 + high(p01) + high(p10) + high(middle)
  }

  private func real(_ x: Term) -> Term { x.convert(.float64) }

  func decomposed(_ state: Term) -> Term {
    let b = state.builder
    let count = shape.elementCount
    if count == 0 { return b.fill(.int(0), shape, elementType) }
    let isDouble = elementType == .float64
    let result: Term
    switch kind {
    case .bits: result = words(state, count)
    case .bernoulli(let probability):
      let threshold = probability >= 1 ? 1 << 32 : probability > 0 ? Int(probability * 0x1p32 + 0.5) : 0
      let drawn = words(state, count)
      return drawn.compare(.less, drawn.like(threshold)).reshape(shape)
    case .integers(let low, let high):
      let range = b.fill(high &- low, [count])
      result = Self.scaled(pairs(state, count), range) + b.fill(low, [count])
    case .permutation: return permutation(pairs(state, count), count)
    case .uniform(let low, let high): result = uniform(state, count, low, high)
    case .normal(let mean, let deviation):
      let half = (count + 1) / 2
      let (radius, angle): (Term, Term)
      if isDouble {
        let (even, odd) = pairs(state, 2 * half)
        func part(_ x: Term, _ i: Int) -> Term { x.reshape([half, 2]).slice(1, i, 1).squeeze(1) }
        // The upper 52 bits, and the angle from all 64 as a signed number.
        let top = part(odd, 0) * b.fill(1 << 20, [half]) + part(even, 0).binary(.shiftRight, b.fill(12, [half]))
        radius = real(top) * 0x1p-52 + 0x1p-53
        angle = real(part(odd, 1) * b.fill(1 << 32, [half]) + part(even, 1)) * (2 * Double.pi * 0x1p-64)
      } else {
        let (even, odd) = pairs(state, half)
        radius = (real(even.binary(.shiftRight, b.fill(1, [half]))) + 0.5) * 0x1p-31
        angle = real(odd) * (2 * Double.pi * 0x1p-32)
      }
      let length = (radius.unary(.log) * -2.0).unary(.sqrt)
      let both = b.concatenate([(length * angle.unary(.cos)).expand(1), (length * angle.unary(.sin)).expand(1)], axis: 1)
      result = both.reshape([2 * half]).slice(0, 0, count) * deviation + mean
    case .truncatedNormal(let mean, let deviation, let low, let high):
      let u: Term
      if isDouble {
        let (lower, upper) = pairs(state, count)
        let top = upper * upper.like(1 << 20) + lower.binary(.shiftRight, lower.like(12))
        u = real(top) * 0x1p-52 + 0x1p-53
      } else {
        u = (real(words(state, count)) + 0.5) * 0x1p-32
      }
      // The tails' probabilities, as functions of the graph: this module has no error function of its own.
      let scalar: Shape = []
      let (a, z) = ((low - mean) / deviation, (high - mean) / deviation)
      func tail(_ t: Double) -> Term { b.fill(t * 0.5.squareRoot(), scalar, .float64).unary(.erfc) * 0.5 }
      let (below, above) = (tail(-a), tail(z))
      let span = a > 0 ? tail(a) - above : z < 0 ? tail(-z) - below : 1 - below - above
      let (p, q) = (u * span + below, (1 - u) * span + above)
      let isBelow = p.compare(.less, q)
      let smaller = p.binary(.min, q).binary(.max, p.like(0x1p-1022))
      let x = normalQuantile(p - 0.5, tail: smaller, isBelow: isBelow) * deviation + mean
      let inner = (
        elementType.rounded(low) >= low ? elementType.rounded(low) : elementType.neighbour(low, up: true),
        elementType.rounded(high) <= high ? elementType.rounded(high) : elementType.neighbour(high, up: false)
      )
      let narrow = x.binary(.max, x.like(low)).binary(.min, x.like(high)).convert(isDouble ? .float64 : .float32)
      result = narrow.binary(.max, narrow.like(inner.0)).binary(.min, narrow.like(inner.1))
    }
    return result.convert(elementType).reshape(shape)
  }

  private func uniform(_ state: Term, _ count: Int, _ low: Double, _ high: Double) -> Term {
    var bottom = elementType.rounded(low)
    var top = elementType.neighbour(high, up: false)
    if bottom < low { bottom = elementType.neighbour(low, up: true) }
    if bottom > top {
      bottom = elementType.rounded(low)
      top = bottom
    }
    var (a, s, c) = (low, high - low, 1.0)
    let work: ElementType = elementType == .float64 ? .float64 : .float32
    if !work.rounded(s).isFinite { (a, s, c) = (low / 2, high / 2 - low / 2, 2) }
    let u: Term
    if elementType == .float64 {
      let (lower, upper) = pairs(state, count)
      u = real(upper) * 0x1p-32 + real(lower.binary(.shiftRight, lower.like(11))) * 0x1p-53
    } else {
      let bits = elementType == .float16 ? 11 : elementType == .bfloat16 ? 8 : 24
      let drawn = words(state, count)
      u = drawn.binary(.shiftRight, drawn.like(32 - bits)).convert(.float32) * (1 / Double(1 << bits))
    }
    let x = (u * s + a) * c
    return x.binary(.max, x.like(bottom)).binary(.min, x.like(top))
  }

  /// Fisher and Yates: the last with any, then the one before it.
  private func permutation(_ x: (low: Term, high: Term), _ count: Int) -> Term {
    let b = x.low.builder
    let last = b.fill(count - 1, [count]) - b.iota([count], axis: 0)
    let partners = Self.scaled(x, last + last.like(1))
    let types = [TensorType([], .int64), TensorType([count], .int64), TensorType([count], .int64)]
    let condition = DecompositionBuilder(types)
    let more = condition.inputs[0].compare(.less, condition.fill(count, []))
    let body = DecompositionBuilder(types)
    let (k, line, all) = (body.inputs[0], body.inputs[1], body.inputs[2])
    func element(_ x: Term, _ i: Term) -> Term { body.apply(.dynamicSlice(size: [1]), [x, i])[0] }
    let i = (body.fill(count - 1, []) - k).reshape([1])
    let j = element(all, k.reshape([1]))
    let (a, z) = (element(line, i), element(line, j))
    let first = body.apply(.dynamicUpdateSlice, [line, z, i])[0]
    let second = body.apply(.dynamicUpdateSlice, [first, a, j])[0]
    let loop = WhileLoop(
      condition: Function("permutation_condition", condition.finish([more])),
      body: Function("permutation_body", body.finish([k + k.like(1), second])), carried: 2)
    return b.apply(.whileLoop(loop), [b.fill(0, []), b.iota([count], axis: 0), partners])[1]
  }
}
