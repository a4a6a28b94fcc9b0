import ApusIR
import CApusKernels

/// A group of elementwise operations as instructions of the tile machine: one pass over memory.
///
/// Values have the iteration shape, or one element per row of it (reductions along the last dimension and what is computed
/// from them). Results are those of the operations one by one, to the bit: float16 and bfloat16 are rounded after each.
/// Only sums over rows may be added in another order than by the reduction's own kernel.
struct TileProgram: Sendable {
  let shape: Shape
  let inputCount, outputCount: Int
  let hasRowReduction: Bool
  private(set) var code: [Instruction] = []

  /// `apus_instruction` with a `Sendable` promise: a plain value.
  struct Instruction: @unchecked Sendable { var raw: apus_instruction }

  /// - Parameters:
  ///   - graph: the group; its outputs all have shape `shape`.
  /// - Returns: nil if the machine cannot run it.
  init?(_ graph: Graph, shape: Shape) {
    self.shape = shape
    inputCount = graph.inputCount
    outputCount = graph.outputs.count
    guard inputCount + outputCount <= Int(APUS_MAX_OPERANDS), outputCount > 0 else { return nil }
    var builder = Builder(graph)
    guard builder.build() else { return nil }
    code = builder.code
    hasRowReduction = builder.hasRowReduction
    if hasRowReduction, (shape.last ?? 1) > Int(APUS_MAX_ROW) { return nil }
  }

  /// Runs over operands of the iteration shape, inputs first.
  func run(_ operands: [CPUArray]) {
    withDimensions(shape) { dims in
      withUnsafeTemporaryAllocation(of: Int64.self, capacity: operands.count * Int(APUS_MAX_RANK)) { strides in
        withUnsafeTemporaryAllocation(of: apus_view.self, capacity: operands.count) { views in
          for (i, x) in operands.enumerated() {
            let row = strides.baseAddress.unsafelyUnwrapped + i * Int(APUS_MAX_RANK)
            if !x.isRowMajor { for d in 0..<shape.count { row[d] = Int64(x.strides[d] * x.elementType.byteSize) } }
            views[i] = apus_view(base: x.pointer, strides: x.isRowMajor ? nil : UnsafePointer(row), type: x.elementType.code)
          }
          code.withUnsafeBufferPointer { code in
            code.withMemoryRebound(to: apus_instruction.self) { code in
              var program = apus_program(
                rank: Int32(shape.count), dims: dims, inputs: Int32(inputCount), outputs: Int32(outputCount),
                operands: views.baseAddress, count: Int32(code.count), code: code.baseAddress)
              apus_tile_run(&program)
            }
          }
        }
      }
    }
  }

  /// Whether the machine has this operation for these types, one node at a time.
  static func supports(_ operation: Operation, _ inputs: [TensorType], _ result: TensorType) -> Bool {
    func has(_ op: Int32, _ type: ElementType) -> Bool { apus_tile_supports(op, type.code) }
    switch operation {
    case .unary(let kind): return has(kind.code, inputs[0].elementType)
    case .binary(let kind): return has(kind.code, inputs[0].elementType)
    case .compare(let kind): return has(kind.code, inputs[0].elementType)
    case .select: return has(Int32(APUS_OP_SELECT.rawValue), inputs[1].elementType)
    case .activationGradient(let kind): return kind.code.map { has($0, inputs[0].elementType) } ?? false
    case .convert: return true
    default: return false
    }
  }

  // MARK: From operations to instructions

  private struct Builder {
    let graph: Graph
    var code: [Instruction] = []
    var hasRowReduction = false
    /// The register of each value; nil for fills, which are immediates.
    private var registers: [Int?]
    private var fills: [Graph.Value: Scalar] = [:]
    private var free: [Int]
    private let lastUse: [Int]
    private var outputOf: [Graph.Value: Int] = [:]

    init(_ graph: Graph) {
      self.graph = graph
      registers = Array(repeating: nil, count: graph.valueCount)
      for value in graph.inputs { registers[value] = value }
      let fixed = graph.inputCount + graph.outputs.count
      free = Array((fixed..<max(fixed, Int(APUS_MAX_REGISTERS))).reversed())
      lastUse = graph.lastUses
      for (i, value) in graph.outputs.enumerated() { outputOf[value] = graph.inputCount + i }
    }

    private static func compute(_ type: ElementType) -> ElementType {
      type == .float16 || type == .bfloat16 ? .float32 : type
    }

    mutating func build() -> Bool {
      guard Set(graph.outputs).count == graph.outputs.count, graph.outputs.allSatisfy({ $0 >= graph.inputCount }) else {
        return false
      }
      for (i, node) in graph.nodes.enumerated() {
        guard emit(i, node) else { return false }
        release(after: i, node)
      }
      return true
    }

    private mutating func release(after i: Int, _ node: Graph.Node) {
      for value in Set(node.inputs) where lastUse[value] == i {
        guard let register = registers[value], register >= graph.inputCount + graph.outputs.count else { continue }
        // Views share a register with what they view.
        if !registers.indices.contains(where: { $0 != value && registers[$0] == register && lastUse[$0] > i }) {
          free.append(register)
          for other in registers.indices where registers[other] == register { registers[other] = nil }
        }
      }
    }

