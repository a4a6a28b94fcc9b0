import ApusFormats
import ApusNN
import ApusTensor
import Foundation
import Testing

/// The models of `Fixtures/make_fixtures.py`, as one writes them here.
final class Block: Module, Layer {
  let conv: Conv2d
  let bn: BatchNorm2d

  init(_ n: Int) {
    conv = Conv2d(n, n, kernelSize: 3, padding: 1, bias: false)
    bn = BatchNorm2d(n)
  }

  func callAsFunction(_ x: Tensor) -> Tensor { x + relu(bn(conv(x))) }
}

final class Small: Module, Layer {
  let stem = Sequential {
    Conv2d(1, 4, kernelSize: 3); BatchNorm2d(4); ReLU()
  }
  let layers = [Block(4), Block(4)]
  let classHead = Linear(4, 3)
  // Declared after the modules, saved before them, as in PyTorch.
  let scaleFactor = Parameter(Tensor(elements: [1.5 as Float]))
  let runningShift = Variable(Tensor.zeros([3]))
  let note = "neither parameter nor module"
  let constant = Tensor.ones([2])

  func callAsFunction(_ x: Tensor) -> Tensor {
    var x = stem(x)
    for layer in layers { x = layer(x) }
    return classHead(x.mean(axes: [2, 3])) * scaleFactor.value + runningShift.value
  }
}

