import ApusTensor

/// Attention with several heads, each over its own projections (Vaswani et al. 2017); PyTorch's MultiheadAttention.
///
/// Parameters: in_proj_weight [3 · dim, dim], the projections of queries, keys and values one below the other, initially Xavier
/// uniform; in_proj_bias [3 · dim] (zeros); out_proj.weight [dim, dim], initially uniform within ± 1 / √dim; out_proj.bias
/// (zeros).
public final class MultiheadAttention: Module {
  public let embedDim, heads: Int
  public let batchFirst: Bool
  public let inProjWeight: Parameter
  public let inProjBias: Parameter?
  public let outProj: Linear

  /// - Parameters:
  ///   - embedDim: the size of inputs and outputs; a multiple of `heads`.
  ///   - batchFirst: inputs and outputs are [batch, positions, dim] instead of [positions, batch, dim].
  public init(
    _ embedDim: Int, _ heads: Int, bias: Bool = true, batchFirst: Bool = false, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    guard embedDim > 0, heads > 0, embedDim % heads == 0 else {
      stop("MultiheadAttention: the size \(embedDim) cannot be divided among \(heads) heads")
    }
    self.embedDim = embedDim
    self.heads = heads
    self.batchFirst = batchFirst
    let xavier = Initializer.xavierUniform()
    inProjWeight = Parameter(xavier([3 * embedDim, embedDim], elementType, generator: generator))
    inProjBias = bias ? Parameter(Tensor.zeros([3 * embedDim], elementType)) : nil
    outProj = Linear(embedDim, embedDim, bias: bias, elementType: elementType, generator: generator)
    outProj.bias?.initialize(.zeros)
  }

  /// Attention of a sequence to itself.
  /// - Parameters:
  ///   - x: [positions, batch, dim], or with the first two exchanged if `batchFirst`.
  ///   - mask, causal: see ``scaledDotProductAttention(_:_:_:mask:causal:scale:)``; a bool is true where a position is seen
  ///     (PyTorch's layer has it the other way round).
  public func callAsFunction(_ x: Tensor, mask: Tensor? = nil, causal: Bool = false) -> Tensor {
    let x = batched(x)
    let (b, s) = (x.shape[0], x.shape[1])
    let all = linear(x, inProjWeight.value, inProjBias?.value).reshaped([b, s, 3, heads, embedDim / heads])
    let parts = all.transposed([2, 0, 3, 1, 4]).unstacked()
    return attend(parts[0], parts[1], parts[2], mask, causal)
  }

  /// Attention of the queries' positions to the keys', whose values are mixed.
  /// - Parameters:
  ///   - query: [queries, batch, dim]; `key` and `value`: [keys, batch, dim]; each with the first two exchanged if `batchFirst`.
  ///   - mask, causal: see ``scaledDotProductAttention(_:_:_:mask:causal:scale:)``; a bool is true where a key is seen
  ///     (PyTorch's layer has it the other way round).
  /// - Returns: of the query's shape.
  public func callAsFunction(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, mask: Tensor? = nil, causal: Bool = false
  ) -> Tensor {
    let weights = inProjWeight.value.chunked(3)
    let biases = inProjBias?.value.chunked(3)
    let parts = [query, key, value].enumerated().map { i, x in
      let x = batched(x)
      let projected = linear(x, weights[i], biases?[i])
      return projected.reshaped([x.shape[0], x.shape[1], heads, embedDim / heads]).transposed(1, 2)
    }
    return attend(parts[0], parts[1], parts[2], mask, causal)
  }

  /// [batch, positions, dim].
  private func batched(_ x: Tensor) -> Tensor {
    guard x.rank == 3, x.shape[2] == embedDim else {
      let order = batchFirst ? "[batch, positions, \(embedDim)]" : "[positions, batch, \(embedDim)]"
      stop("\(label): takes \(order), got shape \(x.shape)")
    }
    return batchFirst ? x : x.transposed(0, 1)
  }

  private func attend(_ q: Tensor, _ k: Tensor, _ v: Tensor, _ mask: Tensor?, _ causal: Bool) -> Tensor {
    let y = scaledDotProductAttention(q, k, v, mask: mask, causal: causal)
    let rows = outProj(y.transposed(1, 2).reshaped([q.shape[0], q.shape[2], embedDim]))
    return recorded(batchFirst ? rows : rows.transposed(0, 1))
  }

  override var members: [Member] {
    Member.list(("in_proj_weight", inProjWeight), ("in_proj_bias", inProjBias)) + [Member("out_proj", outProj)]
  }
  override var arguments: String {
    "\(embedDim), \(heads)" + (inProjBias == nil ? ", bias: false" : "") + (batchFirst ? ", batchFirst: true" : "")
  }
}

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
  ///   - dropout: of what attention and network add, and between the two linear layers; unlike PyTorch's layer not of the
  ///     attention's weights, which are never held.
  ///   - normFirst: normalize before attention and network instead of after their residual connections.
  public init(
    _ dim: Int, _ heads: Int, feedforwardDim: Int = 2048, dropout: Double = 0.1,
    activation: @escaping @Sendable (Tensor) -> Tensor = { relu($0) }, epsilon: Double = 1e-5, batchFirst: Bool = false,
    normFirst: Bool = false, bias: Bool = true, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    selfAttn = MultiheadAttention(
      dim, heads, bias: bias, batchFirst: batchFirst, elementType: elementType, generator: generator)
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
  ///   - mask, causal: see ``MultiheadAttention``.
  public func callAsFunction(_ x: Tensor, mask: Tensor? = nil, causal: Bool = false) -> Tensor {
    func attended(_ x: Tensor) -> Tensor { dropout(selfAttn(x, mask: mask, causal: causal)) }
    func transformed(_ x: Tensor) -> Tensor { dropout(linear2(dropout(activation(linear1(x))))) }
    if normFirst {
      let y = x + attended(norm1(x))
      return recorded(y + transformed(norm2(y)))
    }
    let y = norm1(x + attended(x))
    return recorded(norm2(y + transformed(y)))
  }
}
