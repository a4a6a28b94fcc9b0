import ApusNN
import ApusTensor
import Testing

private let torch = "more_layers"

/// Layers whose values come from PyTorch.
@Suite struct MoreLayerTests {
  static let pooling: [ModuleCase] = [
    .init(torch, "lpPool1d") { _ in LPPool1d(3, kernelSize: 2, stride: 1) },
    .init(torch, "lpPool2d") { _ in LPPool2d(2, kernelSize: [2, 3], stride: 2, ceilMode: true) },
    .init(torch, "lpPool2dZero") { _ in LPPool2d(2, kernelSize: 2) },
    .init(torch, "lpPool2dMax") { _ in LPPool2d(.infinity, kernelSize: 2) },
    .init(torch, "lpPool3d") { _ in LPPool3d(1.5, kernelSize: 2) },
    .init(torch, "maxPool1dIndices") { _ in WithIndices(MaxPool1d(2).withIndices, "maxPool1dIndices") },
    .init(torch, "maxPool2dIndices") { _ in
      WithIndices(MaxPool2d(3, stride: 2, padding: 1).withIndices, "maxPool2dIndices")
    },
    .init(torch, "maxPool3dIndices") { _ in WithIndices(MaxPool3d(2, stride: 2).withIndices, "maxPool3dIndices") },
    .init(torch, "maxUnpool1d") { _ in Unpooling("maxUnpool1d", MaxUnpool1d(2)) },
    .init(torch, "maxUnpool2d") { _ in Unpooling("maxUnpool2d", MaxUnpool2d(3, stride: 2, padding: 1)) },
    .init(torch, "maxUnpool3d") { _ in Unpooling("maxUnpool3d", MaxUnpool3d(2, stride: 2)) },
    .init(torch, "maxUnpool1dSmallest") { _ in Unpooling(nil, MaxUnpool1d(2)) },
    .init(torch, "maxUnpool2dSmallest") { _ in Unpooling(nil, MaxUnpool2d(3, stride: 2, padding: 1)) },
    .init(torch, "maxUnpool3dSmallest") { _ in Unpooling(nil, MaxUnpool3d(2, stride: 2)) },
    .init(torch, "fractionalMaxPool2d") { type in
      let pool = FractionalMaxPool2d(2, outputSize: [4, 3])
      return WithIndices({ pool.withIndices($0, samples: $1) }, "fractionalMaxPool2d")
    },
    .init(torch, "fractionalMaxPool2dRatio") { type in
      let pool = FractionalMaxPool2d([3, 2], outputRatio: [0.6, 0.7])
      return WithIndices({ pool.withIndices($0, samples: $1) }, "fractionalMaxPool2dRatio")
    },
    .init(torch, "fractionalMaxPool3d") { type in
      let pool = FractionalMaxPool3d(2, outputSize: [2, 3, 3])
      return WithIndices({ pool.withIndices($0, samples: $1) }, "fractionalMaxPool3d")
    },
  ]

  @Test(arguments: pooling, [ElementType.float64, .float32])
  func poolingIsThatOfPyTorch(_ sample: ModuleCase, _ type: ElementType) throws {
    // lpPool takes roots of sums of powers: some roundings more.
    try check(sample, type, tolerance64: 1e-11)
  }

  @Test func windowsOfFractionalMaxPoolCoverTheInput() {
    let x = Tensor.rand([2, 3, 11, 7], generator: Generator(seed: 2))
    let pool = FractionalMaxPool2d(3, outputRatio: 0.6, generator: Generator(seed: 1))
    let (y, indices) = pool.withIndices(x)
    #expect(y.shape == [2, 3, 6, 4])
    let picked = x.flattened(from: 2).gather(axis: 2, indices: indices.flattened(from: 2)).reshaped(y.shape)
    #expect(picked.floats == y.floats)
    #expect(pool(x).floats != y.floats, "windows are drawn anew")
  }

