import ApusData
import ApusNN
import ApusTensor
import Testing

@testable import ApusTraining

@Suite struct PrecisionTests {
  private func model() -> Sequential {
    let generator = Generator(seed: 2)
    return Sequential(
      Linear(3, 16, generator: generator), BatchNorm1d(16), ReLU(), Linear(16, 16, generator: generator), LayerNorm([16]), GELU(),
      Linear(16, 1, generator: generator))
  }

  private func fit(_ precision: TrainerOptions.Precision, _ change: (inout TrainerOptions) -> Void = { _ in }) async throws
    -> (trainer: Trainer, losses: [Double])
  {
    let model = model()
    let trainer = Trainer(
      model, optimizer: AdamW(model.parameters, learningRate: 0.01), loss: mseLoss,
      options: .init {
        $0.precision = precision
        change(&$0)
      })
    // The usual beginning, 32,768, is halved twice here, and the two steps that are left out while it falls are the first and largest.
    trainer.lossScale.scale.value = Tensor(4_096.0)
    let history = try await trainer.fit(
      DataLoader(line(128), batchSize: 16, shuffle: true), epochs: 12, validation: line(32, seed: 3), verbose: .silent)
    return (trainer, history["val_loss"])
  }

  @Test func halfPrecisionLearnsAndKeepsFloat32Parameters() async throws {
    let full = try await fit(.float32)
    for precision in [TrainerOptions.Precision.bfloat16, .float16] {
      let half = try await fit(precision)
      #expect(half.trainer.model.parameters.allSatisfy { $0.elementType == .float32 })
      #expect(bits(half.trainer.model) != bits(full.trainer.model), "it computes in another type")
      // bfloat16 keeps 8 bits: predictions of size 3 are rounded by 0.01.
      let last = try #require(half.losses.last)
      #expect(last < 0.2 * half.losses[0] && abs(last - full.losses[11]) < 0.05, "\(precision) \(half.losses) \(full.losses)")
      #expect(half.trainer.position.optimizerStep == 96)
      let predictions = try await half.trainer.predict(line(4))
      #expect(predictions.elementType == .float32)
    }
  }

  /// The scale is halved and the step left out where a gradient is not finite, and doubled after many finite ones.
  @Test func lossScalingLeavesStepsOut() async throws {
    let model = smallModel()
    let trainer = Trainer(
      model, optimizer: SGD(model.parameters, learningRate: 0.01, momentum: 0.9), loss: mseLoss,
      options: .init { $0.precision = .float16 })
    let before = bits(model)
    let big = Tensor([[300, 300, 300]])
    // A loss of 10⁵ has gradients that times 32,768 are beyond float16's 65,504.
    try trainer.trainStep(big, Tensor([[5_000]]))
    #expect(bits(model) == before)
    #expect(trainer.lossScale.scale.value.item() == 16_384 && trainer.position.optimizerStep == 0)
    let (x, y) = line(8).batch(Array(0..<8))
    for _ in 0..<3 { try trainer.trainStep(x, y) }
    #expect(bits(model) != before && trainer.lossScale.steps.value.item() == 3 && trainer.position.optimizerStep == 3)
    trainer.lossScale.steps.value = Tensor(LossScale.growthSteps - 1)
    try trainer.trainStep(x, y)
    #expect(trainer.lossScale.scale.value.item() == 32_768 && trainer.lossScale.steps.value.item() == 0)
  }

