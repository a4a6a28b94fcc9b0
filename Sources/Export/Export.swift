import ApusCPU
import ApusFormats
import ApusNN
import ApusTensor

/// A function to be exported under a signature's name.
public struct Exported {
  /// What becomes of variables that the function writes.
  public enum States: Sendable {
    /// Writing one is an error.
    case refused
    /// They are inputs and outputs of the program under their names: whoever runs it hands the new values in again.
    case inputsAndOutputs
  }

  let inputs: [(name: String, spec: TensorSpec)]
  let states: States
  let body: ([String: Tensor]) -> [String: Tensor]

  /// - Parameters:
  ///   - inputs: names, shapes and types of what the function takes; the order is kept.
  ///   - states: what becomes of variables that it writes.
  ///   - body: from tensors by name to tensors by name.
  public init(
    inputs: KeyValuePairs<String, TensorSpec>, states: States = .refused,
    _ body: @escaping ([String: Tensor]) -> [String: Tensor]
  ) {
    self.inputs = inputs.map { ($0.key, $0.value) }
    self.states = states
    self.body = body
  }
}

/// Writes a layer as an artifact that ``load(_:)`` reads: its one signature is `serve`, its result `output`.
///
/// ```swift
/// try export(model, input: ["image": .float32(["batch", 1, 28, 28])], to: "digits.apus")
/// ```
/// The layer is exported in evaluation mode.
/// - Parameters:
///   - input: the name, type and shape of its input; sizes given as names stay open.
///   - path: of the artifact, a folder; an existing artifact is replaced when the new one is complete.
/// - Throws: ``ExportError``, ``FormatError``.
public func export(_ model: some Layer, input: KeyValuePairs<String, TensorSpec>, to path: String) throws {
  guard input.count == 1 else {
    throw ExportError.invalidSpecification(
      "a layer takes one input, not \(input.count); use export(_:signatures:to:) for functions of several")
  }
  let name = input[0].key
  try export(model, signatures: ["serve": Exported(inputs: input) { ["output": model($0[name]!)] }], to: path)
}

/// Writes functions of a model as an artifact that ``load(_:)`` reads, each under its signature's name.
///
/// ```swift
/// try export(
///   bert,
///   signatures: [
///     "encode": Exported(inputs: ["ids": .int64(["batch", .open("sequence", 1...512)])]) { ["states": bert($0["ids"]!)] }
///   ], to: "bert.apus")
/// ```
/// The artifact holds each weight once, under its path in the model; signatures share them. The functions run in evaluation
/// mode, without gradients, as they are traced: what they read of variables is part of the program.
/// - Parameters:
///   - model: whose paths are the weights' names, and which is in evaluation mode meanwhile; may be nil.
///   - path: of the artifact, a folder; an existing artifact is replaced when the new one is complete.
/// - Throws: ``ExportError``, ``FormatError``.
public func export(_ model: Module? = nil, signatures: KeyValuePairs<String, Exported>, to path: String) throws {
  var names: [ObjectIdentifier: String] = [:]
  for (name, variable) in model?.namedVariables ?? [] { names[ObjectIdentifier(variable)] = name }
  func export() throws -> ArtifactWriter {
    var writer = ArtifactWriter()
    for (name, exported) in signatures { try writer.add(name, exported, names) }
    return writer
  }
  let writer = try model?.evaluating { try export() } ?? withoutGradient { try export() }
  try writer.write(to: path)
}

/// The parts of an artifact while signatures are added.
struct ArtifactWriter {
  private var functions: [(name: String, graph: Graph)] = []
  private var entries: [Manifest.Entry] = []
  private var weights: [String: Constant] = [:]
  /// The weights by function and value.
  private var places: [String: [Graph.Value: String]] = [:]

  mutating func add(_ name: String, _ exported: Exported, _ names: [ObjectIdentifier: String]) throws {
    guard !name.isEmpty, !entries.contains(where: { $0.name == name }) else {
      throw ExportError.invalidSpecification("'\(name)' cannot be the name of one more signature")
    }
    let axes = try openAxes(name, exported)
    let sizes = try TracingSizes(name, axes)
    var corners: [Manifest.Corner] = []
    var graphs: [Graph] = []
    var states: [String] = []
    for corner in 0..<(1 << axes.count) {
      let chosen = sizes.corner(corner)
      let trace = try trace(name, exported, names, chosen)
      states = trace.states
      let symbol = freeSymbol(([name] + axes.map { "\($0.name)\(chosen[$0.name] ?? 0)" }).joined(separator: "_"))
      try note(symbol, trace)
      functions.append((symbol, trace.graph))
      graphs.append(trace.graph)
      corners.append(Manifest.Corner(function: symbol, sizes: chosen))
    }
    // Two sizes say what a line is; a third one, whether it was one.
    let check = try sizes.check.map { ($0, try trace(name, exported, names, $0).graph) }
    do throws(GraphError) {
      let open = try OpenGraph(graphs, axes: sizes.axes)
      if let (chosen, graph) = check { try Self.compare(try open.graph(axes.map { chosen[$0.name] ?? 0 }), graph, chosen) }
    } catch {
      throw ExportError.openDimension(signature: name, message: error.description)
    }
    entries.append(
      Manifest.Entry(name: name, signature: signature(exported, axes, states, graphs, corners), corners: corners))
  }

