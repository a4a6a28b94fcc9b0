import ApusCPU
import Testing

@testable import ApusTensor

/// What plans do to graphs changes nothing: compared with the same graph run operation by operation.
@Suite struct PlanTests {
  /// Gradients of gradients: long graphs with everything that passes look for.
  @Test(arguments: Family.allCases) func plansGiveWhatGraphsGive(_ family: Family) throws {
    for sample in family.samples where !sample.gradients.isEmpty && sample.types.contains(.float64) {
      let inputs = sample.tensors(.float64)
      let x = sample.gradients.map { inputs[$0] }
      guard x.reduce(0, { $0 + $1.count }) <= 90, !sample.isWhile else { continue }  // while has no second gradient
      let program = compile { (x: [Tensor]) -> [Tensor] in
        gradient(at: x) { x in
          let slopes = gradient(at: x) { arguments in
            var all = inputs
            for (i, argument) in zip(sample.gradients, arguments) { all[i] = argument }
            return apply(sample.operation, all).filter { $0.elementType.isFloatingPoint }.reduce(Tensor.zeros([], .float64)) {
              $0 + square($1).sum()
            }
          }
          return slopes.enumerated().reduce(Tensor.zeros([], .float64)) {
            $0 + square($1.element * 0.3 + Double($1.offset)).sum()
          }
        }
      }
      let captured = program.program(x)
      let expected = try CPU.run(captured.graph, x.map(\.array))
      // The passes' graph, each group run as the operations in it.
      let optimized = try CPU.run(captured.plan.graph, x.map(\.array))
      for (k, (result, reference)) in zip(optimized, expected).enumerated() {
        let problem = Reference(Tensor(array: reference)).mismatch(Tensor(array: result), ulps: 64, magnitude: 1e3)
        #expect(problem == nil, "\(sample), gradient \(k), by the optimized graph")
      }
      let results = program(x)
      for (k, (result, reference)) in zip(results, expected).enumerated() {
        let problem = Reference(Tensor(array: reference)).mismatch(result, ulps: 64, magnitude: 1e3)
        #expect(problem == nil, "\(sample), gradient \(k)\n\(captured.graph.nodes.count) nodes")
      }
    }
  }
}
