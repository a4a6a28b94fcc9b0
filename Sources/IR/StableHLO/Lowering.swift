// StableHLO's operations as ours.

/// Appends operations for one operation of the text; errors stand at its place.
struct Lowering {
  let op: ParsedOperation
  let scope: TextScope
  let position: (Int) -> TextPosition

  func fail(_ message: String) -> GraphTextError { GraphTextError(position(op.start), "\(op.name): \(message)") }

  func append(_ operation: Operation, _ inputs: [Int], sizes: Int = 1) throws(GraphTextError) -> [Int] {
    do { return try scope.append(operation, inputs, sizes: sizes) } catch { throw fail("\(error)") }
  }

  func one(_ operation: Operation, _ inputs: Int...) throws(GraphTextError) -> Int { try append(operation, inputs)[0] }

  func type(_ value: Int) -> TensorType { scope.type(value) }
  func shape(_ value: Int) -> Shape { scope.type(value).shape }

  func operands(_ count: Int) throws(GraphTextError) {
    if op.operands.count != count { throw fail("takes \(count) operand\(count == 1 ? "" : "s"), got \(op.operands.count)") }
  }

  func regions(_ count: Int) throws(GraphTextError) {
    if op.regions.count != count { throw fail("needs \(count) region\(count == 1 ? "" : "s")") }
  }

  func result() throws(GraphTextError) -> TensorType {
    guard op.resultTypes.count == 1 else { throw fail("has one result") }
    return op.resultTypes[0]
  }

  // MARK: Attributes

  func integers(_ attribute: ParsedAttribute) -> [Int]? {
    switch attribute {
    case .list(let items):
      var values: [Int] = []
      for item in items {
        guard case .number(.int(let value)) = item else { return nil }
        values.append(value)
      }
      return values
    case .dense(let literal, let type):
      switch literal {
      case .splat(.int(let value)):
        return type.shape.elementCount <= 64 ? Array(repeating: value, count: type.shape.elementCount) : nil
      case .list(_, let numbers):
        var values: [Int] = []
        for number in numbers {
          guard case .int(let value) = number else { return nil }
          values.append(value)
        }
        return values
      case .splat, .bytes: return nil
      }
    case .number, .string, .symbol, .dictionary, .words, .convolution: return nil
    }
  }

  /// Numbers within `limit`, under any of these names; nil if there is none.
  func optionalList(_ names: String..., limit: Int = TextLimits.size) throws(GraphTextError) -> Shape? {
    for name in names {
      guard let attribute = op.attributes[name] else { continue }
      guard let values = integers(attribute), values.count <= Shape.maxRank,
        values.allSatisfy({ abs(Double($0)) <= Double(limit) })
      else { throw fail("\(name) must be at most \(Shape.maxRank) integers of a size that makes sense") }
      return Shape(values)
    }
    return nil
  }

  func list(_ name: String, _ other: String, limit: Int = TextLimits.size) throws(GraphTextError) -> Shape {
    guard let values = try optionalList(name, other, limit: limit) else { throw fail("needs \(name)") }
    return values
  }

  func integer(_ names: String..., default preset: Int? = nil) throws(GraphTextError) -> Int {
    for name in names {
      guard let attribute = op.attributes[name] else { continue }
      guard case .number(.int(let value)) = attribute, abs(Double(value)) <= Double(TextLimits.size) else {
        throw fail("\(name) must be an integer")
      }
      return value
    }
    guard let preset else { throw fail("needs \(names[0])") }
    return preset
  }

  func word(_ name: String) -> String? {
    guard case .words(let words)? = op.attributes[name] else { return nil }
    return words.last
  }

  func axis(_ value: Int, _ rank: Int) throws(GraphTextError) -> Int {
    guard value >= 0 && value < rank else { throw fail("dimension \(value) does not exist") }
    return value
  }

