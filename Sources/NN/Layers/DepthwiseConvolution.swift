import ApusTensor

/// What the depthwise convolutions share; use ``DepthwiseConv1d`` or ``DepthwiseConv2d``.
///
/// Each channel has kernels of its own: channel c of the input makes channels c · depthMultiplier and following of the output.
///
/// Parameters: weight [channels · depthMultiplier, 1, kernel…] and bias [channels · depthMultiplier], as those of a convolution in as
/// many groups as there are channels; initially uniform within ± 1 / √kernel size.
public class DepthwiseConvolutionLayer: Module, Layer {
  public let kernelSize, stride, dilation: [Int]
  public let padding: Padding
  public let depthMultiplier: Int
  private let hasBias: Bool
  private let elementType: ElementType?
  private let generator: Generator
  private var weightIfBuilt: Parameter?
  public private(set) final var bias: Parameter?

  fileprivate init(
    _ n: Int, _ channels: Int?, _ kernelSize: some SpatialSizes, _ stride: some SpatialSizes, _ padding: Padding,
    _ depthMultiplier: Int, _ dilation: some SpatialSizes, _ bias: Bool, _ elementType: ElementType?, _ generator: Generator
  ) {
    let name = "DepthwiseConv\(n)d"
    self.kernelSize = spatial(kernelSize, n, "kernelSize", name)
    self.stride = spatial(stride, n, "stride", name)
    self.dilation = spatial(dilation, n, "dilation", name)
    switch padding.kind {
    case .sizes(let sizes): self.padding = Padding(kind: .sizes(spatial(sizes, n, "padding", name)))
    case .same, .valid: self.padding = padding
    }
    self.depthMultiplier = depthMultiplier
    hasBias = bias
    self.elementType = elementType
    self.generator = generator
    guard (self.kernelSize + self.stride + self.dilation + [depthMultiplier]).allSatisfy({ $0 > 0 }) else {
      stop(
        "\(name): kernelSize \(self.kernelSize), stride \(self.stride), dilation \(self.dilation) and depthMultiplier must be positive"
      )
    }
    super.init()
    if let channels { build(channels, elementType ?? .float32) }
  }

  private final func build(_ channels: Int, _ type: ElementType) {
    let initializer = Initializer.uniformByFanIn(kernelSize.reduce(1, *))
    weightIfBuilt = Parameter(initializer(Shape([channels * depthMultiplier, 1] + kernelSize), type, generator: generator))
    if hasBias { bias = Parameter(initializer([channels * depthMultiplier], type, generator: generator)) }
  }

