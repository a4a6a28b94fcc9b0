/// A function that was written down: a branch, a loop's body, what `vmap` was given, a whole program.
///
/// It keeps what was traced and the history of its results there, so its gradient is the ordinary walk, written down in
/// the same trace: detached values, custom gradients and checkpoints mean inside what they mean outside. Gradients of
/// gradients are the same again, since the walk's results have a history where it is being recorded.
///
/// Values of traces around it, and tensors with a history, are captured: they become operands of the operation that runs
/// the function, and gradients reach them as operands.
struct TracedBody {
  let trace: Trace
  /// What stands for the arguments.
  let inputs: [Tensor]
  let outputs: [Tensor]

  init(_ trace: Trace, inputs: [Tensor], outputs: [Tensor]) {
    self.trace = trace
    self.inputs = inputs
    self.outputs = outputs
    // Results that are captured or constant get a value here too.
    for output in outputs { trace.value(output) }
  }

  /// Traces `f` on arguments of these types; gradients may be asked for by the tracked ones.
  init(_ name: String, _ types: [TensorType], tracked: [Bool], _ f: ([Tensor]) -> [Tensor]) {
    let trace = Trace(name, parent: Trace.active, isBody: true)
    let inputs = zip(types, tracked).enumerated().map { i, input in
      trace.addInput(input.0, "operand \(i)", .argument(i), tracked: input.1)
    }
    let outputs = trace.recording { f(inputs) }
    self.init(trace, inputs: inputs, outputs: outputs)
  }

  /// A graph, for operands that have a history or not.
  init(_ function: Function, operands: some Collection<Tensor>) {
    self.init(function.name, operands.map(\.type), tracked: operands.map { $0.isTracked && isRecording }) { function.graph($0) }
  }

  /// The captured values that the results depend on.
  var captures: [Tensor] { trace.captured(neededBy: outputs) }

  /// Everything captured that gradients could flow to; of several values with one place on the tape, the first.
  var trackedCaptures: [Tensor] { TracedBody.trackedCaptures(self) }

  static func trackedCaptures(_ bodies: TracedBody...) -> [Tensor] {
    var seen: Set<TapePlace> = []
    return bodies.flatMap(\.trace.captured).filter { x in x.handle.node.map { seen.insert(TapePlace($0, x)).inserted } ?? false }
  }

  private struct TapePlace: Hashable {
    let node: ObjectIdentifier
    let result: Int
    init(_ node: GradientNode, _ x: Tensor) { (self.node, result) = (ObjectIdentifier(node), x.handle.result) }
  }

  /// The graph as a function of the inputs, then of `captures` (some may be another body's), then of the last inputs.
  func graph(_ captures: [Tensor] = [], trailing: Int = 0) -> Graph {
    func own(_ x: Tensor) -> (Int?, TensorType, String) { (trace.value(x), x.type, "") }
    let outer = captures.map { (trace.capturedValue($0), $0.type, "") }
    return trace.graph(
      outputs.map(trace.value), inputs.dropLast(trailing).map(own) + outer + inputs.suffix(trailing).map(own))
  }

  /// What several bodies capture, each once.
  static func captures(_ bodies: TracedBody..., and others: [Tensor] = []) -> [Tensor] {
    var seen: Set<Trace.CaptureKey> = []
    return (others + bodies.flatMap(\.captures)).filter { seen.insert(Trace.CaptureKey($0)).inserted }
  }

  /// The walk back through this function, written down after it.
  ///
  /// - Parameters:
  ///   - arrived: which results a gradient has arrived at; these get an input each.
  ///   - requested: the leaves outside that are asked for.
  ///   - arrange: from these inputs, and what gives the gradient by an input or a captured tensor, the new function.
  func differentiated(
    _ arrived: [Bool], requested: UInt64,
    _ arrange: (_ cotangents: [Tensor], _ gradient: (Tensor) -> Tensor) -> (inputs: [Tensor], outputs: [Tensor])
  ) -> TracedBody {
    var (requested, boundary) = (requested, Set<ObjectIdentifier>())
    for input in inputs { if let node = input.handle.node { requested |= node.leaves } }
    for tensor in inputs + trace.captured { if let node = tensor.handle.node { boundary.insert(ObjectIdentifier(node)) } }
    let made = trace.recording { () -> (inputs: [Tensor], outputs: [Tensor]) in
      let places = arrived.indices.filter { arrived[$0] }
      let cotangents = places.map { addInput(outputs[$0].type) }
      let table = backward(
        from: zip(places, cotangents).map { (outputs[$0], $1) }, requested: requested, createGraph: isRecording,
        boundary: boundary)
      return arrange(cotangents) { x in
        x.handle.node.flatMap { table.gradient(of: $0, result: x.handle.result) } ?? zerosLike(x)
      }
    }
    return TracedBody(trace, inputs: made.inputs, outputs: made.outputs)
  }

  /// A further input, by which gradients can be taken where that is being recorded.
  func addInput(_ type: TensorType) -> Tensor {
    trace.addInput(type, "gradient", .argument(trace.inputs.count), tracked: isRecording)
  }
}

/// Runs an operation that has a gradient rule of its own making.
///
/// - Parameters:
///   - tape: what gradients flow to, by its place there; also captured tensors that are no operands.
///   - rule: called as the rules of operations are. All results are kept for it (without their memory where traced).
func apply(
  _ operation: Operation, _ operands: [Tensor], tape: [Tensor], _ rule: @escaping ([Tensor?], GradientSink) -> Void
) -> [Tensor] {
  let results = apply(operation, operands).map(\.withoutHistory)
  guard isRecording, !results.isEmpty, tape.contains(where: \.isTracked) else { return results }
  // A body around this one has to know what gradients flow to.
  if let trace = Trace.active { for x in tape where x.isTracked { trace.value(x) } }
  let node = GradientNode(.custom(name: operation.name) { gradients, sink in rule(gradients, sink) }, results.map(\.type), tape)
  node.savedResults = results
  return results.enumerated().map { i, result in
    result.elementType.isFloatingPoint ? result.tracked(by: node, result: i) : result
  }
}

// MARK: Values that hold tensors

/// The tensors of some values, and what else their structure consists of.
func flattened<each T: TensorTree>(_ trees: repeat each T) -> (tensors: [Tensor], structure: [TensorVisitor.Part]) {
  var visitor = TensorVisitor()
  for var tree in repeat each trees { tree.visit(&visitor) }
  return (visitor.tensors, visitor.parts.filter { if case .value = $0 { true } else { false } })
}

/// Some values with other tensors in their places.
func rebuilt<each T: TensorTree>(_ trees: (repeat each T), _ tensors: [Tensor]) -> (repeat each T) {
  var visitor = TensorVisitor(replacing: tensors)
  func replaced<U: TensorTree>(_ tree: U) -> U {
    var copy = tree
    copy.visit(&visitor)
    return copy
  }
  return (repeat replaced(each trees))
}