  /// Dimensions of a tensor of this rank, each at most once.
  func axes(_ values: some Collection<Int>, _ rank: Int) throws(GraphTextError) -> [Int] {
    for value in values { _ = try axis(value, rank) }
    if Set(values).count != values.count { throw fail("names a dimension twice") }
    return Array(values)
  }

  // MARK: Helpers

  func transpose(_ x: Int, _ permutation: [Int]) throws(GraphTextError) -> Int {
    permutation.elementsEqual(0..<permutation.count) ? x : try one(.transpose(Axes(permutation)), x)
  }

  func inverse(_ permutation: [Int]) -> [Int] {
    var result = permutation
    for (i, j) in permutation.enumerated() { result[j] = i }
    return result
  }

  func reshape(_ x: Int, _ shape: Shape) throws(GraphTextError) -> Int {
    shape == self.shape(x) ? x : try one(.reshape(shape), x)
  }

  func broadcast(_ x: Int, _ shape: Shape) throws(GraphTextError) -> Int {
    shape == self.shape(x) ? x : try one(.broadcast(shape), x)
  }

  func convert(_ x: Int, _ type: ElementType) throws(GraphTextError) -> Int {
    type == self.type(x).elementType ? x : try one(.convert(type), x)
  }

  func fill(_ value: Scalar, like x: Int) throws(GraphTextError) -> Int {
    try append(.fill(shape(x), type(x).elementType, value), [])[0]
  }

  /// Scalar indices of any integer type as one int64 vector.
  func vector(_ scalars: some Collection<Int>) throws(GraphTextError) -> Int {
    if scalars.isEmpty { return try append(.fill([0], .int64, .int(0)), [])[0] }
    var parts: [Int] = []
    for value in scalars {
      guard type(value).shape.isEmpty && type(value).elementType.isInteger else { throw fail("starts must be integer scalars") }
      parts.append(try reshape(try convert(value, .int64), [1]))
    }
    return parts.count == 1 ? parts[0] : try append(.concatenate(axis: 0), parts)[0]
  }
}

extension ModuleParser {
  /// The results of an operation, appended to the scope.
  mutating func lower(_ op: ParsedOperation, _ scope: TextScope) throws(GraphTextError) -> [Int] {
    let lexer = self.lexer
    let lowering = Lowering(op: op, scope: scope, position: lexer.position)
    switch op.name {
    case "func.call", "call": return try call(lowering, "callee")
    case "stablehlo.composite": return try composite(lowering)
    default:
      let results = try lowering.results()
      guard scope.operationCount <= TextLimits.operations else { throw lowering.fail("the program is too large") }
      return results
    }
  }

  private mutating func call(_ l: Lowering, _ attribute: String) throws(GraphTextError) -> [Int] {
    guard case .symbol(let symbol)? = l.op.attributes[attribute] else { throw l.fail("needs \(attribute), a function") }
    let (function, size) = try self.function(symbol, at: l.op.start)
    guard l.scope.operationCount + size <= TextLimits.operations else { throw l.fail("the program is too large") }
    return try l.append(.call(function), l.op.operands, sizes: size + 1)
  }

