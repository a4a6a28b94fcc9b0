import ApusCPU

@testable import ApusTensor

extension OperationSamples {
  static func reduce(_ kind: ReductionKind) -> [Sample] {
    let (pattern, types, magnitude): (Pattern, [ElementType], Double) =
      switch kind {
      // Up to 165 terms of up to 4 are added.
      case .sum: (.signed, numbers, 50)
      case .product: (.positive, numbers, 0)
      case .max, .min: (.signed, all, 0)
      case .all, .any: (.signed, [.bool], 0)
      }
    let gradients = types.contains(.float64) ? [0] : []
    func sample(_ shape: Shape, _ axes: Axes, _ keepDims: Bool, _ pattern: Pattern = pattern) -> Sample {
      Sample(
        .reduce(kind, axes, keepDims: keepDims), [Input(shape, pattern)], types, gradients: gradients,
        ulps: kind == .product ? 12 : 2,
        magnitude: magnitude, dependsOnLayout: kind == .sum || kind == .product)
    }
    var samples = [
      sample([3, 5], [0], false), sample([3, 5], [1], true), sample([2, 3, 4], [0, 2], false), sample([2, 3, 4], [1], false),
      sample([], [], false), sample([4, 3], [], false), sample([2, 2, 1, 3, 2], [1, 3], true),
      sample([2, 3, 2], [2, 1, 0], false),
      sample([5], [0], false), sample([3, 0], [0], false), sample([1, 1], [0, 1], true),
    ]
    // Long enough for whole vectors and their remains; products would overflow.
    if kind != .product { samples += [sample([3, 37], [1], false), sample([37, 3], [0], false)] }
    switch kind {
    case .sum, .product, .all, .any: samples.append(sample([0, 3], [0], false))
    case .max, .min: break
    }
    if kind == .product { samples.append(sample([5, 4], [1], false, .small)) }  // with zeros
    if types.contains(.float32) {
      var special = sample([11, 4], [1], false, .special(period: 3)).only(real)
      special.gradients = []
      samples.append(special)
    }
    return samples
  }

  static func argReduce(_ kind: ArgReductionKind) -> [Sample] {
    func sample(_ shape: Shape, _ axis: Int, _ keepDims: Bool, _ pattern: Pattern = .small) -> Sample {
      Sample(.argReduce(kind, axis: axis, keepDims: keepDims), [Input(shape, pattern)], all)
    }
    return [
      sample([3, 5], 0, false), sample([3, 5], 1, true), sample([2, 3, 4], 1, false), sample([1], 0, false),
      sample([0, 3], 1, false),
      sample([3, 37], 1, false), sample([2, 1, 3, 2, 2], 4, true), sample([11, 4], 1, false, .special(period: 3)).only(real),
    ]
  }

  static func scan(_ kind: ScanKind) -> [Sample] {
    let pattern: Pattern = kind == .product ? .small : .signed
    func sample(_ shape: Shape, _ axis: Int, _ reverse: Bool, _ exclusive: Bool, _ types: [ElementType] = numbers) -> Sample {
      Sample(
        .scan(kind, axis: axis, reverse: reverse, exclusive: exclusive), [Input(shape, pattern)], types,
        // The start of an exclusive running extreme is infinite, and so is every difference: tested in ScanGradientTests.
        gradients: exclusive && (kind == .max || kind == .min) ? [] : [0], magnitude: kind == .sum ? 20 : 0)
    }
    // The start of an exclusive running maximum is the type's own lowest value: one reference for floating point only.
    let exclusive = kind == .max || kind == .min ? real : numbers
    func withExclusive(_ shape: Shape, _ axis: Int, _ reverse: Bool) -> Sample {
      let s = sample(shape, axis, reverse, true, exclusive)
      return exclusive == numbers ? s : s.only(exclusive)
    }
    return [
      sample([3, 5], 1, false, false), sample([3, 5], 0, true, false), withExclusive([2, 4, 3], 1, false),
      withExclusive([2, 4], 1, true), sample([0, 3], 0, false, false), sample([1], 0, false, false),
      sample([2, 1, 3, 2, 2], 2, false, false),
      sample([3, 0], 1, false, false),
    ]
  }

  static let sort: [Sample] = [
    Sample(.sort(axis: 0, descending: false), [Input([7])], all, gradients: [0]),
    Sample(.sort(axis: 1, descending: true), [Input([3, 6])], all, gradients: [0]),
    Sample(.sort(axis: 1, descending: false), [Input([2, 9, 2], .small)], all),
    Sample(.sort(axis: 0, descending: true), [Input([12, 2], .small)], all),
    Sample(.sort(axis: 0, descending: false), [Input([0, 2])], all, gradients: [0]),
    Sample(.sort(axis: 3, descending: false), [Input([1, 2, 1, 4, 2])], all, gradients: [0]),
    Sample(.sort(axis: 1, descending: false), [Input([2, 22], .special(period: 1))], real).only(real),
    Sample(.sort(axis: 0, descending: true), [Input([22], .special(period: 1))], real).only(real),
  ]

