import ApusTensor

/// Layers one after another. Their names are their places: `0.weight`.
///
/// ```swift
/// let net = Sequential {
///   Conv2d(32, kernelSize: 3); BatchNorm2d(); ReLU(); MaxPool2d(2)
///   Flatten(); Linear(10)
/// }
/// ```
/// Layers without an input size take it from their first input.
public final class Sequential: Module, Layer {
  public let layers: [any Layer]

  public init(_ layers: [any Layer]) { self.layers = layers }

  public convenience init(_ layers: any Layer...) { self.init(layers) }

  /// - Parameter input: the shape of one sample, without the batch dimension: sizes the layers at once.
  public convenience init(input: Shape? = nil, @SequentialBuilder _ layers: () -> [any Layer]) {
    self.init(layers())
    if let input { build(input: input) }
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    var x = received(x)
    for layer in layers { x = layer.invoked(x) }
    return recorded(x)
  }

  public var count: Int { layers.count }
  public subscript(index: Int) -> any Layer { layers[index] }

  override var members: [Member] { layers.enumerated().map { Member(String($0.offset), $0.element) } }
}

/// Makes a list of layers from statements, with `if` and `for`.
@resultBuilder
public enum SequentialBuilder {
  public static func buildExpression(_ layer: any Layer) -> [any Layer] { [layer] }
  public static func buildExpression(_ layers: [any Layer]) -> [any Layer] { layers }
  public static func buildBlock(_ parts: [any Layer]...) -> [any Layer] { parts.flatMap { $0 } }
  public static func buildOptional(_ part: [any Layer]?) -> [any Layer] { part ?? [] }
  public static func buildEither(first part: [any Layer]) -> [any Layer] { part }
  public static func buildEither(second part: [any Layer]) -> [any Layer] { part }
  public static func buildArray(_ parts: [[any Layer]]) -> [any Layer] { parts.flatMap { $0 } }
}
