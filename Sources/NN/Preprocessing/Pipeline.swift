import ApusTensor

/// Preprocessing layers one after another, as one layer; Keras's Pipeline. Its parts are named by their places.
///
/// ```swift
/// let prepare = Pipeline { Rescaling(1 / 255.0); normalization }
/// ```
public final class Pipeline: Module, Layer {
  public let layers: [any Layer]

  public init(_ layers: [any Layer]) { self.layers = layers }

  public convenience init(@SequentialBuilder _ layers: () -> [any Layer]) { self.init(layers()) }

  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(layers.reduce(x) { $1.recorded($1($0)) }) }

  override var members: [Member] { layers.enumerated().map { Member(String($0.offset), $0.element) } }
}