  /// Rows in order and channels-last have kernels of their own.
  @Test(arguments: [ElementType.float64, .float32, .bfloat16])
  func gradientsOfPoolingAreTheSameInBothMemoryOrders(_ type: ElementType) {
    let x = Tensor.randn([2, 3, 6, 8], generator: Generator(seed: 6)).converted(to: type)
    for pool in [AvgPool2d(2), AvgPool2d([3, 4]), AvgPool2d([1, 2])] {
      let dy = Tensor.randn(withoutGradient { pool(x) }.shape, generator: Generator(seed: 7)).converted(to: type)
      let all = [x, x.inChannelsLast()].map { x -> [Double] in
        let input = Parameter(x)
        return pool(input.value).gradients(for: [input], cotangent: dy)[input]?.elements(as: Double.self) ?? []
      }
      #expect(all[0] == all[1] && all[0].count == x.count)
    }
    let doubled = interpolate(x, scaleFactor: [2, 3])
    let expected = x.repeated(2, axis: 2).repeated(3, axis: 3).elements(as: Double.self)
    #expect(doubled.elements(as: Double.self) == expected)
    #expect(interpolate(x.inChannelsLast(), scaleFactor: [2, 3]).elements(as: Double.self) == expected)
  }

  static let norms: [ModuleCase] = [
    .init(torch, "instanceNorm1d") { InstanceNorm1d(3, affine: true, trackRunningStats: true, elementType: $0) },
    .init(torch, "instanceNorm2d") { _ in InstanceNorm2d(epsilon: 1e-3) },
    .init(torch, "instanceNorm2dTracked") { _ in InstanceNorm2d(momentum: 0.3, trackRunningStats: true) },
    .init(torch, "instanceNorm2dEval", training: false) {
      InstanceNorm2d(3, affine: true, trackRunningStats: true, elementType: $0)
    },
    .init(torch, "instanceNorm3d") { InstanceNorm3d(2, affine: true, elementType: $0) },
    .init(torch, "localResponseNorm") { _ in LocalResponseNorm(3, alpha: 0.5, beta: 0.6, k: 2) },
    .init(torch, "localResponseNormEven") { _ in LocalResponseNorm(4, alpha: 0.5) },
    .init(torch, "syncBatchNorm") { SyncBatchNorm(3, elementType: $0) },
  ]

  @Test(arguments: norms, [ElementType.float64, .float32])
  func normalizationIsThatOfPyTorch(_ sample: ModuleCase, _ type: ElementType) throws { try check(sample, type) }

  static let padding: [ModuleCase] = [
    .init(torch, "zeroPad1d") { _ in ZeroPad1d([2, 1]) },
    .init(torch, "zeroPad2d") { _ in ZeroPad2d([2, 1, 0, 3]) },
    .init(torch, "zeroPad2dAll") { _ in ZeroPad2d(1) },
    .init(torch, "zeroPad3d") { _ in ZeroPad3d([2, 1, 0, 3, 1, 1]) },
    .init(torch, "constantPad1d") { _ in ConstantPad1d([-1, 1], value: 1.5) },
    .init(torch, "constantPad2d") { _ in ConstantPad2d([-1, 1, 0, 3], value: 1.5) },
    .init(torch, "constantPad3d") { _ in ConstantPad3d([-1, 1, 0, 3, 1, 1], value: 1.5) },
    .init(torch, "reflectionPad1d") { _ in ReflectionPad1d([2, 1]) },
    .init(torch, "reflectionPad2d") { _ in ReflectionPad2d([2, 1, 0, 3]) },
    .init(torch, "reflectionPad3d") { _ in ReflectionPad3d([2, 1, 0, 3, 1, 1]) },
    .init(torch, "replicationPad1d") { _ in ReplicationPad1d([2, 1]) },
    .init(torch, "replicationPad2d") { _ in ReplicationPad2d([2, 1, 0, 3]) },
    .init(torch, "replicationPad3d") { _ in ReplicationPad3d([2, 1, 0, 3, 1, 1]) },
    .init(torch, "circularPad1d") { _ in CircularPad1d([2, 1]) },
    .init(torch, "circularPad2d") { _ in CircularPad2d([2, 1, 0, 3]) },
    .init(torch, "circularPad3d") { _ in CircularPad3d([2, 1, 0, 3, 1, 1]) },
  ]

