import ApusData
import ApusFormats
import ApusNN
import ApusTensor
import Foundation
import Testing

@testable import ApusTraining

/// Notes which hooks are called, in order.
private final class Notes: Callback {
  var lines: [String] = []
  override func onTrainBegin() { lines.append("train begins") }
  override func onTrainEnd(logs: Logs) { lines.append("train ends \(logs.keys.sorted())") }
  override func onEpochBegin(_ epoch: Int) { lines.append("epoch \(epoch) begins") }
  override func onEpochEnd(_ epoch: Int, logs: inout Logs) { lines.append("epoch \(epoch) ends") }
  override func onTrainBatchBegin(_ batch: Int) { lines.append("batch \(batch) begins") }
  override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) {
    lines.append("batch \(batch) ends" + (logs["loss"] == nil ? "" : " with a loss"))
  }
  override func onTestBegin() { lines.append("test begins") }
  override func onTestEnd(logs: Logs) { lines.append("test ends") }
  override func onTestBatchBegin(_ batch: Int) { lines.append("test batch \(batch) begins") }
  override func onTestBatchEnd(_ batch: Int, logs: BatchLogs) { lines.append("test batch \(batch) ends") }
  override func onPredictBegin() { lines.append("predict begins") }
  override func onPredictEnd() { lines.append("predict ends") }
  override func onPredictBatchBegin(_ batch: Int) { lines.append("predict batch \(batch) begins") }
  override func onPredictBatchEnd(_ batch: Int, outputs: [Tensor]) {
    lines.append("predict batch \(batch) ends \(outputs[0].shape)")
  }
}

@Suite struct CallbackTests {
  private func trainer(_ learningRate: Double = 0.02, _ change: (inout TrainerOptions) -> Void = { _ in }) -> Trainer {
    let model = smallModel()
    return Trainer(
      model, optimizer: SGD(model.parameters, learningRate: learningRate, momentum: 0.9), loss: mseLoss,
      metrics: [AbsoluteError()], options: TrainerOptions(change))
  }

