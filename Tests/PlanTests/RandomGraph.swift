@testable import ApusCPU
@testable import ApusIR

/// Random programs of elementwise operations, reductions, broadcasts and transpositions.
struct RandomGraph {
  enum Kind: Sendable, CaseIterable {
    /// Whole numbers that stay small: sums are exact in any order, so everything is, to the bit.
    case whole
    /// Any operation, but no sums.
    case withoutSums
  }

  private var random: Seeded
  private let kind: Kind
  private let type: ElementType
  /// Values of the whole shape, of one number per row, and of one row.
  private var whole: [Term] = [], rows: [Term] = [], columns: [Term] = []
  private let shape: Shape

  static func make(_ kind: Kind, _ type: ElementType, seed: Int) -> Graph {
    var random = Seeded(seed)
    let rank = Int.random(in: 1...4, using: &random)
    let sizes = rank == 1 ? [1, 5, 70, 300] : [1, 2, 3, 7, 17, 33]
    var shape = Shape((0..<rank).map { _ in sizes.randomElement(using: &random) ?? 3 })
    if seed % 23 == 0 { shape[0] = 0 }
    let row = Shape(Array(shape.dropLast()) + [1])
    // The second input is the whole shape in another order of memory: channels last, if there are such.
    let order = rank > 2 ? [0] + Array(2..<rank) + [1] : Array((0..<rank).reversed())
    let turned = Shape(order.map { shape[$0] })
    let builder = DecompositionBuilder([shape, turned, row, [shape[rank - 1]], []].map { TensorType($0, type) })
    var made = RandomGraph(random: random, kind: kind, type: type, shape: shape)
    var back = Array(repeating: 0, count: rank)
    for (i, axis) in order.enumerated() { back[axis] = i }
    let x = builder.inputs
    made.whole = [x[0], x[1].transpose(Axes(back))]
    made.rows = [x[2]]
    made.columns = [x[3], x[4]]
    return made.build(builder, order, back)
  }

  private init(random: Seeded, kind: Kind, type: ElementType, shape: Shape) {
    (self.random, self.kind, self.type, self.shape) = (random, kind, type, shape)
  }

  private mutating func pick(_ values: [Term]) -> Term {
    // Later ones more often, so that graphs get deep.
    values[max(Int.random(in: 0..<values.count, using: &random), Int.random(in: 0..<values.count, using: &random))]
  }

  private mutating func build(_ b: DecompositionBuilder, _ order: [Int], _ back: [Int]) -> Graph {
    let last = Axes([shape.count - 1])
    let count = Int.random(in: 3...40, using: &random)
    for _ in 0..<count {
      switch Int.random(in: 0..<12, using: &random) {
      case 0..<4:
        let x = pick(whole)
        whole.append(combined(x, pick(whole)))
      case 4, 5: whole.append(changed(pick(whole)))
      case 6: whole.append(combined(pick(whole), pick(columns).broadcast(shape)))
      case 7: rows.append(changed(combined(pick(rows), pick(rows))))
      case 8: whole.append(combined(pick(whole), pick(rows).broadcast(shape)))
      case 9:
        let x = pick(whole)
        if type == .bool || shape[last[0]] == 0 { continue }
        let kind: ReductionKind = self.kind == .whole && Bool.random(using: &random) ? .sum : .max
        let keeps = Int.random(in: 0..<4, using: &random) > 0
        let y = b.apply(.reduce(kind, last, keepDims: keeps), [x])[0].reshape(Shape(Array(shape.dropLast()) + [1]))
        rows.append(bounded(y))
        whole.append(combined(x, rows[rows.count - 1].broadcast(shape)))
      case 10:
        // Through another order of memory and back.
        let x = changed(pick(whole).transpose(Axes(order)))
        whole.append(x.transpose(Axes(back)))
      default:
        let x = pick(whole)
        whole.append(b.select(x.compare(.less, pick(whole)), pick(whole), x))
      }
    }
    var outputs: [Term] = [whole[whole.count - 1]]
    for _ in 0..<Int.random(in: 0...3, using: &random) {
      outputs.append(Bool.random(using: &random) ? pick(whole) : pick(rows))
    }
    return b.finish(outputs)
  }

  /// Kept small, so that whole numbers stay exact.
  private func bounded(_ x: Term) -> Term {
    if type == .bool || kind != .whole { return x }
    return x.binary(.min, x.like(7)).binary(.max, x.like(type == .uint8 ? 0 : -7))
  }

  private mutating func combined(_ x: Term, _ y: Term) -> Term {
    let kinds: [BinaryKind]
    switch (type, kind) {
    case (.bool, _): kinds = [.and, .or, .xor]
    case (_, .whole): kinds = [.add, .sub, .mul, .max, .min]
    case (_, .withoutSums):
      kinds = type.isInteger ? [.add, .sub, .mul, .max, .xor] : [.add, .sub, .mul, .div, .max, .min, .atan2]
    }
    return bounded(x.binary(kinds.randomElement(using: &random) ?? .max, y))
  }

  private mutating func changed(_ x: Term) -> Term {
    if type == .bool { return x.unary(.not) }
    if Int.random(in: 0..<5, using: &random) == 0 {
      let wider: ElementType = type.isInteger ? .int64 : .float64
      return bounded(x.convert(wider).unary(.abs).convert(type))
    }
    let kinds: [UnaryKind]
    switch kind {
    case .whole:
      kinds = type == .uint8 ? [.square, .abs] : [.neg, .abs, .square, .sign] + (type.isFloatingPoint ? [.relu, .floor] : [])
    case .withoutSums:
      kinds =
        type.isInteger
        ? [.neg, .abs, .not, .square] : [.neg, .exp, .tanh, .sigmoid, .gelu, .silu, .sin, .sqrt, .reciprocal, .isFinite]
    }
    let y = x.unary(kinds.randomElement(using: &random) ?? .neg)
    return bounded(y.elementType == type ? y : y.convert(type))
  }
}