  public final var weight: Parameter { existing(weightIfBuilt) }
  public final var channels: Int { weight.shape[0] / depthMultiplier }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == kernelSize.count + 2 else {
      stop("\(label): takes \(kernelSize.count + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    if weightIfBuilt == nil { untraced { build(x.shape[1], elementType ?? x.elementType) } }
    let weight = weight
    guard x.shape[1] * depthMultiplier == weight.shape[0] else {
      stop("\(label): the input of shape \(x.shape) has \(x.shape[1]) channels, expected \(channels)")
    }
    let convolution = Operation.convolution(geometry(Array(x.shape[2...]), channels: x.shape[1]))
    return recorded(apply(convolution, bias.map { [x, weight.value, $0.value] } ?? [x, weight.value])[0])
  }

  /// `.same` gives ⌈size / stride⌉ outputs; where the padding is odd the end gets one more, as in Keras.
  private final func geometry(_ size: [Int], channels: Int) -> ConvolutionParameters {
    let n = kernelSize.count
    var (low, high) = (Array(repeating: 0, count: n), Array(repeating: 0, count: n))
    switch padding.kind {
    case .valid: break
    case .sizes(let sizes): (low, high) = (sizes, sizes)
    case .same:
      for i in 0..<n {
        let outputs = (size[i] + stride[i] - 1) / stride[i]
        let total = Swift.max((outputs - 1) * stride[i] + dilation[i] * (kernelSize[i] - 1) + 1 - size[i], 0)
        (low[i], high[i]) = (total / 2, total - total / 2)
      }
    }
    return ConvolutionParameters(
      stride: Shape(stride), padLow: Shape(low), padHigh: Shape(high), kernelDilation: Shape(dilation),
      inputDilation: Shape(repeating: 1, count: n), groups: channels)
  }

  override final var members: [Member] { Member.list(("weight", weightIfBuilt), ("bias", bias)) }
  override final var awaitsInput: Bool { weightIfBuilt == nil }
  override final var arguments: String {
    var text = (weightIfBuilt == nil ? "" : "\(channels), ") + "kernelSize: \(brief(kernelSize))"
    if stride.contains(where: { $0 != 1 }) { text += ", stride: \(brief(stride))" }
    switch padding.kind {
    case .same: text += ", padding: .same"
    case .valid: break
    case .sizes(let sizes): if sizes.contains(where: { $0 != 0 }) { text += ", padding: \(brief(sizes))" }
    }
    if depthMultiplier != 1 { text += ", depthMultiplier: \(depthMultiplier)" }
    if dilation.contains(where: { $0 != 1 }) { text += ", dilation: \(brief(dilation))" }
    return text + (hasBias ? "" : ", bias: false")
  }
}

/// What the separable convolutions share; use ``SeparableConv1d`` or ``SeparableConv2d``.
///
/// A depthwise convolution without bias, then one of kernel size 1 that mixes the channels (Chollet 2017).
///
/// Parameters: those of `depthwise` and `pointwise`.
public class SeparableConvolutionLayer: Module, Layer {
  public final let depthwise: DepthwiseConvolutionLayer
  public final let pointwise: ConvolutionLayer

  fileprivate init(_ depthwise: DepthwiseConvolutionLayer, _ pointwise: ConvolutionLayer) {
    (self.depthwise, self.pointwise) = (depthwise, pointwise)
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == depthwise.kernelSize.count + 2 else {
      stop("\(label): takes \(depthwise.kernelSize.count + 2) dimensions [batch, channels, …], got shape \(x.shape)")
    }
    return recorded(pointwise(depthwise(x)))
  }

  override final var members: [Member] { [Member("depthwise", depthwise), Member("pointwise", pointwise)] }
}

/// Convolution of each channel by itself over 1 spatial dimension: [batch, channels, length] → [batch, channels · depthMultiplier, length'].
public final class DepthwiseConv1d: DepthwiseConvolutionLayer {
  /// - Parameters:
  ///   - kernelSize, stride, dilation: one number for all spatial dimensions, or one for each.
  ///   - padding: on both sides: one number, one for each spatial dimension, or `.same`, with any stride.
  ///   - depthMultiplier: how many channels each one makes.
  public init(
    _ channels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some PaddingConvertible = 0,
    depthMultiplier: Int = 1, dilation: some SpatialSizes = 1, bias: Bool = true, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    super.init(1, channels, kernelSize, stride, padding.padding, depthMultiplier, dilation, bias, elementType, generator)
  }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(
    kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some PaddingConvertible = 0, depthMultiplier: Int = 1,
    dilation: some SpatialSizes = 1, bias: Bool = true, elementType: ElementType? = nil, generator: Generator = .default
  ) { super.init(1, nil, kernelSize, stride, padding.padding, depthMultiplier, dilation, bias, elementType, generator) }
}

/// Convolution of each channel by itself over 2 spatial dimensions: [batch, channels, height, width] → [batch, channels · depthMultiplier, height', width'].
public final class DepthwiseConv2d: DepthwiseConvolutionLayer {
  /// - Parameters:
  ///   - kernelSize, stride, dilation: one number for all spatial dimensions, or one for each.
  ///   - padding: on both sides: one number, one for each spatial dimension, or `.same`, with any stride.
  ///   - depthMultiplier: how many channels each one makes.
  public init(
    _ channels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some PaddingConvertible = 0,
    depthMultiplier: Int = 1, dilation: some SpatialSizes = 1, bias: Bool = true, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    super.init(2, channels, kernelSize, stride, padding.padding, depthMultiplier, dilation, bias, elementType, generator)
  }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(
    kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some PaddingConvertible = 0, depthMultiplier: Int = 1,
    dilation: some SpatialSizes = 1, bias: Bool = true, elementType: ElementType? = nil, generator: Generator = .default
  ) { super.init(2, nil, kernelSize, stride, padding.padding, depthMultiplier, dilation, bias, elementType, generator) }
}

/// Depthwise, then pointwise convolution over 1 spatial dimension: [batch, in channels, length] → [batch, out channels, length'].
public final class SeparableConv1d: SeparableConvolutionLayer {
  /// - Parameters: as ``DepthwiseConv1d``; the bias is that of the pointwise convolution.
  public init(
    _ inChannels: Int, _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some PaddingConvertible = 0, depthMultiplier: Int = 1, dilation: some SpatialSizes = 1, bias: Bool = true,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      DepthwiseConv1d(
        inChannels, kernelSize: kernelSize, stride: stride, padding: padding, depthMultiplier: depthMultiplier,
        dilation: dilation, bias: false, elementType: elementType, generator: generator),
      Conv1d(
        inChannels * depthMultiplier, outChannels, kernelSize: 1, bias: bias, elementType: elementType, generator: generator))
  }

