import ApusNN
import ApusTensor
import Testing

@Suite struct HookTests {
  @Test func forwardHooksSeeAndChangeInputsAndOutputs() {
    final class Doubling: Module, Layer {
      func callAsFunction(_ x: Tensor) -> Tensor { x * 2 }
    }
    let own = Doubling()
    let net = Sequential([Linear(3, 3, bias: false), own])
    let layer = net[0] as? Linear
    layer?.weight.initialize(.identity())
    let x = Tensor([1, 2, 3]).reshaped(1, 3)
    var seen: [String] = []
    let handles = [
      net[0].registerForwardPreHook { module, input in
        seen.append("into \(type(of: module)) \(input.floats)")
        return nil
      },
      net[0].registerForwardHook { _, output in
        seen.append("out \(output.floats)")
        return output + 1
      },
      own.registerForwardPreHook { _, input in input * 10 }, own.registerForwardHook { _, output in output - 1 },
    ]
    // In a container each runs once, whether the layer's code knows of hooks or not.
    #expect(net(x).floats == [39, 59, 79])
    #expect(seen == ["into Linear [1.0, 2.0, 3.0]", "out [1.0, 2.0, 3.0]"])
    #expect(layer?(x).floats == [2, 3, 4])
    #expect(seen.count == 4)
    #expect(own(x).floats == [2, 4, 6])
    #expect(own.invoked(x).floats == [19, 39, 59])
    handles[1].remove()
    handles[2].remove()
    handles[2].remove()
    #expect(net(x).floats == [1, 3, 5])
    for handle in handles { handle.remove() }
    #expect(net(x).floats == [2, 4, 6])
  }

  @Test func hooksAreTracedIntoPrograms() {
    let layer = Linear(2, 2, bias: false)
    layer.weight.initialize(.identity())
    layer.registerForwardHook { _, output in output * 3 }
    let program = compile { (x: Tensor) -> Tensor in layer(x) }
    #expect(program(Tensor([[1, 2]])).floats == [3, 6])
  }

  @Test func gradientHooksChangeGradients() throws {
    let layer = Linear(2, 1, bias: false)
    layer.weight.initialize(.constant(2))
    let input = Parameter(Tensor([[3, 4]]))
    func gradients() -> Gradients { layer(input.value).sum().gradients(for: [input, layer.weight]) }
    #expect(gradients()[input]?.floats == [2, 2] && gradients()[layer.weight]?.floats == [3, 4])
    let backward = layer.registerFullBackwardHook { _, gradient in gradient * 10 }
    #expect(gradients()[input]?.floats == [20, 20] && gradients()[layer.weight]?.floats == [3, 4])
    backward.remove()
    let before = layer.registerFullBackwardPreHook { _, gradient in gradient * 100 }
    #expect(gradients()[input]?.floats == [200, 200] && gradients()[layer.weight]?.floats == [300, 400])
    before.remove()
    // On a parameter: it is called with the whole gradient.
    let twice = Parameter(Tensor([1, 2]))
    var calls: [[Float]] = []
    let handle = twice.registerHook { gradient in
      calls.append(gradient.floats)
      return gradient.clamped(-3, 3)
    }
    let loss = (twice.value * 2 + twice.value * twice.value).sum()
    #expect(loss.gradients(for: [twice])[twice]?.floats == [3, 3])
    #expect(calls == [[4, 6]])
    let optimizer = SGD([twice], learningRate: 1)
    optimizer.step(minimizing: (twice.value * 5).sum())
    #expect(twice.value.floats == [-2, -1])
    handle.remove()
    #expect((twice.value * 5).sum().gradients(for: [twice])[twice]?.floats == [5, 5])
    // On a tensor on its way.
    let y = (twice.value * 3).withGradientHook { $0 * 7 }
    #expect(y.sum().gradients(for: [twice])[twice]?.floats == [21, 21])
    let compiled = compile { (x: Tensor) -> Tensor in
      let y = (twice.value * x).withGradientHook { $0 * 7 }
      return y.sum().gradients(for: [twice])[twice] ?? x
    }
    #expect(compiled(Tensor([3, 3])).floats == [21, 21])
  }
}

/// A layer that is written without its input's size, and the shape of a sample.
private struct Lazy {
  let name: String
  let input: Shape
  let make: () -> any Layer

  init(_ name: String, _ input: Shape, _ make: @escaping () -> any Layer) {
    (self.name, self.input, self.make) = (name, input, make)
  }
}

