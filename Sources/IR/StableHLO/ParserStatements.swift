// `%r = operation …`, in the generic form and in the pretty forms of StableHLO's assembly.

extension ModuleParser {
  mutating func statement(_ scope: TextScope) throws(GraphTextError) {
    var names: [(name: String, count: Int)] = []
    let here = lexer.start
    while case .value(let name, let index) = lexer.peek {
      if index != nil { throw lexer.error("results are numbered where they are read") }
      _ = try lexer.next()
      var count = 1
      if try lexer.accept(":") {
        guard case .number(let text) = lexer.peek, let number = Int(text), number > 0, number <= TextLimits.operands else {
          throw lexer.error("expected how many results there are")
        }
        _ = try lexer.next()
        count = number
      }
      names.append((name, count))
      if try !lexer.accept(",") { break }
    }
    if !names.isEmpty { try lexer.expect("=") }
    let operation = try self.operation(scope)
    let results = try lower(operation, scope)
    guard results.map(scope.type) == operation.resultTypes else {
      throw GraphTextError(
        lexer.position(operation.start),
        "\(operation.name) gives \(results.map(scope.type)), but says \(operation.resultTypes)")
    }
    try lexer.skipLocation()
    guard names.isEmpty || names.reduce(0, { $0 + $1.count }) == results.count else {
      throw GraphTextError(lexer.position(here), "\(operation.name) has \(results.count) results")
    }
    var next = 0
    for (name, count) in names {
      guard scope.bind(name, Array(results[next..<(next + count)])) else {
        throw GraphTextError(lexer.position(here), "there are two values %\(name)")
      }
      next += count
    }
  }

  private mutating func operation(_ scope: TextScope) throws(GraphTextError) -> ParsedOperation {
    var op = ParsedOperation(name: "", start: lexer.start)
    switch lexer.peek {
    case .string(let bytes):
      _ = try lexer.next()
      op.name = String(decoding: bytes, as: UTF8.self)
      try generic(&op, scope)
    case .word(let name):
      _ = try lexer.next()
      op.name = name == "call" ? "func.call" : name
      try pretty(&op, scope)
    case .end: throw lexer.error("the text ends inside of a function")
    default: throw lexer.error("expected an operation")
    }
    if let types = op.operandTypes, types != op.operands.map(scope.type) {
      throw GraphTextError(
        lexer.position(op.start), "\(op.name) says its operands are \(types); they are \(op.operands.map(scope.type))")
    }
    return op
  }

  private mutating func merge(_ op: inout ParsedOperation) throws(GraphTextError) {
    let more = try lexer.dictionary()
    for (name, value) in more where op.attributes.updateValue(value, forKey: name) != nil {
      throw lexer.error("the attribute \(name) is given twice")
    }
  }

  /// `: (a, b) -> c`.
  private mutating func signature(_ op: inout ParsedOperation) throws(GraphTextError) {
    try lexer.expect(":")
    op.operandTypes = try lexer.types()
    guard lexer.peek == .arrow else { throw lexer.error("expected ->") }
    _ = try lexer.next()
    op.resultTypes = try lexer.types()
  }

  /// `"name"(operands) <{…}> ({…}) {…} : (…) -> …`.
  private mutating func generic(_ op: inout ParsedOperation, _ scope: TextScope) throws(GraphTextError) {
    try lexer.expect("(")
    op.operands = try operands(scope)
    try lexer.expect(")")
    if try lexer.accept("<") {
      try merge(&op)
      try lexer.expect(">")
    }
    if try lexer.accept("(") {
      repeat {
        op.regions.append(try region(scope, isComparator: op.name == "stablehlo.sort"))
        if op.regions.count > 64 { throw lexer.error("too many regions") }
      } while try lexer.accept(",")
      try lexer.expect(")")
    }
    if lexer.peek == .mark("{") { try merge(&op) }
    try signature(&op)
  }