  // MARK: Tracing

  private static func compare(_ made: Graph, _ traced: Graph, _ sizes: [String: Int]) throws(GraphError) {
    if made == traced { return }
    let text = sizes.sorted { $0.key < $1.key }.map { "\($0.key) = \($0.value)" }.joined(separator: ", ")
    for (i, (a, b)) in zip(made.nodes, traced.nodes).enumerated() where a != b {
      throw GraphError(
        node: i, "\(b.operation.name) at \(text) is not what two other sizes let expect: a number in it is not multilinear")
    }
    throw GraphError("the program at \(text) is another one")
  }

  private func openAxes(_ signature: String, _ exported: Exported) throws(ExportError) -> [Signature.OpenDimension] {
    func invalid(_ message: String) -> ExportError { .invalidSpecification("\(signature): \(message)") }
    var axes: [Signature.OpenDimension] = []
    guard Set(exported.inputs.map(\.name)).count == exported.inputs.count, !exported.inputs.contains(where: \.name.isEmpty) else {
      throw invalid("inputs need names, each another one")
    }
    for (input, spec) in exported.inputs {
      guard spec.dimensions.count <= Shape.maxRank else { throw invalid("\(input) has more than \(Shape.maxRank) dimensions") }
      for dimension in spec.dimensions {
        switch dimension {
        case .fixed(let size): if size < 0 { throw invalid("\(input) has a size of \(size)") }
        case .open(let name, let bounds):
          guard !name.isEmpty, bounds.lowerBound >= 0, bounds.upperBound <= Dimension.largest else {
            throw invalid("the open dimension '\(name)' cannot be within \(bounds)")
          }
          let axis = Signature.OpenDimension(name: name, sizes: bounds)
          if let known = axes.firstIndex(where: { $0.name == name }) {
            // The name alone means the bounds given elsewhere.
            let sizes = axes[known].sizes.clamped(to: bounds)
            axes[known] = .init(name: name, sizes: sizes)
          } else {
            axes.append(axis)
          }
        }
      }
    }
    guard axes.count <= OpenGraph.maxAxes else {
      throw invalid("\(axes.count) dimensions are open; at most \(OpenGraph.maxAxes) can be")
    }
    return axes
  }

  private func trace(
    _ signature: String, _ exported: Exported, _ names: [ObjectIdentifier: String], _ sizes: [String: Int]
  ) throws(ExportError) -> ExportTrace {
    do throws(ExportTrace.Failure) {
      return try ExportTrace(
        signature, inputs: exported.inputs.map { ($0.name, $0.spec.type(sizes)) }, names: names,
        statesAllowed: exported.states == .inputsAndOutputs, exported.body)
    } catch {
      switch error {
      case .random: throw .drawsRandomNumbers(signature: signature)
      case .host(let name): throw .readsChangingNumber(signature: signature, name: name)
      case .writes(let names): throw .writesVariables(signature: signature, names: names)
      }
    }
  }

  private func freeSymbol(_ wish: String) -> String {
    let name = GraphModule.name(wish)
    var result = name
    var i = 1
    while functions.contains(where: { $0.name == result }) {
      result = "\(name)_\(i)"
      i += 1
    }
    return result
  }

  private mutating func note(_ symbol: String, _ trace: ExportTrace) throws(ExportError) {
    var named: [Graph.Value: String] = [:]
    for (value, weight) in trace.weights {
      var name = weight.name
      // Functions of a model share its variables; another one of the same name is renamed.
      var i = 1
      while let known = weights[name], known != weight.constant {
        name = "\(weight.name)_\(i)"
        i += 1
      }
      weights[name] = weight.constant
      named[value] = name
    }
    places[symbol] = named
  }

