import ApusNN
import ApusTensor
import Testing

/// A layer and the case of `Fixtures/make_fixtures.py` that has PyTorch's values for it.
struct LayerCase: Sendable, CustomTestStringConvertible {
  let name: String
  let training: Bool
  let make: @Sendable (ElementType) -> any Layer
  var testDescription: String { name }

  init(_ name: String, training: Bool = true, _ make: @escaping @Sendable (ElementType) -> any Layer) {
    (self.name, self.training, self.make) = (name, training, make)
  }

  static let all: [LayerCase] = [
    .init("linear") { Linear(5, 3, elementType: $0) },
    .init("linear") { _ in Linear(3) },
    .init("linear3d") { Linear(5, 3, bias: false, elementType: $0) },
    .init("conv1d") { Conv1d(3, 4, kernelSize: 3, elementType: $0) },
    .init("conv1dStrideDilation") {
      Conv1d(4, 6, kernelSize: 3, stride: 2, padding: 3, dilation: 2, groups: 2, elementType: $0)
    },
    .init("conv2d") { Conv2d(3, 4, kernelSize: 3, padding: 1, elementType: $0) },
    .init("conv2d") { _ in Conv2d(4, kernelSize: [3, 3], padding: .same) },
    .init("conv2dSame") { Conv2d(2, 3, kernelSize: 4, padding: .same, dilation: [1, 2], bias: false, elementType: $0) },
    .init("conv2dUneven") { Conv2d(2, 3, kernelSize: [3, 2], stride: [2, 1], padding: [1, 0], elementType: $0) },
    .init("conv2dDepthwise") { Conv2d(4, 8, kernelSize: 3, padding: .valid, groups: 4, elementType: $0) },
    .init("conv3d") { Conv3d(2, 3, kernelSize: 2, stride: [1, 2, 1], padding: 1, elementType: $0) },
    .init("convTranspose1d") { ConvTranspose1d(3, 2, kernelSize: 3, stride: 2, elementType: $0) },
    .init("convTranspose2d") {
      ConvTranspose2d(4, 6, kernelSize: 3, stride: 2, padding: 1, outputPadding: 1, groups: 2, elementType: $0)
    },
    .init("convTranspose2dDilated") {
      ConvTranspose2d(2, 3, kernelSize: 2, stride: [1, 2], bias: false, dilation: 2, elementType: $0)
    },
    .init("convTranspose3d") { _ in ConvTranspose3d(3, kernelSize: 2, stride: 2) },
    .init("maxPool1d") { _ in MaxPool1d(2) },
    .init("maxPool2d") { _ in MaxPool2d(3, stride: 2, padding: 1) },
    .init("maxPool2dCeil") { _ in MaxPool2d([2, 3], stride: 2, dilation: 2, ceilMode: true) },
    .init("maxPool3d") { _ in MaxPool3d(2) },
    .init("avgPool1d") { _ in AvgPool1d(3, stride: 2, padding: 1) },
    .init("avgPool2d") { _ in AvgPool2d(3, stride: 2, padding: 1) },
    .init("avgPool2dValid") { _ in AvgPool2d(3, stride: 2, padding: 1, countIncludePad: false) },
    .init("avgPool2dCeil") { _ in AvgPool2d(3, stride: 2, ceilMode: true) },
    .init("avgPool2dCeilPad") { _ in AvgPool2d(3, stride: 2, padding: 1, ceilMode: true) },
    .init("avgPool3d") { _ in AvgPool3d(2) },
    .init("adaptiveAvgPool1d") { _ in AdaptiveAvgPool1d(3) },
    .init("adaptiveAvgPool2d") { _ in AdaptiveAvgPool2d([2, 3]) },
    .init("adaptiveAvgPool2dOne") { _ in AdaptiveAvgPool2d(1) },
    .init("adaptiveAvgPool3d") { _ in AdaptiveAvgPool3d(2) },
    .init("adaptiveMaxPool1d") { _ in AdaptiveMaxPool1d(3) },
    .init("adaptiveMaxPool2d") { _ in AdaptiveMaxPool2d(2) },
    .init("adaptiveMaxPool3d") { _ in AdaptiveMaxPool3d(2) },
    .init("batchNorm1d") { BatchNorm1d(3, elementType: $0) },
    .init("batchNorm1dLength") { _ in BatchNorm1d(momentum: 0.3) },
    .init("batchNorm2d") { BatchNorm2d(3, epsilon: 1e-3, elementType: $0) },
    .init("batchNorm2dEval", training: false) { BatchNorm2d(3, elementType: $0) },
    .init("batchNorm2dAverage") { BatchNorm2d(3, momentum: nil, elementType: $0) },
    .init("batchNorm2dPlain") { BatchNorm2d(3, affine: false, elementType: $0) },
    .init("batchNorm2dUntracked", training: false) { BatchNorm2d(3, trackRunningStats: false, elementType: $0) },
    .init("batchNorm3d") { BatchNorm3d(2, elementType: $0) },
    .init("layerNorm") { _ in LayerNorm() },
    .init("layerNorm2") { LayerNorm([3, 4], epsilon: 1e-3, elementType: $0) },
    .init("layerNormNoBias") { LayerNorm(6, bias: false, elementType: $0) },
    .init("layerNormPlain") { LayerNorm(6, elementwiseAffine: false, elementType: $0) },
    .init("rmsNormEpsilon") { RMSNorm([3, 4], epsilon: 1e-2, elementType: $0) },
    .init("groupNorm") { GroupNorm(2, 6, elementType: $0) },
    .init("groupNorm2d") { GroupNorm(3, 6, affine: false, elementType: $0) },
    .init("embedding") { Embedding(7, 3, elementType: $0) },
    .init("embeddingPadding") { Embedding(7, 3, paddingIndex: 1, elementType: $0) },
    .init("relu") { _ in ReLU() },
    .init("gelu") { _ in GELU() },
    .init("geluTanh") { _ in GELU(approximate: true) },
    .init("silu") { _ in SiLU() },
    .init("sigmoid") { _ in Sigmoid() },
    .init("tanh") { _ in Tanh() },
    .init("softmax") { _ in Softmax(axis: 1) },
    .init("logSoftmax") { _ in LogSoftmax() },
    .init("leakyReLU") { _ in LeakyReLU(slope: 0.2) },
    .init("elu") { _ in ELU(alpha: 0.7) },
    .init("selu") { _ in SELU() },
    .init("softplus") { _ in Softplus() },
    .init("softplusBeta") { _ in Softplus(beta: 3, threshold: 4) },
    .init("relu6") { _ in ReLU6() },
    .init("hardswish") { _ in Hardswish() },
    .init("hardsigmoid") { _ in Hardsigmoid() },
    .init("hardtanh") { _ in Hardtanh(-0.5, 2) },
    .init("mish") { _ in Mish() },
    .init("softsign") { _ in Softsign() },
    .init("logSigmoid") { _ in LogSigmoid() },
    .init("prelu") { PReLU(elementType: $0) },
    .init("preluChannels") { PReLU(3, elementType: $0) },
    .init("glu") { _ in GLU(axis: 1) },
    .init("flatten") { _ in Flatten() },
    .init("unflatten") { _ in Unflatten(axis: 1, [2, -1]) },
    .init("flatten") { _ in
      Sequential {
        Identity(); Flatten()
      }
    },
  ]
}

