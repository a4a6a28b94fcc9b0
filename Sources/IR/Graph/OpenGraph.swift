/// A graph in which some dimensions, such as the batch, are open: one program for any size of them.
///
/// It is made of the same program at the corners of a box of sizes, two sizes for each open dimension: ordinary graphs that
/// differ in nothing but numbers. Each number that differs is multilinear in the open sizes (a + b·n; for two dimensions
/// a + b·n + c·m + d·n·m), or the reciprocal of such a number, as in a mean. ``graph(_:)`` is the program at other sizes.
public struct OpenGraph: Sendable {
  /// What the two sizes of each open dimension are, in the corners.
  public struct Axis: Sendable, Hashable {
    public var name: String
    public var low, high: Int

    public init(_ name: String, low: Int, high: Int) {
      self.name = name
      self.low = low
      self.high = high
    }
  }

  /// At most so many dimensions are open: there are 2ⁿ corners.
  public static let maxAxes = 3

  private enum Form: Sendable {
    case fixed
    /// The values at the corners; bit i of a corner's number says that axis i has its high size.
    case whole([Int])
    /// The reciprocals at the corners.
    case reciprocal([Int])
  }

  public let axes: [Axis]
  /// The program at the low sizes.
  public let base: Graph
  private let forms: [Form]

  /// - Parameter corners: 2ⁿ graphs for n axes; bit i of a corner's number says that axis i has its high size.
  /// - Throws: ``GraphError`` that names the operation if they differ in more than numbers, or a number is of no such form.
  public init(_ corners: [Graph], axes: [Axis]) throws(GraphError) {
    guard axes.count <= Self.maxAxes else {
      throw GraphError("\(axes.count) dimensions are open; at most \(Self.maxAxes) can be")
    }
    guard corners.count == 1 << axes.count else {
      throw GraphError("\(axes.count) open dimensions need \(1 << axes.count) graphs, not \(corners.count)")
    }
    for axis in axes where axis.low >= axis.high || axis.low < 0 || axis.high > SizeLimits.size {
      throw GraphError("the sizes \(axis.low) and \(axis.high) of \(axis.name) are not in order")
    }
    for corner in corners.dropFirst() { try Self.compare(corners[0], corner) }
    self.axes = axes
    base = corners[0]
    var collected: [[SizeNumber]] = []
    for corner in corners { collected.append(Self.numbers(corner)) }
    for numbers in collected where numbers.count != collected[0].count {
      throw GraphError("the programs differ in the ranks of their shapes")
    }
    var forms: [Form] = []
    var next = 0
    try Self.visit(base) { (node, name, _) throws(GraphError) in
      let values = collected.map { $0[next] }
      next += 1
      guard let form = Self.form(values) else {
        throw GraphError(
          node: node, "\(name): a number depends on the open dimensions in a way that is not understood: \(values)")
      }
      forms.append(form)
    }
    self.forms = forms
  }

  /// The program at these sizes, one for each axis.
  /// - Throws: ``GraphError`` if a number is not whole there, or an operation does not fit.
  public func graph(_ sizes: [Int]) throws(GraphError) -> Graph {
    precondition(sizes.count == axes.count, "one size for each open dimension")
    if axes.isEmpty { return base }
    for (size, axis) in zip(sizes, axes) where size < 0 || size > SizeLimits.size {
      throw GraphError("\(axis.name) cannot be \(size)")
    }
    var next = 0
    return try Self.rebuilt(base) { (node, name, number) throws(GraphError) in
      defer { next += 1 }
      func value(_ corners: [Int]) throws(GraphError) -> Int {
        guard let value = interpolate(corners, sizes) else {
          throw GraphError(node: node, "\(name): a number is not whole or too large with \(described(sizes))")
        }
        if value < 0 && corners.allSatisfy({ $0 >= 0 }) {
          throw GraphError(node: node, "\(name): a number would be negative with \(described(sizes))")
        }
        return value
      }
      switch (forms[next], number) {
      case (.fixed, _): return number
      case (.whole(let corners), .int): return .int(try value(corners))
      case (.whole(let corners), .double(_, let type)): return .double(Double(try value(corners)), type)
      case (.reciprocal(let corners), .double(_, let type)): return .double(1 / Double(try value(corners)), type)
      case (.reciprocal, .int): return number
      }
    }
  }