  @Test func hooksComeInKerasOrder() async throws {
    let trainer = trainer()
    let notes = Notes()
    try await trainer.fit(
      line(6), epochs: 2, validation: line(3), callbacks: [CallbackList([notes])], batchSize: 3, verbose: .silent)
    let test = ["test begins", "test batch 0 begins", "test batch 0 ends", "test ends"]
    var expected = ["train begins"]
    for epoch in 0...1 {
      expected.append("epoch \(epoch) begins")
      for batch in 0...1 { expected += ["batch \(batch) begins", "batch \(batch) ends with a loss"] }
      expected += test
      expected.append("epoch \(epoch) ends")
    }
    expected.append("train ends [\"error\", \"loss\", \"val_error\", \"val_loss\"]")
    #expect(notes.lines == expected)
    notes.lines = []
    _ = try await trainer.evaluate(line(3), callbacks: [notes])
    #expect(notes.lines == test)
    notes.lines = []
    _ = try await trainer.predict(line(5), batchSize: 3, callbacks: [notes])
    #expect(
      notes.lines == [
        "predict begins", "predict batch 0 begins", "predict batch 0 ends [3, 1]", "predict batch 1 begins",
        "predict batch 1 ends [2, 1]", "predict ends",
      ])
  }

  @Test func lambdaCallbackAndLearningRates() async throws {
    let trainer = trainer()
    var rates: [Double] = []
    let lambda = LambdaCallback(
      onEpochEnd: { _, logs, _ in logs["added"] = 7 },
      onTrainBatchEnd: { _, _, trainer in rates.append(trainer.optimizer.learningRate) })
    let history = try await trainer.fit(
      line(20), epochs: 3,
      callbacks: [LearningRateScheduler { epoch, rate in epoch == 0 ? 0.1 : rate / 2 }, lambda, LearningRateMonitor()],
      batchSize: 10, verbose: .silent)
    #expect(rates == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    #expect(history["learning_rate"] == [0.1, 0.05, 0.025])
    #expect(history["added"] == [7, 7, 7])
  }

  @Test func earlyStoppingRestoresTheBestWeights() async throws {
    let trainer = trainer(0.05)
    var states: [[String: [UInt32]]] = []
    let history = try await trainer.fit(
      line(64), epochs: 50, validation: line(16, seed: 3),
      callbacks: [
        .earlyStopping(patience: 2, restoreBestWeights: true),
        LambdaCallback(onEpochEnd: { epoch, _, trainer in
          states.append(bits(trainer.model))
          if epoch == 4 { trainer.optimizer.learningRate = 2 }  // makes it worse
        }),
      ], verbose: .silent)
    #expect(history.epochs.count < 50)
    let best = try #require(history["val_loss"].indices.min { history["val_loss"][$0] < history["val_loss"][$1] })
    #expect(bits(trainer.model) == states[best])
  }

  @Test func modelCheckpointSavesTheBestAndKeepsSome() async throws {
    let scratch = Scratch()
    let trainer = trainer()
    let history = try await trainer.fit(
      line(32), epochs: 5, validation: line(8, seed: 3),
      callbacks: [
        .modelCheckpoint(scratch("best.safetensors")),
        .modelCheckpoint(scratch("all/{epoch:02d}-{val_loss:.3f}"), keep: 2),
        ModelCheckpoint(scratch("step-{step}.safetensors"), saveFrequency: .batches(2)),
      ], batchSize: 16, verbose: .silent)
    let losses = history["val_loss"]
    let best = try #require(losses.indices.min { losses[$0] < losses[$1] })
    let kept = try FileManager.default.contentsOfDirectory(atPath: scratch("all")).sorted()
    let expected = losses.indices.sorted { losses[$0] < losses[$1] }.prefix(2).map {
      String(format: "%02d-%.3f", $0 + 1, losses[$0])
    }
    #expect(Set(expected).isSubset(of: kept) || kept.contains(String(format: "05-%.3f", losses[4])))
    #expect(kept.count == 2)
    #expect(FileManager.default.fileExists(atPath: scratch("step-10.safetensors")))
    // The file has the best epoch's weights: the evaluation is that epoch's.
    try trainer.model.load(scratch("best.safetensors"))
    let values = try await trainer.evaluate(line(8, seed: 3), batchSize: 16)
    #expect(values["loss"] == losses[best])
    // A folder is a checkpoint.
    let again = self.trainer()
    try again.loadCheckpoint(from: scratch("all/" + kept[1]))
    #expect(again.position.epoch > 0)
  }

  @Test func terminateOnNaNAndTheTypedError() async throws {
    let diverges = trainer(1e30)
    var thrown: (any Error)?
    do { try await diverges.fit(line(64), epochs: 3, batchSize: 8, verbose: .silent) } catch { thrown = error }
    guard case TrainingError.nonFiniteLoss(let epoch, let batch, let step, _)? = thrown as? TrainingError else {
      Issue.record("\(String(describing: thrown))")
      return
    }
    #expect(epoch == 0 && (1...3).contains(batch) && step == batch)
    let stopped = trainer(1e30)
    stopped.onWarning = { #expect($0.contains("training ends")) }
    let history = try await stopped.fit(line(64), epochs: 3, callbacks: [.terminateOnNaN()], batchSize: 8, verbose: .silent)
    #expect(history.epochs == [0] && stopped.position.step == step + 1)
    let raising = TerminateOnNaN(raiseError: true)
    thrown = nil
    do { try await trainer(1e30).fit(line(64), epochs: 3, callbacks: [raising], batchSize: 8, verbose: .silent) } catch {
      thrown = error
    }
    guard case TrainingError.nonFiniteLoss(0, batch, step, _)? = thrown as? TrainingError else {
      Issue.record("\(String(describing: thrown))")
      return
    }
  }

  @Test func spikeDetectionNamesTheBatch() async throws {
    let scratch = Scratch()
    let trainer = trainer(0.001)
    let leap = LambdaCallback(onTrainBatchEnd: { batch, _, trainer in
      if batch == 5 { for p in trainer.model.parameters { p.value = p.value.detached() * 30 } }
    })
    let detection = SpikeDetection(rtol: 20, excludeBatchesPath: scratch("skip.json"))
    var spike: SpikeDetection.Spike?
    do { try await trainer.fit(line(80), callbacks: [leap, detection], batchSize: 8, verbose: .silent) } catch {
      spike = error as? SpikeDetection.Spike
    }
    #expect(spike?.batch == 6)
    #expect(try String(contentsOfFile: scratch("skip.json"), encoding: .utf8) == "[5,6]\n")
  }

  /// After n steps the average is what the recurrence gives, and evaluations are done with it.
  @Test func emaWeightAveragingAndSwapEMAWeights() async throws {
    func run(_ callback: Callback, decay: Double) async throws {
      let trainer = trainer()
      var average: [[Float]]?
      var atTest: [[Float]] = []
      let recorder = LambdaCallback(onTrainBatchEnd: { _, _, trainer in
        let values = trainer.model.parameters.map(\.value.floats)
        average =
          average.map { zip($0, values).map { zip($0, $1).map { $0 + ($1 - $0) * Float(1 - decay) } } } ?? values
      })
      final class AtTest: Callback {
        let note: (Trainer) -> Void
        init(_ note: @escaping (Trainer) -> Void) { self.note = note }
        override func onTestBegin() { note(trainer) }
      }
      try await trainer.fit(
        line(32), epochs: 3, validation: line(8),
        callbacks: [recorder, callback, AtTest { atTest = $0.model.parameters.map(\.value.floats) }], batchSize: 8,
        verbose: .silent)
      let expected = try #require(average)
      for (a, b) in zip(expected, atTest) { for (x, y) in zip(a, b) { #expect(abs(x - y) < 1e-5) } }
      for (a, b) in zip(expected, trainer.model.parameters.map(\.value.floats)) {
        for (x, y) in zip(a, b) { #expect(abs(x - y) < 1e-5) }
      }
    }
    try await run(EMAWeightAveraging(decay: 0.9), decay: 0.9)
    try await run(SwapEMAWeights(momentum: 0.8), decay: 0.8)
    try await run(SwapEMAWeights(swapOnEpoch: true, momentum: 0.8), decay: 0.8)
  }

  @Test func stochasticWeightAveragingAveragesAndRenewsStatistics() async throws {
    let model = Sequential(Linear(3, 4), BatchNorm1d(4), ReLU(), Linear(4, 1))
    let trainer = Trainer(model, optimizer: SGD(model.parameters, learningRate: 0.1), loss: mseLoss)
    var states: [[Float]] = []
    var rates: [Double] = []
    try await trainer.fit(
      line(32), epochs: 6,
      callbacks: [
        StochasticWeightAveraging(swaLearningRates: [0.02], swaEpochStart: .epoch(2), annealingEpochs: 2, annealing: .linear),
        LambdaCallback(onEpochEnd: { epoch, _, trainer in
          if epoch >= 2 { states.append(model.parameters.last?.value.floats ?? []) }
          rates.append(trainer.optimizer.learningRate)
        }),
      ], batchSize: 8, verbose: .silent)
    for (rate, expected) in zip(rates, [0.1, 0.1, 0.1, 0.06, 0.02, 0.02]) { #expect(abs(rate - expected) < 1e-12) }
    let mean = states.reduce(0) { $0 + $1[0] } / Float(states.count)
    #expect(abs(model.parameters.last!.value.floats[0] - mean) < 1e-5)
    // The running mean is that of the first layer's outputs under the averaged weights.
    let layer = try #require(model.layers[0] as? Linear)
    let norm = try #require(model.layers[1] as? BatchNorm1d)
    let expected = linear(line(32).inputs, layer.weight.value, layer.bias?.value).mean(axis: 0)
    let error = abs(expected - norm.runningMean!.value).max().item()
    #expect(error < 1e-4)
  }

  @Test func backboneFinetuningFreezesAndUnfreezes() async throws {
    let backbone = Linear(3, 4)
    let head = Linear(4, 1)
    let model = Sequential(backbone, ReLU(), head)
    let optimizer = SGD([ParameterGroup(backbone.parameters), ParameterGroup(head.parameters)], learningRate: 0.08)
    let trainer = Trainer(model, optimizer: optimizer, loss: mseLoss)
    let before = bits(backbone)
    var frozen: [Bool] = []
    var rates: [Double] = []
    try await trainer.fit(
      line(16), epochs: 6,
      callbacks: [
        BackboneFinetuning(backbone, group: 0, unfreezeAtEpoch: 2),
        LambdaCallback(onEpochEnd: { _, _, trainer in
          frozen.append(bits(backbone) == before)
          rates.append(trainer.optimizer.learningRates[0])
        }),
      ], verbose: .silent)
    #expect(frozen == [true, true, false, false, false, false])
    for (rate, expected) in zip(rates[2...], [0.008, 0.016, 0.032, 0.064]) { #expect(abs(rate - expected) < 1e-12) }
  }

  @Test func modelPruningKeepsZeros() async throws {
    let trainer = trainer()
    let pruning = ModelPruning { epoch in [0.25, 0.5, 0.5][epoch] }
    var shares: [Double] = []
    try await trainer.fit(
      line(32), epochs: 3, callbacks: [pruning, LambdaCallback(onTrainBatchEnd: { _, _, _ in shares.append(pruning.sparsity) })],
      batchSize: 16, verbose: .silent)
    #expect(shares == [0, 0, 0.25, 0.25, 0.5, 0.5])
    #expect(pruning.sparsity == 0.5)
  }

  @Test func gradientAccumulationSchedulerChangesTheFactor() async throws {
    let trainer = trainer()
    var steps: [Int] = []
    try await trainer.fit(
      line(40), epochs: 3,
      callbacks: [
        GradientAccumulationScheduler(scheduling: [0: 4, 1: 2, 2: 1]),
        LambdaCallback(onEpochEnd: { _, _, trainer in steps.append(trainer.position.optimizerStep) }),
      ], batchSize: 8, verbose: .silent)
    // 5 batches: 4 + 1, 2 + 2 + 1, 1 each.
    #expect(steps == [2, 5, 10])
  }

  @Test func monitorsTimerAndSummary() async throws {
    let trainer = trainer()
    var clock = 0.0
    let throughput = ThroughputMonitor(seconds: { clock })
    var text = ""
    let history = try await trainer.fit(
      line(20), epochs: 10,
      callbacks: [
        LambdaCallback(onTrainBatchEnd: { _, _, _ in clock += 0.5 }), throughput, DeviceStatsMonitor(),
        TrainingTimer(duration: 3.2, interval: .epoch, seconds: { clock }), ModelSummary { text = $0 },
      ], batchSize: 10, verbose: .silent)
    #expect(history.epochs.count == 4)
    #expect(history["batches_per_second"] == [2, 2, 2, 2] && history["examples_per_second"] == [20, 20, 20, 20])
    #expect(history["device_resident_memory"].allSatisfy { $0 > 1e6 } && history["device_memory"].allSatisfy { $0 > 0 })
    #expect(text.contains("Linear"))
  }

  @Test func onExceptionCheckpointSavesTheState() async throws {
    struct Failure: Error {}
    let scratch = Scratch()
    let trainer = trainer()
    let fails = LambdaCallback(onTrainBatchEnd: { batch, _, _ in if batch == 1 { throw Failure() } })
    await #expect(throws: Failure.self) {
      _ = try await trainer.fit(
        line(32), callbacks: [OnExceptionCheckpoint(scratch.path), fails], batchSize: 8, verbose: .silent)
    }
    let again = self.trainer()
    try again.loadCheckpoint(from: scratch("on_exception"))
    #expect(bits(again.model) == bits(trainer.model) && again.position.step == 2)
  }

  @Test func learningRateFinderSuggestsAndPutsBack() async throws {
    let trainer = trainer()
    let before = bits(trainer.model)
    let search = try await trainer.findLearningRate(line(64), batchSize: 16, minimum: 1e-5, maximum: 10, steps: 60)
    #expect(bits(trainer.model) == before && trainer.optimizer.learningRate == 0.02 && trainer.position.step == 0)
    #expect(search.learningRates[0] == 1e-5 && search.losses.count < 60, "it ends early")
    let suggestion = try #require(search.suggestion())
    #expect((1e-4...1).contains(suggestion))
    let finder = LearningRateFinder(minimum: 1e-5, maximum: 10, steps: 60)
    try await trainer.fit(line(64), epochs: 1, callbacks: [finder], batchSize: 16, verbose: .silent)
    #expect(trainer.optimizer.learningRate == finder.result?.suggestion() && trainer.position.step == 4)
  }

  @Test func batchSizeFinderStaysWithinMemory() async throws {
    let trainer = trainer()
    let data = line(1000)
    let all = try trainer.findBatchSize(data)
    #expect(all == 1000)
    let small = try trainer.findBatchSize(data, memoryLimit: 20_000)
    let exact = try trainer.findBatchSize(data, mode: .binarySearch, memoryLimit: 20_000)
    #expect(small < 1000 && small & (small - 1) == 0 && exact >= small && exact < 2 * small)
    let finder = BatchSizeFinder(memoryLimit: 20_000)
    try await trainer.fit(data, epochs: 1, callbacks: [finder], verbose: .silent)
    #expect(finder.batchSize == small && trainer.position.step == (1000 + small - 1) / small)
  }

  @Test func basePredictionWriterTakesBatches() async throws {
    final class Writer: BasePredictionWriter {
      var rows = 0
      override func write(batch: Int, outputs: [Tensor]) { rows += outputs[0].shape[0] }
    }
    let writer = Writer(keepsPredictions: false)
    let outputs = try await trainer().predictAll(line(50), callbacks: [writer])
    #expect(writer.rows == 50 && outputs.isEmpty)
  }
}