@Suite struct ModuleTests {
  @Test func namesAndTheirOrderAreThoseOfPyTorch() throws {
    let parts = try String(contentsOfFile: fixturePath("small.names.txt"), encoding: .utf8).split(separator: "---")
    func lines(_ i: Int) -> [String] { parts[i].split(separator: "\n").map(String.init) }
    let model = Small()
    #expect(model.namedVariables.map(\.name) == lines(0))
    #expect(model.namedParameters.map(\.name) == lines(1))
    // Asked for from outside, they carry the names themselves.
    #expect(model.variables.map(\.name) == lines(0))
    #expect(model.parameters.count == lines(1).count)
    #expect(
      model.namedModules.map(\.name) == [
        "", "stem", "stem.0", "stem.1", "stem.2", "layers.0", "layers.0.conv", "layers.0.bn", "layers.1", "layers.1.conv",
        "layers.1.bn", "class_head",
      ])
  }

  @Test func namesOfPropertiesBecomeSnakeCase() {
    final class Named: Module {
      let runningMean = Variable(Tensor(0.0)), conv1 = Variable(Tensor(0.0)), conv1BN = Variable(Tensor(0.0))
      let weightIHL0 = Variable(Tensor(0.0)), already_snake = Variable(Tensor(0.0)), QKVProj = Variable(Tensor(0.0))
      let layer2d = Variable(Tensor(0.0))
    }
    #expect(
      Named().namedVariables.map(\.name) == [
        "running_mean", "conv1", "conv1_bn", "weight_ihl0", "already_snake", "qkv_proj", "layer2d",
      ])
    final class Renamed: Module {
      let first = Linear(1, 1, bias: false)
      override func savedName(ofProperty property: String) -> String {
        property == "first" ? "fc_0" : super.savedName(ofProperty: property)
      }
    }
    #expect(Renamed().namedParameters.map(\.name) == ["fc_0.weight"])
  }

  @Test func partsAreFoundInEveryKindOfProperty() {
    class Base: Module { let base = Linear(1, 1, bias: false) }
    final class All: Base {
      let optional: Linear? = Linear(1, 1, bias: false)
      let none: Linear? = nil
      let list: [any Layer] = [ReLU(), Linear(1, 1, bias: false)]
      let nested = [[Linear(1, 1, bias: false)], []]
      let byName = ["b": Linear(1, 1, bias: false), "a": Linear(1, 1, bias: false)]
      let pair = (left: Linear(1, 1, bias: false), right: 3)
      let numbers = Array(repeating: 1.0, count: 1000)
      lazy var late = Linear(1, 1, bias: false)
      var itself: All?
      let weights = [Parameter(Tensor(1.0)), Parameter(Tensor(2.0))]
    }
    let model = All()
    model.itself = model
    #expect(
      model.namedParameters.map(\.name) == [
        "weights.0", "weights.1", "base.weight", "optional.weight", "list.1.weight", "nested.0.0.weight", "by_name.a.weight",
        "by_name.b.weight", "pair.left.weight",
      ])
    _ = model.late
    #expect(model.namedParameters.map(\.name).last == "late.weight")
  }

  @Test func sharedPartsCountOnceButHaveAllTheirNames() throws {
    final class Tied: Module {
      let encoder = Linear(3, 3)
      let decoder: Linear
      override init() {
        decoder = encoder
      }
    }
    let model = Tied()
    #expect(model.namedParameters.map(\.name) == ["encoder.weight", "encoder.bias"])
    #expect(model.state.keys.sorted() == ["decoder.bias", "decoder.weight", "encoder.bias", "encoder.weight"])
    #expect(model.modules.count == 2)
    // Any of the names is enough.
    let one = Tensor.ones([3, 3])
    try model.load(state: ["decoder.weight": one, "encoder.bias": Tensor.zeros([3])])
    #expect(model.encoder.weight.value.floats == one.floats)
  }

  @Test func modeReachesAllModules() {
    let model = Small()
    #expect(model.modules.allSatisfy { $0.isTraining })
    model.layers[0].eval()
    model.evaluating { #expect(!model.modules.contains { $0.isTraining }) }
    #expect(model.stem.isTraining && !model.layers[0].isTraining && !model.layers[0].bn.isTraining && model.layers[1].isTraining)
    model.eval()
    #expect(!model.modules.contains { $0.isTraining })
    model.train()
    #expect(model.modules.allSatisfy { $0.isTraining })
  }

  @Test func frozenModulesGetNoGradient() throws {
    let model = Small()
    model.stem.freeze()
    let y = model(Tensor.ones([2, 1, 6, 6])).sum()
    let gradients = y.gradients(for: model.parameters)
    for (name, parameter) in model.namedParameters {
      #expect((gradients[parameter] == nil) == name.hasPrefix("stem."), "\(name)")
      #expect(gradients[name] == nil || !name.hasPrefix("stem."))
    }
    #expect(gradients["class_head.weight"]?.shape == [3, 4])
    model.unfreeze()
    #expect(model(Tensor.ones([2, 1, 6, 6])).sum().gradients(for: model.parameters).values.allSatisfy { $0 != nil })
  }

  @Test func layersTakeTheirSizesFromTheirFirstInput() {
    func net() -> Sequential {
      Sequential {
        Conv2d(4, kernelSize: 3)
        BatchNorm2d()
        ReLU()
        if true { MaxPool2d(2) }
        Flatten()
        for width in [6, 5] {
          Linear(width, bias: false)
          LayerNorm()
        }
      }
    }
    let first = net()
    #expect(first.description.contains("(0): Conv2d(4, kernelSize: 3)"))
    #expect(first(Tensor.ones([2, 3, 8, 6])).shape == [2, 5])
    #expect(first.description.contains("(0): Conv2d(3, 4, kernelSize: 3)"))
    let second = net()
    second.build(input: [3, 8, 6], .float64)
    #expect(second[5].parameters[0].shape == [6, 4 * 3 * 2])
    #expect(second.parameters.allSatisfy { $0.elementType == .float64 })
    // Sizing is no training: running statistics are as new.
    #expect((second[1] as? BatchNorm2d)?.numBatchesTracked?.value.item(as: Int.self) == 0)
    #expect((second[1] as? BatchNorm2d)?.isTraining == true)
    #expect(Sequential(input: [4]) { Linear(2) }.parameters.map(\.shape) == [[2, 4], [2]])
    #expect(first.parameters.map(\.name) == second.parameters.map(\.name))
  }

  @Test func modulesPrintLikePyTorchs() {
    #expect(
      Block(4).description == """
        Block(
          (conv): Conv2d(4, 4, kernelSize: 3, padding: 1, bias: false)
          (bn): BatchNorm2d(4)
        )
        """)
    let text = Small().description
    #expect(text.contains("  (layers.1): Block(\n    (conv): Conv2d("))
    #expect(
      ConvTranspose1d(2, 3, kernelSize: 3, stride: 2, padding: 1, outputPadding: 1, groups: 1, dilation: 2).description
        == "ConvTranspose1d(2, 3, kernelSize: 3, stride: 2, padding: 1, outputPadding: 1, dilation: 2)")
  }

  @Test func summaryShowsShapesAndCounts() {
    let net = Sequential {
      Conv2d(1, 4, kernelSize: 3); ReLU(); MaxPool2d(2); Flatten(); Linear(4 * 13 * 13, 10)
    }
    #expect(
      net.summary(input: [1, 28, 28]).description == """
           type       output          parameters   bytes  multiply-adds
        ───────────────────────────────────────────────────────────────
        0  Conv2d     [1, 4, 26, 26]          40     160         24,336
        1  ReLU       [1, 4, 26, 26]
        2  MaxPool2d  [1, 4, 13, 13]
        3  Flatten    [1, 676]
        4  Linear     [1, 10]              6,770  27,080          6,760
        ───────────────────────────────────────────────────────────────
        6,810 parameters (all trainable), 27.2 kB, 31,096 multiply-adds
        """)
    let model = Small()
    model.stem.freeze()
    let summary = model.summary(input: [1, 6, 6])
    #expect(
      summary.description == """
                       type         output        parameters  bytes  multiply-adds
        ──────────────────────────────────────────────────────────────────────────────────
                       Small                               1     16
        stem           Sequential   [1, 4, 4, 4]
        stem.0         Conv2d       [1, 4, 4, 4]          40    160            576  frozen
        stem.1         BatchNorm2d  [1, 4, 4, 4]           8     72                 frozen
        stem.2         ReLU         [1, 4, 4, 4]
        layers.0.conv  Conv2d       [1, 4, 4, 4]         144    576          2,304
        layers.0.bn    BatchNorm2d  [1, 4, 4, 4]           8     72
        layers.1.conv  Conv2d       [1, 4, 4, 4]         144    576          2,304
        layers.1.bn    BatchNorm2d  [1, 4, 4, 4]           8     72
        class_head     Linear       [1, 3]                15     60             12
        ──────────────────────────────────────────────────────────────────────────────────
        368 parameters (320 trainable, 48 not), 1.6 kB, 5,196 multiply-adds
        """)
    #expect(summary.parameterCount == model.parameters.reduce(0) { $0 + $1.shape.elementCount })
    #expect(summary.byteCount == model.variables.reduce(0) { $0 + $1.shape.elementCount * $1.elementType.byteSize })
  }

  @Test func manyTasksTrainModelsOfTheirOwn() async {
    func train(_ seed: UInt64) -> [Float] {
      let generator = Generator(seed: seed)
      let model = Sequential {
        Linear(8, 16, generator: generator)
        BatchNorm1d(16)
        ReLU()
        Dropout(0.2, generator: generator)
        Linear(16, 4, generator: generator)
      }
      let optimizer = Adam(model.parameters)
      for _ in 0..<20 {
        let x = Tensor.randn([32, 8], generator: generator)
        optimizer.step(minimizing: crossEntropy(model(x), Tensor.integers(0..<4, [32], generator: generator)))
        _ = model.summary()
      }
      return model.parameters.flatMap { $0.value.floats }
    }
    let alone = (0..<8).map { train($0) }
    let together = await withTaskGroup(of: (Int, [Float]).self) { group in
      for i in 0..<8 { group.addTask { (i, train(UInt64(i))) } }
      return await group.reduce(into: [Int: [Float]]()) { $0[$1.0] = $1.1 }
    }
    for i in 0..<8 { #expect(together[i] == alone[i]) }
  }
}