    private mutating func emit(_ i: Int, _ node: Graph.Node) -> Bool {
      let result = node.firstResult
      let type = graph.types[result].elementType
      switch node.operation {
      case .fill(_, _, let value):
        fills[result] = value
        return true
      case .broadcast, .reshape:
        if let fill = fills[node.inputs[0]] {
          fills[result] = fill
          return outputOf[result] == nil
        }
        registers[result] = registers[node.inputs[0]]
        return registers[result] != nil && outputOf[result] == nil
      case .reduce(let kind, _, _):
        let op: apus_op
        switch kind {
        case .sum: op = APUS_OP_ROW_SUM
        case .max: op = APUS_OP_ROW_MAX
        case .product, .min, .all, .any: return false
        }
        hasRowReduction = true
        return instruction(op, node, type: type, result: type)
      case .unary(let kind): return instruction(apus_op(UInt32(kind.code)), node, type: inputType(node, 0), result: type)
      case .binary(let kind): return instruction(apus_op(UInt32(kind.code)), node, type: inputType(node, 0), result: type)
      case .compare(let kind): return instruction(apus_op(UInt32(kind.code)), node, type: inputType(node, 0), result: type)
      case .activationGradient(let kind):
        guard let op = kind.code else { return false }
        return instruction(apus_op(UInt32(op)), node, type: inputType(node, 0), result: type)
      case .select: return instruction(APUS_OP_SELECT, node, type: inputType(node, 1), result: type)
      case .convert:
        var raw = apus_instruction()
        raw.op = UInt8(APUS_OP_CONVERT.rawValue)
        raw.from = Builder.compute(inputType(node, 0)).rawValue
        raw.type = type.rawValue
        return finish(&raw, node)
      default: return false
      }
    }

    private func inputType(_ node: Graph.Node, _ i: Int) -> ElementType { graph.types[node.inputs[i]].elementType }

    private mutating func instruction(_ op: apus_op, _ node: Graph.Node, type: ElementType, result: ElementType) -> Bool {
      var raw = apus_instruction()
      raw.op = UInt8(op.rawValue)
      raw.type = Builder.compute(type).rawValue
      guard finish(&raw, node) else { return false }
      if result == .float16 || result == .bfloat16 {
        var round = apus_instruction()
        round.op = UInt8(APUS_OP_CONVERT.rawValue)
        round.from = ElementType.float32.rawValue
        round.type = result.rawValue
        (round.dst, round.a) = (raw.dst, raw.dst)
        code.append(Instruction(raw: round))
      }
      return true
    }

    /// Operands and destination; numbers that do not fit as the one immediate go through a register.
    private mutating func finish(_ raw: inout apus_instruction, _ node: Graph.Node) -> Bool {
      var immediateTaken = false
      var operands: [UInt8] = []
      var borrowed: [Int] = []
      for value in node.inputs {
        if let register = registers[value] {
          operands.append(UInt8(register))
          continue
        }
        guard let fill = fills[value] else { return false }
        let type = graph.types[value].elementType
        if !immediateTaken {
          immediateTaken = true
          raw.immediate = Builder.immediate(fill, type)
          operands.append(UInt8(APUS_IMMEDIATE))
          continue
        }
        guard let register = free.popLast() else { return false }
        var load = apus_instruction()
        load.op = UInt8(APUS_OP_COPY.rawValue)
        load.type = Builder.compute(type).rawValue
        load.dst = UInt8(register)
        load.a = UInt8(APUS_IMMEDIATE)
        load.immediate = Builder.immediate(fill, type)
        code.append(Instruction(raw: load))
        operands.append(UInt8(register))
        borrowed.append(register)
      }
      if operands.count > 0 { raw.a = operands[0] }
      if operands.count > 1 { raw.b = operands[1] }
      if operands.count > 2 { raw.c = operands[2] }
      let result = node.firstResult
      if let output = outputOf[result] {
        registers[result] = output
      } else {
        guard let register = free.popLast() else { return false }
        registers[result] = register
      }
      raw.dst = UInt8(registers[result].unsafelyUnwrapped)
      code.append(Instruction(raw: raw))
      free += borrowed
      return true
    }

    /// A number as the element it would be in a tensor of this type.
    private static func immediate(_ value: Scalar, _ type: ElementType) -> apus_instruction.__Unnamed_union_immediate {
      var result = apus_instruction.__Unnamed_union_immediate()
      let element = CPUArray(uninitialized: [], type)
      CPU.store(value, type, element.pointer)
      if type.isFloatingPoint {
        let wide = CPU.convert(element, .float64)
        result.real = wide.pointer.load(as: Double.self)
      } else {
        let wide = CPU.convert(element, .int64)
        result.integer = wide.pointer.load(as: Int64.self)
      }
      return result
    }
  }
}
