import ApusFormats
import ApusNN
import ApusTensor
import Testing

/// The first 50 learning rates of each schedule, those of PyTorch and Keras (Fixtures/make_optimizers.py), base 0.4.
@Suite struct ScheduleTests {
  private static let fixture = (try? loadTensors(from: fixturePath("schedules.safetensors"))) ?? [:]

  private static let all: [(name: String, schedule: any LearningRateSchedule)] = [
    ("LambdaLR", LambdaLR { 1 / Double(1 + $0).squareRoot() }),
    ("MultiplicativeLR", MultiplicativeLR { 1 - 0.5 / Double($0 + 1) }),
    ("StepLR", StepLR(stepSize: 7, gamma: 0.3)),
    ("MultiStepLR", MultiStepLR(milestones: [3, 10, 10, 31], gamma: 0.5)),
    ("ConstantLR", ConstantLR(factor: 0.2, totalIterations: 6)),
    ("LinearLR", LinearLR(startFactor: 0.1, endFactor: 0.8, totalIterations: 20)),
    ("ExponentialLR", ExponentialLR(gamma: 0.93)),
    ("PolynomialLR", PolynomialLR(totalIterations: 30, power: 1.7)),
    ("CosineAnnealingLR", CosineAnnealingLR(tMax: 18, etaMin: 0.05)),
    ("CosineAnnealingWarmRestarts", CosineAnnealingWarmRestarts(t0: 6, tMultiplier: 2, etaMin: 0.05)),
    ("CosineAnnealingWarmRestarts1", CosineAnnealingWarmRestarts(t0: 7)),
    ("CyclicLR.triangular", CyclicLR(baseLearningRate: 0.1, maxLearningRate: 0.9, stepSizeUp: 6, stepSizeDown: 4)),
    (
      "CyclicLR.triangular2",
      CyclicLR(baseLearningRate: 0.1, maxLearningRate: 0.9, stepSizeUp: 6, stepSizeDown: 4, mode: .triangular2)
    ),
    (
      "CyclicLR.exp_range",
      CyclicLR(baseLearningRate: 0.1, maxLearningRate: 0.9, stepSizeUp: 6, stepSizeDown: 4, mode: .exponentialRange, gamma: 0.97)
    ),
    ("OneCycleLR", OneCycleLR(maxLearningRate: 0.9, totalSteps: 60)),
    (
      "OneCycleLR.linear",
      OneCycleLR(
        maxLearningRate: 0.9, epochs: 6, stepsPerEpoch: 10, percentStart: 0.2, annealStrategy: .linear, divFactor: 10,
        finalDivFactor: 50, threePhase: true)
    ),
    (
      "SequentialLR",
      SequentialLR(
        [LinearLR(startFactor: 0.1, totalIterations: 5), ExponentialLR(gamma: 0.9), CosineAnnealingLR(tMax: 10)],
        milestones: [5, 20])
    ),
    ("ChainedScheduler", ChainedScheduler([ConstantLR(factor: 0.1, totalIterations: 4), ExponentialLR(gamma: 0.9)])),
    ("SWALR", SWALR(swaLearningRate: 0.05, annealEpochs: 12)),
    ("ExponentialDecay", ExponentialDecay(initialLearningRate: 0.4, decaySteps: 7, decayRate: 0.8)),
    ("ExponentialDecay.staircase", ExponentialDecay(decaySteps: 7, decayRate: 0.8, staircase: true)),
    ("PiecewiseConstantDecay", PiecewiseConstantDecay(boundaries: [5, 20, 33], values: [0.4, 0.3, 0.1, 0.05])),
    ("PolynomialDecay", PolynomialDecay(decaySteps: 30, endLearningRate: 0.02, power: 1.5)),
    ("PolynomialDecay.cycle", PolynomialDecay(decaySteps: 12, endLearningRate: 0.02, cycle: true)),
    ("InverseTimeDecay", InverseTimeDecay(decaySteps: 7, decayRate: 0.8)),
    ("InverseTimeDecay.staircase", InverseTimeDecay(decaySteps: 7, decayRate: 0.8, staircase: true)),
    ("CosineDecay", CosineDecay(decaySteps: 35, alpha: 0.1)),
    ("CosineDecay.warmup", CosineDecay(initialLearningRate: 0.05, decaySteps: 30, alpha: 0.1, warmupTarget: 0.4, warmupSteps: 9)),
    ("CosineDecayRestarts", CosineDecayRestarts(firstDecaySteps: 6, tMultiplier: 1.5, mMultiplier: 0.8, alpha: 0.1)),
    ("CosineDecayRestarts.equal", CosineDecayRestarts(firstDecaySteps: 9, tMultiplier: 1)),
  ]

  private func values(_ name: String) throws -> [Double] {
    try #require(Self.fixture[name], "no values for \(name)").elements(as: Double.self)
  }

  /// PyTorch multiplies from step to step what is a power here: relative 1e-13, some hundred roundings.
  @Test(arguments: all.map(\.name)) func fiftyValues(_ name: String) throws {
    let schedule = try #require(Self.all.first { $0.name == name }).schedule
    for (step, expected) in try values(name).enumerated() {
      let rate = schedule.learningRate(at: step, base: 0.4)
      #expect(abs(rate - expected) <= 1e-13, "\(name), step \(step): \(rate), expected \(expected)")
    }
    guard Self.fixture[name + ".momentum"] != nil else { return }
    for (step, expected) in try values(name + ".momentum").enumerated() {
      let momentum = try #require(schedule.momentum(at: step))
      #expect(abs(momentum - expected) <= 1e-13, "\(name), step \(step): momentum \(momentum), expected \(expected)")
    }
  }