  private mutating func composite(_ l: Lowering) throws(GraphTextError) -> [Int] {
    guard case .string(let bytes)? = l.op.attributes["name"] else { throw l.fail("needs a name") }
    let name = String(decoding: bytes, as: UTF8.self)
    guard name.hasPrefix(CompositeForm.prefix) else { return try call(l, "decomposition") }
    let own = String(name.dropFirst(CompositeForm.prefix.count))
    if own == "fusion" {
      guard case .symbol(let symbol)? = l.op.attributes["decomposition"] else { throw l.fail("needs a decomposition") }
      var (function, size) = try self.function(symbol, at: l.op.start)
      function.role = .fusion
      guard l.scope.operationCount + size <= TextLimits.operations else { throw l.fail("the program is too large") }
      return try l.append(.call(function), l.op.operands, sizes: size + 1)
    }
    var attributes: [String: TextAttribute] = [:]
    if case .dictionary(let parsed)? = l.op.attributes["composite_attributes"] {
      for (key, value) in parsed {
        switch value {
        case .number(.int(let x)): attributes[key] = .int(x)
        case .number(.double(let x)): attributes[key] = .double(x)
        case .number(.bits(let x)): attributes[key] = .double(Double(bitPattern: x))
        case .number(.bool(let x)): attributes[key] = .bool(x)
        case .string(let x): attributes[key] = .string(String(decoding: x, as: UTF8.self))
        case .symbol(let x): attributes[key] = .symbol(x)
        case .list:
          guard let values = l.integers(value) else { throw l.fail("\(key) must be integers") }
          attributes[key] = .ints(values)
        case .dictionary, .dense, .words, .convolution: throw l.fail("the attribute \(key) is of no kind that is known")
        }
      }
    }
    let reader = AttributeReader(attributes: attributes, composite: name) { l.position(l.op.start) }
    var sizes = 1
    let position = l.op.start
    var parser = self
    let operation = try Operation(composite: own, reader) { symbol throws(GraphTextError) in
      let (function, size) = try parser.function(symbol, at: position)
      sizes += size
      return function
    }
    self = parser
    guard l.scope.operationCount + sizes <= TextLimits.operations else { throw l.fail("the program is too large") }
    guard let operation else { return try call(l, "decomposition") }
    return try l.append(operation, l.op.operands, sizes: sizes)
  }
}

// MARK: Operations one by one

extension Lowering {
  static let unary: [String: UnaryKind] = {
    var names: [String: UnaryKind] = [
      "chlo.erf": .erf, "chlo.erfc": .erfc, "chlo.erf_inv": .erfInv, "chlo.asin": .asin, "chlo.acos": .acos, "chlo.atan": .atan,
      "chlo.sinh": .sinh, "chlo.cosh": .cosh, "chlo.asinh": .asinh, "chlo.acosh": .acosh, "chlo.atanh": .atanh,
      "chlo.tan": .tan, "chlo.square": .square, "chlo.is_inf": .isInfinite,
    ]
    for kind in UnaryKind.allCases { if let name = kind.mlir(.float32) { names["stablehlo." + name] = kind } }
    return names
  }()

  static let binary: [String: BinaryKind] = {
    var names: [String: BinaryKind] = ["stablehlo.shift_right_logical": .shiftRight]
    for kind in BinaryKind.allCases { if let name = kind.mlir(.int32) { names["stablehlo." + name] = kind } }
    return names
  }()

  func results() throws(GraphTextError) -> [Int] {
    let x = op.operands
    if let kind = Self.unary[op.name] {
      try operands(1)
      return try append(.unary(kind), x)
    }
    if let kind = Self.binary[op.name] {
      try operands(2)
      if op.name.hasPrefix("stablehlo.shift_right") && op.name.hasSuffix("logical") == type(x[0]).elementType.isSigned {
        throw fail("is the other shift of Apus's for \(type(x[0]).elementType)")
      }
      return try append(.binary(kind), x)
    }
    switch op.name {
    case "stablehlo.compare", "stablehlo.select", "stablehlo.clamp", "stablehlo.convert", "stablehlo.bitcast_convert",
      "stablehlo.constant", "stablehlo.iota", "stablehlo.optimization_barrier":
      return try elementwise()
    case "stablehlo.broadcast_in_dim", "stablehlo.reshape", "stablehlo.transpose", "stablehlo.reverse", "stablehlo.slice",
      "stablehlo.pad", "stablehlo.concatenate", "stablehlo.dynamic_slice", "stablehlo.dynamic_update_slice":
      return [try shaping()]
    case "stablehlo.dot_general": return [try dot()]
    case "stablehlo.convolution": return [try convolution()]
    case "stablehlo.reduce": return try reduce()
    case "stablehlo.reduce_window": return try reduceWindow()
    case "stablehlo.select_and_scatter": return [try selectAndScatter()]
    case "stablehlo.sort": return try sort()
    case "chlo.top_k":
      try operands(1)
      let k = try integer("k")
      guard op.resultTypes.count == 2, !shape(x[0]).isEmpty else { throw fail("has two results") }
      let results = try append(.topK(k: k, axis: shape(x[0]).count - 1, largest: true), x)
      return [results[0], try convert(results[1], op.resultTypes[1].elementType)]
    case "stablehlo.gather": return [try gather()]
    case "stablehlo.scatter": return [try scatter()]
    case "stablehlo.while": return try whileLoop()
    case "stablehlo.if": return try conditional(x.first, op.regions)
    case "stablehlo.case": return try choice()
    case "stablehlo.custom_call":
      guard case .string(let name)? = op.attributes["call_target_name"] else { throw fail("needs call_target_name") }
      var configuration = ""
      switch op.attributes["backend_config"] {
      case .string(let bytes)?: configuration = String(decoding: bytes, as: UTF8.self)
      case nil: break
      default: throw fail("backend_config must be a string")
      }
      let call = CustomCall(
        String(decoding: name, as: UTF8.self), configuration: configuration, resultTypes: op.resultTypes)
      return try append(.customCall(call), x)
    default: throw fail("is no operation that Apus can express")
    }
  }

