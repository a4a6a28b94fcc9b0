extension Composite {
  /// The formulas that kernels compute, in the type of statistics.
  func decomposed(_ x: [Term]) -> [Term] {
    let b = x[0].builder
    let last = Axes([max(x[0].rank - 1, 0)])
    switch self {
    case .softmax:
      if x[0].shape.contains(0) { return [x[0]] }  // rows without elements have no maximum
      let e = (x[0] - x[0].reduce(.max, last, keepDims: true).stopGradient()).unary(.exp)
      return [e / e.sum(last, keepDims: true)]
    case .logSoftmax:
      if x[0].shape.contains(0) { return [x[0]] }
      let shifted = x[0] - x[0].reduce(.max, last, keepDims: true).stopGradient()
      return [shifted - shifted.unary(.exp).sum(last, keepDims: true).unary(.log)]
    case .softmaxGradient:
      let (y, dy) = (x[0], x[1])
      return [y * (dy - (dy * y).sum(last, keepDims: true))]
    case .logSoftmaxGradient:
      let (y, dy) = (x[0], x[1])
      return [dy - y.unary(.exp) * dy.sum(last, keepDims: true)]
    case .layerNorm(let epsilon):
      let wide = x[0].convert(x[0].elementType.statistics)
      let mean = wide.mean(last, keepDims: true)
      let centred = wide - mean
      let rstd = ((centred * centred).mean(last, keepDims: true) + epsilon).unary(.rsqrt)
      let y = centred * rstd * x[1].convert(wide.elementType) + x[2].convert(wide.elementType)
      return [y.convert(x[0].elementType), mean.squeeze(last[0]), rstd.squeeze(last[0])]
    case .layerNormGradient:
      let type = x[1].elementType.statistics
      let (dy, value, weight) = (x[0].convert(type), x[1].convert(type), x[2].convert(type))
      let (mean, rstd) = (x[3].expand(x[3].rank), x[4].expand(x[4].rank))
      let normal = (value - mean) * rstd
      let g = dy * weight
      let dx = (g - g.mean(last, keepDims: true) - normal * (g * normal).mean(last, keepDims: true)) * rstd
      let rows = Axes(0..<(dy.rank - 1))
      return [
        dx.convert(x[1].elementType), (dy * normal).sum(rows).convert(x[2].elementType), dy.sum(rows).convert(x[2].elementType),
      ]
    case .rmsNorm(let epsilon):
      let wide = x[0].convert(x[0].elementType.statistics)
      let rrms = ((wide * wide).mean(last, keepDims: true) + epsilon).unary(.rsqrt)
      return [(wide * rrms * x[1].convert(wide.elementType)).convert(x[0].elementType), rrms.squeeze(last[0])]
    case .rmsNormGradient:
      let type = x[1].elementType.statistics
      let (dy, value, weight) = (x[0].convert(type), x[1].convert(type), x[2].convert(type))
      let rrms = x[3].expand(x[3].rank)
      let normal = value * rrms
      let g = dy * weight
      let dx = (g - normal * (g * normal).mean(last, keepDims: true)) * rrms
      return [dx.convert(x[1].elementType), (dy * normal).sum(Axes(0..<(dy.rank - 1))).convert(x[2].elementType)]
    case .batchNorm(let epsilon):
      let wide = x[0].convert(x[0].elementType.statistics)
      let axes = perChannel(wide)
      let mean = wide.mean(axes)
      let centred = wide - channels(mean, wide)
      let variance = (centred * centred).mean(axes)
      let scale = x[1].convert(wide.elementType) * (variance + epsilon).unary(.rsqrt)
      let y = centred * channels(scale, wide) + channels(x[2].convert(wide.elementType), wide)
      return [y.convert(x[0].elementType), mean, variance]
    case .batchNormGradient(let epsilon):
      let type = x[1].elementType.statistics
      let (dy, value, weight) = (x[0].convert(type), x[1].convert(type), x[2].convert(type))
      let rstd = channels((x[4] + epsilon).unary(.rsqrt), value)
      let axes = perChannel(value)
      let normal = (value - channels(x[3], value)) * rstd
      let g = dy * channels(weight, value)
      let dx = (g - channels(g.mean(axes), value) - normal * channels((g * normal).mean(axes), value)) * rstd
      return [
        dx.convert(x[1].elementType), (dy * normal).sum(axes).convert(x[2].elementType), dy.sum(axes).convert(x[2].elementType),
      ]
    case .batchNormInference(let epsilon):
      let wide = x[0].convert(x[0].elementType.statistics)
      let scale = x[1].convert(wide.elementType) * (x[4] + epsilon).unary(.rsqrt)
      let y = (wide - channels(x[3], wide)) * channels(scale, wide) + channels(x[2].convert(wide.elementType), wide)
      return [y.convert(x[0].elementType)]
    case .softmaxCrossEntropy(let ignoreIndex, let smoothing):
      let wide = x[0].convert(x[0].elementType.statistics)
      let lse = wide.logSumExp(keepDims: false)
      let valid = x[1].compare(.notEqual, x[1].like(ignoreIndex))
      let label = b.select(valid, x[1], x[1].like(0)).expand(1)
      let picked = b.apply(.takeAlong(axis: 1), [wide, label])[0].squeeze(1)
      let loss = lse - picked * (1 - smoothing) - wide.mean(last) * smoothing
      return [b.select(valid, loss, loss.like(0.0)), lse]
    case .softmaxCrossEntropyGradient(let ignoreIndex, let smoothing):
      let wide = x[1].convert(x[1].elementType.statistics)
      let classes = wide.shape[1]
      let valid = x[2].compare(.notEqual, x[2].like(ignoreIndex)).convert(wide.elementType)
      let oneHot = x[2].expand(1).compare(.equal, b.iota(wide.shape, axis: 1)).convert(wide.elementType)
      let target = oneHot * (1 - smoothing) + smoothing / Double(classes)
      let dx = ((wide - x[3].expand(1)).unary(.exp) - target) * (x[0] * valid).expand(1)
      return [dx.convert(x[1].elementType)]
    case .linear:
      let product = b.apply(.dot(DotDimensions(lhsContracting: last, rhsContracting: [1])), Array(x[..<2]))[0]
      return [product + x[2]]
    case .attention(let scale, let causal):
      let mask = x.count > 3 ? x[3] : nil
      let results = DecomposedAttention(x[0], x[1], x[2], mask: mask, scale: scale, causal: causal).results()
      return [results[0].convert(x[0].elementType), results[1]]
    case .attentionGradient(let scale, let causal, let forMask):
      let mask = x.count > 6 ? x[6] : nil
      let gradients = DecomposedAttention(x[1], x[2], x[3], mask: mask, scale: scale, causal: causal)
        .gradients(scale: scale, x[0], x[4], x[5])
      return gradients.prefix(forMask ? 4 : 3).map { $0.convert(x[1].elementType) }
    case .rope(let interleaved, let inverse): return [rope(x[0], x[1], x[2], interleaved: interleaved, inverse: inverse)]
    case .lstmCell, .lstmCellGradient, .gruCell, .gruCellGradient: return recurrent(x)
    case .recurrentSequence(let sequence, let keeps): return sequence.decomposed(x, keeps: keeps)
    case .recurrentSequenceGradient(let sequence): return sequence.decomposedGradient(x)
    case .optimizerStep(let rule): return rule.decomposed(x)
    }
  }

  private func perChannel(_ x: Term) -> Axes { Axes([0] + Array(2..<x.rank)) }
  private func channels(_ v: Term, _ x: Term) -> Term {
    v.reshape(Shape([1, v.shape[0]] + Array(repeating: 1, count: x.rank - 2)))
  }

  // MARK: Rotary embedding

  private func rope(_ x: Term, _ cos: Term, _ sin: Term, interleaved: Bool, inverse: Bool) -> Term {
    let b = x.builder
    let (dim, half) = (x.shape[x.rank - 1], cos.shape[cos.rank - 1])
    let count = x.shape.dropLast().reduce(1, *)
    let wide = x.convert(cos.elementType).reshape([count, dim])
    let c = cos.reshape([count, half])
    let s = inverse ? -sin.reshape([count, half]) : sin.reshape([count, half])
    let turned: Term
    if interleaved {
      let pairs = wide.slice(1, 0, 2 * half).reshape([count, half, 2])
      let (p, q) = (pairs.slice(2, 0, 1).squeeze(2), pairs.slice(2, 1, 1).squeeze(2))
      turned = b.concatenate([(p * c - q * s).expand(2), (q * c + p * s).expand(2)], axis: 2).reshape([count, 2 * half])
    } else {
      let (p, q) = (wide.slice(1, 0, half), wide.slice(1, half, half))
      turned = b.concatenate([p * c - q * s, q * c + p * s], axis: 1)
    }
    return b.concatenate([turned, wide.slice(1, 2 * half, dim - 2 * half)], axis: 1).reshape(x.shape).convert(x.elementType)
  }

  // MARK: Recurrent cells

  private func recurrent(_ x: [Term]) -> [Term] {
    let b = x[0].builder
    let own = x[0].elementType
    let type = own.statistics
    let wide = x.map { $0.convert(type) }
    func split(_ gates: Term, _ count: Int) -> [Term] {
      let axis = gates.rank - 1
      let n = gates.shape[axis] / count
      return (0..<count).map { gates.slice(axis, $0 * n, n) }
    }
    func joined(_ parts: [Term]) -> Term { b.concatenate(parts, axis: parts[0].rank - 1) }
    func sigmoid(_ x: Term) -> Term { x.unary(.sigmoid) }
    func tanh(_ x: Term) -> Term { x.unary(.tanh) }
    let results: [Term]
    switch self {
    case .lstmCell:
      let gates = split(wide[0], 4)
      let cell = sigmoid(gates[1]) * wide[1] + sigmoid(gates[0]) * tanh(gates[2])
      results = [sigmoid(gates[3]) * tanh(cell), cell]
    case .lstmCellGradient:
      let (dh, dc, c) = (wide[0], wide[1], wide[3])
      let gates = split(wide[2], 4)
      let (i, f, g, o) = (sigmoid(gates[0]), sigmoid(gates[1]), tanh(gates[2]), sigmoid(gates[3]))
      let t = tanh(f * c + i * g)
      let total = dc + dh * o * (1 - t * t)
      results = [
        joined([total * g * i * (1 - i), total * c * f * (1 - f), total * i * (1 - g * g), dh * t * o * (1 - o)]), total * f,
      ]
    case .gruCell:
      let (p, q, h) = (split(wide[0], 3), split(wide[1], 3), wide[2])
      let (r, z) = (sigmoid(p[0] + q[0]), sigmoid(p[1] + q[1]))
      let fresh = tanh(p[2] + r * q[2])
      results = [fresh + z * (h - fresh)]
    case .gruCellGradient:
      let (p, q) = (split(wide[1], 3), split(wide[2], 3))
      let (dy, h) = (wide[0], wide[3])
      let (r, z) = (sigmoid(p[0] + q[0]), sigmoid(p[1] + q[1]))
      let fresh = tanh(p[2] + r * q[2])
      let dfresh = dy * (1 - z) * (1 - fresh * fresh)
      let dr = dfresh * q[2] * r * (1 - r)
      let dz = dy * (h - fresh) * z * (1 - z)
      results = [joined([dr, dz, dfresh]), joined([dr, dz, dfresh * r]), dy * z]
    default: preconditionFailure("not a recurrent cell: \(name)")
    }
    return results.map { $0.convert(own) }
  }
}

