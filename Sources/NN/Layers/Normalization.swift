import ApusTensor

/// (x − mean) / √(variance + ε) · weight + bias, over the last dimensions of each sample (Ba, Kiros and Hinton 2016).
///
/// Parameters: weight (ones) and bias (zeros) of the normalized shape.
public final class LayerNorm: Module, Layer {
  public let epsilon: Double
  private let elementwiseAffine, hasBias: Bool
  private let elementType: ElementType?
  private var shape: Shape?
  public private(set) var weight, bias: Parameter?

  public init(
    _ normalizedShape: some SpatialSizes, epsilon: Double = 1e-5, elementwiseAffine: Bool = true, bias: Bool = true,
    elementType: ElementType = .float32
  ) {
    self.epsilon = epsilon
    self.elementwiseAffine = elementwiseAffine
    hasBias = bias
    self.elementType = elementType
    super.init()
    build(Shape(normalizedShape.spatialSizes), elementType)
  }

  /// A layer over the last dimension, whose size it takes from its first input.
  public init(epsilon: Double = 1e-5, elementwiseAffine: Bool = true, bias: Bool = true, elementType: ElementType? = nil) {
    self.epsilon = epsilon
    self.elementwiseAffine = elementwiseAffine
    hasBias = bias
    self.elementType = elementType
  }

  private func build(_ shape: Shape, _ type: ElementType) {
    self.shape = shape
    guard elementwiseAffine else { return }
    weight = Parameter(Tensor.ones(shape, type))
    if hasBias { bias = Parameter(Tensor.zeros(shape, type)) }
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    if shape == nil, let features = x.shape.last { untraced { build([features], elementType ?? x.elementType) } }
    let shape = checkedEnd(of: x, shape)
    return recorded(layerNorm(x, normalizedShape: shape, weight: weight?.value, bias: bias?.value, epsilon: epsilon))
  }

  override var members: [Member] { Member.list(("weight", weight), ("bias", bias)) }
  override var awaitsInput: Bool { shape == nil && elementwiseAffine }
  override var arguments: String {
    var parts = shape.map { [$0.count == 1 ? "\($0[0])" : "\($0)"] } ?? []
    if epsilon != 1e-5 { parts.append("epsilon: \(epsilon)") }
    if !elementwiseAffine { parts.append("elementwiseAffine: false") }
    if !hasBias { parts.append("bias: false") }
    return parts.joined(separator: ", ")
  }
}

/// x / √(mean(x²) + ε) · weight, over the last dimensions of each sample (Zhang and Sennrich 2019).
///
/// Parameter: weight (ones) of the normalized shape.
public final class RMSNorm: Module, Layer {
  /// nil: the distance from 1 to the next number of the input's type, as in PyTorch.
  public let epsilon: Double?
  private let elementwiseAffine: Bool
  private let elementType: ElementType?
  private var shape: Shape?
  public private(set) var weight: Parameter?

  public init(
    _ normalizedShape: some SpatialSizes, epsilon: Double? = nil, elementwiseAffine: Bool = true,
    elementType: ElementType = .float32
  ) {
    self.epsilon = epsilon
    self.elementwiseAffine = elementwiseAffine
    self.elementType = elementType
    super.init()
    build(Shape(normalizedShape.spatialSizes), elementType)
  }

  /// A layer over the last dimension, whose size it takes from its first input.
  public init(epsilon: Double? = nil, elementwiseAffine: Bool = true, elementType: ElementType? = nil) {
    self.epsilon = epsilon
    self.elementwiseAffine = elementwiseAffine
    self.elementType = elementType
  }

  private func build(_ shape: Shape, _ type: ElementType) {
    self.shape = shape
    if elementwiseAffine { weight = Parameter(Tensor.ones(shape, type)) }
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    if shape == nil, let features = x.shape.last { untraced { build([features], elementType ?? x.elementType) } }
    let shape = checkedEnd(of: x, shape)
    let epsilon = epsilon ?? x.elementType.spacingAtOne
    return recorded(rmsNorm(x, normalizedShape: shape, weight: weight?.value, epsilon: epsilon))
  }

