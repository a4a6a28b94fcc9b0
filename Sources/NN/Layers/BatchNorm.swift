import ApusTensor

/// What batch normalization shares over any number of dimensions; use ``BatchNorm1d``, ``BatchNorm2d`` or ``BatchNorm3d``.
///
/// In training (x − mean) / √(variance + ε) · weight + bias with each channel's mean and biased variance over the batch;
/// the running statistics follow them, the variance unbiased. In evaluation with the running statistics.
/// (Ioffe and Szegedy 2015.)
///
/// Parameters: weight (ones) and bias (zeros) [channels]. Variables: runningMean, runningVar [channels], numBatchesTracked [].
public class BatchNormLayer: Module, Layer {
  public let epsilon: Double
  /// How much of the running statistics is replaced by each batch's; nil: their plain average over all batches.
  public internal(set) final var momentum: Double?
  public let affine, trackRunningStats: Bool
  private let ranks: ClosedRange<Int>
  private let elementType: ElementType?
  private var channels: Int?
  /// The factor and the summand of each channel; nil if not affine.
  public private(set) final var weight, bias: Parameter?
  public private(set) final var runningMean, runningVar, numBatchesTracked: Variable?
  /// What stands for weight and bias if not affine.
  private var plain: (weight: Tensor, bias: Tensor)?

  fileprivate init(
    _ ranks: ClosedRange<Int>, _ channels: Int?, _ epsilon: Double, _ momentum: Double?, _ affine: Bool,
    _ trackRunningStats: Bool,
    _ elementType: ElementType?
  ) {
    self.ranks = ranks
    self.epsilon = epsilon
    self.momentum = momentum
    self.affine = affine
    self.trackRunningStats = trackRunningStats
    self.elementType = elementType
    super.init()
    if let channels { build(channels, elementType ?? .float32) }
  }