/// Attention and its gradient: everything in the type of statistics, q's heads in groups.
private struct DecomposedAttention {
  let q, k, v: Term
  /// −∞ where the key is hidden.
  let scores: Term
  private let group: Int
  private let type: ElementType
  private var b: DecompositionBuilder { q.builder }

  init(_ q: Term, _ k: Term, _ v: Term, mask: Term?, scale: Double, causal: Bool) {
    let b = q.builder
    type = q.elementType.statistics
    (self.q, self.k, self.v) = (q.convert(type), k.convert(type), v.convert(type))
    group = k.shape[1] == 0 ? 1 : q.shape[1] / k.shape[1]
    let (queries, keys) = (q.shape[2], k.shape[2])
    let rows = Self.grouped(self.q, group).matmul(self.k.transposed())
    var scores = rows.reshape([q.shape[0], q.shape[1], queries, keys]) * scale
    let hidden = scores.like(-.infinity)
    if let mask {
      scores = mask.elementType == .bool ? b.select(mask, scores, hidden) : scores + mask.convert(type)
    }
    if causal {
      let plane: Shape = [queries, keys]
      let last = b.iota(plane, axis: 0) + b.fill(keys - queries, plane)
      scores = b.select(b.iota(plane, axis: 1).compare(.lessEqual, last), scores, hidden)
    }
    self.scores = scores
  }

