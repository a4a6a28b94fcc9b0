import ApusTensor

/// An encoder and a decoder that attends to what the encoder made of another sequence (Vaswani et al. 2017); PyTorch's Transformer.
///
/// Parameters under `encoder` and `decoder`, each with a last normalization; matrices are initially Xavier uniform.
public final class Transformer: Module {
  public let encoder: TransformerEncoder
  public let decoder: TransformerDecoder
  public let dim, heads: Int

  /// - Parameters:
  ///   - dim: the size of inputs and outputs.
  ///   - others: see ``TransformerEncoderLayer``.
  public init(
    _ dim: Int = 512, _ heads: Int = 8, encoderLayers: Int = 6, decoderLayers: Int = 6, feedforwardDim: Int = 2048,
    dropout: Double = 0.1, activation: @escaping @Sendable (Tensor) -> Tensor = { relu($0) }, epsilon: Double = 1e-5,
    batchFirst: Bool = false, normFirst: Bool = false, bias: Bool = true, attentionDropout: Double = 0,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    (self.dim, self.heads) = (dim, heads)
    func norm() -> LayerNorm { LayerNorm(dim, epsilon: epsilon, bias: bias, elementType: elementType) }
    encoder = TransformerEncoder(encoderLayers, norm: norm()) {
      TransformerEncoderLayer(
        dim, heads, feedforwardDim: feedforwardDim, dropout: dropout, activation: activation, epsilon: epsilon,
        batchFirst: batchFirst, normFirst: normFirst, bias: bias, attentionDropout: attentionDropout, elementType: elementType,
        generator: generator)
    }
    decoder = TransformerDecoder(decoderLayers, norm: norm()) {
      TransformerDecoderLayer(
        dim, heads, feedforwardDim: feedforwardDim, dropout: dropout, activation: activation, epsilon: epsilon,
        batchFirst: batchFirst, normFirst: normFirst, bias: bias, attentionDropout: attentionDropout, elementType: elementType,
        generator: generator)
    }
    super.init()
    for parameter in parameters where parameter.shape.count > 1 {
      parameter.initialize(.xavierUniform(), generator: generator)
    }
  }

  /// - Parameters:
  ///   - src: [source positions, batch, dim]; `tgt`: [target positions, batch, dim]; each with the first two exchanged if the
  ///     layers are batch first.
  ///   - srcMask, tgtMask, memoryMask, and the key padding masks: those of ``MultiheadAttention``: a bool is true where hidden.
  ///   - srcCausal, tgtCausal, memoryCausal: no position sees a later one.
  /// - Returns: of the target's shape.
  public func callAsFunction(
    _ src: Tensor, _ tgt: Tensor, srcMask: Tensor? = nil, tgtMask: Tensor? = nil, memoryMask: Tensor? = nil,
    srcKeyPaddingMask: Tensor? = nil, tgtKeyPaddingMask: Tensor? = nil, memoryKeyPaddingMask: Tensor? = nil,
    srcCausal: Bool = false, tgtCausal: Bool = false, memoryCausal: Bool = false
  ) -> Tensor {
    let memory = encoder(src, mask: srcMask, srcKeyPaddingMask: srcKeyPaddingMask, causal: srcCausal)
    return recorded(
      decoder(
        tgt, memory, tgtMask: tgtMask, memoryMask: memoryMask, tgtKeyPaddingMask: tgtKeyPaddingMask,
        memoryKeyPaddingMask: memoryKeyPaddingMask, tgtCausal: tgtCausal, memoryCausal: memoryCausal))
  }

  /// What hides later positions, as PyTorch makes it: float32 [size, size], −∞ above the diagonal, else 0.
  public static func generateSquareSubsequentMask(_ size: Int) -> Tensor {
    let later = Tensor.arange(size).expanded(at: 0) .> Tensor.arange(size).expanded(at: 1)
    return `where`(later, -Double.infinity, Tensor.zeros([size, size]))
  }

  override var members: [Member] { [Member("encoder", encoder), Member("decoder", decoder)] }
  override var arguments: String { "\(dim), \(heads)" }
}
