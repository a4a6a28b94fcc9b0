import ApusTensor

/// Attention with several heads, each over its own projections (Vaswani et al. 2017); PyTorch's MultiheadAttention.
///
/// Parameters: in_proj_weight [3 · dim, dim], the projections of queries, keys and values one below the other (where keys or values
/// have another size: q_proj_weight [dim, dim], k_proj_weight [dim, kdim], v_proj_weight [dim, vdim]), initially Xavier uniform;
/// in_proj_bias [3 · dim] (zeros); bias_k and bias_v [1, 1, dim], one more key and value that all see, initially Xavier normal;
/// out_proj.weight [dim, dim], initially uniform within ± 1 / √dim; out_proj.bias (zeros).
public final class MultiheadAttention: Module {
  public let embedDim, heads, kdim, vdim: Int
  public let batchFirst, addZeroAttention: Bool
  /// Of the attention's weights, in training: where it is not 0 they are held.
  public let dropout: Double
  /// Where keys and values have the queries' size.
  public let inProjWeight: Parameter?
  public let qProjWeight, kProjWeight, vProjWeight: Parameter?
  public let inProjBias: Parameter?
  public let biasK, biasV: Parameter?
  public let outProj: Linear
  private let generator: Generator

  /// - Parameters:
  ///   - embedDim: the size of queries and outputs; a multiple of `heads`.
  ///   - addBiasKV: learn one more key and value.
  ///   - addZeroAttention: one more key and value of zeros.
  ///   - kdim, vdim: the sizes of keys and values, if not `embedDim`.
  ///   - batchFirst: inputs and outputs are [batch, positions, dim] instead of [positions, batch, dim].
  public init(
    _ embedDim: Int, _ heads: Int, dropout: Double = 0, bias: Bool = true, addBiasKV: Bool = false,
    addZeroAttention: Bool = false,
    kdim: Int? = nil, vdim: Int? = nil, batchFirst: Bool = false, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    guard embedDim > 0, heads > 0, embedDim % heads == 0 else {
      stop("MultiheadAttention: the size \(embedDim) cannot be divided among \(heads) heads")
    }
    guard dropout >= 0 && dropout < 1 else { stop("MultiheadAttention: a dropout of \(dropout) is not within 0 and 1") }
    self.embedDim = embedDim
    self.heads = heads
    self.dropout = dropout
    self.addZeroAttention = addZeroAttention
    self.batchFirst = batchFirst
    self.generator = generator
    (self.kdim, self.vdim) = (kdim ?? embedDim, vdim ?? embedDim)
    func weight(_ rows: Int, _ columns: Int) -> Parameter {
      Parameter(Initializer.xavierUniform()([rows, columns], elementType, generator: generator))
    }
    let same = self.kdim == embedDim && self.vdim == embedDim
    inProjWeight = same ? weight(3 * embedDim, embedDim) : nil
    qProjWeight = same ? nil : weight(embedDim, embedDim)
    kProjWeight = same ? nil : weight(embedDim, self.kdim)
    vProjWeight = same ? nil : weight(embedDim, self.vdim)
    inProjBias = bias ? Parameter(Tensor.zeros([3 * embedDim], elementType)) : nil
    func row() -> Parameter { Parameter(Initializer.xavierNormal()([1, 1, embedDim], elementType, generator: generator)) }
    biasK = addBiasKV ? row() : nil
    biasV = addBiasKV ? row() : nil
    outProj = Linear(embedDim, embedDim, bias: bias, elementType: elementType, generator: generator)
    outProj.bias?.initialize(.zeros)
  }

  /// Attention of a sequence to itself.
  /// - Parameters:
  ///   - x: [positions, batch, dim], or with the first two exchanged if `batchFirst`.
  ///   - others: see the attention of one sequence to another.
  public func callAsFunction(
    _ x: Tensor, keyPaddingMask: Tensor? = nil, attnMask: Tensor? = nil, mask: Tensor? = nil, causal: Bool = false
  ) -> Tensor {
    guard let inProjWeight else {
      return self(x, x, x, keyPaddingMask: keyPaddingMask, attnMask: attnMask, mask: mask, causal: causal)
    }
    let rows = batched(x, embedDim)
    let all = linear(rows, inProjWeight.value, inProjBias?.value)
    let parts = all.reshaped([rows.shape[0], rows.shape[1], 3, heads, embedDim / heads]).transposed([2, 0, 3, 1, 4]).unstacked()
    return attend(parts, AttentionMasks(self, keyPaddingMask, attnMask, mask, causal), weights: false).output
  }

  /// Attention of the queries' positions to the keys', whose values are mixed.
  /// - Parameters:
  ///   - query: [queries, batch, dim]; `key` [keys, batch, kdim], `value` [keys, batch, vdim]; each with the first two exchanged if
  ///     `batchFirst`.
  ///   - keyPaddingMask: [batch, keys], as PyTorch's: bool, **true where a key is padding** that nobody sees; or added to the scores.
  ///   - attnMask: [queries, keys] or [batch · heads, queries, keys], as PyTorch's: bool, **true where a key is hidden**; or added.
  ///   - mask: broadcast to [batch, heads, queries, keys]; bool, **true where a key is seen**; or added: what
  ///     ``scaledDotProductAttention(_:_:_:mask:causal:scale:dropout:generator:)`` takes.
  ///   - causal: see there.
  /// - Returns: of the query's shape.
  public func callAsFunction(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, keyPaddingMask: Tensor? = nil, attnMask: Tensor? = nil,
    mask: Tensor? = nil, causal: Bool = false
  ) -> Tensor {
    attend(projected(query, key, value), AttentionMasks(self, keyPaddingMask, attnMask, mask, causal), weights: false).output
  }

