import ApusData
import ApusNN
import ApusTensor
import ApusTraining
import Testing

@Suite struct RegularizedTrainingTests {
  private func model() -> Sequential {
    let model = smallModel()
    model[0].regularize("weight", .l2(0.1)).regularizeActivity(.l1(0.01))
    model[3].constrain("weight", .maxNorm(0.5))
    return model
  }

  /// Penalties join the loss that is minimized and shown, constraints hold after each step: the loop by hand, to the bit.
  @Test func regularizersAndConstraintsAreKept() async throws {
    let data = line(96)
    let byHand = model()
    let optimizer = AdamW(byHand.parameters, learningRate: 0.05)
    let step = compile { (x: Tensor, y: Tensor) -> Tensor in
      let loss = mseLoss(byHand(x), y) + byHand.regularizationLoss()
      optimizer.step(minimizing: loss)
      byHand.applyConstraints()
      return loss
    }
    var losses: [Double] = []
    for _ in 0..<2 {
      var sum = 0.0
      for (x, y) in DataLoader(data, batchSize: 24) { sum += step(x, y).item(as: Double.self) }
      losses.append(sum / 4)
    }
    for eager in [false, true] {
      let model = model()
      let trainer = Trainer(
        model, optimizer: AdamW(model.parameters, learningRate: 0.05), loss: mseLoss, options: .init { $0.runEagerly = eager })
      let history = try await trainer.fit(DataLoader(data, batchSize: 24), epochs: 2, validation: data, verbose: .silent)
      #expect(bits(model) == bits(byHand), "eager: \(eager)")
      for (a, b) in zip(history["loss"], losses) { #expect(abs(a - b) < 1e-6) }
      let norm = model[3].parameters[0].value.norm().item()
      #expect(norm <= 0.5 && norm > 0.4)
      // Evaluation shows the penalties, too.
      model.eval()
      let expected = withoutGradient {
        (mseLoss(model(data.inputs), data.labels) + model.regularizationLoss()).item(as: Double.self)
      }
      let shown = try await trainer.evaluate(DataLoader(data, batchSize: 96))
      #expect(abs((shown["loss"] ?? 0) - expected) < 1e-6)
    }
  }

  /// A graph of layers with two inputs and two outputs.
  @Test func graphsOfLayersAreTrained() async throws {
    let a = Input([3], name: "a"), b = Input([3], name: "b")
    let random = Generator(seed: 3)
    let shared = Linear(3, 8, generator: random)
    let h = concatenate([relu(shared(a, name: "shared")), relu(shared(b))])
    let sum = Linear(16, 1, generator: random)(h, name: "sum"),
      difference = Linear(16, 1, generator: random)(h, name: "difference")
    let model = try Model(inputs: [a, b], outputs: [sum, difference])
    let x = Tensor.randn([64, 3], generator: Generator(seed: 1)), z = Tensor.randn([64, 3], generator: Generator(seed: 2))
    let (s, d) = (x.sum(axis: 1, keepDims: true), z.sum(axis: 1, keepDims: true))
    let trainer = Trainer(
      model, optimizer: Adam(model.parameters, learningRate: 0.02),
      outputs: [TrainingOutput("sum", loss: mseLoss), TrainingOutput("difference", loss: mseLoss)])
    func batches() -> [([Tensor], [Tensor])] {
      (0..<4).map { i in
        let rows = (16 * i)..<(16 * i + 16)
        return ([x[rows], z[rows]], [(s + d)[rows], (s - d)[rows]])
      }
    }
    let history = try await trainer.fit(BatchSequence(count: 4) { _ in batches() }, epochs: 30, verbose: .silent)
    #expect(Set(history.values.keys) == ["loss", "sum_loss", "difference_loss"])
    #expect(history["loss"][29] < 0.1 * history["loss"][0])
  }
}
