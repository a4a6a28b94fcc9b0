import ApusFormats
import ApusTensor

/// What changes parameters by their gradients.
///
/// What PyTorch calls `foreach` and `fused` is how optimizers always work here: the parameters of a group are changed together,
/// and the usual algorithms read and write each element once per step.
open class Optimizer {
  /// All parameters that are changed.
  public final let parameters: [Parameter]

  public init(_ parameters: [Parameter]) { self.parameters = parameters }

  /// The learning rate of each parameter group, as the next step takes it.
  open var learningRates: [Double] {
    get { [] }
    set {}
  }

  /// The learning rate of the first group; set, it becomes that of all.
  public final var learningRate: Double {
    get { learningRates.first ?? 0 }
    set { learningRates = learningRates.map { _ in newValue } }
  }

  /// Gives each step its learning rate, from the number of steps since it was set; the groups keep their own base rates.
  /// (As Keras's optimizers take a schedule. For one that moves on by epochs see ``Scheduler``.)
  open var schedule: (any LearningRateSchedule)? {
    get { nil }
    set { if newValue != nil { stop("\(type(of: self)) takes no schedule") } }
  }

  /// How gradients are limited before each step; not at all if nil.
  open var clipping: GradientClipping? {
    get { nil }
    set { if newValue != nil { stop("\(type(of: self)) does not clip gradients") } }
  }

  /// Changes the parameters once. Those without a gradient (frozen, or not used) stay as they are.
  ///
  /// Memory of a parameter that nobody else holds is changed in place: while a step runs, other tasks must not read
  /// the parameters.
  open func step(_ gradients: Gradients) { stop("\(type(of: self)) does not override step(_:)") }

  /// Computes the gradients of `loss` by the parameters and changes these once. Gives the history of `loss` back.
  open func step(minimizing loss: Tensor) { step(loss.gradients(for: parameters, releasingHistory: true)) }

  /// What the optimizer remembers between steps, such as moments, by name: `conv1.weight.exp_avg`.
  open var state: [String: Variable] { [:] }

  /// Makes what ``state`` consists of, if steps have not made it yet. (SGD's dampened momentum then begins with zeros; its first step
  /// would begin with the gradient.)
  open func prepareState() {}

  /// Takes over what another optimizer of this kind remembered: the steps after that are the other's to the bit.
  /// - Throws: ``LoadError`` for names or shapes that do not fit; nothing is changed then.
  open func load(state: [String: Tensor]) throws {}

  /// Writes ``state`` to a safetensors file.
  public final func save(_ path: String, metadata: [String: String] = [:]) throws {
    try saveTensors(state.mapValues(\.value), to: path, metadata: metadata)
  }

  /// Reads ``state`` from a safetensors file.
  public final func load(_ path: String) throws { try load(state: loadTensors(from: path)) }

  /// A parameter's name, or its number where names are missing or not unique.
  final var prefixes: [String] {
    let names = parameters.map(\.name)
    let usable = Set(names).count == names.count && !names.contains("")
    return usable ? names : names.indices.map(String.init)
  }
}

/// How an optimizer limits gradients (``Optimizer/clipping``).
public enum GradientClipping: Sendable, Hashable {
  /// Every element to −limit … limit (Keras's `clipvalue`, PyTorch's `clip_grad_value_`).
  case value(Double)
  /// Each gradient's own norm to at most the limit (Keras's `clipnorm`).
  case norm(Double)
  /// The norm of all gradients together to at most the limit (Keras's `global_clipnorm`, PyTorch's `clip_grad_norm_`).
  case globalNorm(Double)
}

extension Gradients {
  func clipped(_ clipping: GradientClipping) -> Gradients {
    var result = self
    switch clipping {
    case .value(let limit): result.clip(value: limit)
    case .norm(let limit): result.clip(eachNorm: limit)
    case .globalNorm(let limit): result.clip(norm: limit)
    }
    return result
  }
}

/// Counts in a variable, so that the count is saved and moves on in compiled programs too.
///
/// ``now`` is known while a program is traced and when it begins to run: what the count was at its beginning, and the calls of
/// ``advance()`` since then in the same program.
final class StepCount {
  let variable = Variable(Tensor(0))
  private var traced: (trace: Int, steps: Int)?

  /// How many calls of ``advance()`` precede this place in the program that is being traced; 0 outside of one.
  var offset: Int {
    guard let trace = activeTrace, let traced, traced.trace == trace else { return 0 }
    return traced.steps
  }

  /// The count at the beginning of the program, or now if there is none.
  var start: Int { untraced { variable.value.item(as: Int.self) } }
  var now: Int { start + offset }

  func advance() {
    if let trace = activeTrace { traced = (trace, offset + 1) }
    variable.value = variable.value + 1
  }
}
