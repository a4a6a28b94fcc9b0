import ApusIR
import CApusKernels

/// From a graph to steps: passes, then a kernel, a layout and a place for every value.
struct PlanBuilder {
  private(set) var graph: Graph
  private(set) var steps: [Plan.Step] = []
  private(set) var waves: [Range<Int>] = []
  private(set) var buffers: [MemoryPlan.Buffer] = []
  private(set) var results: [Plan.Operand] = []
  private(set) var donors: [Int?] = []
  private(set) var stableGraph = Graph()
  private(set) var stableInputs: [Int] = []
  private(set) var preparations: [Plan.Preparation] = []
  private var places: [Plan.Operand?] = []
  private var rowMajorCopies: [Graph.Value: Plan.Operand] = [:]
  private var lastUse: [Int] = []
  /// Values that share a buffer with an input through donation: result index by input.
  private let donations: [Int: Int]
  private let exact: Bool

  /// - Parameters:
  ///   - stable: inputs that seldom change, such as weights in inference: what depends on them alone is computed once.
  ///   - donations: input → result that takes its place afterwards (variables that are written).
  ///   - exact: whether results are the bits of the operations one by one, so far as kernels allow.
  init(_ source: Graph, stable: Set<Int>, donations: [Int: Int], exact: Bool) {
    self.donations = donations
    self.exact = exact
    graph = simplified(source)
    if !exact { graph = withMatchedKernels(graph) }
    graph = withProductsAsRead(graph)
    graph = simplified(withFoldedBatchNorm(graph, isStable: graph.stableValues(stable)))
    graph = withEarlyUpdates(withRecomputation(graph))
    graph = withoutDeadCode(Fusion.run(NormEpilogues.run(Epilogues.run(graph))))
    separateStable(stable)
    places = Array(repeating: nil, count: graph.valueCount)
    donors = Array(repeating: nil, count: graph.outputs.count)
    lastUse = graph.lastUses
    countRightSides()
    lower()
  }

  // MARK: What is computed once

  private var stableValues: [Graph.Value: Int] = [:]
  private var isStable: [Bool] = []
  private var producers: [Int?] = []

  /// Finds the values that depend on constants and stable inputs alone; those that the rest reads are results of a graph apart.
  private mutating func separateStable(_ stable: Set<Int>) {
    isStable = graph.stableValues(stable)
    var read: Set<Graph.Value> = Set(graph.outputs.filter { isStable[$0] && $0 >= graph.inputCount })
    for node in graph.nodes where !isStable[node.firstResult] {
      for value in node.inputs where isStable[value] && value >= graph.inputCount { read.insert(value) }
    }
    let wanted = read.sorted()
    producers = graph.producers
    for (i, value) in wanted.enumerated() { stableValues[value] = i }
    // The inputs it needs, in order.
    var needed = [Bool](repeating: false, count: graph.valueCount)
    for value in wanted { needed[value] = true }
    for node in graph.nodes.reversed() where isStable[node.firstResult] && node.results.contains(where: { needed[$0] }) {
      for value in node.inputs { needed[value] = true }
    }
    stableInputs = graph.inputs.filter { needed[$0] }
    var number: [Graph.Value: Graph.Value] = [:]
    for i in stableInputs { number[i] = stableGraph.addInput(graph.types[i], name: graph.inputNames[i]) }
    for node in graph.nodes where isStable[node.firstResult] && node.results.contains(where: { needed[$0] }) {
      let added = stableGraph.append(
        node.operation, node.inputs.map { number[$0].unsafelyUnwrapped }, types: Array(graph.types[node.results]))
      for (value, new) in zip(node.results, added) { number[value] = new }
    }
    stableGraph.setOutputs(
      wanted.map { value in
        // One number is kept as one number, however large its tensor.
        guard let producer = producers[value], case .fill(_, let type, let scalar) = graph.nodes[producer].operation else {
          return number[value].unsafelyUnwrapped
        }
        return stableGraph.append(.fill([], type, scalar), [], types: [TensorType([], type)]).lowerBound
      })
  }

  // MARK: Steps

  private mutating func lower() {
    for i in graph.inputs {
      places[i] = Plan.Operand(place: .input(i), layout: CPUArray(abstract: graph.types[i]))
    }
    for (value, i) in stableValues {
      places[value] = Plan.Operand(place: .stable(i), layout: stableLayout(value))
    }
    for (n, node) in graph.nodes.enumerated() where !isStable[node.firstResult] { lower(n, node) }
    placeResults()
  }

