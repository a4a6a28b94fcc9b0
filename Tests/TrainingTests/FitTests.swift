import ApusData
import ApusNN
import ApusTensor
import Testing

@testable import ApusTraining

@Suite struct FitTests {
  @Test func fitLearnsEvaluatesAndPredicts() async throws {
    let model = smallModel()
    let optimizer = Adam(model.parameters, learningRate: 0.02)
    let trainer = Trainer(model, optimizer: optimizer, loss: mseLoss, metrics: [AbsoluteError()])
    let train = line(256)
    let test = line(64, seed: 9)
    let loader = DataLoader(train, batchSize: 32, shuffle: true)
    let history = try await trainer.fit(loader, epochs: 20, validation: test, verbose: .silent)
    #expect(history.epochs == Array(0..<20))
    #expect(Set(history.values.keys) == ["loss", "error", "val_loss", "val_error"])
    #expect(history["loss"].count == 20)
    #expect(history["loss"][19] < 0.05 * history["loss"][0])
    let values = try await trainer.evaluate(test)
    #expect(values["loss"] == history["val_loss"][19])
    #expect(values["error"] == history["val_error"][19])
    let predictions = try await trainer.predict(test)
    #expect(predictions.shape == [64, 1])
    let error = abs(predictions - test.labels).mean().item()
    #expect(abs(Double(error) - (values["error"] ?? 0)) < 1e-5)
  }

  /// The loop by hand, with the same order of the same batches: the same bits.
  @Test func aStepIsTheStepWrittenByHand() async throws {
    let data = line(96)
    let byHand = smallModel(dropout: 0.2)
    let optimizer = AdamW(byHand.parameters, learningRate: 0.01)
    seed(5)
    let step = compile { (x: Tensor, y: Tensor) -> Tensor in
      let loss = mseLoss(byHand(x), y)
      optimizer.step(minimizing: loss)
      return loss
    }
    let loader = DataLoader(data, batchSize: 20, shuffle: true, seed: 7)
    for _ in 0..<3 { for (x, y) in loader { _ = step(x, y) } }
    for eager in [false, true] {
      let model = smallModel(dropout: 0.2)
      seed(5)
      let trainer = Trainer(
        model, optimizer: AdamW(model.parameters, learningRate: 0.01), loss: mseLoss, options: .init { $0.runEagerly = eager })
      let again = DataLoader(data, batchSize: 20, shuffle: true, workers: 3, seed: 7)
      try await trainer.fit(again, epochs: 3, verbose: .silent)
      #expect(bits(model) == bits(byHand), "eager: \(eager)")
    }
  }

  /// `computeLoss` is what is minimized and shown; `resetMetrics` forgets both loss and metrics.
  @Test func aSubclassComputesItsLoss() throws {
    final class Doubling: Trainer {
      override func computeLoss(_ predictions: [Tensor], _ batch: TrainingBatch) -> Tensor {
        super.computeLoss(predictions, batch) * 2
      }
    }
    let (x, y) = line(8).batch(Array(0..<8))
    func trained(_ make: (Sequential) -> Trainer) throws -> (loss: Double, change: Tensor, trainer: Trainer) {
      let model = smallModel()
      let parameter = model.parameters[0]
      let before = parameter.value
      let trainer = make(model)
      try trainer.trainStep(x, y)
      return (try #require(trainer.currentLogs()["loss"]), parameter.value - before, trainer)
    }
    let plain = try trained {
      Trainer($0, optimizer: SGD($0.parameters, learningRate: 0.01), loss: mseLoss, metrics: [AbsoluteError()])
    }
    let doubled = try trained {
      Doubling($0, optimizer: SGD($0.parameters, learningRate: 0.01), loss: mseLoss, metrics: [AbsoluteError()])
    }
    #expect(abs(doubled.loss - 2 * plain.loss) < 1e-6 * plain.loss)
    #expect(abs(doubled.change - plain.change * 2).max().item() < 1e-6)
    let error = try #require(doubled.trainer.currentLogs()["error"])
    doubled.trainer.resetMetrics()
    try doubled.trainer.trainStep(x, y)
    let again = doubled.trainer.currentLogs()
    let (lossAfter, errorAfter) = (try #require(again["loss"]), try #require(again["error"]))
    #expect(lossAfter < doubled.loss && errorAfter != error)
  }

}
