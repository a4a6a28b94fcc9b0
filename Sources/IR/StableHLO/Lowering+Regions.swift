// Operations with regions: reductions, windows, sorts, control flow.

extension Lowering {
  /// The one operation that a region applies to its two arguments.
  private func combiner(_ region: ParsedRegion) -> BinaryKind? {
    guard region.argumentCount == 2, region.scope.nodes.count == 1, region.outputs.count == 1,
      case .binary(let kind) = region.scope.nodes[0].operation, region.outputs[0] == region.scope.nodes[0].results.first,
      region.scope.nodes[0].inputs == [0, 1] || region.scope.nodes[0].inputs == [1, 0]
    else { return nil }
    return kind
  }

  private func reduction(_ kind: BinaryKind, _ type: ElementType) -> ReductionKind? {
    switch kind {
    case .add: type == .bool ? .any : .sum
    case .mul: type == .bool ? .all : .product
    case .max: .max
    case .min: .min
    case .and: type == .bool ? .all : nil
    case .or: type == .bool ? .any : nil
    case .sub, .div, .floorDiv, .rem, .mod, .pow, .atan2, .xor, .shiftLeft, .shiftRight: nil
    }
  }

  /// Whether a value is known to be this number.
  private func isNumber(_ value: Int, _ number: Scalar) -> Bool {
    guard let known = scope.numbers[value] else { return false }
    if case .int(let a) = known, case .int(let b) = number { return a == b }
    return known.double == number.double
  }

  func reduce() throws(GraphTextError) -> [Int] {
    let x = op.operands
    if x.count == 4 { return try argReduce() }
    try operands(2)
    let type = type(x[0])
    let dims = try list("dimensions", "dimensions")
    let binary: BinaryKind?
    if let name = word("applies") {
      binary = Self.binary[name]
    } else {
      try regions(1)
      binary = combiner(op.regions[0])
    }
    guard let binary, let kind = reduction(binary, type.elementType) else {
      throw fail("only sums, products, extremes, and and or are possible reductions")
    }
    let y = try one(.reduce(kind, dims, keepDims: false), x[0])
    if isNumber(x[1], kind.mlir(type.elementType).start) {
      scope.useNumber(x[1])
      return [y]
    }
    return [try one(.binary(binary), y, try broadcast(x[1], shape(y)))]
  }

  /// Values with their positions, and a comparison of both as JAX writes it.
  private func argReduce() throws(GraphTextError) -> [Int] {
    let x = op.operands
    try regions(1)
    let dims = try list("dimensions", "dimensions")
    guard dims.count == 1, op.resultTypes.count == 2, case .iota(_, let type, let axis)? = scope.operation(x[1]), axis == dims[0]
    else { throw fail("of two tensors, only the position of an extreme is understood") }
    let region = op.regions[0]
    let isFloating = self.type(x[0]).elementType.isFloatingPoint
    for kind in ArgReductionKind.allCases {
      let expected = Self.region(
        [self.type(x[0]).elementType, type, self.type(x[0]).elementType, type].map { TensorType([], $0) }
      ) {
        add in
        // Arguments: a value and its position, twice.
        let strict = add(.compare(kind == .max ? .greater : .less), [0, 2])
        let better = isFloating ? add(.binary(.or), [strict, add(.compare(.notEqual), [0, 0])]) : strict
        let tie = add(.binary(.and), [add(.compare(.equal), [0, 2]), add(.compare(.less), [1, 3])])
        let earlier = add(.binary(.or), [better, tie])
        return [add(.select, [better, 0, 2]), add(.select, [earlier, 1, 3])]
      }
      guard Self.matches(region, expected) else { continue }
      scope.useNumber(x[2])
      scope.useNumber(x[3])
      let value = try one(.reduce(kind == .max ? .max : .min, dims, keepDims: false), x[0])
      let place = try one(.argReduce(kind, axis: axis, keepDims: false), x[0])
      return [value, try convert(place, op.resultTypes[1].elementType)]
    }
    throw fail("of two tensors, only the position of an extreme is understood")
  }

