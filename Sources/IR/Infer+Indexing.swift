extension Operation {
  func inferIndexing(_ inputs: [TensorType]) throws(OperationError) -> TensorType {
    try require(inputs.count >= 2, "takes a tensor and indices")
    let (x, indices) = (inputs[0], inputs[1])
    try require(indices.elementType == .int64, "indices must be int64, got \(indices.elementType)")
    switch self {
    case .gather(let axis):
      try expect(inputs, 2)
      try checkAxis(axis, x)
      return TensorType(try gatherShape(x.shape, indices.shape, axis), x.elementType)
    case .scatter(let kind, let axis):
      try checkUpdates(inputs, kind)
      try checkAxis(axis, x)
      let expected = try gatherShape(x.shape, indices.shape, axis)
      try require(inputs[2].shape == expected, "updates have shape \(inputs[2].shape), expected \(expected)")
      return x
    case .takeAlong(let axis):
      try expect(inputs, 2)
      try checkAlong(x.shape, indices.shape, axis)
      return TensorType(indices.shape, x.elementType)
    case .scatterAlong(let kind, let axis):
      try checkUpdates(inputs, kind)
      try checkAlong(x.shape, indices.shape, axis)
      try require(
        inputs[2].shape == indices.shape, "updates have shape \(inputs[2].shape), the indices \(indices.shape)")
      return x
    case .gatherND:
      try expect(inputs, 2)
      return TensorType(try gatherNDShape(x.shape, indices.shape), x.elementType)
    case .scatterND(let kind):
      try checkUpdates(inputs, kind)
      let expected = try gatherNDShape(x.shape, indices.shape)
      try require(inputs[2].shape == expected, "updates have shape \(inputs[2].shape), expected \(expected)")
      return x
    default: preconditionFailure("not an indexing operation: \(name)")
    }
  }

  private func checkUpdates(_ inputs: [TensorType], _ kind: ScatterKind) throws(OperationError) {
    try expect(inputs, 3)
    try require(
      inputs[2].elementType == inputs[0].elementType,
      "updates are \(inputs[2].elementType), the tensor \(inputs[0].elementType)")
    try require(
      kind == .set || inputs[0].elementType != .bool, "bool tensors can be set, but not changed by \(kind)")
  }

  private func checkRank(_ count: Int) throws(OperationError) {
    try require(count <= Shape.maxRank, "the result would have \(count) dimensions; at most \(Shape.maxRank) are possible")
  }

  private func gatherShape(_ x: Shape, _ indices: Shape, _ axis: Int) throws(OperationError) -> Shape {
    try checkRank(x.count - 1 + indices.count)
    return Shape(Array(x[..<axis]) + Array(indices) + Array(x[(axis + 1)...]))
  }

  private func checkAlong(_ x: Shape, _ indices: Shape, _ axis: Int) throws(OperationError) {
    try checkAxis(axis, TensorType(x, .bool))
    try require(
      indices.count == x.count, "indices of shape \(indices) need as many dimensions as the tensor of shape \(x)")
    for i in 0..<x.count where i != axis {
      try require(indices[i] <= x[i], "indices of shape \(indices) reach beyond shape \(x) in dimension \(i)")
    }
  }

  private func gatherNDShape(_ x: Shape, _ indices: Shape) throws(OperationError) -> Shape {
    try require(!indices.isEmpty, "indices need a last dimension that holds the coordinates")
    let k = indices[indices.count - 1]
    try require(k >= 1 && k <= x.count, "\(k) coordinates do not fit a tensor of shape \(x)")
    try checkRank(indices.count - 1 + x.count - k)
    return Shape(Array(indices.dropLast()) + Array(x[k...]))
  }
}
