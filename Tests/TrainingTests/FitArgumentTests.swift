import ApusData
import ApusFormats
import ApusNN
import ApusTensor
import Testing

@testable import ApusTraining

/// Keras's arguments of `fit`, and Lightning's knobs.
@Suite struct FitArgumentTests {
  private let model = smallModel()

  private func trainer(weighted: [Metric] = [], _ change: (inout TrainerOptions) -> Void = { _ in }) -> Trainer {
    Trainer(
      model, optimizer: SGD(model.parameters, learningRate: 0.05), loss: mseLoss, metrics: [AbsoluteError()],
      weightedMetrics: weighted, options: TrainerOptions(change))
  }

  /// The state after one step of gradient descent on this loss.
  private func stepped(_ loss: (Module & Layer) -> Tensor) -> [Float] {
    let model = smallModel()
    let gradients = loss(model).gradients(for: model.parameters)
    SGD(model.parameters, learningRate: 0.05).step(gradients)
    return model.parameters.flatMap(\.value.floats)
  }

  private func expect(_ values: [Float], _ expected: [Float], _ label: String = "") {
    #expect(values.count == expected.count)
    for (a, b) in zip(values, expected) { #expect(abs(a - b) < 1e-6, "\(label)") }
  }

  private var values: [Float] { model.parameters.flatMap(\.value.floats) }

  @Test func sampleWeightsWeighTheLossAndWeightedMetrics() async throws {
    let (x, y) = line(12).batch(Array(0..<12))
    let weights = Tensor.uniform([12], generator: Generator(seed: 8))
    let weighted = AbsoluteError("weighted")
    let before = (model(x).detached(), y)
    let history = try await trainer(weighted: [weighted]).fit(
      x, y, batchSize: 12, verbose: .silent, shuffle: false, sampleWeight: weights)
    let errors = abs(before.0 - before.1).mean(axis: 1)
    let loss = (square(before.0 - before.1).mean(axis: 1) * weights).mean().item(as: Double.self)
    #expect(abs(history["loss"][0] - loss) < 1e-5)
    #expect(abs(history["error"][0] - errors.mean().item(as: Double.self)) < 1e-5)
    let mean = ((errors * weights).sum() / weights.sum()).item(as: Double.self)
    #expect(abs(history["weighted"][0] - mean) < 1e-5)
    expect(values, stepped { (square($0(x) - y).mean(axis: 1) * weights).mean() })
  }

  @Test func classWeightsWeighByLabelOrOneHot() async throws {
    let x = line(10).inputs
    let labels = Tensor([0, 1, 2, 1, 0, 2, 2, 1, 0, 1]).converted(to: .int64)
    for oneHot in [false, true] {
      let model = Sequential(Linear(3, 3, generator: Generator(seed: 3)))
      let initial = model.state
      let target = oneHot ? (labels.expanded(at: 1) .== Tensor.arange(3).expanded(at: 0)).converted(to: .float32) : labels
      let trainer = Trainer(
        model, optimizer: SGD(model.parameters, learningRate: 0.1), loss: crossEntropy,
        options: .init { $0.classWeights = [0: 2, 2: 0.5] })
      let history = try await trainer.fit(x, target, batchSize: 10, verbose: .silent, shuffle: false)
      let again = Sequential(Linear(3, 3))
      try again.load(state: initial)
      let weights = Tensor([2, 1, 0.5]).rows(labels)
      let loss = (crossEntropy(again(x), labels, reduction: .none) * weights).mean()
      #expect(abs(history["loss"][0] - loss.item(as: Double.self)) < 1e-5)
      SGD(again.parameters, learningRate: 0.1).step(minimizing: loss)
      expect(model.parameters.flatMap(\.value.floats), again.parameters.flatMap(\.value.floats))
    }
  }

  @Test func severalInputsAndOutputsWithLossWeights() async throws {
    final class Two: Module {
      let a = Linear(3, 2, generator: Generator(seed: 1))
      let b = Linear(3, 1, generator: Generator(seed: 2))
      func callAsFunction(_ x: Tensor, _ y: Tensor) -> (Tensor, Tensor) {
        let h = a(x)
        return (h, b(y) + h.sum(axis: 1, keepDims: true))
      }
    }
    let two = Two()
    let trainer = Trainer(
      two, optimizer: SGD(two.parameters, learningRate: 0.05),
      outputs: [
        TrainingOutput("first", loss: mseLoss, metrics: [AbsoluteError()]),
        TrainingOutput("second", loss: l1Loss, lossWeight: 0.5, metrics: [AbsoluteError()]),
      ]
    ) { inputs in
      let (a, b) = two(inputs[0], inputs[1])
      return [a, b]
    }
    let x = [line(20, seed: 1).inputs, line(20, seed: 2).inputs]
    let y = [Tensor.ones([20, 2]), Tensor.zeros([20, 1])]
    let before = two(x[0], x[1])
    let history = try await trainer.fit(x, y, batchSize: 20, verbose: .silent, validationSplit: nil)
    let (a, b) = (mseLoss(before.0, y[0]).item(as: Double.self), l1Loss(before.1, y[1]).item(as: Double.self))
    #expect(Set(history.values.keys) == ["loss", "first_loss", "second_loss", "first_error", "second_error"])
    #expect(abs(history["first_loss"][0] - a) < 1e-5 && abs(history["second_loss"][0] - b) < 1e-5)
    #expect(abs(history["loss"][0] - (a + 0.5 * b)) < 1e-5)
    let outputs = try await trainer.predictAll(TrainingTensors(x))
    #expect(outputs.map(\.shape) == [[20, 2], [20, 1]])
    await #expect(throws: TrainingError.self) { _ = try await trainer.predict(TrainingTensors(x)) }
  }

  @Test func validationSplitTakesTheLastExamples() async throws {
    let data = line(50)
    let trainer = trainer()
    let history = try await trainer.fit(
      data.inputs, data.labels, batchSize: 10, epochs: 2, verbose: .silent, validationSplit: 0.2)
    #expect(trainer.position.step == 8)
    let values = try await trainer.evaluate(data.inputs[40...], data.labels[40...], batchSize: 10)
    #expect(values["loss"] == history["val_loss"][1])
    await #expect(throws: TrainingError.self) {
      _ = try await trainer.fit(data.inputs, data.labels, verbose: .silent, validationSplit: 1.5)
    }
  }

