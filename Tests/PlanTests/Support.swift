import Testing

@testable import ApusCPU
@testable import ApusIR

/// The same numbers in every run (Steele, Lea and Flood 2014: SplitMix64).
struct Seeded: RandomNumberGenerator {
  private var state: UInt64
  init(_ seed: Int) { state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1 }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// Numbers in a type, converted from float64.
func array(_ values: [Double], _ shape: Shape, _ type: ElementType) -> CPUArray {
  let wide = CPUArray(uninitialized: shape, .float64)
  for (i, x) in values.enumerated() { wide.pointer.storeBytes(of: x, toByteOffset: i * 8, as: Double.self) }
  return type == .float64 ? wide : CPU.convert(wide, type)
}

/// Whole numbers in −range...range, or fractions of eighths of them.
func array(_ type: TensorType, _ random: inout Seeded, range: Int = 4, whole: Bool = false) -> CPUArray {
  let values = (0..<type.shape.elementCount).map { _ -> Double in
    if type.elementType == .bool { return Double(Int.random(in: 0...1, using: &random)) }
    let low = type.elementType == .uint8 ? 0 : -range
    return whole || type.elementType.isInteger
      ? Double(Int.random(in: low...range, using: &random))
      : Double(Int.random(in: (-8 * range)...(8 * range), using: &random)) / 8
  }
  return array(values, type.shape, type.elementType)
}

func arrays(_ types: [TensorType], seed: Int = 1, range: Int = 4, whole: Bool = false) -> [CPUArray] {
  var random = Seeded(seed)
  return types.map { array($0, &random, range: range, whole: whole) }
}

func bits(_ x: CPUArray) -> [UInt8] {
  let x = x.rowMajor()
  return withExtendedLifetime(x) {
    Array(UnsafeRawBufferPointer(start: x.pointer, count: x.elementCount * x.elementType.byteSize))
  }
}

func numbers(_ x: CPUArray) -> [Double] {
  let wide = CPU.convert(x.rowMajor(), .float64).rowMajor()
  return withExtendedLifetime(wide) {
    Array(UnsafeRawBufferPointer(start: wide.pointer, count: wide.elementCount * 8).bindMemory(to: Double.self))
  }
}

/// The largest difference, each in units of the larger of 1 and the reference; infinite if NaNs or infinities differ.
func distance(_ a: CPUArray, _ reference: CPUArray) -> Double {
  guard a.type == reference.type else { return .infinity }
  return zip(numbers(a), numbers(reference)).reduce(0) { most, pair in
    let (x, y) = pair
    if x == y || (x.isNaN && y.isNaN) { return most }
    let difference = abs(x - y) / max(1, abs(y))
    return difference.isNaN ? .infinity : max(most, difference)
  }
}

/// Writes a graph with the terms that decompositions are written with.
func graph(_ types: [TensorType], _ body: (DecompositionBuilder, [Term]) -> [Term]) -> Graph {
  let builder = DecompositionBuilder(types)
  return builder.finish(body(builder, builder.inputs))
}

func float(_ shape: Shape) -> TensorType { TensorType(shape, .float32) }

extension Graph {
  var names: [String] { nodes.map(\.operation.name) }

  func count(_ name: String) -> Int { names.count { $0 == name } }

  /// Nodes, those inside of calls counted one by one.
  var allNames: [String] {
    nodes.flatMap { node -> [String] in
      if case .call(let function) = node.operation { return function.graph.allNames }
      return [node.operation.name]
    }
  }
}

/// Whether the two graphs give the same bits.
func expectSameBits(
  _ a: Graph, _ b: Graph, seed: Int = 1, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation
)
  throws
{
  let inputs = arrays(a.inputTypes, seed: seed)
  let (x, y) = (try CPU.run(a, inputs), try CPU.run(b, inputs))
  #expect(x.map(\.type) == y.map(\.type), comment, sourceLocation: sourceLocation)
  #expect(x.map(bits) == y.map(bits), comment, sourceLocation: sourceLocation)
}