  /// A layer that takes the number of its input channels, and its element type if not given, from its first input.
  public init(
    _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some PaddingConvertible = 0,
    depthMultiplier: Int = 1, dilation: some SpatialSizes = 1, bias: Bool = true, elementType: ElementType? = nil,
    generator: Generator = .default
  ) {
    super.init(
      DepthwiseConv1d(
        kernelSize: kernelSize, stride: stride, padding: padding, depthMultiplier: depthMultiplier, dilation: dilation,
        bias: false, elementType: elementType, generator: generator),
      Conv1d(outChannels, kernelSize: 1, bias: bias, elementType: elementType, generator: generator))
  }
}

/// Depthwise, then pointwise convolution over 2 spatial dimensions: [batch, in channels, height, width] → [batch, out channels, height', width'].
public final class SeparableConv2d: SeparableConvolutionLayer {
  /// - Parameters: as ``DepthwiseConv2d``; the bias is that of the pointwise convolution.
  public init(
    _ inChannels: Int, _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1,
    padding: some PaddingConvertible = 0, depthMultiplier: Int = 1, dilation: some SpatialSizes = 1, bias: Bool = true,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(
      DepthwiseConv2d(
        inChannels, kernelSize: kernelSize, stride: stride, padding: padding, depthMultiplier: depthMultiplier,
        dilation: dilation, bias: false, elementType: elementType, generator: generator),
      Conv2d(
        inChannels * depthMultiplier, outChannels, kernelSize: 1, bias: bias, elementType: elementType, generator: generator))
  }

  /// A layer that takes the number of its input channels, and its element type if not given, from its first input.
  public init(
    _ outChannels: Int, kernelSize: some SpatialSizes, stride: some SpatialSizes = 1, padding: some PaddingConvertible = 0,
    depthMultiplier: Int = 1, dilation: some SpatialSizes = 1, bias: Bool = true, elementType: ElementType? = nil,
    generator: Generator = .default
  ) {
    super.init(
      DepthwiseConv2d(
        kernelSize: kernelSize, stride: stride, padding: padding, depthMultiplier: depthMultiplier, dilation: dilation,
        bias: false, elementType: elementType, generator: generator),
      Conv2d(outChannels, kernelSize: 1, bias: bias, elementType: elementType, generator: generator))
  }
}
