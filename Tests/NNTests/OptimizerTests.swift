import ApusNN
import ApusTensor
import Testing

struct OptimizerCase: Sendable, CustomTestStringConvertible {
  let name: String
  let make: @Sendable ([Parameter]) -> Optimizer
  var testDescription: String { name }

  init(_ name: String, _ make: @escaping @Sendable ([Parameter]) -> Optimizer) { (self.name, self.make) = (name, make) }

  static let all: [OptimizerCase] = [
    .init("sgd") { SGD($0, learningRate: 0.1) },
    .init("sgdDecay") { SGD($0, learningRate: 0.1, weightDecay: 0.05) },
    .init("sgdMomentum") { SGD($0, learningRate: 0.1, momentum: 0.9, weightDecay: 0.01) },
    .init("sgdDampening") { SGD($0, learningRate: 0.1, momentum: 0.9, dampening: 0.3) },
    .init("sgdNesterov") { SGD($0, learningRate: 0.1, momentum: 0.8, weightDecay: 0.02, nesterov: true) },
    .init("sgdMaximize") { SGD($0, learningRate: 0.1, momentum: 0.8, weightDecay: 0.02, maximize: true) },
    .init("adam") { Adam($0, learningRate: 0.05) },
    .init("adamDecay") { Adam($0, learningRate: 0.05, betas: (0.8, 0.95), epsilon: 1e-3, weightDecay: 0.1) },
    .init("adamAmsgrad") { Adam($0, learningRate: 0.05, betas: (0.5, 0.6), amsgrad: true) },
    .init("adamMaximize") { Adam($0, learningRate: 0.05, weightDecay: 0.1, maximize: true) },
    .init("adamW") { AdamW($0, learningRate: 0.05) },
    .init("adamWAmsgrad") { AdamW($0, learningRate: 0.05, betas: (0.5, 0.6), weightDecay: 0.2, amsgrad: true) },
    .init("rmsprop") { RMSprop($0) },
    .init("rmspropMomentum") { RMSprop($0, learningRate: 0.02, alpha: 0.9, weightDecay: 0.1, momentum: 0.7) },
    .init("rmspropCentered") { RMSprop($0, learningRate: 0.02, alpha: 0.9, epsilon: 1e-3, centered: true) },
    .init("rmspropAll") { RMSprop($0, learningRate: 0.02, alpha: 0.9, momentum: 0.5, centered: true, maximize: true) },
    .init("sgdGroups") {
      SGD(
        [
          ParameterGroup([$0[0]]) {
            $0.learningRate = 0.01
            $0.weightDecay = 0.3
          },
          ParameterGroup([$0[1]]) { $0.momentum = 0.5 },
        ], learningRate: 0.1, momentum: 0.9)
    },
  ]
}

@Suite struct OptimizerTests {
  /// The gradients of one step of the script: the second parameter has none in the third.
  private func gradients(_ values: [String: Tensor], _ parameters: [Parameter], _ step: Int, _ type: ElementType) throws
    -> Gradients
  {
    Gradients(
      variables: parameters,
      values: try parameters.indices.map { i in
        step == 2 && i == 1 ? nil : try #require(values["gradient.\(step).\(i)"]).converted(to: type)
      })
  }

