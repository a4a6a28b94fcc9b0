import ApusNN
import ApusTensor
import Testing

private let keras = "keras_layers"

/// Layers whose values come from Keras.
@Suite struct KerasLayerTests {
  static let dense: [ModuleCase] = [
    .init(keras, "einsumDense") { _ in EinsumDense("abc,cd->abd", outputShape: [nil, 5], biasAxes: "d") },
    .init(keras, "einsumDenseHeads") { _ in EinsumDense("abc,cde->abde", outputShape: [nil, 2, 5], biasAxes: "de") },
    .init(keras, "einsumDenseOpen") { _ in EinsumDense("...x,xy->...y", outputShape: [5], biasAxes: "y") },
    .init(keras, "einsumDenseRight") { _ in EinsumDense("ab..., bc -> ac...", outputShape: [5], biasAxes: "c") },
    .init(keras, "einsumDensePartlyBiased") { _ in EinsumDense("abc,bde->ade", outputShape: [3, 5], biasAxes: "d") },
    .init(keras, "einsumDenseNoBias") { _ in EinsumDense("abc,bcd->abd", outputShape: [nil, 5]) },
    .init(keras, "reversibleEmbedding") { ReversibleEmbedding(7, 4, elementType: $0) },
    .init(calling: keras, "reversibleEmbeddingReverse") {
      let layer = ReversibleEmbedding(7, 4, elementType: $0)
      return (layer, { layer($0[0], reverse: true) })
    },
    .init(calling: keras, "reversibleEmbeddingUntied") {
      let layer = ReversibleEmbedding(7, 4, tieWeights: false, logitSoftCap: 2, elementType: $0)
      return (layer, { layer(layer($0[0]), reverse: true) })
    },
    .init(keras, "masking") { _ in Masking() },
    .init(keras, "maskingValue") { _ in Masking(maskValue: -1) },
    .init(keras, "unitNormalization") { _ in UnitNormalization() },
    .init(keras, "unitNormalizationAxes") { _ in UnitNormalization(axis: [1, 2]) },
  ]

  static let convolutions: [ModuleCase] = [
    .init(keras, "depthwiseConv1d") { DepthwiseConv1d(3, kernelSize: 3, stride: 2, depthMultiplier: 2, elementType: $0) },
    .init(keras, "depthwiseConv1dSame") { _ in DepthwiseConv1d(kernelSize: 4, stride: 3, padding: .same, bias: false) },
    .init(keras, "depthwiseConv2d") { DepthwiseConv2d(3, kernelSize: [3, 2], depthMultiplier: 2, elementType: $0) },
    .init(keras, "depthwiseConv2dSame") { _ in DepthwiseConv2d(kernelSize: 3, stride: 2, padding: .same) },
    .init(keras, "depthwiseConv2dDilated") { DepthwiseConv2d(3, kernelSize: 2, padding: .same, dilation: 2, elementType: $0) },
    .init(keras, "separableConv1d") { SeparableConv1d(3, 5, kernelSize: 3, depthMultiplier: 2, elementType: $0) },
    .init(keras, "separableConv2d") { _ in SeparableConv2d(5, kernelSize: 3, stride: 2, padding: .same) },
    .init(keras, "separableConv2dNoBias") { SeparableConv2d(3, 4, kernelSize: [2, 3], bias: false, elementType: $0) },
  ]

