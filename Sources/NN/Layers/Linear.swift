import ApusTensor

/// x · weightᵀ + bias, over the last dimension: […, in features] → […, out features].
///
/// Parameters: weight [out features, in features], bias [out features]; initially uniform within ± 1 / √in features.
public final class Linear: Module, Layer {
  public let outFeatures: Int
  private let hasBias: Bool
  private let elementType: ElementType?
  private let generator: Generator
  private var weightIfBuilt: Parameter?
  public private(set) var bias: Parameter?

  /// A layer whose input size is known.
  public init(
    _ inFeatures: Int, _ outFeatures: Int, bias: Bool = true, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    self.outFeatures = outFeatures
    hasBias = bias
    self.elementType = elementType
    self.generator = generator
    super.init()
    build(inFeatures, elementType)
  }

  /// A layer that takes its input size, and element type if not given, from its first input.
  public init(_ outFeatures: Int, bias: Bool = true, elementType: ElementType? = nil, generator: Generator = .default) {
    self.outFeatures = outFeatures
    hasBias = bias
    self.elementType = elementType
    self.generator = generator
  }

  private func build(_ inFeatures: Int, _ type: ElementType) {
    guard inFeatures >= 0 && outFeatures >= 0 else { stop("Linear: \(inFeatures) and \(outFeatures) features") }
    let initializer = Initializer.uniformByFanIn(inFeatures)
    weightIfBuilt = Parameter(initializer([outFeatures, inFeatures], type, generator: generator))
    if hasBias { bias = Parameter(initializer([outFeatures], type, generator: generator)) }
  }

  public var weight: Parameter { existing(weightIfBuilt) }
  public var inFeatures: Int { weight.shape[1] }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard let features = x.shape.last else { stop("\(label): takes […, features], got a scalar") }
    if weightIfBuilt == nil { untraced { build(features, elementType ?? x.elementType) } }
    let weight = weightIfBuilt!
    guard features == weight.shape[1] else {
      stop("\(label): the input of shape \(x.shape) has \(features) features, expected \(weight.shape[1])")
    }
    return recorded(linear(x, weight.value, bias?.value))
  }

  override var members: [Member] { Member.list(("weight", weightIfBuilt), ("bias", bias)) }
  override var awaitsInput: Bool { weightIfBuilt == nil }
  override var arguments: String {
    (weightIfBuilt.map { "\($0.shape[1]), \(outFeatures)" } ?? "\(outFeatures)") + (hasBias ? "" : ", bias: false")
  }
}

extension Module {
  /// A parameter that a layer has once it has seen an input.
  final func existing<T>(_ part: T?) -> T {
    guard let part else { stop("\(label) has no parameters before its first input; call the model, or build(input:)") }
    return part
  }
}

/// A table of vectors looked up by index: int64 […] → […, embedding dimension].
///
/// Parameter: weight [count, embedding dimension], initially standard normal. The row `paddingIndex`, initially zero,
/// gets no gradient.
public final class Embedding: Module, Layer {
  public let weight: Parameter
  public let paddingIndex: Int?

  public init(
    _ count: Int, _ embeddingDimension: Int, paddingIndex: Int? = nil, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    guard count >= 0 && embeddingDimension >= 0 else { stop("Embedding: \(count) vectors of \(embeddingDimension) numbers") }
    let index = paddingIndex.map { $0 < 0 ? $0 + count : $0 }
    if let index, !(0..<count).contains(index) { stop("Embedding: paddingIndex \(paddingIndex!) is not one of \(count) rows") }
    var table = Tensor.randn([count, embeddingDimension], elementType, generator: generator)
    if let index { table = `where`((Tensor.arange(count) .== index).expanded(at: 1), 0, table) }
    weight = Parameter(table)
    self.paddingIndex = index
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.elementType.isInteger else { stop("\(label): takes integers, got \(x.type)") }
    return recorded {
      let indices = x.converted(to: .int64)
      let rows = apply(.gather(axis: 0), weight.value, indices)
      guard let paddingIndex else { return rows }
      return `where`((indices .== paddingIndex).expanded(at: -1), rows.detached(), rows)
    }
  }

  override var members: [Member] { Member.list(("weight", weight)) }
  override var arguments: String {
    "\(weight.shape[0]), \(weight.shape[1])" + (paddingIndex.map { ", paddingIndex: \($0)" } ?? "")
  }
}

/// Dimensions `from` to `to`, both included, as one; by default all but the batch.
public final class Flatten: Module, Layer {
  public let from, to: Int

  public init(from: Int = 1, to: Int = -1) { (self.from, self.to) = (from, to) }

  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(received(x).flattened(from: from, to: to)) }

  override var members: [Member] { [] }
  override var arguments: String { from == 1 && to == -1 ? "" : "from: \(from), to: \(to)" }
}

/// One dimension as several; one of the sizes may be −1: what is left.
public final class Unflatten: Module, Layer {
  public let axis: Int
  public let sizes: [Int]

  public init(axis: Int, _ sizes: [Int]) { (self.axis, self.sizes) = (axis, sizes) }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    let i = axis < 0 ? axis + x.rank : axis
    guard (0..<x.rank).contains(i) else { stop("\(label): a tensor of shape \(x.shape) has no axis \(axis)") }
    let known = sizes.filter { $0 != -1 }.reduce(1, *)
    let open = sizes.filter { $0 == -1 }.count
    guard open == 0 ? known == x.shape[i] : open == 1 && known > 0 && x.shape[i] % known == 0 else {
      stop("\(label): dimension \(i) of shape \(x.shape) is not the product of \(sizes)")
    }
    let filled = sizes.map { $0 == -1 ? x.shape[i] / known : $0 }
    return recorded(x.reshaped(Array(x.shape[..<i]) + filled + Array(x.shape[(i + 1)...])))
  }

  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis), \(sizes)" }
}

/// The input as it is: what takes the place of a layer that is left out.
public final class Identity: Module, Layer {
  public override init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(received(x)) }
  override var members: [Member] { [] }
}