  /// Heads that share keys as rows of one matrix: [batch, kvHeads, group · positions, dim].
  private static func grouped(_ x: Term, _ group: Int) -> Term {
    x.reshape([x.shape[0], x.shape[1] / group, group * x.shape[2], x.shape[3]])
  }

  private func ungrouped(_ x: Term) -> Term { x.reshape([q.shape[0], q.shape[1], q.shape[2], x.shape[3]]) }

  /// y and log Σ exp of the rows.
  func results() -> [Term] {
    guard k.shape[2] > 0 else {
      let (batch, heads, queries) = (q.shape[0], q.shape[1], q.shape[2])
      return [
        b.fill(0.0, [batch, heads, queries, v.shape[3]], type), b.fill(-.infinity, [batch, heads, queries], type),
      ]
    }
    let top = scores.reduce(.max, [3], keepDims: true).stopGradient()
    let safe = b.select(top.compare(.equal, top.like(-.infinity)), top.like(0.0), top)
    let weights = (scores - safe).unary(.exp)
    let total = weights.sum([3], keepDims: true)
    let isEmpty = total.compare(.equal, total.like(0.0))
    let divisor = b.select(isEmpty, total.like(1.0), total)
    let y = ungrouped(Self.grouped(weights / divisor, group).matmul(v))
    let lse = divisor.unary(.log) + safe
    return [y, b.select(isEmpty, lse.like(-.infinity), lse).squeeze(3)]
  }

