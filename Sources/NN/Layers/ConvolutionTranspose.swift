import ApusTensor

/// What the three transposed convolutions share; use ``ConvTranspose1d``, ``ConvTranspose2d`` or ``ConvTranspose3d``.
///
/// Parameters: weight [in channels, out channels / groups, kernel…], bias [out channels]; initially uniform within
/// ± 1 / √(out channels / groups · kernel size), as in PyTorch.
public class ConvolutionTransposeLayer: Module, Layer {
  public let outChannels: Int
  public let kernelSize, stride, padding, outputPadding, dilation: [Int]
  public let groups: Int
  private let hasBias: Bool
  private let elementType: ElementType?
  private let generator: Generator
  private var weightIfBuilt: Parameter?
  public private(set) final var bias: Parameter?

  fileprivate init(
    _ n: Int, _ inChannels: Int?, _ outChannels: Int, _ kernelSize: some SpatialSizes, _ stride: some SpatialSizes,
    _ padding: some SpatialSizes, _ outputPadding: some SpatialSizes, _ dilation: some SpatialSizes, _ groups: Int, _ bias: Bool,
    _ elementType: ElementType?, _ generator: Generator
  ) {
    let name = "ConvTranspose\(n)d"
    self.outChannels = outChannels
    self.kernelSize = spatial(kernelSize, n, "kernelSize", name)
    self.stride = spatial(stride, n, "stride", name)
    self.padding = spatial(padding, n, "padding", name)
    self.outputPadding = spatial(outputPadding, n, "outputPadding", name)
    self.dilation = spatial(dilation, n, "dilation", name)
    self.groups = groups
    hasBias = bias
    self.elementType = elementType
    self.generator = generator
    guard groups > 0, outChannels % groups == 0 else {
      stop("\(name): \(outChannels) channels are not divisible by \(groups) groups")
    }
    super.init()
    if let inChannels { build(inChannels, elementType ?? .float32) }
  }

  private final func build(_ inChannels: Int, _ type: ElementType) {
    guard inChannels % groups == 0 else { stop("\(label): \(inChannels) channels are not divisible by \(groups) groups") }
    let shape = Shape([inChannels, outChannels / groups] + kernelSize)
    let initializer = Initializer.uniformByFanIn(shape[1...].reduce(1, *))
    weightIfBuilt = Parameter(initializer(shape, type, generator: generator))
    if hasBias { bias = Parameter(initializer([outChannels], type, generator: generator)) }
  }

  public final var weight: Parameter { existing(weightIfBuilt) }
  public final var inChannels: Int { weight.shape[0] }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == kernelSize.count + 2 else {
      stop("\(label): takes \(kernelSize.count + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    if weightIfBuilt == nil { untraced { build(x.shape[1], elementType ?? x.elementType) } }
    let weight = weightIfBuilt!
    guard x.shape[1] == weight.shape[0] else {
      stop("\(label): the input of shape \(x.shape) has \(x.shape[1]) channels, expected \(weight.shape[0])")
    }
    return recorded(
      convolutionTranspose(
        x, weight.value, bias?.value, stride: stride, padding: padding, outputPadding: outputPadding, dilation: dilation,
        groups: groups))
  }

  override final var members: [Member] { Member.list(("weight", weightIfBuilt), ("bias", bias)) }
  override final var awaitsInput: Bool { weightIfBuilt == nil }
  override final var arguments: String {
    var text = (weightIfBuilt.map { "\($0.shape[0]), " } ?? "") + "\(outChannels), kernelSize: \(brief(kernelSize))"
    if stride.contains(where: { $0 != 1 }) { text += ", stride: \(brief(stride))" }
    if padding.contains(where: { $0 != 0 }) { text += ", padding: \(brief(padding))" }
    if outputPadding.contains(where: { $0 != 0 }) { text += ", outputPadding: \(brief(outputPadding))" }
    if dilation.contains(where: { $0 != 1 }) { text += ", dilation: \(brief(dilation))" }
    if groups != 1 { text += ", groups: \(groups)" }
    return text + (hasBias ? "" : ", bias: false")
  }
}

/// Transposed convolution over 1 spatial dimension: [batch, in channels, size…] → [batch, out channels, size'…],
/// size' = (size − 1) stride − 2 padding + dilation (kernel − 1) + outputPadding + 1.
public final class ConvTranspose1d: ConvolutionTransposeLayer {
  public init(
    _ inChannels: Int, _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some SpatialSizes = 0, outputPadding: some SpatialSizes = 0, groups: Int = 1, bias: Bool = true,
    dilation: some SpatialSizes = 1, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      1, inChannels, outChannels, kernelSize, stride, padding, outputPadding, dilation, groups, bias, elementType, generator)
  }

  /// A layer that takes the number of its input channels, and its element type if not given, from its first input.
  public init(
    _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some SpatialSizes = 0,
    outputPadding: some SpatialSizes = 0, groups: Int = 1, bias: Bool = true, dilation: some SpatialSizes = 1,
    elementType: ElementType? = nil, generator: Generator = .default
  ) {
    super.init(1, nil, outChannels, kernelSize, stride, padding, outputPadding, dilation, groups, bias, elementType, generator)
  }
}

/// Transposed convolution over 2 spatial dimensions: [batch, in channels, size…] → [batch, out channels, size'…],
/// size' = (size − 1) stride − 2 padding + dilation (kernel − 1) + outputPadding + 1.
public final class ConvTranspose2d: ConvolutionTransposeLayer {
  public init(
    _ inChannels: Int, _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some SpatialSizes = 0, outputPadding: some SpatialSizes = 0, groups: Int = 1, bias: Bool = true,
    dilation: some SpatialSizes = 1, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      2, inChannels, outChannels, kernelSize, stride, padding, outputPadding, dilation, groups, bias, elementType, generator)
  }

  /// A layer that takes the number of its input channels, and its element type if not given, from its first input.
  public init(
    _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some SpatialSizes = 0,
    outputPadding: some SpatialSizes = 0, groups: Int = 1, bias: Bool = true, dilation: some SpatialSizes = 1,
    elementType: ElementType? = nil, generator: Generator = .default
  ) {
    super.init(2, nil, outChannels, kernelSize, stride, padding, outputPadding, dilation, groups, bias, elementType, generator)
  }
}

/// Transposed convolution over 3 spatial dimensions: [batch, in channels, size…] → [batch, out channels, size'…],
/// size' = (size − 1) stride − 2 padding + dilation (kernel − 1) + outputPadding + 1.
public final class ConvTranspose3d: ConvolutionTransposeLayer {
  public init(
    _ inChannels: Int, _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some SpatialSizes = 0, outputPadding: some SpatialSizes = 0, groups: Int = 1, bias: Bool = true,
    dilation: some SpatialSizes = 1, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      3, inChannels, outChannels, kernelSize, stride, padding, outputPadding, dilation, groups, bias, elementType, generator)
  }

  /// A layer that takes the number of its input channels, and its element type if not given, from its first input.
  public init(
    _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some SpatialSizes = 0,
    outputPadding: some SpatialSizes = 0, groups: Int = 1, bias: Bool = true, dilation: some SpatialSizes = 1,
    elementType: ElementType? = nil, generator: Generator = .default
  ) {
    super.init(3, nil, outChannels, kernelSize, stride, padding, outputPadding, dilation, groups, bias, elementType, generator)
  }
}
