extension Tensor {
  /// The matrix product, batched: [… , m, k] × [… , k, n] → [… , m, n]; leading dimensions broadcast.
  ///
  /// A one-dimensional side is a row (left) or a column (right) whose dimension disappears from the result.
  public func matmul(_ other: Tensor) -> Tensor {
    var (a, b) = (self, other)
    if a.elementType != b.elementType {
      let type = ElementType.promote(a.elementType, b.elementType)
      (a, b) = (a.converted(to: type), b.converted(to: type))
    }
    guard a.rank > 0 && b.rank > 0 else { stop("matmul: a side is a scalar: \(shape) × \(other.shape)") }
    let (vectorLeft, vectorRight) = (a.rank == 1, b.rank == 1)
    if vectorLeft { a = a.expanded(at: 0) }
    if vectorRight { b = b.expanded(at: 1) }
    guard a.shape[a.rank - 1] == b.shape[b.rank - 2] else {
      stop(
        "matmul: inner dimensions differ: \(shape) × \(other.shape); expected the right side to have \(a.shape[a.rank - 1]) rows")
    }
    var result: Tensor
    if b.rank == 2 {
      // One matrix for all rows of the left side: no batch at all.
      result = apply(.dot(DotDimensions(lhsContracting: [a.rank - 1], rhsContracting: [0])), a, b)
    } else {
      let (leadA, leadB) = (Shape(a.shape.dropLast(2)), Shape(b.shape.dropLast(2)))
      guard let lead = Shape.broadcast(leadA, leadB) else {
        stop("matmul: batch dimensions do not broadcast: \(shape) × \(other.shape)")
      }
      let n = lead.count
      a = a.broadcast(to: Shape(Array(lead) + Array(a.shape.suffix(2))))
      b = b.broadcast(to: Shape(Array(lead) + Array(b.shape.suffix(2))))
      let batch = Axes(0..<n)
      result = apply(.dot(DotDimensions(lhsBatch: batch, rhsBatch: batch, lhsContracting: [n + 1], rhsContracting: [n])), a, b)
    }
    if vectorLeft { result = result.squeezed(-2) }
    if vectorRight { result = result.squeezed(-1) }
    return result
  }

  /// The sum of the products of two one-dimensional tensors' elements.
  public func dot(_ other: Tensor) -> Tensor {
    guard rank == 1 && other.rank == 1 else { stop("dot: takes one-dimensional tensors, got \(shape) and \(other.shape)") }
    return matmul(other)
  }

  /// Every product of an element of one and an element of the other: [m] and [n] → [m, n].
  public func outer(_ other: Tensor) -> Tensor { flattened().expanded(at: 1) * other.flattened().expanded(at: 0) }
}

public func matmul(_ a: Tensor, _ b: Tensor) -> Tensor { a.matmul(b) }

/// x · weightᵀ + bias: x [… , in], weight [out, in], bias [out].
public func linear(_ x: Tensor, _ weight: Tensor, _ bias: Tensor? = nil) -> Tensor {
  if let bias { return apply(.composite(.linear), x, weight, bias) }
  guard weight.rank == 2, x.rank > 0, x.shape[x.rank - 1] == weight.shape[1] else {
    stop("linear: the input of shape \(x.shape) does not fit a weight of shape \(weight.shape) [out, in]")
  }
  return apply(.dot(DotDimensions(lhsContracting: [x.rank - 1], rhsContracting: [1])), x, weight)
}
