import ApusTensor

/// How an orthogonal matrix is made of numbers that are free (PyTorch's `orthogonal_map`).
public enum OrthogonalMap: Sendable {
  /// e^A with A = X − Xᵀ of what X has on and below the diagonal.
  case matrixExp
  /// (I + A/2) (I − A/2)⁻¹ with the same A.
  case cayley
  /// A product of reflections, whose vectors are what X has below the diagonal.
  case householder
}

/// A matrix with orthonormal columns or, if there are more of them than rows, rows (PyTorch's `orthogonal`; Lezcano-Casado 2019).
///
/// Original: X of the weight's shape. Variable: `base` [n, n], an orthogonal matrix times which the rest is; n is the larger size.
final class Orthogonal: Parametrization {
  private let map: OrthogonalMap
  private let trivializes: Bool
  private let generator: Generator
  private var base: Variable?

  init(map: OrthogonalMap, trivializes: Bool, generator: Generator) {
    (self.map, self.trivializes, self.generator) = (map, trivializes, generator)
  }

  override func callAsFunction(_ originals: [Tensor]) -> Tensor {
    let (x, isWide) = tall(originals[0])
    let (n, k) = (x.shape[x.rank - 2], x.shape[x.rank - 1])
    var q: Tensor
    switch map {
    case .matrixExp, .cayley:
      var square = x.lowerTriangle()
      if n > k { square = square.padded(Array(repeating: (0, 0), count: x.rank - 1) + [(0, n - k)]) }
      let a = square - square.transposed()
      if map == .matrixExp {
        q = matrixExponential(a)
      } else {
        let identity = Tensor.eye(n, elementType: a.elementType)
        q = inverseOfPositive(identity - a * 0.5).matmul(identity + a * 0.5)
      }
      if n > k { q = q.split([k, n - k], axis: -1)[0] }
    case .householder:
      // The diagonal holds signs, which are not trained.
      let signs = trunc((x.detached() * Tensor.eye(n, k, elementType: x.elementType)).sum(axis: -2, keepDims: true))
      q = householderProduct(x) * signs
    }
    if let base { q = base.value.matmul(q) }
    return isWide ? q.transposed() : q
  }

  override func rightInverse(_ value: Tensor) -> [Tensor]? {
    let (q, isWide) = tall(value.detached())
    let (n, k) = (q.shape[q.rank - 2], q.shape[q.rank - 1])
    guard trivializes else {
      guard map == .householder else { return nil }
      let vectors = each(q) { householderVectors(of: orthonormalColumns($0)) }
      return [isWide ? vectors.transposed() : vectors]
    }
    // The first k columns are the value's; the others complete them.
    let whole = each(q) { matrix in
      if n == k { return orthonormalColumns(matrix) }
      let rest = Tensor.randn([n, n - k], matrix.elementType, generator: generator)
      return orthonormalColumns(concatenate([matrix, rest], axis: 1))
    }
    if let base { base.value = whole } else { base = Variable(whole.contiguous()) }
    // −1 on the diagonal: the reflections of zeros turn each unit vector around.
    let diagonal = Tensor.eye(value.shape[value.rank - 2], value.shape[value.rank - 1], elementType: value.elementType)
    return [(zerosLike(value) - diagonal).contiguous()]
  }

  private func tall(_ x: Tensor) -> (Tensor, isWide: Bool) {
    let isWide = x.shape[x.rank - 2] < x.shape[x.rank - 1]
    return (isWide ? x.transposed() : x, isWide)
  }

  /// For each matrix of a batch.
  private func each(_ x: Tensor, _ f: (Tensor) -> Tensor) -> Tensor {
    if x.rank == 2 { return f(x) }
    return stack(x.unstacked().map { each($0, f) })
  }

  override var members: [Member] { Member.list(("base", base)) }
  override var arguments: String { ".\(map)" }
}

extension Module {
  /// Keeps a weight […, m, n] orthogonal: orthonormal columns, or rows if m < n, whatever the optimizer does (PyTorch's
  /// `orthogonal`).
  ///
  /// The weight begins as the Q of its QR decomposition; it must have full rank.
  /// - Parameters:
  ///   - map: by default `.matrixExp` for square weights and `.householder` for others.
  ///   - trivialization: keep the weight as a fixed orthogonal matrix times what is trained, which begins at the identity; trains
  ///     better. Without it, only `.householder` can begin with the weight's value.
  /// - Returns: the module itself.
  @discardableResult
  public final func orthogonal(
    _ name: String = "weight", map: OrthogonalMap? = nil, trivialization: Bool = true, generator: Generator = .default
  ) -> Self {
    let shape = ownVariable(name, "make orthogonal").shape
    guard shape.count >= 2 else { stop("\(label): orthogonal: \(name) of shape \(shape) is no matrix") }
    let isSquare = shape[shape.count - 2] == shape[shape.count - 1]
    return registerParametrization(
      name,
      Orthogonal(map: map ?? (isSquare ? .matrixExp : .householder), trivializes: trivialization, generator: generator))
  }
}
