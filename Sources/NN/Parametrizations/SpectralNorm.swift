import ApusTensor

/// A weight divided by its largest singular value, which a power iteration follows (Miyato et al. 2018).
///
/// The weight counts as a matrix [outputs, all the rest]. Variables: `_u` [outputs] and `_v` [rest], estimates of the singular
/// vectors.
final class SpectralNorm: Parametrization {
  private let iterations: Int
  private let axis: Int
  private let epsilon: Double
  private let u, v: Variable?

  init(_ weight: Tensor, iterations: Int, axis: Int, epsilon: Double, generator: Generator) {
    (self.iterations, self.axis, self.epsilon) = (iterations, axis, epsilon)
    guard weight.rank > 1 else {
      (u, v) = (nil, nil)
      super.init()
      return
    }
    let matrix = Self.matrix(weight, axis)
    let start = matrix.shape.map { Tensor.randn([$0], weight.elementType, generator: generator) }
    u = Variable(unit(start[0], epsilon))
    v = Variable(unit(start[1], epsilon))
    super.init()
    iterate(matrix, 15)
  }

  private static func matrix(_ weight: Tensor, _ axis: Int) -> Tensor { weight.movedAxis(axis, to: 0).flattened(from: 1) }

  private func iterate(_ matrix: Tensor, _ times: Int) {
    guard let u, let v else { return }
    withoutGradient {
      let matrix = matrix.detached()
      for _ in 0..<times {
        u.value = unit(matrix.matmul(v.value), epsilon)
        v.value = unit(matrix.T.matmul(u.value), epsilon)
      }
    }
  }

  override func callAsFunction(_ originals: [Tensor]) -> Tensor {
    let weight = originals[0]
    guard let u, let v else { return unit(weight, epsilon) }
    let matrix = Self.matrix(weight, axis)
    if isTraining { iterate(matrix, iterations) }
    return weight / (u.value * matrix.matmul(v.value)).sum()
  }

  override func rightInverse(_ value: Tensor) -> [Tensor]? { [value] }

  override var members: [Member] { Member.list(("_u", u), ("_v", v)) }
}

/// x / max(‖x‖, ε).
private func unit(_ x: Tensor, _ epsilon: Double) -> Tensor { x / maximum(sqrt(square(x).sum()), epsilon) }

extension Module {
  /// Divides a weight by its largest singular value (Miyato et al. 2018; PyTorch's `spectral_norm`).
  ///
  /// In training each reading of the weight makes `iterations` steps of a power iteration, whose vectors are kept as
  /// `parametrizations.weight.0._u` and `_v`.
  /// - Parameter axis: that of the outputs; by default the first, of transposed convolutions the second.
  /// - Returns: the module itself.
  @discardableResult
  public final func spectralNorm(
    _ name: String = "weight", iterations: Int = 1, epsilon: Double = 1e-12, axis: Int? = nil, generator: Generator = .default
  ) -> Self {
    let variable = ownVariable(name, "normalize")
    let axis = axis ?? (self is ConvolutionTransposeLayer ? 1 : 0)
    guard iterations > 0, (-variable.shape.count..<variable.shape.count).contains(axis) else {
      stop("\(label): spectralNorm: \(iterations) iterations along axis \(axis) of \(name), which has shape \(variable.shape)")
    }
    let parametrization = untraced {
      withoutGradient {
        SpectralNorm(variable.value, iterations: iterations, axis: axis, epsilon: epsilon, generator: generator)
      }
    }
    return registerParametrization(name, parametrization)
  }
}
