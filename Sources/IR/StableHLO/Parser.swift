extension Graph {
  /// Reads a program from StableHLO's text form: what ``stableHLO(name:constants:)`` writes, and other programs, such as JAX's
  /// `jax.jit(f).lower(…).as_text()`, as far as their operations can be expressed. Calls are calls, composites that are not
  /// Apus's own are calls of their decompositions.
  /// - Parameter weights: the numbers behind arguments with the attribute `apus.weight = NAME`.
  /// - Throws: ``GraphTextError``, with line and column, for anything else. Time and memory are bounded by the text's length.
  public init(
    stableHLO text: String, weights: (_ name: String, TensorType) -> Constant? = { _, _ in nil }
  ) throws(GraphTextError) {
    var parser = try ModuleParser(text)
    self = try parser.main(weights)
  }
}

/// A module: where its functions are, and those that were read.
struct ModuleParser {
  var lexer: MLIRLexer
  /// Where each function's arguments begin.
  private var places: [String: Int] = [:]
  private var entry: String?
  /// Functions that are not private, in the order of the text.
  private(set) var publicNames: [String] = []
  private var functions: [String: (function: Function, size: Int)] = [:]
  private var open: Set<String> = []
  /// Regions and functions that are being read.
  private var depth = 0

  struct Header {
    var arguments: [(name: String, type: TensorType, attributes: [String: ParsedAttribute])] = []
    var results: [(type: TensorType, attributes: [String: ParsedAttribute])] = []
    var attributes: [String: ParsedAttribute] = [:]
  }

  init(_ text: String) throws(GraphTextError) {
    lexer = try MLIRLexer(text)
    try survey()
  }

  // MARK: Functions

  /// Finds the functions without reading them.
  private mutating func survey() throws(GraphTextError) {
    try skipAliases()
    var isModule = try lexer.accept(word: "module")
    if !isModule { isModule = try lexer.accept(word: "builtin.module") }
    if isModule {
      if case .symbol = lexer.peek { _ = try lexer.next() }
      if try lexer.accept(word: "attributes") { _ = try lexer.dictionary() }
      try lexer.expect("{")
    }
    while true {
      if lexer.peek == .end && !isModule { break }
      if try lexer.accept("}") {
        if !isModule { throw lexer.error("} without its {") }
        try lexer.skipLocation()
        try skipAliases()
        guard lexer.peek == .end else { throw lexer.error("something follows the module") }
        break
      }
      guard try lexer.accept(word: "func.func") else { throw lexer.error("expected func.func") }
      var isPublic = true
      if case .word(let visibility) = lexer.peek {
        isPublic = visibility == "public"
        _ = try lexer.next()
      }
      let name = try lexer.symbol()
      guard places.updateValue(lexer.start, forKey: name) == nil else { throw lexer.error("there are two functions @\(name)") }
      if name == "main" || (entry == nil && isPublic) { entry = name }
      if isPublic { publicNames.append(name) }
      try lexer.skipBalanced("(", ")")
      if lexer.peek == .arrow {
        _ = try lexer.next()
        if lexer.peek == .mark("(") { try lexer.skipBalanced("(", ")") } else { _ = try lexer.tensorType() }
      }
      if try lexer.accept(word: "attributes") { _ = try lexer.dictionary() }
      if lexer.peek == .mark("{") { try lexer.skipBalanced("{", "}") }
      try lexer.skipLocation()
    }
  }

  /// `#loc = loc(…)`.
  private mutating func skipAliases() throws(GraphTextError) {
    while case .alias = lexer.peek {
      _ = try lexer.next()
      try lexer.expect("=")
      guard lexer.peek == .word("loc") else { throw lexer.error("only locations can be named before the module") }
      try lexer.skipLocation()
    }
  }

