import ApusCPU
import CApusKernels

/// A traced function: its graph, and where the inputs come from and the results go.
public final class CapturedProgram {
  /// As traced; values of variables come after the function's own results.
  public let graph: Graph
  private let sources: [Trace.Source]
  private let hosts: [() -> CPUArray]
  private let variables: [Trace.VariableState]
  private let generators: [Trace.GeneratorState]
  private let observations: [Observation]
  private let resultCount: Int
  private let written: [Variable]
  /// How gradients go back through the results, if they do.
  private let history: ProgramHistory?
  /// Inputs of variables that are written, and the results with their new values.
  private let donations: [Int: Int]
  /// The optimized program.
  public let plan: Plan
  /// What tracing and compiling took.
  let seconds: Double

  init(_ trace: Trace, outputs: [Tensor], since start: Double) {
    let writes = trace.variables.filter(\.isWritten)
    graph = trace.finish(
      outputs + writes.map(\.current), names: outputs.indices.map { "result \($0)" } + writes.map(\.variable.name))
    sources = trace.inputs.map(\.source)
    hosts = sources.compactMap { if case .host(let read) = $0 { read } else { nil } }
    variables = trace.variables
    generators = trace.generators
    observations = trace.observations
    resultCount = outputs.count
    written = writes.map(\.variable)
    history = writes.contains(where: \.wasTrainable) ? nil : ProgramHistory(trace, outputs)
    var donations: [Int: Int] = [:]
    var stable: Set<Int> = []
    for (i, source) in sources.enumerated() {
      guard case .variable(let variable) = source else { continue }
      if let k = written.firstIndex(where: { $0 === variable }) {
        donations[i] = resultCount + k
      } else {
        stable.insert(i)
      }
    }
    self.donations = donations
    plan = Plan(graph, stable: stable, donations: donations)
    seconds = monotonicSeconds() - start
  }

  /// What the program depends on that is no longer as it was traced, as a sentence; nil if all is.
  func difference() -> String? {
    for state in variables where state.variable.isTrainable != state.wasTrainable {
      return "\(state.variable) is \(state.wasTrainable ? "no longer" : "now") trainable"
    }
    for observation in observations {
      let now = observation.current()
      if now != observation.value { return "\(observation.name) changed from \(observation.value) to \(now)" }
    }
    return nil
  }

  /// Runs with these arguments; variables and generators move on.
  func run(_ arguments: [Tensor]) -> [Tensor] {
    let history = isRecording ? history : nil
    // What the program was run on, without what it captured: gradients taken later are those at these values.
    var operands: [Tensor] = []
    var inputs: [CPUArray] = []
    inputs.reserveCapacity(sources.count)
    var versions: [UInt64] = []
    var taken: [Int: CPUArray] = [:]
    // Before any variable's memory is taken: what they read may be variables.
    var hosts = hosts.map { $0() }[...]
    for (i, source) in sources.enumerated() {
      var version: UInt64 = 0
      switch source {
      case .argument(let k):
        inputs.append(arguments[k].array)
        if history != nil { operands.append(arguments[k]) }
      case .variable(let variable):
        if history != nil {
          let (tensor, number) = variable.versionedTensor
          inputs.append(tensor.array)
          operands.append(tensor)
          version = number
        } else if let k = donations[i], plan.donors[k] == i {
          let (current, next) = variable.arrayForUpdate()
          inputs.append(current)
          taken[k] = next
        } else {
          let (tensor, number) = variable.versionedTensor
          inputs.append(tensor.array)
          version = number
        }
      case .generator(let generator):
        inputs.append(generator.stateTensor.array)
        if history != nil { operands.append(Tensor(array: inputs[i])) }
      case .host:
        inputs.append(hosts.removeFirst())
        if history != nil { operands.append(Tensor(array: inputs[i])) }
      case .outer(let tensor): inputs.append(tensor.array)
      }
      versions.append(version)
    }
    let outputs: [CPUArray]
    do { outputs = try plan.run(inputs, versions: versions, into: taken) } catch { stop(error.description) }
    for (variable, array) in zip(written, outputs[resultCount...]) { variable.assign(array) }
    for state in generators { state.generator.advance(state.words) }
    let results = outputs[..<resultCount].map { Tensor(array: $0) }
    return history?.track(results, operands) ?? results
  }
}