  /// `name = [1, 2]` after a comma, into an attribute.
  private mutating func entries(_ op: inout ParsedOperation) throws(GraphTextError) {
    while try lexer.accept(",") {
      let name = try lexer.word()
      try lexer.expect("=")
      let value = try lexer.attribute(0)
      if try lexer.accept(word: "x") {
        op.attributes[name] = .list([value, try lexer.attribute(0)])
      } else {
        op.attributes[name] = value
      }
    }
  }

  private mutating func pretty(_ op: inout ParsedOperation, _ scope: TextScope) throws(GraphTextError) {
    switch op.name {
    case "stablehlo.constant":
      if lexer.peek == .mark("{") { try merge(&op) }
      guard case .word("dense") = lexer.peek else {
        throw lexer.error("expected dense<…>; the constant is left out or of another kind")
      }
      let value = try lexer.attribute(0)
      guard case .dense(_, let type) = value else { throw lexer.error("expected dense<…>") }
      op.attributes["value"] = value
      op.resultTypes = [type]
      return
    case "stablehlo.iota":
      try lexer.expect(word: "dim")
      try lexer.expect("=")
      op.attributes["iota_dimension"] = try lexer.attribute(0)
      try lexer.expect(":")
      op.resultTypes = [try lexer.tensorType()]
      return
    case "stablehlo.compare":
      op.attributes["comparison_direction"] = .words([try lexer.word()])
      try lexer.expect(",")
      op.operands = try operands(scope)
      if try lexer.accept(",") { op.attributes["compare_type"] = .words([try lexer.word()]) }
    case "stablehlo.slice":
      op.operands = try operands(scope)
      try ranges(&op)
    case "stablehlo.reduce": return try reduce(&op, scope)
    case "stablehlo.while": return try whileLoop(&op, scope)
    case "stablehlo.convolution":
      try lexer.expect("(")
      op.operands = try operands(scope)
      try lexer.expect(")")
      try lexer.expect(word: "dim_numbers")
      try lexer.expect("=")
      op.attributes["dimension_numbers"] = .convolution(try lexer.convolutionNumbers())
      try lexer.expect(",")
      try lexer.expect(word: "window")
      try lexer.expect("=")
      op.attributes["window"] = .dictionary(try lexer.dictionary())
    case "func.call":
      op.attributes["callee"] = .symbol(try lexer.symbol())
      try lexer.expect("(")
      op.operands = try operands(scope)
      try lexer.expect(")")
    case "stablehlo.custom_call":
      op.attributes["call_target_name"] = .string(Array(try lexer.symbol().utf8))
      try lexer.expect("(")
      op.operands = try operands(scope)
      try lexer.expect(")")
    case "stablehlo.composite":
      guard case .string(let name) = lexer.peek else { throw lexer.error("expected the composite's name") }
      _ = try lexer.next()
      op.attributes["name"] = .string(name)
      op.operands = try operands(scope)
    case "chlo.top_k":
      try lexer.expect("(")
      op.operands = try operands(scope)
      try entries(&op)
      try lexer.expect(")")
    default:
      guard op.name.hasPrefix("stablehlo.") || op.name.hasPrefix("chlo.") else {
        throw GraphTextError(lexer.position(op.start), "\(op.name) is no operation that is known here")
      }
      op.operands = try operands(scope)
      try entries(&op)
    }
    if lexer.peek == .mark("{") { try merge(&op) }
    try lexer.expect(":")
    // `(a, b) -> c`, `a -> c`, or the types alone.
    let isList = lexer.peek == .mark("(")
    var types = try lexer.types()
    if lexer.peek == .arrow {
      _ = try lexer.next()
      op.operandTypes = types
      op.resultTypes = try lexer.types()
      return
    }
    if isList { throw lexer.error("expected ->") }
    while try lexer.accept(",") { types.append(try lexer.tensorType()) }
    switch op.name {
    case "stablehlo.select": op.resultTypes = [types[types.count - 1]]
    case "stablehlo.optimization_barrier": op.resultTypes = types
    default: op.resultTypes = [types[0]]
    }
  }

