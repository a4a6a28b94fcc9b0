import ApusNN
import ApusTensor

/// GPT-2 (Radford et al. 2019): token ids [batch, positions] → logits of the next tokens [batch, positions, vocabulary].
///
/// Pre-norm blocks, gelu by its tanh, one projection for queries, keys and values; the head is the table of words. Parameters:
/// word, position, norm, blocks.0.attention.qkv …; initially normal with deviation 0.02, divided by √(2 · layers) where a block
/// adds to the residual stream.
public final class GPT2: Module {
  public struct Configuration: Sendable, Hashable {
    public var vocabulary, positions, dim, heads, layers: Int
    public var epsilon: Double
    public var elementType: ElementType

    /// Sizes of GPT-2 small unless given.
    public init(
      vocabulary: Int = 50_257, positions: Int = 1024, dim: Int = 768, heads: Int = 12, layers: Int = 12, epsilon: Double = 1e-5,
      elementType: ElementType = .float32
    ) {
      self.vocabulary = vocabulary
      self.positions = positions
      self.dim = dim
      self.heads = heads
      self.layers = layers
      self.epsilon = epsilon
      self.elementType = elementType
    }

    /// 12 layers of 768, 124 million parameters.
    public static let small = Configuration()
  }

  public let configuration: Configuration
  private let word, position: Embedding
  private let blocks: [TransformerBlock]
  private let norm: LayerNorm

  public init(_ configuration: Configuration = .small, generator: Generator = .default) {
    let c = configuration
    self.configuration = c
    word = normalEmbedding(c.vocabulary, c.dim, 0.02, c.elementType, generator)
    position = normalEmbedding(c.positions, c.dim, 0.02, c.elementType, generator)
    let residual = 0.02 / Double(2 * c.layers).squareRoot()
    blocks = (0..<c.layers).map { _ in
      TransformerBlock(
        c.dim, heads: c.heads, preNorm: true, epsilon: c.epsilon, deviation: 0.02, outDeviation: residual,
        elementType: c.elementType, generator: generator)
    }
    norm = LayerNorm(c.dim, epsilon: c.epsilon, elementType: c.elementType)
  }

  /// - Parameter ids: integers [batch, positions].
  public func callAsFunction(_ ids: Tensor) -> Tensor {
    check(ids)
    var x = word(ids) + position.weight.value[0..<ids.shape[1]]
    for block in blocks { x = block(x, causal: true) }
    return recorded(linear(norm(x), word.weight.value))
  }

  // MARK: Decoding

  /// An empty cache of keys and values for so many positions: for each block [2, batch, heads, length, dim / heads].
  public func makeCache(batch: Int, length: Int) -> [Tensor] {
    let c = configuration
    guard length <= c.positions else { stop("GPT2: a cache of \(length) positions; the model has \(c.positions)") }
    return blocks.map { _ in Tensor.zeros([2, batch, c.heads, length, c.dim / c.heads], c.elementType) }
  }

  /// The most probable token after `ids`, which follow what is in the cache.
  ///
  /// The place is a tensor and the cache has a fixed length, so that one compiled program serves every step.
  /// - Parameters:
  ///   - ids: integers [batch, positions].
  ///   - position: where the first of them stands, an integer []; with them the cache's length must not be exceeded.
  ///   - cache: see ``makeCache(batch:length:)``.
  /// - Returns: int64 [batch, 1], and the cache with the keys and values of `ids`.
  public func decode(_ ids: Tensor, position: Tensor, cache: [Tensor]) -> (token: Tensor, cache: [Tensor]) {
    let (logits, cache) = nextLogits(ids, position: position, cache: cache)
    return (logits.argMax(axis: -1), cache)
  }

  /// As ``decode(_:position:cache:)``, but the logits of the next token, [batch, 1, vocabulary].
  public func nextLogits(_ ids: Tensor, position start: Tensor, cache: [Tensor]) -> (logits: Tensor, cache: [Tensor]) {
    check(ids)
    guard cache.count == blocks.count, cache.allSatisfy({ $0.rank == 5 && $0.shape[3] >= ids.shape[1] }), start.count == 1 else {
      stop("GPT2: takes \(blocks.count) caches of at least \(ids.shape[1]) positions and one position, got \(cache.map(\.shape))")
    }
    let place = start.converted(to: .int64).reshaped([1])
    let positions = Tensor.arange(ids.shape[1]) + place
    let corner = concatenate([Tensor.zeros([3], .int64), place, Tensor.zeros([1], .int64)])
    // A token sees what stands before it, and itself.
    let mask = Tensor.arange(cache.first?.shape[3] ?? 0).expanded(at: 0) .<= positions.expanded(at: 1)
    var x = word(ids) + self.position(positions)
    var updated: [Tensor] = []
    for (block, part) in zip(blocks, cache) {
      let (y, new) = block.cached(x, part, start: corner, mask: mask)
      x = y
      updated.append(new)
    }
    let last = x[0..., (ids.shape[1] - 1)...]
    return (linear(norm(last), word.weight.value), updated)
  }

  private func check(_ ids: Tensor) {
    guard ids.rank == 2, (1...configuration.positions).contains(ids.shape[1]) else {
      stop("GPT2: takes ids [batch, up to \(configuration.positions) positions], got shape \(ids.shape)")
    }
  }
}
