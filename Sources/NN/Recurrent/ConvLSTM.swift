import ApusTensor

/// One step of a convolutional long short-term memory (Shi et al. 2015, as Keras computes it): the products of an ``LSTMCell`` are
/// convolutions. Gates in the order input, forget, cell, output.
///
/// Parameters: weight_ih [4 · filters, in channels, kernel…], weight_hh [4 · filters, filters, kernel…], initially Glorot uniform;
/// bias [4 · filters], zeros but for the forget gate's ones.
public final class ConvLSTMCell: Module, RecurrentCell {
  public let filters: Int
  public let weightIH, weightHH: Parameter
  public let bias: Parameter?
  private let geometry, recurrent: ConvolutionParameters

  /// - Parameters:
  ///   - spatialRank: 1 to 3.
  ///   - padding: of the input's convolution; the hidden state's keeps its size.
  init(
    _ spatialRank: Int, _ inChannels: Int, _ filters: Int, _ kernelSize: some SpatialSizes, _ stride: some SpatialSizes,
    _ padding: Padding, _ dilation: some SpatialSizes, _ useBias: Bool, _ unitForgetBias: Bool, _ elementType: ElementType,
    _ generator: Generator
  ) {
    let name = "ConvLSTM\(spatialRank)d"
    let kernel = spatial(kernelSize, spatialRank, "kernelSize", name)
    let (steps, apart) = (spatial(stride, spatialRank, "stride", name), spatial(dilation, spatialRank, "dilation", name))
    guard inChannels > 0, filters > 0, (kernel + steps + apart).allSatisfy({ $0 > 0 }) else {
      stop("\(name): channels, filters, kernelSize \(kernel), stride \(steps) and dilation \(apart) must be positive")
    }
    /// What keeps the size, the end getting one more where it is odd.
    func same(_ dilation: [Int]) -> (low: [Int], high: [Int]) {
      let totals = zip(kernel, dilation).map { ($0 - 1) * $1 }
      return (totals.map { $0 / 2 }, totals.map { $0 - $0 / 2 })
    }
    let ones = Shape(repeating: 1, count: spatialRank)
    var (low, high) = ([Int](repeating: 0, count: spatialRank), [Int](repeating: 0, count: spatialRank))
    switch padding.kind {
    case .valid: break
    case .sizes(let sizes):
      low = spatial(sizes, spatialRank, "padding", name)
      high = low
    case .same:
      guard steps.allSatisfy({ $0 == 1 }) else { stop("\(name): padding .same needs stride 1, got \(steps)") }
      (low, high) = same(apart)
    }
    geometry = ConvolutionParameters(
      stride: Shape(steps), padLow: Shape(low), padHigh: Shape(high), kernelDilation: Shape(apart), inputDilation: ones, groups: 1
    )
    let own = same(Array(ones))
    recurrent = ConvolutionParameters(
      stride: ones, padLow: Shape(own.low), padHigh: Shape(own.high), kernelDilation: ones, inputDilation: ones, groups: 1)
    self.filters = filters
    let make = Initializer.xavierUniform()
    weightIH = Parameter(make(Shape([4 * filters, inChannels] + kernel), elementType, generator: generator))
    weightHH = Parameter(make(Shape([4 * filters, filters] + kernel), elementType, generator: generator))
    let forget = Tensor.full([filters], unitForgetBias ? 1.0 : 0.0, elementType)
    let others = Tensor.zeros([filters], elementType)
    bias = useBias ? Parameter(concatenate([others, forget, others, others])) : nil
  }

  var spatialRank: Int { weightIH.shape.count - 2 }

  private func inputGates(_ x: Tensor) -> Tensor {
    guard x.rank == weightIH.shape.count, x.shape[1] == weightIH.shape[1] else {
      stop("\(label): takes [batch, \(weightIH.shape[1]), \(spatialRank) dimensions] at each step, got shape \(x.shape)")
    }
    return apply(.convolution(geometry), bias.map { [x, weightIH.value, $0.value] } ?? [x, weightIH.value])[0]
  }

  private func step(gates: Tensor, _ states: [Tensor]) -> [Tensor] {
    let parts = (gates + apply(.convolution(recurrent), states[0], weightHH.value)).chunked(4, axis: 1)
    let c = sigmoid(parts[1]) * states[1] + sigmoid(parts[0]) * tanh(parts[2])
    return [sigmoid(parts[3]) * tanh(c), c]
  }

  public func initialStates(_ x: Tensor) -> [Tensor] {
    guard x.rank == weightIH.shape.count else { stop("\(label): takes [batch, channels, …] at each step, got shape \(x.shape)") }
    let sizes = (0..<spatialRank).map { i in
      let reach = geometry.kernelDilation[i] * (weightIH.shape[i + 2] - 1)
      return (x.shape[i + 2] + geometry.padLow[i] + geometry.padHigh[i] - reach - 1) / geometry.stride[i] + 1
    }
    let zeros = Tensor.zeros(Shape([x.shape[0], filters] + sizes), x.elementType)
    return [zeros, zeros]
  }

  public func step(_ x: Tensor, _ states: [Tensor]) -> (output: Tensor, states: [Tensor]) {
    let next = step(gates: inputGates(x), states)
    return (next[0], next)
  }