  private final func build(_ channels: Int, _ type: ElementType) {
    self.channels = channels
    let (ones, zeros) = (Tensor.ones([channels], type), Tensor.zeros([channels], type))
    if affine {
      weight = Parameter(ones)
      bias = Parameter(zeros)
    } else {
      plain = (ones, zeros)
    }
    if trackRunningStats {
      runningMean = Variable(zeros)
      runningVar = Variable(ones)
      numBatchesTracked = Variable(Tensor(0))
    }
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard ranks.contains(x.rank) else {
      let expected = ranks.count > 2 ? "\(ranks.lowerBound) or more" : ranks.map(String.init).joined(separator: " or ")
      stop("\(label): takes \(expected) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    if channels == nil { untraced { build(x.shape[1], elementType ?? x.elementType) } }
    guard x.shape[1] == channels else {
      stop("\(label): the input of shape \(x.shape) has \(x.shape[1]) channels, expected \(channels!)")
    }
    return recorded {
      let weight = weight?.value ?? plain!.weight
      let bias = bias?.value ?? plain!.bias
      if !isTraining, let runningMean, let runningVar {
        return batchNorm(x, weight: weight, bias: bias, mean: runningMean.value, variance: runningVar.value, epsilon: epsilon)
      }
      let count = x.count / Swift.max(x.shape[1], 1)
      if isTraining && count <= 1 {
        stop("\(label): needs more than one value per channel in training, got an input of shape \(x.shape)")
      }
      let (y, mean, variance) = batchNorm(x, weight: weight, bias: bias, epsilon: epsilon)
      if isTraining { withoutGradient { track(mean.detached(), variance.detached(), count) } }
      return y
    }
  }

  /// The running statistics as they were at first: means 0, variances 1, no batches.
  public final func resetRunningStats() {
    guard let runningMean, let runningVar, let numBatchesTracked else { return }
    runningMean.value = Tensor.zeros(runningMean.shape, runningMean.elementType)
    runningVar.value = Tensor.ones(runningVar.shape, runningVar.elementType)
    numBatchesTracked.value = Tensor(0)
  }

  private final func track(_ mean: Tensor, _ variance: Tensor, _ count: Int) {
    guard let runningMean, let runningVar, let numBatchesTracked else { return }
    let batches = numBatchesTracked.value + 1
    numBatchesTracked.value = batches
    let type = runningMean.elementType
    let unbiased = variance * (Double(count) / Double(count - 1))
    if let momentum {
      runningMean.value = runningMean.value * (1 - momentum) + mean.converted(to: type) * momentum
      runningVar.value = runningVar.value * (1 - momentum) + unbiased.converted(to: type) * momentum
    } else {
      let share = 1 / batches.converted(to: type)
      runningMean.value = runningMean.value * (1 - share) + mean.converted(to: type) * share
      runningVar.value = runningVar.value * (1 - share) + unbiased.converted(to: type) * share
    }
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
    if momentum != 0.1 { parts.append("momentum: \(momentum.map { "\($0)" } ?? "nil")") }
    if !affine { parts.append("affine: false") }
    if !trackRunningStats { parts.append("trackRunningStats: false") }
    return parts.joined(separator: ", ")
  }
}

/// Batch normalization of [batch, channels] or [batch, channels, length].
public final class BatchNorm1d: BatchNormLayer {
  public init(
    _ channels: Int, epsilon: Double = 1e-5, momentum: Double? = 0.1, affine: Bool = true, trackRunningStats: Bool = true,
    elementType: ElementType = .float32
  ) { super.init(2...3, channels, epsilon, momentum, affine, trackRunningStats, elementType) }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(
    epsilon: Double = 1e-5, momentum: Double? = 0.1, affine: Bool = true, trackRunningStats: Bool = true,
    elementType: ElementType? = nil
  ) { super.init(2...3, nil, epsilon, momentum, affine, trackRunningStats, elementType) }
}

/// Batch normalization of [batch, channels, height, width].
public final class BatchNorm2d: BatchNormLayer {
  public init(
    _ channels: Int, epsilon: Double = 1e-5, momentum: Double? = 0.1, affine: Bool = true, trackRunningStats: Bool = true,
    elementType: ElementType = .float32
  ) { super.init(4...4, channels, epsilon, momentum, affine, trackRunningStats, elementType) }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(
    epsilon: Double = 1e-5, momentum: Double? = 0.1, affine: Bool = true, trackRunningStats: Bool = true,
    elementType: ElementType? = nil
  ) { super.init(4...4, nil, epsilon, momentum, affine, trackRunningStats, elementType) }
}

/// Batch normalization of [batch, channels, depth, height, width].
public final class BatchNorm3d: BatchNormLayer {
  public init(
    _ channels: Int, epsilon: Double = 1e-5, momentum: Double? = 0.1, affine: Bool = true, trackRunningStats: Bool = true,
    elementType: ElementType = .float32
  ) { super.init(5...5, channels, epsilon, momentum, affine, trackRunningStats, elementType) }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(
    epsilon: Double = 1e-5, momentum: Double? = 0.1, affine: Bool = true, trackRunningStats: Bool = true,
    elementType: ElementType? = nil
  ) { super.init(5...5, nil, epsilon, momentum, affine, trackRunningStats, elementType) }
}

/// Batch normalization of [batch, channels, …] of any rank, under PyTorch's name for the one that shares its statistics among
/// processes. A program of Apus is one process, so this is ``BatchNorm2d`` and its like.
public final class SyncBatchNorm: BatchNormLayer {
  public init(
    _ channels: Int, epsilon: Double = 1e-5, momentum: Double? = 0.1, affine: Bool = true, trackRunningStats: Bool = true,
    elementType: ElementType = .float32
  ) { super.init(2...Shape.maxRank, channels, epsilon, momentum, affine, trackRunningStats, elementType) }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(
    epsilon: Double = 1e-5, momentum: Double? = 0.1, affine: Bool = true, trackRunningStats: Bool = true,
    elementType: ElementType? = nil
  ) { super.init(2...Shape.maxRank, nil, epsilon, momentum, affine, trackRunningStats, elementType) }
}
