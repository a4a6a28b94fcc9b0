import ApusCPU

/// How gradients go back through a program that ran: by a second one, traced when it is first asked for.
final class ProgramHistory {
  private let body: TracedBody
  /// By which results' gradients arrive, which operands' are asked for, and whether gradients of these follow.
  private var pullbacks: [Key: Pullback] = [:]

  private struct Pullback {
    let plan: Plan
    /// What the program takes after the operands and the gradients that arrive.
    let captures: [Tensor]
    let history: ProgramHistory

    func run(_ inputs: [Tensor]) -> [Tensor] {
      do { return try plan.run((inputs + captures).map(\.array)).map { Tensor(array: $0) } } catch {
        stop(error.description)
      }
    }
  }

  private struct Key: Hashable {
    let arrived: [Bool]
    let asked: [Int]
    let recording: Bool
  }

  /// Nil if no result has a history.
  convenience init?(_ trace: Trace, _ outputs: [Tensor]) {
    guard outputs.contains(where: \.isTracked) else { return nil }
    let inputs = trace.inputs.filter { !$0.isCaptured }
    self.init(TracedBody(trace, inputs: inputs.map(\.tensor), outputs: outputs))
  }

  private init(_ body: TracedBody) { self.body = body }

  /// The results of a run with the history that they have by its operands (without the captured ones).
  func track(_ results: [Tensor], _ operands: [Tensor]) -> [Tensor] {
    let tracked = results.indices.filter { body.outputs[$0].isTracked }
    let targets = body.inputs + body.trackedCaptures
    let tape = operands + body.trackedCaptures
    guard isRecording, !tracked.isEmpty, tape.contains(where: \.isTracked) else { return results }
    let node = GradientNode(
      .custom(name: body.trace.name) { gradients, sink in
        var arrived = [Bool](repeating: false, count: results.count)
        for (i, gradient) in zip(tracked, gradients) { arrived[i] = gradient != nil }
        let asked = tape.indices.filter(sink.needs)
        let back = self.pullback(arrived, asked, targets)
        let inputs = operands + gradients.compactMap { $0 }
        let results = back.history.track(back.run(inputs), inputs)
        for (i, gradient) in zip(asked, results) { sink.add(i, gradient) }
      }, tracked.map { results[$0].type }, tape)
    var results = results
    for (k, i) in tracked.enumerated() { results[i] = results[i].tracked(by: node, result: k) }
    return results
  }

  private func pullback(_ arrived: [Bool], _ asked: [Int], _ targets: [Tensor]) -> Pullback {
    let key = Key(arrived: arrived, asked: asked, recording: isRecording)
    if let known = pullbacks[key] { return known }
    let back = body.differentiated(arrived, requested: ~0) { cotangents, gradient in
      (body.inputs + cotangents, asked.map { gradient(targets[$0]) })
    }
    checkInputs()
    let captures = back.captures
    let made = Pullback(plan: Plan(back.graph(captures)), captures: captures, history: ProgramHistory(back))
    pullbacks[key] = made
    return made
  }

  /// A gradient rule may read what the function read, and no more: the run has kept nothing else.
  private func checkInputs() {
    let known = Set(body.inputs.map { Trace.CaptureKey($0) })
    for input in body.trace.inputs where !known.contains(Trace.CaptureKey(input.tensor)) {
      switch input.source {
      case .argument, .outer: continue
      case .variable, .generator, .host:
        stop(
          "gradients through \(body.trace.name): a gradient rule reads \(input.name), which the function itself does not; read it in the function"
        )
      }
    }
  }
}

extension Trace.Input {
  var isCaptured: Bool { if case .outer = source { true } else { false } }
}