  // MARK: Elementwise

  func scalar(_ number: LiteralNumber, _ type: ElementType) throws(GraphTextError) -> Scalar {
    switch (number, type) {
    case (.bool(let value), .bool): return .bool(value)
    case (.int(let value), .bool) where value == 0 || value == 1: return .bool(value == 1)
    case (.int(let value), _) where type.isInteger:
      guard MLIRLiteral.wrapped(value, type) == value else { throw fail("\(value) does not fit \(type)") }
      return .int(value)
    case (.bits(let bits), _) where type.isInteger:
      return .int(MLIRLiteral.wrapped(Int(truncatingIfNeeded: bits), type))
    case (.int(let value), _) where type.isFloatingPoint: return .double(Double(value))
    case (.double(let value), _) where type.isFloatingPoint: return .double(value)
    case (.bits(let bits), .float64): return .double(Double(bitPattern: bits))
    case (.bits(let bits), .float32) where bits <= UInt64(UInt32.max): return .double(Double(Float(bitPattern: UInt32(bits))))
    case (.bits(let bits), .float16) where bits <= UInt64(UInt16.max):
      return .double(Double(HalfPrecision.float(ofFloat16: UInt16(bits))))
    case (.bits(let bits), .bfloat16) where bits <= UInt64(UInt16.max):
      return .double(Double(HalfPrecision.float(ofBFloat16: UInt16(bits))))
    default: throw fail("a literal that is no \(type)")
    }
  }

  private func constant(_ literal: DenseLiteral, _ type: TensorType) throws(GraphTextError) -> Operation {
    let count = type.shape.elementCount
    switch literal {
    case .splat(let number): return .fill(type.shape, type.elementType, try scalar(number, type.elementType))
    case .bytes(let bytes):
      if type.elementType == .bool {
        // One bit each in MLIR: only a splat is unambiguous.
        guard bytes == [0] || bytes == [0xFF] || bytes == [1] else {
          throw fail("bool constants must be written as true and false")
        }
        guard type.shape.isEmpty else { return .fill(type.shape, .bool, .bool(bytes != [0])) }
        let byte: [UInt8] = [bytes == [0] ? 0 : 1]
        return .constant(byte.withUnsafeBytes { Constant(type, bytes: $0) })
      }
      let size = type.elementType.byteSize
      if bytes.count == size && count != 1 {
        // The bytes of one element are a splat.
        var bits: UInt64 = 0
        for (i, byte) in bytes.enumerated() { bits |= UInt64(byte) << UInt64(8 * i) }
        return .fill(type.shape, type.elementType, try scalar(.bits(bits), type.elementType))
      }
      guard bytes.count == count * size else { throw fail("\(bytes.count) bytes are no \(type)") }
      return .constant(bytes.withUnsafeBytes { Constant(type, bytes: $0) })
    case .list(let shape, let numbers):
      guard count == 0 ? numbers.isEmpty : shape.elementsEqual(type.shape) else {
        throw fail("a literal of shape \(shape) is no \(type)")
      }
      var bytes: [UInt8] = []
      bytes.reserveCapacity(count * type.elementType.byteSize)
      for number in numbers { append(try scalar(number, type.elementType), type.elementType, to: &bytes) }
      return .constant(bytes.withUnsafeBytes { Constant(type, bytes: $0) })
    }
  }

