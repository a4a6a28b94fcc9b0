import Apus

// Whole training steps: forward, cross entropy, backward, optimizer.

extension Workload {
  private static func trainingWorkload(
    _ name: String, batch: Int, input: [Int], _ make: @escaping @Sendable () -> (any Layer, ([Parameter]) -> Optimizer)
  ) -> Workload {
    Workload(name: name, items: Double(batch), unit: "sample/s") {
      seed(0)
      let x = Tensor.randn(Shape([batch] + input), generator: Generator(seed: 0))
      let labels = Tensor.integers(0..<10, [batch], generator: Generator(seed: 1))
      let (model, makeOptimizer) = make()
      model.train()
      let optimizer = makeOptimizer(model.parameters)
      return { optimizer.step(minimizing: crossEntropy(model(x), labels)) }
    }
  }

  static let training: [Workload] = [
    trainingWorkload("mlp_train", batch: 128, input: [784]) {
      let model = Sequential(Linear(784, 512), ReLU(), Linear(512, 512), ReLU(), Linear(512, 10))
      return (model, { Adam($0, learningRate: 1e-3) })
    },
    trainingWorkload("lenet_train", batch: 32, input: [1, 28, 28]) {
      let model = Sequential(
        Conv2d(1, 6, kernelSize: 5, padding: 2), ReLU(), AvgPool2d(2), Conv2d(6, 16, kernelSize: 5), ReLU(), AvgPool2d(2),
        Flatten(),
        Linear(400, 120), ReLU(), Linear(120, 84), ReLU(), Linear(84, 10))
      return (model, { SGD($0, learningRate: 0.01) })
    },
    trainingWorkload("cifar_cnn_train", batch: 128, input: [3, 32, 32]) {
      let model = Sequential {
        for (a, b) in [(3, 32), (32, 64)] {
          Conv2d(a, b, kernelSize: 3, padding: 1)
          ReLU()
          Conv2d(b, b, kernelSize: 3, padding: 1)
          ReLU()
          MaxPool2d(2)
          Dropout(0.25)
        }
        Flatten()
        Linear(4096, 512)
        ReLU()
        Dropout(0.5)
        Linear(512, 10)
      }
      return (model, { Adam($0, learningRate: 1e-3) })
    },
  ]
}