  private mutating func header() throws(GraphTextError) -> Header {
    var header = Header()
    try lexer.expect("(")
    while try !lexer.accept(")") {
      if !header.arguments.isEmpty { try lexer.expect(",") }
      let (name, index) = try lexer.value()
      if index != nil { throw lexer.error("an argument is one value") }
      try lexer.expect(":")
      let type = try lexer.tensorType()
      let attributes = lexer.peek == .mark("{") ? try lexer.dictionary() : [:]
      try lexer.skipLocation()
      header.arguments.append((name, type, attributes))
      if header.arguments.count > TextLimits.operands { throw lexer.error("too many arguments") }
    }
    if lexer.peek == .arrow {
      _ = try lexer.next()
      if try lexer.accept("(") {
        while try !lexer.accept(")") {
          if !header.results.isEmpty { try lexer.expect(",") }
          let type = try lexer.tensorType()
          header.results.append((type, lexer.peek == .mark("{") ? try lexer.dictionary() : [:]))
        }
      } else {
        header.results.append((try lexer.tensorType(), [:]))
      }
    }
    if try lexer.accept(word: "attributes") { header.attributes = try lexer.dictionary() }
    return header
  }

  /// The main function as a graph.
  mutating func main(_ weights: (String, TensorType) -> Constant?) throws(GraphTextError) -> Graph {
    guard let entry else { throw lexer.error("there is no public function") }
    open.insert(entry)
    return try read(entry, weights: weights).graph
  }

  /// A public function as a graph.
  mutating func program(_ symbol: String, _ weights: (String, TensorType) -> Constant?) throws(GraphTextError) -> Graph {
    open = [symbol]
    return try read(symbol, weights: weights).graph
  }

  /// A function by its name in the text.
  mutating func function(_ symbol: String, at position: Int) throws(GraphTextError) -> (function: Function, size: Int) {
    if let known = functions[symbol] { return known }
    func fail(_ message: String) -> GraphTextError { GraphTextError(lexer.position(position), message) }
    guard places[symbol] != nil else { throw fail("there is no function @\(symbol)") }
    guard !open.contains(symbol) else { throw fail("@\(symbol) calls itself") }
    let back = lexer.start
    open.insert(symbol)
    let (graph, name, size) = try read(symbol) { _, _ in nil }
    open.remove(symbol)
    try lexer.seek(back)
    let result = (Function(name ?? symbol, graph), size)
    functions[symbol] = result
    return result
  }

  private mutating func read(_ symbol: String, weights: (String, TensorType) -> Constant?) throws(GraphTextError) -> (
    graph: Graph, name: String?, size: Int
  ) {
    guard let place = places[symbol] else { throw lexer.error("there is no function @\(symbol)") }
    try lexer.seek(place)
    let header = try header()
    guard lexer.peek == .mark("{") else { throw lexer.error("@\(symbol) has no body") }
    let scope = TextScope()
    var named: [(String, Int)] = []
    var constants: [(String, Constant)] = []
    for argument in header.arguments {
      if case .string(let bytes)? = argument.attributes["apus.weight"] {
        let name = String(decoding: bytes, as: UTF8.self)
        guard let constant = weights(name, argument.type), constant.type == argument.type else {
          throw lexer.error("there is no weight \(name) of type \(argument.type)")
        }
        constants.append((argument.name, constant))
      } else {
        named.append((argument.name, scope.addArgument(argument.type, name: Self.text(argument.attributes["apus.name"]))))
      }
    }
    for (name, constant) in constants {
      do { named.append((name, try scope.append(.constant(constant), [])[0])) } catch { throw lexer.error(error.description) }
    }
    for (name, value) in named where !scope.bind(name, [value]) { throw lexer.error("there are two values %\(name)") }
    try lexer.expect("{")
    let outputs = try body(scope)
    let types = header.results.map(\.type)
    guard outputs.map(scope.type) == types else {
      throw lexer.error("@\(symbol) returns \(outputs.map(scope.type)), but says \(types)")
    }
    let names = header.results.map { Self.text($0.attributes["apus.name"]) }
    let name = header.attributes["apus.name"].map { Self.text($0) }
    return (scope.finish(outputs, names: names).graph, name, scope.operationCount)
  }

  private static func text(_ attribute: ParsedAttribute?) -> String {
    guard case .string(let bytes)? = attribute else { return "" }
    return String(decoding: bytes, as: UTF8.self)
  }

  // MARK: Regions