  /// Stable values are kept row-major; one number is repeated by zero strides.
  private func stableLayout(_ value: Graph.Value) -> CPUArray {
    let type = graph.types[value]
    guard let producer = producers[value], case .fill = graph.nodes[producer].operation else {
      return CPUArray(abstract: type)
    }
    return CPU.broadcast(CPUArray(abstract: TensorType([], type.elementType)), type.shape)
  }

  private mutating func lower(_ n: Int, _ node: Graph.Node) {
    let operands = node.inputs.map { places[$0].unsafelyUnwrapped }
    let types = Array(graph.types[node.results])
    if node.resultCount == 1, let view = CPU.view(node.operation, operands.map(\.layout), types[0]) {
      places[node.firstResult] = Plan.Operand(place: operands[0].place, layout: view)
      extend(operands[0].place, to: node.firstResult)
      return
    }
    if case .call(let function) = node.operation, function.role == .fusion { return lower(fused: function, n, node, operands) }
    switch node.operation {
    case .composite(.linear), .dot, .convolution:
      if isStable[node.inputs[1]] || rightSides[node.inputs[1], default: 0] >= PlanBuilder.packedUses {
        return lower(ContractionKernel(node.operation, operandCount: node.inputs.count), n, node, operands)
      }
    default: break
    }
    if !node.operation.functions.isEmpty {
      let kernel = ControlFlowKernel(node.operation, types: types, exact: exact)
      // A plan's operands are row-major: copied here once, not in every round.
      var inputs = operands
      for i in inputs.indices where !inputs[i].layout.isRowMajor { inputs[i] = rowMajorCopy(node.inputs[i], inputs[i]) }
      return add(kernel, n, node, inputs, types.map { CPUArray(abstract: $0) })
    }
    var inputs = operands
    for i in inputs.indices where !inputs[i].layout.isRowMajor && CPU.needsRowMajor(node.operation, i) {
      inputs[i] = rowMajorCopy(node.inputs[i], inputs[i])
    }
    let layouts = CPU.layouts(node.operation, inputs.map(\.layout), types)
    add(OperationKernel(operation: node.operation), n, node, inputs, layouts)
  }

  private mutating func lower(_ contraction: ContractionKernel, _ n: Int, _ node: Graph.Node, _ operands: [Plan.Operand]) {
    var kernel = contraction
    var inputs = operands
    let types = Array(graph.types[node.results])
    for i in 0..<kernel.operandCount where !inputs[i].layout.isRowMajor && CPU.needsRowMajor(kernel.operation, i) {
      inputs[i] = rowMajorCopy(node.inputs[i], inputs[i])
    }
    let isConvolution = if case .convolution = kernel.operation { true } else { false }
    if let i = kernel.residual, !inputs[i].layout.isRowMajor, !isConvolution {
      inputs[i] = rowMajorCopy(node.inputs[i], inputs[i])
    }
    let layouts = CPU.layouts(kernel.operation, inputs.prefix(kernel.operandCount).map(\.layout), types)
    if isStable[node.inputs[1]], let prepared = prepare(kernel.operation, inputs[0], inputs[1], layouts[0]) {
      kernel.packed = inputs.count
      inputs.append(prepared)
    } else if let packed = packedOnce(kernel.operation, node.inputs[1], inputs[0], inputs[1]) {
      kernel.packed = inputs.count
      inputs.append(packed)
    }
    add(kernel, n, node, inputs, layouts)
  }

  private mutating func lower(_ kernel: BatchNormKernel, _ n: Int, _ node: Graph.Node, _ operands: [Plan.Operand]) {
    var inputs = operands
    for (i, operand) in kernel.operands.enumerated()
    where !inputs[operand].layout.isRowMajor && CPU.needsRowMajor(kernel.operation, i) {
      inputs[operand] = rowMajorCopy(node.inputs[operand], inputs[operand])
    }
    let layouts = CPU.layouts(kernel.operation, kernel.operands.map { inputs[$0].layout }, Array(graph.types[node.results]))
    add(kernel, n, node, inputs, layouts)
  }