  private func append(_ value: Scalar, _ type: ElementType, to bytes: inout [UInt8]) {
    func put<T>(_ value: T) { withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) } }
    let integer: Int
    if case .int(let x) = value { integer = x } else { integer = 0 }
    switch type {
    case .bool: put(UInt8(value.double != 0 ? 1 : 0))
    case .uint8: put(UInt8(truncatingIfNeeded: integer))
    case .int8: put(Int8(truncatingIfNeeded: integer))
    case .int16: put(Int16(truncatingIfNeeded: integer))
    case .int32: put(Int32(truncatingIfNeeded: integer))
    case .int64: put(Int64(integer))
    case .float16: put(HalfPrecision.float16(of: value.double))
    case .bfloat16: put(HalfPrecision.bfloat16(of: value.double))
    case .float32: put(Float(value.double))
    case .float64: put(value.double)
    }
  }

  private func elementwise() throws(GraphTextError) -> [Int] {
    let x = op.operands
    switch op.name {
    case "stablehlo.compare":
      try operands(2)
      let direction = word("comparison_direction")
      guard let kind = ComparisonKind.allCases.first(where: { $0.mlir == direction }) else { throw fail("an unknown direction") }
      if word("compare_type") == "TOTALORDER" && !scope.isComparator {
        throw fail("total order is understood only in the comparator of a sort")
      }
      return try append(.compare(kind), x)
    case "stablehlo.select":
      try operands(3)
      return [try one(.select, try broadcast(x[0], shape(x[1])), x[1], x[2])]
    case "stablehlo.clamp":
      try operands(3)
      let low = try one(.binary(.max), x[1], try broadcast(x[0], shape(x[1])))
      return [try one(.binary(.min), low, try broadcast(x[2], shape(x[1])))]
    case "stablehlo.convert": return try append(.convert(try result().elementType), x)
    case "stablehlo.bitcast_convert": return try append(.bitcast(try result().elementType), x)
    case "stablehlo.iota":
      let type = try result()
      return try append(.iota(type.shape, type.elementType, axis: try integer("iota_dimension")), [])
    case "stablehlo.optimization_barrier": return x
    default:
      guard case .dense(let literal, let type)? = op.attributes["value"] else { throw fail("needs a value, dense<…>") }
      return try append(try constant(literal, type), [])
    }
  }

  // MARK: Shaping

  private func shaping() throws(GraphTextError) -> Int {
    let x = op.operands
    guard let first = x.first else { throw fail("needs operands") }
    switch op.name {
    case "stablehlo.broadcast_in_dim":
      try operands(1)
      let shape = try result().shape
      let dims = try axes(try list("broadcast_dimensions", "dims"), shape.count)
      guard dims.count == self.shape(first).count else { throw fail("needs as many dimensions as its operand has") }
      if dims.elementsEqual((shape.count - dims.count)..<shape.count) { return try one(.broadcast(shape), first) }
      let order = dims.indices.sorted { dims[$0] < dims[$1] }
      let sorted = try transpose(first, order)
      var spread = Shape(repeating: 1, count: shape.count)
      for i in order { spread[dims[i]] = self.shape(first)[i] }
      return try broadcast(try reshape(sorted, spread), shape)
    case "stablehlo.reshape":
      try operands(1)
      return try one(.reshape(try result().shape), first)
    case "stablehlo.transpose":
      try operands(1)
      return try one(.transpose(try list("permutation", "dims")), first)
    case "stablehlo.reverse":
      try operands(1)
      return try one(.reverse(try list("dimensions", "dims")), first)
    case "stablehlo.slice":
      try operands(1)
      let (start, limit) = (try list("start_indices", "start_indices"), try list("limit_indices", "limit_indices"))
      let step = try list("strides", "strides", limit: TextLimits.step)
      guard start.count == limit.count && step.count == start.count, step.allSatisfy({ $0 > 0 }) else {
        throw fail("starts, limits and positive strides must be as many")
      }
      var size = start
      for i in 0..<start.count {
        guard start[i] >= 0 && limit[i] >= start[i] else { throw fail("the range \(start[i]):\(limit[i]) is empty or negative") }
        size[i] = (limit[i] - start[i] + step[i] - 1) / step[i]
        guard i < shape(first).count && limit[i] <= shape(first)[i] else {
          throw fail("the range \(start[i]):\(limit[i]) does not fit \(type(first))")
        }
      }
      return try one(.slice(start: start, size: size, step: step), first)
    case "stablehlo.pad":
      try operands(2)
      return try one(
        .pad(
          low: try list("edge_padding_low", "low"), high: try list("edge_padding_high", "high"),
          interior: try list("interior_padding", "interior", limit: TextLimits.step)), first, x[1])
    case "stablehlo.concatenate": return try append(.concatenate(axis: try integer("dimension", "dim")), x)[0]
    case "stablehlo.dynamic_slice":
      return try one(.dynamicSlice(size: try list("slice_sizes", "sizes")), first, try vector(x.dropFirst()))
    default:
      guard x.count >= 2 else { throw fail("needs a tensor, an update and starts") }
      return try one(.dynamicUpdateSlice, first, x[1], try vector(x.dropFirst(2)))
    }
  }

  // MARK: Products

  private func dot() throws(GraphTextError) -> Int {
    try operands(2)
    func pair(_ name: String) throws(GraphTextError) -> (Axes, Axes) {
      guard let attribute = op.attributes[name] else { return ([], []) }
      guard case .list(let sides) = attribute, sides.count == 2, let a = integers(sides[0]), let b = integers(sides[1]),
        a.count <= Shape.maxRank, b.count <= Shape.maxRank
      else { throw fail("\(name) must be two lists of dimensions") }
      return (Axes(a), Axes(b))
    }
    let dimensions: DotDimensions
    if case .dictionary(let entries)? = op.attributes["dot_dimension_numbers"] {
      func part(_ name: String) throws(GraphTextError) -> Axes {
        guard let attribute = entries[name] else { return [] }
        guard let values = integers(attribute), values.count <= Shape.maxRank else { throw fail("\(name) must be dimensions") }
        return Axes(values)
      }
      dimensions = DotDimensions(
        lhsBatch: try part("lhs_batching_dimensions"), rhsBatch: try part("rhs_batching_dimensions"),
        lhsContracting: try part("lhs_contracting_dimensions"), rhsContracting: try part("rhs_contracting_dimensions"))
    } else {
      let (batch, contracting) = (try pair("batching_dims"), try pair("contracting_dims"))
      dimensions = DotDimensions(
        lhsBatch: batch.0, rhsBatch: batch.1, lhsContracting: contracting.0, rhsContracting: contracting.1)
    }
    let type = try result().elementType
    return try one(.dot(dimensions), try convert(op.operands[0], type), try convert(op.operands[1], type))
  }

  private func convolution() throws(GraphTextError) -> Int {
    try operands(2)
    let (x, w) = (op.operands[0], op.operands[1])
    guard case .convolution(let numbers)? = op.attributes["dimension_numbers"], numbers.count == 3 else {
      throw fail("needs dim_numbers")
    }
    let n = shape(x).count - 2
    /// Where batch (or output channels), channels, and each spatial dimension stand.
    func order(_ part: [String], _ letters: [String], _ rank: Int) throws(GraphTextError) -> [Int] {
      guard n >= 0, rank == n + 2, part.count == rank else { throw fail("dim_numbers do not fit its operands") }
      var places: [Int] = []
      for name in letters + (0..<n).map(String.init) {
        guard let place = part.firstIndex(of: name) else { throw fail("dim_numbers have no \(name)") }
        places.append(place)
      }
      return places
    }
    let image = try order(numbers[0], ["b", "f"], shape(x).count)
    let kernel = try order(numbers[1], ["o", "i"], shape(w).count)
    let output = try order(numbers[2], ["b", "f"], try result().shape.count)

    var window: [String: ParsedAttribute] = [:]
    if case .dictionary(let entries)? = op.attributes["window"] { window = entries }
    func perDimension(_ name: String, _ generic: String) throws(GraphTextError) -> Shape {
      guard let attribute = window[name] ?? op.attributes[generic] else { return Shape(repeating: 1, count: n) }
      guard let values = integers(attribute), values.count == n, values.allSatisfy({ abs(Double($0)) <= Double(TextLimits.step) })
      else { throw fail("\(name) needs \(n) numbers") }
      return Shape(values)
    }
    var (low, high) = (Shape(repeating: 0, count: n), Shape(repeating: 0, count: n))
    if let padding = window["pad"] ?? op.attributes["padding"] {
      let values = try pairs(padding, n)
      for i in 0..<n { (low[i], high[i]) = (values[2 * i], values[2 * i + 1]) }
    }
    var groups = try integer("feature_group_count", default: 1)
    let batchGroups = try integer("batch_group_count", default: 1)
    var samples = try transpose(x, image)
    if batchGroups != 1 {
      // Each group of samples has output channels of its own: as if they were groups of channels.
      let size = Array(shape(samples))
      guard groups == 1, batchGroups > 1, size[0] % batchGroups == 0, size.count < Shape.maxRank else {
        throw fail("batch_group_count does not divide the batch")
      }
      let split = try reshape(samples, Shape([batchGroups, size[0] / batchGroups] + size[1...]))
      let moved = try transpose(split, [1, 0] + Array(2..<(size.count + 1)))
      samples = try reshape(moved, Shape([size[0] / batchGroups, batchGroups * size[1]] + size[2...]))
      groups = batchGroups
    }
    let p = ConvolutionParameters(
      stride: try perDimension("stride", "window_strides"), padLow: low, padHigh: high,
      kernelDilation: try perDimension("rhs_dilate", "rhs_dilation"),
      inputDilation: try perDimension("lhs_dilate", "lhs_dilation"),
      groups: groups)
    var weight = try transpose(w, kernel)
    if case .list(let flags)? = window["reverse"] ?? op.attributes["window_reversal"] {
      let reversed = flags.indices.filter { flags[$0] == .number(.bool(true)) }.map { $0 + 2 }
      if !reversed.isEmpty { weight = try one(.reverse(Axes(try axes(reversed, n + 2))), weight) }
    }
    let type = try result().elementType
    let y = try one(.convolution(p), try convert(samples, type), try convert(weight, type))
    return try transpose(y, inverse(output))
  }

  /// `[[1, 2], [3, 4]]` or a dense [n, 2], flat.
  func pairs(_ attribute: ParsedAttribute, _ n: Int) throws(GraphTextError) -> [Int] {
    var values: [Int] = []
    if case .list(let rows) = attribute {
      for row in rows {
        guard let pair = integers(row), pair.count == 2 else { throw fail("padding needs pairs of numbers") }
        values += pair
      }
    } else {
      values = integers(attribute) ?? []
    }
    guard values.count == 2 * n, values.allSatisfy({ abs(Double($0)) <= Double(TextLimits.step) }) else {
      throw fail("padding needs \(n) pairs of numbers")
    }
    return values
  }
}