  /// Float16's gradients, unscaled, are float32's within rounding.
  @Test func scaledGradientsAreTheGradients() async throws {
    func step(_ precision: TrainerOptions.Precision) throws -> [Float] {
      let model = smallModel()
      let before = model.parameters.flatMap(\.value.floats)
      let trainer = Trainer(
        model, optimizer: SGD(model.parameters, learningRate: 1), loss: mseLoss, options: .init { $0.precision = precision })
      let (x, y) = line(32).batch(Array(0..<32))
      try trainer.trainStep(x, y)
      return zip(before, model.parameters.flatMap(\.value.floats)).map { $0 - $1 }
    }
    let full = try step(.float32)
    let scale = full.map(abs).max() ?? 0
    for (precision, tolerance) in [(TrainerOptions.Precision.float16, Float(4e-3)), (.bfloat16, 6e-2)] {
      for (a, b) in zip(full, try step(precision)) { #expect(abs(a - b) < tolerance * scale) }
    }
  }

  @Test func accumulationAndEagerAgree() async throws {
    let compiled = try await fit(.float16) { $0.gradientAccumulation = 2 }
    let eager = try await fit(.float16) {
      $0.gradientAccumulation = 2
      $0.runEagerly = true
    }
    #expect(compiled.trainer.position == eager.trainer.position)
    let (a, b) = (try #require(compiled.losses.last), try #require(eager.losses.last))
    #expect(abs(a - b) < 1e-2)
  }
}

@Suite struct OptimizerTests {
  /// An optimizer that scales the loss itself gets the gradients of the scaled loss, in any precision.
  @Test(arguments: [TrainerOptions.Precision.float32, .float16])
  func lossScaleOptimizerScalesByItself(precision: TrainerOptions.Precision) throws {
    func step(_ wrapped: Bool) throws -> [Float] {
      let model = smallModel()
      let inner = SGD(model.parameters, learningRate: 0.5)
      let trainer = Trainer(
        model, optimizer: wrapped ? LossScaleOptimizer(inner) : inner, loss: mseLoss, options: .init { $0.precision = precision })
      let (x, y) = line(32).batch(Array(0..<32))
      try trainer.trainStep(x, y)
      return model.parameters.flatMap(\.value.floats)
    }
    for (a, b) in zip(try step(true), try step(false)) { #expect(abs(a - b) < 1e-5) }
  }

  /// The schedule's steps are in the optimizer's state: a run goes on with them.
  @Test func schedulesGoOn() async throws {
    struct Failure: Error {}
    func run(_ folder: String?, failsAt step: Int? = nil) async throws -> (bits: [String: [UInt32]], rate: Double) {
      let model = smallModel()
      let optimizer = Adam(model.parameters, learningRate: 0.05)
      optimizer.schedule = ExponentialLR(gamma: 0.9)
      let trainer = Trainer(model, optimizer: optimizer, loss: mseLoss)
      var callbacks: [Callback] = []
      if let folder { callbacks.append(.backupAndRestore(folder, saveFrequency: .steps(3), deleteCheckpoint: false)) }
      callbacks.append(LambdaCallback(onTrainBatchEnd: { _, _, trainer in if trainer.position.step == step { throw Failure() } }))
      do { try await trainer.fit(line(40), epochs: 3, callbacks: callbacks, batchSize: 8, verbose: .silent) } catch is Failure {}
      return (bits(model), optimizer.learningRate)
    }
    let scratch = Scratch()
    let whole = try await run(nil)
    _ = try await run(scratch.path, failsAt: 7)
    let again = try await run(scratch.path)
    #expect(again.bits == whole.bits && again.rate == whole.rate)
  }

  @Test func callbacksDoNotFightASchedule() async throws {
    let model = smallModel()
    let optimizer = SGD(model.parameters, learningRate: 0.05)
    optimizer.schedule = ExponentialLR(gamma: 0.9)
    let trainer = Trainer(model, optimizer: optimizer, loss: mseLoss)
    for callback in [Callback.learningRateScheduler { _, rate in rate }, .reduceLROnPlateau(), .learningRateFinder()] {
      await #expect(throws: TrainingError.self) {
        _ = try await trainer.fit(line(40), callbacks: [callback], verbose: .silent)
      }
    }
    let search = try await trainer.findLearningRate(line(64), batchSize: 16, steps: 30)
    #expect(search.learningRates.count > 10 && optimizer.schedule != nil)
  }

  /// Evaluation sees the averages, training goes on with its own weights, and the model ends with the averages.
  @Test func scheduleFreeIsEvaluatedByItsAverages() async throws {
    let model = smallModel()
    let optimizer = ScheduleFreeAdamW(model.parameters, learningRate: 0.05)
    let trainer = Trainer(model, optimizer: optimizer, loss: mseLoss)
    let history = try await trainer.fit(line(64), epochs: 8, validation: line(32, seed: 3), verbose: .silent)
    let values = try await trainer.evaluate(line(32, seed: 3))
    let (shown, last) = (try #require(values["loss"]), history["val_loss"][7])
    #expect(abs(shown - last) < 1e-4 * last && last < history["val_loss"][0])
  }
}
