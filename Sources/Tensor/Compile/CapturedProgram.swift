import ApusCPU
import CApusKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A traced function: its graph, and where the inputs come from and the results go.
public final class CapturedProgram {
  /// As traced; values of variables come after the function's own results.
  public let graph: Graph
  private let sources: [Trace.Source]
  private let variables: [Trace.VariableState]
  private let generators: [Trace.GeneratorState]
  private let observations: [Observation]
  private let resultCount: Int
  private let written: [Variable]
  private let history: ProgramHistory?
  /// What tracing and compiling took.
  let seconds: Double

  init(_ trace: Trace, outputs: [Tensor], since start: Double) {
    let writes = trace.variables.filter(\.isWritten)
    graph = trace.finish(
      outputs + writes.map(\.current), names: outputs.indices.map { "result \($0)" } + writes.map(\.variable.name))
    sources = trace.inputs.map(\.source)
    variables = trace.variables
    generators = trace.generators
    observations = trace.observations
    resultCount = outputs.count
    written = writes.map(\.variable)
    history = writes.contains(where: \.wasTrainable) ? nil : ProgramHistory(trace, outputs)
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
    let operands = sources.map { source -> Tensor in
      switch source {
      case .argument(let i): arguments[i]
      case .variable(let variable): variable.value
      case .generator(let generator): generator.stateTensor
      case .host(let read): Tensor(array: read())
      case .outer(let tensor): tensor
      }
    }
    let inputs = operands.map(\.array)
    let outputs: [CPUArray]
    do { outputs = try CPU.run(graph, inputs) } catch { stop(error.description) }
    for (variable, array) in zip(written, outputs[resultCount...]) { variable.assign(array) }
    for state in generators { state.generator.advance(state.words) }
    let results = outputs[..<resultCount].map { Tensor(array: $0) }
    guard let history else { return results }
    let own = zip(sources, operands).filter { if case .outer = $0.0 { false } else { true } }
    return history.track(results, own.map(\.1))
  }
}

package func monotonicSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
