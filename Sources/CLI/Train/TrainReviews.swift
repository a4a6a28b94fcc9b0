import Apus
import ApusFormats
import ApusTensor
import ArgumentParser

struct TrainReviews: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reviews",
    abstract: "Is a movie review good or bad? Learned from 10,605 rated sentences.",
    discussion: """
      Reads the sentences, learns a vocabulary from four fifths of them, trains an embedding with an LSTM or a convolution, evaluates on \
      the last fifth, exports the model with its vocabulary, and shows what it says of a few sentences.

      With --checkpoints a run that was interrupted, or killed, goes on where it was and ends in the same bits.
      """)

  @Option(help: "The model: \(ReviewModel.allCases.map(\.rawValue).joined(separator: " or ")).")
  var model = ReviewModel.lstm

  @Option(help: "Passes over the training sentences.")
  var epochs = 5

  @Option(help: "Sentences in a step.")
  var batchSize = 64

  @Option(help: "Adam's learning rate.")
  var learningRate = 1e-3

  @Option(help: "Decides the first weights, the order of the sentences, and dropout.")
  var seed: UInt64 = 1

  @Option(help: "Words that are known, padding and unknown ones included.")
  var vocabulary = 10_000

  @Option(help: "Words of a sentence that are read.")
  var length = 40

  @Option(help: "Numbers for each word.")
  var embedding = 64

  @Option(help: "The LSTM's state, or the convolution's features.")
  var hidden = 64

  @Option(help: "The share of features that is dropped in training.")
  var dropout = 0.5

  @Option(help: "A folder with movieReviewSnippets_GroundTruth.txt.")
  var data: String?

  @Option(help: "A folder for checkpoints: one after each epoch, from which a run goes on.")
  var checkpoints: String?

  @Option(help: "Where the exported model goes, with its vocabulary.json inside; it takes token ids with the padding in front.")
  var artifact: String?

  @Option(help: "Writes the token ids and labels to this .npz file and ends: what other frameworks train with.")
  var dumpTokens: String?

  @Flag(help: "One line of JSON at the end and nothing else; nothing is exported.")
  var json = false

  func validate() throws {
    for (name, value, least) in [
      ("epochs", epochs, 1), ("batch-size", batchSize, 1), ("vocabulary", vocabulary, 3), ("length", length, 5),
      ("embedding", embedding, 1), ("hidden", hidden, 1),
    ] where value < least || value > 1 << 20 {
      throw ValidationError("--\(name) \(value) is not within \(least) and \(1 << 20).")
    }
    if !(learningRate > 0 && learningRate < 1) { throw ValidationError("--learning-rate \(learningRate) is not within 0 and 1.") }
    if !(0..<1).contains(dropout) { throw ValidationError("--dropout \(dropout) is not within 0 and 1.") }
  }

  func run() async throws {
    let begin = Clock.seconds()
    let reviews = try await MovieReviews.load(folder: data)
    // The split is the same for all seeds, so that runs can be compared.
    let (train, test) = reviews.split(test: 0.2)
    var vectorize = TextVectorization(maxTokens: vocabulary, outputSequenceLength: length)
    vectorize.adapt(train.texts)
    let trainIDs = paddedInFront(vectorize(train.texts))
    let testIDs = paddedInFront(vectorize(test.texts))
    if let dumpTokens {
      try NPZFile.write(["x_train": trainIDs, "y_train": train.labels, "x_test": testIDs, "y_test": test.labels], to: dumpTokens)
      print(
        "\(dumpTokens): \(train.count) + \(test.count) sentences of \(length) tokens, a vocabulary of \(vectorize.vocabularySize)"
      )
      return
    }

    Apus.seed(seed)
    let network = model.make(vocabulary: vectorize.vocabularySize, embedding: embedding, hidden: hidden, dropout: dropout)
    // Keras's epsilon, which the peers are given too.
    let optimizer = Adam(network.parameters, learningRate: learningRate, epsilon: 1e-7)
    let trainer = Trainer(
      network, optimizer: optimizer, loss: { binaryCrossEntropyWithLogits($0, $1) },
      metrics: [BinaryAccuracy(threshold: 0, name: "accuracy")])
    let loader = DataLoader(TensorDataset(trainIDs, train.labels), batchSize: batchSize, shuffle: true, seed: seed)
    let testData = TensorDataset(testIDs, test.labels)
    let times = EpochTimes()
    var callbacks: [Callback] = [times]
    if let checkpoints { callbacks.append(BackupAndRestore(checkpoints, deleteCheckpoint: false)) }
    if !json {
      print("movie reviews: \(grouped(train.count)) sentences to train with, \(grouped(test.count)) to test")
      let parameters = network.parameters.reduce(0) { $0 + $1.shape.elementCount }
      print("\(model.rawValue): \(grouped(parameters)) parameters, a vocabulary of \(grouped(vectorize.vocabularySize)) words")
    }
    Interruption.install()
    do {
      try await trainer.fit(
        loader, epochs: epochs, validation: json ? nil : testData, callbacks: callbacks, validationBatchSize: 512,
        verbose: json ? .silent : .automatic)
    } catch is CancellationError {
      let next =
        checkpoints.map { "the same command goes on from the checkpoint in \($0)" } ?? "with --checkpoints it could go on"
      trainer.warn("interrupted; \(next)")
      throw ExitCode(130)
    }
    let accuracy = try await trainer.evaluate(testData, batchSize: 512)["accuracy"] ?? .nan

    if json { return print(line(times.seconds, accuracy, all: Clock.seconds() - begin)) }
    try show(network, vectorize, test)
    let path = artifact ?? "reviews-\(model.rawValue).apus"
    try export(network, input: ["tokens": .int64(["batch", .fixed(length)])], to: path)
    try vectorize.save(path + "/vocabulary.json")
    print("exported \(path)")
    print("test accuracy \(decimals(accuracy * 100, 2)) %")
    print("trained in \(decimals(times.seconds.reduce(0, +), 1)) s, all in \(decimals(Clock.seconds() - begin, 1)) s")
  }

  /// With the padding before the words: [0, 0, 7, 3] for [7, 3, 0, 0].
  private func paddedInFront(_ ids: Tensor) -> Tensor {
    withoutGradient {
      let words = (ids .!= 0).converted(to: .int64).sum(axis: 1, keepDims: true)
      // What reaches over the end of a row begins again at its front.
      return ids.gather(axis: 1, indices: (Tensor.arange(length) + words) % length)
    }
  }

  private func show(_ network: any Layer, _ vectorize: TextVectorization, _ test: MovieReviews) throws {
    let chosen = Array(test.reviews.filter { $0.text.count <= 80 }.prefix(3))
    let own = ["An enchanting film with wonderful performances.", "A dull, lifeless mess that never ends."]
    let texts = chosen.map(\.text) + own
    let probabilities = network.evaluating { sigmoid(network(paddedInFront(vectorize(texts)))) }.elements(as: Double.self)
    print("")
    for (i, text) in texts.enumerated() {
      let people = i < chosen.count ? ", people said \(decimals(chosen[i].rating, 1)) of -4 … 4" : ""
      print("  \(decimals(probabilities[i] * 100, 0)) % good\(people): \(text)")
    }
    print("")
  }

  private func line(_ epochs: [Double], _ accuracy: Double, all: Double) -> String {
    let fields: JSONObject = [
      "framework": .string("apus"), "model": .string(model.rawValue), "seed": .integer(Int(clamping: seed)),
      "epoch_seconds": .array(epochs.map { .number($0) }), "train_seconds": .number(epochs.reduce(0, +)),
      "total_seconds": .number(all), "peak_mb": .number(ProcessUsage.peakMemoryMB()), "test_accuracy": .number(accuracy),
    ]
    return JSONValue.object(fields).printed()
  }
}

/// The seconds of each epoch's training, without validation.
private final class EpochTimes: Callback {
  private(set) var seconds: [Double] = []
  private var started = 0.0
  private var ended = 0.0

  override func onEpochBegin(_ epoch: Int) { started = Clock.seconds() }
  override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) { ended = Clock.seconds() }
  override func onEpochEnd(_ epoch: Int, logs: inout Logs) { seconds.append(ended - started) }
}
