extension Operation {
  func inferShaping(_ inputs: [TensorType]) throws(OperationError) -> TensorType {
    switch self {
    case .broadcast(let shape):
      let x = try one(inputs)
      try checkShape(shape)
      try require(
        Shape.broadcast(x.shape, shape) == shape, "a tensor of shape \(x.shape) cannot be broadcast to \(shape)")
      return TensorType(shape, x.elementType)
    case .reshape(let shape):
      let x = try one(inputs)
      try checkShape(shape)
      try require(
        shape.elementCount == x.shape.elementCount,
        "a tensor of shape \(x.shape) has \(x.shape.elementCount) elements; shape \(shape) needs \(shape.elementCount)")
      return TensorType(shape, x.elementType)
    case .transpose(let permutation):
      let x = try one(inputs)
      try require(
        permutation.count == x.shape.count, "the permutation \(permutation) does not fit a tensor of shape \(x.shape)")
      try checkAxes(permutation, x)
      var shape = x.shape
      for i in 0..<shape.count { shape[i] = x.shape[permutation[i]] }
      return TensorType(shape, x.elementType)
    case .slice(let start, let size, let step):
      let x = try one(inputs)
      try require(
        start.count == x.shape.count && size.count == x.shape.count && step.count == x.shape.count,
        "start, size and step need \(x.shape.count) numbers each for shape \(x.shape)")
      for i in 0..<x.shape.count {
        try require(step[i] > 0, "the step \(step[i]) of dimension \(i) is not positive")
        try require(
          size[i] >= 0 && start[i] >= 0
            && (size[i] == 0 ? start[i] <= x.shape[i] : start[i] + (size[i] - 1) * step[i] < x.shape[i]),
          "\(size[i]) elements from \(start[i]) by \(step[i]) do not fit dimension \(i) of shape \(x.shape)")
      }
      return TensorType(size, x.elementType)
    case .pad(let low, let high, let interior):
      let (x, value) = try two(inputs)
      try require(
        low.count == x.shape.count && high.count == x.shape.count && interior.count == x.shape.count,
        "low, high and interior need \(x.shape.count) numbers each for shape \(x.shape)")
      try require(value.shape.isEmpty, "the value must be a scalar, got shape \(value.shape)")
      try require(value.elementType == x.elementType, "the value is \(value.elementType), the tensor \(x.elementType)")
      var shape = x.shape
      for i in 0..<shape.count {
        try require(interior[i] >= 0, "interior padding is negative: \(interior)")
        shape[i] = low[i] + high[i] + (x.shape[i] == 0 ? 0 : (x.shape[i] - 1) * (interior[i] + 1) + 1)
        try require(shape[i] >= 0, "cropping by \(low[i]) and \(high[i]) leaves nothing of dimension \(i) of shape \(x.shape)")
      }
      try checkShape(shape)
      return TensorType(shape, x.elementType)
    case .concatenate(let axis):
      try require(!inputs.isEmpty, "needs at least one tensor")
      let first = inputs[0]
      try checkAxis(axis, first)
      var shape = first.shape
      for other in inputs.dropFirst() {
        try require(other.elementType == first.elementType, "element types differ: \(first.elementType) and \(other.elementType)")
        var expected = other.shape
        try require(
          expected.count == shape.count, "shapes \(first.shape) and \(other.shape) have different numbers of dimensions")
        expected[axis] = first.shape[axis]
        try require(expected == first.shape, "shapes \(first.shape) and \(other.shape) differ in more than axis \(axis)")
        shape[axis] += other.shape[axis]
      }
      try checkShape(shape)
      return TensorType(shape, first.elementType)
    case .reverse(let axes):
      let x = try one(inputs)
      try checkAxes(axes, x)
      return x
    case .dynamicSlice(let size):
      let (x, start) = try two(inputs)
      try require(
        start.elementType == .int64 && start.shape == [x.shape.count], "start must be int64[\(x.shape.count)], got \(start)")
      try require(size.count == x.shape.count, "size \(size) does not fit a tensor of shape \(x.shape)")
      for i in 0..<size.count {
        try require(size[i] >= 0 && size[i] <= x.shape[i], "size \(size) does not fit a tensor of shape \(x.shape)")
      }
      return TensorType(size, x.elementType)
    case .dynamicUpdateSlice:
      try expect(inputs, 3)
      let (x, update, start) = (inputs[0], inputs[1], inputs[2])
      try require(
        start.elementType == .int64 && start.shape == [x.shape.count], "start must be int64[\(x.shape.count)], got \(start)")
      try require(update.elementType == x.elementType, "the update is \(update.elementType), the tensor \(x.elementType)")
      try require(
        update.shape.count == x.shape.count && (0..<x.shape.count).allSatisfy { update.shape[$0] <= x.shape[$0] },
        "an update of shape \(update.shape) does not fit a tensor of shape \(x.shape)")
      return x
    case .triangle:
      let x = try one(inputs)
      try require(x.shape.count >= 2, "needs at least two dimensions, got shape \(x.shape)")
      return x
    case .stopGradient: return try one(inputs)
    default: preconditionFailure("not a shaping operation: \(name)")
    }
  }
}
