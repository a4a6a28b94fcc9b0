import Testing

@testable import ApusCPU
@testable import ApusIR

@Suite struct RewritingTests {
  // MARK: Products as they are read

  @Test func productsThatAreReadTransposedAreMadeThatWay() throws {
    let before = graph([float([5, 3, 4]), float([5, 4, 6])]) { _, x in [x[0].matmul(x[1]).transpose([0, 2, 1])] }
    let after = withProductsAsRead(before)
    try after.verify()
    #expect(after.names == ["matmul"] && after.outputTypes == before.outputTypes)
    try expectSameBits(after, before)
  }

  @Test func productsThatAreReadOtherwiseStay() throws {
    let types = [float([5, 3, 4]), float([5, 4, 6])]
    for before in [
      graph(types) { _, x in [x[0].matmul(x[1]).transpose([1, 0, 2])] },
      graph(types) { _, x in
        let y = x[0].matmul(x[1])
        return [y.transpose([0, 2, 1]), y]
      },
      graph(types) { _, x in
        let y = x[0].matmul(x[1])
        return [y.transpose([0, 2, 1]), y.unary(.exp)]
      },
    ] {
      #expect(withProductsAsRead(before) == before)
    }
  }

  // MARK: Early updates

  /// A parameter's step comes right after its gradient and its last reader, and may be done in place.
  @Test func updatesAreEarly() throws {
    let rule = OptimizerRule(.sgd)
    let type = float([128, 128])
    let before = graph([type, type, type, TensorType([2], .float64), TensorType([], .int64)]) { b, x in
      let g = x[0].matmul(x[2])  // reads the first parameter
      let h = x[1].matmul(g)
      let loss = h.matmul(x[0].transpose([1, 0]))  // reads it again, through a view
      let later = loss.unary(.exp).unary(.sin)
      let p = b.apply(.composite(.optimizerStep(rule)), [x[0], g, x[3], x[4]])[0]
      let q = b.apply(.composite(.optimizerStep(rule)), [x[1], h, x[3], x[4]])[0]
      return [later, p, q]
    }
    let after = withEarlyUpdates(before)
    try after.verify()
    try expectSameBits(after, before)
    let steps = after.nodes.indices.filter {
      if case .composite(.optimizerStep) = after.nodes[$0].operation { true } else { false }
    }
    let readers = after.nodes.indices.filter { after.nodes[$0].inputs.contains(0) && !steps.contains($0) }
    let sine = try #require(after.names.firstIndex(of: "sin"))
    #expect(steps.count == 2 && steps.allSatisfy { $0 < sine }, "\(after.names)")
    #expect(readers.allSatisfy { $0 < steps[1] })

    let plan = Plan(before, donations: [0: 1, 1: 2])
    #expect(plan.donors == [nil, 0, 1])
    let inputs = arrays(before.inputTypes)
    let expected = try CPU.run(before, inputs)
    let copies = inputs.map { $0.copy() }
    let results = try plan.run(copies, into: [1: copies[0], 2: copies[1]])
    #expect(results[1].pointer == copies[0].pointer && results[2].pointer == copies[1].pointer)
    for (result, reference) in zip(results, expected) { #expect(distance(result, reference) < 1e-5) }
    #expect(bits(results[1]) == bits(expected[1]) && bits(results[2]) == bits(expected[2]))
  }

  /// Two steps of one small parameter, one after the other, and a state that is another's parameter: they cannot be done together.
  @Test func stepsThatFollowEachOtherAreNotOne() throws {
    let rule = OptimizerRule(.sgd)
    let type = float([40])
    let before = graph([type, type, TensorType([2], .float64), TensorType([], .int64)]) { b, x in
      func step(_ p: Term, _ g: Term) -> Term { b.apply(.composite(.optimizerStep(rule)), [p, g, x[2], x[3]])[0] }
      let once = step(x[0].unary(.sin), x[1])
      let twice = step(once, x[1])
      return [step(twice, once), step(x[1], twice)]
    }
    let inputs = arrays(before.inputTypes)
    #expect(try Plan(before).run(inputs).map(bits) == CPU.run(before, inputs).map(bits))
  }

  // MARK: Batch normalization

  @Test(arguments: [ElementType.float32, .float64]) func batchNormIsFolded(_ type: ElementType) throws {
    let p = ConvolutionParameters(
      stride: [1, 1], padLow: [1, 1], padHigh: [1, 1], kernelDilation: [1, 1], inputDilation: [1, 1])
    for hasBias in [false, true] {
      var types = [Shape([2, 3, 8, 9]), [6, 3, 3, 3], [6], [6], [6], [6]].map { TensorType($0, type) }
      if hasBias { types.append(TensorType([6], type)) }
      let before = graph(types) { b, x in
        let y = b.apply(.convolution(p), [x[0], x[1]] + (hasBias ? [x[6]] : []))[0]
        let variance = x[5] * x[5] + 0.25
        return [b.apply(.composite(.batchNormInference(epsilon: 1e-5)), [y, x[2], x[3], x[4], variance])[0]]
      }
      let stable = Set(1..<types.count)
      let after = withFoldedBatchNorm(before, isStable: before.stableValues(stable))
      try after.verify()
      #expect(after.count("batchNormInference") == 0)
      #expect(withFoldedBatchNorm(before, isStable: before.stableValues([1])) == before, "weights may change")
      let inputs = arrays(types)
      let expected = try CPU.run(before, inputs)[0]
      // 27 products of numbers up to 4, scaled by at most 8.
      let bound = type == .float32 ? 27.0 * 16 * 8 * 6e-8 : 27.0 * 16 * 8 * 1.2e-16
      let difference = zip(numbers(try CPU.run(after, inputs)[0]), numbers(expected)).map { abs($0 - $1) }.max() ?? 0
      #expect(difference < bound)
    }
  }

  @Test func batchNormOfWhatOthersReadIsNot() throws {
    let p = ConvolutionParameters(stride: [1], padLow: [0], padHigh: [0], kernelDilation: [1], inputDilation: [1])
    let before = graph([[2, 3, 8], [6, 3, 3], [6], [6], [6], [6]].map(float)) { b, x in
      let y = b.apply(.convolution(p), [x[0], x[1]])[0]
      return [b.apply(.composite(.batchNormInference(epsilon: 1e-5)), [y, x[2], x[3], x[4], x[5]])[0], y]
    }
    #expect(withFoldedBatchNorm(before, isStable: before.stableValues(Set(1..<6))) == before)
  }
}

extension RewritingTests {
  /// A step of what another step gave, whose gradient comes between: both move, in order.
  @Test func stepsOfStepsStayInOrder() throws {
    let rule = OptimizerRule(.sgd)
    let type = float([128, 128])
    let before = graph([type, type, TensorType([2], .float64), TensorType([], .int64)]) { b, x in
      func step(_ p: Term, _ g: Term) -> Term { b.apply(.composite(.optimizerStep(rule)), [p, g, x[2], x[3]])[0] }
      let g = x[1].unary(.sin)
      let h = x[1].unary(.cos).unary(.exp)
      let once = step(x[0], g)
      let other = h.unary(.tanh)
      return [step(once, h), other]
    }
    let after = withEarlyUpdates(before)
    try after.verify()
    #expect(after.names == ["sin", "sgdStep", "cos", "exp", "sgdStep", "tanh"])
    try expectSameBits(after, before)
  }
}
