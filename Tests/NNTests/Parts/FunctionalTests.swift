import ApusNN
import ApusTensor
import Testing

/// Graphs of layers: `Input`, `Node`, `Model`.
@Suite struct FunctionalTests {
  /// The model of `make_parts.py`: two inputs, a shared layer, merges, two outputs.
  @Test(arguments: [ElementType.float64, .float32])
  func outputsAndGradientsAreThoseOfAKerasModel(_ type: ElementType) throws {
    let fixture = try PartsFixture("functional")
    let left = Input([4], type, name: "left"), right = Input([4], type, name: "right")
    let encoder = Linear(3)
    let a = Tanh()(encoder(left, name: "encoder"))
    let b = encoder(right).map { tanh($0) }
    let joined = concatenate([a, b])
    let score = Linear(2)(joined + joined, name: "score")
    let model = try Model(inputs: [left, right], outputs: [score, a - b])
    #expect(model.namedParameters.map(\.name) == ["encoder.weight", "encoder.bias", "score.weight", "score.bias"])
    #expect(model.parameters.allSatisfy { $0.elementType == type })
    try model.load(state: fixture.group("p."), convert: true)
    func run(_ inputs: [Tensor]) -> [Tensor] {
      let outputs = model(inputs)
      let loss = square(outputs[0]).mean() + abs(outputs[1]).mean()
      return outputs + [loss] + loss.gradients(for: model.parameters).values.compactMap { $0 }
    }
    let program = compile { (x: [Tensor]) -> [Tensor] in run(x) }
    let inputs = [try fixture("left", type), try fixture("right", type)]
    for results in [run(inputs), program(inputs)] {
      expectClose(results[0], try fixture("score", type), type, "score")
      expectClose(results[1], try fixture("distance", type), type, "distance")
      expectClose(results[2], try fixture("loss", type), type, "loss")
      for (i, (name, _)) in model.namedParameters.enumerated() {
        expectClose(results[3 + i], try fixture("g.\(name)", type), type, "gradient of \(name)")
      }
    }
    #expect(model.inputNames == ["left", "right"] && model.outputNames == ["score", "subtract"])
    let named = model(["right": inputs[1], "left": inputs[0]])
    #expect(named.keys.sorted() == ["score", "subtract"])
    expectClose(try #require(named["score"]), try fixture("score", type), type, "by name")
  }

  @Test func shapesAreKnownWhileTheGraphIsWritten() throws {
    let image = Input([1, 28, 28])
    let features = MaxPool2d(2)(relu(Conv2d(8, kernelSize: 3)(image)))
    #expect(features.shape == [1, 8, 13, 13])
    let words = Input([5], .int64)
    let vectors = Embedding(10, 4)(words)
    #expect(vectors.shape == [1, 5, 4] && vectors.elementType == .float32)
    let lstm = Node.applyMany(LSTM(4, 6, batchFirst: true), to: [vectors]) { lstm, x in
      let (y, state) = lstm(x[0])
      return [y, state.hidden]
    }
    #expect(lstm.map(\.shape) == [[1, 5, 6], [1, 1, 6]])
    let attention = Node.apply(MultiheadAttention(6, 2, batchFirst: true), to: [lstm[0], lstm[0]], name: "mix") {
      $0($1[0], $1[1], $1[1])
    }
    let last = Node.apply(to: [attention], name: "last") { $0[0][0..., -1] }
    let model = try Model(inputs: [image, words], outputs: [Linear(3)(concatenate([Flatten()(features), last]))])
    #expect(
      model.namedModules.map(\.name) == [
        "", "conv2d", "max_pool2d", "flatten", "embedding", "lstm", "mix", "mix.out_proj", "linear",
      ])
    let x = Tensor.randn([4, 1, 28, 28], generator: Generator(seed: 1)),
      w = Tensor.integers(0..<10, [4, 5], generator: Generator(seed: 2))
    let y = model(x, w)
    #expect(y.shape == [4, 3])
    // Every parameter is reached, also as one compiled step with an optimizer.
    let gradients = y.sum().gradients(for: model.parameters)
    #expect(gradients.values.allSatisfy { $0 != nil })
    let optimizer = Adam(model.parameters)
    let step = compile { (x: Tensor, w: Tensor) -> Tensor in
      let loss = square(model(x, w)).mean()
      optimizer.step(minimizing: loss)
      return loss
    }
    let first = step(x, w).item()
    for _ in 0..<10 { _ = step(x, w) }
    #expect(step(x, w).item() < first && step.report.traces.count == 1)
  }

  @Test func modelsNestSaveAndLoad() throws {
    func make(_ seed: UInt64) throws -> Model {
      let x = Input([4])
      let inner = try Model(inputs: [x], outputs: [Tanh()(Linear(4, 3, generator: Generator(seed: seed))(x))])
      let y = Input([4], name: "y"), z = Input([4], name: "z")
      let both = try Model(inputs: [y, z], outputs: [inner(y, name: "inner") * inner(z)])
      let a = Input([4])
      let outer = both([a, Dropout(0.5)(a)], name: "both")[0]
      return try Model(inputs: [a], outputs: [Sequential([Linear(3, 2, generator: Generator(seed: seed)), ReLU()])(outer)])
    }
    let model = try make(1), other = try make(2)
    let names = ["both.inner.linear.weight", "both.inner.linear.bias", "sequential.0.weight", "sequential.0.bias"]
    #expect(model.namedParameters.map(\.name) == names)
    let x = Tensor.randn([3, 4], generator: Generator(seed: 3))
    model.eval()
    other.eval()
    #expect(model(x).floats != other(x).floats)
    try withTemporaryFolder { folder in
      try model.save(folder + "/m.safetensors")
      try other.load(folder + "/m.safetensors")
    }
    #expect(model(x).floats == other(x).floats)
    // As a layer among layers, too.
    #expect(Sequential([Identity(), model])(x).floats == model(x).floats)
    model.train()
    #expect(model.modules.allSatisfy { $0.isTraining })
  }

