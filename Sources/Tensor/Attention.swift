// Scaled dot-product attention and rotary position embedding.

/// softmax(scale · q kᵀ + mask) v (Vaswani et al. 2017), without ever holding the matrix of scores (Dao et al. 2022).
///
/// Several heads of q may share one of k and v (grouped queries, Ainslie et al. 2023): head h reads number h / (heads / kvHeads).
/// A query that sees no key has a result of zeros, as in PyTorch.
/// - Parameters:
///   - q: [batch, heads, queries, dim].
///   - k: [batch, kvHeads, keys, dim]; `kvHeads` divides `heads`.
///   - v: [batch, kvHeads, keys, valueDim].
///   - mask: broadcast to [batch, heads, queries, keys]; bool, true where the query sees the key, or floating point and added
///     to the scaled scores. The gradient of a mask that is added takes the memory of all scores.
///   - causal: query i sees keys 0 ... i + keys − queries: the last query is at the last key's position, as it is when earlier
///     keys come from a cache. With as many queries as keys this is PyTorch's `is_causal`, which otherwise aligns the first
///     query with the first key; here it is PyTorch's `causal_lower_right`.
///   - scale: 1 / √dim by default.
///   - dropout: of the softmax's values, whose matrix is then held. Where it is used, a query must see a key.
/// - Returns: [batch, heads, queries, valueDim].
public func scaledDotProductAttention(
  _ q: Tensor, _ k: Tensor, _ v: Tensor, mask: Tensor? = nil, causal: Bool = false, scale: Double? = nil, dropout: Double = 0,
  generator: Generator = .default
) -> Tensor {
  guard q.rank == 4, k.rank == 4, v.rank == 4 else {
    stop(
      "scaledDotProductAttention: takes q, k and v of dimensions [batch, heads, positions, dim], got shapes \(q.shape), \(k.shape) and \(v.shape)"
    )
  }
  let scale = scale ?? 1 / Double(q.shape[3]).squareRoot()
  var inputs = [q, k, v]
  if let mask {
    let scores = Shape([q.shape[0], q.shape[1], q.shape[2], k.shape[2]])
    guard Shape.broadcast(mask.shape, scores) == scores else {
      stop("scaledDotProductAttention: a mask of shape \(mask.shape) does not broadcast to scores of shape \(scores)")
    }
    guard mask.elementType == .bool || mask.elementType.isFloatingPoint else {
      stop("scaledDotProductAttention: the mask must be bool or floating point, got \(mask.type)")
    }
    let added = mask.elementType == .bool ? mask : mask.converted(to: q.elementType)
    inputs.append(added.broadcast(to: scores))
  }
  if dropout > 0 {
    return attentionWithWeights(q, k, v, mask: mask, causal: causal, scale: scale, dropout: dropout, generator: generator).output
  }
  return apply(.composite(.attention(scale: scale, causal: causal)), inputs)[0]
}

/// The same with the weights that mix the values, softmax(scale · q kᵀ + mask), [batch, heads, queries, keys].
package func attentionWithWeights(
  _ q: Tensor, _ k: Tensor, _ v: Tensor, mask: Tensor? = nil, causal: Bool = false, scale: Double? = nil, dropout: Double = 0,
  generator: Generator = .default
) -> (output: Tensor, weights: Tensor) {
  guard dropout >= 0 && dropout < 1 else { stop("scaledDotProductAttention: a dropout of \(dropout) is not within 0 and 1") }
  let group = k.shape[1] == 0 ? 1 : q.shape[1] / k.shape[1]
  func perHead(_ x: Tensor) -> Tensor { group == 1 ? x : x.repeated(group, axis: 1) }
  var scores = (q * (scale ?? 1 / Double(q.shape[3]).squareRoot())).matmul(perHead(k).transposed())
  if let mask {
    scores =
      mask.elementType == .bool
      ? `where`(mask.broadcast(to: scores.shape), scores, -Double.infinity) : scores + mask.converted(to: scores.elementType)
  }
  if causal {
    let (queries, keys) = (q.shape[2], k.shape[2])
    let seen = Tensor.arange(keys).expanded(at: 0) .<= Tensor.arange(queries).expanded(at: 1) + (keys - queries)
    scores = `where`(seen.broadcast(to: scores.shape), scores, -Double.infinity)
  }
  var weights = softmax(scores)
  if dropout > 0 {
    let kept = Tensor.bernoulli(weights.shape, probability: 1 - dropout, generator: generator)
    weights = weights * (kept.converted(to: weights.elementType) * (1 / (1 - dropout)))
  }
  return (weights.matmul(perHead(v)), weights)
}

