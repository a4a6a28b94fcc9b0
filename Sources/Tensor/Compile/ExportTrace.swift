import ApusCPU

/// A function traced to be kept: a graph over its arguments in which the variables it reads are constants.
package struct ExportTrace {
  package struct Weight {
    package let name: String
    package let constant: Constant
  }

  /// Inputs: the arguments, then the variables that are written, under their names. Outputs: the results, then their new values.
  package let graph: Graph
  /// The values of the graph that are weights.
  package let weights: [Graph.Value: Weight]
  /// The names of the variables that are written.
  package let states: [String]

  /// Why a function cannot be kept.
  package enum Failure: Error {
    /// It draws random numbers.
    case random
    /// It reads a number of Swift's that may change from run to run.
    case host(String)
    /// It writes these variables, and that was not asked for.
    case writes([String])
  }

  /// Constants up to so many bytes are part of the program's text, others are weights.
  package static let inlineLimit = 256

  /// - Parameters:
  ///   - inputs: in the order of the graph's inputs.
  ///   - names: of variables; others have their own name, or a number.
  ///   - statesAllowed: whether variables may be written.
  package init(
    _ name: String, inputs: [(name: String, type: TensorType)], names: [ObjectIdentifier: String], statesAllowed: Bool,
    _ body: ([String: Tensor]) -> [String: Tensor]
  ) throws(Failure) {
    let trace = Trace(name)
    let results = trace.recording { () -> [(String, Tensor)] in
      var arguments: [String: Tensor] = [:]
      for (i, input) in inputs.enumerated() { arguments[input.name] = trace.addInput(input.type, input.name, .argument(i)) }
      return withoutGradient { body(arguments) }.sorted { $0.key < $1.key }
    }
    if !trace.generators.isEmpty { throw .random }
    let written = trace.variables.filter(\.isWritten)
    var names = Names(known: names)
    states = written.map { names[$0.variable] }
    if !statesAllowed && !written.isEmpty { throw .writes(states) }
    let traced = trace.finish(
      results.map(\.1) + written.map(\.current), names: results.map(\.0) + written.map { names[$0.variable] })

    var graph = Graph()
    var weights: [Graph.Value: Weight] = [:]
    var number = [Graph.Value](repeating: -1, count: traced.valueCount)
    for (i, input) in trace.inputs.enumerated() {
      switch input.source {
      case .argument: number[i] = graph.addInput(traced.types[i], name: input.name)
      case .variable(let variable) where written.contains { $0.variable === variable }:
        number[i] = graph.addInput(traced.types[i], name: names[variable])
      case .variable, .generator: break
      case .host: throw .host(input.name)
      case .outer: throw .host("a value of a traced function around")
      }
    }
    for (i, input) in trace.inputs.enumerated() {
      guard case .variable(let variable) = input.source, number[i] < 0 else { continue }
      let constant = variable.versionedTensor.tensor.array.asConstant
      number[i] = graph.append(.constant(constant), [], types: [traced.types[i]]).lowerBound
      weights[number[i]] = Weight(name: names[variable], constant: constant)
    }
    for node in traced.nodes {
      let added = graph.append(node.operation, node.inputs.map { number[$0] }, types: Array(traced.types[node.results]))
      for (old, new) in zip(node.results, added) { number[old] = new }
      if case .constant(let constant) = node.operation, constant.byteCount > Self.inlineLimit {
        weights[added.lowerBound] = Weight(name: names.constant(constant), constant: constant)
      }
    }
    graph.setOutputs(traced.outputs.map { number[$0] }, names: traced.outputNames)
    self.graph = graph
    self.weights = weights
  }

  /// Each variable's and constant's own name, the same in every trace of the same function.
  private struct Names {
    var known: [ObjectIdentifier: String]
    private var taken: Set<String>
    private var constants: [Constant: String] = [:]

    init(known: [ObjectIdentifier: String]) {
      self.known = known
      taken = Set(known.values)
    }

    private mutating func free(_ wish: String, alone: Bool) -> String {
      if alone && taken.insert(wish).inserted { return wish }
      var i = 0
      while !taken.insert("\(wish).\(i)").inserted { i += 1 }
      return "\(wish).\(i)"
    }

    subscript(variable: Variable) -> String {
      mutating get {
        if let name = known[ObjectIdentifier(variable)] { return name }
        let own = variable.name
        let name = free(own.isEmpty ? "variable" : own, alone: !own.isEmpty)
        known[ObjectIdentifier(variable)] = name
        return name
      }
    }

    mutating func constant(_ constant: Constant) -> String {
      if let name = constants[constant] { return name }
      let name = free("constant", alone: false)
      constants[constant] = name
      return name
    }
  }
}