  static let topK: [Sample] = [
    Sample(.topK(k: 3, axis: 0, largest: true), [Input([7])], all, gradients: [0]),
    Sample(.topK(k: 2, axis: 1, largest: false), [Input([3, 5])], all, gradients: [0]),
    Sample(.topK(k: 4, axis: 1, largest: true), [Input([2, 9, 2], .small)], all),
    Sample(.topK(k: 0, axis: 0, largest: true), [Input([4])], all, gradients: [0]),
    Sample(.topK(k: 5, axis: 0, largest: false), [Input([5, 2])], all, gradients: [0]),
    Sample(.topK(k: 3, axis: 0, largest: true), [Input([22], .special(period: 1))], real).only(real),
  ]

  static let gather: [Sample] = [
    Sample(.gather(axis: 0), [Input([4, 3]), .indices([5], .index(4))], all, gradients: [0]),
    Sample(.gather(axis: 1), [Input([2, 4, 3]), .indices([2, 3], .index(4))], all, gradients: [0]),
    Sample(.gather(axis: 1), [Input([3, 4]), .indices([], .list([-1]))], all, gradients: [0]),
    Sample(.gather(axis: 0), [Input([4]), .indices([0], .list([]))], all, gradients: [0]),
    Sample(.gather(axis: 0), [Input([3, 0]), .indices([2], .index(3))], all, gradients: [0]),
    Sample(.gather(axis: 2), [Input([2, 1, 3, 1, 2]), .indices([2, 2], .index(3))], all, gradients: [0]),
  ]

  static let takeAlong: [Sample] = [
    Sample(.takeAlong(axis: 0), [Input([4, 3]), .indices([5, 3], .index(4))], all, gradients: [0]),
    Sample(.takeAlong(axis: 1), [Input([3, 4]), .indices([2, 6], .index(4))], all, gradients: [0]),
    Sample(.takeAlong(axis: 1), [Input([2, 3, 2]), .indices([2, 2, 2], .index(3))], all, gradients: [0]),
    Sample(.takeAlong(axis: 0), [Input([3]), .indices([0], .list([]))], all, gradients: [0]),
  ]

  static let gatherND: [Sample] = [
    Sample(.gatherND, [Input([4, 3]), .indices([5, 1], .index(4))], all, gradients: [0]),
    Sample(.gatherND, [Input([3, 3]), .indices([4, 2], .index(3))], all, gradients: [0]),
    Sample(.gatherND, [Input([3, 3, 2]), .indices([2, 2, 2], .index(3))], all, gradients: [0]),
    Sample(.gatherND, [Input([3, 2]), .indices([2], .list([1, -1]))], all, gradients: [0]),
    Sample(.gatherND, [Input([3, 2]), .indices([0, 1], .list([]))], all, gradients: [0]),
  ]

  private static func scatterTypes(_ kind: ScatterKind) -> [ElementType] { kind == .set ? all : numbers }
  private static func scatters(
    _ kind: ScatterKind, _ operation: Operation, _ x: Shape, _ indices: Input, _ updates: Shape, distinct: Bool
  ) -> Sample {
    Sample(
      operation, [Input(x, seed: 1), indices, Input(updates, seed: 2)], scatterTypes(kind),
      // Where one place is set twice, there is no gradient to compare with.
      gradients: distinct || kind != .set ? [0, 2] : [], ulps: 4, magnitude: kind == .add ? 12 : 0)
  }

  static func scatter(_ kind: ScatterKind) -> [Sample] {
    [
      scatters(kind, .scatter(kind, axis: 0), [4, 3], .indices([3], .distinct(4), seed: 2), [3, 3], distinct: true),
      scatters(kind, .scatter(kind, axis: 1), [2, 4, 2], .indices([2, 3], .index(4)), [2, 2, 3, 2], distinct: false),
      scatters(kind, .scatter(kind, axis: 1), [3, 4], .indices([], .list([-2])), [3], distinct: true),
      scatters(kind, .scatter(kind, axis: 0), [4], .indices([0], .list([])), [0], distinct: true),
    ]
  }

  static func scatterAlong(_ kind: ScatterKind) -> [Sample] {
    [
      scatters(
        kind, .scatterAlong(kind, axis: 0), [4, 3], .indices([2, 3], .list([0, 3, 1, 2, -2, 0])), [2, 3], distinct: true),
      scatters(kind, .scatterAlong(kind, axis: 1), [3, 4], .indices([2, 6], .index(4)), [2, 6], distinct: false),
      scatters(kind, .scatterAlong(kind, axis: 0), [3], .indices([0], .list([])), [0], distinct: true),
    ]
  }

  static func scatterND(_ kind: ScatterKind) -> [Sample] {
    [
      scatters(kind, .scatterND(kind), [4, 3], .indices([3, 1], .list([3, 0, -2])), [3, 3], distinct: true),
      scatters(kind, .scatterND(kind), [3, 3], .indices([7, 2], .index(3)), [7], distinct: false),
      scatters(kind, .scatterND(kind), [3, 2, 2], .indices([2, 2], .list([1, 0, 2, -1])), [2, 2], distinct: true),
      scatters(kind, .scatterND(kind), [3, 2], .indices([0, 1], .list([])), [0, 2], distinct: true),
    ]
  }
}
