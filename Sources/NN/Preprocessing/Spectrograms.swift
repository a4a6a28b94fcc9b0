import ApusTensor

/// The weights of the samples in a frame before its Fourier transform.
public enum SpectrogramWindow: Sendable, Equatable {
  case hann
  case hamming
  /// One weight for each sample.
  case values([Double])
  /// All samples alike.
  case none

  /// float64 [length].
  /// - Parameter periodic: as if one sample longer, without the last.
  func weights(_ length: Int, periodic: Bool, _ label: @autoclosure () -> String) -> Tensor {
    func cosine(_ a: Double) -> Tensor {
      if length == 1 { return Tensor.ones([1], .float64) }
      let angle = Tensor.arange(length, .float64) * (2 * Double.pi / Double(periodic ? length : length - 1))
      return a - (1 - a) * cos(angle)
    }
    switch self {
    case .hann: return cosine(0.5)
    case .hamming: return cosine(0.54)
    case .none: return Tensor.ones([length], .float64)
    case .values(let values):
      guard values.count == length else { stop("\(label()): a window of \(values.count) weights for frames of \(length)") }
      return Tensor(elements: values)
    }
  }
}

/// cos and −sin of 2π · frequency · time / transform length: float64 [frame length, transform length / 2 + 1] each.
private func fourierBasis(_ frameLength: Int, _ transformLength: Int) -> (real: Tensor, imaginary: Tensor) {
  let time = Tensor.arange(frameLength, .int64).expanded(at: 1)
  // The product is reduced as an integer: the angle stays small and exact.
  let turns = (time * Tensor.arange(transformLength / 2 + 1)) % transformLength
  let angle = turns.converted(to: .float64) * (2 * Double.pi / Double(transformLength))
  return (cos(angle), -sin(angle))
}

/// Short-time Fourier transforms of signals, as convolutions whose kernels may be trained; Keras's STFTSpectrogram.
///
/// Input: [batch, time, channels] (or [batch, channels, time]). Output, with bins = fftLength / 2 + 1 (twice as many for `.stft`):
/// [batch, frames, channels · bins] ([batch, channels · bins, frames]), with `expandDims` [batch, frames, bins, channels]
/// ([batch, channels, frames, bins]). Parameters: real_kernel and imag_kernel [bins, 1, frame length].
public final class STFTSpectrogram: Module, Layer {
  public enum Mode: String, Sendable, CaseIterable { case log, magnitude, psd, real, imag, angle, stft }
  /// What the window is divided by: the root of its squares' sum, or the sum of its absolute values.
  public enum Scaling: String, Sendable { case density, spectrum, none }
  public enum Padding: String, Sendable { case valid, same }
  public enum DataFormat: String, Sendable { case channelsLast, channelsFirst }

  public let mode: Mode
  public let frameLength, frameStep, fftLength: Int
  public let padding: Padding
  public let expandDims: Bool
  public let dataFormat: DataFormat
  public let realKernel: Parameter?
  public let imagKernel: Parameter?

