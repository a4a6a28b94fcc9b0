/// The size of each dimension of a tensor; at most ``Shape/maxRank`` of them.
///
/// A value without references, so that making and passing shapes costs no allocation.
public struct Shape: Sendable {
  /// The most dimensions a tensor can have.
  public static let maxRank = 8

  @usableFromInline var storage: InlineArray<8, Int>
  @usableFromInline var rank: Int

  /// The shape of a scalar.
  @inlinable public init() {
    storage = InlineArray(repeating: 0)
    rank = 0
  }

  @inlinable public init(repeating size: Int, count: Int) {
    precondition(count <= Shape.maxRank, "a tensor has at most \(Shape.maxRank) dimensions, not \(count)")
    self.init()
    for i in 0..<count { storage[i] = size }
    rank = count
  }

  @inlinable public init(_ dimensions: some Collection<Int>) {
    precondition(dimensions.count <= Shape.maxRank, "a tensor has at most \(Shape.maxRank) dimensions, not \(dimensions.count)")
    self.init()
    for size in dimensions {
      storage[rank] = size
      rank += 1
    }
  }

  /// The numbers as they lie in memory, for kernels.
  @inlinable package var words: InlineArray<8, Int> { storage }

  /// The number of elements. Overflow stops the program; use ``checkedElementCount`` for sizes from outside.
  @inlinable public var elementCount: Int {
    var n = 1
    for i in 0..<rank { n *= storage[i] }
    return n
  }

  /// The number of elements, or nil if a size is negative or the product overflows.
  public var checkedElementCount: Int? {
    var n = 1
    var overflow = false
    for i in 0..<rank {
      if storage[i] < 0 { return nil }
      let (product, over) = n.multipliedReportingOverflow(by: storage[i])
      overflow = overflow || over
      n = over ? Int.max : product
    }
    if (0..<rank).contains(where: { storage[$0] == 0 }) { return 0 }
    return overflow ? nil : n
  }

  /// The strides, in elements, of a dense row-major layout.
  @inlinable public var rowMajorStrides: Shape {
    var strides = Shape(repeating: 1, count: rank)
    var step = 1
    var i = rank - 1
    while i >= 0 {
      strides.storage[i] = step
      step *= Swift.max(storage[i], 1)
      i -= 1
    }
    return strides
  }

  @inlinable public mutating func append(_ size: Int) {
    precondition(rank < Shape.maxRank, "a tensor has at most \(Shape.maxRank) dimensions")
    storage[rank] = size
    rank += 1
  }

  @inlinable public mutating func insert(_ size: Int, at index: Int) {
    precondition(rank < Shape.maxRank, "a tensor has at most \(Shape.maxRank) dimensions")
    var i = rank
    while i > index {
      storage[i] = storage[i - 1]
      i -= 1
    }
    storage[index] = size
    rank += 1
  }

  @discardableResult
  @inlinable public mutating func remove(at index: Int) -> Int {
    precondition(index >= 0 && index < rank)
    let removed = storage[index]
    for i in index..<(rank - 1) { storage[i] = storage[i + 1] }
    rank -= 1
    storage[rank] = 0
    return removed
  }

  /// The shape both operands of an elementwise operation are broadcast to (NumPy's rules), or nil.
  public static func broadcast(_ a: Shape, _ b: Shape) -> Shape? {
    var result = Shape(repeating: 1, count: Swift.max(a.rank, b.rank))
    for i in 0..<result.rank {
      let x = i < a.rank ? a.storage[a.rank - 1 - i] : 1
      let y = i < b.rank ? b.storage[b.rank - 1 - i] : 1
      guard x == y || x == 1 || y == 1 else { return nil }
      result.storage[result.rank - 1 - i] = x == 1 ? y : x
    }
    return result
  }
}

extension Shape: RandomAccessCollection, MutableCollection {
  @inlinable public var startIndex: Int { 0 }
  @inlinable public var endIndex: Int { rank }
  @inlinable public var count: Int { rank }
  @inlinable public subscript(index: Int) -> Int {
    get {
      precondition(index >= 0 && index < rank, "dimension index out of range")
      return storage[index]
    }
    set {
      precondition(index >= 0 && index < rank, "dimension index out of range")
      storage[index] = newValue
    }
  }
}

extension Shape: ExpressibleByArrayLiteral {
  @inlinable public init(arrayLiteral elements: Int...) { self.init(elements) }
}

extension Shape: Hashable {
  @inlinable public static func == (a: Shape, b: Shape) -> Bool {
    guard a.rank == b.rank else { return false }
    for i in 0..<a.rank where a.storage[i] != b.storage[i] { return false }
    return true
  }

  @inlinable public static func == (a: Shape, b: [Int]) -> Bool { a.elementsEqual(b) }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(rank)
    for i in 0..<rank { hasher.combine(storage[i]) }
  }
}

extension Shape: CustomStringConvertible {
  public var description: String { "[" + map(String.init).joined(separator: ", ") + "]" }
}

/// A list of dimension indices, or one number per dimension: the same storage as a shape.
public typealias Axes = Shape

/// What an operation knows of an operand before it runs: shape and element type.
public struct TensorType: Sendable, Hashable, CustomStringConvertible {
  public var shape: Shape
  public var elementType: ElementType

  @inlinable public init(_ shape: Shape, _ elementType: ElementType) {
    self.shape = shape
    self.elementType = elementType
  }

  public var description: String { "\(elementType)\(shape)" }
}
