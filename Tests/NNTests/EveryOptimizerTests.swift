import ApusNN
import ApusTensor
import Testing

/// All optimizers against PyTorch's, Keras's and schedulefree's (Fixtures/make_optimizers.py), ten steps each.
@Suite struct EveryOptimizerTests {
  @Test(arguments: EveryOptimizerCase.all, [ElementType.float64, .float32])
  func tenStepsAreThoseOfTheOriginal(_ sample: EveryOptimizerCase, _ type: ElementType) throws {
    let parameters = try OptimizerFixture.parameters(sample.which, type)
    let optimizer = sample.make(parameters)
    for step in 0..<10 {
      optimizer.step(try OptimizerFixture.gradients(sample.which, parameters, step, type, all: sample.isKeras))
      guard OptimizerFixture.kept.contains(step) else { continue }
      for (i, parameter) in zip(sample.which, parameters) {
        expectClose(
          parameter.value, try OptimizerFixture.value("\(sample.name)/\(step).\(i)"), type, "step \(step), parameter \(i)",
          tolerance64: sample.tolerance64)
      }
    }
  }

  /// PyTorch's Newton–Schulz iteration in bfloat16, as it is by default: its order of sums differs, and each rounding of 2⁻⁸ is
  /// amplified by the iteration (slopes of up to 3.4 a round).
  @Test func muonInBfloat16() throws {
    let parameters = try OptimizerFixture.parameters([0, 3], .float64)
    let optimizer = Muon(parameters, learningRate: 0.1)
    for step in 0..<10 { optimizer.step(try OptimizerFixture.gradients([0, 3], parameters, step, .float64)) }
    for (i, parameter) in zip([0, 3], parameters) {
      let expected = try OptimizerFixture.value("muonHalf/9.\(i)").elements(as: Double.self)
      for (a, b) in zip(parameter.value.elements(as: Double.self), expected) { #expect(abs(a - b) < 0.05, "\(a), expected \(b)") }
    }
  }

  /// Runs steps `range`, each compiled or not.
  private func run(
    _ optimizer: Optimizer, _ sample: EveryOptimizerCase, _ parameters: [Parameter], _ range: Range<Int>, compiled: Bool,
    _ type: ElementType
  ) throws {
    let program = compile { (gradients: [Tensor?]) -> Tensor in
      optimizer.step(Gradients(variables: parameters, values: gradients))
      return Tensor(0)
    }
    for step in range {
      let gradients = try OptimizerFixture.gradients(sample.which, parameters, step, type, all: sample.isKeras)
      if compiled { _ = program(gradients.values) } else { optimizer.step(gradients) }
    }
    // One program with all gradients, one with one less.
    if compiled { #expect(program.report.traces.count <= 2, "\(program.report)") }
  }

  private func expectSame(_ a: Tensor, _ b: Tensor, _ what: String) {
    let same = a.type == b.type && zip(a.elements(as: Double.self), b.elements(as: Double.self)).allSatisfy { $0 == $1 }
    #expect(same, "\(what)")
  }

  /// A compiled step gives the bits of an eager one, parameters and state. (Sums in Adafactor's, Lamb's and Muon's steps may be fused:
  /// see what docs/architecture.md says about bits; these are whole reductions, which are not.)
  @Test(arguments: EveryOptimizerCase.all, [ElementType.float64, .float32])
  func compiledIsEager(_ sample: EveryOptimizerCase, _ type: ElementType) throws {
    let (a, b) = (try OptimizerFixture.parameters(sample.which, type), try OptimizerFixture.parameters(sample.which, type))
    let (eager, compiled) = (sample.make(a), sample.make(b))
    try run(eager, sample, a, 0..<6, compiled: false, type)
    try run(compiled, sample, b, 0..<6, compiled: true, type)
    for (x, y) in zip(a, b) { expectSame(x.value, y.value, "\(x.name)") }
    let (s, t) = (eager.state, compiled.state)
    #expect(s.keys.sorted() == t.keys.sorted())
    for (name, value) in s { if let other = t[name] { expectSame(value.value, other.value, name) } }
  }

  /// Saved after five steps and loaded into a new optimizer, the rest is the same to the bit.
  @Test(arguments: EveryOptimizerCase.all)
  func goesOnFromAFile(_ sample: EveryOptimizerCase) throws {
    for type in [ElementType.float64, .float32] {
      let parameters = try OptimizerFixture.parameters(sample.which, type)
      let first = sample.make(parameters)
      try run(first, sample, parameters, 0..<5, compiled: false, type)
      let copies = parameters.map { Parameter($0.value.detached() + 0, name: $0.name) }
      let second = sample.make(copies)
      try withTemporaryFolder { folder in
        try first.save(folder + "/state.safetensors")
        try second.load(folder + "/state.safetensors")
      }
      try run(first, sample, parameters, 5..<8, compiled: false, type)
      try run(second, sample, copies, 5..<8, compiled: false, type)
      for (x, y) in zip(parameters, copies) { expectSame(x.value, y.value, "\(x.name), \(type)") }
    }
  }

  /// Half precision is widened: after a step from the same values only the rounding to bfloat16 (2⁻⁹) separates the two.
  @Test(arguments: EveryOptimizerCase.all)
  func halfPrecisionIsSinglePrecisionRounded(_ sample: EveryOptimizerCase) throws {
    let half = try OptimizerFixture.parameters(sample.which, .bfloat16)
    let single = half.map { Parameter($0.value.detached().converted(to: .float32), name: $0.name) }
    let (a, b) = (sample.make(half), sample.make(single))
    for step in 0..<3 {
      let g = try OptimizerFixture.gradients(sample.which, half, step, .bfloat16, all: sample.isKeras)
      a.step(g)
      b.step(Gradients(variables: single, values: g.values.map { $0?.converted(to: .float32) }))
      for (x, y) in zip(half, single) {
        for (p, q) in zip(x.value.floats, y.value.floats) { #expect(abs(p - q) <= 0.004 * max(abs(q), 1), "\(sample.name)") }
        y.value = x.value.detached().converted(to: .float32)
      }
    }
  }

  @Test func statesHaveTheirNames() throws {
    let expected: [(String, [String])] = [
      ("adamax", ["exp_avg", "exp_inf", "step"]), ("nadam", ["exp_avg", "exp_avg_sq", "mu_product", "step"]),
      ("radam", ["exp_avg", "exp_avg_sq", "step"]), ("adagrad", ["step", "sum"]), ("adadelta", ["acc_delta", "square_avg"]),
      ("adafactor", ["col_var", "row_var", "step"]), ("asgd", ["ax", "eta", "mu", "step"]),
      ("rprop", ["prev", "step", "step_size"]),
      ("sparseAdam", ["exp_avg", "exp_avg_sq", "step"]), ("muon", ["momentum_buffer"]), ("lion", ["exp_avg"]),
      ("ftrl", ["accumulator", "linear"]), ("lamb", ["exp_avg", "exp_avg_sq", "step"]),
      ("scheduleFreeAdamW", ["exp_avg_sq", "lr_max", "step", "weight_sum", "z"]),
    ]
    for (name, states) in expected {
      let sample = try #require(EveryOptimizerCase.all.first { $0.name == name })
      let parameters = try OptimizerFixture.parameters([0], .float32)
      let optimizer = sample.make(parameters)
      optimizer.prepareState()
      let prepared = optimizer.state.mapValues(\.type)
      optimizer.step(try OptimizerFixture.gradients([0], parameters, 0, .float32))
      #expect(optimizer.state.keys.sorted() == states.map { "p0." + $0 }, "\(name)")
      #expect(prepared == optimizer.state.mapValues(\.type), "\(name)")
    }
  }

  /// What models are evaluated with, and back.
  @Test(arguments: ["scheduleFreeAdamW", "scheduleFreeAdamWAll", "scheduleFreeSGD"])
  func scheduleFreeAverages(_ name: String) throws {
    let sample = try #require(EveryOptimizerCase.all.first { $0.name == name })
    let parameters = try OptimizerFixture.parameters(sample.which, .float64)
    let optimizer = try #require(sample.make(parameters) as? ScheduleFreeOptimizer)
    try run(optimizer, sample, parameters, 0..<10, compiled: false, .float64)
    optimizer.eval()
    for (i, parameter) in zip(sample.which, parameters) {
      expectClose(parameter.value, try OptimizerFixture.value("\(name)/after.\(i)"), .float64, "averaged parameter \(i)")
    }
    optimizer.train()
    for (i, parameter) in zip(sample.which, parameters) {
      expectClose(parameter.value, try OptimizerFixture.value("\(name)/9.\(i)"), .float64, "parameter \(i)")
    }
  }
}

/// LBFGS against PyTorch's.
@Suite struct LBFGSTests {
  private static let makes: [String: @Sendable ([Parameter]) -> LBFGS] = [
    "lbfgs": { LBFGS($0, learningRate: 0.003, maxIterations: 4) },
    "lbfgsWolfe": { LBFGS($0, maxIterations: 5, lineSearch: .strongWolfe) },
    "lbfgsShort": { LBFGS($0, historySize: 2, lineSearch: .strongWolfe) },
  ]

  private func valley(_ parameters: [Parameter]) -> Tensor {
    let x = concatenate(parameters.map { $0.value.flattened() })
    let (head, tail) = (x[..<(x.count - 1)], x[1...])
    return square(tail - square(head)).sum() * 10 + square(1 - head).sum()
  }

  @Test(arguments: ["lbfgs", "lbfgsWolfe", "lbfgsShort"], [ElementType.float64, .float32])
  func fiveStepsAreThoseOfPyTorch(_ name: String, _ type: ElementType) throws {
    let parameters = try OptimizerFixture.parameters([0, 1], type)
    let make = try #require(Self.makes[name])
    let optimizer = make(parameters)
    let losses = try OptimizerFixture.value("\(name)/losses").elements(as: Double.self)
    // A search amplifies roundings from direction to direction: float32 is compared for its first step only.
    for step in 0..<(type == .float64 ? 5 : 1) {
      let loss = optimizer.step { valley(parameters) }
      // At the bottom of the valley the loss is nothing but roundings.
      #expect(abs(loss.item(as: Double.self) - losses[step]) <= (type == .float64 ? 1e-8 : 1e-5) * max(abs(losses[step]), 1e-2))
      for (i, parameter) in parameters.enumerated() {
        let expected = try OptimizerFixture.value("\(name)/\(step).\(i)")
        let scale = expected.elements(as: Double.self).map(abs).max() ?? 1
        let worst =
          zip(parameter.value.elements(as: Double.self), expected.elements(as: Double.self)).map { abs($0 - $1) }.max() ?? 0
        #expect(worst <= (type == .float64 ? 1e-7 : 2e-2) * scale, "step \(step), parameter \(i): \(worst)")
      }
    }
    if type == .float64 {
      let evaluations = try OptimizerFixture.value("\(name)/evaluations").item(as: Int.self)
      #expect(optimizer.state["func_evals"]?.value.item(as: Int.self) == evaluations)
    }
  }

  @Test func goesOnFromAFile() throws {
    let parameters = try OptimizerFixture.parameters([0, 1], .float64)
    let first = LBFGS(parameters, maxIterations: 3, lineSearch: .strongWolfe)
    for _ in 0..<2 { first.step { valley(parameters) } }
    let copies = parameters.map { Parameter($0.value.detached() + 0) }
    let second = LBFGS(copies, maxIterations: 3, lineSearch: .strongWolfe)
    try withTemporaryFolder { folder in
      try first.save(folder + "/state.safetensors")
      try second.load(folder + "/state.safetensors")
    }
    first.step { valley(parameters) }
    second.step { valley(copies) }
    for (a, b) in zip(parameters, copies) { #expect(a.value.elements(as: Double.self) == b.value.elements(as: Double.self)) }
    #expect(throws: LoadError.self) { try second.load(state: ["d": Tensor.zeros([3], .float64)]) }
  }

  /// The function may be a compiled one.
  @Test func compiledLoss() throws {
    let (a, b) = (try OptimizerFixture.parameters([0, 1], .float64), try OptimizerFixture.parameters([0, 1], .float64))
    let loss = compile { (_: Tensor) -> Tensor in valley(b) }
    let (first, second) = (LBFGS(a, maxIterations: 5), LBFGS(b, maxIterations: 5))
    for _ in 0..<2 {
      first.step { valley(a) }
      second.step { loss(Tensor(0)) }
    }
    for (x, y) in zip(a, b) { expectClose(y.value, x.value, .float64, "parameter") }
  }
}