  @Test func stepsFrequenciesAndInitialEpoch() async throws {
    let trainer = trainer()
    let loader = DataLoader(line(50), batchSize: 10, shuffle: true)
    let history = try await trainer.fit(
      loader, epochs: 7, validation: line(40), initialEpoch: 3, stepsPerEpoch: 7, validationSteps: 2, validationFrequency: 2,
      verbose: .silent)
    #expect(history.epochs == [3, 4, 5, 6])
    // 28 batches of 5 in a pass.
    #expect(trainer.position.step == 28 && trainer.position.pass == 5 && trainer.position.batchInPass == 3)
    // Evaluated after epochs 4 and 6 as people count, 3 and 5 as fit does.
    #expect(history["val_loss"].map(\.isNaN) == [false, true, false, true])
    let limited = self.trainer {
      $0.limitTrainBatches = .batches(2)
      $0.limitValidationBatches = .fraction(0.5)
    }
    var tests = 0
    final class Counts: Callback {
      let note: () -> Void
      init(_ note: @escaping () -> Void) { self.note = note }
      override func onTestBatchEnd(_ batch: Int, logs: BatchLogs) { note() }
    }
    try await limited.fit(
      loader, epochs: 2, validation: DataLoader(line(40), batchSize: 10), callbacks: [Counts { tests += 1 }], verbose: .silent)
    #expect(limited.position.step == 4 && tests == 4)
  }

  @Test func fastDevRunAndOverfitBatches() async throws {
    let fast = trainer { $0.fastDevRun = 2 }
    let scratch = Scratch()
    let history = try await fast.fit(
      line(100), epochs: 9, validation: line(100), callbacks: [.modelCheckpoint(scratch("best")), .earlyStopping()],
      verbose: .silent)
    #expect(history.epochs == [0] && fast.position.step == 2)
    #expect(CheckpointFolder(path: scratch.path).checkpoints.isEmpty)
    let overfit = trainer { $0.overfitBatches = .batches(1) }
    let learned = try await overfit.fit(
      DataLoader(line(64), batchSize: 8, shuffle: true), epochs: 60, verbose: .silent)
    #expect(overfit.position.step == 60 && overfit.position.pass == 0)
    #expect(learned["val_loss"][59] < 0.1 * learned["val_loss"][0], "one batch is learned by heart")
  }

  @Test func clippingLimitsGradients() async throws {
    let (x, y) = line(16).batch(Array(0..<16))
    for clipping in [TrainerOptions.Clipping.norm(0.1), .value(0.01)] {
      try model.load(state: smallModel().state)
      try trainer { $0.clipping = clipping }.trainStep(x, y)
      let again = smallModel()
      var gradients = mseLoss(again(x), y).gradients(for: again.parameters)
      switch clipping {
      case .norm(let limit): gradients.clip(norm: limit)
      case .value(let limit): gradients.clip(value: limit)
      }
      SGD(again.parameters, learningRate: 0.05).step(gradients)
      expect(values, again.parameters.flatMap(\.value.floats), "\(clipping)")
    }
  }

  /// Two batches of 8 averaged are one of 16.
  @Test func gradientAccumulationIsALargerBatch() async throws {
    let data = line(32)
    try await trainer { $0.gradientAccumulation = 2 }.fit(DataLoader(data, batchSize: 8), epochs: 2, verbose: .silent)
    let accumulated = values
    try model.load(state: smallModel().state)
    try await trainer().fit(DataLoader(data, batchSize: 16), epochs: 2, verbose: .silent)
    expect(accumulated, values)
  }

