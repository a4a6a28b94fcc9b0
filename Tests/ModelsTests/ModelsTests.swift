import ApusFormats
import ApusModels
import ApusNN
import ApusTensor
import Foundation
import Testing

/// The models with small sizes against PyTorch, in float64: see `Fixtures/make_models.py`.
@Suite struct ModelsTests {
  private static let fixture: [String: Tensor]? = {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    return try? loadTensors(from: folder.appendingPathComponent("Fixtures/models.safetensors").path)
  }()

  private func expected(_ key: String) throws -> Tensor {
    let values = try #require(Self.fixture)
    return try #require(values[key], "no value \(key)")
  }

  /// Numbers in −1 ..< 1 that look random, from their indices: as the fixtures' script makes them.
  private func filled(_ number: Int, _ shape: Shape) -> Tensor {
    let values = (0..<shape.elementCount).map { j -> Double in
      var h = UInt32(truncatingIfNeeded: (j + 1) * 2_654_435_761 + number * 40_503)
      h = (h ^ (h >> 15)) &* 2_246_822_519
      return Double(h ^ (h >> 13)) / 0x1p31 - 1
    }
    return Tensor(values, shape: shape)
  }

  private func ids(_ number: Int, _ high: Int, _ shape: Shape) -> Tensor {
    ((filled(number, shape) + 1) / 2 * Double(high)).converted(to: .int64)
  }

  private func initialize(_ model: Module) {
    for (i, (name, parameter)) in model.namedParameters.enumerated() {
      let shape = parameter.shape
      let values = filled(i, shape)
      if shape.count > 1 {
        parameter.value = values * (3 / Double(shape.dropFirst().reduce(1, *))).squareRoot()
      } else {
        parameter.value = values * 0.2 + (name.hasSuffix("weight") ? 1 : 0)
      }
    }
  }

  /// Within this share of the largest expected value: sums in another order.
  private func expectClose(
    _ actual: Tensor, _ key: String, tolerance: Double = 1e-11, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let expected = try expected(key)
    #expect(actual.shape == expected.shape, "\(key): shape", sourceLocation: sourceLocation)
    guard actual.shape == expected.shape else { return }
    let (a, b) = (actual.elements(as: Double.self), expected.elements(as: Double.self))
    let bound = tolerance * max(b.map(abs).max() ?? 0, 1e-3)
    for (x, y) in zip(a, b) where !(abs(x - y) <= bound) {
      Issue.record("\(key): \(x), expected \(y) within \(bound)", sourceLocation: sourceLocation)
      return
    }
  }

