import ApusCPU
@_exported import ApusIR
import CApusKernels

/// A multi-dimensional array of numbers, and the history of how it was computed where gradients want it.
///
/// A value: no operation changes a tensor somebody else can see. Copying is free.
public struct Tensor: Sendable {
  @usableFromInline var handle: TensorHandle

  @usableFromInline init(_ handle: TensorHandle) { self.handle = handle }

  /// A tensor without history.
  @usableFromInline init(array: CPUArray) { handle = TensorHandle(array, nil) }

  /// A tensor of values that the CPU engine holds.
  package init(values array: CPUArray) { self.init(array: array) }

  /// The size of each dimension.
  @inlinable public var shape: Shape { handle.array.shape }
  /// The type of the elements.
  @inlinable public var elementType: ElementType { handle.array.elementType }
  /// The number of dimensions.
  @inlinable public var rank: Int { handle.array.shape.count }
  /// The number of elements.
  @inlinable public var count: Int { handle.array.shape.elementCount }
  /// Shape and element type.
  @inlinable public var type: TensorType { handle.array.type }

  /// Whether gradients can reach something through this tensor.
  public var isTracked: Bool { handle.node != nil }

  /// Whether there are values to read; a tensor that is being traced has none.
  package var isConcrete: Bool { handle.array.storage != nil }

  /// The values as the CPU engine holds them.
  package var array: CPUArray { handle.concrete("reading a value") }
}

/// What a tensor refers to: its values, or the promise of them, and its history.
@usableFromInline final class TensorHandle: @unchecked Sendable {
  @usableFromInline var array: CPUArray
  /// The operation that made it, if gradients may flow through.
  @usableFromInline let node: GradientNode?
  /// Which of the node's results this is.
  @usableFromInline let result: Int
  /// What a tracer knows it as; its array then has no storage.
  let symbol: AnyObject?

  @usableFromInline init(_ array: CPUArray, _ node: GradientNode?, result: Int = 0) {
    self.array = array
    self.node = node
    self.result = result
    symbol = nil
  }

  /// A result laid out as a dense operand, over its memory or in new memory.
  @inline(__always) init(denseLike other: TensorHandle, over: Bool, _ node: GradientNode?) {
    array = CPUArray(
      dense: other.array.shape, strides: other.array.strides, other.array.elementType, isRowMajor: other.array.isRowMajor,
      over: over ? other.array.storageReference : nil, byteOffset: over ? other.array.byteOffset : 0)
    self.node = node
    result = 0
    symbol = nil
  }

  init(traced type: TensorType, symbol: AnyObject, _ node: GradientNode?, result: Int = 0) {
    array = CPUArray(abstract: type)
    self.node = node
    self.result = result
    self.symbol = symbol
  }

  @inlinable func concrete(_ what: @autoclosure () -> String) -> CPUArray {
    if array.storage == nil { noValue(what()) }
    return array
  }

  /// Whether nobody else sees this tensor's memory, so that a result may take it.
  /// Call with the only reference to the handle.
  @inlinable func ownsDenseMemory() -> Bool { array.isDense && array.hasUniqueStorage() }
}

@usableFromInline func noValue(_ what: String) -> Never {
  stop(
    "\(what) inside of a compiled function: this tensor has no value while the function is traced; decide with where, conditional or whileLoop, or return the tensor and read it outside"
  )
}
