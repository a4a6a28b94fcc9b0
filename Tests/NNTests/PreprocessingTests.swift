import ApusFormats
import ApusNN
import ApusTensor
import Testing

/// Keras's values; Fixtures/make_preprocessing.py made them. Its float64 layers are met to rounding; quantiles and mel spectrograms are
/// float32 there.
@Suite struct PreprocessingTests {
  private static let file = try? loadTensors(from: fixturePath("preprocessing.safetensors"))

  private func values(_ name: String, _ type: ElementType = .float64) throws -> Tensor {
    let file = try #require(Self.file)
    let value = try #require(file[name], "no value \(name)")
    return value.elementType.isFloatingPoint ? value.converted(to: type) : value
  }

  /// Output and gradient in float64 and float32, eagerly and compiled.
  /// - Parameter seen: what of the output is compared.
  private func check(
    _ name: String, tolerance64: Double = 1e-12, seen: (Tensor) -> Tensor = { $0 }, _ layer: (ElementType) throws -> any Layer
  ) throws {
    for type in [ElementType.float64, .float32] {
      let (x, g) = (try values(name + "/x", type), try values(name + "/g", type))
      let layer = try layer(type)
      let (y, pullback) = vjp(at: x) { layer($0) }
      #expect(y.elementType == type)
      expectClose(seen(y), seen(try values(name + "/y")), type, name, tolerance64: tolerance64)
      expectClose(pullback(g), try values(name + "/dx"), type, name + " gradient", tolerance64: tolerance64)
      let compiled = compile { (x: Tensor) -> Tensor in layer(x) }
      expectClose(seen(compiled(x)), seen(y), type, name + " compiled")
    }
  }

  // MARK: Numbers

