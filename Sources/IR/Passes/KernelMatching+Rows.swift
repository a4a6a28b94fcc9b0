extension Match {
  /// A reduction that gets its dimension back keeps it: then it can be fused with what it is broadcast to.
  static func reduction(_ match: inout Match, _ root: Value) -> Replacement? {
    guard let node = match.node(root), case .reshape(let shape) = node.operation, let reduction = match.node(node.inputs[0]),
      case .reduce(let kind, let axes, false) = reduction.operation
    else { return nil }
    let x = reduction.inputs[0]
    var kept = match.shape(x)
    for axis in axes { kept[axis] = 1 }
    guard shape == kept, match.enter(root) != nil, match.enter(node.inputs[0]) != nil else { return nil }
    return { $0.apply(.reduce(kind, axes, keepDims: true), $0.value(x)) }
  }

  // MARK: Softmax

  /// exp(x − max) / Σ exp(x − max), and its logarithm: x − max − log Σ exp(x − max), or x − (log Σ exp(x − max) + max).
  static func softmax(_ match: inout Match, _ root: Value) -> Replacement? {
    guard let node = match.node(root) else { return nil }
    switch node.operation {
    case .binary(.div), .binary(.mul):
      guard let x = match.softmax(root) else { return nil }
      return { $0.apply(.composite(.softmax), $0.value(x)) }
    case .binary(.sub):
      guard let x = match.logSoftmax(root) else { return nil }
      return { $0.apply(.composite(.logSoftmax), $0.value(x)) }
    default: return nil
    }
  }

  private mutating func softmax(_ root: Value) -> Value? {
    guard let node = enter(root) else { return nil }
    for (i, j) in node.operation == .binary(.mul) ? [(0, 1), (1, 0)] : [(0, 1)] {
      var attempt = self
      let e = node.inputs[i]
      guard var sum = attempt.perRow(node.inputs[j]) else { continue }
      if node.operation == .binary(.mul) {
        guard let divisor = attempt.reciprocal(sum) else { continue }
        sum = divisor
      }
      guard let summed = attempt.reduced(sum, .sum), attempt.reaches(summed, e), let shifted = attempt.operand(e, .exp),
        let x = attempt.shifted(shifted), type(x) == type(root)
      else { continue }
      self = attempt
      return x
    }
    return nil
  }

  private mutating func logSoftmax(_ root: Value) -> Value? {
    guard let inputs = operands(root, .binary(.sub)), let row = perRow(inputs[1]) else { return nil }
    // shifted − log Σ exp(shifted)
    var attempt = self
    if let x = attempt.shifted(inputs[0]), type(x) == type(root), attempt.isLogSum(row, of: inputs[0]) {
      self = attempt
      return x
    }
    // x − (log Σ exp(x − max) + max)
    let x = inputs[0]
    guard type(x) == type(root), let sum = operands(plain(row), .binary(.add)) else { return nil }
    for (i, j) in [(0, 1), (1, 0)] {
      attempt = self
      guard attempt.isMaximum(sum[j], of: x), let log = attempt.operand(attempt.plain(sum[i]), .log),
        let summed = attempt.reduced(log, .sum), let shifted = attempt.operand(summed, .exp),
        let same = attempt.shifted(shifted), same == x
      else { continue }
      self = attempt
      return x
    }
    return nil
  }

  private mutating func isLogSum(_ row: Value, of shifted: Value) -> Bool {
    guard let log = operand(plain(row), .log), let summed = reduced(log, .sum), let e = operand(summed, .exp) else {
      return false
    }
    return reaches(e, shifted)
  }

  /// x of x − max(x).
  private mutating func shifted(_ value: Value) -> Value? {
    guard let inputs = operands(value, .binary(.sub)), let row = perRow(inputs[1]), isMaximum(row, of: inputs[0]) else {
      return nil
    }
    return inputs[0]
  }

  /// Whether a value per row is the row's maximum, perhaps guarded against infinity as JAX and our decompositions do.
  private mutating func isMaximum(_ value: Value, of x: Value, depth: Int = 0) -> Bool {
    let value = plain(value)
    guard depth < 4, let node = node(value) else { return false }
    switch node.operation {
    case .binary(.max):
      guard let (other, number) = withNumber(value, .max), number == -.infinity else { return false }
      return isMaximum(other, of: x, depth: depth + 1)
    case .select:
      guard number(node.inputs[2]) == 0, let finite = operand(node.inputs[0], .isFinite) else { return false }
      _ = enter(value)
      let (a, b) = (plain(finite), plain(node.inputs[1]))
      return a == b && isMaximum(a, of: x, depth: depth + 1)
    case .reduce(.max, _, _):
      guard let operand = reduced(value, .max) else { return false }
      return reaches(operand, x)
    default: return false
    }
  }

  // MARK: Normalization

  /// (x − mean) / √(variance + ε) · weight + bias, and x / √(mean of squares + ε) · weight; without weight or bias too.
  static func normalization(_ match: inout Match, _ root: Value) -> Replacement? {
    guard let node = match.node(root) else { return nil }
    let columns = match.shape(root).last ?? 0
    guard columns > 1 else { return nil }
    var found: (parts: Normalized, bias: Value?)?
    if node.operation == .binary(.add) {
      for (i, j) in [(0, 1), (1, 0)] where found == nil {
        var attempt = match
        _ = attempt.enter(root)
        guard let bias = attempt.perColumn(node.inputs[j]), let parts = attempt.normalized(node.inputs[i]), parts.isCentred else {
          continue
        }
        found = (parts, bias)
        match = attempt
      }
    } else if let parts = match.normalized(root) {
      found = (parts, nil)
    }
    guard let (parts, bias) = found else { return nil }
    let type = match.type(root)
    let (x, weight, epsilon) = (parts.x, parts.weight, parts.epsilon)
    return { builder in
      func vector(_ value: Value?, _ number: Double, _ builder: inout Builder) -> Value {
        guard let value else { return builder.apply(.fill([columns], type.elementType, .double(number))) }
        return builder.converted(builder.reshaped(builder.value(value), [columns]), type.elementType)
      }
      let w = vector(weight, 1, &builder)
      if !parts.isCentred { return builder.apply(.composite(.rmsNorm(epsilon: epsilon)), builder.value(x), w) }
      let b = vector(bias, 0, &builder)
      return builder.apply(.composite(.layerNorm(epsilon: epsilon)), builder.value(x), w, b)
    }
  }

  private struct Normalized {
    var x: Value
    var isCentred: Bool
    var weight: Value?
    var epsilon: Double
  }

  /// A product of x or x − mean, one reciprocal deviation, and at most one vector, in any order.
  private mutating func normalized(_ root: Value) -> Normalized? {
    var factors: [Value] = []
    var rows: [(value: Value, isDivisor: Bool)] = []
    var vectors: [Value] = []
    guard split(root, &factors, &rows, &vectors), rows.count == 1, factors.count + vectors.count <= 2, !factors.isEmpty else {
      return nil
    }
    guard let (variance, epsilon) = deviation(rows[0].value, isDivisor: rows[0].isDivisor), epsilon >= 0 else { return nil }
    // Of a single row, vectors look like the rest.
    for i in factors.indices {
      let body = factors[i]
      let weight = factors.count == 2 ? factors[1 - i] : vectors.first
      guard type(body) == type(root), weight.map({ shape($0).elementCount == shape(root).last }) ?? true else { continue }
      // x − mean, by its variance.
      var attempt = self
      if let x = attempt.centred(body), type(x) == type(root), attempt.isVariance(variance, of: x, centred: body) {
        self = attempt
        return Normalized(x: x, isCentred: true, weight: weight, epsilon: epsilon)
      }
      // x, by the mean of its squares.
      attempt = self
      if let squares = attempt.mean(variance), let x = attempt.square(squares), attempt.reaches(x, body) {
        self = attempt
        return Normalized(x: body, isCentred: false, weight: weight, epsilon: epsilon)
      }
    }
    return nil
  }

  /// Sorts the factors of a product into rows, columns and the rest.
  private mutating func split(
    _ value: Value, _ factors: inout [Value], _ rows: inout [(value: Value, isDivisor: Bool)], _ vectors: inout [Value],
    depth: Int = 0
  ) -> Bool {
    var attempt = self
    if let row = attempt.perRow(value) {
      self = attempt
      rows.append((row, false))
      return true
    }
    attempt = self
    let isOneRow = shape(value).elementCount == shape(value).last
    if !isOneRow, let vector = attempt.perColumn(value) {
      self = attempt
      vectors.append(vector)
      return true
    }
    guard let node = node(value) else {
      factors.append(value)
      return true
    }
    switch node.operation {
    case .binary(.mul) where depth < 4:
      _ = enter(value)
      return split(node.inputs[0], &factors, &rows, &vectors, depth: depth + 1)
        && split(node.inputs[1], &factors, &rows, &vectors, depth: depth + 1)
    case .binary(.div):
      attempt = self
      guard let row = attempt.perRow(node.inputs[1]) else { break }
      self = attempt
      _ = enter(value)
      rows.append((row, true))
      return split(node.inputs[0], &factors, &rows, &vectors, depth: depth + 1)
    default: break
    }
    factors.append(value)
    return true
  }

  /// v and ε of 1 / √(v + ε), or of √(v + ε) if it divides.
  private mutating func deviation(_ value: Value, isDivisor: Bool) -> (Value, Double)? {
    let value = plain(value)
    var inside: Value?
    if isDivisor {
      inside = operand(value, .sqrt)
    } else if let node = node(value) {
      switch node.operation {
      case .unary(.rsqrt): inside = operand(value, .rsqrt)
      case .binary(.pow):
        guard let exponent = number(node.inputs[1]), exponent == -0.5 else { return nil }
        inside = enter(value)?.inputs[0]
      default:
        guard let root = reciprocal(value) else { return nil }
        inside = operand(plain(root), .sqrt)
      }
    }
    guard let inside else { return nil }
    return withNumber(plain(inside), .add)
  }

  /// x of x − mean(x).
  private mutating func centred(_ value: Value) -> Value? {
    guard let inputs = operands(value, .binary(.sub)), let row = perRow(inputs[1]), let operand = mean(row),
      reaches(operand, inputs[0])
    else { return nil }
    return inputs[0]
  }

  /// What the mean of each row is taken of.
  private mutating func mean(_ value: Value) -> Value? {
    let value = plain(value)
    guard let node = node(value) else { return nil }
    let sum: Value
    let count: Double
    switch node.operation {
    case .binary(.div):
      guard let n = number(node.inputs[1]) else { return nil }
      (sum, count) = (node.inputs[0], n)
      _ = enter(value)
    case .binary(.mul):
      guard let (other, n) = withNumber(value, .mul), n != 0 else { return nil }
      (sum, count) = (other, 1 / n)
    default: return nil
    }
    guard let operand = reduced(sum, .sum), let columns = shape(operand).last else { return nil }
    return isClose(count, Double(columns), type(value).elementType) ? operand : nil
  }

  private mutating func square(_ value: Value) -> Value? {
    var value = value
    while let node = node(value), case .convert = node.operation, type(node.inputs[0]).elementType.isFloatingPoint {
      _ = enter(value)
      value = node.inputs[0]
    }
    if let x = operand(value, .square) { return x }
    guard let node = node(value) else { return nil }
    switch node.operation {
    case .binary(.mul) where node.inputs[0] == node.inputs[1]: break
    case .binary(.pow) where number(node.inputs[1]) == 2: break
    default: return nil
    }
    return enter(value)?.inputs[0]
  }

  /// Whether it is the mean of squares of x − mean(x), or mean(x²) − mean(x)².
  private mutating func isVariance(_ value: Value, of x: Value, centred: Value) -> Bool {
    var value = plain(value)
    // Flax keeps the difference from becoming negative.
    if let (other, number) = withNumber(value, .max), number == 0 { value = plain(other) }
    var attempt = self
    if let squares = attempt.mean(value), let body = attempt.square(squares) {
      if body == centred {
        self = attempt
        return true
      }
      if let other = attempt.centred(body), other == x {
        self = attempt
        return true
      }
      return false
    }
    guard let inputs = operands(value, .binary(.sub)), let squares = mean(inputs[0]), let y = square(squares), reaches(y, x),
      let mean = square(plain(inputs[1])), let operand = self.mean(mean)
    else { return false }
    return reaches(operand, x)
  }

  /// x of 1 / x.
  mutating func reciprocal(_ value: Value) -> Value? {
    let value = plain(value)
    if let x = operand(value, .reciprocal) { return x }
    guard let node = node(value), node.operation == .binary(.div), number(node.inputs[0]) == 1 else { return nil }
    return enter(value)?.inputs[1]
  }
}