  /// Operations up to and with the closing brace; gives what is returned.
  mutating func body(_ scope: TextScope) throws(GraphTextError) -> [Int] {
    // Regions and calls together: each is a few frames on the stack.
    guard depth < TextLimits.nesting else { throw lexer.error("regions and calls are nested too deep") }
    depth += 1
    defer { depth -= 1 }
    while true {
      if case .word(let word) = lexer.peek, ["return", "func.return", "stablehlo.return"].contains(word) {
        _ = try lexer.next()
        let results = try operands(scope)
        if try lexer.accept(":") {
          for (i, value) in results.enumerated() {
            if i > 0 { try lexer.expect(",") }
            let type = try lexer.tensorType()
            guard type == scope.type(value) else { throw lexer.error("returns \(scope.type(value)), but says \(type)") }
          }
        }
        try lexer.skipLocation()
        try lexer.expect("}")
        return results
      }
      if lexer.peek == .string(Array("stablehlo.return".utf8)) || lexer.peek == .string(Array("func.return".utf8)) {
        _ = try lexer.next()
        try lexer.expect("(")
        let results = try operands(scope)
        try lexer.expect(")")
        try lexer.expect(":")
        guard try lexer.types() == results.map(scope.type) else { throw lexer.error("returns other types than it says") }
        if lexer.peek == .arrow {
          _ = try lexer.next()
          _ = try lexer.types()
        }
        try lexer.expect("}")
        return results
      }
      try statement(scope)
    }
  }

  /// `%a, %b`, perhaps none.
  mutating func operands(_ scope: TextScope) throws(GraphTextError) -> [Int] {
    var values: [Int] = []
    while case .value = lexer.peek {
      values.append(try operand(scope))
      if values.count > TextLimits.operands { throw lexer.error("too many operands") }
      // A comma may also begin what follows the operands.
      let here = lexer.start
      guard try lexer.accept(",") else { break }
      guard case .value = lexer.peek else {
        try lexer.seek(here)
        break
      }
    }
    return values
  }

  mutating func operand(_ scope: TextScope) throws(GraphTextError) -> Int {
    let here = lexer.start
    let (name, index) = try lexer.value()
    guard let value = scope.lookup(name, index) else {
      throw GraphTextError(lexer.position(here), "%\(name)\(index.map { "#\($0)" } ?? "") is no value, or several")
    }
    return value
  }

  /// `({…}, {…})` or `{…}`.
  mutating func region(
    _ scope: TextScope, _ arguments: [(String, TensorType)] = [], isComparator: Bool = false
  ) throws(GraphTextError) -> ParsedRegion {
    try lexer.expect("{")
    let inner = TextScope(parent: scope)
    inner.isComparator = isComparator
    var arguments = arguments
    if case .block = lexer.peek {
      _ = try lexer.next()
      if try lexer.accept("(") {
        while try !lexer.accept(")") {
          if !arguments.isEmpty { try lexer.expect(",") }
          let (name, _) = try lexer.value()
          try lexer.expect(":")
          arguments.append((name, try lexer.tensorType()))
          try lexer.skipLocation()
        }
      }
      try lexer.expect(":")
    }
    for (name, type) in arguments {
      guard inner.bind(name, [inner.addArgument(type, name: "")]) else { throw lexer.error("there are two values %\(name)") }
    }
    return ParsedRegion(scope: inner, outputs: try body(inner))
  }
}

/// A region as it was read.
struct ParsedRegion {
  let scope: TextScope
  let outputs: [Int]

  var argumentCount: Int { scope.arguments.count }

  /// The region if it does nothing but call a function with its arguments and values from outside, and return the results.
  var call: (function: Function, outer: [Int])? {
    guard scope.nodes.count == 1, case .call(let function) = scope.nodes[0].operation,
      outputs.elementsEqual(scope.nodes[0].results)
    else { return nil }
    let inputs = scope.nodes[0].inputs
    guard inputs.count >= argumentCount, inputs[..<argumentCount].elementsEqual(scope.arguments.map(\.value)) else { return nil }
    let captured = Dictionary(uniqueKeysWithValues: scope.captures.map { ($0.inner, $0.outer) })
    var outer: [Int] = []
    for value in inputs[argumentCount...] {
      guard let value = captured[value] else { return nil }
      outer.append(value)
    }
    return (function, outer)
  }

  func function(_ name: String, _ outer: [Int]) -> Function { Function(name, scope.finish(outputs, capturing: outer).graph) }
}

/// One operation as it was read.
struct ParsedOperation {
  var name: String
  var start: Int
  var operands: [Int] = []
  var attributes: [String: ParsedAttribute] = [:]
  var regions: [ParsedRegion] = []
  /// nil where the text leaves them out.
  var operandTypes: [TensorType]?
  var resultTypes: [TensorType] = []
}