  private func described(_ sizes: [Int]) -> String { zip(axes, sizes).map { "\($0.name) = \($1)" }.joined(separator: ", ") }

  /// Σ over corners of the value there, weighted by how near the corner is along each axis.
  private func interpolate(_ corners: [Int], _ sizes: [Int]) -> Int? {
    var sum = 0
    var whole = 1
    for axis in axes {
      let (product, overflow) = whole.multipliedReportingOverflow(by: axis.high - axis.low)
      if overflow { return nil }
      whole = product
    }
    for (corner, value) in corners.enumerated() {
      var term = value
      for (i, axis) in axes.enumerated() {
        let weight = corner >> i & 1 == 1 ? sizes[i] - axis.low : axis.high - sizes[i]
        let (product, overflow) = term.multipliedReportingOverflow(by: weight)
        if overflow { return nil }
        term = product
      }
      let (next, overflow) = sum.addingReportingOverflow(term)
      if overflow { return nil }
      sum = next
    }
    guard sum % whole == 0, (sum / whole).magnitude <= UInt(SizeLimits.size) else { return nil }
    return sum / whole
  }

  // MARK: Forms

  private static func form(_ values: [SizeNumber]) -> Form? {
    if values.allSatisfy({ $0 == values[0] }) { return .fixed }
    var ints: [Int] = []
    var doubles: [(Double, ElementType)] = []
    for value in values {
      switch value {
      case .int(let value): ints.append(value)
      case .double(let value, let type): doubles.append((value, type))
      }
    }
    if ints.count == values.count { return .whole(ints) }
    guard doubles.count == values.count else { return nil }
    if doubles.allSatisfy({ $0.0.rounded() == $0.0 && $0.0.magnitude < 1e15 }) { return .whole(doubles.map { Int($0.0) }) }
    var reciprocals: [Int] = []
    for (value, type) in doubles {
      let number = (1 / value).rounded()
      guard number.isFinite, number.magnitude >= 1, number.magnitude < 1e15,
        (1 / number - value).magnitude <= value.magnitude * type.relativePrecision
      else { return nil }
      reciprocals.append(Int(number))
    }
    return .reciprocal(reciprocals)
  }

  // MARK: Walks

  /// Throws at the first operation that is another one in the other graph.
  private static func compare(_ a: Graph, _ b: Graph) throws(GraphError) {
    guard a.inputNames == b.inputNames, a.inputTypes.map(\.elementType) == b.inputTypes.map(\.elementType) else {
      throw GraphError("the programs have other inputs at other sizes of the open dimensions")
    }
    for (i, (x, y)) in zip(a.nodes, b.nodes).enumerated() {
      if case .constant(let p) = x.operation, case .constant(let q) = y.operation, p != q {
        throw GraphError(
          node: i,
          "a constant of type \(p.type) is another one (\(q.type)) at another size of the open dimensions; make it of tensor functions of the inputs' shapes, or hand it in as an input"
        )
      }
      guard x.operation.outline == y.operation.outline, x.inputs == y.inputs, x.resultCount == y.resultCount else {
        throw GraphError(
          node: i,
          "\(x.operation.name) is \(x.operation.name == y.operation.name ? "another one" : y.operation.name) at another size of the open dimensions"
        )
      }
      for (f, g) in zip(x.operation.functions, y.operation.functions) {
        do { try compare(f.graph, g.graph) } catch { throw GraphError(node: i, "in \(f.name): \(error)") }
      }
    }
    guard a.nodes.count == b.nodes.count, a.outputs == b.outputs, a.outputNames == b.outputNames else {
      let more =
        a.nodes.count > b.nodes.count ? a.nodes[b.nodes.count] : b.nodes.count > a.nodes.count ? b.nodes[a.nodes.count] : nil
      throw GraphError(
        node: min(a.nodes.count, b.nodes.count),
        more.map { "\($0.operation.name) is there at one size of the open dimensions only" }
          ?? "the programs have other results at other sizes of the open dimensions")
    }
  }

