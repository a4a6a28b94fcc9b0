import Apus
import Foundation
import Testing

/// The programs in README.md, compiled and run. What the page shows is what stands here.
@Suite struct ReadmeTests {
  @Test func firstProgram() {
    let x = Tensor([[1, 2], [3, 4]])  // float32 [2, 2]
    let g = gradient(at: x) { x in (x * x).sum() }
    print(g)  // [[2, 4], [6, 8]]
    #expect(g.floats == [2, 4, 6, 8])
  }

  @Test func trainingLoop() throws {
    final class LeNet: Module {
      let conv1 = Conv2d(1, 8, kernelSize: 3, padding: 1)
      let conv2 = Conv2d(8, 16, kernelSize: 3, padding: 1)
      let head = Linear(16 * 7 * 7, 10)

      func callAsFunction(_ x: Tensor) -> Tensor {
        var x = maxPool2d(relu(conv1(x)), kernelSize: 2)
        x = maxPool2d(relu(conv2(x)), kernelSize: 2)
        return head(x.flattened(from: 1))
      }
    }

    let path = FileManager.default.temporaryDirectory.appendingPathComponent("lenet-\(UUID().uuidString).safetensors").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let images = Tensor.rand([64, 1, 28, 28])
    let labels = Tensor.integers(0..<10, [64])
    let train = TensorDataset(images, labels)
    let model = LeNet()
    let optimizer = AdamW(model.parameters, learningRate: 1e-3)

    // One program: forward, backward and optimizer. Without compile { } it is the same, operation by operation.
    let step = compile { (images: Tensor, labels: Tensor) -> Tensor in
      let loss = crossEntropy(model(images), labels)
      optimizer.step(minimizing: loss)
      return loss
    }
    for (images, labels) in DataLoader(train, batchSize: 64, shuffle: true) { _ = step(images, labels) }
    try model.save(path)

    let again = LeNet()
    try again.load(path)
    #expect(allClose(again(images), model(images)))
  }

  /// Every line of the page's Swift programs stands in this file too (but for where files go and data comes from).
  @Test func pageShowsWhatIsTestedHere() throws {
    let here = URL(fileURLWithPath: #filePath)
    let root = here.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let page = try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
    let tested = Set(
      try String(contentsOf: here, encoding: .utf8).split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) })
    let blocks = page.components(separatedBy: "```swift\n").dropFirst().map { $0.components(separatedBy: "```")[0] }
    #expect(!blocks.isEmpty)
    for line in blocks.joined(separator: "\n").split(separator: "\n").map({ $0.trimmingCharacters(in: .whitespaces) }) {
      if line.isEmpty || line == "import Apus" || line.contains("fashionMNIST()") || line.contains(".safetensors\"") { continue }
      if line.hasPrefix(".package(") || line.hasPrefix(".product(") { continue }
      #expect(tested.contains(line), "README.md shows a line that no test runs: \(line)")
    }
  }

  @Test func trainingAsInKeras() async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("readme-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let train = TensorDataset(Tensor.rand([64, 1, 28, 28]), Tensor.integers(0..<10, [64]))
    let test = train
    let (best, runs) = (folder + "/best", folder + "/runs")
    let net = Sequential {  // or a subclass, or a graph of layers with several inputs and outputs
      Conv2d(32, kernelSize: 3)
      BatchNorm2d()
      ReLU()
      MaxPool2d(2)
      Flatten()
      Linear(10)
    }
    net.build(input: [1, 28, 28])
    let trainer = Trainer(net, optimizer: AdamW(net.parameters), loss: crossEntropy, metrics: [Accuracy()])
    let history = try await trainer.fit(
      train, epochs: 2, validation: test,
      callbacks: [.modelCheckpoint(best), .earlyStopping(patience: 2), .tensorBoard(runs)])
    #expect(history["val_accuracy"].count == 2)
  }
}