  override var members: [Member] { Member.list(("weight", weight)) }
  override var awaitsInput: Bool { shape == nil && elementwiseAffine }
  override var arguments: String {
    var parts = shape.map { [$0.count == 1 ? "\($0[0])" : "\($0)"] } ?? []
    if let epsilon { parts.append("epsilon: \(epsilon)") }
    if !elementwiseAffine { parts.append("elementwiseAffine: false") }
    return parts.joined(separator: ", ")
  }
}

/// Normalization of each sample over groups of channels and all spatial dimensions (Wu and He 2018): [batch, channels, …].
///
/// Parameters: weight (ones) and bias (zeros) [channels].
public final class GroupNorm: Module, Layer {
  public let groups: Int
  public let epsilon: Double
  private let affine: Bool
  private let elementType: ElementType?
  private var channels: Int?
  public private(set) var weight, bias: Parameter?

  public init(_ groups: Int, _ channels: Int, epsilon: Double = 1e-5, affine: Bool = true, elementType: ElementType = .float32) {
    self.groups = groups
    self.epsilon = epsilon
    self.affine = affine
    self.elementType = elementType
    super.init()
    build(channels, elementType)
  }

  /// A layer that takes the number of its channels, and its element type if not given, from its first input.
  public init(_ groups: Int, epsilon: Double = 1e-5, affine: Bool = true, elementType: ElementType? = nil) {
    self.groups = groups
    self.epsilon = epsilon
    self.affine = affine
    self.elementType = elementType
  }

  private func build(_ channels: Int, _ type: ElementType) {
    guard groups > 0, channels % groups == 0 else { stop("\(label): \(channels) channels are not divisible by \(groups) groups") }
    self.channels = channels
    guard affine else { return }
    weight = Parameter(Tensor.ones([channels], type))
    bias = Parameter(Tensor.zeros([channels], type))
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank >= 2 else { stop("\(label): takes [batch, channels, …], got shape \(x.shape)") }
    if channels == nil { untraced { build(x.shape[1], elementType ?? x.elementType) } }
    guard x.shape[1] == channels else {
      stop("\(label): the input of shape \(x.shape) has \(x.shape[1]) channels, expected \(channels!)")
    }
    return recorded {
      let size = x.shape[1...].reduce(1, *) / groups
      let y = layerNorm(x.reshaped([x.shape[0], groups, size]), normalizedShape: [size], epsilon: epsilon).reshaped(x.shape)
      guard let weight, let bias else { return y }
      let perChannel = Shape([x.shape[1]] + Array(repeating: 1, count: x.rank - 2))
      return y * weight.value.reshaped(perChannel) + bias.value.reshaped(perChannel)
    }
  }

  override var members: [Member] { Member.list(("weight", weight), ("bias", bias)) }
  override var awaitsInput: Bool { channels == nil && affine }
  override var arguments: String {
    "\(groups)" + (channels.map { ", \($0)" } ?? "") + (epsilon == 1e-5 ? "" : ", epsilon: \(epsilon)")
      + (affine ? "" : ", affine: false")
  }
}

extension Module {
  fileprivate final func checkedEnd(of x: Tensor, _ shape: Shape?) -> Shape {
    guard let shape, x.rank >= shape.count, Shape(x.shape.suffix(shape.count)) == shape else {
      stop("\(label): the input of shape \(x.shape) does not end in \(shape ?? [])")
    }
    return shape
  }
}

extension ElementType {
  /// The distance from 1 to the next larger number.
  var spacingAtOne: Double {
    switch self {
    case .float64: Double.ulpOfOne
    case .float16: 0x1p-10
    case .bfloat16: 0x1p-7
    case .float32, .bool, .uint8, .int8, .int16, .int32, .int64: Double(Float.ulpOfOne)
    }
  }
}