  static let shapes: [ModuleCase] = [
    .init(keras, "globalAvgPool1d") { _ in GlobalAvgPool1d() },
    .init(keras, "globalAvgPool2d") { _ in GlobalAvgPool2d() },
    .init(keras, "globalAvgPool3d") { _ in GlobalAvgPool3d() },
    .init(keras, "globalMaxPool1d") { _ in GlobalMaxPool1d() },
    .init(keras, "globalMaxPool2d") { _ in GlobalMaxPool2d() },
    .init(keras, "globalMaxPool3d") { _ in GlobalMaxPool3d() },
    .init(keras, "globalMaxPool1dKeep") { _ in GlobalMaxPool1d(keepDims: true) },
    .init(keras, "globalMaxPool2dKeep") { _ in AdaptiveMaxPool2d(1) },
    .init(keras, "globalMaxPool3dKeep") { _ in GlobalMaxPool3d(keepDims: true) },
    .init(keras, "reshape") { _ in Reshape([3, 4]) },
    .init(keras, "reshapeOpen") { _ in Reshape([-1, 2]) },
    .init(keras, "permute") { _ in Permute([3, 1, 2]) },
    .init(keras, "repeatVector") { _ in RepeatVector(3) },
    // Keras's one-dimensional layers have features last.
    .init(keras, "cropping1d") { _ in
      Sequential {
        Permute([2, 1]); Cropping1d([1, 2]); Permute([2, 1])
      }
    },
    .init(keras, "cropping2d") { _ in Cropping2d([1, 2, 0, 1]) },
    .init(keras, "cropping2dBoth") { _ in Cropping2d([1, 2]) },
    .init(keras, "cropping3d") { _ in Cropping3d([1, 0, 0, 2, 1, 1]) },
    .init(keras, "upSampling1d") { _ in
      Sequential {
        Permute([2, 1]); Upsample(scaleFactor: 3); Permute([2, 1])
      }
    },
    .init(keras, "upSampling2d") { _ in Upsample(scaleFactor: [2, 3]) },
    .init(keras, "upSampling2dBilinear") { _ in Upsample(scaleFactor: 2, mode: .bilinear) },
    .init(keras, "upSampling3d") { _ in Upsample(scaleFactor: [1, 2, 2]) },
  ]

  private static func merge(_ name: String, _ layer: @escaping @Sendable () -> MergeLayer) -> ModuleCase {
    .init(calling: keras, name) { _ in
      let layer = layer()
      return (layer, { layer($0) })
    }
  }

  static let merging: [ModuleCase] = [
    merge("Add") { Add() }, merge("AddRanks") { Add() }, merge("Multiply") { Multiply() }, merge("MultiplyRanks") { Multiply() },
    merge("Average") { Average() }, merge("AverageRanks") { Average() }, merge("Maximum") { Maximum() },
    merge("MaximumRanks") { Maximum() }, merge("Minimum") { Minimum() }, merge("MinimumRanks") { Minimum() },
    merge("Subtract") { Subtract() }, merge("Concatenate") { Concatenate() }, merge("ConcatenateAxis") { Concatenate(axis: 1) },
    merge("Dot") { Dot(axes: (1, 2)) }, merge("DotVectors") { Dot(axes: 1) },
    merge("DotNormalized") { Dot(axes: -1, normalize: true) },
    merge("DotRanks") { Dot(axes: (2, 1)) },
  ]

  @Test(arguments: dense + convolutions + shapes + merging, [ElementType.float64, .float32])
  func outputAndGradientsAreThoseOfKeras(_ sample: ModuleCase, _ type: ElementType) throws { try check(sample, type) }

  @Test func masksSayWhichStepsCount() throws {
    for (name, layer) in [("masking", Masking()), ("maskingValue", Masking(maskValue: -1))] {
      let fixture = try Fixture(layer: name, in: keras)
      let mask = layer.mask(of: try fixture("x0", .float64))
      #expect(mask.elements(as: Bool.self) == (try fixture("mask", .float64)).elements(as: Bool.self))
    }
    let ids = Tensor(elements: [3, 0, 2, 0])
    #expect(Embedding(4, 2, paddingIndex: 0).mask(of: ids).elements(as: Bool.self) == [true, false, true, false])
    #expect(Embedding(4, 2).mask(of: ids).elements(as: Bool.self) == [true, true, true, true])
  }

