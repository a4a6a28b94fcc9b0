import Apus
import ApusTensor
import ArgumentParser

/// The network of the quickstart: two convolutions, then two fully connected layers.
final class FashionNet: Module, Layer {
  let conv1 = Conv2d(1, 32, kernelSize: 3, padding: 1)
  let conv2 = Conv2d(32, 64, kernelSize: 3, padding: 1)
  let hidden = Linear(64 * 7 * 7, 128)
  let dropout = Dropout(0.4)
  let head = Linear(128, 10)

  /// - Parameter x: images [batch, 1, 28, 28].
  /// - Returns: logits [batch, 10].
  func callAsFunction(_ x: Tensor) -> Tensor {
    var x = maxPool2d(relu(conv1(x)), kernelSize: 2)
    x = maxPool2d(relu(conv2(x)), kernelSize: 2)
    x = relu(hidden(x.flattened(from: 1)))
    return head(dropout(x))
  }
}

struct Quickstart: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a convolutional network on Fashion-MNIST: 60,000 real images.",
    discussion:
      "Trains, evaluates on the 10,000 test images, saves the weights, exports the model, and shows what the network says of a few images."
  )

  @Option(help: "Passes over the training images.")
  var epochs = 6

  @Option(help: "Images in a step.")
  var batchSize = 64

  @Option(help: "The largest learning rate; it rises to this in the first fifth, then falls to zero.")
  var learningRate = 2e-3

  @Option(help: "Decides the first weights, the order of the images, and dropout.")
  var seed: UInt64 = 1

  @Option(help: "A folder with the four Fashion-MNIST files.")
  var data: String?

  @Option(help: "Where the weights go.")
  var output = "fashion.safetensors"

  @Option(help: "Where the exported model goes, which `apus run` and `apus inspect` read.")
  var artifact = "fashion.apus"

  @OptionGroup var profiling: Profiling

  func validate() throws {
    if epochs < 1 { throw ValidationError("--epochs \(epochs) is less than 1.") }
    if batchSize < 1 || batchSize > 60_000 { throw ValidationError("--batch-size \(batchSize) is not within 1 and 60000.") }
    if !(learningRate > 0 && learningRate < 1) { throw ValidationError("--learning-rate \(learningRate) is not within 0 and 1.") }
  }

  func run() async throws {
    let begin = Clock.seconds()
    let (train, test) = try await ImageClassificationDataset.fashionMNIST(folder: data)
    print(
      "Fashion-MNIST: \(grouped(train.count)) training and \(grouped(test.count)) test images in \(train.classNames.count) classes"
    )

    Apus.seed(seed)
    let model = FashionNet()
    let optimizer = AdamW(model.parameters, learningRate: learningRate, weightDecay: 0.02)
    let loader = DataLoader(train, batchSize: batchSize, shuffle: true, dropLast: true, seed: seed)
    print(
      "\(grouped(model.parameters.reduce(0) { $0 + $1.shape.elementCount })) parameters, \(epochs) epochs of \(loader.count) steps"
    )

    // Forward, backward and optimizer as one program.
    let trainingStep = compile("training step") { (images: Tensor, labels: Tensor) -> (Tensor, Tensor) in
      let logits = model(images)
      let loss = crossEntropy(logits, labels)
      optimizer.step(minimizing: loss)
      return (loss, (logits.argMax(axis: 1) .== labels).sum())
    }

    let started = Clock.seconds()
    let steps = epochs * loader.count
    var step = 0
    for epoch in 1...epochs {
      model.train()
      var progress = TrainingProgress(epoch: epoch, of: epochs, steps: loader.count)
      for (images, labels) in loader {
        optimizer.learningRate = oneCycle(step, of: steps)
        // The profile is of one step, when all is warm.
        let (loss, hits) =
          step == steps - 1 ? try profiling { trainingStep(images, labels) } : trainingStep(images, labels)
        progress.add(loss: loss, hits: hits, images: labels.count)
        step += 1
      }
      progress.end()
    }
    let seconds = Clock.seconds() - started

    let accuracy = evaluate(model, test)
    try model.save(output)
    show(model, test)
    print("saved \(output)")
    try export(model, input: ["image": .float32(["batch", 1, 28, 28])], to: artifact)
    print("exported \(artifact)")
    print("test accuracy \(decimals(accuracy * 100, 2)) %")
    print("trained in \(decimals(seconds, 1)) s, all in \(decimals(Clock.seconds() - begin, 1)) s")
  }

  /// One cycle (Smith 2018): up linearly in the first fifth, down to zero as half a cosine.
  private func oneCycle(_ step: Int, of steps: Int) -> Double {
    let rise = max(1, steps / 5)
    if step < rise { return learningRate * (0.1 + 0.9 * Double(step) / Double(rise)) }
    let part = Double(step - rise) / Double(max(1, steps - rise))
    return learningRate * (1 + cosine(part * .pi)) / 2
  }

  private func evaluate(_ model: FashionNet, _ test: ImageClassificationDataset) -> Double {
    model.eval()
    return withoutGradient {
      var hits = 0
      for (images, labels) in DataLoader(test, batchSize: 500) {
        hits += (model(images).argMax(axis: 1) .== labels).sum().item(as: Int.self)
      }
      return Double(hits) / Double(test.count)
    }
  }

  private func show(_ model: FashionNet, _ test: ImageClassificationDataset) {
    let (images, labels) = test.batch([0, 1, 2, 3])
    let predicted = withoutGradient { model(images).argMax(axis: 1) }.elements(as: Int.self)
    let truth = labels.elements(as: Int.self)
    print("")
    for pair in [[0, 1], [2, 3]] {
      let pictures = pair.map { textPicture(images.rows(of: $0)) }
      for lines in zip(pictures[0], pictures[1]) { print("  \(lines.0)    \(lines.1)") }
      let captions = pair.map { i in
        let name = test.classNames[predicted[i]]
        return padded(predicted[i] == truth[i] ? "\(name) (right)" : "\(name) (it is \(test.classNames[truth[i]]))", 28)
      }
      print("  \(captions[0])    \(captions[1])")
      print("")
    }
  }
}

