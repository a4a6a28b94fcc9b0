import ApusCPU
import CApusKernels

/// The same function as one program: traced once per signature, optimized, then run as a whole.
///
/// ```swift
/// let step = compile { (images: Tensor, labels: Tensor) -> Tensor in
///   let loss = crossEntropy(model(images), labels)
///   optimizer.step(minimizing: loss)
///   return loss
/// }
/// ```
/// Variables that the function reads and writes (parameters, running statistics, optimizer state, random state) are found by
/// themselves and are inputs and results of the program. What else the function does, such as printing, happens only while it
/// is traced. Reading a value of a tensor inside stops there: what to do may depend on values only through `where`,
/// ``conditional(_:_:then:otherwise:)``, ``whileLoop(_:while:do:)`` and ``scan(_:over:length:reverse:_:)``.
///
/// Gradients outside go through the results, to trainable variables and to arguments with a history: the first time such a
/// gradient is taken, a second program is traced that computes the results again and goes back through them. Results of a
/// program that writes trainable variables, such as a whole training step, have no history.
///
/// - Parameters:
///   - name: what reports call it.
///   - f: any number of tensors, or of values that hold tensors (``TensorTree``), to any number of such.
public func compile<each Argument: TensorTree, each Result: TensorTree>(
  _ name: String = "program", _ f: @escaping (repeat each Argument) -> (repeat each Result)
) -> CompiledFunction<(repeat each Result), repeat each Argument> {
  CompiledFunction(
    name, f,
    flatten: { results in flattened(repeat each results).tensors },
    rebuild: { results, tensors in rebuilt((repeat each results), tensors) })
}

/// What ``compile(_:_:)`` gives: call it as the function. To be used by one task at a time, as the function itself.
public final class CompiledFunction<Results, each Argument: TensorTree> {
  public let name: String
  private let f: (repeat each Argument) -> Results
  private let flatten: (Results) -> [Tensor]
  private let rebuild: (Results, [Tensor]) -> Results
  private var entries: [Entry] = []
  /// How calls were served and why programs were traced.
  public private(set) var report: CompileReport

  private struct Entry {
    let signature: [TensorVisitor.Part]
    let program: CapturedProgram
    let template: Results
  }

  init(
    _ name: String, _ f: @escaping (repeat each Argument) -> Results, flatten: @escaping (Results) -> [Tensor],
    rebuild: @escaping (Results, [Tensor]) -> Results
  ) {
    self.name = name
    self.f = f
    self.flatten = flatten
    self.rebuild = rebuild
    report = CompileReport(name: name)
  }

  public func callAsFunction(_ arguments: repeat each Argument) -> Results {
    // Inside of another compiled function this one is part of that program.
    if isTracing { return f(repeat each arguments) }
    let entry = entry(repeat each arguments)
    var visitor = TensorVisitor()
    for var argument in repeat each arguments { argument.visit(&visitor) }
    return rebuild(entry.template, entry.program.run(visitor.tensors))
  }

  /// The program for arguments like these, traced now if there is none yet; nothing is run.
  public func program(_ arguments: repeat each Argument) -> CapturedProgram { entry(repeat each arguments).program }

  private func entry(_ arguments: repeat each Argument) -> Entry {
    var visitor = TensorVisitor()
    for var argument in repeat each arguments { argument.visit(&visitor) }
    let signature = visitor.parts
    report.calls += 1
    for i in entries.indices.reversed() where entries[i].signature == signature && entries[i].program.difference() == nil {
      return entries[i]
    }
    let reason = reason(signature)
    let (program, template) = trace(visitor.tensors, repeat each arguments)
    let entry = Entry(signature: signature, program: program, template: template)
    entries.append(entry)
    report.traces.append(
      .init(
        call: report.calls, reason: reason, seconds: program.seconds, memory: program.plan.memory,
        kernels: program.plan.kernelCount)
    )
    return entry
  }

  private func trace(_ tensors: [Tensor], _ arguments: repeat each Argument) -> (CapturedProgram, Results) {
    let start = monotonicSeconds()
    let trace = Trace(name)
    var template: Results?
    // The program is the same whether it is called inside of another gradient or not.
    let outputs = trace.recording { () -> [Tensor] in
      let symbols = tensors.enumerated().map { i, tensor in
        trace.addInput(tensor.type, "argument \(i)", .argument(i), tracked: tensor.isTracked && isRecording)
      }
      return outsideOfGradients {
        let results = f(repeat each rebuilt((repeat each arguments), symbols))
        template = results
        return flatten(results)
      }
    }
    guard let template else { preconditionFailure("the function did not return") }
    let program = CapturedProgram(trace, outputs: outputs, since: start)
    // The template keeps no history alive.
    return (program, rebuild(template, outputs.map(\.withoutHistory)))
  }

  private func reason(_ signature: [TensorVisitor.Part]) -> String {
    guard let last = entries.last else { return "first call" }
    if let same = entries.last(where: { $0.signature == signature }) {
      return same.program.difference() ?? "first call"
    }
    if last.signature.count != signature.count {
      return "the arguments have \(signature.count) parts, before \(last.signature.count)"
    }
    let changed = zip(last.signature, signature).enumerated().filter { $0.element.0 != $0.element.1 }
    return changed.map { "part \($0.offset) of the arguments changed from \($0.element.0) to \($0.element.1)" }.joined(
      separator: "; ")
  }
}

/// How often a compiled function was called and why it was traced.
public struct CompileReport: Sendable, CustomStringConvertible {
  public struct Trace: Sendable {
    /// The number of the call, from 1.
    public let call: Int
    /// What differed from the calls before.
    public let reason: String
    /// What tracing and compiling took.
    public let seconds: Double
    /// What the program needs, known before it runs.
    public let memory: Plan.Memory
    /// How many kernel calls a run is.
    public let kernels: Int
  }

  public let name: String
  public internal(set) var calls = 0
  public internal(set) var traces: [Trace] = []

  init(name: String) { self.name = name }

  public var description: String {
    let lines = traces.map { trace in
      "  call \(trace.call): \(trace.reason) (\((trace.seconds * 1e5).rounded() / 100) ms; \(trace.kernels) kernels; \(trace.memory))"
    }
    return
      (["\(name): \(calls) call\(calls == 1 ? "" : "s"), traced \(traces.count) time\(traces.count == 1 ? "" : "s")"] + lines)
      .joined(separator: "\n")
  }
}
