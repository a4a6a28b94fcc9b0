import Testing

@testable import ApusTensor

/// Every operation under `vmap`: what a loop over the examples and stacking give.
@Suite struct BatchedOperationTests {
  private static let size = 3

  /// Samples with room for one more dimension, of operations with a rule.
  private func samples(_ family: Family) -> [Sample] {
    switch family {
    case .random, .whileLoopGradient, .customCall: []
    default: family.samples.filter { sample in !sample.inputs.isEmpty && sample.inputs.allSatisfy { $0.shape.count <= 6 } }
    }
  }

  private func tolerance(_ type: ElementType) -> Double { type == .float64 ? 1e-12 : 1e-5 }

  /// The operands of several examples: other values of the same patterns.
  private func examples(_ sample: Sample, _ type: ElementType) -> [[Tensor]] {
    (0..<Self.size).map { k in
      sample.inputs.map { input in
        var other = input
        other.seed += 3 * k
        return other.tensor(type)
      }
    }
  }

  /// Which operands differ between examples: all, and each alone.
  private func choices(_ sample: Sample) -> [[Bool]] {
    let n = sample.inputs.count
    var choices = [[Bool](repeating: true, count: n)]
    if n > 1 { for i in 0..<n { choices.append((0..<n).map { $0 == i }) } }
    // Quantized weights are one for all.
    if case .quantizedDot = sample.operation { choices = choices.filter { !$0[3...].contains(true) } }
    return choices
  }

  private func stacked(_ examples: [[Tensor]], _ isBatched: [Bool]) -> [Tensor] {
    isBatched.indices.map { i in isBatched[i] ? stack(examples.map { $0[i] }) : examples[0][i] }
  }

  /// One example's operands, of which some are the first one's.
  private func example(_ k: Int, _ examples: [[Tensor]], _ isBatched: [Bool]) -> [Tensor] {
    isBatched.indices.map { examples[isBatched[$0] ? k : 0][$0] }
  }

  private func mapped(_ isBatched: [Bool], _ x: [Tensor], _ f: @escaping ([Tensor]) -> [Tensor]) -> [Tensor] {
    // Operands that all share are captured.
    let places = isBatched.indices.filter { isBatched[$0] }
    let g = vmap { (parts: [Tensor]) -> [Tensor] in
      var all = x
      for (i, part) in zip(places, parts) { all[i] = part }
      return f(all)
    }
    return g(places.map { x[$0] })
  }

  @Test(arguments: Family.allCases) func resultsAreThoseOfALoop(_ family: Family) {
    for sample in samples(family) {
      let type = sample.mainType
      let examples = examples(sample, type)
      for choice in choices(sample) {
        let each = (0..<Self.size).map { apply(sample.operation, example($0, examples, choice)) }
        let expected = each[0].indices.map { i in stack(each.map { $0[i] }) }
        let operands = stacked(examples, choice)
        let results = mapped(choice, operands) { apply(sample.operation, $0) }
        expectClose(results, expected, "\(sample), batched \(choice)", tolerance: tolerance(type))
        let program = compile { (x: [Tensor]) in mapped(choice, x) { apply(sample.operation, $0) } }
        expectClose(program(operands), expected, "\(sample), batched \(choice), compiled", tolerance: tolerance(type))
      }
    }
  }

  /// Gradients for each example: the gradient inside of vmap, and vmap inside of the gradient.
  @Test(arguments: Family.allCases) func gradientsAreThoseOfALoop(_ family: Family) {
    for sample in samples(family) where !sample.gradients.isEmpty && sample.types.contains(.float64) && !sample.isWhile {
      let examples = examples(sample, .float64)
      for choice in choices(sample) {
        func f(_ x: [Tensor], _ arguments: [Tensor]) -> Tensor {
          var all = x
          for (i, argument) in zip(sample.gradients, arguments) { all[i] = argument }
          return total(apply(sample.operation, all))
        }
        func slopes(_ x: [Tensor]) -> [Tensor] { gradient(at: sample.gradients.map { x[$0] }) { f(x, $0) } }
        let each = (0..<Self.size).map { slopes(example($0, examples, choice)) }
        let expected = each[0].indices.map { i in stack(each.map { $0[i] }) }
        let operands = stacked(examples, choice)
        expectClose(mapped(choice, operands, slopes), expected, "\(sample), batched \(choice), inside")
        let outside = gradient(at: sample.gradients.map { operands[$0] }) { arguments in
          var all = operands
          for (i, argument) in zip(sample.gradients, arguments) { all[i] = argument }
          return mapped(choice, all) { x in [f(x, sample.gradients.map { x[$0] })] }[0].sum()
        }
        let sums = zip(sample.gradients, expected).map { choice[$0] ? $1 : $1.sum(axis: 0) }
        expectClose(outside, sums, "\(sample), batched \(choice), outside")
      }
    }
  }
}
