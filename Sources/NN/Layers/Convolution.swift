import ApusTensor

/// What the three convolutions share; use ``Conv1d``, ``Conv2d`` or ``Conv3d``.
///
/// Parameters: weight [out channels, in channels / groups, kernel…], bias [out channels]; initially uniform within
/// ± 1 / √(in channels / groups · kernel size).
public class ConvolutionLayer: Module, Layer {
  public let outChannels: Int
  public let kernelSize, stride, dilation: [Int]
  public let padding: Padding
  public let groups: Int
  private let geometry: ConvolutionParameters
  private let hasBias: Bool
  private let elementType: ElementType?
  private let generator: Generator
  private var weightIfBuilt: Parameter?
  public private(set) final var bias: Parameter?

  fileprivate init(
    _ n: Int, _ inChannels: Int?, _ outChannels: Int, _ kernelSize: some SpatialSizes, _ stride: some SpatialSizes,
    _ padding: Padding, _ dilation: some SpatialSizes, _ groups: Int, _ bias: Bool, _ elementType: ElementType?,
    _ generator: Generator
  ) {
    let name = "Conv\(n)d"
    self.outChannels = outChannels
    self.kernelSize = spatial(kernelSize, n, "kernelSize", name)
    self.stride = spatial(stride, n, "stride", name)
    self.dilation = spatial(dilation, n, "dilation", name)
    self.padding = padding
    self.groups = groups
    hasBias = bias
    self.elementType = elementType
    self.generator = generator
    guard self.kernelSize.allSatisfy({ $0 > 0 }), self.stride.allSatisfy({ $0 > 0 }), self.dilation.allSatisfy({ $0 > 0 }) else {
      stop("\(name): kernelSize \(self.kernelSize), stride \(self.stride) and dilation \(self.dilation) must be positive")
    }
    var low = Array(repeating: 0, count: n)
    var high = low
    switch padding.kind {
    case .valid: break
    case .sizes(let sizes):
      low = spatial(sizes, n, "padding", name)
      high = low
    case .same:
      guard self.stride.allSatisfy({ $0 == 1 }) else { stop("\(name): padding .same needs stride 1, got \(self.stride)") }
      for i in 0..<n {
        let total = self.dilation[i] * (self.kernelSize[i] - 1)
        low[i] = total / 2
        high[i] = total - total / 2
      }
    }
    geometry = ConvolutionParameters(
      stride: Shape(self.stride), padLow: Shape(low), padHigh: Shape(high), kernelDilation: Shape(self.dilation),
      inputDilation: Shape(repeating: 1, count: n), groups: groups)
    guard groups > 0, outChannels % groups == 0 else {
      stop("\(name): \(outChannels) channels are not divisible by \(groups) groups")
    }
    super.init()
    if let inChannels { build(inChannels, elementType ?? .float32) }
  }

  private final func build(_ inChannels: Int, _ type: ElementType) {
    guard inChannels % groups == 0 else { stop("\(label): \(inChannels) channels are not divisible by \(groups) groups") }
    let shape = Shape([outChannels, inChannels / groups] + kernelSize)
    let initializer = Initializer.uniformByFanIn(shape[1...].reduce(1, *))
    weightIfBuilt = Parameter(initializer(shape, type, generator: generator))
    if hasBias { bias = Parameter(initializer([outChannels], type, generator: generator)) }
  }

