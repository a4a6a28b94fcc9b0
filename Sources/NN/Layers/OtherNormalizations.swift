import ApusTensor

/// x / (k + α · mean of x² over neighbouring channels)^β (Krizhevsky, Sutskever and Hinton 2012), as PyTorch has it:
/// [batch, channels, size…], where a mean is over `size` channels, of which those beyond the ends are zero.
public final class LocalResponseNorm: Module, Layer {
  public let size: Int
  public let alpha, beta, k: Double

  public init(_ size: Int, alpha: Double = 1e-4, beta: Double = 0.75, k: Double = 1) {
    guard size > 0 else { stop("LocalResponseNorm: the size \(size) is not positive") }
    (self.size, self.alpha, self.beta, self.k) = (size, alpha, beta, k)
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank >= 3 else { stop("\(label): takes [batch, channels, size…], got shape \(x.shape)") }
    return recorded {
      let planes = square(x).reshaped([x.shape[0], 1, x.shape[1], x.shape[2...].reduce(1, *)])
      let window = Window(
        size: [size, 1], stride: [1, 1], padLow: [size / 2, 0], padHigh: [(size - 1) / 2, 0], dilation: [1, 1])
      let means = apply(.reduceWindow(.average, window), planes).reshaped(x.shape)
      return x / pow(means * alpha + k, beta)
    }
  }

  override var members: [Member] { [] }
  override var arguments: String { "\(size), alpha: \(alpha), beta: \(beta), k: \(k)" }
}

/// Each sample divided by its Euclidean length along the axis, or axes: x / max(‖x‖, 10⁻¹²).
public final class UnitNormalization: Module, Layer {
  public let axes: [Int]
  public init(axis: some SpatialSizes = -1) { axes = axis.spatialSizes }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard axes.allSatisfy({ (-x.rank..<x.rank).contains($0) }) else {
      stop("\(label): the input of shape \(x.shape) has no axis \(brief(axes))")
    }
    return recorded(unitVectors(x, axes: axes, epsilon: 1e-12))
  }

  override var members: [Member] { [] }
  override var arguments: String { "axis: " + (axes.count == 1 ? "\(axes[0])" : "\(axes)") }
}

/// A layer whose weight is divided by an estimate of its largest singular value at each call in training (Miyato et al. 2018), as
/// Keras has it: the divided weight takes the weight's place.
///
/// Variable: vectorU, the estimate of the singular vector over the weight's outputs, which power iterations improve at each call.
public final class SpectralNormalization: Wrapper {
  public let powerIterations: Int
  private let generator: Generator
  public private(set) var vectorU: Variable?

  /// - Parameter layer: a layer with a parameter `weight`, `kernel` or `embeddings`.
  public init(_ layer: any Layer, powerIterations: Int = 1, generator: Generator = .default) {
    guard powerIterations > 0 else { stop("SpectralNormalization: powerIterations \(powerIterations) is not positive") }
    (self.powerIterations, self.generator) = (powerIterations, generator)
    super.init(layer)
    if !layer.awaitsInput { build() }
  }

  private func build() {
    let weight = normalized()
    let initializer = Initializer.truncatedNormal(standardDeviation: 0.02, low: -0.04, high: 0.04)
    vectorU = Variable(initializer([weight.matrix(weight.value).shape[0]], weight.elementType, generator: generator))
  }

  public override func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    if layer.awaitsInput { untraced { _ = layer.evaluating { layer(Tensor.zeros(x.shape, x.elementType)) } } }
    if vectorU == nil { untraced { build() } }
    return recorded {
      if isTraining { withoutGradient { divide() } }
      return layer.invoked(x)
    }
  }

  private func divide() {
    guard let vectorU else { return }
    let weight = normalized()
    let matrix = weight.matrix(weight.value)
    var (u, v) = (vectorU.value.expanded(at: 1), vectorU.value)
    for _ in 0..<powerIterations {
      v = unitVectors(matrix.transposed().matmul(u), axes: [0, 1])
      u = unitVectors(matrix.matmul(v), axes: [0, 1])
    }
    let sigma = (u * matrix.matmul(v)).sum()
    let isZero = (matrix .== 0).all()
    vectorU.value = `where`(isZero, vectorU.value, u.squeezed(1))
    weight.variable.value = `where`(isZero, weight.value, weight.value / sigma)
  }

  /// A weight as a matrix [outputs, all else].
  private struct Weight {
    let variable: Variable
    let outputsAreLast: Bool
    var value: Tensor { variable.value }
    var elementType: ElementType { variable.elementType }

    func matrix(_ value: Tensor) -> Tensor {
      outputsAreLast
        ? value.reshaped([-1, value.shape[value.rank - 1]]).transposed() : value.reshaped([value.shape[0], -1])
    }
  }

  private func normalized() -> Weight {
    for member in layer.members {
      guard case .variable(let variable) = member.value, variable.shape.count >= 2 else { continue }
      switch member.name {
      case "weight": return Weight(variable: variable, outputsAreLast: layer is Embedding)
      case "kernel", "embeddings": return Weight(variable: variable, outputsAreLast: true)
      default: continue
      }
    }
    stop("\(label): \(layer.label) has no weight of two or more dimensions")
  }

  override var arguments: String { powerIterations == 1 ? "" : "powerIterations: \(powerIterations)" }
}