  /// A right side that several products of one run read, packed by a step of its own; nil if it is read less often.
  private mutating func packedOnce(
    _ operation: Operation, _ value: Graph.Value, _ x: Plan.Operand, _ weight: Plan.Operand
  ) -> Plan.Operand? {
    guard rightSides[value, default: 0] >= PlanBuilder.packedUses else { return nil }
    let key = PackedKey(value: value, operation: operation)
    if let known = packed[key] { return known }
    guard let form = CPU.preparation(operation, x.layout, weight.layout) else { return nil }
    let out = addStep(PackKernel(form: form), weight, CPUArray(abstract: form.type))
    extend(out.place, to: value)
    packed[key] = out
    return out
  }

  private struct PackedKey: Hashable {
    let value: Graph.Value
    let operation: Operation
  }

  /// As often as this a right side must be read for packing it apart to pay: products pack inside, too.
  private static let packedUses = 4
  private var packed: [PackedKey: Plan.Operand] = [:]
  /// How many products read a value as their right side.
  private var rightSides: [Graph.Value: Int] = [:]

  private mutating func countRightSides() {
    for node in graph.nodes {
      var operation = node.operation
      if case .call(let function) = operation, function.role == .fusion, let first = function.graph.nodes.first {
        operation = first.operation
      }
      switch operation {
      case .dot, .composite(.linear): rightSides[node.inputs[1], default: 0] += 1
      default: break
      }
    }
  }

  /// The weight in the kernel's own form, computed once; nil if nothing is gained.
  private mutating func prepare(
    _ operation: Operation, _ x: Plan.Operand, _ weight: Plan.Operand, _ y: CPUArray
  ) -> Plan.Operand? {
    // A second copy of every weight is the most memory that inference would hold. It pays for convolutions of few images, whose
    // weights weigh more than their work; products pack fast enough (BERT at batch 1: 10 % slower, 300 MB less).
    guard case .convolution(let p) = operation, x.layout.shape[0] <= 4,
      let preparation = CPU.preparation(convolution: p, x.layout, weight.layout, y)
    else { return nil }
    preparations.append(Plan.Preparation(source: weight, form: preparation))
    return Plan.Operand(
      place: .stable(stableGraph.outputs.count + preparations.count - 1), layout: CPUArray(abstract: preparation.type))
  }

  private mutating func lower(fused function: Function, _ n: Int, _ node: Graph.Node, _ operands: [Plan.Operand]) {
    let shape = graph.types[node.firstResult].shape
    if let kernel = ContractionKernel(function) { return lower(kernel, n, node, operands) }
    if let kernel = BatchNormKernel(function) { return lower(kernel, n, node, operands) }
    guard let program = TileProgram(function.graph, shape: shape) else {
      preconditionFailure("\(function.name) was fused but does not fit the tile machine")
    }
    var inputs = operands
    if program.hasRowReduction {
      // Rows are read as they lie if their elements are adjacent, or one repeated.
      for i in inputs.indices
      where inputs[i].layout.shape == shape && !(0...1).contains(inputs[i].layout.strides[shape.count - 1]) {
        inputs[i] = rowMajorCopy(node.inputs[i], inputs[i])
      }
    }
    // Most dense operands of the whole shape decide the layout.
    var best: CPUArray?
    var votes = 0
    let whole = inputs.filter { $0.layout.shape == shape && $0.layout.isDense }
    for candidate in whole {
      let count = whole.filter { $0.layout.hasLayout(of: candidate.layout) }.count
      if count > votes { (best, votes) = (candidate.layout, count) }
    }
    for i in inputs.indices where inputs[i].layout.shape != shape { inputs[i].layout = CPU.broadcast(inputs[i].layout, shape) }
    let types = graph.types[node.results]
    let layouts = types.map { type in
      best.map { CPUArray(abstractLike: $0, type.elementType) } ?? CPUArray(abstract: type)
    }
    add(TileKernel(name: function.name, program: program), n, node, inputs, layouts)
  }

