import ApusCPU
import ApusFormats
import ApusTensor
import Synchronization

/// One signature of a loaded program, and its plans for the sizes that were asked for.
final class ProgramFunction: Sendable {
  let name: String
  let signature: Signature
  let open: OpenGraph
  private let limits: ProgramLimits
  private let slots = Mutex<[Slot]>([])

  /// The plan for one combination of sizes: made by whoever asks first, while others who want the same wait.
  private final class Slot: Sendable {
    let sizes: [Int]
    let plan = Mutex<Result<Plan, ProgramError>?>(nil)
    /// What the plan holds; zero until it is made.
    let bytes = Atomic<Int>(0)
    init(_ sizes: [Int]) { self.sizes = sizes }
  }

  /// - Throws: ``FormatError`` if the functions are not what the manifest says.
  init(_ entry: Manifest.Entry, _ graphs: [String: Graph], limits: ProgramLimits, file: String) throws(FormatError) {
    func error(_ kind: FormatError.Kind, _ message: String) -> FormatError {
      FormatError(kind, file: file, part: entry.name, message)
    }
    let dimensions = entry.signature.openDimensions
    guard dimensions.count <= OpenGraph.maxAxes, entry.corners.count == 1 << dimensions.count else {
      throw error(
        .invalidEntry, "\(dimensions.count) open dimensions do not go with \(entry.corners.count) functions")
    }
    // The corners in any order: of each dimension, two sizes.
    var axes: [OpenGraph.Axis] = []
    for dimension in dimensions {
      let sizes = Set(entry.corners.compactMap { $0.sizes[dimension.name] }).sorted()
      guard sizes.count == 2 else { throw error(.invalidEntry, "the functions do not have two sizes of '\(dimension.name)'") }
      axes.append(.init(dimension.name, low: sizes[0], high: sizes[1]))
    }
    var corners = [Graph?](repeating: nil, count: entry.corners.count)
    for corner in entry.corners {
      guard let graph = graphs[corner.function] else {
        throw error(.missing, "the program has no function '\(FormatError.excerpt(corner.function))'")
      }
      var place = 0
      for (i, axis) in axes.enumerated() {
        guard let size = corner.sizes[axis.name] else { throw error(.missing, "a function's size of '\(axis.name)' is missing") }
        if size == axis.high { place |= 1 << i }
      }
      guard corner.sizes.count == axes.count, corners[place] == nil else {
        throw error(.invalidEntry, "two functions have the same sizes, or sizes of other dimensions")
      }
      let inputs = entry.signature.inputs.map { ($0.name, $0.spec.type(corner.sizes)) }
      guard graph.inputNames == inputs.map(\.0), graph.inputTypes == inputs.map(\.1) else {
        throw error(
          .invalidEntry, "the function '\(FormatError.excerpt(corner.function))' takes other inputs than the manifest says")
      }
      let outputs = entry.signature.outputs
      guard graph.outputNames == outputs.map(\.name), graph.outputTypes.map(\.elementType) == outputs.map(\.elementType),
        zip(graph.outputTypes, outputs).allSatisfy({ type, output in
          type.shape.count == output.dimensions.count
            && zip(type.shape, output.dimensions).allSatisfy { size, dimension in
              switch dimension {
              case .fixed(let fixed): size == fixed
              case .open(let name, _): size == corner.sizes[name]
              case nil: true
              }
            }
        })
      else {
        throw error(
          .invalidEntry, "the function '\(FormatError.excerpt(corner.function))' gives other results than the manifest says")
      }
      corners[place] = graph
    }
    do throws(GraphError) {
      open = try OpenGraph(corners.compactMap { $0 }, axes: axes)
    } catch let problem {
      throw error(.invalidEntry, problem.description)
    }
    (name, signature, self.limits) = (entry.name, entry.signature, limits)
  }

