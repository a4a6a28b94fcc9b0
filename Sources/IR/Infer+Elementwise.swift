extension Operation {
  /// The rule of `.unary(kind)`, also called directly by the eager fast path.
  @inlinable public func inferUnary(_ kind: UnaryKind, _ x: TensorType) throws(OperationError) -> TensorType {
    switch kind {
    case .neg, .abs, .sign, .square, .relu:
      if x.elementType == .bool { throw OperationError(self, "does not take bool tensors; convert to a number type first") }
      return x
    case .floor, .ceil, .round, .trunc:
      if x.elementType == .bool { throw OperationError(self, "does not take bool tensors") }
      return x
    case .sqrt, .rsqrt, .reciprocal, .exp, .expm1, .exp2, .log, .log1p, .log2, .sin, .cos, .tan, .asin, .acos, .atan, .sinh,
      .cosh,
      .asinh, .acosh, .atanh, .tanh, .sigmoid, .erf, .erfc, .erfInv, .gelu, .geluTanh, .silu, .softplus:
      if !x.elementType.isFloatingPoint {
        throw OperationError(self, "takes floating point tensors, got \(x.elementType)\(x.shape)")
      }
      return x
    case .not:
      if x.elementType.isFloatingPoint { throw OperationError(self, "takes bool or integer tensors, got \(x.elementType)") }
      return x
    case .isNaN, .isInfinite, .isFinite:
      return TensorType(x.shape, .bool)
    }
  }

  /// The rule of `.binary(kind)`, also called directly by the eager fast path.
  @inlinable public func inferBinary(_ kind: BinaryKind, _ a: TensorType, _ b: TensorType) throws(OperationError) -> TensorType {
    if a.shape != b.shape { throw OperationError(self, "shapes differ: \(a.shape) and \(b.shape)") }
    if a.elementType != b.elementType {
      throw OperationError(self, "element types differ: \(a.elementType) and \(b.elementType)")
    }
    let type = a.elementType
    switch kind {
    case .add, .mul, .max, .min: break
    case .sub, .div, .floorDiv, .rem, .mod, .pow:
      if type == .bool { throw OperationError(self, "does not take bool tensors") }
    case .atan2:
      if !type.isFloatingPoint { throw OperationError(self, "takes floating point tensors, got \(type)") }
    case .and, .or, .xor:
      if type.isFloatingPoint { throw OperationError(self, "takes bool or integer tensors, got \(type)") }
    case .shiftLeft, .shiftRight:
      if !type.isInteger { throw OperationError(self, "takes integer tensors, got \(type)") }
    }
    return a
  }

  func inferElementwise(_ inputs: [TensorType]) throws(OperationError) -> TensorType {
    switch self {
    case .compare(let kind):
      let (a, b) = try two(inputs)
      try require(a.shape == b.shape, "shapes differ: \(a.shape) and \(b.shape)")
      try require(a.elementType == b.elementType, "element types differ: \(a.elementType) and \(b.elementType)")
      _ = kind
      return TensorType(a.shape, .bool)
    case .select:
      try expect(inputs, 3)
      try require(inputs[0].elementType == .bool, "the condition must be bool, got \(inputs[0].elementType)")
      try require(
        inputs[0].shape == inputs[1].shape && inputs[1].shape == inputs[2].shape,
        "shapes differ: \(inputs[0].shape), \(inputs[1].shape) and \(inputs[2].shape)")
      try require(
        inputs[1].elementType == inputs[2].elementType,
        "element types differ: \(inputs[1].elementType) and \(inputs[2].elementType)")
      return inputs[1]
    case .convert(let type):
      return TensorType(try one(inputs).shape, type)
    case .bitcast(let type):
      let x = try one(inputs)
      try require(
        type.byteSize == x.elementType.byteSize, "\(x.elementType) and \(type) differ in size; bits cannot be read across")
      try require(type != .bool || x.elementType == .bool, "arbitrary bits are not bool values")
      return TensorType(x.shape, type)
    case .activationGradient:
      let (dy, x) = try two(inputs)
      try require(dy == x, "operands differ: \(dy) and \(x)")
      try require(dy.elementType.isFloatingPoint, "takes floating point tensors, got \(dy.elementType)")
      return dy
    default: preconditionFailure("not an elementwise operation: \(name)")
    }
  }

  func inferCreation(_ inputs: [TensorType]) throws(OperationError) -> TensorType {
    switch self {
    case .fill(let shape, let type, _):
      try expect(inputs, 0)
      try checkShape(shape)
      return TensorType(shape, type)
    case .iota(let shape, let type, let axis):
      try expect(inputs, 0)
      try checkShape(shape)
      try checkAxis(axis, TensorType(shape, type))
      try require(type != .bool, "does not make bool tensors")
      return TensorType(shape, type)
    case .constant(let constant):
      try expect(inputs, 0)
      try checkShape(constant.type.shape)
      return constant.type
    case .random(let parameters):
      let state = try one(inputs)
      try require(state.elementType == .int64 && state.shape == [2], "the state must be int64[2], got \(state)")
      try checkShape(parameters.shape)
      let type = parameters.elementType
      switch parameters.kind {
      case .uniform(let low, let high):
        try require(type.isFloatingPoint, "uniform makes floating point tensors, not \(type)")
        try require(low <= high, "the range \(low) to \(high) is empty")
      case .normal(_, let deviation):
        try require(type.isFloatingPoint, "normal makes floating point tensors, not \(type)")
        try require(deviation >= 0, "the standard deviation \(deviation) is negative")
      case .truncatedNormal(_, let deviation, let low, let high):
        try require(type.isFloatingPoint, "truncatedNormal makes floating point tensors, not \(type)")
        try require(deviation > 0, "the standard deviation must be positive, not \(deviation)")
        try require(low < high, "the range \(low) to \(high) is empty")
      case .bernoulli(let probability):
        try require(type == .bool, "bernoulli makes bool tensors, not \(type)")
        try require(probability >= 0 && probability <= 1, "the probability \(probability) is not within 0 and 1")
      case .integers(let low, let high):
        try require(type.isInteger, "random integers need an integer type, not \(type)")
        try require(low < high, "the range \(low)..<\(high) is empty")
      case .permutation:
        try require(type == .int64 && parameters.shape.count == 1, "a permutation is an int64 tensor of one dimension")
      case .bits:
        try require(type == .int32, "random bits are int32, not \(type)")
      }
      return TensorType(parameters.shape, type)
    default: preconditionFailure("not a creating operation: \(name)")
    }
  }
}