  /// ` [0:2, 1:7:3]`.
  private mutating func ranges(_ op: inout ParsedOperation) throws(GraphTextError) {
    func number(_ lexer: inout MLIRLexer) throws(GraphTextError) -> ParsedAttribute {
      guard case .number(let text) = lexer.peek else { throw lexer.error("expected a number") }
      let value = try lexer.number(text)
      _ = try lexer.next()
      return .number(value)
    }
    var (starts, limits, strides): ([ParsedAttribute], [ParsedAttribute], [ParsedAttribute]) = ([], [], [])
    try lexer.expect("[")
    while try !lexer.accept("]") {
      if !starts.isEmpty { try lexer.expect(",") }
      starts.append(try number(&lexer))
      try lexer.expect(":")
      limits.append(try number(&lexer))
      strides.append(try lexer.accept(":") ? try number(&lexer) : .number(.int(1)))
    }
    op.attributes["start_indices"] = .list(starts)
    op.attributes["limit_indices"] = .list(limits)
    op.attributes["strides"] = .list(strides)
  }

  /// `(%x init: %i), (%y init: %j) applies f across dimensions = [1] : …`, or with a reducer at the end.
  private mutating func reduce(_ op: inout ParsedOperation, _ scope: TextScope) throws(GraphTextError) {
    var (values, starts): ([Int], [Int]) = ([], [])
    repeat {
      try lexer.expect("(")
      values.append(try operand(scope))
      try lexer.expect(word: "init")
      try lexer.expect(":")
      starts.append(try operand(scope))
      try lexer.expect(")")
      if values.count > TextLimits.depth { throw lexer.error("too many operands") }
    } while try lexer.accept(",")
    op.operands = values + starts
    if try lexer.accept(word: "applies") { op.attributes["applies"] = .words([try lexer.word()]) }
    try lexer.expect(word: "across")
    try lexer.expect(word: "dimensions")
    try lexer.expect("=")
    op.attributes["dimensions"] = try lexer.attribute(0)
    if lexer.peek == .mark("{") { try merge(&op) }
    try signature(&op)
    guard try lexer.accept(word: "reducer") else { return }
    var (left, right): ([(String, TensorType)], [(String, TensorType)]) = ([], [])
    func argument(_ lexer: inout MLIRLexer) throws(GraphTextError) -> (String, TensorType) {
      let (name, _) = try lexer.value()
      try lexer.expect(":")
      return (name, try lexer.tensorType())
    }
    while try lexer.accept("(") {
      left.append(try argument(&lexer))
      try lexer.expect(",")
      right.append(try argument(&lexer))
      try lexer.expect(")")
      if left.count > values.count { throw lexer.error("more arguments than operands") }
    }
    op.regions = [try region(scope, left + right)]
  }

  /// `(%a = %x, %b = %y) : t, t cond {…} do {…}`.
  private mutating func whileLoop(_ op: inout ParsedOperation, _ scope: TextScope) throws(GraphTextError) {
    var arguments: [(String, TensorType)] = []
    try lexer.expect("(")
    while try !lexer.accept(")") {
      if !arguments.isEmpty { try lexer.expect(",") }
      let (name, _) = try lexer.value()
      try lexer.expect("=")
      op.operands.append(try operand(scope))
      arguments.append((name, scope.type(op.operands[op.operands.count - 1])))
      if arguments.count > TextLimits.operands { throw lexer.error("too many operands") }
    }
    if try lexer.accept(":") {
      repeat { op.resultTypes.append(try lexer.tensorType()) } while try lexer.accept(",")
    }
    if try lexer.accept(word: "attributes") { try merge(&op) }
    try lexer.expect(word: "cond")
    op.regions.append(try region(scope, arguments))
    try lexer.expect(word: "do")
    op.regions.append(try region(scope, arguments))
  }
}
