import ApusNN
import ApusTensor
import Testing

@Suite struct InitializerTests {
  @Test func fansAreThoseOfPyTorchAndKeras() throws {
    let expected = try PartsFixture("fans")("all", .int64).elements(as: Int.self)
    let shapes: [Shape] = [[4, 3], [8, 6, 3], [5, 2, 3, 3], [2, 7, 1, 2, 3], [7], []]
    #expect(shapes.flatMap { [Initializer.fans(of: $0).in, Initializer.fans(of: $0).out] } == expected)
  }

  @Test func calculateGainIsPyTorchs() throws {
    let gains: [Initializer.Nonlinearity] = [.linear, .sigmoid, .tanh, .relu, .selu, .leakyReLU(), .leakyReLU(slope: 0.2)]
    expectClose(Tensor(elements: gains.map(calculateGain)), try PartsFixture("gains")("all"), .float64, "gains")
  }

  /// Mean square, and largest absolute value where there is one, over [64, 32, 3, 3]: fan in 288, fan out 576.
  @Test func randomInitializersHaveTheirVarianceAndBounds() {
    let shape: Shape = [64, 32, 3, 3]
    let cut = 2 / 0.879_625_661_034_239_78
    func uniform(_ variance: Double) -> Double { (3 * variance).squareRoot() }
    let average = 1.0 / 432
    let cases: [(String, Initializer, variance: Double, bound: Double?)] = [
      ("varianceScaling", .varianceScaling(), 1.0 / 288, cut * (1.0 / 288).squareRoot()),
      (
        "varianceScaling untruncated", .varianceScaling(scale: 3, mode: .fanOut, distribution: .untruncatedNormal), 3.0 / 576, nil
      ),
      (
        "varianceScaling uniform", .varianceScaling(scale: 2, mode: .fanAvg, distribution: .uniform), 2 * average,
        uniform(2 * average)
      ),
      ("glorotUniform", .glorotUniform, average, uniform(average)),
      ("glorotNormal", .glorotNormal, average, cut * average.squareRoot()),
      ("heUniform", .heUniform, 2.0 / 288, uniform(2.0 / 288)),
      ("heNormal", .heNormal, 2.0 / 288, cut * (2.0 / 288).squareRoot()),
      ("lecunUniform", .lecunUniform, 1.0 / 288, uniform(1.0 / 288)),
      ("lecunNormal", .lecunNormal, 1.0 / 288, cut * (1.0 / 288).squareRoot()),
      ("randomNormal", .randomNormal(), 0.0025, nil), ("randomUniform", .randomUniform(), 0.0025 / 3, 0.05),
      // The variance of a normal distribution cut off at two deviations is 0.7737 of the whole's.
      ("truncatedNormal", .truncatedNormal(deviations: 2), 0.0025 * 0.879_625_661_034_239_78 * 0.879_625_661_034_239_78, 0.1),
      ("kaimingNormal", .kaimingNormal(nonlinearity: .tanh, mode: .fanOut), 25.0 / 9 / 576, nil),
      ("kaimingUniform", .kaimingUniform(nonlinearity: .selu), 0.5625 / 288, uniform(0.5625 / 288)),
      ("kaimingUniform fanAvg", .kaimingUniform(mode: .fanAvg), 2 * average, uniform(2 * average)),
    ]
    for (name, initializer, variance, bound) in cases {
      let values = initializer(shape, generator: Generator(seed: 5)).elements(as: Double.self)
      let meanSquare = values.reduce(0) { $0 + $1 * $1 } / Double(values.count)
      // 18,432 values: five deviations of the mean square of a normal distribution, the widest of these.
      #expect(abs(meanSquare - variance) <= variance * 5 * (2.0 / Double(values.count)).squareRoot(), "\(name)")
      let mean = values.reduce(0, +) / Double(values.count)
      #expect(abs(mean) <= 5 * (variance / Double(values.count)).squareRoot(), "\(name)")
      guard let bound else { continue }
      let largest = values.map(abs).max() ?? 0
      #expect(largest <= bound * (1 + 1e-6) && largest > 0.98 * bound, "\(name): \(largest) of \(bound)")
    }
    #expect(Initializer.heNormal([3]).shape == [3])
  }

  @Test func identityAndDiracArePyTorchs() throws {
    let fixture = try PartsFixture("dirac")
    let cases: [(String, Shape, Int)] = [
      ("1d", [5, 3, 4], 1), ("2d", [6, 3, 3, 2], 2), ("3d", [4, 5, 2, 3, 3], 1), ("grouped", [6, 2, 5], 3),
    ]
    for (name, shape, groups) in cases {
      #expect(Initializer.dirac(groups: groups)(shape).floats == (try fixture(name)).floats, "\(name)")
    }
    #expect(Initializer.identity()([3, 5]).floats == (try PartsFixture("identity")("wide")).floats)
    #expect(Initializer.identity(gain: 1.5)([4, 4]).floats == (try PartsFixture("identity")("gain")).floats)
    // A convolution with such a weight hands its input on.
    let layer = Conv2d(4, 4, kernelSize: 3, padding: 1, groups: 2, bias: false)
    layer.weight.initialize(.dirac(groups: 2))
    let x = Tensor.randn([2, 4, 5, 5], generator: Generator(seed: 1))
    #expect(layer(x).floats == x.floats)
  }

