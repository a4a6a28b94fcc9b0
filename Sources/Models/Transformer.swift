import ApusNN
import ApusTensor

/// Attention of a sequence to itself with several heads (Vaswani et al. 2017): [batch, positions, dim] → the same.
///
/// Parameters: qkv, the projections of queries, keys and values in one, and out.
public final class SelfAttention: Module {
  public let heads: Int
  private let qkv, out: Linear

  /// - Parameter outDeviation: the standard deviation of the initial output projection, where it is not that of the others.
  init(
    _ dim: Int, heads: Int, deviation: Double, outDeviation: Double? = nil, elementType: ElementType, generator: Generator
  ) {
    guard heads > 0, dim % heads == 0 else { stop("SelfAttention: the size \(dim) cannot be divided among \(heads) heads") }
    self.heads = heads
    qkv = normalLinear(dim, 3 * dim, deviation, elementType, generator)
    out = normalLinear(dim, dim, outDeviation ?? deviation, elementType, generator)
  }

  public func callAsFunction(_ x: Tensor, causal: Bool = false) -> Tensor {
    let parts = projected(x).unstacked()
    return recorded(joined(scaledDotProductAttention(parts[0], parts[1], parts[2], causal: causal)))
  }

  /// Attention to what a cache holds, with the new positions added.
  /// - Parameters:
  ///   - x: the new positions, [batch, positions, dim].
  ///   - cache: keys and values, [2, batch, heads, length, dim / heads].
  ///   - start: where the new ones go in the cache, int64 [5].
  ///   - mask: bool [positions, length], true where a new position sees one of the cache.
  /// - Returns: the result for the new positions, and the cache after them.
  func cached(_ x: Tensor, _ cache: Tensor, start: Tensor, mask: Tensor) -> (y: Tensor, cache: Tensor) {
    let parts = projected(x)
    let cache = cache.dynamicUpdateSlice(parts[1..<3], start: start)
    return (joined(scaledDotProductAttention(parts[0], cache[0], cache[1], mask: mask)), cache)
  }

  /// Queries, keys and values, [3, batch, heads, positions, dim / heads].
  private func projected(_ x: Tensor) -> Tensor {
    let (b, s, d) = (x.shape[0], x.shape[1], x.shape[2])
    return qkv(x).reshaped([b, s, 3, heads, d / heads]).transposed([2, 0, 3, 1, 4])
  }

  private func joined(_ y: Tensor) -> Tensor { out(y.transposed(1, 2).flattened(from: 2)) }
}

/// Attention and a network of two layers, each with a residual connection: [batch, positions, dim] → the same.
///
/// Normalized before each (`preNorm`; GPT-2, with gelu by its tanh) or after each residual connection (BERT, with gelu by erf).
/// Parameters: attention.qkv, attention.out, norm1, norm2, up, down.
public final class TransformerBlock: Module {
  public let attention: SelfAttention
  private let norm1, norm2: LayerNorm
  private let up, down: Linear
  private let preNorm: Bool

  init(
    _ dim: Int, heads: Int, preNorm: Bool, epsilon: Double, deviation: Double, outDeviation: Double? = nil,
    elementType: ElementType, generator: Generator
  ) {
    self.preNorm = preNorm
    attention = SelfAttention(
      dim, heads: heads, deviation: deviation, outDeviation: outDeviation, elementType: elementType, generator: generator)
    norm1 = LayerNorm(dim, epsilon: epsilon, elementType: elementType)
    norm2 = LayerNorm(dim, epsilon: epsilon, elementType: elementType)
    up = normalLinear(dim, 4 * dim, deviation, elementType, generator)
    down = normalLinear(4 * dim, dim, outDeviation ?? deviation, elementType, generator)
  }

  public func callAsFunction(_ x: Tensor, causal: Bool = false) -> Tensor {
    if preNorm {
      let y = x + attention(norm1(x), causal: causal)
      return recorded(y + network(norm2(y)))
    }
    let y = norm1(x + attention(x, causal: causal))
    return recorded(norm2(y + network(y)))
  }

  /// A pre-norm block whose attention goes through a cache; see ``GPT2/decode(_:position:cache:)``.
  func cached(_ x: Tensor, _ cache: Tensor, start: Tensor, mask: Tensor) -> (y: Tensor, cache: Tensor) {
    let (attended, cache) = attention.cached(norm1(x), cache, start: start, mask: mask)
    let y = x + attended
    return (y + network(norm2(y)), cache)
  }

  private func network(_ x: Tensor) -> Tensor { down(gelu(up(x), approximate: preNorm)) }
}

/// A linear layer with a normal weight and no initial bias.
private func normalLinear(
  _ inputs: Int, _ outputs: Int, _ deviation: Double, _ elementType: ElementType, _ generator: Generator
) -> Linear {
  let layer = Linear(inputs, outputs, elementType: elementType, generator: generator)
  layer.weight.initialize(.normal(standardDeviation: deviation), generator: generator)
  layer.bias?.initialize(.zeros)
  return layer
}

/// A table of normal vectors.
func normalEmbedding(
  _ count: Int, _ dim: Int, _ deviation: Double, _ elementType: ElementType, _ generator: Generator
) -> Embedding {
  let layer = Embedding(count, dim, elementType: elementType, generator: generator)
  layer.weight.initialize(.normal(standardDeviation: deviation), generator: generator)
  return layer
}