@Suite struct ModuleListTests {
  @Test func listsNameTheirPartsAsPyTorch() throws {
    final class Net: Module {
      let layers = ModuleList([Linear(2, 2, bias: false), Linear(2, 2, bias: false)])
      let kinds = ModuleList<any Layer>([ReLU(), Linear(2, 1, bias: false)])
      let heads = ModuleDict(["b": Linear(2, 1, bias: false), "a": Linear(2, 1, bias: false)])
      let scales = ParameterList([Parameter(Tensor(1.0)), Parameter(Tensor(2.0))])
      let named = ParameterDict(["y": Parameter(Tensor(3.0)), "x": Parameter(Tensor(4.0))])

      func callAsFunction(_ x: Tensor) -> Tensor {
        var x = x
        for layer in layers { x = layer(x) }
        for layer in kinds { x = layer(x) }
        return x * scales[1].value
      }
    }
    let net = Net()
    #expect(
      net.namedParameters.map(\.name) == [
        "layers.0.weight", "layers.1.weight", "kinds.1.weight", "heads.b.weight", "heads.a.weight", "scales.0", "scales.1",
        "named.y",
        "named.x",
      ])
    #expect(net(Tensor.ones([1, 2])).shape == [1, 1])
    net.layers.append(Linear(2, 2, bias: false))
    net.layers.insert(Linear(2, 2), at: 0)
    #expect(net.layers.count == 4 && net.layers.remove(at: 0).bias != nil)
    #expect(net.layers.map { $0.inFeatures } == [2, 2, 2])
    net.heads["a"] = nil
    net.heads["c"] = Linear(2, 4)
    #expect(net.heads.keys == ["b", "c"] && net.heads["a"] == nil && net.heads["c"]?.outFeatures == 4)
    net.named["z"] = Parameter(Tensor(5.0))
    net.scales.append(Parameter(Tensor(6.0)))
    #expect(net.named.count == 3 && net.scales.count == 3 && net.scales.last?.value.item() == 6)
    #expect(net.named.values.map { $0.value.item() } == [3, 4, 5])
    let other = Net()
    #expect(throws: (any Error).self) { try other.load(state: net.state) }
  }

  @Test func keysThatCannotBeNamesAreRefused() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = ModuleDict(["a.b": Linear(1, 1)])
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("the key \"a.b\" must not be empty nor have a point"), "\(text)")
  }

  @Test func freezingByName() {
    let net = Sequential(Linear(2, 2), Sequential(Linear(2, 2), Linear(2, 2)))
    net.freeze { $0.hasSuffix("bias") }
    #expect(net.parameters.map(\.isTrainable) == [true, false, true, false, true, false])
    // Nested: a part's part.
    (net[1] as? Sequential)?[0].freeze()
    #expect(net.parameters.map(\.isTrainable) == [true, false, false, false, true, false])
    net.unfreeze { $0.hasPrefix("1.") }
    #expect(net.parameters.map(\.isTrainable) == [true, false, true, true, true, true])
    let gradients = net(Tensor.ones([1, 2])).sum().gradients(for: net.parameters)
    #expect(gradients.values.map { $0 != nil } == [true, false, true, true, true, true])
  }

  /// Every layer kind that is written without an input size gets it in a Sequential, eagerly, compiled and in a graph.
  @Test func lazyLayersTakeTheirSizesAnywhere() throws {
    let kinds = [
      Lazy("Linear", [3]) { Linear(2) },
      Lazy("Conv1d", [3, 8]) { Conv1d(2, kernelSize: 3) },
      Lazy("Conv2d", [3, 8, 8]) { Conv2d(2, kernelSize: 3) },
      Lazy("Conv3d", [3, 4, 4, 4]) { Conv3d(2, kernelSize: 3) },
      Lazy("ConvTranspose1d", [3, 4]) { ConvTranspose1d(2, kernelSize: 2) },
      Lazy("ConvTranspose2d", [3, 4, 4]) { ConvTranspose2d(2, kernelSize: 2) },
      Lazy("ConvTranspose3d", [3, 2, 2, 2]) { ConvTranspose3d(2, kernelSize: 2) },
      Lazy("BatchNorm1d", [3]) { BatchNorm1d() },
      Lazy("BatchNorm2d", [3, 4, 4]) { BatchNorm2d() },
      Lazy("BatchNorm3d", [3, 2, 2, 2]) { BatchNorm3d() },
      Lazy("LayerNorm", [3]) { LayerNorm() },
      Lazy("RMSNorm", [3]) { RMSNorm() },
      Lazy("GroupNorm", [4, 3]) { GroupNorm(2) },
      Lazy("PReLU", [3, 4]) { PReLU(sharedAxes: [2]) },
    ]
    for kind in kinds {
      let (name, input, make) = (kind.name, kind.input, kind.make)
      let eager = Sequential([make()]), compiled = Sequential([make()])
      let x = Tensor.ones(Shape([2] + Array(input)), .float64)
      let shape = eager(x).shape
      let program = compile { (x: Tensor) -> Tensor in compiled(x) }
      #expect(program(x).shape == shape, "\(name)")
      let entrance = Input(input, .float64)
      let layer = make()
      let output = layer(entrance)
      let model = try Model(inputs: [entrance], outputs: [output])
      #expect(model(x).shape == shape, "\(name)")
      #expect(eager.parameters.map(\.type) == model.parameters.map(\.type), "\(name)")
      #expect(eager.parameters.map(\.type) == compiled.parameters.map(\.type), "\(name)")
      #expect(eager.parameters.allSatisfy { $0.elementType == .float64 }, "\(name)")
    }
  }

  /// RNN, LSTM and GRU, too; they give more than one tensor.
  @Test func recurrentLayersTakeTheirSizes() throws {
    let x = Tensor.randn([5, 2, 3], .float64, generator: Generator(seed: 1))
    let lstm = LSTM(4, layers: 2, bidirectional: true, generator: Generator(seed: 2))
    #expect(lstm.description == "LSTM(4, layers: 2, bidirectional: true)")
    let program = compile { (x: Tensor) -> Tensor in lstm(x).output }
    let y = program(x)
    let known = LSTM(3, 4, layers: 2, bidirectional: true, elementType: .float64, generator: Generator(seed: 2))
    #expect(y.elements(as: Double.self) == known(x).output.elements(as: Double.self))
    #expect(lstm.inputSize == 3 && lstm.description == known.description)
    #expect(lstm.namedParameters.map(\.name) == known.namedParameters.map(\.name))
    #expect(GRU(4)(x).output.shape == [5, 2, 4] && RNN(4, nonlinearity: .relu)(x).output.shape == [5, 2, 4])
    let entrance = Input([7, 3])
    let states = Node.applyMany(GRU(4, batchFirst: true), to: [entrance]) { gru, x in
      let (y, h) = gru(x[0])
      return [y, h]
    }
    #expect(states.map(\.shape) == [[1, 7, 4], [1, 1, 4]])
  }
}
