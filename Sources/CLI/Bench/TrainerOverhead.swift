import Apus

// What `Trainer` adds to a step: the same small network by a compiled step in a loop, and by `fit`'s loop. The difference of the
// two times, divided by the number of steps, is what a step of `fit` costs more.

extension Workload {
  private static let steps = 1_000

  private static func network() -> Sequential {
    let generator = Generator(seed: 1)
    return Sequential(Linear(16, 16, generator: generator), ReLU(), Linear(16, 4, generator: generator))
  }

  private static func batch() -> TrainingBatch {
    TrainingBatch(
      [Tensor.randn([8, 16], generator: Generator(seed: 2))], [Tensor.integers(0..<4, [8], generator: Generator(seed: 3))])
  }

  static let trainerOverhead: [Workload] = [
    Workload(name: "steps_by_hand", items: Double(steps), unit: "step/s") { mode in
      let (model, batch) = (network(), batch())
      let optimizer = SGD(model.parameters, learningRate: 1e-3)
      let step = mode.program { inputs in
        let loss = crossEntropy(model(inputs[0]), inputs[1])
        optimizer.step(minimizing: loss)
        return [loss]
      }
      return { for _ in 0..<steps { _ = step(batch.inputs + batch.targets) } }
    },
    Workload(name: "steps_by_trainer", items: Double(steps), unit: "step/s") { mode in
      let (model, batch) = (network(), batch())
      let trainer = Trainer(
        model, optimizer: SGD(model.parameters, learningRate: 1e-3), loss: crossEntropy,
        options: TrainerOptions { $0.runEagerly = mode == .eager })
      return {
        do { try trainer.repeatStep(batch, count: steps) } catch { fatalError("steps_by_trainer: \(error)") }
      }
    },
  ]
}
