import ApusCPU
import Testing

@testable import ApusTensor

/// The weights that make one number of results: no two alike, none zero, signs mixed.
func weights(_ shape: Shape, _ seed: Int) -> Tensor { Input(shape, .nonzero, seed: seed + 50).tensor(.float64) }

/// A number made of all floating point results.
func total(_ results: [Tensor]) -> Tensor {
  var sum = Tensor.zeros([], .float64)
  for (i, result) in results.enumerated() where result.elementType.isFloatingPoint && result.count > 0 {
    sum = sum + (result.converted(to: .float64) * weights(result.shape, i)).sum()
  }
  return sum
}

/// Gradients of every operation, and gradients of those, against central differences in float64.
///
/// A difference over ± h is off by h² f‴ / 6 and by the rounding ε |f| / h: with h = 2⁻¹⁶ both are below 10⁻⁹ for the
/// values of the samples. 10⁻⁶ of the largest gradient is allowed, which no wrong formula meets.
@Suite struct OperationGradientTests {
  private static let step = 0x1p-16
  private static let tolerance = 1e-6

  /// The gradients of `f` by differences; `x` is what each of the arguments is.
  private func differences(_ x: [Tensor], _ f: ([Tensor]) -> Tensor) -> [Tensor] {
    x.indices.map { k in
      let values = x[k].elements(as: Double.self)
      let slopes = values.indices.map { i -> Double in
        func at(_ offset: Double) -> Double {
          var moved = values
          moved[i] += offset
          var arguments = x
          arguments[k] = Tensor(moved, shape: x[k].shape)
          return f(arguments).item(as: Double.self)
        }
        return (at(Self.step) - at(-Self.step)) / (2 * Self.step)
      }
      return Tensor(slopes, shape: x[k].shape)
    }
  }

  private func expectClose(_ got: [Tensor], _ expected: [Tensor], _ what: String) {
    let scale = expected.flatMap { $0.elements(as: Double.self) }.reduce(1) { max($0, abs($1)) }
    for (k, (g, e)) in zip(got, expected).enumerated() {
      #expect(g.type == e.type, "\(what), operand \(k)")
      let off = zip(g.elements(as: Double.self), e.elements(as: Double.self)).map { abs($0 - $1) }
      let worst = off.reduce(0) { $1.isNaN || $1 > $0 ? $1 : $0 }
      #expect(
        worst <= Self.tolerance * scale,
        "\(what), operand \(k): off by \(worst); \(g.elements(as: Double.self)) for \(e.elements(as: Double.self))")
    }
  }

  private func function(_ sample: Sample) -> (_ x: [Tensor]) -> Tensor {
    let inputs = sample.tensors(.float64)
    return { arguments in
      var all = inputs
      for (i, argument) in zip(sample.gradients, arguments) { all[i] = argument }
      return total(apply(sample.operation, all))
    }
  }

  private func samples(_ family: Family) -> [Sample] {
    family.samples.filter { !$0.gradients.isEmpty && $0.types.contains(.float64) }
  }

  @Test(arguments: Family.allCases) func gradientsAreThoseOfDifferences(_ family: Family) {
    for sample in samples(family) {
      let f = function(sample)
      let x = sample.gradients.map { sample.inputs[$0].tensor(.float64) }
      let expected = differences(x, f)
      expectClose(gradient(at: x, of: f), expected, "\(sample)")
      // Each alone: the other operands are then not tracked.
      for k in x.indices where x.count > 1 {
        let alone = gradient(at: x[k]) { argument in
          var all = x
          all[k] = argument
          return f(all)
        }
        expectClose([alone], [expected[k]], "\(sample), operand \(k) alone")
      }
    }
  }

  @Test(arguments: Family.allCases) func gradientsOfGradientsAreThoseOfDifferences(_ family: Family) {
    for sample in samples(family) {
      let f = function(sample)
      let x = sample.gradients.map { sample.inputs[$0].tensor(.float64) }
      // More than a few dozen elements show nothing that fewer do not.
      guard x.reduce(0, { $0 + $1.count }) <= 90 else { continue }
      if case .whileLoop = sample.operation { continue }  // its gradient has none
      func slope(_ x: [Tensor]) -> Tensor {
        zip(gradient(at: x, of: f), x.indices).reduce(Tensor.zeros([], .float64)) {
          $0 + ($1.0 * weights($1.0.shape, $1.1 + 20)).sum()
        }
      }
      expectClose(gradient(at: x, of: slope), differences(x, slope), "\(sample), second gradient")
    }
  }

  /// Every element type with a gradient carries it in that type; the values are those of float64, rounded.
  @Test(arguments: Family.allCases) func gradientsInOtherTypes(_ family: Family) {
    for sample in samples(family) {
      let wide = sample.gradients.map { sample.inputs[$0].tensor(.float64) }
      let expected = gradient(at: wide, of: function(sample))
      for type in sample.types
      where type.isFloatingPoint && type != .float64 && !sample.inputs.contains(where: { $0.role == .statistics }) {
        if case .convert = sample.operation { continue }
        let inputs = sample.tensors(type)
        let gradients = gradient(at: sample.gradients.map { inputs[$0] }) { arguments in
          var all = inputs
          for (i, argument) in zip(sample.gradients, arguments) { all[i] = argument }
          return total(apply(sample.operation, all))
        }
        let scale = expected.flatMap { $0.elements(as: Double.self) }.reduce(1) { max($0, abs($1)) }
        guard scale < FloatingFormat(type).largest / 16 else { continue }  // or else steps in between overflow
        // Gradient rules round after each of their few operations: 64 units of the largest gradient cover them all.
        let allowed = 64 * FloatingFormat(type).epsilon * scale
        for (k, (g, e)) in zip(gradients, expected).enumerated() {
          #expect(g.elementType == type, "\(sample) in \(type)")
          let off = zip(g.elements(as: Double.self), e.elements(as: Double.self)).map { abs($0 - $1) }.max() ?? 0
          #expect(off <= allowed, "\(sample) in \(type), operand \(k): off by \(off), allowed \(allowed)")
        }
      }
    }
  }
}