  @Test func summaryShowsConnections() throws {
    let left = Input([4], name: "left"), right = Input([4], name: "right")
    let encoder = Linear(3)
    let joined = concatenate([encoder(left, name: "encoder"), encoder(right)])
    let block = Sequential([Linear(6, 6), ReLU()])
    let model = try Model(inputs: [left, right], outputs: [Linear(1)(block(joined, name: "block") + joined, name: "score")])
    model.summary().rows.first { $0.name == "encoder" }.map {
      #expect($0.connectedTo == ["left", "right"] && $0.parameterCount == 15)
    }
    let rows = model.summary().rows
    #expect(rows.map(\.name) == ["left", "right", "encoder", "concatenate", "block", "block.0", "block.1", "add", "score"])
    #expect(
      rows.map(\.connectedTo) == [
        [], [], ["left", "right"], ["encoder", "encoder"], ["concatenate"], [], [], ["block", "concatenate"], ["add"],
      ])
    #expect(rows.map { $0.output ?? [] } == [[1, 4], [1, 4], [1, 3], [1, 6], [1, 6], [1, 6], [1, 6], [1, 6], [1, 1]])
    let text = model.summary().description
    #expect(text.contains("connected to") && text.contains("left, right") && text.contains("64 parameters"), "\(text)")
  }

  @Test func mistakesInGraphsAreTypedErrors() throws {
    let a = Input([2], name: "a"), b = Input([2], name: "b")
    let h = Linear(2)(a, name: "h")
    #expect(throws: ModelError.duplicateName("h")) { try Model(inputs: [a], outputs: [Linear(2)(h, name: "h")]) }
    #expect(throws: ModelError.duplicateName("a")) { try Model(inputs: [a], outputs: [ReLU()(h, name: "a")]) }
    #expect(throws: ModelError.duplicateName("a")) { try Model(inputs: [a, Input([2], name: "a")], outputs: [h]) }
    #expect(throws: ModelError.invalidName("x.y")) { try Model(inputs: [a], outputs: [ReLU()(h, name: "x.y")]) }
    #expect(throws: ModelError.missingInput("b", neededBy: "add")) { try Model(inputs: [a], outputs: [h + b]) }
    #expect(throws: ModelError.missingInput("b", neededBy: "an output")) { try Model(inputs: [a], outputs: [h, b]) }
    #expect(throws: ModelError.unusedInput("b")) { try Model(inputs: [a, b], outputs: [h]) }
    #expect(throws: ModelError.repeatedInput("a")) { try Model(inputs: [a, a], outputs: [h]) }
    #expect(throws: ModelError.noOutputs) { try Model(inputs: [a], outputs: []) }
    #expect(throws: ModelError.noInputs) { try Model(inputs: [], outputs: [h]) }
    #expect(ModelError.duplicateName("h").description == "two parts of the model are named \"h\"; names must differ")
    // The same layer under its name again, or unnamed ones of a kind, are no mistake.
    let shared = Linear(2)
    let twice = shared(shared(a, name: "s"), name: "s")
    let model = try Model(inputs: [a], outputs: [ReLU()(ReLU()(twice)), a])
    #expect(model.namedModules.map(\.name) == ["", "s", "re_lu", "re_lu_1"])
    #expect(model([Tensor.ones([1, 2])])[1].floats == [1, 1])
  }

  @Test func mergingLayersAreNodes() throws {
    let a = Input([3], name: "a"), b = Input([3], name: "b")
    let both = Concatenate()(a, b)
    let all = Add()([Multiply()(a, b), Subtract()(a, b), Average()(a, b, name: "mean"), Maximum()(a, b), Minimum()(a, b)])
    #expect(both.shape == [1, 6] && Dot(axes: 1)(a, b).shape == [1, 1])
    let model = try Model(inputs: [a, b], outputs: ["both": both, "all": all])
    let x = Tensor([[1, 2, 3]]), y = Tensor([[4, 5, -6]])
    let results = model(["a": x, "b": y])
    #expect(results["both"]?.floats == [1, 2, 3, 4, 5, -6])
    #expect(results["all"]?.floats == (x * y + (x - y) + (x + y) / 2 + (x + y)).floats)
    #expect(model.namedModules.map(\.name).contains("mean"))
  }

  @Test func deepGraphsNeedNoStack() throws {
    let x = Input([1])
    var node: Node = x
    for _ in 0..<3000 { node = node + 1 }
    #expect(try Model(inputs: [x], outputs: [node])(Tensor.zeros([1, 1])).item() == 3000)
  }

  @Test func wrongInputsAreNamed() async {
    func expect(_ result: ExitTest.Result?, says text: String) {
      let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
      #expect(printed.contains(text), "\(printed)")
    }
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let x = Input([2, 3], name: "x")
        _ = try Model(inputs: [x], outputs: [Flatten()(x)])(Tensor.zeros([2, 3]))
      }, says: "the input \"x\" has shape [2, 3], expected [batch, 2, 3]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let x = Input([3], name: "x")
        _ = try Model(inputs: [x], outputs: [x + 1])(["y": Tensor.zeros([2, 3])])
      }, says: "there is no input \"y\"; there are x")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { _ = Linear(3, 4)(Input([2])) },
      says: "Linear(3, 4): the input of shape [1, 2] has 2 features, expected 3")
  }
}
