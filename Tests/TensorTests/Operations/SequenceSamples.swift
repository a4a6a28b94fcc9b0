import ApusCPU

@testable import ApusTensor

/// Samples of composites of sequence models.
extension OperationSamples {
  static let sequenceComposites: [Composite] =
    [
      .attention(scale: 0.5, causal: false), .attention(scale: 0.75, causal: true),
      .attentionGradient(scale: 0.5, causal: false, forMask: false), .attentionGradient(scale: 0.5, causal: false, forMask: true),
      .attentionGradient(scale: 0.75, causal: true, forMask: false), .attentionGradient(scale: 0.75, causal: true, forMask: true),
      .rope(interleaved: false, inverse: false), .rope(interleaved: true, inverse: false),
      .rope(interleaved: false, inverse: true), .rope(interleaved: true, inverse: true), .lstmCell, .lstmCellGradient, .gruCell,
      .gruCellGradient,
    ] + sequences

  private static let sequences: [Composite] = RecurrentSequence.Kind.allCases.flatMap { kind -> [Composite] in
    [false, true].flatMap { (reverse: Bool) -> [Composite] in
      let sequence = RecurrentSequence(kind, reverse: reverse)
      let short: [Composite] = reverse ? [] : [.recurrentSequence(sequence, keeps: false)]
      return short + [.recurrentSequence(sequence, keeps: true), .recurrentSequenceGradient(sequence)]
    }
  }

  /// Sizes of an attention: queries and keys differ, heads share keys, one query, whole vectors and their remains.
  private struct Heads {
    var batch = 1
    var heads = 2
    var kvHeads = 2
    var queries: Int
    var keys: Int
    var dim = 3
    var valueDim = 2

    var q: Input { Input([batch, heads, queries, dim], .unit, seed: 1) }
    var k: Input { Input([batch, kvHeads, keys, dim], .unit, seed: 2) }
    var v: Input { Input([batch, kvHeads, keys, valueDim], seed: 3) }
    var y: Input { Input([batch, heads, queries, valueDim], .unit, seed: 5) }
    var dy: Input { Input([batch, heads, queries, valueDim], seed: 6) }
    var lse: Input { Input([batch, heads, queries], .aboveOne, seed: 7, role: .statistics) }
    var mask: Input { Input([batch, heads, queries, keys], .unit, seed: 4) }
    func seen(_ seed: Int) -> Input { Input([batch, heads, queries, keys], seed: seed, role: .fixed(.bool)) }

    /// Whether every query sees a key.
    func everyRowSees(_ seed: Int?, causal: Bool) -> Bool {
      (0..<(batch * heads * queries)).allSatisfy { row in
        (0..<keys).contains { key in
          (seed.map { Pattern.unit.truth(row * keys + key, $0) } ?? true) && (!causal || key <= row % queries + keys - queries)
        }
      }
    }
  }

  private static let sizes: [Heads] = [
    Heads(queries: 3, keys: 3), Heads(heads: 4, kvHeads: 2, queries: 2, keys: 5, dim: 4, valueDim: 1),
    Heads(batch: 2, heads: 4, kvHeads: 2, queries: 1, keys: 4, valueDim: 3), Heads(queries: 5, keys: 2, valueDim: 3),
    Heads(heads: 1, kvHeads: 1, queries: 2, keys: 19, dim: 17, valueDim: 18), Heads(batch: 0, queries: 2, keys: 3),
    Heads(queries: 0, keys: 3), Heads(queries: 2, keys: 0), Heads(heads: 0, kvHeads: 0, queries: 2, keys: 2),
  ]

  static func attention(_ composite: Composite, causal: Bool) -> [Sample] {
    sizes.flatMap { size -> [Sample] in
      // A row that sees no key has −∞ for its log Σ exp, of which there are no differences.
      func sample(_ mask: Input?, _ gradients: [Int], _ seed: Int? = nil) -> Sample {
        Sample(
          .composite(composite), [size.q, size.k, size.v] + (mask.map { [$0] } ?? []), real,
          gradients: size.everyRowSees(seed, causal: causal) ? gradients : [], ulps: 8, magnitude: 4)
      }
      return [sample(nil, [0, 1, 2]), sample(size.mask, [0, 1, 2, 3]), sample(size.seen(1), [0, 1, 2], 1)]
    }
  }

  static func attentionGradient(_ composite: Composite, causal: Bool, forMask: Bool) -> [Sample] {
    sizes.map { size in
      var inputs = [size.dy, size.q, size.k, size.v, size.y, size.lse]
      var gradients = [0, 1, 2, 3, 4, 5]
      if forMask {
        inputs.append(size.mask)
        gradients.append(6)
      } else if !causal {
        inputs.append(size.seen(1))
      }
      return Sample(.composite(composite), inputs, real, gradients: gradients, ulps: 16, magnitude: 60)
    }
  }