  /// dq, dk, dv and the gradient of the scores, as the kernel computes them.
  func gradients(scale: Double, _ dy: Term, _ y: Term, _ logSumExp: Term) -> [Term] {
    let (dy, y, lse) = (dy.convert(type), y.convert(type), logSumExp.expand(3))
    let shift = b.select(lse.compare(.equal, lse.like(-.infinity)), lse.like(0.0), lse)
    let weights = (scores - shift).unary(.exp)
    let (w, g) = (Self.grouped(weights, group), Self.grouped(dy, group))
    let dweights = ungrouped(g.matmul(v.transposed()))
    let dscores = weights * (dweights - (dy * y).sum([3], keepDims: true))
    let d = Self.grouped(dscores, group)
    return [
      ungrouped(d.matmul(k)) * scale, d.transposed().matmul(Self.grouped(q, group)) * scale, w.transposed().matmul(g), dscores,
    ]
  }
}

extension OptimizerRule {
  /// One step: the formulas of PyTorch's optimizers (see the optimizers of the NN room).
  func decomposed(_ x: [Term]) -> [Term] {
    let b = x[0].builder
    let type = x[0].elementType
    func option(_ i: Int) -> Term { x[x.count - 2].slice(0, i, 1).reshape([]) }
    let (rate, decay) = (option(0).convert(type), option(1).convert(type))
    let states = Dictionary(uniqueKeysWithValues: zip(usedStates, x[2..<(2 + stateCount)]))
    func state(_ i: Int) -> Term { states[i] ?? x[0].like(0.0) }
    var p = x[0]
    var g = maximize ? -x[1] : x[1]
    if decoupledWeightDecay { p = p * (1 - rate * decay) } else { g = g + p * decay }
    // In float64: 1 − 0.999 in float32 has three digits.
    let t = x[x.count - 1].convert(.float64)
    func correction(_ beta: Double) -> Term { 1 - b.fill(beta, [], .float64).binary(.pow, t) }
    switch kind {
    case .sgd:
      guard momentum != 0 else { return [p - g * rate] }
      let buffer = state(0) * momentum + g * (1 - dampening)
      return [p - (nesterov ? g + buffer * momentum : buffer) * rate, buffer]
    case .adam:
      let m = state(0) * beta1 + g * (1 - beta1)
      let v = state(1) * beta2 + g * g * (1 - beta2)
      let largest = amsgrad ? state(2).binary(.max, v) : v
      let stepSize = (option(0) / correction(beta1)).convert(type)
      let root = largest.unary(.sqrt) / correction(beta2).unary(.sqrt).convert(type)
      p = p - m / (root + epsilon) * stepSize
      return amsgrad ? [p, m, v, largest] : [p, m, v]
    case .rmsprop:
      let v = state(0) * beta2 + g * g * (1 - beta2)
      let mean = centered ? state(2) * beta2 + g * (1 - beta2) : g
      let direction = g / ((centered ? v - mean * mean : v).unary(.sqrt) + epsilon)
      let buffer = momentum != 0 ? state(1) * momentum + direction : direction
      var results = [p - buffer * rate, v]
      if momentum != 0 { results.append(buffer) }
      if centered { results.append(mean) }
      return results
    case .adamax:
      let m = state(0) * beta1 + g * (1 - beta1)
      let largest = (state(1) * beta2).binary(.max, g.unary(.abs) + epsilon)
      return [p - m / largest * (option(0) / correction(beta1)).convert(type), m, largest]
    case .nadam:
      let m = state(0) * beta1 + g * (1 - beta1)
      let v = state(1) * beta2 + g * g * (1 - beta2)
      let root = (v / correction(beta2).convert(type)).unary(.sqrt) + epsilon
      func factor(_ t: Term) -> Term { (1 - b.fill(0.96, [], .float64).binary(.pow, t * momentum) * 0.5) * beta1 }
      let (mu, next, product) = (factor(t), factor(t + 1), option(2))
      let byGradient = (option(0) * (1 - mu) / (1 - product)).convert(type)
      let byMoment = (option(0) * next / (1 - product * next)).convert(type)
      return [p - g / root * byGradient - m / root * byMoment, m, v]
    case .radam:
      let m = state(0) * beta1 + g * (1 - beta1)
      let v = state(1) * beta2 + g * g * (1 - beta2)
      let longest = 2 / (1 - beta2) - 1
      let power = b.fill(beta2, [], .float64).binary(.pow, t)
      let length = longest - t * power * 2 / (1 - power)
      let rectifier = ((length - 4) * (length - 2) * longest / (length * ((longest - 4) * (longest - 2)))).unary(.sqrt)
      let rate = option(0) / correction(beta1)
      let adaptive = m / (v.unary(.sqrt) + epsilon) * (rate * (1 - power).unary(.sqrt) * rectifier).convert(type)
      let isAdaptive = length.compare(.greater, length.like(5)).broadcast(x[0].shape)
      return [p - b.select(isAdaptive, adaptive, m * rate.convert(type)), m, v]
    case .adagrad:
      let sum = state(0) + g * g
      return [p - g / (sum.unary(.sqrt) + epsilon) * (option(0) / ((t - 1) * dampening + 1)).convert(type), sum]
    case .adadelta:
      let squares = state(0) * beta2 + g * g * (1 - beta2)
      let change = (state(1) + epsilon).unary(.sqrt) / (squares + epsilon).unary(.sqrt) * g
      return [p - change * rate, squares, state(1) * beta2 + change * change * (1 - beta2)]
    case .lion:
      let direction = (state(0) * beta1 + g * (1 - beta1)).unary(.sign)
      return [p - direction * rate, state(0) * beta2 + g * (1 - beta2)]
    }
  }
}