  /// PyTorch's SWALR without annealing takes one step more: it begins at the old learning rate there.
  @Test func withoutAnnealing() throws {
    let schedule = SWALR(swaLearningRate: 0.05, annealEpochs: 0, annealStrategy: .linear)
    let expected = try values("SWALR.linear")
    for step in 1..<50 { #expect(abs(schedule.learningRate(at: step, base: 0.4) - expected[step]) <= 1e-13) }
  }

  @Test func valuesDoNotDependOnTheOrderOfQuestions() throws {
    for (name, schedule) in Self.all {
      let forward = (0..<50).map { schedule.learningRate(at: $0, base: 0.4) }
      let backward = (0..<50).reversed().map { schedule.learningRate(at: $0, base: 0.4) }
      #expect(forward == backward.reversed(), "\(name)")
    }
  }

  private func optimizer(_ rates: [Double] = [0.4]) -> SGD {
    SGD(rates.map { rate in ParameterGroup([Parameter(Tensor.ones([2]) + 0)]) { $0.learningRate = rate } })
  }

  @Test func reduceLROnPlateau() throws {
    let metrics = try values("metrics")
    for name in ["min", "max"] {
      func make(_ optimizer: Optimizer) -> PlateauScheduler {
        name == "min"
          ? PlateauScheduler(optimizer, factor: 0.5, patience: 2, cooldown: 1, minLearningRate: 0.01)
          : PlateauScheduler(
            optimizer, mode: .max, factor: 0.3, patience: 1, threshold: 0.05, thresholdMode: .absolute, epsilon: 1e-4)
      }
      var optimizer = optimizer()
      var schedule = make(optimizer)
      for (step, expected) in try values("ReduceLROnPlateau.\(name)").enumerated() {
        if step % 7 == 3 {
          // Another one goes on from its state.
          let state = schedule.state
          optimizer = self.optimizer()
          schedule = make(optimizer)
          try schedule.load(state: state)
        }
        schedule.step(metrics[step])
        #expect(abs(optimizer.learningRate - expected) <= 1e-15, "\(name), step \(step)")
      }
      #expect(throws: LoadError.self) { try schedule.load(state: ["best": Tensor(1)]) }
    }
  }

  @Test func schedulerMovesGroupsFromTheirOwnRates() throws {
    let optimizer = optimizer([0.4, 0.1])
    let scheduler = Scheduler(optimizer, LinearLR(startFactor: 0.5, totalIterations: 2))
    #expect(optimizer.learningRates == [0.2, 0.05])
    scheduler.step()
    #expect(optimizer.learningRates == [0.4 * 0.75, 0.1 * 0.75])
    let other = self.optimizer([1, 1])
    let second = Scheduler(other, LinearLR(startFactor: 0.5, totalIterations: 2))
    try second.load(state: scheduler.state)
    #expect(other.learningRates == optimizer.learningRates)
    scheduler.step()
    second.step()
    #expect(other.learningRates == [0.4, 0.1] && optimizer.learningRates == [0.4, 0.1])
    let each = Scheduler(optimizer, [StepLR(stepSize: 1), ConstantLR(factor: 0.5)])
    each.step()
    #expect(abs(optimizer.learningRates[0] - 0.04) < 1e-15 && optimizer.learningRates[1] == 0.05)
    #expect(throws: LoadError.self) { try each.load(state: ["last_epoch": Tensor(1)]) }
  }

  /// Attached to an optimizer, eagerly and compiled, one step or two to a program; and saved in between.
  @Test func attachedSchedule() throws {
    let schedule = ExponentialLR(gamma: 0.5).warmedUp(steps: 2, startFactor: 0.25)
    let rates = (0..<6).map { schedule.learningRate(at: $0, base: 0.4) }
    #expect(rates.map { ($0 * 1e9).rounded() / 1e9 } == [0.1, 0.25, 0.4, 0.2, 0.1, 0.05])
    for perProgram in [0, 1, 2] {
      let parameter = Parameter(Tensor.zeros([2], .float64) + 0, name: "w")
      var optimizer = SGD([parameter], learningRate: 0.4)
      optimizer.schedule = schedule
      let ones = Gradients(variables: [parameter], values: [Tensor.ones([2], .float64)])
      func make(_ optimizer: SGD) -> (Tensor) -> Tensor {
        let program = compile { (x: Tensor) -> Tensor in
          for _ in 0..<perProgram { optimizer.step(ones) }
          return x
        }
        return { program($0) }
      }
      var program = make(optimizer)
      var expected = 0.0
      var step = 0
      while step < 6 {
        if perProgram == 0 { optimizer.step(ones) } else { _ = program(Tensor(0)) }
        for _ in 0..<max(perProgram, 1) {
          expected -= rates[step]
          step += 1
        }
        #expect(abs(parameter.value[0].item(as: Double.self) - expected) < 1e-15, "\(perProgram) to a program, step \(step)")
        if step == 2 {
          let state = optimizer.state.mapValues(\.value)
          #expect(state.keys.sorted() == ["iterations"])
          optimizer = SGD([parameter], learningRate: 0.4)
          optimizer.schedule = schedule
          try optimizer.load(state: state)
          program = make(optimizer)
        }
      }
      #expect(optimizer.learningRate == schedule.learningRate(at: 6, base: 0.4))
      optimizer.schedule = nil
      #expect(optimizer.learningRate == 0.4)
    }
  }
}