  /// - Parameters:
  ///   - frameStep: samples from the begin of a frame to that of the next; by default half a frame.
  ///   - fftLength: by default the power of two that is not less than a frame.
  ///   - periodic: whether the window is a period of a periodic one.
  public init(
    mode: Mode = .log, frameLength: Int = 256, frameStep: Int? = nil, fftLength: Int? = nil, window: SpectrogramWindow = .hann,
    periodic: Bool = false, scaling: Scaling = .density, padding: Padding = .valid, expandDims: Bool = false,
    dataFormat: DataFormat = .channelsLast, elementType: ElementType = .float32
  ) {
    self.mode = mode
    self.frameLength = frameLength
    self.frameStep = frameStep ?? frameLength / 2
    var power = 1
    while power < frameLength { power *= 2 }
    self.fftLength = fftLength ?? power
    (self.padding, self.expandDims, self.dataFormat) = (padding, expandDims, dataFormat)
    guard frameLength > 0, (1...frameLength).contains(self.frameStep), self.fftLength >= frameLength else {
      stop(
        "STFTSpectrogram: frames of \(frameLength) need a step within 1 ... \(frameLength), not \(self.frameStep), and a transform "
          + "at least as long, not \(self.fftLength)")
    }
    // Keras scales only what has a window.
    var weights = window.weights(frameLength, periodic: periodic, "STFTSpectrogram")
    switch (window, scaling) {
    case (.none, _), (_, .none): break
    case (_, .density): weights = weights / sqrt(square(weights).sum())
    case (_, .spectrum): weights = weights / abs(weights).sum()
    }
    // Keras takes the frequencies' unit from the number of bins: one less for odd transforms.
    let basis = fourierBasis(frameLength, self.fftLength / 2 * 2)
    func kernel(_ part: Tensor) -> Parameter {
      let weighted = (part * weights.expanded(at: 1)).transposed().expanded(at: 1)
      return Parameter(weighted.converted(to: elementType).contiguous())
    }
    realKernel = mode == .imag ? nil : kernel(basis.real)
    imagKernel = mode == .real ? nil : kernel(basis.imaginary)
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    guard x.rank == 3, x.elementType.isFloatingPoint else {
      let form = dataFormat == .channelsLast ? "[batch, time, channels]" : "[batch, channels, time]"
      stop("\(label): takes floating point numbers \(form), got \(x.type)")
    }
    let signal = dataFormat == .channelsLast ? x.transposed(1, 2) : x
    let (batch, channels, time) = (signal.shape[0], signal.shape[1], signal.shape[2])
    guard padding == .same || time >= frameLength else {
      stop("\(label): a signal of \(time) samples is shorter than a frame of \(frameLength)")
    }
    var flat = signal.reshaped([batch * channels, 1, time])
    if padding == .same {
      let frames = (time + frameStep - 1) / frameStep
      let missing = Swift.max(0, (frames - 1) * frameStep + frameLength - time)
      flat = flat.padded([(0, 0), (0, 0), (missing / 2, missing - missing / 2)])
    }
    /// [batch, channels, bins, frames]
    func transformed(_ kernel: Parameter) -> Tensor {
      let y = conv1d(flat, kernel.value.converted(to: x.elementType), stride: frameStep)
      return y.reshaped([batch, channels, y.shape[1], y.shape[2]])
    }
    guard let realKernel else { return arranged(transformed(existing(imagKernel))) }
    let real = transformed(realKernel)
    guard let imagKernel else { return arranged(real) }
    let imaginary = transformed(imagKernel)
    let power = square(real) + square(imaginary)
    let epsilon = 1e-7  // Keras's
    switch mode {
    case .real, .imag, .stft: return arranged(concatenate([real, imaginary], axis: 2))
    case .angle: return arranged(atan2(imaginary, real))
    case .psd:
      // All frequencies but the first and the last stand for a negative one too.
      let inner = power[0..., 0..., 1..<(power.shape[2] - 1)]
      return arranged(power + inner.padded([(0, 0), (0, 0), (1, 1), (0, 0)]))
    case .magnitude: return arranged(sqrt(maximum(power, epsilon)))
    case .log: return arranged(ApusTensor.log(maximum(sqrt(maximum(power, epsilon)), epsilon)))
    }
  }

  /// From [batch, channels, bins, frames] to the output's form.
  private func arranged(_ y: Tensor) -> Tensor {
    let merged = expandDims ? y : y.flattened(from: 1, to: 2)
    let form =
      switch (dataFormat, expandDims) {
      case (.channelsLast, true): merged.transposed([0, 3, 2, 1])
      case (.channelsFirst, true): merged.transposed([0, 1, 3, 2])
      case (.channelsLast, false): merged.transposed(1, 2)
      case (.channelsFirst, false): merged
      }
    return recorded(form)
  }

  override var members: [Member] { Member.list(("real_kernel", realKernel), ("imag_kernel", imagKernel)) }
  override var arguments: String {
    "mode: .\(mode), frameLength: \(frameLength), frameStep: \(frameStep), fftLength: \(fftLength)"
  }
}

/// Spectrograms on the mel scale, 2595 log₁₀(1 + f / 700), in decibels; Keras's MelSpectrogram.
///
/// Input: [… , time]; output: [… , mel bins, frames]. The signal is mirrored at both ends by half a transform.
public final class MelSpectrogram: Module, Layer {
  public let fftLength, sequenceStride, sequenceLength: Int
  public let numMelBins: Int
  public let powerToDb: Bool
  public let topDb, magExp, minPower, refPower: Double
  /// float64 [fft length, bins] each.
  private let basis: (real: Tensor, imaginary: Tensor)
  /// float64 [bins, mel bins].
  private let melWeights: Tensor