  private func start(_ values: [String: Tensor], _ type: ElementType) throws -> [Parameter] {
    try (0..<2).map { Parameter(try #require(values["start.\($0)"]).converted(to: type)) }
  }

  @Test(arguments: OptimizerCase.all, [ElementType.float64, .float32])
  func fiveStepsAreThoseOfPyTorch(_ sample: OptimizerCase, _ type: ElementType) throws {
    let values = try Fixture.all("optimizers")
    let parameters = try start(values, type)
    let optimizer = sample.make(parameters)
    for step in 0..<5 {
      optimizer.step(try gradients(values, parameters, step, type))
      for (i, parameter) in parameters.enumerated() {
        expectClose(parameter.value, try #require(values["\(sample.name)/\(step).\(i)"]), type, "step \(step), parameter \(i)")
      }
    }
  }

  @Test(arguments: OptimizerCase.all)
  func halfPrecisionIsSinglePrecisionRounded(_ sample: OptimizerCase) throws {
    // Half precision is widened, with state in float32. Compared after each step from the same values, so only one
    // rounding to bfloat16 (2⁻⁹ relative) of values within ±4 separates the two.
    let values = try Fixture.all("optimizers")
    let half = try start(values, .bfloat16)
    let single = half.map { Parameter($0.value.converted(to: .float32)) }
    let (a, b) = (sample.make(half), sample.make(single))
    for step in 0..<5 {
      let g = try gradients(values, half, step, .bfloat16)
      a.step(g)
      b.step(Gradients(variables: single, values: g.values.map { $0?.converted(to: .float32) }))
      for (x, y) in zip(half, single) {
        for (p, q) in zip(x.value.floats, y.value.floats) { #expect(abs(p - q) <= 0.004 * max(abs(q), 1)) }
        // Go on from the rounded values, on both sides.
        y.value = x.value.detached().converted(to: .float32)
      }
    }
  }

  @Test(arguments: OptimizerCase.all)
  func stateGoesOnFromAFile(_ sample: OptimizerCase) throws {
    let values = try Fixture.all("optimizers")
    let parameters = try start(values, .float64)
    for (i, parameter) in parameters.enumerated() { parameter.name = ["conv.weight", "conv.bias"][i] }
    let first = sample.make(parameters)
    for step in 0..<3 { first.step(try gradients(values, parameters, step, .float64)) }
    try withTemporaryFolder { folder in
      try first.save(folder + "/state.safetensors")
      let copies = parameters.map { Parameter($0.value.detached(), name: $0.name) }
      let second = sample.make(copies)
      try second.load(folder + "/state.safetensors")
      for step in 3..<5 { second.step(try gradients(values, copies, step, .float64)) }
      for (i, parameter) in copies.enumerated() {
        expectClose(parameter.value, try #require(values["\(sample.name)/4.\(i)"]), .float64, "parameter \(i)")
      }
    }
  }

  @Test func stateHasPyTorchsNamesAndRefusesOthers() throws {
    let linear = Linear(3, 2)
    let optimizer = Adam(linear.parameters, amsgrad: true)
    #expect(optimizer.state.isEmpty)
    optimizer.step(minimizing: square(linear(Tensor.ones([4, 3]))).sum())
    #expect(
      Set(optimizer.state.keys) == [
        "weight.exp_avg", "weight.exp_avg_sq", "weight.max_exp_avg_sq", "weight.step", "bias.exp_avg", "bias.exp_avg_sq",
        "bias.max_exp_avg_sq", "bias.step",
      ])
    #expect(optimizer.state["bias.step"]?.value.item(as: Int.self) == 1)
    let error = #expect(throws: LoadError.self) {
      try optimizer.load(state: ["weight.exp_avg": Tensor.zeros([2, 2]), "weight.velocity": Tensor.zeros([2, 3])])
    }
    #expect(error?.report.unexpected == ["weight.velocity"])
    #expect(error?.report.mismatched.first?.expected == "float32[2, 3]")
  }

  @Test func stepsHappenInPlaceUnlessSomebodyHoldsTheValue() {
    let parameter = Parameter(Tensor.full([1000], 1.0) + 0)
    let optimizer = SGD([parameter], learningRate: 0.5)
    let ones = Gradients(variables: [parameter], values: [Tensor.ones([1000])])
    func address() -> UInt { parameter.value.withUnsafeBytes { UInt(bitPattern: $0.baseAddress!) } }
    let before = address()
    optimizer.step(ones)
    #expect(address() == before)
    let held = parameter.value
    optimizer.step(ones)
    #expect(held.floats.allSatisfy { $0 == 0.5 })
    #expect(parameter.value.floats.allSatisfy { $0 == 0 })
  }

  @Test func frozenAndUnusedParametersStay() {
    let (used, frozen, unused) = (Linear(3, 1), Linear(3, 3), Linear(2, 2))
    frozen.freeze()
    let all = used.parameters + frozen.parameters + unused.parameters
    let before = all.map { $0.value.floats }
    let optimizer = AdamW(all, learningRate: 0.1)
    optimizer.step(minimizing: used(frozen(Tensor.ones([2, 3]))).sum())
    for (i, parameter) in all.enumerated() { #expect((parameter.value.floats == before[i]) == (i >= 2), "parameter \(i)") }
  }

  @Test func learningRatesAreSetForAllGroupsOrEach() {
    let (a, b) = (Linear(1, 1), Linear(1, 1))
    let optimizer = SGD(
      [ParameterGroup(a.parameters) { $0.learningRate = 0.5 }, ParameterGroup(b.parameters)], learningRate: 0.1)
    #expect(optimizer.learningRates == [0.5, 0.1])
    optimizer.learningRate = 0.2
    #expect(optimizer.learningRates == [0.2, 0.2])
    optimizer.learningRates = [0, 0.3]
    #expect(optimizer.groups[1].options.learningRate == 0.3)
    #expect(optimizer.groups[0].parameters.count == 2)
  }

  @Test func learnsExclusiveOr() {
    let net = Sequential(Linear(2, 8, generator: Generator(seed: 4)), Tanh(), Linear(8, 1, generator: Generator(seed: 5)))
    let x = Tensor([0, 0, 0, 1, 1, 0, 1, 1] as [Float], shape: [4, 2])
    let t = Tensor([0, 1, 1, 0] as [Float], shape: [4, 1])
    let optimizer = Adam(net.parameters, learningRate: 0.05)
    for _ in 0..<300 { optimizer.step(minimizing: binaryCrossEntropyWithLogits(net(x), t)) }
    #expect(zip(net(x).floats, t.floats).allSatisfy { ($0 > 0) == ($1 == 1) })
  }
}