  @Test func stepsOnBatches() throws {
    let trainer = trainer()
    let (x, y) = line(16).batch(Array(0..<16))
    let before = mseLoss(model(x), y).item()
    let loss = try trainer.trainStep(x, y)
    #expect(loss.item() == before && model.isTraining)
    let after = try trainer.testStep(x, y)
    #expect(after.item() < before)
    #expect(try trainer.predictStep(x).shape == [16, 1])
    #expect(throws: TrainingError.self) { try trainer.trainStep(TrainingBatch([x], [y, y])) }
    #expect(throws: TrainingError.self) { try trainer.trainStep(x, y[..<3]) }
    #expect(throws: TrainingError.self) { try trainer.trainStep(x, y, sampleWeight: Tensor.ones([3])) }
  }

  @Test func mistakesAreTypedErrors() async throws {
    func error(_ body: () async throws -> Void) async -> TrainingError? {
      do { try await body() } catch { return error as? TrainingError }
      return nil
    }
    let trainer = trainer()
    let empty = TensorDataset(Tensor.zeros([0, 3]), Tensor.zeros([0, 1]))
    #expect(await error { _ = try await trainer.fit(empty, verbose: .silent) } == .emptyData("fit"))
    #expect(await error { _ = try await trainer.evaluate(empty) } == .emptyData("evaluate"))
    #expect(await error { _ = try await trainer.predict(empty) } == .emptyData("predict"))
    #expect(
      await error { _ = try await trainer.fit(DataLoader(line(5), batchSize: 8, dropLast: true), verbose: .silent) }
        == .batchLargerThanData(batchSize: 8, examples: 5))
    #expect(
      await error { _ = try await trainer.fit(BatchSequence { _ in [(Tensor, Tensor)]() }, verbose: .silent) }
        == .emptyData("fit"))
    let twice = Trainer(
      model, optimizer: SGD(model.parameters), loss: mseLoss, metrics: [AbsoluteError(), AbsoluteError()])
    #expect(await error { _ = try await twice.fit(line(5), verbose: .silent) } == .duplicateName("error"))
    let named = Trainer(model, optimizer: SGD(model.parameters), loss: mseLoss, metrics: [AbsoluteError("loss")])
    #expect(await error { _ = try await named.evaluate(line(5)) } == .duplicateName("loss"))
    let others = [
      await error { _ = try await trainer.fit(line(5), epochs: -1) },
      await error { _ = try await trainer.fit(line(5), validationFrequency: 0) },
      await error { _ = try await trainer.fit(line(5), stepsPerEpoch: 0) },
      await error { _ = try await trainer.fit(line(5), batchSize: 0) },
      await error { _ = try await trainer.evaluate(line(5), batchSize: -1) },
    ]
    for found in others {
      guard case .invalidArgument = found else {
        Issue.record("\(String(describing: found))")
        continue
      }
    }
    #expect(TrainingError.duplicateName("error").description.contains("'error'"))
  }

  /// A NaN stops the program with the operation that made it, not only with the step.
  @Test func anomalyModeNamesTheOperation() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      final class Logarithm: Module, Layer {
        let weight = Parameter(Tensor([-1]))
        func callAsFunction(_ x: Tensor) -> Tensor { log(x * weight.value) }
      }
      let model = Logarithm()
      let trainer = Trainer(model, optimizer: SGD(model.parameters), loss: mseLoss, options: .init { $0.detectAnomaly = true })
      try trainer.trainStep(Tensor([[2]]), Tensor([[0]]))
    }
    let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(printed.contains("anomaly: log of float32[1, 1] made a NaN"), "\(printed)")
  }

  /// The example of the first page of the documentation.
  @Test func theExampleOfTheDesignRuns() async throws {
    let scratch = Scratch()
    let model = Sequential(Linear(3, 8), ReLU(), Linear(8, 2))
    let x = Tensor.randn([60, 3], generator: Generator(seed: 1))
    let data = TensorDataset(x, (x.sum(axis: 1) .> 0).converted(to: .int64))
    let (train, test) = (DataLoader(data, batchSize: 10, shuffle: true), data)
    let optimizer = AdamW(model.parameters, learningRate: 1e-2)
    let trainer = Trainer(model, optimizer: optimizer, loss: crossEntropy, metrics: [Accuracy()])
    let history = try await trainer.fit(
      train, epochs: 5, validation: test,
      callbacks: [.modelCheckpoint(scratch("best")), .earlyStopping(patience: 2), .tensorBoard(scratch("runs"))], verbose: .silent
    )
    #expect(history["val_accuracy"].count >= 3 && isRegularFile(scratch("best/checkpoint.json")))
  }

  @Test func sequencesOfBatchesAndUnsupportedBatches() async throws {
    let (x, y) = line(8).batch(Array(0..<8))
    let trainer = trainer()
    let history = try await trainer.fit(BatchSequence { _ in (0..<3).map { _ in (x, y) } }, epochs: 2, verbose: .silent)
    #expect(history.epochs.count == 2 && trainer.position.step == 6 && trainer.stepsPerEpoch == 3)
    await #expect(throws: UnsupportedBatch.self) {
      _ = try await trainer.fit(BatchSequence { _ in ["text"] }, verbose: .silent)
    }
  }
}
