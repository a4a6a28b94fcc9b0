import ApusTensor

/// One number for all spatial dimensions, or a list with one for each.
public protocol SpatialSizes: Sendable {
  var spatialSizes: [Int] { get }
}

extension Int: SpatialSizes { public var spatialSizes: [Int] { [self] } }
extension Array: SpatialSizes where Element == Int { public var spatialSizes: [Int] { self } }

/// How a convolution pads: a number, a number for each spatial dimension, `.same` or `.valid`.
public struct Padding: Sendable, Hashable {
  enum Kind: Hashable {
    case same, valid
    case sizes([Int])
  }
  let kind: Kind
}

/// What can be given as a padding.
public protocol PaddingConvertible: Sendable {
  var padding: Padding { get }
}

extension Padding: PaddingConvertible { public var padding: Padding { self } }
extension Int: PaddingConvertible { public var padding: Padding { Padding(kind: .sizes([self])) } }
extension Array: PaddingConvertible where Element == Int { public var padding: Padding { Padding(kind: .sizes(self)) } }

extension PaddingConvertible where Self == Padding {
  /// The output has the input's size; the stride must be 1. Where the total is odd, the end gets one more.
  public static var same: Padding { Padding(kind: .same) }
  /// None.
  public static var valid: Padding { Padding(kind: .valid) }
}

/// `n` numbers from one or `n` given.
func spatial(_ sizes: some SpatialSizes, _ n: Int, _ what: String, _ layer: String) -> [Int] {
  let list = sizes.spatialSizes
  if list.count == 1 { return Array(repeating: list[0], count: n) }
  guard list.count == n else { stop("\(layer): \(what) \(list) needs one number, or \(n)") }
  return list
}

/// A number if all are the same, else the list; for printing.
func brief(_ sizes: [Int]) -> String { sizes.allSatisfy { $0 == sizes[0] } ? "\(sizes[0])" : "\(sizes)" }
