extension Match {
  /// relu, sigmoid, silu and both gelus, however their products and sums are arranged: the value is brought to the form
  /// Σ aₖ xᵏ + f(Σ bₖ xᵏ) Σ cₖ xᵏ and compared by coefficients.
  static func activation(_ match: inout Match, _ root: Value) -> Replacement? {
    guard let node = match.node(root), case .binary(let kind) = node.operation else { return nil }
    let type = match.type(root).elementType
    switch kind {
    case .max:
      // NaN stays NaN in both.
      guard let (x, zero) = match.withNumber(root, .max), zero == 0, match.number(x) == nil else { return nil }
      return { $0.apply(.unary(.relu), $0.value(x)) }
    case .mul, .div, .add, .sub: break
    default: return nil
    }
    for x in match.variables(below: root) {
      var attempt = match
      guard let form = attempt.form(root, of: x), let found = form.activation({ match.isClose($0, $1, type) }) else { continue }
      match = attempt
      return { $0.apply(.unary(found), $0.value(x)) }
    }
    return nil
  }

  /// What x may be: operands somewhere below the function inside, the nearest first.
  private func variables(below root: Value) -> [Value] {
    func next(_ value: Value) -> [Value] {
      guard let node = node(value) else { return [] }
      switch node.operation {
      case .unary(.neg), .unary(.square), .unary(.erf), .unary(.erfc), .unary(.tanh), .unary(.sigmoid), .unary(.exp),
        .unary(.reciprocal), .binary(.add), .binary(.sub), .binary(.mul), .binary(.div), .binary(.pow):
        return node.inputs.filter { number($0) == nil }
      default: return []
      }
    }
    func isFunction(_ value: Value) -> Bool {
      guard let node = node(value), case .unary(let kind) = node.operation else { return false }
      return [.erf, .erfc, .tanh, .sigmoid, .exp].contains(kind)
    }
    // The functions, then what their arguments are made of.
    var functions: [Value] = []
    var level = [root]
    for _ in 0..<5 {
      for value in level where isFunction(value) && !functions.contains(value) { functions.append(value) }
      level = level.filter { !isFunction($0) }.flatMap(next)
      if level.count > 8 { level.removeLast(level.count - 8) }
    }
    var found: [Value] = []
    for function in functions.prefix(3) {
      level = next(function)
      for _ in 0..<5 {
        for value in level where !found.contains(value) && type(value) == type(root) { found.append(value) }
        level = level.flatMap(next)
        if level.count > 8 { level.removeLast(level.count - 8) }
      }
    }
    return found
  }

  /// Σ aₖ xᵏ + f(argument) Σ cₖ xᵏ.
  struct Form {
    struct Function {
      let value: Value
      let kind: UnaryKind
      let argument: [Double]
    }
    /// Coefficients by degree.
    var polynomial: [Double]
    var function: Function?
    var factor: [Double] = []

    static func number(_ x: Double) -> Form { Form(polynomial: [x]) }

    static func + (a: Form, b: Form) -> Form? {
      if let f = a.function, let g = b.function, f.value != g.value { return nil }
      return Form(
        polynomial: sum(a.polynomial, b.polynomial), function: a.function ?? b.function, factor: sum(a.factor, b.factor))
    }

    static func * (a: Form, b: Form) -> Form? {
      if b.function != nil { return a.function == nil ? b * a : nil }
      guard let polynomial = product(a.polynomial, b.polynomial), let factor = product(a.factor, b.polynomial) else { return nil }
      return Form(polynomial: polynomial, function: a.function, factor: factor)
    }

    /// 1 / this: of a number, or of 1 + eᵖ, which is sigmoid(−p).
    func reciprocal() -> Form? {
      guard let function else { return polynomial.count == 1 && polynomial[0] != 0 ? .number(1 / polynomial[0]) : nil }
      guard function.kind == .exp, polynomial == [1], factor == [1] else { return nil }
      let sigmoid = Function(value: function.value, kind: .sigmoid, argument: function.argument.map { -$0 })
      return Form(polynomial: [0], function: sigmoid, factor: [1])
    }

    private static func sum(_ a: [Double], _ b: [Double]) -> [Double] {
      (0..<max(a.count, b.count)).map { ($0 < a.count ? a[$0] : 0) + ($0 < b.count ? b[$0] : 0) }
    }

    private static func product(_ a: [Double], _ b: [Double]) -> [Double]? {
      if a.isEmpty || b.isEmpty { return [] }
      guard a.count + b.count <= 6 else { return nil }
      var result = [Double](repeating: 0, count: a.count + b.count - 1)
      for (i, x) in a.enumerated() { for (j, y) in b.enumerated() { result[i + j] += x * y } }
      return result
    }

    /// The activation that has these coefficients.
    func activation(_ isClose: (Double, Double) -> Bool) -> UnaryKind? {
      guard let function else { return nil }
      func fits(_ a: [Double], _ expected: [Double]) -> Bool {
        (0..<max(a.count, expected.count)).allSatisfy { i in
          let (x, y) = (i < a.count ? a[i] : 0, i < expected.count ? expected[i] : 0)
          return y == 0 ? x == 0 : isClose(x, y)
        }
      }
      let root = 0.5.squareRoot()
      let c = (2 / Double.pi).squareRoot()
      switch function.kind {
      case .erf:
        return fits(function.argument, [0, root]) && fits(polynomial, [0, 0.5]) && fits(factor, [0, 0.5]) ? .gelu : nil
      case .erfc:
        return fits(function.argument, [0, -root]) && fits(polynomial, [0]) && fits(factor, [0, 0.5]) ? .gelu : nil
      case .tanh:
        let argument = [0, c, 0, c * 0.044715]
        return fits(function.argument, argument) && fits(polynomial, [0, 0.5]) && fits(factor, [0, 0.5]) ? .geluTanh : nil
      case .sigmoid:
        guard fits(function.argument, [0, 1]), fits(polynomial, [0]) else { return nil }
        return fits(factor, [0, 1]) ? .silu : fits(factor, [1]) ? .sigmoid : nil
      default: return nil
      }
    }
  }

  /// A value as a form in x.
  private mutating func form(_ value: Value, of x: Value, depth: Int = 0) -> Form? {
    if value == x { return Form(polynomial: [0, 1]) }
    if let number = number(value) { return .number(number) }
    steps += 1
    guard depth < 10, steps < 200, let node = node(value) else { return nil }
    _ = enter(value)
    switch node.operation {
    case .unary(let kind):
      guard let a = form(node.inputs[0], of: x, depth: depth + 1) else { return nil }
      switch kind {
      case .neg: return a * .number(-1)
      case .square: return a * a
      case .reciprocal: return a.reciprocal()
      case .erf, .erfc, .tanh, .sigmoid, .exp:
        guard a.function == nil else { return nil }
        return Form(
          polynomial: [0], function: Form.Function(value: value, kind: kind, argument: a.polynomial), factor: [1])
      default: return nil
      }
    case .binary(let kind):
      guard let a = form(node.inputs[0], of: x, depth: depth + 1), let b = form(node.inputs[1], of: x, depth: depth + 1) else {
        return nil
      }
      switch kind {
      case .add: return a + b
      case .sub: return (b * .number(-1)).flatMap { a + $0 }
      case .mul: return a * b
      case .div: return b.reciprocal().flatMap { a * $0 }
      case .pow:
        guard b.function == nil, b.polynomial == [2] || b.polynomial == [3] else { return nil }
        return (a * a).flatMap { b.polynomial == [2] ? $0 : $0 * a }
      default: return nil
      }
    default: return nil
    }
  }
}
