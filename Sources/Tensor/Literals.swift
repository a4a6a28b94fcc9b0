/// Numbers written down as nested lists: what `Tensor([[1, 2], [3, 4]])` takes.
///
/// Numbers become float32 whether or not they have a fraction, truth values bool; another type can be named.
/// (An array held in a variable keeps its own element type: see ``Tensor/init(_:_:)``.)
public struct TensorLiteral: Sendable {
  fileprivate enum Content: Sendable {
    case number(Scalar)
    case list([TensorLiteral])
  }
  fileprivate let content: Content

  public static var infinity: TensorLiteral { TensorLiteral(floatLiteral: .infinity) }
  public static var nan: TensorLiteral { TensorLiteral(floatLiteral: .nan) }

  public static prefix func - (x: TensorLiteral) -> TensorLiteral {
    switch x.content {
    case .number(let scalar): TensorLiteral(floatLiteral: -scalar.double)
    case .list(let items): TensorLiteral(content: .list(items.map { -$0 }))
    }
  }

  private init(content: Content) { self.content = content }
}

extension TensorLiteral: ExpressibleByArrayLiteral, ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByBooleanLiteral
{
  public init(arrayLiteral elements: TensorLiteral...) { content = .list(elements) }
  public init(floatLiteral value: Double) { content = .number(.double(value)) }
  public init(integerLiteral value: Int) { content = .number(.int(value)) }
  public init(booleanLiteral value: Bool) { content = .number(.bool(value)) }
}

/// Collects the elements of nested lists and checks that lists at one depth have one length.
private struct NestedReader<Element> {
  var shape: [Int] = []
  var elements: [Element] = []
  /// Whether the depth of the numbers is known: they all must lie there.
  var depth: Int?

  mutating func enter(_ count: Int, at path: [Int]) {
    if let depth, path.count >= depth { stop("Tensor: element \(path) is a list where others are numbers") }
    guard path.count < Shape.maxRank else { stop("Tensor: lists nested deeper than \(Shape.maxRank)") }
    if path.count == shape.count {
      shape.append(count)
    } else if shape[path.count] != count {
      let place = path.isEmpty ? "the list" : "the list at \(path)"
      stop("Tensor: ragged lists: \(place) has length \(count), those before it \(shape[path.count])")
    }
    if count == 0 && depth == nil { depth = path.count + 1 }
  }

  mutating func add(_ element: Element, at path: [Int]) {
    if path.count != shape.count { stop("Tensor: element \(path) is a number where others are lists") }
    depth = path.count
    elements.append(element)
  }
}

extension Tensor {
  /// A tensor written down: `Tensor([[1, 2], [3, 4]])`, float32 unless another type is named.
  public init(_ literal: TensorLiteral, _ type: ElementType? = nil) {
    var reader = NestedReader<Scalar>()
    func read(_ literal: TensorLiteral, _ path: [Int]) {
      switch literal.content {
      case .number(let scalar): reader.add(scalar, at: path)
      case .list(let items):
        reader.enter(items.count, at: path)
        for (i, item) in items.enumerated() { read(item, path + [i]) }
      }
    }
    read(literal, [])
    let shape = Shape(reader.shape)
    let allBool = !reader.elements.isEmpty && reader.elements.allSatisfy { $0.kind == .bool }
    let target = type ?? (allBool ? .bool : .float32)
    if target.isFloatingPoint {
      self = Tensor(reader.elements.map(\.double), shape: shape).converted(to: target)
    } else {
      let integers = reader.elements.map { scalar -> Int in
        switch scalar {
        case .int(let value): value
        case .bool(let value): value ? 1 : 0
        case .double(let value):
          target == .bool
            ? (value != 0 ? 1 : 0) : Int(exactly: value.rounded(.towardZero)) ?? (value.sign == .minus ? .min : .max)
        }
      }
      self = Tensor(integers, shape: shape).converted(to: target)
    }
  }
}

// Not by numbers: with `sqrt(2)` meaning a tensor too, it would be ambiguous beside Foundation's, and `1 << 4` a tensor.
extension Tensor: ExpressibleByArrayLiteral {
  public init(arrayLiteral elements: TensorLiteral...) { self.init(TensorLiteral(list: elements)) }
}

extension TensorLiteral {
  fileprivate init(list: [TensorLiteral]) { self.init(content: .list(list)) }
}

/// An element, or arrays of them to any depth.
public protocol NestedElements: Sendable {
  associatedtype Leaf: TensorElement
  /// Calls `list` for each array before its items and `leaf` for each element, both with the path to it.
  func visit(_ path: [Int], list: (Int, [Int]) -> Void, leaf: (Leaf, [Int]) -> Void)
}

extension TensorElement {
  public func visit(_ path: [Int], list: (Int, [Int]) -> Void, leaf: (Self, [Int]) -> Void) { leaf(self, path) }
}

extension Array: NestedElements where Element: NestedElements {
  public typealias Leaf = Element.Leaf
  public func visit(_ path: [Int], list: (Int, [Int]) -> Void, leaf: (Element.Leaf, [Int]) -> Void) {
    list(count, path)
    for (i, item) in enumerated() { item.visit(path + [i], list: list, leaf: leaf) }
  }
}

extension Tensor {
  /// A tensor of the elements of an array, or of arrays nested to any depth; of the elements' own type unless
  /// another is named.
  @_disfavoredOverload
  public init<Item: NestedElements>(_ nested: [Item], _ type: ElementType? = nil) {
    if let flat = nested as? [Item.Leaf] {
      self = Tensor(flat, shape: [flat.count])
    } else {
      var reader = NestedReader<Item.Leaf>()
      nested.visit([], list: { reader.enter($0, at: $1) }, leaf: { reader.add($0, at: $1) })
      self = Tensor(reader.elements, shape: Shape(reader.shape))
    }
    if let type { self = converted(to: type) }
  }
}
