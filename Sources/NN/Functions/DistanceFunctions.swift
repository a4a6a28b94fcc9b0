import ApusTensor

/// x₁ · x₂ / (max(‖x₁‖, ε) max(‖x₂‖, ε)) along the axis; shapes broadcast.
public func cosineSimilarity(_ x1: Tensor, _ x2: Tensor, axis: Int = 1, epsilon: Double = 1e-8) -> Tensor {
  guard let shape = Shape.broadcast(x1.shape, x2.shape) else {
    stop("cosineSimilarity: shapes \(x1.shape) and \(x2.shape) do not broadcast to one")
  }
  guard (-shape.count..<shape.count).contains(axis) else { stop("cosineSimilarity: shape \(shape) has no axis \(axis)") }
  let (a, b) = (x1.broadcast(to: shape), x2.broadcast(to: shape))
  /// A length below ε keeps its slope, as in PyTorch.
  func unit(_ x: Tensor) -> Tensor {
    let length = vectorNorm(x, 2, axes: [axis], keepDims: true)
    return x / (maximum(length.detached(), epsilon) + (length - length.detached()))
  }
  return (unit(a) * unit(b)).sum(axis: axis)
}

/// ‖x₁ − x₂ + ε‖ₚ along the last axis; shapes broadcast.
public func pairwiseDistance(_ x1: Tensor, _ x2: Tensor, p: Double = 2, epsilon: Double = 1e-6, keepDims: Bool = false) -> Tensor
{
  guard let shape = Shape.broadcast(x1.shape, x2.shape), !shape.isEmpty else {
    stop("pairwiseDistance: takes […, features], got shapes \(x1.shape) and \(x2.shape)")
  }
  return vectorNorm(x1 - x2 + epsilon, p, axes: [-1], keepDims: keepDims)
}

/// The distance ‖a − b‖ₚ of each row of the first side from each of the second: […, m, features], […, n, features] → […, m, n].
///
/// Euclidean distances of more than 25 rows come from one matrix product, as in PyTorch: ‖a‖² + ‖b‖² − 2ab, which loses digits
/// where distances are small beside the rows' lengths.
public func cdist(_ x1: Tensor, _ x2: Tensor, p: Double = 2) -> Tensor {
  guard x1.rank >= 2, x2.rank >= 2, x1.shape.last == x2.shape.last,
    Shape.broadcast(Shape(x1.shape[..<(x1.rank - 2)]), Shape(x2.shape[..<(x2.rank - 2)])) != nil
  else { stop("cdist: takes […, m, features] and […, n, features], got shapes \(x1.shape) and \(x2.shape)") }
  if p == 2 && (x1.shape[x1.rank - 2] > 25 || x2.shape[x2.rank - 2] > 25) {
    let (a, b) = (square(x1).sum(axis: -1, keepDims: true), square(x2).sum(axis: -1).expanded(at: -2))
    return safeRoot(maximum(a + b - x1.matmul(x2.transposed()) * 2, 0))
  }
  return vectorNorm(x1.expanded(at: -2) - x2.expanded(at: -3), p, axes: [-1], keepDims: false)
}

/// (Σ |x|ᵖ)^(1/p), or the largest |x| for p = ∞; its gradient where all is zero is zero.
func vectorNorm(_ x: Tensor, _ p: Double, axes: [Int], keepDims: Bool) -> Tensor {
  if p == 2 { return safeRoot(square(x).sum(axes: axes, keepDims: keepDims)) }
  if p == 1 { return abs(x).sum(axes: axes, keepDims: keepDims) }
  if p == .infinity { return abs(x).max(axes: axes, keepDims: keepDims) }
  if p == -.infinity { return abs(x).min(axes: axes, keepDims: keepDims) }
  if p == 0 { return (x .!= 0).converted(to: x.elementType).sum(axes: axes, keepDims: keepDims) }
  // Below 2 the slope of |x|ᵖ at zero has no limit or jumps: zero there, as in PyTorch.
  let isZero = x .== 0
  let powers = `where`(isZero, 0, pow(abs(`where`(isZero, 1, x)), p))
  let sum = powers.sum(axes: axes, keepDims: keepDims)
  let none = sum .== 0
  return `where`(none, 0, pow(`where`(none, 1, sum), 1 / p))
}

/// √x, with slope 0 at 0.
func safeRoot(_ x: Tensor) -> Tensor {
  let isZero = x .== 0
  return `where`(isZero, 0, sqrt(`where`(isZero, 1, x)))
}

/// x / max(‖x‖₂, ε) over some axes.
func unitVectors(_ x: Tensor, axes: [Int], epsilon: Double = 1e-7) -> Tensor {
  x / maximum(vectorNorm(x, 2, axes: axes, keepDims: true), epsilon)
}