  /// - Parameters:
  ///   - fftLength: samples in a transform.
  ///   - sequenceStride: samples from the begin of a frame to that of the next.
  ///   - sequenceLength: samples under the window, by default all of the transform's.
  ///   - samplingRate: samples per second.
  ///   - minFreq: the lowest frequency of the mel bins, in hertz.
  ///   - maxFreq: the highest, by default half the sampling rate.
  ///   - powerToDb: whether powers become decibels relative to `refPower`.
  ///   - topDb: how far below the loudest of all decibels end.
  ///   - magExp: the exponent of magnitudes: 1 for magnitudes, 2 for powers.
  ///   - minPower: smaller powers count as this.
  public init(
    fftLength: Int = 2048, sequenceStride: Int = 512, sequenceLength: Int? = nil, window: SpectrogramWindow = .hann,
    samplingRate: Int = 16_000, numMelBins: Int = 128, minFreq: Double = 20, maxFreq: Double? = nil, powerToDb: Bool = true,
    topDb: Double = 80, magExp: Double = 2, minPower: Double = 1e-10, refPower: Double = 1
  ) {
    self.fftLength = fftLength
    self.sequenceStride = sequenceStride
    self.sequenceLength = sequenceLength ?? fftLength
    (self.numMelBins, self.powerToDb, self.topDb, self.magExp) = (numMelBins, powerToDb, topDb, magExp)
    (self.minPower, self.refPower) = (minPower, refPower)
    guard fftLength > 1, sequenceStride > 0, (1...fftLength).contains(self.sequenceLength), numMelBins > 0 else {
      stop(
        "MelSpectrogram: \(self.sequenceLength) samples every \(sequenceStride) in transforms of \(fftLength), \(numMelBins) mel bins"
      )
    }
    let window = window.weights(self.sequenceLength, periodic: true, "MelSpectrogram")
    let before = (fftLength - self.sequenceLength) / 2
    let weights = window.padded([(before, fftLength - self.sequenceLength - before)]).expanded(at: 1)
    let fourier = fourierBasis(fftLength, fftLength)
    basis = (fourier.real * weights, fourier.imaginary * weights)

    // Triangles between neighbours of equally spaced points of the mel scale; the constant part of the signal has no bin.
    func mel(_ hertz: Tensor) -> Tensor { ApusTensor.log(1 + hertz / 700) * 1127 }
    let highest = maxFreq ?? Double(samplingRate / 2)
    let bins = fftLength / 2 + 1
    let frequencies = mel(Tensor.linspace(0, Double(samplingRate) / 2, count: bins, .float64)[1...]).expanded(at: 1)
    let ends = mel(Tensor(elements: [minFreq, highest])).elements(as: Double.self)
    let edges = Tensor.linspace(ends[0], ends[1], count: numMelBins + 2, .float64)
    let (lower, center, upper) = (edges[..<numMelBins], edges[1..<(numMelBins + 1)], edges[2...])
    let slopes = minimum((frequencies - lower) / (center - lower), (upper - frequencies) / (upper - center))
    melWeights = maximum(slopes, 0).padded([(1, 0), (0, 0)])
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let half = fftLength / 2
    guard let time = x.shape.last, time > half else {
      stop("\(label): takes [… , time] with more than \(half) samples to mirror, got \(x.type)")
    }
    let type = x.elementType == .float64 ? ElementType.float64 : .float32
    let count = (time + 2 * half - fftLength) / sequenceStride + 1
    // Places of the samples of each frame; those outside of the signal are mirrored inside.
    let starts = (Tensor.arange(count) * sequenceStride).expanded(at: 1)
    let mirrored = abs(starts + Tensor.arange(fftLength) - half)
    let places = (time - 1) - abs((time - 1) - mirrored)
    let frames = x.converted(to: type).take(places, axis: -1)
    let real = frames.matmul(basis.real.converted(to: type))
    let imaginary = frames.matmul(basis.imaginary.converted(to: type))
    let power = square(real) + square(imaginary)
    let spectrum = magExp == 2 ? power : magExp == 1 ? sqrt(power) : pow(power, magExp / 2)
    var y = spectrum.matmul(melWeights.converted(to: type))
    if powerToDb {
      let decibels = 10 / Double.ln10
      y = ApusTensor.log(maximum(y, minPower)) * decibels
      y = y - ApusTensor.log(Tensor.full([], Swift.max(Swift.abs(refPower), minPower), type)) * decibels
      y = maximum(y, y.max() - topDb)
    }
    return recorded(y.transposed())
  }

  override var members: [Member] { [] }
  override var arguments: String {
    "fftLength: \(fftLength), sequenceStride: \(sequenceStride), sequenceLength: \(sequenceLength), numMelBins: \(numMelBins)"
  }
}

extension Double {
  fileprivate static let ln10 = 2.302_585_092_994_046
}