  private func signature(
    _ exported: Exported, _ axes: [Signature.OpenDimension], _ states: [String], _ graphs: [Graph], _ corners: [Manifest.Corner]
  ) -> Signature {
    func bounded(_ spec: TensorSpec) -> TensorSpec {
      TensorSpec(
        spec.elementType,
        spec.dimensions.map { dimension in
          guard case .open(let name, _) = dimension, let axis = axes.first(where: { $0.name == name }) else { return dimension }
          return .open(name, axis.sizes)
        })
    }
    let graph = graphs[0]
    var inputs = exported.inputs.map { Signature.Input(name: $0.name, spec: bounded($0.spec)) }
    for i in inputs.count..<graph.inputCount {
      inputs.append(
        .init(name: graph.inputNames[i], spec: TensorSpec(graph.types[i].elementType, graph.types[i].shape.map { .fixed($0) })))
    }
    let outputs = graph.outputs.indices.map { k -> Signature.Output in
      let types = graphs.map { $0.outputTypes[k] }
      let dimensions = types[0].shape.indices.map { d -> Dimension? in
        if types.allSatisfy({ $0.shape[d] == types[0].shape[d] }) { return .fixed(types[0].shape[d]) }
        let axis = axes.first { axis in zip(types, corners).allSatisfy { $0.shape[d] == $1.sizes[axis.name] } }
        return axis.map { .open($0.name, $0.sizes) }
      }
      return .init(name: graph.outputNames[k], elementType: types[0].elementType, dimensions: dimensions)
    }
    return Signature(inputs: inputs, outputs: outputs, openDimensions: axes, states: states)
  }

  // MARK: Writing

  /// Writes the artifact beside its place and renames it there.
  func write(to path: String) throws {
    let folder = try AtomicFolder(path)
    do {
      let places = places
      let text = GraphModule(functions).stableHLO(name: "program") { function, value, _ in places[function]?[value] }
      try folder.write(Manifest.programName) { try $0.write(text) }
      let sources = weights.sorted { $0.key < $1.key }.map { name, constant in
        SafetensorsFile.Source(
          name: name, dataType: .init(constant.type.elementType), shape: Array(constant.type.shape)
        ) { take in try constant.withUnsafeBytes { (bytes) throws in try take(bytes) } }
      }
      try SafetensorsFile.write(sources, to: folder.path(of: Manifest.weightsName))
      let manifest = Manifest(
        program: try file(folder.path(of: Manifest.programName)), weights: try file(folder.path(of: Manifest.weightsName)),
        entries: entries)
      try folder.write(Manifest.fileName) { try $0.write(manifest.json) }
      try folder.commit(replaceable: Manifest.fileName)
    } catch {
      folder.discard()
      throw error
    }
  }

  private func file(_ path: String) throws(FormatError) -> Manifest.File {
    let bytes = try FileBytes(mapping: path)
    return Manifest.File(sha256: bytes.withUnsafeBytes { SHA256.hexDigest($0) }, bytes: bytes.count)
  }
}

/// The sizes at which a program with open dimensions is traced.
private struct TracingSizes {
  let axes: [OpenGraph.Axis]
  /// Sizes apart from the corners'; nil if the bounds leave none.
  let check: [String: Int]?

  /// Small primes: they coincide with no size of a model, so that nothing is left out or merged by chance.
  private static let usual = [(5, 7, 3), (11, 13, 9), (17, 19, 15)]

  init(_ signature: String, _ open: [Signature.OpenDimension]) throws(ExportError) {
    var axes: [OpenGraph.Axis] = []
    var check: [String: Int]? = open.isEmpty ? nil : [:]
    for (i, axis) in open.enumerated() {
      let (low, high) = (axis.sizes.lowerBound, axis.sizes.upperBound)
      guard low < high else {
        throw .invalidSpecification(
          "\(signature): the open dimension '\(axis.name)' has only the size \(low); make it a fixed one")
      }
      let usual = Self.usual[i]
      if axis.sizes.contains(usual.0) && axis.sizes.contains(usual.1) && axis.sizes.contains(usual.2) {
        axes.append(.init(axis.name, low: usual.0, high: usual.1))
        check?[axis.name] = usual.2
      } else {
        axes.append(.init(axis.name, low: high - 1, high: high))
        if high - 2 >= low { check?[axis.name] = high - 2 } else { check = nil }
      }
    }
    self.axes = axes
    self.check = check
  }

  func corner(_ number: Int) -> [String: Int] {
    var sizes: [String: Int] = [:]
    for (i, axis) in axes.enumerated() { sizes[axis.name] = number >> i & 1 == 1 ? axis.high : axis.low }
    return sizes
  }
}
