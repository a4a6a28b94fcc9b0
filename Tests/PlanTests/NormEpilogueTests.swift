import Testing

@testable import ApusCPU
@testable import ApusIR

@Suite struct NormEpilogueTests {
  private func normalized(_ b: DecompositionBuilder, _ x: Term, _ weight: Term, _ bias: Term) -> [Term] {
    b.apply(.composite(.batchNorm(epsilon: 1e-3)), [x, weight, bias])
  }

  /// Forward and backward of relu after a batch normalization are one kernel each, with the operations' bits.
  @Test(arguments: [ElementType.float32, .float64, .float16, .bfloat16], [false, true])
  func reluIsPartOfTheNormalization(_ type: ElementType, channelsLast: Bool) throws {
    let channels = TensorType([5], type)
    let image = TensorType(channelsLast ? [3, 4, 7, 5] : [3, 5, 4, 7], type)
    let source = graph([image, channels, channels, image]) { b, v in
      let (x, dy) = channelsLast ? (v[0].transpose([0, 3, 1, 2]), v[3].transpose([0, 3, 1, 2])) : (v[0], v[3])
      let y = normalized(b, x, v[1], v[2])
      let active = y[0].unary(.relu)
      let gradient = b.apply(.activationGradient(.relu), [dy, active])[0]
      return [active, y[1], y[2]] + b.apply(.composite(.batchNormGradient(epsilon: 1e-3)), [gradient, x, v[1], y[1], y[2]])
    }
    let inputs = arrays(source.inputTypes)
    let reference = try CPU.run(source, inputs).map(bits)
    let after = NormEpilogues.run(source)
    try after.verify()
    #expect(try CPU.run(after, inputs).map(bits) == reference)
    let plan = Plan(source)
    #expect(plan.kernelCount == 2, "\(plan.graph.names)")
    #expect(try plan.run(inputs).map(bits) == reference)
  }

  @Test func inferenceTakesReluToo() throws {
    let channels = float([5])
    let source = graph([float([3, 5, 4]), channels, channels, channels, float([5])]) { b, v in
      [b.apply(.composite(.batchNormInference(epsilon: 1e-3)), [v[0], v[1], v[2], v[3], v[4] * v[4]])[0].unary(.relu)]
    }
    let inputs = arrays(source.inputTypes)
    #expect(NormEpilogues.run(source).names.count == 2)
    #expect(try Plan(source).run(inputs).map(bits) == CPU.run(source, inputs).map(bits))
  }

  @Test func whatIsReadTwiceStays() throws {
    let source = graph([float([3, 5, 4]), float([5]), float([5])]) { b, v in
      let y = normalized(b, v[0], v[1], v[2])[0]
      return [y.unary(.relu), y]
    }
    #expect(NormEpilogues.run(source) == source)
  }
}

@Suite struct RecomputationTests {
  private static let depth = 6

  /// Layers of a product, a normalization and relu, with their gradients written out.
  private func network(outputsActivation: Bool = false) -> Graph {
    let (rows, width) = (64, 32)
    var types = [float([rows, width]), float([rows, width])]
    for _ in 0..<Self.depth { types += [float([width, width]), float([width]), float([width])] }
    return graph(types) { b, v in
      var x = v[0]
      var kept: [(input: Term, product: Term, statistics: [Term], active: Term)] = []
      for layer in 0..<Self.depth {
        let product = x.matmul(v[2 + layer * 3])
        let y = b.apply(.composite(.batchNorm(epsilon: 1e-3)), [product, v[3 + layer * 3], v[4 + layer * 3]])
        let active = y[0].unary(.relu)
        kept.append((x, product, Array(y[1...]), active))
        x = active
      }
      var gradient = x * v[1]
      var results: [Term] = outputsActivation ? kept.map(\.active) : []
      for layer in (0..<Self.depth).reversed() {
        let k = kept[layer]
        let gated = b.apply(.activationGradient(.relu), [gradient, k.active])[0]
        let d = b.apply(
          .composite(.batchNormGradient(epsilon: 1e-3)), [gated, k.product, v[3 + layer * 3]] + k.statistics)
        results += [k.input.transpose([1, 0]).matmul(d[0]), d[1], d[2]]
        gradient = d[0].matmul(v[2 + layer * 3].transpose([1, 0]))
      }
      return results
    }
  }

  @Test func activationsAreMadeAgainWithTheSameBits() throws {
    let source = network()
    let after = withRecomputation(source, smallest: 1)
    try after.verify()
    // All but the last, which is read at once; the first layer's input is kept by the caller.
    #expect(after.count("batchNormInference") >= Self.depth - 2, "\(after.names)")
    let inputs = arrays(source.inputTypes)
    let reference = try CPU.run(source, inputs).map(bits)
    #expect(try CPU.run(after, inputs).map(bits) == reference)
    #expect(try Plan(after).run(inputs).map(bits) == reference)
    #expect(Plan(after).memory.arena < Plan(source).memory.arena)
  }

  @Test func nothingIsRepeatedThatIsKeptAnyway() {
    // Results stay; small programs are not worth it; neither is what saves too little.
    let source = network(outputsActivation: true)
    #expect(withRecomputation(source, smallest: 1) == source)
    #expect(withRecomputation(network()) == network())
    #expect(withRecomputation(network(), smallest: 1, gain: 0.9) == network())
  }
}