  @Test(arguments: padding, [ElementType.float64, .float32])
  func paddingIsThatOfPyTorch(_ sample: ModuleCase, _ type: ElementType) throws { try check(sample, type) }

  static let resolution: [ModuleCase] = [
    .init(torch, "upsampleNearest") { _ in Upsample(scaleFactor: 2) },
    .init(torch, "upsampleNearestSize") { _ in Upsample(size: [5, 7]) },
    .init(torch, "upsampleNearestFactor") { _ in Upsample(scaleFactor: [1.7, 0.6]) },
    .init(torch, "upsampleNearest1d") { _ in Upsample(scaleFactor: 3) },
    .init(torch, "upsampleNearest3d") { _ in Upsample(size: [3, 4, 2]) },
    .init(torch, "upsampleNearestExact") { _ in Upsample(size: [5, 3], mode: .nearestExact) },
    .init(torch, "upsampleLinear") { _ in Upsample(scaleFactor: 2, mode: .linear) },
    .init(torch, "upsampleLinearAligned") { _ in Upsample(size: 8, mode: .linear, alignCorners: true) },
    .init(torch, "upsampleBilinear") { _ in Upsample(scaleFactor: 2, mode: .bilinear) },
    .init(torch, "upsampleBilinearFactor") { _ in Upsample(scaleFactor: 1.7, mode: .bilinear) },
    .init(torch, "upsampleBilinearDown") { _ in Upsample(size: [3, 9], mode: .bilinear) },
    .init(torch, "upsampleBilinearAligned") { _ in Upsample(size: [1, 7], mode: .bilinear, alignCorners: true) },
    .init(torch, "upsampleTrilinear") { _ in Upsample(scaleFactor: 2, mode: .trilinear) },
    .init(torch, "upsampleTrilinearAligned") { _ in Upsample(size: [3, 2, 4], mode: .trilinear, alignCorners: true) },
    .init(torch, "upsampleBicubic") { _ in Upsample(scaleFactor: 2, mode: .bicubic) },
    .init(torch, "upsampleBicubicAligned") { _ in Upsample(size: [6, 3], mode: .bicubic, alignCorners: true) },
    .init(torch, function: "interpolateArea") { interpolate($0[0], size: [2, 3], mode: .area) },
    .init(torch, function: "interpolateBilinearAntialias") {
      interpolate($0[0], size: [3, 4], mode: .bilinear, antialias: true)
    },
    .init(torch, function: "interpolateBicubicAntialias") {
      interpolate($0[0], size: [3, 9], mode: .bicubic, antialias: true)
    },
    .init(torch, "pixelShuffle") { _ in PixelShuffle(2) },
    .init(torch, "pixelUnshuffle") { _ in PixelUnshuffle(3) },
    .init(torch, "channelShuffle") { _ in ChannelShuffle(3) },
    .init(torch, "unfold") { _ in Unfold([2, 3], dilation: [1, 2], padding: [1, 0], stride: 2) },
    .init(torch, "fold") { _ in Fold([5, 6], kernelSize: [2, 3], dilation: [2, 1], padding: [0, 1], stride: [1, 2]) },
  ]

  @Test(arguments: resolution, [ElementType.float64, .float32])
  func resolutionIsThatOfPyTorch(_ sample: ModuleCase, _ type: ElementType) throws { try check(sample, type) }

