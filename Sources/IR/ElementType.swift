/// The type of a tensor's elements.
///
/// The raw values are those of `apus_type` in the kernels.
public enum ElementType: UInt8, Sendable, CaseIterable, Hashable {
  case bool = 0
  case uint8 = 1
  case int8 = 2
  case int16 = 3
  case int32 = 4
  case int64 = 5
  /// IEEE 754 binary16.
  case float16 = 6
  /// The upper half of a float32: 8 bits of exponent, 7 of fraction.
  case bfloat16 = 7
  case float32 = 8
  case float64 = 9

  /// Bytes per element.
  @inlinable public var byteSize: Int {
    switch self {
    case .bool, .uint8, .int8: 1
    case .int16, .float16, .bfloat16: 2
    case .int32, .float32: 4
    case .int64, .float64: 8
    }
  }

  @inlinable public var isFloatingPoint: Bool { rawValue >= ElementType.float16.rawValue }
  /// Integers; `bool` is not one.
  @inlinable public var isInteger: Bool { rawValue >= ElementType.uint8.rawValue && rawValue <= ElementType.int64.rawValue }
  @inlinable public var isSigned: Bool { self != .bool && self != .uint8 }

  /// The name used in printing, errors and files: `float32`.
  public var name: String {
    switch self {
    case .bool: "bool"
    case .uint8: "uint8"
    case .int8: "int8"
    case .int16: "int16"
    case .int32: "int32"
    case .int64: "int64"
    case .float16: "float16"
    case .bfloat16: "bfloat16"
    case .float32: "float32"
    case .float64: "float64"
    }
  }
}

extension ElementType: CustomStringConvertible {
  public var description: String { name }
}

extension ElementType {
  /// The type two operands are converted to before an arithmetic operation: PyTorch's rules for tensors.
  ///
  /// - Floating point wins over integers, integers over `bool`.
  /// - Within a kind the wider type wins; `float16` with `bfloat16` gives `float32`.
  /// - `uint8` with a signed integer gives the narrowest signed integer that holds both (`int16` for `int8`).
  public static func promote(_ a: ElementType, _ b: ElementType) -> ElementType {
    if a == b { return a }
    switch (a.isFloatingPoint, b.isFloatingPoint) {
    case (true, false): return a
    case (false, true): return b
    case (true, true):
      if a.byteSize == b.byteSize { return .float32 }  // float16 with bfloat16
      return a.byteSize > b.byteSize ? a : b
    case (false, false):
      if a == .bool { return b }
      if b == .bool { return a }
      if a == .uint8 || b == .uint8 {
        let signed = a == .uint8 ? b : a
        return signed == .int8 ? .int16 : signed
      }
      return a.byteSize > b.byteSize ? a : b
    }
  }

  /// The type of the result of an operation between a tensor of this type and a number of Swift's.
  ///
  /// A number is weaker than a tensor: it changes the type only when it is of a higher kind (a fraction
  /// meeting integers gives `float32`, an integer meeting `bool` gives `int64`), as in PyTorch.
  public func promoted(withScalarOfKind kind: ScalarKind) -> ElementType {
    switch kind {
    case .bool: self
    case .integer: self == .bool ? .int64 : self
    case .floatingPoint: isFloatingPoint ? self : .float32
    }
  }

  /// The kind of a number of Swift's, which decides how it meets a tensor.
  public enum ScalarKind: Sendable { case bool, integer, floatingPoint }
}
