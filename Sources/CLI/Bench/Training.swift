import Apus

// Whole training steps: forward, cross entropy, backward, optimizer.

extension Workload {
  /// What a training step is made of.
  private struct Training {
    let x, labels: Tensor
    let model: Module
    /// [rows, classes], of `x`.
    let logits: (Tensor) -> Tensor
    let optimizer: Optimizer
  }

  /// - Parameter unit: of the items a step yields.
  private static func training(
    _ name: String, items: Int, unit: String = "sample/s", _ make: @escaping @Sendable () -> Training
  ) -> Workload {
    Workload(name: name, items: Double(items), unit: unit) { mode in
      seed(0)
      let training = make()
      training.model.train()
      let program = mode.program { inputs in
        let loss = crossEntropy(training.logits(inputs[0]), inputs[1])
        training.optimizer.step(minimizing: loss)
        return [loss]
      }
      return { _ = program([training.x, training.labels]) }
    }
  }

  private static func labels(_ classes: Int, _ count: Int) -> Tensor {
    Tensor.integers(0..<classes, [count], generator: Generator(seed: 1))
  }
  private static func images(
    _ shape: Shape, _ classes: Int, _ model: any Layer, _ optimizer: ([Parameter]) -> Optimizer
  ) -> Training {
    Training(
      x: Tensor.randn(shape, generator: Generator(seed: 0)), labels: labels(classes, shape[0]), model: model,
      logits: { model($0) }, optimizer: optimizer(model.parameters))
  }

  static let training: [Workload] = [
    training("mlp_train", items: 128) {
      let model = Sequential(Linear(784, 512), ReLU(), Linear(512, 512), ReLU(), Linear(512, 10))
      return images([128, 784], 10, model) { Adam($0, learningRate: 1e-3) }
    },
    training("lenet_train", items: 32) {
      let model = Sequential(
        Conv2d(1, 6, kernelSize: 5, padding: 2), ReLU(), AvgPool2d(2), Conv2d(6, 16, kernelSize: 5), ReLU(), AvgPool2d(2),
        Flatten(),
        Linear(400, 120), ReLU(), Linear(120, 84), ReLU(), Linear(84, 10))
      return images([32, 1, 28, 28], 10, model) { SGD($0, learningRate: 0.01) }
    },
    training("cifar_cnn_train", items: 128) {
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
      return images([128, 3, 32, 32], 10, model) { Adam($0, learningRate: 1e-3) }
    },
    training("resnet18_train", items: 16) {
      images([16, 3, 224, 224], 1000, ResNet18()) { SGD($0, learningRate: 0.01, momentum: 0.9) }
    },
    training("lstm_train", items: 32) {
      let model = LSTMClassifier()
      let ids = Tensor.integers(0..<10_000, [32, 100], generator: Generator(seed: 3))
      return Training(
        x: ids, labels: labels(2, 32), model: model, logits: { model($0) }, optimizer: Adam(model.parameters, learningRate: 1e-3))
    },
    training("gpt2_small_train", items: 2 * 256, unit: "token/s") {
      let model = GPT2(.small)
      let tokens = Tensor.integers(0..<50_257, [2, 257], generator: Generator(seed: 3))
      return Training(
        x: tokens[0..., ..<256].contiguous(), labels: tokens[0..., 1...].flattened(), model: model,
        logits: { model($0).flattened(from: 0, to: 1) }, optimizer: AdamW(model.parameters, learningRate: 3e-4))
    },
  ]
}
