extension Graph {
  /// What is done with numbers that are part of the program.
  public enum ConstantText: Sendable {
    /// Written out: shortest digits or bytes, exact.
    case inline
    /// Left out beyond 64 elements, for reading; such a text is no program.
    case elided
    /// Arguments of the main function with the attribute `apus.weight = NAME`, after the others; written out where the
    /// closure gives nil, and in functions inside of the graph.
    case weights(@Sendable (Value, Constant) -> String?)
  }

  /// The program as StableHLO, in MLIR's text form: a module whose function `main` is this graph.
  ///
  /// What StableHLO has no operation for is a `stablehlo.composite` named `apus.…` with its decomposition. Inputs and results
  /// have their names as the attribute `apus.name`. It can be read again.
  public func stableHLO(name: String = "program", constants: ConstantText = .inline) -> String {
    let module = ModulePrinter(constants)
    let main = module.function(symbol: "main", self, role: "public", weights: true)
    return "module @" + ModulePrinter.sanitized(name) + " {\n" + main + module.functions.joined() + "}\n"
  }
}

/// The functions of a module while it is written.
final class ModulePrinter {
  private struct Expansion: Hashable {
    let operation: Operation
    let inputs: [TensorType]
  }

  var constants: Graph.ConstantText
  private(set) var functions: [String] = []
  private var symbols: Set<String>
  private var named: [Function: String] = [:]
  private var expansions: [Expansion: String] = [:]

  /// - Parameter reserved: names that functions of the program itself have.
  init(_ constants: Graph.ConstantText, reserved: Set<String> = ["main"]) {
    self.constants = constants
    symbols = reserved
  }

  static func sanitized(_ name: String) -> String {
    var text = ""
    for c in name.unicodeScalars {
      let isFine = c == "_" || (c.isASCII && (c.properties.isAlphabetic || (c.value >= 48 && c.value < 58)))
      text.unicodeScalars.append(isFine ? c : "_")
    }
    if let first = text.unicodeScalars.first, first.value >= 48 && first.value < 58 { text = "_" + text }
    return text.isEmpty ? "_" : text
  }

  private func symbol(_ wish: String) -> String {
    let name = Self.sanitized(wish)
    var result = name
    var i = 1
    while !symbols.insert(result).inserted {
      result = "\(name)_\(i)"
      i += 1
    }
    return result
  }

  /// The name of a function, which is written now if it was not yet.
  func name(_ function: Function) -> String {
    if let known = named[function] { return known }
    let symbol = symbol(function.name)
    named[function] = symbol
    let text = self.function(symbol: symbol, function.graph, role: "private", name: function.name)
    functions.append(text)
    return symbol
  }

  /// The name of the function that says what a composite is.
  func expansion(_ operation: Operation, _ inputs: [TensorType], _ results: [TensorType], _ name: String) -> String {
    let key = Expansion(operation: operation, inputs: inputs)
    if let known = expansions[key] { return known }
    let symbol = symbol("apus_" + name)
    expansions[key] = symbol
    if let graph = operation.decomposition(inputs) {
      functions.append(function(symbol: symbol, graph, role: "private"))
    } else {
      let writer = FunctionPrinter(self)
      let arguments = inputs.indices.map { "%arg\($0)" }
      let values = writer.expand(operation, arguments, inputs, results)
      writer.line(writer.ending("return", values, results))
      let types = inputs.indices.map { "\(arguments[$0]): \(inputs[$0].mlir)" }.joined(separator: ", ")
      functions.append(
        "  func.func private @\(symbol)(\(types)) -> \(FunctionPrinter.list(results)) {\n" + writer.text + "  }\n")
    }
    return symbol
  }