  /// What a region would look like: operations and operands, arguments first.
  typealias Expected = (nodes: [(operation: String, inputs: [Int])], outputs: [Int])

  static func region(_ arguments: [TensorType], _ body: ((Operation, [Int]) -> Int) -> [Int]) -> Expected {
    var nodes: [(operation: String, inputs: [Int])] = []
    let outputs = body { operation, inputs in
      nodes.append(("\(operation)", inputs))
      return arguments.count + nodes.count - 1
    }
    return (nodes, outputs)
  }

  /// Whether a region is this one; unknowns in another order are another region.
  static func matches(_ region: ParsedRegion, _ expected: Expected) -> Bool {
    let nodes = region.scope.nodes
    guard region.scope.captures.isEmpty, nodes.count == expected.nodes.count, region.outputs == expected.outputs else {
      return false
    }
    return zip(nodes, expected.nodes).allSatisfy { node, other in
      node.inputs == other.inputs && "\(node.operation)" == other.operation
    }
  }

  // MARK: Windows

  /// A window over [N, C, …], and how the operand's dimensions must be ordered for it.
  private func window() throws(GraphTextError) -> (window: Window, order: [Int]) {
    let rank = shape(op.operands[0]).count
    func numbers(_ name: String, preset: Int?) throws(GraphTextError) -> [Int] {
      guard let values = try optionalList(name, limit: TextLimits.step) else {
        guard let preset else { throw fail("needs \(name)") }
        return Array(repeating: preset, count: rank)
      }
      guard values.count == rank else { throw fail("\(name) needs \(rank) numbers") }
      return Array(values)
    }
    let size = try numbers("window_dimensions", preset: nil)
    let stride = try numbers("window_strides", preset: 1)
    let dilation = try numbers("window_dilations", preset: 1)
    guard try numbers("base_dilations", preset: 1).allSatisfy({ $0 == 1 }) else { throw fail("base_dilations must be 1") }
    let padding =
      try op.attributes["padding"].map { value throws(GraphTextError) in try pairs(value, rank) }
      ?? Array(repeating: 0, count: 2 * rank)
    let isTrivial = (0..<rank).map { i in size[i] == 1 && stride[i] == 1 && padding[2 * i] == 0 && padding[2 * i + 1] == 0 }
    let still = (0..<rank).filter { isTrivial[$0] }
    guard still.count >= 2, (3...5).contains(rank) else { throw fail("windows over 1 to 3 of 3 to 5 dimensions are possible") }
    // Batch and channels: the first two dimensions if they can be, else the first and the last that stay.
    let outer = isTrivial[0] && isTrivial[1] ? [0, 1] : [still[0], still[still.count - 1]]
    let inner = (0..<rank).filter { !outer.contains($0) }
    let w = Window(
      size: Shape(inner.map { size[$0] }), stride: Shape(inner.map { stride[$0] }), padLow: Shape(inner.map { padding[2 * $0] }),
      padHigh: Shape(inner.map { padding[2 * $0 + 1] }), dilation: Shape(inner.map { dilation[$0] }))
    return (w, outer + inner)
  }

  func reduceWindow() throws(GraphTextError) -> [Int] {
    let x = op.operands
    guard x.count == 2 else {
      throw fail("windows of several tensors are not understood")
    }
    try regions(1)
    if let scan = try scan() { return [scan] }
    let (window, order) = try window()
    let type = type(x[0]).elementType
    let kind: WindowReductionKind
    switch combiner(op.regions[0]) {
    case .max? where isNumber(x[1], type.extremes.low): kind = .max
    case .add? where isNumber(x[1], .int(0)): kind = .sum
    default: throw fail("only maxima and sums of windows are possible, from the number that changes nothing")
    }
    scope.useNumber(x[1])
    let y = try one(.reduceWindow(kind, window), try transpose(x[0], order))
    return [try transpose(y, inverse(order))]
  }