/// Cosines and sines of position · theta^(−2i / dim) for i < dim / 2: the angles of rotary embedding (Su et al. 2021).
/// - Parameters:
///   - positions: any shape.
///   - dim: how many elements of a row are turned; even.
/// - Returns: two tensors of the positions' shape with a last dimension of dim / 2 added.
public func rotaryTables(
  positions: Tensor, dim: Int, theta: Double = 10_000, elementType: ElementType = .float32
) -> (cos: Tensor, sin: Tensor) {
  guard dim >= 0 && dim % 2 == 0 else { stop("rotaryTables: pairs of elements are turned, so \(dim) must be even") }
  let exponents = (0..<(dim / 2)).map { -2 * Double($0) / Double(dim) }
  let rates = pow(Tensor(theta), Tensor(exponents, shape: [dim / 2]))
  let angles = positions.converted(to: .float64).expanded(at: -1) * rates
  return (cos(angles).converted(to: elementType), sin(angles).converted(to: elementType))
}

/// Rotary position embedding (Su et al. 2021): pairs (a, b) of elements of each row become
/// (a cos − b sin, b cos + a sin).
/// - Parameters:
///   - x: […, positions, dim].
///   - cos, sin: broadcast to […, positions, half]: one angle for each pair, see ``rotaryTables(positions:dim:theta:elementType:)``.
///     Elements of a row beyond 2 · half stay as they are.
///   - interleaved: pairs are neighbours (2i, 2i + 1), as in the paper and in GPT-J; else (i, i + half), as in GPT-NeoX and as
///     Llama's weights are published for Hugging Face.
public func rope(_ x: Tensor, cos: Tensor, sin: Tensor, interleaved: Bool = false) -> Tensor {
  guard x.rank > 0, cos.rank > 0, cos.shape == sin.shape else {
    stop("rope: an input of shape \(x.shape) does not go with cos of shape \(cos.shape) and sin of shape \(sin.shape)")
  }
  var rows = x.shape
  rows[x.rank - 1] = cos.shape[cos.rank - 1]
  guard Shape.broadcast(cos.shape, rows) == rows else {
    stop("rope: cos and sin of shape \(cos.shape) do not broadcast to the rows of an input of shape \(x.shape)")
  }
  let type: ElementType = x.elementType == .float64 ? .float64 : .float32
  let tables = [cos, sin].map { $0.converted(to: type).broadcast(to: rows) }
  return apply(.composite(.rope(interleaved: interleaved, inverse: false)), x, tables[0], tables[1])
}

/// Rotary position embedding by position; see ``rope(_:cos:sin:interleaved:)``.
/// - Parameters:
///   - x: […, positions, dim].
///   - positions: broadcast to […, positions]; 0, 1, 2 … by default.
///   - theta: the base of the angles' rates.
///   - dim: how many elements of a row are turned, the first ones; all by default.
public func rope(
  _ x: Tensor, positions: Tensor? = nil, theta: Double = 10_000, dim: Int? = nil, interleaved: Bool = false
) -> Tensor {
  guard x.rank >= 2 else { stop("rope: takes an input of dimensions […, positions, dim], got shape \(x.shape)") }
  let positions = positions ?? Tensor.arange(x.shape[x.rank - 2])
  let type: ElementType = x.elementType == .float64 ? .float64 : .float32
  let tables = rotaryTables(positions: positions, dim: dim ?? x.shape[x.rank - 1], theta: theta, elementType: type)
  return rope(x, cos: tables.cos, sin: tables.sin, interleaved: interleaved)
}
