import ApusCPU
import ApusIR
import Testing

@testable import ApusTensor

/// Foundation has an `Operation` too.
typealias Operation = ApusIR.Operation

/// One call of an operation: what the tests of operations run in every way.
struct Sample: Sendable, CustomStringConvertible {
  var operation: Operation
  var inputs: [Input]
  /// The element types of its data operands that it takes; all others it must refuse.
  var types: [ElementType]
  /// The operands, in float64, whose gradients are compared with differences.
  var gradients: [Int]
  /// How far floating point results may be from the reference: units in the last place of the type, of the
  /// result plus `magnitude`.
  var ulps: Double
  /// The size of the terms that a result sums up, where that may be more than the result.
  var magnitude: Double
  /// Whether types other than `types` must be refused (false for samples of values only some types have).
  var refusesOthers = true
  /// Whether a result's rounding may depend on the memory order of operands: sums run along memory.
  var dependsOnLayout = false

  init(
    _ operation: Operation, _ inputs: [Input], _ types: [ElementType], gradients: [Int] = [], ulps: Double = 2,
    magnitude: Double = 0, dependsOnLayout: Bool = false
  ) {
    self.operation = operation
    self.inputs = inputs
    self.types = types
    self.gradients = gradients
    self.ulps = ulps
    self.magnitude = magnitude
    self.dependsOnLayout = dependsOnLayout
  }

  /// The same with only these types tried.
  func only(_ types: [ElementType]) -> Sample {
    var copy = self
    copy.types = types
    copy.refusesOthers = false
    return copy
  }

  /// The type used where one is enough.
  var mainType: ElementType { types.contains(.float64) ? .float64 : types[0] }
  var hasData: Bool { inputs.contains { $0.role == .data } }
  var hasSpecials: Bool {
    inputs.contains {
      if case .special = $0.pattern { true } else { false }
    }
  }

  func tensors(_ type: ElementType) -> [Tensor] { inputs.map { $0.tensor(type) } }

  /// The fixture's key: operation and operands.
  func text(_ group: TypeGroup) -> String { ([descriptor(operation)] + inputs.map { $0.text(group) }).joined(separator: " | ") }

  var description: String { text(TypeGroup(mainType)) }
}

/// The cases of `Operation`, for tests that go through all of them.
enum Family: String, Sendable, CaseIterable, CustomTestStringConvertible {
  case unary, binary, compare, select, convert, bitcast, activationGradient
  case fill, iota, random
  case broadcast, reshape, transpose, slice, pad, concatenate, reverse, dynamicSlice, dynamicUpdateSlice, triangle
  case reduce, argReduce, scan, sort, topK
  case gather, takeAlong, gatherND, scatter, scatterAlong, scatterND
  case dot, quantizedDot, convolution, convolutionInputGradient, convolutionKernelGradient
  case reduceWindow, reduceWindowGradient, maxPoolIndices
  case stopGradient, composite
  case constant, call, conditional, whileLoop, whileLoopGradient, scanLoop, customCall

  var testDescription: String { rawValue }

  /// No default: a new operation does not compile without a family, and a family not without samples.
  init(_ operation: Operation) {
    switch operation {
    case .unary: self = .unary
    case .binary: self = .binary
    case .compare: self = .compare
    case .select: self = .select
    case .convert: self = .convert
    case .bitcast: self = .bitcast
    case .activationGradient: self = .activationGradient
    case .fill: self = .fill
    case .iota: self = .iota
    case .random: self = .random
    case .broadcast: self = .broadcast
    case .reshape: self = .reshape
    case .transpose: self = .transpose
    case .slice: self = .slice
    case .pad: self = .pad
    case .concatenate: self = .concatenate
    case .reverse: self = .reverse
    case .dynamicSlice: self = .dynamicSlice
    case .dynamicUpdateSlice: self = .dynamicUpdateSlice
    case .triangle: self = .triangle
    case .reduce: self = .reduce
    case .argReduce: self = .argReduce
    case .scan: self = .scan
    case .sort: self = .sort
    case .topK: self = .topK
    case .gather: self = .gather
    case .takeAlong: self = .takeAlong
    case .gatherND: self = .gatherND
    case .scatter: self = .scatter
    case .scatterAlong: self = .scatterAlong
    case .scatterND: self = .scatterND
    case .dot: self = .dot
    case .quantizedDot: self = .quantizedDot
    case .convolution: self = .convolution
    case .convolutionInputGradient: self = .convolutionInputGradient
    case .convolutionKernelGradient: self = .convolutionKernelGradient
    case .reduceWindow: self = .reduceWindow
    case .reduceWindowGradient: self = .reduceWindowGradient
    case .maxPoolIndices: self = .maxPoolIndices
    case .stopGradient: self = .stopGradient
    case .composite: self = .composite
    case .constant: self = .constant
    case .call: self = .call
    case .conditional: self = .conditional
    case .whileLoop: self = .whileLoop
    case .whileLoopGradient: self = .whileLoopGradient
    case .scanLoop: self = .scanLoop
    case .customCall: self = .customCall
    }
  }