  private static func numbers(_ graph: Graph) -> [SizeNumber] {
    var result: [SizeNumber] = []
    func note(_: Int?, _: String, _ number: SizeNumber) { result.append(number) }
    visit(graph, note)
    return result
  }

  /// Hands out every number with its node and operation's name.
  private static func visit<E: Error>(
    _ graph: Graph, _ body: (_ node: Int?, _ name: String, SizeNumber) throws(E) -> Void
  ) throws(E) {
    for type in graph.inputTypes { for size in type.shape { try body(nil, "an input's shape", .int(size)) } }
    for (i, node) in graph.nodes.enumerated() {
      _ = try node.operation.mapped(
        { (number) throws(E) in
          try body(i, node.operation.name, number)
          return number
        },
        functions: { (function) throws(E) in
          try visit(function.graph) { (_, name, number) throws(E) in try body(i, "\(function.name), \(name)", number) }
          return function
        })
    }
  }

  /// The graph with other numbers; every operation passes its shape rule again.
  private static func rebuilt(
    _ graph: Graph, _ f: (_ node: Int?, _ name: String, SizeNumber) throws(GraphError) -> SizeNumber
  ) throws(GraphError) -> Graph {
    var result = Graph()
    for (i, type) in graph.inputTypes.enumerated() {
      var shape = type.shape
      for k in shape.indices {
        if case .int(let size) = try f(nil, "an input's shape", .int(shape[k])) { shape[k] = size }
      }
      let type = TensorType(shape, type.elementType)
      guard SizeLimits.allows(type) else { throw GraphError("an input \(type) is too large") }
      result.addInput(type, name: graph.inputNames[i])
    }
    for (i, node) in graph.nodes.enumerated() {
      let operation = try node.operation.mapped(
        { (number) throws(GraphError) in try f(i, node.operation.name, number) },
        functions: { (function) throws(GraphError) in
          let inner = try rebuilt(function.graph) { (_, name, number) throws(GraphError) in
            try f(i, "\(function.name), \(name)", number)
          }
          return Function(function.name, inner, role: function.role)
        })
      let types: [TensorType]
      do { types = try operation.infer(node.inputs.map { result.types[$0] }) } catch {
        throw GraphError(node: i, error.description)
      }
      guard types.count == node.resultCount else { throw GraphError(node: i, "\(operation.name) gives \(types.count) results") }
      for type in types where !SizeLimits.allows(type) { throw GraphError(node: i, "\(operation.name): \(type) is too large") }
      result.append(operation, node.inputs, types: types)
    }
    result.setOutputs(graph.outputs, names: graph.outputNames)
    return result
  }
}

/// Sizes beyond these come from no program that could run.
private enum SizeLimits {
  static let size = 1 << 40
  static func allows(_ type: TensorType) -> Bool {
    guard let count = type.shape.checkedElementCount else { return false }
    return count <= size && type.shape.allSatisfy { $0 >= 0 && $0 <= size }
  }
}

extension ElementType {
  /// The relative distance of neighbouring numbers.
  fileprivate var relativePrecision: Double {
    switch self {
    case .bfloat16: 0x1p-7
    case .float16: 0x1p-10
    case .float32: 0x1p-23
    case .float64: 0x1p-51
    case .bool, .uint8, .int8, .int16, .int32, .int64: 0
    }
  }
}
