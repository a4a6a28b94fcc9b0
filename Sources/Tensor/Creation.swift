import ApusCPU
import CApusKernels

/// A number that can stand beside a tensor in an expression.
public protocol TensorScalar: Sendable {
  var tensorScalar: Scalar { get }
}

extension Double: TensorScalar { public var tensorScalar: Scalar { .double(self) } }
extension Float: TensorScalar { public var tensorScalar: Scalar { .double(Double(self)) } }
extension Int: TensorScalar { public var tensorScalar: Scalar { .int(self) } }

/// A type that a tensor's elements can be given as and read as.
public protocol TensorElement: NestedElements where Leaf == Self {
  static var elementType: ElementType { get }
}

extension Bool: TensorElement { public static var elementType: ElementType { .bool } }
extension UInt8: TensorElement { public static var elementType: ElementType { .uint8 } }
extension Int8: TensorElement { public static var elementType: ElementType { .int8 } }
extension Int16: TensorElement { public static var elementType: ElementType { .int16 } }
extension Int32: TensorElement { public static var elementType: ElementType { .int32 } }
extension Int64: TensorElement { public static var elementType: ElementType { .int64 } }
extension Int: TensorElement { public static var elementType: ElementType { .int64 } }
extension Float: TensorElement { public static var elementType: ElementType { .float32 } }
extension Double: TensorElement { public static var elementType: ElementType { .float64 } }
#if !((os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64))
  extension Float16: TensorElement { public static var elementType: ElementType { .float16 } }
#endif

extension Tensor {
  /// A tensor of these elements in row-major order, of the elements' own type.
  public init<T: TensorElement>(_ elements: some Collection<T>, shape: Shape) {
    guard elements.count == shape.elementCount else {
      stop("Tensor: \(elements.count) elements do not fill shape \(shape), which has \(shape.elementCount)")
    }
    let array = CPUArray(uninitialized: shape, T.elementType)
    let target = array.pointer.bindMemory(to: T.self, capacity: elements.count)
    var i = 0
    for element in elements {
      (target + i).initialize(to: element)
      i += 1
    }
    self.init(array: array)
  }

  /// A one-dimensional tensor of these elements, of their own type.
  public init<T: TensorElement>(elements: [T]) { self.init(elements, shape: [elements.count]) }

  /// The bytes of elements in row-major order and this machine's byte order.
  public init(bytes: UnsafeRawBufferPointer, shape: Shape, elementType: ElementType) {
    guard bytes.count == shape.elementCount * elementType.byteSize else {
      stop("Tensor: \(bytes.count) bytes do not fill \(elementType)\(shape)")
    }
    let array = CPUArray(uninitialized: shape, elementType)
    if let base = bytes.baseAddress { array.pointer.copyMemory(from: base, byteCount: bytes.count) }
    self.init(array: array)
  }

  /// A tensor whose memory `body` fills, in row-major order and this machine's byte order. It must write every byte: what is
  /// there before is undefined.
  public init<E>(
    uninitialized shape: Shape, _ elementType: ElementType, _ body: (UnsafeMutableRawBufferPointer) throws(E) -> Void
  ) throws(E) {
    let array = CPUArray(uninitialized: shape, elementType)
    try body(UnsafeMutableRawBufferPointer(start: array.pointer, count: shape.elementCount * elementType.byteSize))
    self.init(array: array)
  }

  /// A scalar: float32 for a number with a fraction, int64 for an integer, bool for a truth value.
  public init(_ value: some TensorScalar) {
    let scalar = value.tensorScalar
    self = Tensor.full([], scalar, scalar.defaultElementType)
  }

  public init(_ value: Bool) { self = Tensor.full([], .bool(value), .bool) }

  static func full(_ shape: Shape, _ value: Scalar, _ type: ElementType) -> Tensor {
    apply(.fill(shape, type, value), [])[0]
  }

  /// A tensor of one value.
  public static func full(_ shape: Shape, _ value: some TensorScalar, _ type: ElementType? = nil) -> Tensor {
    full(shape, value.tensorScalar, type ?? value.tensorScalar.defaultElementType)
  }

  public static func zeros(_ shape: Shape, _ type: ElementType = .float32) -> Tensor { full(shape, .int(0), type) }
  public static func ones(_ shape: Shape, _ type: ElementType = .float32) -> Tensor { full(shape, .int(1), type) }

