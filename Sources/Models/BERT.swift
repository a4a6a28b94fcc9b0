import ApusNN
import ApusTensor

/// BERT's encoder (Devlin et al. 2019): token ids [batch, positions] → states [batch, positions, dim].
///
/// Post-norm blocks, gelu by erf, one projection for queries, keys and values. Parameters: word, position, segment, norm,
/// blocks.0.attention.qkv …; initially normal with deviation 0.02.
public final class BERT: Module {
  public struct Configuration: Sendable, Hashable {
    public var vocabulary, positions, segments, dim, heads, layers: Int
    public var epsilon: Double
    public var elementType: ElementType

    /// Sizes of BERT-base unless given.
    public init(
      vocabulary: Int = 30_522, positions: Int = 512, segments: Int = 2, dim: Int = 768, heads: Int = 12, layers: Int = 12,
      epsilon: Double = 1e-12, elementType: ElementType = .float32
    ) {
      self.vocabulary = vocabulary
      self.positions = positions
      self.segments = segments
      self.dim = dim
      self.heads = heads
      self.layers = layers
      self.epsilon = epsilon
      self.elementType = elementType
    }

    /// 12 layers of 768, 110 million parameters.
    public static let base = Configuration()
  }

  public let configuration: Configuration
  private let word, position, segment: Embedding
  private let norm: LayerNorm
  private let blocks: [TransformerBlock]

  public init(_ configuration: Configuration = .base, generator: Generator = .default) {
    let c = configuration
    self.configuration = c
    word = normalEmbedding(c.vocabulary, c.dim, 0.02, c.elementType, generator)
    position = normalEmbedding(c.positions, c.dim, 0.02, c.elementType, generator)
    segment = normalEmbedding(c.segments, c.dim, 0.02, c.elementType, generator)
    norm = LayerNorm(c.dim, epsilon: c.epsilon, elementType: c.elementType)
    blocks = (0..<c.layers).map { _ in
      TransformerBlock(
        c.dim, heads: c.heads, preNorm: false, epsilon: c.epsilon, deviation: 0.02, elementType: c.elementType,
        generator: generator)
    }
  }

  /// - Parameters:
  ///   - ids: integers [batch, positions].
  ///   - segments: of the same shape, which sentence each belongs to; all to the first if absent.
  public func callAsFunction(_ ids: Tensor, segments: Tensor? = nil) -> Tensor {
    guard ids.rank == 2, ids.shape[1] <= configuration.positions else {
      stop("BERT: takes ids [batch, up to \(configuration.positions) positions], got shape \(ids.shape)")
    }
    let places = position.weight.value[0..<ids.shape[1]]
    let kinds = segments.map { segment($0) } ?? segment.weight.value[0]
    var x = norm(word(ids) + places + kinds)
    for block in blocks { x = block(x) }
    return recorded(x)
  }
}