  func function(symbol: String, _ graph: Graph, role: String, name: String? = nil, weights: Bool = false) -> String {
    let writer = FunctionPrinter(self)
    var arguments: [String] = []
    for (i, type) in graph.inputTypes.enumerated() {
      let name = graph.inputNames[i]
      arguments.append("%arg\(i): \(type.mlir)" + (name.isEmpty ? "" : " {apus.name = \(MLIRLiteral.string(name))}"))
      writer.values.append("%arg\(i)")
    }
    for node in graph.nodes {
      if weights, case .weights(let weightName) = constants, case .constant(let constant) = node.operation,
        let weight = weightName(node.firstResult, constant)
      {
        let argument = "%arg\(arguments.count)"
        arguments.append("\(argument): \(constant.type.mlir) {apus.weight = \(MLIRLiteral.string(weight))}")
        writer.values.append(argument)
        continue
      }
      writer.emit(node, graph)
    }
    writer.line(writer.ending("return", graph.outputs.map { writer.values[$0] }, graph.outputTypes))
    let results = zip(graph.outputTypes, graph.outputNames).map { type, name in
      type.mlir + (name.isEmpty ? "" : " {apus.name = \(MLIRLiteral.string(name))}")
    }
    let attribute = name == nil || name == symbol ? "" : " attributes {apus.name = \(MLIRLiteral.string(name ?? ""))}"
    return
      "  func.func \(role) @\(symbol)(\(arguments.joined(separator: ", "))) -> (\(results.joined(separator: ", ")))\(attribute) {\n"
      + writer.text + "  }\n"
  }
}

/// One function while it is written.
final class FunctionPrinter {
  let module: ModulePrinter
  /// The name of each value of the graph.
  var values: [String] = []
  private(set) var text = ""
  private var indentation = "    "
  private var next = 0
  private var scalars: [String: String] = [:]

  init(_ module: ModulePrinter) { self.module = module }

  func line(_ line: String) { text += indentation + line + "\n" }
  func fresh() -> String {
    defer { next += 1 }
    return "%\(next)"
  }

  static func list(_ types: [TensorType]) -> String { "(" + types.map(\.mlir).joined(separator: ", ") + ")" }

  /// `(a, b) -> c`.
  static func signature(_ inputs: [TensorType], _ results: [TensorType]) -> String {
    list(inputs) + " -> " + (results.count == 1 ? results[0].mlir : list(results))
  }

  func ending(_ word: String, _ values: [String], _ types: [TensorType]) -> String {
    values.isEmpty
      ? word : word + " " + values.joined(separator: ", ") + " : " + types.map(\.mlir).joined(separator: ", ")
  }

  /// `operation operands`, its result named; `rest` comes before the types.
  @discardableResult
  func write(_ operation: String, _ operands: [String], rest: String = "", _ inputs: [TensorType], _ result: TensorType) -> String
  {
    let name = fresh()
    let separator = operands.isEmpty ? "" : " "
    line("\(name) = \(operation)\(separator)\(operands.joined(separator: ", "))\(rest) : \(Self.signature(inputs, [result]))")
    return name
  }

  /// A scalar, written once per function.
  func scalar(_ value: Scalar, _ type: ElementType) -> String {
    let literal = "dense<\(MLIRLiteral.element(value, type))> : tensor<\(type.mlir)>"
    if let known = scalars[literal] { return known }
    let name = fresh()
    line("\(name) = stablehlo.constant \(literal)")
    scalars[literal] = name
    return name
  }

  /// A block of its own: scalars written inside are not seen outside.
  func region(_ arguments: [(String, TensorType)], _ body: () -> Void) -> String {
    let (outer, indent, known) = (text, indentation, scalars)
    text = ""
    indentation += "  "
    body()
    var inner = text
    (text, indentation, scalars) = (outer, indent, known)
    if !arguments.isEmpty {
      inner = indentation + "^bb0(" + arguments.map { "\($0): \($1.mlir)" }.joined(separator: ", ") + "):\n" + inner
    }
    return "({\n" + inner + indentation + "}"
  }

  /// Names of the results of an operation of several, and what stands before its `=`.
  func several(_ count: Int) -> (prefix: String, names: [String]) {
    if count == 0 { return ("", []) }
    let name = fresh()
    if count == 1 { return ("\(name) = ", [name]) }
    return ("\(name):\(count) = ", (0..<count).map { "\(name)#\($0)" })
  }

