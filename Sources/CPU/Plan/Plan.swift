import ApusIR
import CApusKernels
import Synchronization

/// A graph ready to run: a flat list of kernel calls whose operands and results have their places.
///
/// Everything that depends on shapes is decided once. Many tasks may run one plan at a time; each run has an arena of its own.
public final class Plan: Sendable {
  /// Where an array lies.
  enum Place: Sendable, Hashable {
    /// In the arena, by buffer.
    case buffer(Int)
    /// Input `i` of the plan.
    case input(Int)
    /// Memory made for result `i` of the plan.
    case result(Int)
    /// A value that was computed once, from constants and stable inputs.
    case stable(Int)
  }

  struct Operand: Sendable {
    var place: Place
    /// Shape, strides and offset within the place; without storage.
    var layout: CPUArray
  }

  struct Step: Sendable {
    let kernel: any Kernel
    var inputs: [Operand]
    var out: [Operand]
    let work: Work
    var scratch: Int { kernel.scratch(inputs.map(\.layout), out.map(\.layout)) }
  }

  /// What the plan needs, in bytes.
  public struct Memory: Sendable, Hashable, CustomStringConvertible {
    /// Temporaries, all in one block.
    public var arena: Int
    /// Values computed once.
    public var stable: Int
    /// What the plans of functions inside, such as a loop's body, keep.
    public var bodies: Int
    /// The most that kernels borrow while they run, about.
    public var scratch: Int
    public var inputs: Int
    /// Without those that are written over an input.
    public var results: Int
    public var total: Int { arena + stable + bodies + scratch + inputs + results }

    public var description: String {
      func mb(_ bytes: Int) -> String { "\((Double(bytes) / 1e5).rounded() / 10) MB" }
      let inside = bodies == 0 ? "" : ", functions inside \(mb(bodies))"
      return
        "arena \(mb(arena)), computed once \(mb(stable))\(inside), scratch \(mb(scratch)), inputs \(mb(inputs)), results \(mb(results))"
    }
  }

  /// How many kernel calls a run is.
  public var kernelCount: Int { steps.count }

  /// The optimized graph.
  public let graph: Graph
  let steps: [Step]
  /// Steps that run side by side.
  let waves: [Range<Int>]
  let offsets: [Int]
  let results: [Operand]
  /// Which input's memory a result may take over, if nobody else holds it.
  package let donors: [Int?]
  let stableGraph: Graph
  /// Inputs that the stable values are computed from.
  let stableInputs: [Int]
  let preparations: [Preparation]
  /// Inputs whose versions decide whether what was computed once still holds.
  private let watchedInputs: [Int]
  public let memory: Memory
  private let contexts = Mutex<[PlanContext]>([])
  private let stableValues = Mutex<StableValues?>(nil)

  /// Another form of a stable value, made with it.
  struct Preparation: Sendable {
    let source: Operand
    let form: CPU.Preparation
  }

  struct StableValues: Sendable {
    let versions: [UInt64]
    let values: [CPUArray]
  }

  init(_ builder: PlanBuilder) {
    graph = builder.graph
    steps = builder.steps
    waves = builder.waves
    results = builder.results
    donors = builder.donors
    stableGraph = builder.stableGraph
    stableInputs = builder.stableInputs
    preparations = builder.preparations
    watchedInputs = Set(
      builder.stableInputs
        + builder.preparations.compactMap { if case .input(let i) = $0.source.place { i } else { nil } }
    ).sorted()
    let plan = MemoryPlan(builder.buffers)
    offsets = plan.offsets
    func bytes(_ types: [TensorType]) -> Int { types.reduce(0) { $0 + $1.shape.elementCount * $1.elementType.byteSize } }
    memory = Memory(
      arena: plan.byteCount, stable: bytes(builder.stableGraph.outputTypes + builder.preparations.map(\.form.type)),
      bodies: builder.steps.reduce(0) { $0 + (($1.kernel as? ControlFlowKernel)?.keptBytes ?? 0) },
      scratch: builder.waves.reduce(0) { most, wave in max(most, wave.reduce(0) { $0 + builder.steps[$1].scratch }) },
      inputs: bytes(builder.graph.inputTypes),
      results: bytes(zip(builder.graph.outputTypes, builder.donors).filter { $1 == nil }.map(\.0)))
  }

  /// - Parameters:
  ///   - stable: inputs that seldom change, such as weights in inference: what depends on them alone is computed once.
  ///   - donations: input → result that takes its place afterwards (variables that are written).
  ///   - exact: false lets primitives become composites with kernels of their own (``withMatchedKernels(_:)``), whose results
  ///     differ by rounding: for programs that come from elsewhere. What `compile` traces is made of composites already and keeps
  ///     the bits of eager execution.
  public convenience init(_ graph: Graph, stable: Set<Int> = [], donations: [Int: Int] = [:], exact: Bool = true) {
    self.init(PlanBuilder(graph, stable: stable, donations: donations, exact: exact))
  }

  /// The most bytes that computing the stable values and the functions inside of operations may take, views counted as copies;
  /// at most 2⁶².
  package var otherMemoryBound: Int {
    var sum = stableGraph.byteBound
    for node in graph.nodes {
      for function in node.operation.functions where function.role == .body { sum = min(sum + function.graph.byteBound, 1 << 62) }
    }
    return sum
  }