  /// Windows as long as one dimension that end, or begin, at each element: a running sum or extreme.
  private func scan() throws(GraphTextError) -> Int? {
    let x = op.operands
    let (shape, rank) = (shape(x[0]), shape(x[0]).count)
    guard let size = try optionalList("window_dimensions"), size.count == rank, rank > 0,
      let padding = try op.attributes["padding"].map({ value throws(GraphTextError) in try pairs(value, rank) })
    else { return nil }
    let long = (0..<rank).filter { size[$0] != 1 }
    for name in ["window_strides", "window_dilations", "base_dilations"] {
      if let values = try optionalList(name), values.contains(where: { $0 != 1 }) { return nil }
    }
    guard long.count == 1, size[long[0]] == shape[long[0]], type(x[0]).elementType != .bool else { return nil }
    let (axis, n) = (long[0], shape[long[0]])
    let isStill = (0..<rank).allSatisfy { $0 == axis || (padding[2 * $0] == 0 && padding[2 * $0 + 1] == 0) }
    let ends = [padding[2 * axis], padding[2 * axis + 1]]
    guard isStill, ends == [n - 1, 0] || ends == [0, n - 1] else { return nil }
    let extremes = type(x[0]).elementType.extremes
    let kind: ScanKind
    switch combiner(op.regions[0]) {
    case .add? where isNumber(x[1], .int(0)): kind = .sum
    case .mul? where isNumber(x[1], .int(1)): kind = .product
    case .max? where isNumber(x[1], extremes.low): kind = .max
    case .min? where isNumber(x[1], extremes.high): kind = .min
    default: return nil
    }
    scope.useNumber(x[1])
    return try one(.scan(kind, axis: axis, reverse: ends[0] == 0, exclusive: false), x[0])
  }

  /// The gradient of a maximum.
  func selectAndScatter() throws(GraphTextError) -> Int {
    try operands(3)
    try regions(2)
    let x = op.operands
    let (window, order) = try window()
    let bit = TensorType([], type(x[0]).elementType)
    let plain = Self.region([bit, bit]) { add in [add(.compare(.greaterEqual), [0, 1])] }
    let careful = Self.region([bit, bit]) { add in
      [add(.binary(.or), [add(.compare(.greaterEqual), [0, 1]), add(.compare(.notEqual), [0, 0])])]
    }
    guard Self.matches(op.regions[0], plain) || Self.matches(op.regions[0], careful), combiner(op.regions[1]) == .add,
      isNumber(x[2], .int(0))
    else { throw fail("only the gradient of a maximum is understood") }
    scope.useNumber(x[2])
    let dx = try one(.reduceWindowGradient(.max, window), try transpose(x[0], order), try transpose(x[1], order))
    return try transpose(dx, inverse(order))
  }

  // MARK: Order