  /// The inputs' convolutions of all steps are one.
  public func overSteps(_ x: Tensor, _ states: [Tensor], _ walk: RecurrentWalk) -> RecurrentWalk.Results {
    let all = inputGates(x.flattened(from: 0, to: 1))
    let gates = all.reshaped([x.shape[0], x.shape[1]] + Array(all.shape.dropFirst()))
    return GatesFirst(self).stepByStep(gates, states, walk)
  }

  /// The cell once the gates of the inputs are known.
  private final class GatesFirst: Module, RecurrentCell {
    private let cell: ConvLSTMCell
    init(_ cell: ConvLSTMCell) { self.cell = cell }
    func initialStates(_ x: Tensor) -> [Tensor] { preconditionFailure("states are given") }
    func step(_ x: Tensor, _ states: [Tensor]) -> (output: Tensor, states: [Tensor]) {
      let next = cell.step(gates: x, states)
      return (next[0], next)
    }
  }

  override var members: [Member] { Member.list(("weight_ih", weightIH), ("weight_hh", weightHH), ("bias", bias)) }
  override var arguments: String { "\(weightIH.shape[1]), \(filters), kernelSize: \(brief(Array(weightIH.shape[2...])))" }
}

extension CellRNN {
  var spatialRank: Int { (cell as? ConvLSTMCell)?.spatialRank ?? 0 }
}

/// A convolutional long short-term memory over sequences [batch, steps, in channels, length] (Shi et al. 2015); Keras's
/// ConvLSTM1D, channels first. Parameters: see ``ConvLSTMCell``, under `cell`.
public final class ConvLSTM1d: CellRNN {
  /// - Parameters:
  ///   - kernelSize, stride, dilation: one number for all spatial dimensions, or one for each.
  ///   - padding: of the input's convolution: one number, one for each spatial dimension, or `.same`.
  ///   - unitForgetBias: the forget gate's bias begins with ones (Jozefowicz et al. 2015).
  ///   - returnSequences, goBackwards, stateful, unroll, zeroOutputForMask: see ``CellRNN``.
  public init(
    _ inChannels: Int, _ filters: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some PaddingConvertible = 0, dilation: some SpatialSizes = 1, bias: Bool = true, unitForgetBias: Bool = true,
    returnSequences: Bool = false, goBackwards: Bool = false, stateful: Bool = false, unroll: Bool = false,
    zeroOutputForMask: Bool = false, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      ConvLSTMCell(
        1, inChannels, filters, kernelSize, stride, padding.padding, dilation, bias, unitForgetBias, elementType, generator),
      returnSequences: returnSequences, goBackwards: goBackwards, stateful: stateful, unroll: unroll,
      zeroOutputForMask: zeroOutputForMask)
  }
}

/// A convolutional long short-term memory over sequences [batch, steps, in channels, height, width] (Shi et al. 2015); Keras's
/// ConvLSTM2D, channels first. Parameters: see ``ConvLSTMCell``, under `cell`.
public final class ConvLSTM2d: CellRNN {
  /// - Parameters:
  ///   - kernelSize, stride, dilation: one number for all spatial dimensions, or one for each.
  ///   - padding: of the input's convolution: one number, one for each spatial dimension, or `.same`.
  ///   - unitForgetBias: the forget gate's bias begins with ones (Jozefowicz et al. 2015).
  ///   - returnSequences, goBackwards, stateful, unroll, zeroOutputForMask: see ``CellRNN``.
  public init(
    _ inChannels: Int, _ filters: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some PaddingConvertible = 0, dilation: some SpatialSizes = 1, bias: Bool = true, unitForgetBias: Bool = true,
    returnSequences: Bool = false, goBackwards: Bool = false, stateful: Bool = false, unroll: Bool = false,
    zeroOutputForMask: Bool = false, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      ConvLSTMCell(
        2, inChannels, filters, kernelSize, stride, padding.padding, dilation, bias, unitForgetBias, elementType, generator),
      returnSequences: returnSequences, goBackwards: goBackwards, stateful: stateful, unroll: unroll,
      zeroOutputForMask: zeroOutputForMask)
  }
}

/// A convolutional long short-term memory over sequences [batch, steps, in channels, depth, height, width] (Shi et al. 2015); Keras's
/// ConvLSTM3D, channels first. Parameters: see ``ConvLSTMCell``, under `cell`.
public final class ConvLSTM3d: CellRNN {
  /// - Parameters:
  ///   - kernelSize, stride, dilation: one number for all spatial dimensions, or one for each.
  ///   - padding: of the input's convolution: one number, one for each spatial dimension, or `.same`.
  ///   - unitForgetBias: the forget gate's bias begins with ones (Jozefowicz et al. 2015).
  ///   - returnSequences, goBackwards, stateful, unroll, zeroOutputForMask: see ``CellRNN``.
  public init(
    _ inChannels: Int, _ filters: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some PaddingConvertible = 0, dilation: some SpatialSizes = 1, bias: Bool = true, unitForgetBias: Bool = true,
    returnSequences: Bool = false, goBackwards: Bool = false, stateful: Bool = false, unroll: Bool = false,
    zeroOutputForMask: Bool = false, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      ConvLSTMCell(
        3, inChannels, filters, kernelSize, stride, padding.padding, dilation, bias, unitForgetBias, elementType, generator),
      returnSequences: returnSequences, goBackwards: goBackwards, stateful: stateful, unroll: unroll,
      zeroOutputForMask: zeroOutputForMask)
  }
}
