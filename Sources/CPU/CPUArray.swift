import ApusIR
import CApusKernels

/// A block of memory from the buffer cache; it goes back there when the last array that uses it is gone.
public final class Storage: @unchecked Sendable {
  public let pointer: UnsafeMutableRawPointer
  public let byteCount: Int

  /// What keeps memory alive that is not from the cache. Unmanaged: nearly no storage has one.
  @usableFromInline let owner: Unmanaged<AnyObject>?

  /// Whether the memory is somebody else's and must not be written, even by who alone holds it.
  package var isBorrowed: Bool { owner != nil }

  @inlinable public init(byteCount: Int) {
    self.byteCount = byteCount
    pointer = apus_allocate(byteCount)
    owner = nil
  }

  /// Memory of somebody else, such as a mapped file: it is only read, and lives as long as `owner`.
  package init(borrowing memory: UnsafeRawBufferPointer, owner: AnyObject) {
    byteCount = memory.count
    // No bytes have no address; nobody reads them.
    pointer = UnsafeMutableRawPointer(mutating: memory.baseAddress ?? UnsafeRawPointer(bitPattern: 64).unsafelyUnwrapped)
    self.owner = Unmanaged.passRetained(owner)
  }

  deinit {
    if let owner { owner.release() } else { apus_deallocate(pointer, byteCount) }
  }
}

/// A view of a storage: what the CPU engine computes on.
///
/// `storage` is nil for a value that is not computed yet (traced): then only `type` may be asked for.
public struct CPUArray: Sendable {
  @usableFromInline package var storageReference: Storage?
  @inlinable public var storage: Storage? { storageReference }
  public let byteOffset: Int
  public let shape: Shape
  /// In elements; 0 repeats, negative runs backward.
  public let strides: Shape
  public let elementType: ElementType
  /// Row-major without gaps.
  public let isRowMajor: Bool
  /// Some permutation of row-major without gaps: elementwise work may run over the memory in one go.
  public let isDense: Bool

  @inlinable public var type: TensorType { TensorType(shape, elementType) }
  @inlinable public var elementCount: Int { shape.elementCount }

  /// The address of the element at index 0 of every dimension.
  @inlinable public var pointer: UnsafeMutableRawPointer { storageReference.unsafelyUnwrapped.pointer + byteOffset }

  /// Whether this is the only array that refers to its storage.
  @inlinable public mutating func hasUniqueStorage() -> Bool { isKnownUniquelyReferenced(&storageReference) }

  /// New memory, row-major. Its content is undefined.
  @inlinable public init(uninitialized shape: Shape, _ elementType: ElementType) {
    storageReference = Storage(byteCount: shape.elementCount * elementType.byteSize)
    byteOffset = 0
    self.shape = shape
    strides = shape.rowMajorStrides
    self.elementType = elementType
    isRowMajor = true
    isDense = true
  }

  /// New memory laid out as a dense array `other` is.
  @inlinable public init(uninitializedLike other: CPUArray, _ elementType: ElementType) {
    storageReference = Storage(byteCount: other.shape.elementCount * elementType.byteSize)
    byteOffset = 0
    shape = other.shape
    strides = other.strides
    self.elementType = elementType
    isRowMajor = other.isRowMajor
    isDense = other.isDense
  }

  /// A dense layout that is known, in new memory or over some that nobody else sees. Given field by field, since a whole
  /// array costs a copy and a count to pass.
  @inlinable public init(
    dense shape: Shape, strides: Shape, _ elementType: ElementType, isRowMajor: Bool, over storage: Storage? = nil,
    byteOffset: Int = 0
  ) {
    storageReference = storage ?? Storage(byteCount: shape.elementCount * elementType.byteSize)
    self.byteOffset = byteOffset
    self.shape = shape
    self.strides = strides
    self.elementType = elementType
    self.isRowMajor = isRowMajor
    isDense = true
  }

  /// The same memory read in another way.
  public init(view other: CPUArray, byteOffset: Int? = nil, shape: Shape, strides: Shape, elementType: ElementType? = nil) {
    storageReference = other.storageReference
    self.byteOffset = byteOffset ?? other.byteOffset
    self.shape = shape
    self.strides = strides
    self.elementType = elementType ?? other.elementType
    (isRowMajor, isDense) = CPUArray.classify(shape, strides)
  }

