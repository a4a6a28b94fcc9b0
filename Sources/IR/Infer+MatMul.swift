extension Operation {
  /// The rule of the general product, also called directly by the eager fast path.
  public func inferDot(_ d: DotDimensions, _ a: TensorType, _ b: TensorType) throws(OperationError) -> TensorType {
    try require(a.elementType == b.elementType, "element types differ: \(a.elementType) and \(b.elementType)")
    try require(a.elementType != .bool, "does not take bool tensors")
    try checkAxes(d.lhsBatch, a)
    try checkAxes(d.rhsBatch, b)
    try checkAxes(d.lhsContracting, a)
    try checkAxes(d.rhsContracting, b)
    try require(
      d.lhsBatch.count == d.rhsBatch.count && d.lhsContracting.count == d.rhsContracting.count,
      "the sides name different numbers of dimensions")
    for axis in d.lhsBatch where d.lhsContracting.contains(axis) { throw fail("axis \(axis) is named twice") }
    for axis in d.rhsBatch where d.rhsContracting.contains(axis) { throw fail("axis \(axis) is named twice") }
    var shape = Shape()
    for i in 0..<d.lhsBatch.count {
      let (x, y) = (a.shape[d.lhsBatch[i]], b.shape[d.rhsBatch[i]])
      try require(x == y, "batch dimensions differ: \(a.shape) × \(b.shape)")
      shape.append(x)
    }
    for i in 0..<d.lhsContracting.count {
      let (x, y) = (a.shape[d.lhsContracting[i]], b.shape[d.rhsContracting[i]])
      try require(
        x == y,
        "inner dimensions differ: \(a.shape) × \(b.shape); expected the right side to have \(x) in dimension \(d.rhsContracting[i])"
      )
    }
    let free = d.lhsFree(rank: a.shape.count).map { a.shape[$0] } + d.rhsFree(rank: b.shape.count).map { b.shape[$0] }
    try require(shape.count + free.count <= Shape.maxRank, "the result would have more than \(Shape.maxRank) dimensions")
    for size in free { shape.append(size) }
    try checkShape(shape)
    return TensorType(shape, a.elementType)
  }
}