  @Test(arguments: [("last", [-1]), ("two", [1, 2]), ("none", [])]) func normalization(_ name: String, _ axis: [Int]) throws {
    for invert in [false, true] {
      let layer = Normalization(axis: axis, invert: invert)
      let path = "normalization_\(name)" + (invert ? "_invert" : "")
      layer.adapt(try values(path + "/data"))
      expectClose(try #require(layer.mean).value.flattened(), try values(path + "/mean").flattened(), .float64, "mean")
      expectClose(
        try #require(layer.variance).value.flattened(), try values(path + "/variance").flattened(), .float64, "variance")
      try check(path) { _ in layer }
    }
  }

  @Test func normalizationOfBatchesAndGiven() throws {
    let layer = Normalization()
    let data = try values("normalization_batches/data")
    layer.adapt([data[..<7], data[7..<30], data[30...]])
    try check("normalization_batches") { _ in layer }
    try check("normalization_given") { _ in
      Normalization(mean: Tensor(elements: [1.0, -2, 0.5]), variance: Tensor(elements: [4.0, 0, 2]))
    }
    #expect(layer.namedVariables.map(\.name) == ["mean", "variance"])
  }

  @Test func rescaling() throws {
    // Keras rounds the scale to float32.
    try check("rescaling") { _ in Rescaling(Double(Float(1 / 127.5)), offset: -1) }
    let bytes = Rescaling(1 / 255.0)(try values("rescaling_bytes/x"))
    #expect(bytes.elementType == .float32)
    expectClose(bytes, try values("rescaling_bytes/y"), .float32, "bytes")
  }

  @Test(arguments: [CategoryOutput.int, .oneHot, .multiHot, .count]) func discretization(_ mode: CategoryOutput) throws {
    let layer = Discretization(binBoundaries: [-1, 0, 0.5], outputMode: mode)
    let name = "discretization_\(mode.rawValue)"
    for type in [ElementType.float64, .float32] {
      let x = try values(name + "/x", type)
      expectClose(layer(x), try values(name + "/y"), .float64, name)
      expectClose(compile { (x: Tensor) -> Tensor in layer(x) }(x), try values(name + "/y"), .float64, name + " compiled")
    }
    if mode == .oneHot {
      let column = Discretization(binBoundaries: [-1, 0], outputMode: .oneHot)(try values("discretization_column/x"))
      expectClose(column, try values("discretization_column/y"), .float64, "column")
    }
  }

  @Test func discretizationAdapts() throws {
    let data = try values("quantiles/data")
    for (name, bins, epsilon) in [("coarse", 4, 0.1), ("fine", 10, 0.01)] {
      let layer = Discretization(numBins: bins, epsilon: epsilon)
      layer.adapt(data)
      expectClose(
        Tensor(elements: try #require(layer.binBoundaries)), try values("quantiles_\(name)/boundaries"), .float32, name)
      layer.adapt([data[..<100], data[100..<101], data[101...]])
      expectClose(
        Tensor(elements: try #require(layer.binBoundaries)), try values("quantiles_\(name)_batches/boundaries"), .float32, name)
    }
    let few = Discretization(numBins: 3)
    few.adapt(data[..<2])
    expectClose(Tensor(elements: try #require(few.binBoundaries)), try values("quantiles_few/boundaries"), .float32, "few")
  }

  // MARK: Categories

  @Test(arguments: [CategoryOutput.oneHot, .multiHot, .count]) func categoryEncoding(_ mode: CategoryOutput) throws {
    let layer = CategoryEncoding(6, outputMode: mode)
    for form in ["", "_row", "_column"] {
      let name = "category_encoding_\(mode.rawValue)\(form)"
      let x = try values(name + "/x")
      expectClose(layer(x), try values(name + "/y"), .float64, name)
      expectClose(compile { (x: Tensor) -> Tensor in layer(x) }(x), try values(name + "/y"), .float64, name + " compiled")
    }
  }

  @Test func categoryEncodingWithWeightsAndOfWrongCategories() throws {
    let layer = CategoryEncoding(6, outputMode: .count, elementType: .float64)
    let y = layer(try values("category_encoding_weighted/x"), countWeights: try values("category_encoding_weighted/weights"))
    expectClose(y, try values("category_encoding_weighted/y"), .float64, "weighted")
    try layer.validate(Tensor([0, 5]))
    #expect(throws: PreprocessingError.categoryOutOfRange(value: 6, position: 2, count: 6)) {
      try layer.validate(Tensor([[0, 5], [6, -1]]))
    }
  }

  private func check(_ name: String, _ layer: IntegerLookup, adapts: Bool = true, compiles: Bool = true) throws {
    if adapts { layer.adapt(try values(name + "/data")) }
    let (x, y) = (try values(name + "/x"), try values(name + "/y"))
    #expect(layer.vocabulary() == (try values(name + "/vocabulary")).elements(as: Int.self), "\(name)")
    expectClose(layer(x), y, .float32, name)
    if compiles { expectClose(compile { (x: Tensor) -> Tensor in layer(x) }(x), y, .float32, name + " compiled") }
  }

  @Test func integerLookup() throws {
    try check("integer_lookup", IntegerLookup())
    try check("integer_lookup_mask", IntegerLookup(maskToken: 0))
    try check("integer_lookup_max", IntegerLookup(maxTokens: 4))
    try check("integer_lookup_buckets", IntegerLookup(numOOVIndices: 3, maskToken: 0))
    try check("integer_lookup_farmhash", IntegerLookup(numOOVIndices: 3, oovMethod: .farmhash), compiles: false)
    try check("integer_lookup_siphash", IntegerLookup(numOOVIndices: 3, oovMethod: .siphash(133, 137)), compiles: false)
    try check("integer_lookup_given", IntegerLookup(vocabulary: [1000, 9, 7]), adapts: false)
    for mode in [CategoryOutput.oneHot, .multiHot, .count, .tfIdf] {
      let layer = IntegerLookup(numOOVIndices: 2, maskToken: 7, outputMode: mode)
      try check("integer_lookup_\(mode.rawValue)", layer)
    }
    try check("integer_lookup_padded", IntegerLookup(maxTokens: 12, outputMode: .multiHot, padToMaxTokens: true))
    let inverted = IntegerLookup(vocabulary: [12, 36, 1138], invert: true)
    expectClose(inverted(try values("integer_lookup_invert/x")), try values("integer_lookup_invert/y"), .float64, "invert")
  }

  @Test func integerLookupOfData() throws {
    let layer = IntegerLookup(numOOVIndices: 0, maskToken: 0, vocabulary: [5, 6])
    try layer.validate(Tensor([0, 5, 6]))
    #expect(throws: PreprocessingError.outOfVocabulary(token: "7", position: 1)) { try layer.validate(Tensor([5, 7])) }
    #expect(throws: PreprocessingError.self) { try layer.setVocabulary([]) }
    #expect(throws: PreprocessingError.self) { try layer.setVocabulary([1, 1]) }
    #expect(throws: PreprocessingError.self) { try layer.setVocabulary([1, 0]) }
    #expect(throws: PreprocessingError.self) { try IntegerLookup(maxTokens: 3).setVocabulary([1, 2, 3]) }
    #expect(throws: PreprocessingError.self) { try IntegerLookup(outputMode: .tfIdf).setVocabulary([1, 2], idfWeights: [1]) }
  }

  // MARK: Sound

  @Test(arguments: STFTSpectrogram.Mode.allCases) func stftSpectrogram(_ mode: STFTSpectrogram.Mode) throws {
    // An angle of π is one of −π: the sign is that of an imaginary part that is zero but for rounding.
    func point(_ angle: Tensor) -> Tensor { stack([cos(angle), sin(angle)]) }
    try check("stft_\(mode.rawValue)", tolerance64: 1e-11, seen: mode == .angle ? point : { $0 }) {
      STFTSpectrogram(mode: mode, frameLength: 12, frameStep: 5, fftLength: 16, elementType: $0)
    }
  }

  @Test func stftSpectrogramOptions() throws {
    func make(
      _ type: ElementType, step: Int? = 5, length: Int? = 16, window: SpectrogramWindow = .hann, periodic: Bool = false,
      scaling: STFTSpectrogram.Scaling = .density, padding: STFTSpectrogram.Padding = .valid, expandDims: Bool = false,
      dataFormat: STFTSpectrogram.DataFormat = .channelsLast, mode: STFTSpectrogram.Mode = .magnitude
    ) -> STFTSpectrogram {
      STFTSpectrogram(
        mode: mode, frameLength: 12, frameStep: step, fftLength: length, window: window, periodic: periodic, scaling: scaling,
        padding: padding, expandDims: expandDims, dataFormat: dataFormat, elementType: type)
    }
    try check("stft_same", tolerance64: 1e-11) { make($0, padding: .same) }
    try check("stft_expand", tolerance64: 1e-11) { make($0, expandDims: true) }
    try check("stft_hamming", tolerance64: 1e-11) { make($0, window: .hamming, periodic: true, scaling: .spectrum) }
    try check("stft_plain", tolerance64: 1e-11) { make($0, window: .none, scaling: .none) }
    let weights = Tensor.linspace(0.2, 1, count: 12, .float64).elements(as: Double.self)
    try check("stft_window", tolerance64: 1e-11) { make($0, window: .values(weights)) }
    try check("stft_step", tolerance64: 1e-11) { make($0, step: nil, length: nil) }
    let first = make(.float64, expandDims: true, dataFormat: .channelsFirst, mode: .real)
    expectClose(
      first(try values("stft_channels_first/x")), try values("stft_channels_first/y"), .float64, "channels first")
    #expect(first.namedParameters.map(\.name) == ["real_kernel"])
  }

  /// Keras's sums in float32, so float64 is no nearer to them; logarithms of small powers have the largest errors.
  @Test func melSpectrogram() throws {
    func make(
      _ window: SpectrogramWindow = .hann, length: Int? = nil, least: Double = 20, most: Double? = nil, decibels: Bool = true,
      exponent: Double = 2, reference: Double = 1, range: Double = 80
    ) -> MelSpectrogram {
      MelSpectrogram(
        fftLength: 64, sequenceStride: 25, sequenceLength: length, window: window, samplingRate: 8000, numMelBins: 10,
        minFreq: least, maxFreq: most, powerToDb: decibels, topDb: range, magExp: exponent, refPower: reference)
    }
    try check("mel_default", tolerance64: 1e-5) { _ in make() }
    try check("mel_magnitudes", tolerance64: 1e-5) { _ in make(decibels: false, exponent: 1) }
    try check("mel_hamming", tolerance64: 1e-5) { _ in make(.hamming, length: 48, least: 100, most: 3000) }
    try check("mel_reference", tolerance64: 1e-5) { _ in make(reference: 0.1, range: 20) }
    expectClose(make()(try values("mel_one/x")), try values("mel_one/y"), .float32, "one signal")
  }

  @Test func pipeline() throws {
    let layer = Pipeline {
      Rescaling(2, offset: 1)
      Discretization(binBoundaries: [0, 2])
    }
    expectClose(layer(try values("pipeline/x")), try values("pipeline/y"), .float64, "pipeline")
    #expect(layer.layers.count == 2)
  }
}