  /// The same with the weights that mix the values (PyTorch's `need_weights`), which are held as a whole.
  /// - Parameter averageWeights: over the heads, [batch, queries, keys]; else [batch, heads, queries, keys]. Keys added by `addBiasKV`
  ///   and `addZeroAttention` come last.
  public func withWeights(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, keyPaddingMask: Tensor? = nil, attnMask: Tensor? = nil,
    mask: Tensor? = nil, causal: Bool = false, averageWeights: Bool = true
  ) -> (output: Tensor, weights: Tensor) {
    let masks = AttentionMasks(self, keyPaddingMask, attnMask, mask, causal)
    let (output, weights) = attend(projected(query, key, value), masks, weights: true)
    guard let weights else { preconditionFailure("weights were asked for") }
    return (output, averageWeights ? weights.mean(axis: 1) : weights)
  }

  /// Heads [batch, heads, positions, dim of a head] of queries, keys and values.
  private func projected(_ query: Tensor, _ key: Tensor, _ value: Tensor) -> [Tensor] {
    let whole = inProjWeight?.value.chunked(3)
    let weights = whole ?? [qProjWeight, kProjWeight, vProjWeight].map { existing($0).value }
    let biases = inProjBias?.value.chunked(3)
    let sizes = [embedDim, kdim, vdim]
    return [query, key, value].enumerated().map { i, x in
      let rows = batched(x, sizes[i])
      return linear(rows, weights[i], biases?[i]).reshaped([rows.shape[0], rows.shape[1], heads, embedDim / heads]).transposed(
        1, 2)
    }
  }

  /// [batch, positions, dim].
  private func batched(_ x: Tensor, _ dim: Int) -> Tensor {
    guard x.rank == 3, x.shape[2] == dim else {
      let order = batchFirst ? "[batch, positions, \(dim)]" : "[positions, batch, \(dim)]"
      stop("\(label): takes \(order), got shape \(x.shape)")
    }
    return batchFirst ? x : x.transposed(0, 1)
  }

  private func attend(_ parts: [Tensor], _ masks: AttentionMasks, weights: Bool) -> (output: Tensor, weights: Tensor?) {
    let q = parts[0]
    var (k, v) = (parts[1], parts[2])
    let (batch, own) = (q.shape[0], k.shape[2])
    if let biasK, let biasV {
      func row(_ bias: Parameter) -> Tensor {
        bias.value.reshaped([1, heads, 1, embedDim / heads]).broadcast(to: [batch, heads, 1, embedDim / heads])
      }
      k = concatenate([k, row(biasK)], axis: 2)
      v = concatenate([v, row(biasV)], axis: 2)
    }
    if addZeroAttention {
      let zeros = Tensor.zeros([batch, heads, 1, embedDim / heads], k.elementType)
      k = concatenate([k, zeros], axis: 2)
      v = concatenate([v, zeros], axis: 2)
    }
    let added = k.shape[2] - own
    let dropped = isTraining ? dropout : 0
    let y: Tensor
    var held: Tensor?
    if weights || dropped > 0 {
      let mask = masks.combined(batch, heads, q.shape[2], own, added: added, causal: masks.causal)
      (y, held) = attentionWithWeights(q, k, v, mask: mask, dropout: dropped, generator: generator)
    } else {
      // Causal without a mask of its own, where no key is added.
      let mask = masks.combined(batch, heads, q.shape[2], own, added: added, causal: masks.causal && added > 0)
      y = scaledDotProductAttention(q, k, v, mask: mask, causal: masks.causal && added == 0)
    }
    let rows = outProj(y.transposed(1, 2).reshaped([batch, q.shape[2], embedDim]))
    return (recorded(batchFirst ? rows : rows.transposed(0, 1)), held)
  }

  override var members: [Member] {
    Member.list(
      ("in_proj_weight", inProjWeight), ("q_proj_weight", qProjWeight), ("k_proj_weight", kProjWeight),
      ("v_proj_weight", vProjWeight), ("in_proj_bias", inProjBias), ("bias_k", biasK), ("bias_v", biasV))
      + [Member("out_proj", outProj)]
  }
  override var arguments: String {
    var text = "\(embedDim), \(heads)"
    if dropout != 0 { text += ", dropout: \(dropout)" }
    if inProjBias == nil { text += ", bias: false" }
    if biasK != nil { text += ", addBiasKV: true" }
    if addZeroAttention { text += ", addZeroAttention: true" }
    if kdim != embedDim { text += ", kdim: \(kdim)" }
    if vdim != embedDim { text += ", vdim: \(vdim)" }
    return text + (batchFirst ? ", batchFirst: true" : "")
  }
}
