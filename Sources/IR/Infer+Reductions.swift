extension Operation {
  func inferReduction(_ inputs: [TensorType]) throws(OperationError) -> [TensorType] {
    let x = try one(inputs)
    switch self {
    case .reduce(let kind, let axes, let keepDims):
      try checkAxes(axes, x)
      var type = x.elementType
      switch kind {
      case .sum, .product:
        try require(type != .bool, "does not take bool tensors; convert to int64 to count")
      case .max, .min:
        for axis in axes where x.shape[axis] == 0 && !reduced(x.shape, axes, keepDims: false).contains(0) {
          throw fail("axis \(axis) of shape \(x.shape) is empty and has no \(kind)")
        }
      case .all, .any:
        try require(type == .bool, "takes bool tensors, got \(type)")
        type = .bool
      }
      return [TensorType(reduced(x.shape, axes, keepDims: keepDims), type)]
    case .argReduce(_, let axis, let keepDims):
      try checkAxis(axis, x)
      let shape = reduced(x.shape, [axis], keepDims: keepDims)
      try require(x.shape[axis] > 0 || shape.contains(0), "axis \(axis) of shape \(x.shape) is empty")
      return [TensorType(shape, .int64)]
    case .scan(let kind, let axis, _, _):
      try checkAxis(axis, x)
      try require(x.elementType != .bool, "does not take bool tensors")
      _ = kind
      return [x]
    case .sort(let axis, _):
      try checkAxis(axis, x)
      return [x, TensorType(x.shape, .int64)]
    case .topK(let k, let axis, _):
      try checkAxis(axis, x)
      try require(k >= 0 && k <= x.shape[axis], "k = \(k) is not within 0 and the \(x.shape[axis]) elements of axis \(axis)")
      var shape = x.shape
      shape[axis] = k
      return [TensorType(shape, x.elementType), TensorType(shape, .int64)]
    default: preconditionFailure("not a reduction: \(name)")
    }
  }
}

/// The shape that is left when `axes` are reduced.
public func reduced(_ shape: Shape, _ axes: Axes, keepDims: Bool) -> Shape {
  var result = Shape()
  for i in 0..<shape.count {
    if axes.contains(i) {
      if keepDims { result.append(1) }
    } else {
      result.append(shape[i])
    }
  }
  return result
}
