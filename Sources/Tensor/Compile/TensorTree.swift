/// Values that hold tensors: what compiled functions take and give.
///
/// Tensors, arrays, dictionaries, optionals and numbers are such values. A type of your own becomes one by visiting its
/// parts:
/// ```swift
/// struct Batch: TensorTree {
///   var images, labels: Tensor
///   mutating func visit(_ visitor: inout TensorVisitor) { visitor(&images); visitor(&labels) }
/// }
/// ```
/// Numbers, strings and truth values are part of the program: another value is another program.
public protocol TensorTree {
  /// Hands every tensor and every value that matters to the visitor, always in the same order.
  mutating func visit(_ visitor: inout TensorVisitor)
}

/// What walks over a ``TensorTree``: it notes the tensors, or puts others in their places.
public struct TensorVisitor {
  /// One part of a call's signature.
  enum Part: Hashable {
    /// With a history that gradients through the results can follow, or without.
    case tensor(TensorType, tracked: Bool)
    case value(AnyHashable)
  }

  private(set) var tensors: [Tensor] = []
  private(set) var parts: [Part] = []
  /// What is put in place of the tensors, if anything.
  private var replacements: [Tensor]?
  private var next = 0

  init() {}
  init(replacing tensors: [Tensor]) { replacements = tensors }

  public mutating func callAsFunction(_ tensor: inout Tensor) {
    if let replacements {
      tensor = replacements[next]
      next += 1
      return
    }
    tensors.append(tensor)
    parts.append(.tensor(tensor.type, tracked: tensor.isTracked && isRecording))
  }

  public mutating func callAsFunction<T: TensorTree>(_ tree: inout T) { tree.visit(&self) }

  /// A value that the program depends on.
  public mutating func note(_ value: some Hashable) { if replacements == nil { parts.append(.value(AnyHashable(value))) } }
}

extension TensorVisitor.Part: CustomStringConvertible {
  var description: String {
    switch self {
    case .tensor(let type, let tracked): tracked ? "\(type) with a history" : type.description
    case .value(let value): "\(value)"
    }
  }
}

extension Tensor: TensorTree {
  public mutating func visit(_ visitor: inout TensorVisitor) { visitor(&self) }
}

extension Array: TensorTree where Element: TensorTree {
  public mutating func visit(_ visitor: inout TensorVisitor) {
    visitor.note(count)
    for i in indices { self[i].visit(&visitor) }
  }
}

extension Dictionary: TensorTree where Key: Comparable, Value: TensorTree {
  public mutating func visit(_ visitor: inout TensorVisitor) {
    for key in keys.sorted() {
      visitor.note(key)
      self[key]?.visit(&visitor)
    }
  }
}

extension Optional: TensorTree where Wrapped: TensorTree {
  public mutating func visit(_ visitor: inout TensorVisitor) {
    visitor.note(self != nil)
    self?.visit(&visitor)
  }
}

extension Bool: TensorTree { public mutating func visit(_ visitor: inout TensorVisitor) { visitor.note(self) } }
extension Int: TensorTree { public mutating func visit(_ visitor: inout TensorVisitor) { visitor.note(self) } }
extension Float: TensorTree { public mutating func visit(_ visitor: inout TensorVisitor) { visitor.note(self) } }
extension Double: TensorTree { public mutating func visit(_ visitor: inout TensorVisitor) { visitor.note(self) } }
extension String: TensorTree { public mutating func visit(_ visitor: inout TensorVisitor) { visitor.note(self) } }