  static let products: [ModuleCase] = [
    .init(calling: torch, "bilinear") {
      let layer = Bilinear(3, 4, 5, elementType: $0)
      return (layer, { layer($0[0], $0[1]) })
    },
    .init(calling: torch, "bilinearNoBias") {
      let layer = Bilinear(3, 4, 2, bias: false, elementType: $0)
      return (layer, { layer($0[0], $0[1]) })
    },
    .init(calling: torch, "cosineSimilarity") { _ in
      let layer = CosineSimilarity()
      return (layer, { layer($0[0], $0[1]) })
    },
    .init(calling: torch, "cosineSimilarityAxis") { _ in
      let layer = CosineSimilarity(axis: -2, epsilon: 0.5)
      return (layer, { layer($0[0], $0[1]) })
    },
    .init(calling: torch, "pairwiseDistanceKeep") { _ in
      let layer = PairwiseDistance(epsilon: 1e-3, keepDims: true)
      return (layer, { layer($0[0], $0[1]) })
    },
    .init(torch, function: "pairwiseDistance") { pairwiseDistance($0[0], $0[1]) },
    .init(torch, function: "pairwiseDistance1") { pairwiseDistance($0[0], $0[1], p: 1) },
    .init(torch, function: "pairwiseDistance3") { pairwiseDistance($0[0], $0[1], p: 3) },
    .init(torch, function: "pairwiseDistanceHalf") { pairwiseDistance($0[0], $0[1], p: 0.5) },
    .init(torch, function: "pairwiseDistanceMax") { pairwiseDistance($0[0], $0[1], p: .infinity) },
    .init(torch, function: "cdist") { cdist($0[0], $0[1]) },
    .init(torch, function: "cdist1") { cdist($0[0], $0[1], p: 1) },
    .init(torch, function: "cdist3") { cdist($0[0], $0[1], p: 3) },
    .init(torch, function: "cdistHalf") { cdist($0[0], $0[1], p: 0.5) },
    .init(torch, function: "cdistMax") { cdist($0[0], $0[1], p: .infinity) },
    .init(torch, function: "cdistMany") { cdist($0[0], $0[1]) },
    .init(calling: torch, "adaptiveLogSoftmax") {
      let layer = AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs: [3, 7], divValue: 2, headBias: true, elementType: $0)
      return (layer, { layer($0[0], $0[1]).output })
    },
  ]

  @Test(arguments: products, [ElementType.float64, .float32])
  func productsAndDistancesAreThoseOfPyTorch(_ sample: ModuleCase, _ type: ElementType) throws {
    try check(sample, type, tolerance64: 1e-11)
  }

  private static func bag(_ name: String, _ mode: EmbeddingBag.Mode, padding: Int? = nil) -> ModuleCase {
    .init(calling: torch, "\(name).\(mode)") {
      let layer = EmbeddingBag(7, 3, mode: mode, paddingIndex: padding, elementType: $0)
      return (layer, { $0.count == 1 ? layer($0[0]) : layer($0[0], offsets: $0[1]) })
    }
  }

  static let bags: [ModuleCase] =
    [EmbeddingBag.Mode.sum, .mean, .max].flatMap { mode in
      [
        bag("embeddingBag", mode), bag("embeddingBagOffsets", mode), bag("embeddingBagPadding", mode, padding: 4),
        bag("embeddingBagPaddingOffsets", mode, padding: -3),
      ]
    } + [
      .init(calling: torch, "embeddingBagLastOffset") {
        let layer = EmbeddingBag(7, 3, mode: .sum, includeLastOffset: true, elementType: $0)
        return (layer, { layer($0[0], offsets: $0[1]) })
      },
      .init(calling: torch, "embeddingBagWeights") {
        let layer = WeightedBag($0)
        return (layer, { layer.bag($0[0], perSampleWeights: $0[1]) })
      },
      .init(calling: torch, "embeddingBagWeightsOffsets") {
        let layer = WeightedBag($0)
        return (layer, { layer.bag($0[0], offsets: $0[2], perSampleWeights: $0[1]) })
      },
    ]

  @Test(arguments: bags, [ElementType.float64, .float32])
  func embeddingBagIsThatOfPyTorch(_ sample: ModuleCase, _ type: ElementType) throws { try check(sample, type) }

  @Test func adaptiveLogSoftmaxWithLossAlsoPredicts() throws {
    let fixture = try Fixture(layer: "adaptiveLogSoftmax", in: torch)
    let layer = AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs: [3, 7], divValue: 2, headBias: true, elementType: .float64)
    try layer.load(state: fixture.group("p."))
    let x = try fixture("x0", .float64)
    let (_, loss) = layer(x, try fixture("x1", .float64))
    expectClose(loss, try fixture("loss", .float64), .float64, "loss")
    expectClose(layer.logProb(x), try fixture("logProb", .float64), .float64, "logProb")
    #expect(layer.predict(x).elements(as: Int.self) == (try fixture("predict", .float64)).elements(as: Int.self))
  }

  @Test func alphaDropoutsKeepMeanAndVariance() throws {
    let expected = try Fixture(layer: "alphaDropout", in: torch).callAsFunction("values", .float64).elements(as: Double.self)
    let layer = AlphaDropout(0.3, generator: Generator(seed: 3))
    for (value, pair) in [(0.0, expected[..<2]), (1, expected[2...])] {
      let seen = Set(layer(Tensor.full([500], value, .float64)).elements(as: Double.self)).sorted()
      #expect(seen.count == 2)
      for (a, b) in zip(seen, pair) { #expect(abs(a - b) < 1e-12) }
    }
    let x = Tensor.randn([400, 500], generator: Generator(seed: 4))
    let y = layer(x)
    // 200,000 values: five deviations of a mean and of a variance; alpha dropout's kurtosis is below 6.
    #expect(abs(y.mean().item()) < 0.012 && abs(y.variance().item() - 1) < 0.03)
    let whole = FeatureAlphaDropout(0.5, generator: Generator(seed: 1))(Tensor.zeros([8, 16, 3, 3])).reshaped(128, 9)
    #expect((whole.max(axis: 1) .== whole.min(axis: 1)).all().item(as: Bool.self))
    #expect(Set(whole.floats).count == 2)
    layer.eval()
    #expect(layer(x).floats == x.floats)
    let step = compile { (x: Tensor) -> Tensor in FeatureAlphaDropout(0.5, generator: Generator(seed: 1))(x) }
    #expect(step(Tensor.zeros([8, 16, 3])).shape == [8, 16, 3])
  }

  @Test func spatialDropoutsAreDropout1dTo3d() {
    let cases: [(any Layer, Shape)] = [
      (Dropout1d(0.5, generator: Generator(seed: 1)), Shape([8, 16, 9])),
      (Dropout3d(0.5, generator: Generator(seed: 1)), Shape([8, 16, 3, 1, 3])),
    ]
    for (layer, shape) in cases {
      let whole = layer(Tensor.ones(shape)).reshaped(128, 9)
      #expect((whole.max(axis: 1) .== whole.min(axis: 1)).all().item(as: Bool.self))
      #expect(Set(whole.floats) == [0, 2])
    }
  }
}

