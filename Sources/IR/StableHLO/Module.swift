/// Several graphs in one StableHLO text: a module whose public functions they are.
public struct GraphModule: Sendable {
  /// The public functions by their names, in the order of the text.
  public var functions: [(name: String, graph: Graph)]

  /// - Parameter functions: graphs and their names, which consist of letters, digits and `_`, each another one.
  public init(_ functions: [(name: String, graph: Graph)]) {
    precondition(Set(functions.map(\.name)).count == functions.count, "two functions have one name")
    for (name, _) in functions { precondition(ModulePrinter.sanitized(name) == name, "\(name) is no function's name") }
    self.functions = functions
  }

  /// A name for a function that says what `text` says.
  public static func name(_ text: String) -> String { ModulePrinter.sanitized(text) }

  /// The module as text; see ``Graph/stableHLO(name:constants:)``.
  /// - Parameter weight: the name under which a function's constant is left out of the text; nil to write it out.
  public func stableHLO(
    name: String, weight: @escaping @Sendable (_ function: String, Graph.Value, Constant) -> String?
  ) -> String {
    let module = ModulePrinter(.inline, reserved: Set(functions.map(\.name)))
    var text = ""
    for (symbol, graph) in functions {
      module.constants = .weights { weight(symbol, $0, $1) }
      text += module.function(symbol: symbol, graph, role: "public", weights: true)
    }
    return "module @" + ModulePrinter.sanitized(name) + " {\n" + text + module.functions.joined() + "}\n"
  }

  /// Reads all public functions of a module.
  /// - Parameter weights: the numbers behind arguments with the attribute `apus.weight = NAME`.
  /// - Throws: ``GraphTextError``, with line and column. Time and memory are bounded by the text's length.
  public init(
    stableHLO text: String, weights: (_ name: String, TensorType) -> Constant? = { _, _ in nil }
  ) throws(GraphTextError) {
    var parser = try ModuleParser(text)
    functions = []
    for name in parser.publicNames { functions.append((name, try parser.program(name, weights))) }
  }
}