  /// Output, loss, of every gradient two numbers, and the running statistics.
  private func check(_ name: String, _ model: Module, _ y: Tensor, _ loss: Tensor) throws {
    try expectClose(y, "\(name)/y")
    try expectClose(loss, "\(name)/loss")
    let gradients = loss.gradients(for: model.parameters)
    let parameters = model.namedParameters
    for (i, (key, parameter)) in parameters.enumerated() {
      let gradient = try #require(gradients[parameter], "no gradient of \(key)")
      let numbers = stack([(gradient * filled(1000 + i, gradient.shape)).sum(), sqrt(square(gradient).sum())])
      try expectClose(numbers, "\(name)/g.\(key)", tolerance: 1e-9)
    }
    for (key, variable) in model.namedVariables where !(variable is Parameter) {
      try expectClose(variable.value, "\(name)/b.\(key)")
    }
    // The names are exactly PyTorch's.
    let names = try #require(Self.fixture).keys.compactMap { key in
      ["\(name)/g.", "\(name)/b."].first { key.hasPrefix($0) }.map { String(key.dropFirst($0.count)) }
    }
    #expect(Set(names) == Set(model.namedVariables.map(\.name)))
  }

  @Test func resNet18() throws {
    let model = ResNet18(classes: 10, width: 8, elementType: .float64)
    initialize(model)
    let y = model(filled(500, [2, 3, 64, 64]))
    try check("resnet18", model, y, crossEntropy(y, ids(501, 10, [2])))
    try expectClose(model.evaluating { model(filled(502, [1, 3, 32, 32])) }, "resnet18/inference")
  }

  @Test func bert() throws {
    let sizes = BERT.Configuration(
      vocabulary: 40, positions: 16, dim: 24, heads: 3, layers: 2, epsilon: 1e-5, elementType: .float64)
    let model = BERT(sizes)
    initialize(model)
    let tokens = ids(500, 40, [2, 9])
    let y = model(tokens)
    try check("bert", model, y, (y * filled(501, y.shape)).sum())
    let zeros = Tensor.zeros([2, 9], .int64)
    #expect(model(tokens, segments: zeros).elements(as: Double.self) == y.elements(as: Double.self))
    #expect(model(tokens, segments: zeros + 1).elements(as: Double.self) != y.elements(as: Double.self))
  }

  private func tinyGPT2() -> GPT2 {
    let sizes = GPT2.Configuration(vocabulary: 50, positions: 16, dim: 24, heads: 3, layers: 2, elementType: .float64)
    let model = GPT2(sizes)
    initialize(model)
    return model
  }

  @Test func gpt2() throws {
    let model = tinyGPT2()
    let tokens = ids(500, 50, [2, 11])
    let y = model(tokens[0..., ..<10])
    try check("gpt2", model, y, crossEntropy(y.flattened(from: 0, to: 1), tokens[0..., 1...].flattened()))
  }

  /// With a cache the tokens and logits are those of PyTorch's whole passes.
  @Test func gpt2DecodesWithACache() throws {
    let model = tinyGPT2()
    let prompt = ids(500, 50, [2, 11])[0..., ..<4]
    try model.evaluating {
      var (token, cache) = model.decode(prompt, position: Tensor(0), cache: model.makeCache(batch: 2, length: 12))
      var tokens = [prompt, token]
      for position in 4..<9 {
        (token, cache) = model.decode(token, position: Tensor(position), cache: cache)
        tokens.append(token)
      }
      let (logits, _) = model.nextLogits(token, position: Tensor(9), cache: cache)
      tokens.append(logits.argMax(axis: -1))
      try expectClose(logits, "gpt2/last")
      #expect(concatenate(tokens, axis: 1).elements(as: Int.self) == (try expected("gpt2/tokens")).elements(as: Int.self))
      // In two parts of several tokens each, as in one.
      let empty = model.makeCache(batch: 2, length: 12)
      let (_, first) = model.nextLogits(prompt[0..., ..<2], position: Tensor(0), cache: empty)
      let (split, _) = model.nextLogits(prompt[0..., 2...], position: Tensor(2), cache: first)
      let (whole, _) = model.nextLogits(prompt, position: Tensor(0), cache: empty)
      for (a, b) in zip(split.elements(as: Double.self), whole.elements(as: Double.self)) { #expect(abs(a - b) < 1e-12) }
    }
  }

  @Test func lstmClassifier() throws {
    let model = LSTMClassifier(vocabulary: 30, embeddingDim: 5, hiddenSize: 6, classes: 3, elementType: .float64)
    initialize(model)
    let y = model(ids(500, 30, [4, 7]))
    try check("lstm", model, y, crossEntropy(y, ids(501, 3, [4])))
  }

  // MARK: Compiled

  /// The same bits, since the same kernels run.
  private func expectSame(_ a: [Tensor], _ b: [Tensor], _ what: String, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(a.count == b.count, sourceLocation: sourceLocation)
    for (x, y) in zip(a, b) {
      #expect(x.elements(as: Double.self) == y.elements(as: Double.self), "\(what)", sourceLocation: sourceLocation)
    }
  }

  /// Two steps of training and inference afterwards, eager and compiled.
  /// - Parameter inferenceError: relative to the largest result; 0 means the same bits. Batch normalization is folded into the
  ///   convolutions before it, whose scaled weights round once more: for some 20 layers in float32 stay within 1e-5.
  private func checkCompiled(
    _ name: String, inferenceError: Double = 0, _ x: Tensor, _ labels: Tensor, _ make: (Generator) -> (Module, (Tensor) -> Tensor)
  ) {
    func run(_ compiled: Bool) -> [Tensor] {
      let (model, logits) = make(Generator(seed: 0))
      let optimizer = Adam(model.parameters)
      func step(_ x: Tensor, _ labels: Tensor) -> Tensor {
        let loss = crossEntropy(logits(x), labels)
        optimizer.step(minimizing: loss)
        return loss
      }
      let train = compiled ? { [f = compile(name, step)] in f($0, $1) } : step
      let losses = (0..<2).map { _ in train(x, labels) }
      model.eval()
      let infer = compiled ? { [f = compile(name, logits)] in f($0) } : logits
      return losses + [withoutGradient { infer(x) }] + model.variables.map(\.value)
    }
    var (eager, compiled) = (run(false), run(true))
    if inferenceError > 0 {
      let (a, b) = (eager.remove(at: 2).converted(to: .float64), compiled.remove(at: 2).converted(to: .float64))
      let error = (abs(a - b).max() / abs(a).max()).item(as: Double.self)
      #expect(error <= inferenceError, "\(name): inference differs by \(error) of the largest result")
    }
    expectSame(eager, compiled, name)
  }

  @Test func compiledModelsAreEagerOnesToTheBit() {
    checkCompiled("resnet18", inferenceError: 1e-5, filled(1, [2, 3, 64, 64]).converted(to: .float32), ids(2, 5, [2])) {
      let model = ResNet18(classes: 5, width: 4, generator: $0)
      return (model, { x in model(x) })
    }
    checkCompiled("bert", ids(1, 20, [2, 6]), ids(2, 8, [12])) {
      let model = BERT(.init(vocabulary: 20, positions: 8, dim: 8, heads: 2, layers: 2), generator: $0)
      return (model, { x in model(x).flattened(from: 0, to: 1) })
    }
    checkCompiled("gpt2", ids(1, 20, [2, 6]), ids(2, 20, [12])) {
      let model = GPT2(.init(vocabulary: 20, positions: 8, dim: 8, heads: 2, layers: 2), generator: $0)
      return (model, { x in model(x).flattened(from: 0, to: 1) })
    }
    checkCompiled("lstm", ids(1, 20, [3, 6]), ids(2, 4, [3])) {
      let model = LSTMClassifier(vocabulary: 20, embeddingDim: 5, hiddenSize: 4, classes: 4, generator: $0)
      return (model, { x in model(x) })
    }
  }

  /// The position is an argument: one program for the prompt, one for all steps after it.
  @Test func compiledDecodingTracesOnceForAllSteps() {
    let model = tinyGPT2()
    let prompt = ids(500, 50, [1, 3])
    model.evaluating {
      let compiled = compile("decode") { (ids: Tensor, position: Tensor, cache: [Tensor]) -> [Tensor] in
        let (token, cache) = model.decode(ids, position: position, cache: cache)
        return [token] + cache
      }
      var (token, cache) = model.decode(prompt, position: Tensor(0), cache: model.makeCache(batch: 1, length: 9))
      var state = compiled(prompt, Tensor(0), model.makeCache(batch: 1, length: 9))
      for position in 3..<8 {
        expectSame([token] + cache, state, "before position \(position)")
        (token, cache) = model.decode(token, position: Tensor(position), cache: cache)
        state = compiled(state[0], Tensor(position), Array(state[1...]))
      }
      #expect(compiled.report.traces.count == 2)
    }
  }

  @Test func fullSizesHaveTheirNumberOfParameters() {
    func count(_ model: Module) -> Int { model.parameters.reduce(0) { $0 + $1.shape.elementCount } }
    #expect(count(ResNet18()) == 11_689_512)
    #expect(count(LSTMClassifier()) == 10_000 * 128 + 4 * 256 * (128 + 256 + 2) + 2 * 256 + 2)
    let block = 12 * 768 * 768 + 13 * 768
    #expect(count(GPT2()) == (50_257 + 1024) * 768 + 12 * block + 2 * 768)
  }
}
