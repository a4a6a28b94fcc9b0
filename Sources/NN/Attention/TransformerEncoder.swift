import ApusTensor

/// Attention of a sequence to itself and a network of two layers, each with a residual connection and normalization
/// (Vaswani et al. 2017; with `normFirst` as Xiong et al. 2020); PyTorch's TransformerEncoderLayer.
public final class TransformerEncoderLayer: Module {
  public let selfAttn: MultiheadAttention
  public let linear1, linear2: Linear
  public let norm1, norm2: LayerNorm
  public let normFirst: Bool
  private let activation: @Sendable (Tensor) -> Tensor
  private let dropout: Dropout

  /// - Parameters:
  ///   - dim: the size of inputs and outputs.
  ///   - feedforwardDim: the size between the two linear layers.
  ///   - dropout: of what attention and network add, and between the two linear layers.
  ///   - attentionDropout: of the attention's weights, which are then held; PyTorch's layer uses `dropout` for them too.
  ///   - normFirst: normalize before attention and network instead of after their residual connections.
  public init(
    _ dim: Int, _ heads: Int, feedforwardDim: Int = 2048, dropout: Double = 0.1,
    activation: @escaping @Sendable (Tensor) -> Tensor = { relu($0) }, epsilon: Double = 1e-5, batchFirst: Bool = false,
    normFirst: Bool = false, bias: Bool = true, attentionDropout: Double = 0, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    selfAttn = MultiheadAttention(
      dim, heads, dropout: attentionDropout, bias: bias, batchFirst: batchFirst, elementType: elementType, generator: generator)
    linear1 = Linear(dim, feedforwardDim, bias: bias, elementType: elementType, generator: generator)
    linear2 = Linear(feedforwardDim, dim, bias: bias, elementType: elementType, generator: generator)
    norm1 = LayerNorm(dim, epsilon: epsilon, bias: bias, elementType: elementType)
    norm2 = LayerNorm(dim, epsilon: epsilon, bias: bias, elementType: elementType)
    self.normFirst = normFirst
    self.activation = activation
    self.dropout = Dropout(dropout, generator: generator)
  }

  /// - Parameters:
  ///   - x: [positions, batch, dim], or with the first two exchanged if the layer is batch first.
  ///   - srcMask, srcKeyPaddingMask: the `attnMask` and `keyPaddingMask` of ``MultiheadAttention``: a bool is true where hidden.
  ///   - mask, causal: see ``MultiheadAttention``: a bool is true where seen.
  public func callAsFunction(
    _ x: Tensor, srcMask: Tensor? = nil, srcKeyPaddingMask: Tensor? = nil, mask: Tensor? = nil, causal: Bool = false
  ) -> Tensor {
    func attended(_ x: Tensor) -> Tensor {
      dropout(selfAttn(x, keyPaddingMask: srcKeyPaddingMask, attnMask: srcMask, mask: mask, causal: causal))
    }
    func transformed(_ x: Tensor) -> Tensor { dropout(linear2(dropout(activation(linear1(x))))) }
    if normFirst {
      let y = x + attended(norm1(x))
      return recorded(y + transformed(norm2(y)))
    }
    let y = norm1(x + attended(x))
    return recorded(norm2(y + transformed(y)))
  }
}

/// Encoder layers one on another; PyTorch's TransformerEncoder.
public final class TransformerEncoder: Module {
  public let layers: [TransformerEncoderLayer]
  public let norm: LayerNorm?

  /// - Parameters:
  ///   - count: how many layers.
  ///   - norm: what the last layer's output goes through.
  ///   - make: makes a layer; each is called for once, so that they begin with parameters of their own.
  public init(_ count: Int, norm: LayerNorm? = nil, _ make: () -> TransformerEncoderLayer) {
    guard count >= 0 else { stop("TransformerEncoder: \(count) layers") }
    layers = (0..<count).map { _ in make() }
    self.norm = norm
  }

  /// - Parameters:
  ///   - src: [positions, batch, dim], or with the first two exchanged if the layers are batch first.
  ///   - mask, srcKeyPaddingMask: the `attnMask` and `keyPaddingMask` of ``MultiheadAttention``: a bool is true where hidden.
  ///   - causal: no position sees a later one.
  public func callAsFunction(
    _ src: Tensor, mask: Tensor? = nil, srcKeyPaddingMask: Tensor? = nil, causal: Bool = false
  ) -> Tensor {
    let y = layers.reduce(src) { $1($0, srcMask: mask, srcKeyPaddingMask: srcKeyPaddingMask, causal: causal) }
    return recorded(norm?(y) ?? y)
  }
}
