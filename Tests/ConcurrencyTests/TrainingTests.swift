import ApusData
import ApusNN
import ApusTensor
import Synchronization
import Testing

/// Training with everything that has threads: loader, tape, optimizer, and readers of the weights meanwhile.
@Suite struct ConcurrentTrainingTests {
  private static func data() -> TensorDataset {
    let generator = Generator(seed: 5)
    return TensorDataset(
      Tensor.randn([96, 1, 12, 12], generator: generator), Tensor.arange(96, .int64) % 4)
  }

  private static func model(seed: UInt64) -> Sequential {
    let generator = Generator(seed: seed)
    return Sequential(
      Conv2d(1, 8, kernelSize: 3, padding: 1, generator: generator), BatchNorm2d(8), ReLU(), MaxPool2d(2), Flatten(),
      Linear(8 * 36, 4, generator: generator))
  }

  private static func train(_ model: Sequential, workers: Int) -> [[UInt8]] {
    let optimizer = Adam(model.parameters, learningRate: 0.01)
    for _ in 0..<2 {
      for (x, y) in DataLoader(data(), batchSize: 16, shuffle: true, workers: workers, seed: 2) {
        optimizer.step(minimizing: crossEntropy(model(x), y))
      }
    }
    return model.parameters.map { bits($0.value) }
  }

  @Test func modelsTrainedAtOnceEndWhereOneAloneDoes() async {
    let expected = Self.train(Self.model(seed: 9), workers: 0)
    await withTaskGroup(of: [[UInt8]].self) { group in
      for workers in 0..<4 { group.addTask { Self.train(Self.model(seed: 9), workers: workers) } }
      for await result in group { #expect(result == expected) }
    }
  }

  /// Loaders whose epochs are left with workers still at it, beside one that is read to its end.
  @Test func loadersLeftEarly() async {
    await withTaskGroup(of: [[Int]].self) { group in
      for workers in 0..<5 {
        group.addTask {
          let loader = DataLoader(Self.data(), batchSize: 5, shuffle: true, workers: workers, prefetch: 2, seed: 4)
          for _ in 0..<5 {
            for (i, _) in loader.enumerated() where i == 2 { break }
          }
          return loader.map { $0.1.elements(as: Int.self) }
        }
      }
      var first: [[Int]]?
      for await labels in group {
        #expect(labels == first ?? labels && labels.count == 20)
        first = labels
      }
    }
  }

  private static let done = Atomic(false)

  /// Weights are read while an optimizer writes them in place: every value that is seen is whole.
  @Test func weightsReadDuringTraining() async {
    let model = Self.model(seed: 9)
    let parameters = model.parameters
    await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<2 {
        group.addTask {
          var whole = true
          while !Self.done.load(ordering: .acquiring) {
            for p in parameters {
              let value = p.value
              whole = whole && bits(value) == bits(value)
            }
          }
          return whole
        }
      }
      _ = Self.train(model, workers: 2)
      Self.done.store(true, ordering: .releasing)
      for await whole in group { #expect(whole) }
    }
  }
}
