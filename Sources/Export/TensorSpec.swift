import ApusTensor

/// One size of a tensor that a program takes or gives: a number, or open under a name.
public enum Dimension: Sendable, Hashable {
  case fixed(Int)
  /// Any size within the bounds; the same one wherever the name stands.
  case open(String, ClosedRange<Int>)

  /// Any size from 1.
  public static func open(_ name: String) -> Dimension { .open(name, 1...Dimension.largest) }

  /// The largest size of an open dimension that is not bounded otherwise.
  public static let largest = 1 << 31
}

extension Dimension: ExpressibleByIntegerLiteral, ExpressibleByStringLiteral {
  public init(integerLiteral value: Int) { self = .fixed(value) }
  public init(stringLiteral name: String) { self = .open(name) }
}

extension Dimension: CustomStringConvertible {
  public var description: String {
    switch self {
    case .fixed(let size): "\(size)"
    case .open(let name, _): name
    }
  }
}

/// Shape and element type of a tensor that a program takes, where some sizes may be open: `.float32(["batch", 1, 28, 28])`.
public struct TensorSpec: Sendable, Hashable, CustomStringConvertible {
  public var elementType: ElementType
  public var dimensions: [Dimension]

  public init(_ elementType: ElementType, _ dimensions: [Dimension]) {
    self.elementType = elementType
    self.dimensions = dimensions
  }

  public static func bool(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.bool, dimensions) }
  public static func uint8(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.uint8, dimensions) }
  public static func int8(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.int8, dimensions) }
  public static func int16(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.int16, dimensions) }
  public static func int32(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.int32, dimensions) }
  public static func int64(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.int64, dimensions) }
  public static func float16(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.float16, dimensions) }
  public static func bfloat16(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.bfloat16, dimensions) }
  public static func float32(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.float32, dimensions) }
  public static func float64(_ dimensions: [Dimension]) -> TensorSpec { TensorSpec(.float64, dimensions) }

  public var description: String { "\(elementType)[" + dimensions.map(\.description).joined(separator: ", ") + "]" }

  /// The type with these sizes of the open dimensions.
  func type(_ sizes: [String: Int]) -> TensorType {
    TensorType(
      Shape(
        dimensions.map { dimension in
          switch dimension {
          case .fixed(let size): size
          case .open(let name, _): sizes[name] ?? 0
          }
        }), elementType)
  }
}