  func call(_ function: Function, _ operands: [String], _ inputs: [TensorType], _ results: [TensorType]) -> [String] {
    let symbol = module.name(function)
    let (prefix, names) = several(results.count)
    line("\(prefix)func.call @\(symbol)(\(operands.joined(separator: ", "))) : \(Self.list(inputs)) -> \(Self.list(results))")
    return names
  }

  /// `{ return f(operands) }`.
  private func calling(
    _ function: Function, _ arguments: [(String, TensorType)], _ operands: [String], _ types: [TensorType]
  ) -> String {
    region(arguments) {
      let results = function.graph.outputTypes
      line(ending("stablehlo.return", call(function, operands, types, results), results))
    }
  }

  // MARK: Operations

  func emit(_ node: Graph.Node, _ graph: Graph) {
    let operands = node.inputs.map { values[$0] }
    let inputs = node.inputs.map { graph.type($0) }
    let results = Array(graph.types[node.results])
    values += emit(node.operation, operands, inputs, results)
  }

  /// Writes an operation as itself, or as a composite; returns its results' names.
  func emit(_ operation: Operation, _ x: [String], _ inputs: [TensorType], _ results: [TensorType]) -> [String] {
    if let native = native(operation, x, inputs, results) { return native }
    guard let form = operation.compositeForm(module.name) else { preconditionFailure("\(operation.name) has no text form") }
    let decomposition: String
    if case .call(let function) = operation {
      decomposition = module.name(function)
    } else {
      decomposition = module.expansion(operation, inputs, results, form.name)
    }
    let attributes = form.attributes.map { "\($0) = \(MLIRLiteral.attribute($1))" }.joined(separator: ", ")
    let (prefix, names) = several(results.count)
    let list = (attributes.isEmpty ? "" : "composite_attributes = {\(attributes)}, ") + "decomposition = @\(decomposition)"
    let space = x.isEmpty ? "" : " "
    line(
      "\(prefix)stablehlo.composite \"\(CompositeForm.prefix)\(form.name)\"\(space)\(x.joined(separator: ", ")) {\(list)} : "
        + Self.signature(inputs, results))
    return names
  }

  /// Control flow: functions in regions.
  func conditional(_ then: Function, _ otherwise: Function, _ x: [String], _ inputs: [TensorType], _ results: [TensorType])
    -> [String]
  {
    let (operands, types) = (Array(x[1...]), Array(inputs[1...]))
    let a = calling(then, [], operands, types)
    let b = calling(otherwise, [], operands, types)
    let (prefix, names) = several(results.count)
    line("\(prefix)\"stablehlo.if\"(\(x[0])) \(a), \(b.dropFirst())) : \(Self.signature([inputs[0]], results))")
    return names
  }

  func whileLoop(_ loop: WhileLoop, _ x: [String], _ inputs: [TensorType], _ results: [TensorType]) -> [String] {
    func part(_ function: Function) -> String {
      let arguments = (0..<loop.carried).map { i in ("%iter" + fresh().dropFirst(), inputs[i]) }
      return calling(function, arguments, arguments.map(\.0) + x[loop.carried...], inputs)
    }
    let (condition, body) = (part(loop.condition), part(loop.body))
    let (prefix, names) = several(results.count)
    let operands = x[..<loop.carried].joined(separator: ", ")
    line(
      "\(prefix)\"stablehlo.while\"(\(operands)) \(condition), \(body.dropFirst())) : "
        + Self.signature(Array(inputs[..<loop.carried]), results))
    return names
  }

  func constant(_ constant: Constant) -> String {
    let name = fresh()
    var literal = ""
    if case .elided = module.constants, constant.type.shape.elementCount > 64 {
      literal = "dense_resource<__elided__>"
    } else {
      literal = MLIRLiteral.dense(constant)
    }
    line("\(name) = stablehlo.constant \(literal) : \(constant.type.mlir)")
    return name
  }
}