  /// 0, 1, …, count − 1.
  public static func arange(_ count: Int, _ type: ElementType = .int64) -> Tensor {
    guard count >= 0 else { stop("arange: the count \(count) is negative") }
    return apply(.iota([count], type, axis: 0), [])[0]
  }

  /// start, start + step, … below (for a negative step: above) `end`.
  public static func arange(_ start: Double, _ end: Double, step: Double = 1, _ type: ElementType = .float32) -> Tensor {
    guard step != 0, start.isFinite, end.isFinite, step.isFinite else { stop("arange: from \(start) to \(end) by \(step)") }
    let count = Int(Swift.max(0, ((end - start) / step).rounded(.up)))
    let line = apply(.iota([count], .float64, axis: 0), [])[0]
    return (line * step + start).converted(to: type)
  }

  /// Integers from `range` by `step`.
  public static func arange(_ range: Range<Int>, step: Int = 1) -> Tensor {
    guard step > 0 else { stop("arange: the step \(step) is not positive") }
    return arange((range.count + step - 1) / step) * step + range.lowerBound
  }

  /// `count` numbers from `start` to `end`, both included, at equal distances.
  public static func linspace(_ start: Double, _ end: Double, count: Int, _ type: ElementType = .float32) -> Tensor {
    guard count >= 0 else { stop("linspace: the count \(count) is negative") }
    if count == 1 { return full([1], start, type) }
    let line = apply(.iota([count], .float64, axis: 0), [])[0]
    let forward = line * ((end - start) / Double(Swift.max(count - 1, 1))) + start
    return `where`(line .== Double(count - 1), end, forward).converted(to: type)
  }

  /// Ones on the diagonal, zeros elsewhere: [rows, columns].
  public static func eye(_ rows: Int, _ columns: Int? = nil, elementType: ElementType = .float32) -> Tensor {
    let columns = columns ?? rows
    let row = apply(.iota([rows, columns], .int64, axis: 0), [])[0]
    let column = apply(.iota([rows, columns], .int64, axis: 1), [])[0]
    return (row .== column).converted(to: elementType)
  }

  /// One in place of each index along a new last dimension, else zero: [indices' shape…, classes].
  public static func oneHot(_ indices: Tensor, classes: Int, _ type: ElementType = .float32) -> Tensor {
    (indices.expanded(at: -1) .== Tensor.arange(classes)).converted(to: type)
  }
}

public func zerosLike(_ x: Tensor) -> Tensor { Tensor.zeros(x.shape, x.elementType) }
public func onesLike(_ x: Tensor) -> Tensor { Tensor.ones(x.shape, x.elementType) }
public func fullLike(_ x: Tensor, _ value: some TensorScalar) -> Tensor { Tensor.full(x.shape, value, x.elementType) }

extension Scalar {
  var defaultElementType: ElementType {
    switch self {
    case .bool: .bool
    case .int: .int64
    case .double: .float32
    }
  }
}

// MARK: Reading values

extension Tensor {
  /// The only element, converted to `Float`.
  public func item() -> Float { Float(scalarDouble()) }
  /// The only element, converted.
  public func item(as type: Double.Type) -> Double { scalarDouble() }
  public func item(as type: Float.Type) -> Float { Float(scalarDouble()) }
  /// The only element of an integer tensor.
  public func item(as type: Int.Type) -> Int { self.elements(as: Int.self).onlyElement(shape) }
  public func item(as type: Bool.Type) -> Bool { self.elements(as: Bool.self).onlyElement(shape) }

  private func scalarDouble() -> Double { elements(as: Double.self).onlyElement(shape) }

  /// All elements in row-major order, converted.
  public func elements<T: TensorElement>(as type: T.Type) -> [T] {
    let source = CPU.convert(array, T.elementType).rowMajor()
    return withExtendedLifetime(source) {
      Array(UnsafeBufferPointer(start: source.pointer.assumingMemoryBound(to: T.self), count: source.elementCount))
    }
  }

  /// All elements in row-major order as `Float`.
  public var floats: [Float] { elements(as: Float.self) }

  /// Calls `body` with the elements' bytes in row-major order.
  public func withUnsafeBytes<R, E>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    let source = array.rowMajor()
    let bytes = UnsafeRawBufferPointer(start: source.pointer, count: source.elementCount * elementType.byteSize)
    defer { withExtendedLifetime(source) {} }
    return try body(bytes)
  }
}

extension Array {
  fileprivate func onlyElement(_ shape: Shape) -> Element {
    guard count == 1 else { stop("item: a tensor of shape \(shape) has \(count) elements, not one") }
    return self[0]
  }
}