  static func rope(_ composite: Composite) -> [Sample] {
    let cases: [(x: Shape, half: Int)] = [
      ([3, 6], 3), ([2, 2, 3, 8], 2), ([4], 2), ([2, 43], 19), ([2, 4], 0), ([0, 4], 2), ([2, 1, 2, 1, 2, 1, 1, 4], 2),
    ]
    return cases.map { x, half in
      let table = Shape(Array(x.dropLast()) + [half])
      return Sample(
        .composite(composite),
        [
          Input(x, seed: 1), Input(table, .unit, seed: 2, role: .statistics), Input(table, .unit, seed: 3, role: .statistics),
        ], real, gradients: [0, 1, 2], ulps: 4, magnitude: 4)
    }
  }

  /// Steps, batch, hidden: more rows and columns than a tile, one of everything, nothing.
  private static let walks = [(3, 2, 3), (2, 7, 2), (1, 1, 1), (1, 2, 17), (0, 2, 3), (2, 0, 3), (2, 2, 0)]

  static func sequence(_ composite: Composite) -> [Sample] {
    walks.flatMap { steps, batch, hidden -> [Sample] in
      let mask = Input([steps, batch], seed: 2, role: .fixed(.bool))
      func state(_ seed: Int) -> Input { Input([batch, hidden], .unit, seed: seed) }
      func all(_ seed: Int, _ times: Int = 1) -> Input { Input([steps, batch, times * hidden], .nonzero, seed: seed) }
      // Differences take a walk for each element: those of few, and of some only with a mask.
      let few = hidden <= 3 && steps * batch <= 6
      func samples(_ inputs: [Input], magnitude: Double) -> [Sample] {
        [(inputs, hidden < 3), (inputs + [mask], true)].map { operands, differences in
          Sample(
            .composite(composite), operands, real, gradients: few && differences ? Array(inputs.indices) : [], ulps: 16,
            magnitude: magnitude)
        }
      }
      switch composite {
      case .recurrentSequence(let sequence, _):
        let weight = Input([sequence.gates * hidden, hidden], .unit, seed: 5)
        let bias = Input([sequence.gates * hidden], .unit, seed: 6)
        let gates = Input([steps, batch, sequence.gates * hidden], .unit, seed: 1)
        // A relu doubles what came before.
        let magnitude: Double = sequence.kind == .relu ? 200 : 8
        switch sequence.kind {
        case .lstm: return samples([gates, weight, state(3), state(4)], magnitude: magnitude)
        case .gru: return samples([gates, weight, bias, state(3)], magnitude: magnitude)
        case .tanh, .relu: return samples([gates, weight, state(3)], magnitude: magnitude)
        }
      case .recurrentSequenceGradient(let sequence):
        let weight = Input([sequence.gates * hidden, hidden], .unit, seed: 5)
        // What the steps kept is within 0 and 1, or nearly.
        let known = Input([steps, batch, hidden], .unit, seed: 8)
        let kept = Input([steps, batch, 4 * hidden], .unit, seed: 9)
        switch sequence.kind {
        case .lstm: return samples([all(1), state(2), state(3), weight, known, kept], magnitude: 1000)
        case .gru: return samples([all(1), state(2), weight, known, kept], magnitude: 1000)
        case .tanh, .relu:
          // No output is exactly 0, where a relu has no derivative.
          return samples([all(1), state(2), weight, Input([steps, batch, hidden], .aboveOne, seed: 8)], magnitude: 1000)
        }
      default: preconditionFailure("\(composite.name) is no sequence")
      }
    }
  }

  private static let states: [Shape] = [[3, 2], [5], [2, 3, 4], [2, 19], [0, 3], [2, 0]]

  private static func gates(_ state: Shape, _ count: Int) -> Shape {
    var shape = state
    shape[shape.count - 1] *= count
    return shape
  }

  static func lstm(_ composite: Composite) -> [Sample] {
    states.map { state in
      let operands = [Input(gates(state, 4), seed: 3), Input(state, seed: 4)]
      let slopes = [Input(state, seed: 1), Input(state, seed: 2)]
      return composite == .lstmCell
        ? Sample(.composite(composite), operands, real, gradients: [0, 1], ulps: 8, magnitude: 2)
        : Sample(.composite(composite), slopes + operands, real, gradients: [0, 1, 2, 3], ulps: 8, magnitude: 16)
    }
  }

  static func gru(_ composite: Composite) -> [Sample] {
    states.map { state in
      let operands = [
        Input(gates(state, 3), .unit, seed: 2), Input(gates(state, 3), .unit, seed: 3), Input(state, seed: 4),
      ]
      return composite == .gruCell
        ? Sample(.composite(composite), operands, real, gradients: [0, 1, 2], ulps: 8, magnitude: 4)
        : Sample(
          .composite(composite), [Input(state, seed: 1)] + operands, real, gradients: [0, 1, 2, 3], ulps: 8, magnitude: 16)
    }
  }
}