  func run(_ inputs: [String: Tensor]) throws(ProgramError) -> [String: Tensor] {
    let names = signature.inputs.map(\.name)
    if let unknown = inputs.keys.filter({ !names.contains($0) }).min() {
      throw .unknownInput(unknown, near: nearName(unknown, in: names), known: names)
    }
    var sizes = [Int?](repeating: nil, count: signature.openDimensions.count)
    var arguments: [CPUArray] = []
    arguments.reserveCapacity(names.count)
    for input in signature.inputs {
      guard let tensor = inputs[input.name] else { throw .missingInput(input.name, expected: input.spec.description) }
      guard tensor.isConcrete else {
        throw .wrongType(
          input: input.name, expected: input.spec.description, found: "a tensor that is being traced, without values")
      }
      let wrong = ProgramError.wrongType(
        input: input.name, expected: input.spec.description, found: tensor.type.description)
      guard tensor.elementType == input.spec.elementType, tensor.rank == input.spec.dimensions.count else { throw wrong }
      for (size, dimension) in zip(tensor.shape, input.spec.dimensions) {
        switch dimension {
        case .fixed(let fixed): if size != fixed { throw wrong }
        case .open(let name, _):
          guard let i = signature.openDimensions.firstIndex(where: { $0.name == name }) else { throw wrong }
          if let known = sizes[i], known != size {
            throw .wrongSize(dimension: name, message: "is \(known) in one input, but \(size) in '\(input.name)'")
          }
          sizes[i] = size
        }
      }
      arguments.append(tensor.array)
    }
    let plan = try plan(sizes.map { $0 ?? 1 })
    let results: [CPUArray]
    do throws(ExecutionError) { results = try plan.run(arguments) } catch { throw .execution(error.description) }
    var outputs: [String: Tensor] = [:]
    for (output, array) in zip(signature.outputs, results) {
      // A weight that is a result: its mapped memory cannot be written, but a tensor's can, once nobody else holds it.
      outputs[output.name] = Tensor(values: array.storage?.isBorrowed == true ? array.copy() : array)
    }
    return outputs
  }

  /// The plan for these sizes.
  func plan(_ sizes: [Int]) throws(ProgramError) -> Plan {
    for (axis, size) in zip(signature.openDimensions, sizes) where !axis.sizes.contains(size) {
      throw .wrongSize(
        dimension: axis.name,
        message: "is \(size), but must be from \(axis.sizes.lowerBound) to \(axis.sizes.upperBound)")
    }
    let slot = slots.withLock { slots -> Slot in
      if let i = slots.firstIndex(where: { $0.sizes == sizes }) {
        // The last one is the one used last.
        let slot = slots.remove(at: i)
        slots.append(slot)
        return slot
      }
      if slots.count >= limits.plans { slots.removeFirst() }
      let slot = Slot(sizes)
      slots.append(slot)
      return slot
    }
    let (result, isNew) = slot.plan.withLock { made in
      if let made { return (made, false) }
      let result = make(sizes)
      made = result
      return (result, true)
    }
    let plan = try result.get()
    if isNew { makeRoom(beside: slot, plan) }
    return plan
  }

  /// Forgets the plans used longest ago until the others hold no more than they may.
  private func makeRoom(beside slot: Slot, _ plan: Plan) {
    slot.bytes.store(plan.memory.arena + plan.memory.stable, ordering: .relaxed)
    slots.withLock { slots in
      var sum = slots.reduce(0) { $0 + $1.bytes.load(ordering: .relaxed) }
      while sum > limits.planMemory, let oldest = slots.first, oldest !== slot {
        sum -= oldest.bytes.load(ordering: .relaxed)
        slots.removeFirst()
      }
    }
  }

  private func make(_ sizes: [Int]) -> Result<Plan, ProgramError> {
    let graph: Graph
    do throws(GraphError) { graph = try open.graph(sizes) } catch {
      return .failure(.notAtThisSize("\(name): \(error.description)"))
    }
    // Before anything is planned: sums of sizes must not overflow.
    for type in graph.types {
      let bytes = type.shape.elementCount.multipliedReportingOverflow(by: type.elementType.byteSize)
      if bytes.overflow || bytes.partialValue > limits.memory {
        return .failure(.tooLarge(bytes: bytes.overflow ? .max : bytes.partialValue, limit: limits.memory))
      }
    }
    guard graph.byteBound < 1 << 60 else { return .failure(.tooLarge(bytes: graph.byteBound, limit: limits.memory)) }
    let plan = Plan(graph, exact: false)
    let bytes = plan.memory.arena + plan.memory.stable + plan.memory.results + plan.otherMemoryBound
    guard bytes <= limits.memory else { return .failure(.tooLarge(bytes: bytes, limit: limits.memory)) }
    return .success(plan)
  }
}
