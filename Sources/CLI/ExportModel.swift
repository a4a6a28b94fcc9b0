import Apus
import ArgumentParser

struct ExportModel: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Write a known model as an artifact that `apus run` and `load` read.",
    discussion: "Without --weights they are random, as at the beginning of training. Models: \(ModelCatalog.names).")

  @Argument(help: "The model's name.")
  var name: String

  @Option(help: "Where the artifact goes: a folder, usually NAME.apus.")
  var to: String

  @Option(help: "A safetensors file with the model's weights.")
  var weights: String?

  @Option(help: "Decides random weights.")
  var seed: UInt64 = 0

  func validate() throws {
    if ModelCatalog.models[name] == nil {
      let near =
        nearName(name, in: ModelCatalog.models.keys).map { "Did you mean '\($0)'?" } ?? "There are \(ModelCatalog.names)."
      throw ValidationError("There is no model '\(name)'. \(near)")
    }
  }

  func run() throws {
    guard let make = ModelCatalog.models[name] else { return }
    Apus.seed(seed)
    let (model, signatures) = make()
    if let weights { try model.load(weights) }
    try export(model, signatures: signatures, to: to)
    let program = try load(to)
    print("exported \(name) to \(to): \(byteSize(program.byteCount))")
    for (name, signature) in program.signatures.sorted(by: { $0.key < $1.key }) { print("  \(name)\(signature)") }
  }
}

/// Models that are exported by name.
enum ModelCatalog {
  typealias Model = (model: Module, signatures: KeyValuePairs<String, Exported>)

  static var names: String { models.keys.sorted().joined(separator: ", ") }

  static let models: [String: @Sendable () -> Model] = [
    "resnet18": { image(ResNet18(), [3, 224, 224]) },
    "fashion": { image(FashionNet(), [1, 28, 28]) },
    "lenet": { image(lenet(), [1, 28, 28]) },
    "bert-base": {
      let model = BERT(.base)
      let ids: TensorSpec = .int64(["batch", .open("sequence", 1...512)])
      return (
        model,
        [
          "serve": Exported(inputs: ["ids": ids]) { ["states": model($0["ids"]!)] },
          "pair": Exported(inputs: ["ids": ids, "segments": ids]) { ["states": model($0["ids"]!, segments: $0["segments"]!)] },
        ]
      )
    },
    "gpt2-small": {
      let model = GPT2(.small)
      let ids: TensorSpec = .int64(["batch", .open("sequence", 1...1024)])
      return (model, ["serve": Exported(inputs: ["ids": ids]) { ["logits": model($0["ids"]!)] }])
    },
    "lstm-classifier": {
      let model = LSTMClassifier()
      return (model, ["serve": Exported(inputs: ["ids": .int64(["batch", 100])]) { ["logits": model($0["ids"]!)] }])
    },
  ]

  private static func image(_ model: some Layer, _ sizes: [Int]) -> Model {
    let image: TensorSpec = .float32(["batch"] + sizes.map { .fixed($0) })
    return (model, ["serve": Exported(inputs: ["image": image]) { ["logits": model($0["image"]!)] }])
  }

  /// LeNet-5 with ReLU and average pooling (LeCun et al. 1998), that of `apus bench lenet_train`.
  private static func lenet() -> Sequential {
    Sequential(
      Conv2d(1, 6, kernelSize: 5, padding: 2), ReLU(), AvgPool2d(2), Conv2d(6, 16, kernelSize: 5), ReLU(), AvgPool2d(2),
      Flatten(), Linear(400, 120), ReLU(), Linear(120, 84), ReLU(), Linear(84, 10))
  }
}