  func sort() throws(GraphTextError) -> [Int] {
    let x = op.operands
    guard let key = x.first, !shape(key).isEmpty else { throw fail("needs tensors of at least one dimension") }
    try regions(1)
    let rank = shape(key).count
    let dimension = try integer("dimension", default: rank - 1)
    let axis = try axis(dimension < 0 ? dimension + rank : dimension, rank)
    let type = type(key).elementType
    let count = op.regions[0].argumentCount
    guard count == 2 * x.count else { throw fail("the comparator takes two arguments for each operand") }
    let arguments = Array(repeating: TensorType([], type), count: count)
    var descending: Bool?
    for direction in [false, true] {
      let kind: ComparisonKind = direction ? .greater : .less
      let plain = Self.region(arguments) { add in [add(.compare(kind), [0, 1])] }
      let ours = Self.region(arguments) { add in
        let (a, b) = direction ? (0, 1) : (1, 0)
        let strict = add(.compare(kind), [0, 1])
        let (isNaN, isNumber) = (add(.compare(.notEqual), [a, a]), add(.compare(.equal), [b, b]))
        return [add(.binary(.or), [strict, add(.binary(.and), [isNaN, isNumber])])]
      }
      // JAX: zeros without sign, NaN with none, then by total order.
      let total = Self.region(arguments) { add in
        func canonical(_ x: Int) -> Int {
          let zero = add(.fill([], type, .double(0)), [])
          let isZero = add(.compare(.equal), [x, zero])
          let plain = add(.select, [isZero, add(.fill([], type, .double(0)), []), x])
          let isNaN = add(.compare(.notEqual), [x, x])
          return add(.select, [isNaN, add(.fill([], type, .double(.nan)), []), plain])
        }
        let a = canonical(0)
        return [add(.compare(kind), [a, canonical(1)])]
      }
      if [plain, ours, total].contains(where: { Self.matches(op.regions[0], $0) }) { descending = direction }
    }
    guard let descending else { throw fail("the comparator is none that is understood: by the first operand, up or down") }
    let sorted = try append(.sort(axis: axis, descending: descending), [key])
    var results = [sorted[0]]
    for other in x.dropFirst() {
      guard shape(other) == shape(key) else { throw fail("its operands differ in shape") }
      if case .iota(_, let type, let along)? = scope.operation(other), along == axis {
        results.append(try convert(sorted[1], type))
      } else {
        results.append(try one(.takeAlong(axis: axis), other, sorted[1]))
      }
    }
    return results
  }

  // MARK: Control flow

  /// Values of this scope that the regions read.
  private func outer(_ regions: [ParsedRegion]) -> [Int] {
    var values: [Int] = []
    var seen: Set<Int> = []
    for region in regions {
      for value in region.scope.neededCaptures(region.outputs) where seen.insert(value).inserted { values.append(value) }
    }
    return values
  }

  private func size(_ regions: [ParsedRegion]) throws(GraphTextError) -> Int {
    var size = 1
    for region in regions { size += region.scope.operationCount }
    guard scope.operationCount + size <= TextLimits.operations else { throw fail("the program is too large") }
    return size
  }

  func whileLoop() throws(GraphTextError) -> [Int] {
    try regions(2)
    let states = op.operands
    let (condition, body) = (op.regions[0], op.regions[1])
    guard condition.argumentCount == states.count && body.argumentCount == states.count else {
      throw fail("its regions must take the \(states.count) states")
    }
    let sizes = try size(op.regions)
    if let a = condition.call, let b = body.call, a.outer == b.outer {
      return try append(
        .whileLoop(WhileLoop(condition: a.function, body: b.function, carried: states.count)), states + a.outer, sizes: sizes)
    }
    let outer = outer(op.regions)
    let loop = WhileLoop(
      condition: condition.function("condition", outer), body: body.function("body", outer), carried: states.count)
    return try append(.whileLoop(loop), states + outer, sizes: sizes)
  }

  func conditional(_ condition: Int?, _ regions: [ParsedRegion]) throws(GraphTextError) -> [Int] {
    guard let condition, regions.count == 2, op.operands.count == 1, regions.allSatisfy({ $0.argumentCount == 0 }) else {
      throw fail("needs a condition and two regions")
    }
    let sizes = try size(regions)
    if let a = regions[0].call, let b = regions[1].call, a.outer == b.outer {
      return try append(.conditional(then: a.function, otherwise: b.function), [condition] + a.outer, sizes: sizes)
    }
    let outer = outer(regions)
    return try append(
      .conditional(then: regions[0].function("then", outer), otherwise: regions[1].function("otherwise", outer)),
      [condition] + outer, sizes: sizes)
  }

  /// Of two branches: the first for 0, else the last.
  func choice() throws(GraphTextError) -> [Int] {
    try operands(1)
    try regions(2)
    let index = op.operands[0]
    guard shape(index).isEmpty else { throw fail("the index must be a scalar") }
    let isFirst = try one(.compare(.equal), index, try fill(.int(0), like: index))
    return try conditional(isFirst, op.regions)
  }
}