  var samples: [Sample] {
    switch self {
    case .unary: UnaryKind.allCases.flatMap(OperationSamples.unary)
    case .binary: BinaryKind.allCases.flatMap(OperationSamples.binary)
    case .compare: ComparisonKind.allCases.flatMap(OperationSamples.compare)
    case .select: OperationSamples.select
    case .convert: ElementType.allCases.flatMap(OperationSamples.convert)
    case .bitcast: OperationSamples.bitcast
    case .activationGradient: ActivationKind.allCases.flatMap(OperationSamples.activationGradient)
    case .fill: OperationSamples.fill
    case .iota: OperationSamples.iota
    case .random: OperationSamples.random
    case .broadcast: OperationSamples.broadcast
    case .reshape: OperationSamples.reshape
    case .transpose: OperationSamples.transpose
    case .slice: OperationSamples.slice
    case .pad: OperationSamples.pad
    case .concatenate: OperationSamples.concatenate
    case .reverse: OperationSamples.reverse
    case .dynamicSlice: OperationSamples.dynamicSlice
    case .dynamicUpdateSlice: OperationSamples.dynamicUpdateSlice
    case .triangle: OperationSamples.triangle
    case .reduce: ReductionKind.allCases.flatMap(OperationSamples.reduce)
    case .argReduce: ArgReductionKind.allCases.flatMap(OperationSamples.argReduce)
    case .scan: ScanKind.allCases.flatMap(OperationSamples.scan)
    case .sort: OperationSamples.sort
    case .topK: OperationSamples.topK
    case .gather: OperationSamples.gather
    case .takeAlong: OperationSamples.takeAlong
    case .gatherND: OperationSamples.gatherND
    case .scatter: ScatterKind.allCases.flatMap(OperationSamples.scatter)
    case .scatterAlong: ScatterKind.allCases.flatMap(OperationSamples.scatterAlong)
    case .scatterND: ScatterKind.allCases.flatMap(OperationSamples.scatterND)
    case .dot: OperationSamples.dot
    case .quantizedDot: OperationSamples.quantizedDot
    case .convolution: OperationSamples.convolution
    case .convolutionInputGradient: OperationSamples.convolutionInputGradient
    case .convolutionKernelGradient: OperationSamples.convolutionKernelGradient
    case .reduceWindow: WindowReductionKind.allCases.flatMap(OperationSamples.reduceWindow)
    case .reduceWindowGradient: WindowReductionKind.allCases.flatMap(OperationSamples.reduceWindowGradient)
    case .maxPoolIndices: OperationSamples.maxPoolIndices
    case .stopGradient: OperationSamples.stopGradient
    case .composite: OperationSamples.composites.flatMap(OperationSamples.composite)
    case .constant: OperationSamples.constant
    case .call: OperationSamples.call
    case .conditional: OperationSamples.conditional
    case .whileLoop: OperationSamples.whileLoop
    case .whileLoopGradient: OperationSamples.whileLoopGradient
    case .scanLoop: OperationSamples.scanLoop
    case .customCall: OperationSamples.customCall
    }
  }
}

/// The table: for every operation, and every kind of it, calls to try.
enum OperationSamples {
  static let real: [ElementType] = [.float64, .float32, .float16, .bfloat16]
  static let integers: [ElementType] = [.int64, .int32, .int16, .int8, .uint8]
  static let numbers = real + integers
  static let all = numbers + [.bool]
}
