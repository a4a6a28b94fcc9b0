import Testing

@testable import ApusTensor

/// Every operation, and its gradient, as one compiled program: the bits of eager execution.
@Suite struct CompiledOperationTests {
  @Test(arguments: Family.allCases) func resultsAreThoseOfEagerExecution(_ family: Family) throws {
    for sample in family.samples {
      for type in sample.types {
        let inputs = sample.tensors(type)
        let expected = apply(sample.operation, inputs)
        let program = compile { (x: [Tensor]) in apply(sample.operation, x) }
        for _ in 0..<2 {
          let results = program(inputs)
          #expect(results.map(\.type) == expected.map(\.type), "\(sample) in \(type)")
          #expect(results.map(bits) == expected.map(bits), "\(sample) in \(type)")
        }
        #expect(program.report.traces.count == 1)
        try program.program(inputs).graph.verify()
      }
    }
  }

  private func samples(_ family: Family) -> [Sample] { family.samples.filter { !$0.gradients.isEmpty } }

  private func function(_ sample: Sample, _ type: ElementType) -> (x: [Tensor], f: ([Tensor]) -> Tensor) {
    let inputs = sample.tensors(type)
    return (
      sample.gradients.map { inputs[$0] },
      { arguments in
        var all = inputs
        for (i, argument) in zip(sample.gradients, arguments) { all[i] = argument }
        return total(apply(sample.operation, all))
      }
    )
  }

  private func types(_ sample: Sample) -> [ElementType] {
    if case .convert = sample.operation { return [.float64] }
    return sample.types.filter(\.isFloatingPoint)
  }

  @Test(arguments: Family.allCases) func gradientsInsideAreThoseOfEagerExecution(_ family: Family) throws {
    for sample in samples(family) {
      for type in types(sample) {
        let (x, f) = function(sample, type)
        let expected = gradient(at: x, of: f)
        let program = compile { (x: [Tensor]) in gradient(at: x, of: f) }
        let results = program(x)
        if sample.isLoop {
          expectClose(results, expected, "\(sample) in \(type)")
        } else {
          #expect(results.map(bits) == expected.map(bits), "\(sample) in \(type)")
        }
        try program.program(x).graph.verify()
      }
    }
  }

  /// Gradients taken outside of the program go back through its results, and gradients of these again.
  @Test(arguments: Family.allCases) func gradientsThroughResults(_ family: Family) {
    for sample in samples(family) where sample.types.contains(.float64) {
      let (x, f) = function(sample, .float64)
      let program = compile { (x: [Tensor]) in f(x) }
      let expected = gradient(at: x, of: f)
      expectClose(gradient(at: x) { program($0) }, expected, "\(sample)")
      guard x.reduce(0, { $0 + $1.count }) <= 90, !sample.isWhile else { continue }
      func slope(_ f: @escaping ([Tensor]) -> Tensor) -> [Tensor] {
        gradient(at: x) { x in
          zip(gradient(at: x, of: f), x.indices).reduce(Tensor.zeros([], .float64)) {
            $0 + ($1.0 * weights($1.0.shape, $1.1 + 20)).sum()
          }
        }
      }
      expectClose(slope { program($0) }, slope(f), "\(sample), second gradient")
    }
  }

}

extension Sample {
  /// Whether the gradient sums over rounds, whose order tracing may change.
  var isLoop: Bool {
    switch operation {
    case .whileLoop, .scanLoop: true
    default: false
    }
  }

  var isWhile: Bool { if case .whileLoop = operation { true } else { false } }
}

func expectClose(
  _ got: [Tensor], _ expected: [Tensor], _ what: String, tolerance: Double = 1e-10,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(got.map(\.type) == expected.map(\.type), "\(what)", sourceLocation: sourceLocation)
  for (k, (g, e)) in zip(got, expected).enumerated() {
    let (g, e) = (g.elements(as: Double.self), e.elements(as: Double.self))
    let scale = e.reduce(1) { $1.isFinite ? max($0, abs($1)) : $0 }
    let isClose = zip(g, e).allSatisfy { $0 == $1 || ($0.isNaN && $1.isNaN) || abs($0 - $1) <= tolerance * scale }
    #expect(isClose, "\(what), \(k): \(g) for \(e)", sourceLocation: sourceLocation)
  }
}
