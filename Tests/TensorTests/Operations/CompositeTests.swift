import ApusCPU
import Testing

@testable import ApusTensor

/// A composite's kernel and its decomposition into other operations are two ways to one result.
@Suite struct CompositeTests {
  private let samples = Family.composite.samples.filter { !$0.hasSpecials }

  @Test func kernelsAgreeWithDecompositions() throws {
    for sample in samples {
      guard case .composite(let composite) = sample.operation else { continue }
      for type in sample.types {
        let inputs = sample.tensors(type)
        let kernel = try run(sample.operation, inputs)
        let decomposed = composite.decomposed(inputs)
        #expect(kernel.map(\.type) == decomposed.map(\.type), "\(sample) in \(type)")
        // Decompositions of operations that stay in half precision round in between.
        let slack: Double = type == .float16 || type == .bfloat16 ? 4 : 2
        for (i, (a, b)) in zip(kernel, decomposed).enumerated() {
          let problem = Reference(b).mismatch(a, ulps: slack * sample.ulps, magnitude: sample.magnitude)
          #expect(problem == nil, "\(sample) in \(type), result \(i)")
        }
      }
    }
  }

  @Test func gradientsThroughBothAgree() {
    for sample in samples {
      guard case .composite(let composite) = sample.operation else { continue }
      let inputs = sample.tensors(.float64)
      func value(_ arguments: [Tensor], _ f: ([Tensor]) -> [Tensor]) -> Tensor {
        var all = inputs
        for (i, argument) in zip(sample.gradients, arguments) { all[i] = argument }
        return f(all).enumerated().reduce(Tensor.zeros([], .float64)) { sum, result in
          sum + (result.element * Input(result.element.shape, .nonzero, seed: result.offset).tensor(.float64)).sum()
        }
      }
      let x = sample.gradients.map { inputs[$0] }
      let direct = gradient(at: x) { value($0) { apply(sample.operation, $0) } }
      let through = gradient(at: x) { value($0, composite.decomposed) }
      for (k, (a, b)) in zip(direct, through).enumerated() {
        #expect(allClose(a, b, relative: 1e-9, absolute: 1e-9), "\(sample), operand \(k)")
      }
      // Only the first result: the way of the gradient kernels.
      let first = gradient(at: x) { value($0) { [apply(sample.operation, $0)[0]] } }
      let throughFirst = gradient(at: x) { value($0) { [composite.decomposed($0)[0]] } }
      for (k, (a, b)) in zip(first, throughFirst).enumerated() {
        #expect(allClose(a, b, relative: 1e-9, absolute: 1e-9), "\(sample), operand \(k), first result")
      }
    }
  }

  /// The decompositions are what other engines and second gradients run: they too are PyTorch's values.
  @Test func decompositionsGiveTheReferenceValues() throws {
    for sample in samples {
      guard case .composite(let composite) = sample.operation else { continue }
      let expected = try #require(Reference.fixture[sample.text(.real)[...]])
      for (result, reference) in zip(composite.decomposed(sample.tensors(.float64)), expected) {
        #expect(reference.mismatch(result, ulps: 4 * sample.ulps, magnitude: sample.magnitude) == nil, "\(sample)")
      }
    }
  }
}

/// Every operation's decomposition, run operation by operation, gives what its kernel gives.
@Suite struct DecompositionTests {
  @Test(arguments: Family.allCases) func kernelsAgreeWithDecompositions(_ family: Family) throws {
    for sample in family.samples where sample.hasReference {
      for type in sample.types {
        let inputs = sample.tensors(type)
        guard let graph = sample.operation.decomposition(inputs.map(\.type)) else { continue }
        try graph.verify()
        let kernel = try run(sample.operation, inputs)
        #expect(graph.outputTypes == kernel.map(\.type), "\(sample) in \(type)")
        // Every other element of float64 is a subnormal's distance from the next: sums in another order differ.
        let results = try CPU.run(graph, inputs.map(\.array)).map { Tensor(array: $0) }
        let slack: Double = type == .float16 || type == .bfloat16 ? 4 : 2
        for (i, (a, b)) in zip(kernel, results).enumerated() {
          let problem = Reference(a).mismatch(b, ulps: slack * sample.ulps, magnitude: sample.magnitude + 1e-3)
          #expect(problem == nil, "\(sample) in \(type), result \(i)")
        }
      }
    }
  }
}
