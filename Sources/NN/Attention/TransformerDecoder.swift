import ApusTensor

/// Attention of a sequence to itself, attention to an encoder's output and a network of two layers, each with a residual connection
/// and normalization (Vaswani et al. 2017; with `normFirst` as Xiong et al. 2020); PyTorch's TransformerDecoderLayer.
public final class TransformerDecoderLayer: Module {
  public let selfAttn, multiheadAttn: MultiheadAttention
  public let linear1, linear2: Linear
  public let norm1, norm2, norm3: LayerNorm
  public let normFirst: Bool
  private let activation: @Sendable (Tensor) -> Tensor
  private let dropout: Dropout

  /// - Parameters:
  ///   - dim: the size of inputs and outputs.
  ///   - feedforwardDim: the size between the two linear layers.
  ///   - dropout: of what attentions and network add, and between the two linear layers.
  ///   - attentionDropout: of the attentions' weights, which are then held; PyTorch's layer uses `dropout` for them too.
  ///   - normFirst: normalize before attentions and network instead of after their residual connections.
  public init(
    _ dim: Int, _ heads: Int, feedforwardDim: Int = 2048, dropout: Double = 0.1,
    activation: @escaping @Sendable (Tensor) -> Tensor = { relu($0) }, epsilon: Double = 1e-5, batchFirst: Bool = false,
    normFirst: Bool = false, bias: Bool = true, attentionDropout: Double = 0, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    func attention() -> MultiheadAttention {
      MultiheadAttention(
        dim, heads, dropout: attentionDropout, bias: bias, batchFirst: batchFirst, elementType: elementType, generator: generator)
    }
    func norm() -> LayerNorm { LayerNorm(dim, epsilon: epsilon, bias: bias, elementType: elementType) }
    (selfAttn, multiheadAttn) = (attention(), attention())
    linear1 = Linear(dim, feedforwardDim, bias: bias, elementType: elementType, generator: generator)
    linear2 = Linear(feedforwardDim, dim, bias: bias, elementType: elementType, generator: generator)
    (norm1, norm2, norm3) = (norm(), norm(), norm())
    self.normFirst = normFirst
    self.activation = activation
    self.dropout = Dropout(dropout, generator: generator)
  }

  /// - Parameters:
  ///   - tgt: [positions, batch, dim], or with the first two exchanged if the layer is batch first.
  ///   - memory: the encoder's output, alike.
  ///   - tgtMask, memoryMask, tgtKeyPaddingMask, memoryKeyPaddingMask: the `attnMask` and `keyPaddingMask` of
  ///     ``MultiheadAttention``: a bool is true where hidden.
  ///   - tgtCausal, memoryCausal: no position sees a later one.
  public func callAsFunction(
    _ tgt: Tensor, _ memory: Tensor, tgtMask: Tensor? = nil, memoryMask: Tensor? = nil, tgtKeyPaddingMask: Tensor? = nil,
    memoryKeyPaddingMask: Tensor? = nil, tgtCausal: Bool = false, memoryCausal: Bool = false
  ) -> Tensor {
    func attended(_ x: Tensor) -> Tensor {
      dropout(selfAttn(x, keyPaddingMask: tgtKeyPaddingMask, attnMask: tgtMask, causal: tgtCausal))
    }
    func crossed(_ x: Tensor) -> Tensor {
      dropout(
        multiheadAttn(x, memory, memory, keyPaddingMask: memoryKeyPaddingMask, attnMask: memoryMask, causal: memoryCausal))
    }
    func transformed(_ x: Tensor) -> Tensor { dropout(linear2(dropout(activation(linear1(x))))) }
    if normFirst {
      let y = tgt + attended(norm1(tgt))
      let z = y + crossed(norm2(y))
      return recorded(z + transformed(norm3(z)))
    }
    let y = norm1(tgt + attended(tgt))
    let z = norm2(y + crossed(y))
    return recorded(norm3(z + transformed(z)))
  }
}

/// Decoder layers one on another; PyTorch's TransformerDecoder.
public final class TransformerDecoder: Module {
  public let layers: [TransformerDecoderLayer]
  public let norm: LayerNorm?

  /// - Parameters:
  ///   - count: how many layers.
  ///   - norm: what the last layer's output goes through.
  ///   - make: makes a layer; each is called for once, so that they begin with parameters of their own.
  public init(_ count: Int, norm: LayerNorm? = nil, _ make: () -> TransformerDecoderLayer) {
    guard count >= 0 else { stop("TransformerDecoder: \(count) layers") }
    layers = (0..<count).map { _ in make() }
    self.norm = norm
  }

  /// Parameters: see ``TransformerDecoderLayer``.
  public func callAsFunction(
    _ tgt: Tensor, _ memory: Tensor, tgtMask: Tensor? = nil, memoryMask: Tensor? = nil, tgtKeyPaddingMask: Tensor? = nil,
    memoryKeyPaddingMask: Tensor? = nil, tgtCausal: Bool = false, memoryCausal: Bool = false
  ) -> Tensor {
    let y = layers.reduce(tgt) {
      $1(
        $0, memory, tgtMask: tgtMask, memoryMask: memoryMask, tgtKeyPaddingMask: tgtKeyPaddingMask,
        memoryKeyPaddingMask: memoryKeyPaddingMask, tgtCausal: tgtCausal, memoryCausal: memoryCausal)
    }
    return recorded(norm?(y) ?? y)
  }
}