  /// Runs once.
  /// - Parameters:
  ///   - inputs: as the graph has them.
  ///   - versions: of the inputs, where some are stable: another number means that the content may be another.
  ///   - taken: for each result memory that it may be written to, row-major and of its type, instead of new memory.
  public func run(_ inputs: [CPUArray], versions: [UInt64]? = nil, into taken: [Int: CPUArray] = [:]) throws(ExecutionError)
    -> [CPUArray]
  {
    let context = contexts.withLock { $0.popLast() } ?? PlanContext(self)
    defer { contexts.withLock { $0.append(context) } }
    let inputs = inputs.map { $0.rowMajor() }
    return try context.run(inputs, try stable(inputs, versions ?? []), taken)
  }

  /// The values that do not change from run to run; computed again when an input they depend on is another version.
  private func stable(_ inputs: [CPUArray], _ versions: [UInt64]) throws(ExecutionError) -> [CPUArray] {
    if stableGraph.outputs.isEmpty && preparations.isEmpty { return [] }
    precondition(watchedInputs.allSatisfy { versions.indices.contains($0) }, "stable inputs come with versions")
    let known = stableValues.withLock { known -> [CPUArray]? in
      guard let known, zip(watchedInputs, known.versions).allSatisfy({ versions[$0] == $1 }) else { return nil }
      return known.values
    }
    if let known { return known }
    var values = try CPU.run(stableGraph, stableInputs.map { inputs[$0] }).map { $0.rowMajor() }
    for preparation in preparations {
      let base: CPUArray
      switch preparation.source.place {
      case .input(let i): base = inputs[i]
      case .stable(let i): base = values[i]
      case .buffer, .result: preconditionFailure("only stable values are prepared")
      }
      guard let storage = base.storage else { preconditionFailure("an operand has no memory") }
      let layout = preparation.source.layout
      let made = CPUArray(uninitialized: preparation.form.type.shape, .uint8)
      preparation.form.make(layout.placed(in: storage, byteOffset: base.byteOffset + layout.byteOffset), made)
      values.append(made)
    }
    let made = StableValues(versions: watchedInputs.map { versions[$0] }, values: values)
    stableValues.withLock { $0 = made }
    return values
  }
}

/// The memory of one run: an arena and the operands of every step in it.
final class PlanContext: @unchecked Sendable {
  // The plan keeps its contexts: held by them, no plan would ever be released. Only the plan calls them.
  private unowned let plan: Plan
  private lazy var runner = WaveRunner { [unowned self] i throws(ExecutionError) in
    try plan.steps[i].kernel.run(inputs[i], out[i])
  }
  private let arena: Storage
  private var inputs: [[CPUArray]]
  private var out: [[CPUArray]]
  /// Operands that lie outside of the arena: other memory in every run.
  private var outside: [(step: Int, isResult: Bool, index: Int, operand: Plan.Operand)] = []

  init(_ plan: Plan) {
    self.plan = plan
    arena = Storage(byteCount: plan.memory.arena)
    inputs = []
    out = []
    for (s, step) in plan.steps.enumerated() {
      func placed(_ operand: Plan.Operand, _ isResult: Bool, _ index: Int) -> CPUArray {
        guard case .buffer(let buffer) = operand.place else {
          outside.append((s, isResult, index, operand))
          return operand.layout
        }
        return operand.layout.placed(in: arena, byteOffset: plan.offsets[buffer] + operand.layout.byteOffset)
      }
      inputs.append(step.inputs.enumerated().map { placed($1, false, $0) })
      out.append(step.out.enumerated().map { placed($1, true, $0) })
    }
  }

  func run(_ arguments: [CPUArray], _ stable: [CPUArray], _ taken: [Int: CPUArray]) throws(ExecutionError) -> [CPUArray] {
    let plan = plan
    let made = plan.results.enumerated().map { i, operand -> CPUArray in
      switch operand.place {
      case .result: taken[i] ?? operand.layout.allocated()
      case .input(let input): at(operand.layout, arguments[input])
      case .stable(let value): at(operand.layout, stable[value])
      case .buffer: preconditionFailure("a result lies in the arena")
      }
    }
    for place in outside {
      let layout = place.operand.layout
      let array: CPUArray =
        switch place.operand.place {
        case .input(let i): at(layout, arguments[i])
        case .result(let i): at(layout, made[i])
        case .stable(let i): at(layout, stable[i])
        case .buffer: layout
        }
      if place.isResult { out[place.step][place.index] = array } else { inputs[place.step][place.index] = array }
    }
    defer { for place in outside where !place.isResult { inputs[place.step][place.index] = place.operand.layout } }
    defer { for place in outside where place.isResult { out[place.step][place.index] = place.operand.layout } }
    if let profiler = Profiler.active {
      for (i, step) in plan.steps.enumerated() {
        try profiler.note(step.kernel.name, step.work) { () throws(ExecutionError) in try step.kernel.run(inputs[i], out[i]) }
      }
    } else {
      for wave in plan.waves {
        if wave.count == 1 {
          try plan.steps[wave.lowerBound].kernel.run(inputs[wave.lowerBound], out[wave.lowerBound])
        } else {
          try runner(wave)
        }
      }
    }
    return made
  }

  /// A layout within the memory of an array.
  private func at(_ layout: CPUArray, _ base: CPUArray) -> CPUArray {
    guard let storage = base.storage else { preconditionFailure("an operand has no memory") }
    return layout.placed(in: storage, byteOffset: base.byteOffset + layout.byteOffset)
  }
}
