import ApusNN
import ApusTensor
import Testing

/// Regularizers, ActivityRegularization and constraints beside Keras's.
@Suite struct RegularizerTests {
  @Test(arguments: [ElementType.float64, .float32])
  func penaltiesAndGradientsAreKerass(_ type: ElementType) throws {
    let cases: [(String, Regularizer)] = [
      ("l1", .l1(0.03)), ("l2", .l2(0.02)), ("l1l2", .l1l2(l1: 0.03, l2: 0.02)),
      ("orthogonalRows", .orthogonal(factor: 0.05, mode: .rows)),
      ("orthogonalColumns", .orthogonal(factor: 0.05, mode: .columns)),
    ]
    for (name, regularizer) in cases {
      let fixture = try PartsFixture(name)
      let w = Parameter(try fixture("w", type))
      let y = regularizer(w.value)
      #expect(y.elementType == type)
      expectClose(y, try fixture("y", type), type, name)
      expectClose(try #require(y.gradients(for: [w])[w]), try fixture("dw", type), type, "gradient of \(name)")
    }
  }

  @Test func activityRegularizationIsKerass() throws {
    let fixture = try PartsFixture("activity")
    let x = try fixture("x")
    let layer = ActivityRegularization(l1: 0.01, l2: 0.02)
    #expect(layer(x).elements(as: Double.self) == x.elements(as: Double.self))
    expectClose(layer.regularizationLoss(), try fixture("y"), .float64, "penalty")
    // Read once; a shared layer's calls add up.
    #expect(layer.regularizationLoss().item() == 0)
    _ = layer(x)
    _ = layer(x)
    expectClose(layer.regularizationLoss(), try fixture("y") * 2, .float64, "two calls")
    // Whoever never reads them keeps at most 16.
    for _ in 0..<100 { _ = layer(x) }
    expectClose(layer.regularizationLoss(), try fixture("y") * 16, .float64, "many calls")
    #expect(layer.description == "ActivityRegularization(l1: 0.01, l2: 0.02)")
  }

  /// Weight, bias and activity penalties of one layer join the loss, operation by operation and compiled.
  @Test func regularizationLossJoinsTheLoss() throws {
    let fixture = try PartsFixture("denseLosses")
    let layer = Linear(3, 4, elementType: .float64).regularize("weight", .l1(0.01)).regularize("bias", .l2(0.3))
    layer.regularizeActivity(.l2(0.1))
    try layer.load(state: ["weight": fixture("weight"), "bias": fixture("bias")])
    func f(_ x: Tensor) -> [Tensor] {
      let y = layer(x)
      let loss = square(y).mean() + layer.regularizationLoss()
      let gradients = loss.gradients(for: layer.parameters)
      return [loss] + gradients.values.compactMap { $0 }
    }
    let program = compile { (x: Tensor) -> [Tensor] in f(x) }
    let x = try fixture("x")
    for results in [f(x), program(x), f(x), program(x)] {
      expectClose(results[0], try fixture("y"), .float64, "loss")
      expectClose(results[1], try fixture("dweight"), .float64, "weight")
      expectClose(results[2], try fixture("dbias"), .float64, "bias")
    }
    #expect(program.report.traces.count == 1)
    // A program that makes penalties nobody reads leaves nothing behind that could be used outside of it.
    let forward = compile { (x: Tensor) -> Tensor in layer(x) }
    _ = forward(x)
    _ = layer(x)
    expectClose(
      layer.regularizationLoss() - layer.regularizationLoss(), square(layer(x)).sum() * 0.1 / 5, .float64, "after a program")
  }

  @Test func regularizersReachByNameAndPredicateAndLeaveFrozenParametersOut() {
    let net = Sequential {
      Linear(3); ReLU(); Linear(2).regularize("weight", .l2(1))
    }
    // Attached before the layers know their sizes.
    net.regularize("0.bias", .l1(1)).regularize(where: { name, _ in name.hasSuffix("bias") }, .l2(10))
    net.build(input: [4], .float64)
    func sum(_ v: Variable, _ f: (Tensor) -> Tensor) -> Tensor { f(v.value).sum() }
    let p = net.parameters
    let expected = sum(p[2], square) + sum(p[1], abs) + (sum(p[1], square) + sum(p[3], square)) * 10
    expectClose(net.regularizationLoss(), expected, .float64, "all")
    net[2].freeze()
    expectClose(net.regularizationLoss(), sum(p[1], abs) + sum(p[1], square) * 10, .float64, "frozen")
    #expect(Sequential { ReLU() }.regularizationLoss().item() == 0)
  }

  @Test func aNameThatIsNotThereIsNamed() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let layer = Linear(2, 2).regularize("wieght", .l2())
      _ = layer.regularizationLoss()
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("Linear(2, 2): there is no parameter \"wieght\" to regularize; there are weight, bias"), "\(text)")
  }

  // MARK: Constraints

  /// maxNorm, minMaxNorm, unitNorm and nonNegative; Keras's kernels are [in, out], the weights here [out, in].
  @Test(arguments: [ElementType.float64, .float32])
  func constraintsAreKerass(_ type: ElementType) throws {
    let fixture = try PartsFixture("constraints")
    let cases: [(String, Constraint)] = [
      ("maxNorm", .maxNorm(1.5)), ("minMaxNorm", .minMaxNorm(0.8, 1.6)), ("minMaxNormRate", .minMaxNorm(0.8, 1.6, rate: 0.3)),
      ("unitNorm", .unitNorm()), ("nonNegative", .nonNegative),
    ]
    for (name, constraint) in cases {
      for part in ["kernel", "image", "vector"] {
        let value = constraint(try fixture(part, type))
        expectClose(value, try fixture("\(name).\(part)", type), type, "\(name) of \(part)")
      }
    }
    let columns = Constraint.unitNorm(axes: [0])(try fixture("kernel", type).T)
    expectClose(columns, try fixture("unitNorm.kernel", type).T, type, "axes")
  }

  @Test func constraintsHoldAfterStepsEagerAndCompiled() throws {
    func train(compiled: Bool) -> [Double] {
      let net = Sequential {
        Linear(6, 5, elementType: .float64, generator: Generator(seed: 1)).constrain("weight", .maxNorm(0.3)); Tanh()
        Linear(5, 2, elementType: .float64, generator: Generator(seed: 2))
      }
      net.constrain(where: { name, _ in name == "2.weight" }, .nonNegative)
      let optimizer = SGD(net.parameters, learningRate: 0.5)
      let x = Tensor.randn([8, 6], .float64, generator: Generator(seed: 3))
      func step(_ x: Tensor) -> Tensor {
        let loss = square(net(x) - 1).mean()
        optimizer.step(minimizing: loss)
        net.applyConstraints()
        return loss
      }
      let program = compile { (x: Tensor) -> Tensor in step(x) }
      for _ in 0..<4 { _ = compiled ? program(x) : step(x) }
      let norms = sqrt(square(net.parameters[0].value).sum(axis: 1)).elements(as: Double.self)
      #expect(norms.allSatisfy { $0 <= 0.3 } && norms.contains { $0 > 0.29 })
      #expect(net.parameters[2].value.min().item(as: Double.self) >= 0)
      return net.parameters.flatMap { $0.value.elements(as: Double.self) }
    }
    #expect(train(compiled: false) == train(compiled: true))
  }

  @Test func frozenParametersAreNotConstrained() {
    let layer = Linear(2, 2).constrain("weight", .unitNorm())
    layer.weight.initialize(.constant(3))
    layer.freeze()
    layer.applyConstraints()
    #expect(layer.weight.value.floats == [3, 3, 3, 3])
    layer.unfreeze()
    layer.applyConstraints()
    #expect(layer.weight.value.floats.allSatisfy { abs(Double($0) - 0.5.squareRoot()) < 1e-6 })
  }
}