  public final var weight: Parameter { existing(weightIfBuilt) }
  public final var inChannels: Int { weight.shape[1] * groups }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == kernelSize.count + 2 else {
      stop("\(label): takes \(kernelSize.count + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    if weightIfBuilt == nil { untraced { build(x.shape[1], elementType ?? x.elementType) } }
    let weight = weightIfBuilt!
    guard x.shape[1] == weight.shape[1] * groups else {
      stop("\(label): the input of shape \(x.shape) has \(x.shape[1]) channels, expected \(weight.shape[1] * groups)")
    }
    return recorded(apply(.convolution(geometry), bias.map { [x, weight.value, $0.value] } ?? [x, weight.value])[0])
  }

  override final var members: [Member] { Member.list(("weight", weightIfBuilt), ("bias", bias)) }
  override final var awaitsInput: Bool { weightIfBuilt == nil }
  override final var arguments: String {
    var text = (weightIfBuilt.map { "\($0.shape[1] * groups), " } ?? "") + "\(outChannels), kernelSize: \(brief(kernelSize))"
    if stride.contains(where: { $0 != 1 }) { text += ", stride: \(brief(stride))" }
    switch padding.kind {
    case .same: text += ", padding: .same"
    case .valid: break
    case .sizes(let sizes): if sizes.contains(where: { $0 != 0 }) { text += ", padding: \(brief(sizes))" }
    }
    if dilation.contains(where: { $0 != 1 }) { text += ", dilation: \(brief(dilation))" }
    if groups != 1 { text += ", groups: \(groups)" }
    return text + (hasBias ? "" : ", bias: false")
  }
}

/// Convolution over 1 spatial dimension: [batch, in channels, length] → [batch, out channels, length'],
/// each size' = ⌊(size + padding before and after − dilation (kernel − 1) − 1) / stride⌋ + 1.
public final class Conv1d: ConvolutionLayer {
  /// - Parameters:
  ///   - kernelSize, stride, dilation: one number for all spatial dimensions, or one for each.
  ///   - padding: on both sides: one number, one for each spatial dimension, or `.same`.
  ///   - groups: channels are split into so many groups that do not see each other.
  public init(
    _ inChannels: Int, _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some PaddingConvertible = 0, dilation: some SpatialSizes = 1, groups: Int = 1, bias: Bool = true,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      1, inChannels, outChannels, kernelSize, stride, padding.padding, dilation, groups, bias, elementType, generator)
  }

  /// A layer that takes the number of its input channels, and its element type if not given, from its first input.
  public init(
    _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some PaddingConvertible = 0,
    dilation: some SpatialSizes = 1, groups: Int = 1, bias: Bool = true, elementType: ElementType? = nil,
    generator: Generator = .default
  ) {
    super.init(1, nil, outChannels, kernelSize, stride, padding.padding, dilation, groups, bias, elementType, generator)
  }
}

/// Convolution over 2 spatial dimensions: [batch, in channels, height, width] → [batch, out channels, height', width'],
/// each size' = ⌊(size + padding before and after − dilation (kernel − 1) − 1) / stride⌋ + 1.
public final class Conv2d: ConvolutionLayer {
  /// - Parameters:
  ///   - kernelSize, stride, dilation: one number for all spatial dimensions, or one for each.
  ///   - padding: on both sides: one number, one for each spatial dimension, or `.same`.
  ///   - groups: channels are split into so many groups that do not see each other.
  public init(
    _ inChannels: Int, _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some PaddingConvertible = 0, dilation: some SpatialSizes = 1, groups: Int = 1, bias: Bool = true,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      2, inChannels, outChannels, kernelSize, stride, padding.padding, dilation, groups, bias, elementType, generator)
  }

  /// A layer that takes the number of its input channels, and its element type if not given, from its first input.
  public init(
    _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some PaddingConvertible = 0,
    dilation: some SpatialSizes = 1, groups: Int = 1, bias: Bool = true, elementType: ElementType? = nil,
    generator: Generator = .default
  ) {
    super.init(2, nil, outChannels, kernelSize, stride, padding.padding, dilation, groups, bias, elementType, generator)
  }
}

/// Convolution over 3 spatial dimensions: [batch, in channels, depth, height, width] → [batch, out channels, depth', height', width'],
/// each size' = ⌊(size + padding before and after − dilation (kernel − 1) − 1) / stride⌋ + 1.
public final class Conv3d: ConvolutionLayer {
  /// - Parameters:
  ///   - kernelSize, stride, dilation: one number for all spatial dimensions, or one for each.
  ///   - padding: on both sides: one number, one for each spatial dimension, or `.same`.
  ///   - groups: channels are split into so many groups that do not see each other.
  public init(
    _ inChannels: Int, _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some PaddingConvertible = 0, dilation: some SpatialSizes = 1, groups: Int = 1, bias: Bool = true,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      3, inChannels, outChannels, kernelSize, stride, padding.padding, dilation, groups, bias, elementType, generator)
  }

  /// A layer that takes the number of its input channels, and its element type if not given, from its first input.
  public init(
    _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some PaddingConvertible = 0,
    dilation: some SpatialSizes = 1, groups: Int = 1, bias: Bool = true, elementType: ElementType? = nil,
    generator: Generator = .default
  ) {
    super.init(3, nil, outChannels, kernelSize, stride, padding.padding, dilation, groups, bias, elementType, generator)
  }
}