@Suite struct LayerTests {
  @Test(arguments: LayerCase.all, [ElementType.float64, .float32])
  func outputAndGradientsAreThoseOfPyTorch(_ sample: LayerCase, _ type: ElementType) throws {
    try check(sample, try Fixture("layers", sample.name), type)
  }

  // The default ε is the type's own, so PyTorch's float64 values hold for float64 only.
  @Test func rmsNormHasTheTypesEpsilon() throws {
    try check(.init("rmsNorm") { RMSNorm(6, elementType: $0) }, try Fixture("layers", "rmsNorm"), .float64)
    let tiny = Tensor.full([1, 4], 1e-4)
    let y = RMSNorm(4)(tiny).floats
    let expected = 1e-4 / (1e-8 + Double(Float.ulpOfOne)).squareRoot()
    for value in y { #expect(abs(Double(value) - expected) < 1e-6) }
  }

  private func check(_ sample: LayerCase, _ fixture: Fixture, _ type: ElementType) throws {
    let layer = sample.make(type)
    let x = try fixture("x", type)
    // Layers without an input size get it first.
    _ = layer.evaluating { layer(x) }
    // Strict: the names are exactly PyTorch's.
    try layer.load(state: fixture.group("p."), convert: true)
    layer.train(sample.training)
    let input = x.elementType.isFloatingPoint ? Parameter(x) : nil
    let y = layer(input?.value ?? x)
    #expect(y.elementType == type)
    expectClose(y, try fixture("y", type), type, "y")
    var variables: [Variable] = layer.parameters
    if let input { variables.append(input) }
    if !variables.isEmpty {
      let gradients = y.gradients(for: variables, cotangent: try fixture("dy", type))
      if let input { expectClose(try #require(gradients[input]), try fixture("dx", type), type, "dx") }
      for (name, parameter) in layer.namedParameters {
        expectClose(try #require(gradients[parameter]), try fixture("g.\(name)", type), type, "gradient of \(name)")
      }
    }
    let variablesAfter = Dictionary(uniqueKeysWithValues: layer.namedVariables.map { ($0.name, $0.variable) })
    for (name, expected) in fixture.group("b.") {
      expectClose(try #require(variablesAfter[name]).value, expected, type, "\(name) after")
    }
  }

  @Test func initialValuesAreWithinPyTorchsBoundsAndRepeat() {
    let linear = Linear(100, 50, generator: Generator(seed: 3))
    let values = linear.weight.value.floats + linear.bias!.value.floats
    #expect(values.allSatisfy { abs($0) <= 0.1 })
    // Uniform within ± 0.1: of 5,050 values some are in the outermost hundredth, and the mean square is 0.01 / 3.
    #expect(values.contains { $0 > 0.099 } && values.contains { $0 < -0.099 })
    let meanSquare = values.reduce(0) { $0 + Double($1 * $1) } / Double(values.count)
    #expect(abs(meanSquare - 0.01 / 3) < 2e-4)
    #expect(Linear(100, 50, generator: Generator(seed: 3)).weight.value.floats == linear.weight.value.floats)
    let convolution = Conv2d(8, 4, kernelSize: 3, groups: 2)
    #expect(convolution.weight.value.floats.allSatisfy { abs($0) <= 1 / 6 })
    #expect(ConvTranspose2d(8, 4, kernelSize: 3).weight.shape == [8, 4, 3, 3])
    let embedding = Embedding(500, 20, paddingIndex: -1)
    let table = embedding.weight.value.floats
    #expect(table[(499 * 20)...].allSatisfy { $0 == 0 })
    let spread = table.prefix(499 * 20).reduce(0) { $0 + Double($1 * $1) } / Double(499 * 20)
    // Standard normal: the mean square of 9,980 values is 1 within 5 of its deviations, √(2 / 9980).
    #expect(abs(spread - 1) < 0.071)
  }

  @Test func initializersHaveTheirVariance() {
    let shape: Shape = [64, 32, 3, 3]
    // fan in 288, fan out 576.
    let expected: [(Initializer, Double)] = [
      (.xavierUniform(gain: 2), 4 * 2 / (288 + 576)), (.xavierNormal(), 2 / (288 + 576)), (.kaimingUniform(), 2 / 288),
      (.kaimingNormal(mode: .fanOut), 2 / 576), (.kaimingUniform(slope: 5.squareRoot()), 2 / (6 * 288)), (.constant(0.5), 0.25),
      (.ones, 1), (.zeros, 0), (.normal(mean: 0, standardDeviation: 0.3), 0.09), (.uniform(-1, 1), 1.0 / 3),
    ]
    for (initializer, variance) in expected {
      let values = initializer(shape, generator: Generator(seed: 1)).floats
      let meanSquare = values.reduce(0) { $0 + Double($1) * Double($1) } / Double(values.count)
      // 18,432 values: five deviations of the mean square of a normal distribution.
      #expect(abs(meanSquare - variance) <= variance * 5 * (2.0 / Double(values.count)).squareRoot())
    }
    let cut = Initializer.truncatedNormal(standardDeviation: 3, low: -1, high: 2)(shape).floats
    #expect(cut.allSatisfy { $0 >= -1 && $0 <= 2 })
    let parameter = Parameter(Tensor.zeros([3, 2]))
    parameter.initialize(.constant(7))
    #expect(parameter.value.floats == Array(repeating: 7, count: 6))
  }

  @Test func dropoutDropsInTrainingOnly() {
    let x = Tensor.full([200, 100], 2.0)
    let layer = Dropout(0.25, generator: Generator(seed: 5))
    let input = Parameter(x)
    let y = layer(input.value)
    let values = y.floats
    let kept = values.filter { $0 != 0 }
    #expect(kept.allSatisfy { abs($0 - 2 / 0.75) < 1e-6 })
    // 20,000 draws: within five deviations of 15,000.
    #expect(abs(kept.count - 15_000) < 5 * 62)
    let gradient = y.sum().gradients(for: [input])[input]!.floats
    for (g, value) in zip(gradient, values) { #expect(abs(g - value / 2) < 1e-6) }
    layer.eval()
    #expect(layer(x).floats == x.floats)
    let whole = Dropout2d(0.5, generator: Generator(seed: 1))(Tensor.ones([8, 16, 3, 3])).reshaped(128, 9).floats
    for row in 0..<128 { #expect(Set(whole[(row * 9)..<(row * 9 + 9)]).count == 1) }
    #expect(Set(whole) == [0, 2])
    #expect(Dropout(1)(x).floats.allSatisfy { $0 == 0 })
  }
}
