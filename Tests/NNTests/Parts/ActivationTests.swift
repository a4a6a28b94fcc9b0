import ApusNN
import ApusTensor
import Testing

/// A layer and the case of `Fixtures/make_parts.py` with PyTorch's or Keras's values for it.
struct ActivationCase: Sendable, CustomTestStringConvertible {
  let name: String
  let training: Bool
  let make: @Sendable () -> any Layer
  var testDescription: String { name }

  init(_ name: String, training: Bool = true, _ make: @escaping @Sendable () -> any Layer) {
    (self.name, self.training, self.make) = (name, training, make)
  }

  static let all: [ActivationCase] = [
    .init("celu") { CELU() }, .init("celuAlpha") { CELU(alpha: 0.7) }, .init("hardshrink") { Hardshrink() },
    .init("hardshrinkTwo") { Hardshrink(2) }, .init("softshrink") { Softshrink() }, .init("softshrinkTwo") { Softshrink(2) },
    .init("tanhshrink") { Tanhshrink() }, .init("threshold") { Threshold(0.5, -7) }, .init("hardtanhKinks") { Hardtanh() },
    .init("rreluEval", training: false) { RReLU() }, .init("softmin") { Softmin(axis: 1) }, .init("softmax2d") { Softmax2d() },
    .init("softmax2dSingle") { Softmax2d() }, .init("squareplus") { Squareplus() }, .init("squareplusB") { Squareplus(b: 1.5) },
    .init("sparsePlus") { SparsePlus() }, .init("sparseSigmoid") { SparseSigmoid() },
    .init("exponential") { Activation("exponential") }, .init("sparsemax") { Sparsemax() },
    .init("kerasReLU") { ReLU(maximum: 2.5, negativeSlope: 0.1, threshold: 0.3) },
  ]
}

@Suite struct ActivationTests {
  @Test(arguments: ActivationCase.all, [ElementType.float64, .float32])
  func outputAndGradientsAreThoseOfPyTorchAndKeras(_ sample: ActivationCase, _ type: ElementType) throws {
    try checkParts(sample.make(), sample.name, training: sample.training, type)
  }

  /// `Activation(name)` and the functions celu, glu, hardShrink, softShrink, tanhShrink, hardTanh, sparsePlus, sparseSigmoid,
  /// squareplus and the others behind it.
  @Test func activationsByNameAreKerass() throws {
    let fixture = try PartsFixture("byName")
    let x = try fixture("x")
    for name in Activation.names {
      guard fixture.values[name] != nil else {
        #expect(["leaky_relu", "softmin", "sparsemax"].contains(name), "\(name) is compared elsewhere")
        continue
      }
      expectClose(Activation(name)(x), try fixture(name), .float64, name)
    }
    #expect(Activation("leaky_relu")(x).elements(as: Double.self) == leakyRelu(x).elements(as: Double.self))
    #expect(
      Activation("hardSwish")(x).floats == hardSwish(x).floats && Activation("LogSoftmax")(x).floats == logSoftmax(x).floats)
    #expect(Activation.function(named: "nothing") == nil)
    #expect(Activation("double") { $0 * 2 }(x).floats == (x * 2).floats)
    #expect(Activation("relu").description == "Activation(relu)")
  }

  @Test func unknownActivationsAreNamed() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { _ = Activation("rely") }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("Activation: there is no function \"rely\"; there are celu, elu,"), "\(text)")
  }

  @Test func sparsemaxIsADistributionAlongAnyAxis() throws {
    let x = Tensor.randn([3, 5, 4], .float64, generator: Generator(seed: 4)) * 2
    for axis in [0, 1, -1] {
      let y = sparsemax(x, axis: axis)
      expectClose(y.sum(axis: axis), Tensor.ones(y.sum(axis: axis).shape, .float64), .float64, "sum along \(axis)")
      #expect(y.min().item(as: Double.self) == 0)
    }
    // Large numbers lose nothing, and equal ones share.
    let fixture = try PartsFixture("sparsemaxLarge")
    expectClose(sparsemax(try fixture("x")), try fixture("y"), .float64, "large", tolerance64: 1e-9)
    #expect(sparsemax(Tensor.full([1, 4], 1e30)).floats == [0.25, 0.25, 0.25, 0.25])
    #expect(isNaN(sparsemax(Tensor([Float.nan, 1], shape: [1, 2]))).all().item(as: Bool.self))
  }

  @Test func rreluDrawsSlopesInTraining() throws {
    let layer = RReLU(0.1, 0.3, generator: Generator(seed: 2))
    let input = Parameter(Tensor.full([4000], -2, .float64))
    let y = layer(input.value)
    let slopes = (y / -2).elements(as: Double.self)
    #expect(slopes.allSatisfy { $0 >= 0.1 && $0 < 0.3 })
    // Uniform: the mean of 4,000 is 0.2 within five of its deviations, 0.2 / √(12 · 4000).
    let mean = slopes.reduce(0, +) / 4000
    let deviation = 0.2 / 48_000.0.squareRoot()
    #expect(abs(mean - 0.2) < 5 * deviation)
    let gradient = try #require(y.sum().gradients(for: [input])[input]).elements(as: Double.self)
    for (g, slope) in zip(gradient, slopes) { #expect(abs(g - slope) < 1e-15) }
    #expect(layer(Tensor.full([3], 2.0)).floats == [2, 2, 2])
    layer.eval()
    expectClose(layer(input.value), Tensor.full([4000], -0.4, .float64), .float64, "evaluation")
  }

  @Test func preluHasWeightsForElementsAsKeras() throws {
    let layer = PReLU(sharedAxes: [2], initial: 0)
    #expect(layer.description == "PReLU(sharedAxes: [2])")
    let x = try PartsFixture("preluElements")("x")
    #expect(layer(x).elements(as: Double.self) == relu(x).elements(as: Double.self))
    #expect(layer.weight.shape == [3, 1] && layer.weight.elementType == .float64)
    layer.weight.initialize(.constant(0.5))
    let y = layer(x)
    let gradient = try #require(y.sum().gradients(for: [layer.weight])[layer.weight])
    expectClose(y, `where`(x .> 0, x, x * 0.5), .float64, "y")
    expectClose(gradient, minimum(x, 0).sum(axes: [0, 2]).reshaped(3, 1), .float64, "gradient")
  }
}