  @Test(
    arguments: [
      ("spectralNormalization", { @Sendable in Linear(5, 4, elementType: $0) }),
      ("spectralNormalizationConv", { @Sendable in Conv2d(3, 4, kernelSize: [3, 2], elementType: $0) }),
      (
        "spectralNormalizationEinsum",
        { @Sendable _ in EinsumDense("ab,bcd->acd", outputShape: [2, 4], biasAxes: "d") }
      ),
    ] as [(String, @Sendable (ElementType) -> any Layer)], [false, true])
  func spectralNormalizationIsThatOfKeras(_ sample: (String, @Sendable (ElementType) -> any Layer), _ compiled: Bool) throws {
    let fixture = try Fixture(layer: sample.0, in: keras)
    for type in [ElementType.float64, .float32] {
      let layer = SpectralNormalization(sample.1(type), powerIterations: 2)
      let x = try fixture("x0", type)
      _ = layer.evaluating { layer(x) }
      try layer.load(state: fixture.group("p."), convert: true)
      let call = compiled ? compile { (x: Tensor) -> Tensor in layer(x) } : nil
      let weight = try #require(layer.layer.parameters.first)
      for i in 0..<3 {
        if i == 2 { layer.eval() }
        let y = call.map { $0(x) } ?? layer(x)
        expectClose(y, try fixture("y\(i)", type), type, "y\(i)", tolerance64: 1e-10)
        if i == 2 { break }
        expectClose(weight.value, try fixture("weight\(i)", type), type, "weight\(i)", tolerance64: 1e-10)
        let u = try #require(layer.vectorU).value
        expectClose(u, try fixture("u\(i)", type), type, "u\(i)", tolerance64: 1e-10)
      }
    }
    // A weight of zeros stays as it is.
    let zeros = SpectralNormalization(Linear(3, 2))
    for parameter in zeros.parameters { parameter.initialize(.zeros) }
    #expect(zeros(Tensor.ones([1, 3])).floats == [0, 0])
  }

  @Test func gaussianDropoutAndGaussianNoiseHaveTheirVariance() {
    let x = Tensor.full([300, 400], 2.0)
    for (layer, mean, variance) in [
      (GaussianDropout(0.2, generator: Generator(seed: 1)), 2.0, 4 * 0.2 / 0.8),
      (GaussianNoise(0.3, generator: Generator(seed: 2)), 2, 0.09),
    ] as [(any Layer, Double, Double)] {
      let y = layer(x)
      // 120,000 values: five deviations of the mean and the variance.
      #expect(abs(Double(y.mean().item()) - mean) < 5 * (variance / 120_000).squareRoot())
      #expect(abs(Double(y.variance().item()) - variance) < 5 * variance * (2.0 / 120_000).squareRoot())
      layer.eval()
      #expect(layer(x).floats == x.floats)
    }
    let input = Parameter(x)
    let layer = GaussianDropout(0.2, generator: Generator(seed: 3))
    let step = compile { (dy: Tensor) -> (Tensor, Tensor) in
      let y = layer(input.value)
      return (y, y.gradients(for: [input], cotangent: dy)[input] ?? y)
    }
    let (y, dx) = step(onesLike(x))
    expectClose(dx * 2, y, .float32, "the gradient is the factor")
  }

  @Test func lambdaAndWrapperCallWhatIsInThem() {
    final class Doubled: Wrapper {
      override func callAsFunction(_ x: Tensor) -> Tensor { super.callAsFunction(x) * 2 }
    }
    let inner = Linear(3, 2)
    let layer = Doubled(inner)
    let x = Tensor.randn([4, 3])
    #expect(layer(x).floats == (inner(x) * 2).floats)
    #expect(layer.namedParameters.map(\.name) == ["layer.weight", "layer.bias"])
    let net = Sequential {
      Lambda { $0 * 3 }
      layer
    }
    #expect(net(x).floats == layer(x * 3).floats)
    #expect(Wrapper(inner)(x).floats == inner(x).floats)
  }
}
