/// A function of one example made into one of many (JAX's `vmap`): `f` is traced on the types of one example, and every
/// operation in it is replaced by one for the whole batch.
///
/// ```swift
/// let perExample = vmap(in: [nil, 0, 0]) { (w: Tensor, x: Tensor, y: Tensor) in gradient(at: w) { loss($0, x, y) } }
/// let gradients = perExample(w, images, labels)  // [batch, w's shape…]
/// ```
/// Gradients go through, inside and outside, and calls may be nested. Parameters and tensors that `f` reads around it are the
/// same for all examples. `f` cannot read values of tensors, write variables or draw random numbers: draw outside and hand
/// the numbers in, one for each example. A branch or loop whose condition differs between examples runs for all of them as
/// long as one needs it. `f` is traced at every call; inside of ``compile(_:_:)`` it is part of the program.
///
/// - Parameters:
///   - axes: for each argument the dimension that counts examples, nil if the argument is the same for all; 0 for all if absent.
///     An argument that holds several tensors has it in each of them.
///   - out: the dimension of every result that counts examples.
///   - f: from one example's arguments to its results.
public func vmap<each Argument: TensorTree, each Result: TensorTree>(
  in axes: [Int?]? = nil, out: Int = 0, _ f: @escaping (repeat each Argument) -> (repeat each Result)
) -> (repeat each Argument) -> (repeat each Result) {
  typealias Results = (repeat each Result)
  return { (arguments: repeat each Argument) -> (repeat each Result) in
    var tensors: [Tensor] = []
    var places: [Int?] = []
    var count = 0
    for argument in repeat each arguments {
      let parts = flattened(argument).tensors
      if let axes, count >= axes.count { stop("vmap: \(axes.count) axes for more arguments than that") }
      places += Array(repeating: axes.map { $0[count] } ?? 0, count: parts.count)
      tensors += parts
      count += 1
    }
    if let axes, axes.count != count { stop("vmap: \(axes.count) axes for \(count) arguments") }
    return mapped(
      tensors, places, out, { f(repeat each rebuilt((repeat each arguments), $0)) },
      flatten: { (results: Results) in flattened(repeat each results).tensors },
      rebuild: { (results: Results, tensors: [Tensor]) -> Results in rebuilt((repeat each results), tensors) })
  }
}

private func mapped<Results>(
  _ tensors: [Tensor], _ axes: [Int?], _ out: Int, _ f: ([Tensor]) -> Results, flatten: (Results) -> [Tensor],
  rebuild: (Results, [Tensor]) -> Results
) -> Results {
  var size: Int?
  let operands = zip(tensors, axes).map { x, axis -> Batched in
    guard let axis else { return Batched(x, false) }
    guard x.rank > 0 else { stop("vmap: the argument \(x.type) has no dimension \(axis); give nil for what all examples share") }
    let front = x.movedAxis(axis, to: 0)
    if let size, size != front.shape[0] { stop("vmap: arguments of \(size) and of \(front.shape[0]) examples") }
    size = front.shape[0]
    return Batched(front, true)
  }
  guard let size else { stop("vmap: no argument has a dimension that counts examples") }
  var template: Results?
  let types = operands.map {
    TensorType($0.isBatched ? Shape($0.tensor.shape.dropFirst()) : $0.tensor.shape, $0.tensor.elementType)
  }
  let body = TracedBody("vmap", types, tracked: tensors.map { $0.isTracked && isRecording }) { x in
    let results = f(x)
    template = results
    return flatten(results)
  }
  guard let template else { preconditionFailure("the function did not return") }
  let batch = Batch(size: size)
  let results = applyBatched(body, batch, operands).map { batch.whole($0).movedAxis(0, to: out) }
  return rebuild(template, results)
}

/// A traced function for a whole batch: its captured values are the same for all examples.
func applyBatched(_ body: TracedBody, _ batch: Batch, _ operands: [Batched]) -> [Batched] {
  let captures = body.captures
  let graph = body.graph(captures)
  func run() -> [Batched] { graph.batched(operands + captures.map { Batched($0, false) }, batch) }
  let captured = body.trackedCaptures
  let tape = operands + captured.map { Batched($0, false) }
  guard isRecording, body.trace.altersHistory, tape.contains(where: \.tensor.isTracked),
    body.outputs.contains(where: \.isTracked)
  else { return run() }
  // The operations alone do not tell the history: it is walked for one example, and that walk is batched.
  let results = withoutGradient { run().map { batch.whole($0).withoutHistory } }
  let tracked = results.indices.filter { body.outputs[$0].isTracked }
  let node = GradientNode(
    .custom(name: "vmap") { gradients, sink in
      var arrived = [Bool](repeating: false, count: results.count)
      for (i, gradient) in zip(tracked, gradients) { arrived[i] = gradient != nil }
      let asked = tape.indices.filter(sink.needs)
      let targets = body.inputs + captured
      let back = body.differentiated(arrived, requested: sink.table.requested) { cotangents, gradient in
        (body.inputs + cotangents, asked.map { gradient(targets[$0]) })
      }
      let found = applyBatched(back, batch, operands + gradients.compactMap { $0.map { Batched($0, true) } })
      for (i, gradient) in zip(asked, found) {
        let each = batch.whole(gradient)
        sink.add(i, tape[i].isBatched ? each : apply(.reduce(.sum, [0], keepDims: false), each))
      }
    }, tracked.map { results[$0].type }, tape.map(\.tensor))
  var whole = results.map { Batched($0, true) }
  for (k, i) in tracked.enumerated() { whole[i].tensor = results[i].tracked(by: node, result: k) }
  return whole
}
