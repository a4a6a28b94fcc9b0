import ApusTensor

/// What instance normalization shares over any number of dimensions; use ``InstanceNorm1d``, ``InstanceNorm2d`` or ``InstanceNorm3d``.
///
/// (x − mean) / √(variance + ε) · weight + bias with the mean and biased variance of each channel of each sample (Ulyanov, Vedaldi
/// and Lempitsky 2016). If statistics are tracked, evaluation uses the running ones.
///
/// Parameters, if affine: weight (ones) and bias (zeros) [channels]. Variables, if tracked: runningMean, runningVar [channels],
/// numBatchesTracked [], which PyTorch has and leaves at zero.
public class InstanceNormLayer: Module, Layer {
  public let epsilon, momentum: Double
  public let affine, trackRunningStats: Bool
  private let rank: Int
  private let elementType: ElementType?
  private var channels: Int?
  public private(set) final var weight, bias: Parameter?
  public private(set) final var runningMean, runningVar, numBatchesTracked: Variable?

  fileprivate init(
    _ rank: Int, _ channels: Int?, _ epsilon: Double, _ momentum: Double, _ affine: Bool, _ trackRunningStats: Bool,
    _ elementType: ElementType?
  ) {
    self.rank = rank
    (self.epsilon, self.momentum, self.affine, self.trackRunningStats) = (epsilon, momentum, affine, trackRunningStats)
    self.elementType = elementType
    super.init()
    if let channels { build(channels, elementType ?? .float32) }
  }

  private final func build(_ channels: Int, _ type: ElementType) {
    self.channels = channels
    let (ones, zeros) = (Tensor.ones([channels], type), Tensor.zeros([channels], type))
    if affine { (weight, bias) = (Parameter(ones), Parameter(zeros)) }
    if trackRunningStats {
      (runningMean, runningVar, numBatchesTracked) = (Variable(zeros), Variable(ones), Variable(Tensor(0)))
    }
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == rank else { stop("\(label): takes \(rank) dimensions [batch, channels, …], got shape \(x.shape)") }
    if channels == nil { untraced { build(x.shape[1], elementType ?? x.elementType) } }
    guard x.shape[1] == channels else {
      stop("\(label): the input of shape \(x.shape) has \(x.shape[1]) channels, expected \(channels!)")
    }
    let (batch, size) = (x.shape[0], x.shape[2...].reduce(1, *))
    let perChannel = Shape([x.shape[1]] + Array(repeating: 1, count: rank - 2))
    if !isTraining, let runningMean, let runningVar {
      return recorded {
        let weight = weight?.value ?? Tensor.ones([x.shape[1]], x.elementType)
        let bias = bias?.value ?? Tensor.zeros([x.shape[1]], x.elementType)
        return batchNorm(x, weight: weight, bias: bias, mean: runningMean.value, variance: runningVar.value, epsilon: epsilon)
      }
    }
    guard size > 1 else { stop("\(label): needs more than one value in each channel, got an input of shape \(x.shape)") }
    return recorded {
      let rows = x.reshaped([batch * x.shape[1], size])
      if isTraining && trackRunningStats { withoutGradient { track(rows.detached(), batch) } }
      let y = layerNorm(rows, normalizedShape: [size], epsilon: epsilon).reshaped(x.shape)
      guard let weight, let bias else { return y }
      return y * weight.value.reshaped(perChannel) + bias.value.reshaped(perChannel)
    }
  }

  /// The means over the batch of each sample's mean and unbiased variance, as in PyTorch.
  private final func track(_ rows: Tensor, _ batch: Int) {
    guard let runningMean, let runningVar, let channels else { return }
    func follow(_ running: Variable, _ now: Tensor) {
      let mean = now.reshaped([batch, channels]).mean(axis: 0).converted(to: running.elementType)
      running.value = running.value * (1 - momentum) + mean * momentum
    }
    follow(runningMean, rows.mean(axis: 1))
    follow(runningVar, rows.variance(axis: 1))
  }

  override final var members: [Member] {
    Member.list(
      ("weight", weight), ("bias", bias), ("running_mean", runningMean), ("running_var", runningVar),
      ("num_batches_tracked", numBatchesTracked))
  }
  override final var awaitsInput: Bool { channels == nil && (affine || trackRunningStats) }
  override final var arguments: String {
    var parts = channels.map { ["\($0)"] } ?? []
    if epsilon != 1e-5 { parts.append("epsilon: \(epsilon)") }
    if momentum != 0.1 { parts.append("momentum: \(momentum)") }
    if affine { parts.append("affine: true") }
    if trackRunningStats { parts.append("trackRunningStats: true") }
    return parts.joined(separator: ", ")
  }
}

/// Instance normalization of [batch, channels, length].
public final class InstanceNorm1d: InstanceNormLayer {
  public init(
    _ channels: Int, epsilon: Double = 1e-5, momentum: Double = 0.1, affine: Bool = false, trackRunningStats: Bool = false,
    elementType: ElementType = .float32
  ) { super.init(3, channels, epsilon, momentum, affine, trackRunningStats, elementType) }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(
    epsilon: Double = 1e-5, momentum: Double = 0.1, affine: Bool = false, trackRunningStats: Bool = false,
    elementType: ElementType? = nil
  ) { super.init(3, nil, epsilon, momentum, affine, trackRunningStats, elementType) }
}

/// Instance normalization of [batch, channels, height, width].
public final class InstanceNorm2d: InstanceNormLayer {
  public init(
    _ channels: Int, epsilon: Double = 1e-5, momentum: Double = 0.1, affine: Bool = false, trackRunningStats: Bool = false,
    elementType: ElementType = .float32
  ) { super.init(4, channels, epsilon, momentum, affine, trackRunningStats, elementType) }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(
    epsilon: Double = 1e-5, momentum: Double = 0.1, affine: Bool = false, trackRunningStats: Bool = false,
    elementType: ElementType? = nil
  ) { super.init(4, nil, epsilon, momentum, affine, trackRunningStats, elementType) }
}

/// Instance normalization of [batch, channels, depth, height, width].
public final class InstanceNorm3d: InstanceNormLayer {
  public init(
    _ channels: Int, epsilon: Double = 1e-5, momentum: Double = 0.1, affine: Bool = false, trackRunningStats: Bool = false,
    elementType: ElementType = .float32
  ) { super.init(5, channels, epsilon, momentum, affine, trackRunningStats, elementType) }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(
    epsilon: Double = 1e-5, momentum: Double = 0.1, affine: Bool = false, trackRunningStats: Bool = false,
    elementType: ElementType? = nil
  ) { super.init(5, nil, epsilon, momentum, affine, trackRunningStats, elementType) }
}