  @Test func stftIsKerass() throws {
    let cases: [(String, Shape, Initializer)] = [
      ("real.hann.density.False.16", [9, 1, 16], .stft()),
      ("imag.hann.density.True.12", [9, 1, 12], .stft(.imaginary, periodic: true)),
      ("real.hamming.spectrum.False.10", [5, 1, 10], .stft(window: .hamming, scaling: .spectrum)),
      ("imag.blackman.None.True.8", [5, 1, 8], .stft(.imaginary, window: .blackman, scaling: nil, periodic: true)),
      ("real.None.density.False.8", [5, 1, 8], .stft(window: nil)),
      ("imag.hamming.density.False.1", [3, 1, 1], .stft(.imaginary, window: .hamming)),
    ]
    for (name, shape, initializer) in cases {
      expectClose(initializer(shape, .float64), try PartsFixture("stft")(name), .float64, name)
    }
    let custom = Initializer.stft(window: .values([1, 2, 3]), scaling: nil)([2, 1, 3], .float64)
    #expect(custom.reshaped(2, 3)[0].floats == [1, 2, 3])
  }

  @Test func sparseHasItsShareOfZerosInEachColumn() {
    let weight = Initializer.sparse(0.3, standardDeviation: 2)([50, 40], generator: Generator(seed: 8))
    let zeros = (weight .== 0).converted(to: .int64).sum(axis: 0).elements(as: Int.self)
    #expect(zeros.allSatisfy { $0 == 15 })
    let meanSquare = Double(square(weight).sum().item()) / (35 * 40)
    #expect(abs(meanSquare - 4) < 4 * 5 * (2.0 / 1400).squareRoot())
    // Not the same rows everywhere.
    let rows = (weight .== 0).converted(to: .int64).sum(axis: 1).elements(as: Int.self)
    #expect(Set(rows).count > 3)
    #expect(Initializer.sparse(0.01)([5, 3]).shape == [5, 3])
    #expect((Initializer.sparse(0.01)([5, 30]) .== 0).converted(to: .int64).sum().item(as: Int.self) == 30)
  }

  @Test(arguments: [[5, 3], [3, 5], [40, 40], [100, 70], [6, 2, 3, 3]])
  func orthogonalHasOrthonormalRowsOrColumns(_ sizes: [Int]) {
    let shape = Shape(sizes)
    for type in [ElementType.float64, .float32] {
      let weight = Initializer.orthogonal(gain: 2)(shape, type, generator: Generator(seed: 3))
      #expect(weight.shape == shape && weight.elementType == type)
      let matrix = weight.flattened(from: 1).converted(to: .float64) / 2
      let product = matrix.shape[0] < matrix.shape[1] ? matrix.matmul(matrix.T) : matrix.T.matmul(matrix)
      let error = abs(product - Tensor.eye(product.shape[0], elementType: .float64)).max().item(as: Double.self)
      #expect(error < (type == .float64 ? 1e-14 : 1e-6), "\(error)")
    }
  }

  /// Uniform over all orthogonal matrices: the elements of 3 × 3 ones have mean 0, mean square 1 / 3 and, as coordinates on a
  /// sphere, mean fourth power 1 / 5; a diagonal element is positive as often as not.
  @Test func orthogonalMatricesAreEquallyLikely() {
    let generator = Generator(seed: 11)
    let values = (0..<2000).flatMap { _ in
      Initializer.orthogonal()([3, 3], .float64, generator: generator).elements(as: Double.self)
    }
    let count = Double(values.count)
    let mean = values.reduce(0, +) / count
    let meanSquare = values.reduce(0) { $0 + $1 * $1 } / count
    let meanFourth = values.reduce(0) { $0 + $1 * $1 * $1 * $1 } / count
    #expect(abs(mean) < 5 * (1.0 / 3 / count).squareRoot())
    // The rows have length 1, so the mean square is exact; the mean of eighth powers is 1 / 9.
    #expect(abs(meanSquare - 1.0 / 3) < 1e-12)
    let deviation = (1.0 / 9 - 0.04).squareRoot() / 2000.0.squareRoot()
    #expect(abs(meanFourth - 0.2) < 5 * deviation)
    let positive = stride(from: 0, to: values.count, by: 9).filter { values[$0] > 0 }.count
    #expect(abs(positive - 1000) < 5 * 23)
  }
}