/// A pooling layer's maxima, and a look at its positions.
private final class WithIndices: Module, Layer {
  let name: String
  let call: (Tensor, Tensor) -> (output: Tensor, indices: Tensor)

  init(_ call: @escaping (Tensor) -> (output: Tensor, indices: Tensor), _ name: String) {
    self.name = name
    self.call = { x, _ in call(x) }
  }

  init(_ call: @escaping (Tensor, Tensor) -> (output: Tensor, indices: Tensor), _ name: String) {
    (self.name, self.call) = (name, call)
  }

  func callAsFunction(_ x: Tensor) -> Tensor {
    guard let fixture = try? Fixture(layer: name, in: torch), let expected = fixture.values["i"] else { return x }
    let (y, i) = call(x, (fixture.values["samples"] ?? Tensor(0.0)).converted(to: x.elementType))
    // All positions right, or the output is wrong.
    return y + (i .!= expected).any().converted(to: y.elementType) * 1e6
  }
}

private final class Unpooling: Module, Layer {
  let name: String?
  let layer: MaxUnpoolLayer
  init(_ name: String?, _ layer: MaxUnpoolLayer) { (self.name, self.layer) = (name, layer) }

  func callAsFunction(_ x: Tensor) -> Tensor {
    guard let name, let values = try? Fixture(layer: name, in: torch).values, let i = values["i"] else {
      let flat = Tensor.arange(x.shape[2...].reduce(1, *)).reshaped(Shape(x.shape[2...]))
      return layer(x, indices: flat.broadcast(to: x.shape))
    }
    return layer(x, indices: i, outputSize: values["size"]?.elements(as: Int.self))
  }
}

private final class WeightedBag: Module {
  let bag: EmbeddingBag
  init(_ type: ElementType) { bag = EmbeddingBag(7, 3, mode: .sum, elementType: type) }
}