/// Two rows of an image in one line of text: 28 × 28 grey values as 14 lines of 28 characters.
private func textPicture(_ pixels: [Float]) -> [String] {
  let shades = Array(" .:-=+*#%@")
  return (0..<14).map { row in
    String(
      (0..<28).map { column in
        let value = (pixels[row * 56 + column] + pixels[row * 56 + 28 + column]) / 2
        return shades[min(shades.count - 1, Int(value * Float(shades.count)))]
      })
  }
}

extension Tensor {
  fileprivate func rows(of index: Int) -> [Float] {
    let size = count / shape[0]
    return Array(floats[(index * size)..<((index + 1) * size)])
  }
}

/// One line on a terminal that is drawn again and again; one line at the end elsewhere.
struct TrainingProgress {
  let epoch, epochs, steps: Int
  private let started = Clock.seconds()
  private var drawn = 0.0
  private var step = 0
  private var images = 0
  // Kept as tensors between drawings.
  private var losses: Tensor?
  private var hits: Tensor?

  init(epoch: Int, of epochs: Int, steps: Int) {
    (self.epoch, self.epochs, self.steps) = (epoch, epochs, steps)
  }

  mutating func add(loss: Tensor, hits count: Tensor, images n: Int) {
    withoutGradient {
      losses = losses.map { $0 + loss.detached() } ?? loss.detached()
      hits = hits.map { $0 + count } ?? count
    }
    step += 1
    images += n
    let now = Clock.seconds()
    if ProcessUsage.isTerminal && (now - drawn > 0.1 || step == steps) {
      drawn = now
      print("\r\(line(bar: true))\u{1B}[K", terminator: "")
      flush()
    }
  }

  mutating func end() { print(ProcessUsage.isTerminal ? "\r\(line(bar: true))\u{1B}[K" : line(bar: false)) }

  private func line(bar: Bool) -> String {
    let seconds = max(Clock.seconds() - started, 1e-9)
    let rate = Double(images) / seconds
    let loss = Double(losses?.item() ?? 0) / Double(max(step, 1))
    let accuracy = Double(hits?.item(as: Int.self) ?? 0) / Double(max(images, 1))
    let left = seconds / Double(max(step, 1)) * Double(steps - step)
    let width = 24
    let full = steps == 0 ? width : step * width / steps
    let picture = bar ? " " + String(repeating: "━", count: full) + String(repeating: "╌", count: width - full) : ""
    let time = step < steps ? "\(decimals(left, 0)) s left" : "\(decimals(seconds, 1)) s"
    return
      "epoch \(epoch)/\(epochs)\(picture)  loss \(decimals(loss, 4))  accuracy \(decimals(accuracy * 100, 2)) %  \(grouped(Int(rate))) images/s  \(time)"
  }
}