  private mutating func add(
    _ kernel: any Kernel, _ n: Int, _ node: Graph.Node, _ inputs: [Plan.Operand], _ layouts: [CPUArray]
  ) {
    let step = steps.count
    for operand in inputs { touch(operand.place, step) }
    var out: [Plan.Operand] = []
    var overwritten: Set<Int> = []
    for (k, layout) in layouts.enumerated() {
      let value = node.results.lowerBound + k
      if let i = inputs.indices.first(where: { i in
        !overwritten.contains(i) && canOverwrite(kernel, inputs, i, k, layout, n)
      }) {
        overwritten.insert(i)
        out.append(Plan.Operand(place: inputs[i].place, layout: layout))
      } else {
        buffers.append(
          MemoryPlan.Buffer(byteCount: layout.elementCount * layout.elementType.byteSize, first: step, last: step))
        out.append(Plan.Operand(place: .buffer(buffers.count - 1), layout: layout))
        owners.append([])
      }
      places[value] = out[k]
      if case .buffer(let b) = out[k].place { owners[b].append(value) }
    }
    let work = Work(node.operation, inputs.map(\.layout.type), out.map(\.layout.type))
    if let merged = merged(kernel, inputs, out) {
      steps[step - 1] = merged
      for case .buffer(let b) in (inputs + out).map(\.place) {
        buffers[b].first = min(buffers[b].first, step - 1)
        if buffers[b].last == step { buffers[b].last = step - 1 }
      }
    } else {
      steps.append(Plan.Step(kernel: kernel, inputs: inputs, out: out, work: work))
    }
  }

  /// The step before and this one as one, if both are optimizer steps of small parameters with the same options.
  private func merged(_ kernel: any Kernel, _ inputs: [Plan.Operand], _ out: [Plan.Operand]) -> Plan.Step? {
    guard let kernel = kernel as? OperationKernel, case .composite(.optimizerStep(let rule)) = kernel.operation,
      out[0].layout.elementCount < 1 << 14, let last = steps.last, last.out[0].layout.elementType == out[0].layout.elementType,
      last.out[0].layout.elementCount < 1 << 14, inputs.count >= 2, last.inputs.count >= 2,
      last.inputs[last.inputs.count - 2].place == inputs[inputs.count - 2].place
    else { return nil }
    // They run in no order: neither may touch what the other writes.
    let (before, now) = (Set(last.out.map(\.place)), Set(out.map(\.place)))
    guard inputs.allSatisfy({ !before.contains($0.place) }), last.inputs.allSatisfy({ !now.contains($0.place) }) else {
      return nil
    }
    let count: Int
    if let group = last.kernel as? OptimizerGroupKernel, group.rule == rule {
      count = group.count
    } else if let one = last.kernel as? OperationKernel, one.operation == kernel.operation {
      count = 1
    } else {
      return nil
    }
    return Plan.Step(
      kernel: OptimizerGroupKernel(rule: rule, count: count + 1), inputs: last.inputs + inputs, out: last.out + out,
      work: Work(last.work, Work(kernel.operation, inputs.map(\.layout.type), out.map(\.layout.type))))
  }

  /// The values that lie in each buffer, views too.
  private var owners: [[Graph.Value]] = []

  private mutating func extend(_ place: Plan.Place, to value: Graph.Value) {
    if case .buffer(let b) = place { owners[b].append(value) }
  }

  private mutating func touch(_ place: Plan.Place, _ step: Int) {
    if case .buffer(let b) = place { buffers[b].last = max(buffers[b].last, step) }
  }

  /// Whether operand `i` is whole arena memory that nobody reads after this node.
  private func canOverwrite(
    _ kernel: any Kernel, _ inputs: [Plan.Operand], _ i: Int, _ k: Int, _ layout: CPUArray, _ n: Int
  ) -> Bool {
    guard kernel.canOverwrite(i, k), case .buffer(let b) = inputs[i].place else { return false }
    let operand = inputs[i].layout
    guard operand.byteOffset == 0, operand.isDense, operand.shape == layout.shape, operand.hasLayout(of: layout),
      operand.elementType.byteSize == layout.elementType.byteSize,
      buffers[b].byteCount == layout.elementCount * layout.elementType.byteSize
    else { return false }
    // Another operand in the same memory must be read in the same way.
    for (j, other) in inputs.enumerated() where j != i && other.place == inputs[i].place {
      if !other.layout.hasLayout(of: operand) || other.layout.byteOffset != 0 || other.layout.shape != operand.shape
        || other.layout.elementType.byteSize != operand.elementType.byteSize
      {
        return false
      }
    }
    return owners[b].allSatisfy { lastUse[$0] <= n }
  }

  private mutating func rowMajorCopy(_ value: Graph.Value, _ operand: Plan.Operand) -> Plan.Operand {
    if let known = rowMajorCopies[value] { return known }
    let layout = CPUArray(abstract: operand.layout.type)
    let copy = addStep(CopyKernel(), operand, layout)
    rowMajorCopies[value] = copy
    extend(copy.place, to: value)  // not to be overwritten while the value is still read
    return copy
  }

