import ApusTensor

/// A function as a layer. Parameters that it captures are not the layer's: a module of your own has them as properties.
public final class Lambda: Module, Layer {
  private let function: (Tensor) -> Tensor
  public init(_ function: @escaping (Tensor) -> Tensor) { self.function = function }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(function(received(x))) }
  override var members: [Member] { [] }
}

/// A layer around another one, which it calls; subclasses do something before or after.
open class Wrapper: Module, Layer {
  public final let layer: any Layer
  public init(_ layer: any Layer) { self.layer = layer }
  open func callAsFunction(_ x: Tensor) -> Tensor { recorded(layer.invoked(received(x))) }
}

/// Steps that are to be left out: where all features equal `maskValue` the output is zero. [batch, steps, features…, features].
///
/// Nothing travels with the tensor: ``mask(of:)`` says which steps count, and layers that can leave out steps take it as an argument.
public final class Masking: Module, Layer {
  public let maskValue: Double
  public init(maskValue: Double = 0) { self.maskValue = maskValue }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    return recorded(`where`(mask(of: x).expanded(at: -1), x, 0))
  }

  /// Which steps count: those with a feature that is not `maskValue`; bool [batch, steps].
  public func mask(of x: Tensor) -> Tensor {
    guard x.rank >= 2 else { stop("\(label): takes [batch, steps, features], got shape \(x.shape)") }
    return (x .!= maskValue).any(axis: -1)
  }

  override var members: [Member] { [] }
  override var arguments: String { maskValue == 0 ? "" : "maskValue: \(maskValue)" }
}

extension Embedding {
  /// Which of the indices are not `paddingIndex`: bool of their shape, true where there is none (Keras's `mask_zero`).
  public func mask(of x: Tensor) -> Tensor {
    paddingIndex.map { x .!= $0 } ?? Tensor.full(x.shape, 1, .bool)
  }
}
