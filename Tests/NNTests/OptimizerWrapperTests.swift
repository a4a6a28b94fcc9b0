import ApusFormats
import ApusNN
import ApusTensor
import Testing

/// Optimizers around others, averages of weights, and what limits gradients.
@Suite struct OptimizerWrapperTests {
  private let which = [0, 1, 2, 3]

  private func same(_ a: [String: Variable], _ b: [String: Variable]) -> Bool {
    a.keys.sorted() == b.keys.sorted()
      && a.allSatisfy { name, value in
        value.value.elements(as: Double.self) == b[name]?.value.elements(as: Double.self)
      }
  }
  private func same(_ a: [Parameter], _ b: [Parameter]) -> Bool {
    zip(a, b).allSatisfy { $0.value.elements(as: Double.self) == $1.value.elements(as: Double.self) }
  }

  /// Keras's LossScaleOptimizer around its Adam, with an infinite gradient in the second step: that is left out.
  @Test(arguments: [false, true]) func lossScale(_ compiled: Bool) throws {
    let parameters = try OptimizerFixture.parameters(which, .float64)
    let optimizer = LossScaleOptimizer(
      Adam(parameters, learningRate: 0.1, epsilon: 1e-7), initialScale: 8, dynamicGrowthSteps: 2)
    let program = compile { (gradients: [Tensor]) -> Tensor in
      optimizer.step(Gradients(variables: parameters, values: gradients))
      return Tensor(0)
    }
    let scales = try OptimizerFixture.value("lossScale/scales").elements(as: Double.self)
    for step in 0..<10 {
      #expect(optimizer.dynamicScale.item(as: Double.self) == scales[step], "step \(step)")
      var values = try OptimizerFixture.gradients(which, parameters, step, .float64, all: true).values.compactMap {
        $0.map { $0 * scales[step] }
      }
      if step == 1 { values[1] = `where`(Tensor.arange(5) .== 2, Double.infinity, values[1]) }
      if compiled { _ = program(values) } else { optimizer.step(Gradients(variables: parameters, values: values)) }
      guard OptimizerFixture.kept.contains(step) else { continue }
      for (i, parameter) in zip(which, parameters) {
        // Keras puts ε beside √v without the correction of v: 1e-7 · (1 − √(1 − 0.999ᵗ)) apart, relative to √v.
        expectClose(
          parameter.value, try OptimizerFixture.value("lossScale/\(step).\(i)"), .float64, "step \(step), parameter \(i)",
          tolerance64: 1e-4)
      }
    }
    #expect(optimizer.dynamicScale.item(as: Double.self) == scales[10])
    if compiled { #expect(program.report.traces.count == 1, "\(program.report)") }
  }

  /// Eager steps branch, compiled ones select: the same bits, also where the first step is left out, and whole losses.
  @Test func lossScaleCompiledIsEager() throws {
    for make in [
      { Adam($0, learningRate: 0.1) }, { SGD($0, learningRate: 0.1, momentum: 0.9) }, { NAdam($0) }, { Adafactor($0) },
    ] as [([Parameter]) -> Optimizer] {
      let w = Parameter(Tensor([0.5, -1, 2], shape: [3]).converted(to: .float16) + 0, name: "w")
      let v = Parameter(w.value.detached() + 0, name: "w")
      let (a, b) = (
        LossScaleOptimizer(make([w]), initialScale: 65_536 * 4, dynamicGrowthSteps: 3),
        LossScaleOptimizer(make([v]), initialScale: 65_536 * 4, dynamicGrowthSteps: 3)
      )
      func step(_ optimizer: LossScaleOptimizer, _ w: Parameter, _ x: Tensor) -> Tensor {
        let loss = square(w.value * x).sum().converted(to: .float32)
        optimizer.step(minimizing: loss)
        return loss
      }
      let program = compile { (x: Tensor) -> Tensor in step(b, v, x) }
      var skipped = 0
      for i in 0..<12 {
        let x = Tensor([1, Float(i % 3), 0.001], shape: [3]).converted(to: .float16)
        let before = w.value.floats
        _ = step(a, w, x)
        _ = program(x)
        if before == w.value.floats { skipped += 1 }
        #expect(w.value.floats == v.value.floats, "step \(i)")
        #expect(a.dynamicScale.floats == b.dynamicScale.floats)
      }
      #expect(skipped > 0 && skipped < 12)
      // Where the first step is left out, the compiled one has made its state already.
      #expect(same(a.state, b.state))
      let c = LossScaleOptimizer(make([Parameter(w.value.detached() + 0, name: "w")]))
      try c.load(state: a.state.mapValues(\.value))
      #expect(same(a.state, c.state))
      #expect(throws: LoadError.self) { try c.load(state: ["step_counter": Tensor(1)]) }
    }
  }

  /// Four batches accumulated are one step by their mean, or sum; compiled too, with a state that can be saved in between.
  @Test(arguments: [false, true], [true, false]) func accumulation(_ compiled: Bool, _ averages: Bool) throws {
    let (a, b) = (try OptimizerFixture.parameters(which, .float32), try OptimizerFixture.parameters(which, .float32))
    let plain = AdamW(a, learningRate: 0.1)
    var optimizer = GradientAccumulation(AdamW(b, learningRate: 0.1), steps: 4, averages: averages)
    func make(_ optimizer: GradientAccumulation) -> ([Tensor]) -> Void {
      let program = compile { (gradients: [Tensor]) -> Tensor in
        optimizer.step(Gradients(variables: b, values: gradients))
        return Tensor(0)
      }
      return {
        _ = program($0)
        #expect(program.report.traces.count <= 3)
      }
    }
    var program = make(optimizer)
    for round in 0..<2 {
      var sum: Gradients?
      for batch in 0..<4 {
        let g = try OptimizerFixture.gradients(which, b, round * 4 + batch, .float32, all: true)
        let forPlain = Gradients(variables: a, values: g.values)
        sum = sum.map { $0 + forPlain } ?? forPlain
        let before = b[0].value.floats
        if compiled { program(g.values.compactMap { $0 }) } else { optimizer.step(g) }
        #expect((b[0].value.floats == before) == (batch < 3))
        if batch == 1 {
          let other = GradientAccumulation(AdamW(b, learningRate: 0.1), steps: 4, averages: averages)
          try other.load(state: optimizer.state.mapValues(\.value))
          #expect(same(other.state, optimizer.state))
          optimizer = other
          program = make(optimizer)
        }
      }
      if let sum { plain.step(averages ? sum / 4 : sum) }
      #expect(same(a, b), "round \(round)")
    }
  }

  /// Three steps to a program with accumulation over two: first and last alternate within it.
  @Test func severalBatchesToAProgram() throws {
    let (a, b) = (try OptimizerFixture.parameters(which, .float64), try OptimizerFixture.parameters(which, .float64))
    let (eager, compiled) = (GradientAccumulation(SGD(a), steps: 2), GradientAccumulation(SGD(b), steps: 2))
    let g = try OptimizerFixture.gradients(which, b, 0, .float64).values
    let program = compile { (x: Tensor) -> Tensor in
      for _ in 0..<3 { compiled.step(Gradients(variables: b, values: g)) }
      return x
    }
    for _ in 0..<4 {
      for _ in 0..<3 { eager.step(Gradients(variables: a, values: g)) }
      _ = program(Tensor(0))
      #expect(same(a, b))
    }
    #expect(program.report.traces.count == 2, "\(program.report)")
  }

  @Test func multiOptimizer() throws {
    let (a, b) = (try OptimizerFixture.parameters(which, .float64), try OptimizerFixture.parameters(which, .float64))
    func make(_ p: [Parameter]) -> [Optimizer] {
      [Muon([p[0], p[3]], learningRate: 0.1), AdamW([p[1], p[2]], learningRate: 0.05)]
    }
    let single = make(a)
    let optimizer = MultiOptimizer(make(b))
    #expect(optimizer.learningRates == [0.1, 0.05])
    #expect(optimizer.parameters.count == 4)
    for step in 0..<3 {
      let g = try OptimizerFixture.gradients(which, b, step, .float64)
      for one in single { one.step(Gradients(variables: a, values: g.values)) }
      optimizer.step(g)
    }
    #expect(same(a, b))
    let copies = MultiOptimizer(make(b))
    try copies.load(state: optimizer.state.mapValues(\.value))
    #expect(same(copies.state, optimizer.state))
    #expect(copies.state["0.p0.momentum_buffer"] != nil && copies.state["1.p1.exp_avg"] != nil)
    var wrong = optimizer.state.mapValues(\.value)
    wrong["1.p1.exp_avg"] = Tensor.zeros([2])
    #expect(throws: LoadError.self) { try copies.load(state: wrong) }
    #expect(same(copies.state, optimizer.state))
    optimizer.learningRates = [0.2, 0.3]
    #expect(optimizer.optimizers[1].learningRate == 0.3)
  }

  // MARK: Averages

  @Test(arguments: ["averageMean", "averageExponential"], [false, true])
  func averagedModel(_ name: String, _ compiled: Bool) throws {
    let model = Linear(4, 3, elementType: .float64)
    try model.load(state: [
      "weight": OptimizerFixture.value("start.0"), "bias": OptimizerFixture.value("start.1")[..<3].contiguous(),
    ])
    let averaged = AveragedModel(model, averaging: name == "averageMean" ? .mean : .exponential(decay: 0.8))
    let optimizer = SGD(model.parameters, learningRate: 0.1)
    func step(_ g: [Tensor]) {
      optimizer.step(Gradients(variables: model.parameters, values: g))
      averaged.update()
    }
    let program = compile { (g: [Tensor]) -> Tensor in
      step(g)
      return Tensor(0)
    }
    for s in 0..<5 {
      let g = [try OptimizerFixture.value("gradient.\(s).0"), try OptimizerFixture.value("gradient.\(s).1")[..<3]]
      if compiled { _ = program(g) } else { step(g) }
    }
    let own = model.state
    #expect(averaged.updates == 5)
    try averaged.applied {
      #expect(averaged.isSwapped)
      for part in ["weight", "bias"] {
        expectClose(try #require(model.state[part]), try OptimizerFixture.value("\(name)/\(part)"), .float64, part)
      }
    }
    for (part, value) in model.state { #expect(value.elements(as: Double.self) == own[part]?.elements(as: Double.self)) }
    let other = AveragedModel(model, averaging: averaged.averaging)
    try other.load(state: averaged.state.mapValues(\.value))
    #expect(same(other.state, averaged.state) && other.updates == 5)
    #expect(throws: LoadError.self) { try other.load(state: ["weight": Tensor(1)]) }
  }

  /// Keras's `use_ema`.
  @Test func exponentialMovingAverage() throws {
    let parameters = try OptimizerFixture.parameters(which, .float64)
    let optimizer = SGD(parameters, learningRate: 0.1)
    let average = ExponentialMovingAverage(parameters, decay: 0.7)
    for step in 0..<10 {
      optimizer.step(try OptimizerFixture.gradients(which, parameters, step, .float64, all: true))
      average.update()
    }
    average.swap()
    for (i, parameter) in zip(which, parameters) {
      expectClose(parameter.value, try OptimizerFixture.value("ema/after.\(i)"), .float64, "parameter \(i)")
    }
    average.swap()
    for (i, parameter) in zip(which, parameters) {
      expectClose(parameter.value, try OptimizerFixture.value("ema/9.\(i)"), .float64, "parameter \(i)")
    }
    #expect(average.state.keys.sorted() == ["n_averaged", "p0", "p1", "p2", "p3"])
  }

  @Test func batchNormStatisticsAreComputedAnew() throws {
    let layer = BatchNorm1d(4, elementType: .float64)
    let model = Sequential(layer)
    _ = model(Tensor.randn([6, 4], .float64, generator: Generator(seed: 1)))
    model.eval()
    layer.train()
    let batches = try (0..<3).map { try OptimizerFixture.value("updateBatchNorm/batch.\($0)") }
    updateBatchNorm(batches, model)
    #expect(!model.isTraining && layer.isTraining && layer.momentum == 0.1)
    expectClose(try #require(layer.runningMean?.value), try OptimizerFixture.value("updateBatchNorm/mean"), .float64, "mean")
    expectClose(try #require(layer.runningVar?.value), try OptimizerFixture.value("updateBatchNorm/var"), .float64, "variance")
    #expect(layer.numBatchesTracked?.value.item(as: Int.self) == 3)
  }

  // MARK: Gradients

  @Test func allFinite() {
    let parameters = [Parameter(Tensor.ones([2])), Parameter(Tensor.ones([2]))]
    func gradients(_ x: Float) -> Gradients {
      Gradients(variables: parameters, values: [Tensor.ones([2]), Tensor([1, x], shape: [2])])
    }
    #expect(gradients(3).allFinite.item(as: Bool.self))
    for x in [Float.infinity, -.infinity, .nan] { #expect(!gradients(x).allFinite.item(as: Bool.self)) }
    #expect(Gradients(variables: parameters, values: [nil, nil]).allFinite.item(as: Bool.self))
  }

  /// A compiled step notices clipping that is set later.
  @Test func clippingIsPartOfTheProgram() throws {
    let (a, b) = (try OptimizerFixture.parameters(which, .float32), try OptimizerFixture.parameters(which, .float32))
    let (eager, compiled) = (Adam(a, learningRate: 0.1), Adam(b, learningRate: 0.1))
    let program = compile { (g: [Tensor]) -> Tensor in
      compiled.step(Gradients(variables: b, values: g))
      return Tensor(0)
    }
    for (step, clipping) in [nil, .value(0.1), .norm(0.3), .globalNorm(0.2), nil].enumerated()
      as EnumeratedSequence<[GradientClipping?]>
    {
      (eager.clipping, compiled.clipping) = (clipping, clipping)
      let g = try OptimizerFixture.gradients(which, a, step, .float32, all: true)
      eager.step(g)
      _ = program(g.values.compactMap { $0 })
      #expect(same(a, b), "step \(step)")
    }
    #expect(program.report.traces.count == 4, "\(program.report)")
  }
}