  /// A step of one operand that makes one new array.
  private mutating func addStep(_ kernel: any Kernel, _ operand: Plan.Operand, _ layout: CPUArray) -> Plan.Operand {
    let step = steps.count
    touch(operand.place, step)
    buffers.append(MemoryPlan.Buffer(byteCount: layout.elementCount * layout.elementType.byteSize, first: step, last: step))
    owners.append([])
    let out = Plan.Operand(place: .buffer(buffers.count - 1), layout: layout)
    steps.append(Plan.Step(kernel: kernel, inputs: [operand], out: [out], work: Work(copying: layout.type)))
    return out
  }

  // MARK: Results

  /// Buffers that hold a result become its own memory; results that are something else's memory are copied.
  private mutating func placeResults() {
    var resultOf: [Int: Int] = [:]  // buffer → result
    let donated = Set(donations.values)
    for (k, value) in graph.outputs.enumerated() {
      let operand = places[value].unsafelyUnwrapped
      let bytes = operand.layout.elementCount * operand.layout.elementType.byteSize
      switch operand.place {
      case .buffer(let b)
      where resultOf[b] == nil && operand.layout.isDense && operand.layout.byteOffset == 0 && buffers[b].byteCount == bytes
        && (!donated.contains(k) || operand.layout.isRowMajor):
        resultOf[b] = k
        results.append(Plan.Operand(place: .result(k), layout: operand.layout))
      case .input(let i) where donations[i] == nil && !donated.contains(k):
        results.append(Plan.Operand(place: .input(i), layout: operand.layout))
      case .stable where !donated.contains(k): results.append(operand)
      case .buffer, .input, .stable, .result:
        let layout = CPUArray(abstract: operand.layout.type)
        let out = Plan.Operand(place: .result(k), layout: layout)
        touch(operand.place, steps.count)
        steps.append(Plan.Step(kernel: CopyKernel(), inputs: [operand], out: [out], work: Work(copying: layout.type)))
        results.append(out)
      }
    }
    // Results are not in the arena.
    for s in steps.indices {
      for i in steps[s].inputs.indices { steps[s].inputs[i].place = moved(steps[s].inputs[i].place, resultOf) }
      for i in steps[s].out.indices { steps[s].out[i].place = moved(steps[s].out[i].place, resultOf) }
    }
    for (b, _) in resultOf { buffers[b] = MemoryPlan.Buffer(byteCount: 0, first: 0, last: -1) }
    findDonors()
    waves = Waves.partition(steps, donors: donors)
    // What runs at the same time is in memory at the same time.
    var wave = [Range<Int>](repeating: 0..<0, count: steps.count)
    for range in waves { for i in range { wave[i] = range } }
    for b in buffers.indices where buffers[b].last >= buffers[b].first {
      buffers[b].first = wave[buffers[b].first].lowerBound
      buffers[b].last = wave[min(buffers[b].last, steps.count - 1)].upperBound - 1
    }
  }

  private func moved(_ place: Plan.Place, _ resultOf: [Int: Int]) -> Plan.Place {
    if case .buffer(let b) = place, let k = resultOf[b] { return .result(k) }
    return place
  }

  /// A variable's new value may be written over the old one if the kernel that writes it can, and nothing reads the old one later.
  private mutating func findDonors() {
    for (i, k) in donations {
      guard let writer = steps.firstIndex(where: { $0.out.contains { $0.place == .result(k) } }) else { continue }
      let writers = steps.indices.filter { steps[$0].out.contains { $0.place == .result(k) } }
      let step = steps[writer]
      let result = step.out.firstIndex { $0.place == .result(k) }.unsafelyUnwrapped
      var fits = true
      for (j, operand) in step.inputs.enumerated() where operand.place == .input(i) {
        fits =
          fits && operand.layout.isRowMajor && operand.layout.byteOffset == 0
          && operand.layout.shape == step.out[result].layout.shape && step.out[result].layout.isRowMajor
          && (step.kernel.canOverwrite(j, result) || step.kernel is CopyKernel)
      }
      let readers = steps.indices.filter { steps[$0].inputs.contains { $0.place == .input(i) } }
      fits = fits && (readers.last ?? -1) <= writer && writers.first == writer
      fits = fits && !results.contains { $0.place == .input(i) }
      fits = fits && !stableInputs.contains(i)
      if fits { donors[k] = i }
    }
  }
}
