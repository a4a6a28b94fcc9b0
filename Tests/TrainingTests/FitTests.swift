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
}