  /// The same memory, known to be row-major, under another shape.
  @inlinable init(rowMajorView other: CPUArray, shape: Shape) {
    storageReference = other.storageReference
    byteOffset = other.byteOffset
    self.shape = shape
    strides = shape.rowMajorStrides
    elementType = other.elementType
    isRowMajor = true
    isDense = true
  }

  /// The result of an elementwise operation written over an operand nobody else sees.
  @inlinable init(over other: CPUArray, _ elementType: ElementType) {
    storageReference = other.storageReference
    byteOffset = other.byteOffset
    shape = other.shape
    strides = other.strides
    self.elementType = elementType
    isRowMajor = other.isRowMajor
    isDense = other.isDense
  }

  /// A value that has a type but no memory.
  public init(abstract type: TensorType) {
    storageReference = nil
    byteOffset = 0
    shape = type.shape
    strides = type.shape.rowMajorStrides
    elementType = type.elementType
    isRowMajor = true
    isDense = true
  }

  static func classify(_ shape: Shape, _ strides: Shape) -> (rowMajor: Bool, dense: Bool) {
    let n = shape.count
    var expected = 1
    var rowMajor = true
    for i in stride(from: n - 1, through: 0, by: -1) where shape[i] != 1 {
      if shape[i] == 0 { return (true, true) }
      if strides[i] != expected { rowMajor = false }
      expected *= shape[i]
    }
    if rowMajor { return (true, true) }
    // Dense: taking dimensions by rising stride, each stride is the product of the sizes before it.
    var taken = 0
    expected = 1
    while true {
      var next = -1
      for i in 0..<n where shape[i] != 1 && taken & (1 << i) == 0 && strides[i] == expected { next = i }
      if next < 0 { break }
      taken |= 1 << next
      expected *= shape[next]
    }
    return (false, (0..<n).allSatisfy { shape[$0] == 1 || taken & (1 << $0) != 0 })
  }

  /// This array, or a row-major copy of it.
  public func rowMajor() -> CPUArray { isRowMajor ? self : copy() }

  /// A row-major copy.
  public func copy() -> CPUArray {
    let result = CPUArray(uninitialized: shape, elementType)
    result.assign(self)
    return result
  }

  /// Whether the memory of the two is ordered alike, so that elementwise work can ignore shapes.
  @inlinable func hasLayout(of other: CPUArray) -> Bool {
    if isRowMajor && other.isRowMajor { return true }
    guard isDense && other.isDense else { return false }
    for i in 0..<shape.count where shape[i] != 1 && strides[i] != other.strides[i] { return false }
    return true
  }

  /// Whether all elements are one element of memory.
  @inlinable var isOneValue: Bool {
    for i in 0..<shape.count where strides[i] != 0 && shape[i] != 1 { return false }
    return true
  }

  /// This array, or a copy ordered in memory as the dense array `other` is.
  func withLayout(of other: CPUArray) -> CPUArray {
    if hasLayout(of: other) { return self }
    let result = CPUArray(uninitializedLike: other, elementType)
    result.assign(self)
    return result
  }

  /// Copies the elements of `source`, of equal shape and type, into this array's memory.
  public func assign(_ source: CPUArray) {
    withDimensions(shape) { dims in
      withByteStrides { to in
        source.withByteStrides { from in
          apus_copy_strided(Int32(shape.count), dims, pointer, to, source.pointer, from, Int64(elementType.byteSize))
        }
      }
    }
  }

  /// Calls `body` with the strides in bytes.
  @inlinable func withByteStrides<R>(_ body: (UnsafePointer<Int64>) -> R) -> R {
    var bytes = strides
    let size = elementType.byteSize
    for i in 0..<bytes.count { bytes[i] *= size }
    return withDimensions(bytes, body)
  }

  /// Calls `body` with what the tile machine takes.
  @inlinable func withView<R>(_ body: (apus_view) -> R) -> R {
    if isRowMajor { return body(apus_view(base: pointer, strides: nil, type: Int32(elementType.rawValue))) }
    return withByteStrides { body(apus_view(base: pointer, strides: $0, type: Int32(elementType.rawValue))) }
  }
}

/// Calls `body` with the sizes of a shape as C's int64_t.
@inlinable func withDimensions<R>(_ shape: Shape, _ body: (UnsafePointer<Int64>) -> R) -> R {
  withUnsafePointer(to: shape.words) { body(UnsafeRawPointer($0).assumingMemoryBound(to: Int64.self)) }
}

extension ElementType {
  @inlinable var code: Int32 { Int32(rawValue) }
}
