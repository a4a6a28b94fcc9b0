/// What can stand between the brackets of `x[…]`: one or more of these.
///
/// - an integer: picks one element of an axis, which disappears;
/// - a range (`1..<3`, `1...2`, `1...`, `..<2`, `...2`, `...`): keeps these elements of the axis;
/// - `stride(from:to:by:)`, `(1...).by(2)` or `.slice(1, -1, 2)`: keeps elements at a step, which may be negative;
/// - `.newAxis`: a new dimension of size 1; `.ellipsis` (or `...`): all axes that are not named otherwise;
/// - an integer tensor or array: picks elements in its order (NumPy's rules for several of them);
/// - a bool tensor or array: keeps what is true.
///
/// An index below zero counts from the end: −1 is the last element. A range of Swift's is its elements, so
/// `-3 ..< -1` and `-2...(-1)` work, and `..<(-1)` is all but the last. But `1 ..< -1` is no range in Swift (it
/// stops the program itself): write `x[.slice(1, -1)]`, all but the first and the last.
public protocol TensorIndex {
  var indexComponent: IndexComponent { get }
}

/// One index of a subscript, as the ``TensorIndex`` types describe themselves.
public struct IndexComponent: Sendable {
  enum Kind: Sendable {
    case at(Int)
    /// Below zero: from the end. `upper` nil: to the end.
    case range(lower: Int, upper: Int?, step: Int)
    /// Python's start:stop:step.
    case slice(start: Int?, end: Int?, step: Int)
    case progression(first: Int, count: Int, step: Int)
    case newAxis
    case ellipsis
    case tensor(Tensor)
  }
  let kind: Kind

  init(_ kind: Kind) { self.kind = kind }
}

extension IndexComponent: TensorIndex {
  public var indexComponent: IndexComponent { self }
}

extension TensorIndex where Self == IndexComponent {
  /// A new dimension of size 1.
  public static var newAxis: IndexComponent { IndexComponent(.newAxis) }
  /// As many whole axes as the other indices leave.
  public static var ellipsis: IndexComponent { IndexComponent(.ellipsis) }

  /// Python's `start:end:step`: nil is as far as there are elements, below zero counts from the end.
  public static func slice(_ start: Int?, _ end: Int? = nil, _ step: Int = 1) -> IndexComponent {
    guard step != 0 else { stop("subscript: a slice with step 0") }
    return IndexComponent(.slice(start: start, end: end, step: step))
  }
}

extension Int: TensorIndex {
  public var indexComponent: IndexComponent { IndexComponent(.at(self)) }
}

/// A range of an axis.
public protocol TensorIndexRange: TensorIndex {
  /// Its lower bound, and the one it stays below (nil: none).
  var indexBounds: (lower: Int, upper: Int?) { get }
}

extension TensorIndexRange {
  public var indexComponent: IndexComponent { by(1) }

  /// Every `step`-th element of the range; with a negative step from its last element backward.
  public func by(_ step: Int) -> IndexComponent {
    guard step != 0 else { stop("subscript: a range by step 0") }
    let (lower, upper) = indexBounds
    return IndexComponent(.range(lower: lower, upper: upper, step: step))
  }
}

extension Range: TensorIndex, TensorIndexRange where Bound == Int {
  public var indexBounds: (lower: Int, upper: Int?) { (lowerBound, upperBound) }
}
extension ClosedRange: TensorIndex, TensorIndexRange where Bound == Int {
  public var indexBounds: (lower: Int, upper: Int?) { (lowerBound, upperBound + 1) }
}
extension PartialRangeFrom: TensorIndex, TensorIndexRange where Bound == Int {
  public var indexBounds: (lower: Int, upper: Int?) { (lowerBound, nil) }
}
extension PartialRangeUpTo: TensorIndex, TensorIndexRange where Bound == Int {
  public var indexBounds: (lower: Int, upper: Int?) { (0, upperBound) }
}
extension PartialRangeThrough: TensorIndex, TensorIndexRange where Bound == Int {
  public var indexBounds: (lower: Int, upper: Int?) { (0, upperBound == -1 ? nil : upperBound + 1) }
}

extension IndexComponent {
  fileprivate init(elements: some Sequence<Int>) {
    var iterator = elements.makeIterator()
    guard let first = iterator.next() else {
      self.init(.progression(first: 0, count: 0, step: 1))
      return
    }
    var (count, step) = (1, 1)
    if let second = iterator.next() {
      step = second - first
      count = 2
      while iterator.next() != nil { count += 1 }
    }
    self.init(.progression(first: first, count: count, step: step))
  }
}

extension StrideTo: TensorIndex where Element == Int {
  public var indexComponent: IndexComponent { IndexComponent(elements: self) }
}
extension StrideThrough: TensorIndex where Element == Int {
  public var indexComponent: IndexComponent { IndexComponent(elements: self) }
}

extension Tensor: TensorIndex {
  public var indexComponent: IndexComponent { IndexComponent(.tensor(self)) }
}
/// Arrays of `Int` pick, arrays of `Bool` keep; nested ones have several dimensions.
extension Array: TensorIndex where Element: NestedElements {
  public var indexComponent: IndexComponent { IndexComponent(.tensor(Tensor(self))) }
}
