import ApusTensor

/// What the layers that attend without projections share: masks, and the weighted sum. Queries [batch, queries, dim], values
/// [batch, values, dim], keys of the values' positions; the values if absent.
public class DotAttention: Module {
  fileprivate let dropout: Double
  fileprivate let generator: Generator

  fileprivate init(dropout: Double, generator: Generator) {
    guard dropout >= 0 && dropout < 1 else { stop("\(Self.self): a dropout of \(dropout) is not within 0 and 1") }
    self.dropout = dropout
    self.generator = generator
  }

  /// [batch, queries, values].
  fileprivate func scores(_ query: Tensor, _ key: Tensor) -> Tensor { preconditionFailure("a subclass says") }

  /// - Parameters:
  ///   - queryMask: bool [batch, queries]: where it is false, the output is zero.
  ///   - valueMask: bool [batch, values], **true where a value is seen**.
  ///   - causal: query i sees values 0 … i.
  /// - Returns: [batch, queries, dim], and the weights [batch, queries, values].
  public final func withWeights(
    _ query: Tensor, _ value: Tensor, key: Tensor? = nil, queryMask: Tensor? = nil, valueMask: Tensor? = nil, causal: Bool = false
  ) -> (output: Tensor, weights: Tensor) {
    let key = key ?? value
    guard query.rank == 3, value.rank == 3, key.rank == 3, key.shape[1] == value.shape[1], key.shape[2] == query.shape[2] else {
      stop(
        "\(label): takes queries [batch, queries, dim], values and keys [batch, values, dim], got shapes \(query.shape), \(value.shape) and \(key.shape)"
      )
    }
    var scores = scores(query, key)
    // Keras hides by what is nearly −∞: a query that sees nothing sees all alike.
    func hide(_ hidden: Tensor) { scores = scores - hidden.converted(to: scores.elementType) * 1e9 }
    if let valueMask { hide((.!checked(valueMask, value, "valueMask")).expanded(at: 1)) }
    if causal {
      hide(
        (Tensor.arange(value.shape[1]).expanded(at: 0) .> Tensor.arange(query.shape[1]).expanded(at: 1)).expanded(at: 0))
    }
    var weights = softmax(scores)
    if dropout > 0 && isTraining {
      let kept = Tensor.bernoulli(weights.shape, probability: 1 - dropout, generator: generator)
      weights = weights * (kept.converted(to: weights.elementType) * (1 / (1 - dropout)))
    }
    var y = weights.matmul(value)
    if let queryMask { y = y * checked(queryMask, query, "queryMask").converted(to: y.elementType).expanded(at: 2) }
    return (recorded(y), weights)
  }

  /// The output alone; see ``withWeights(_:_:key:queryMask:valueMask:causal:)``.
  public final func callAsFunction(
    _ query: Tensor, _ value: Tensor, key: Tensor? = nil, queryMask: Tensor? = nil, valueMask: Tensor? = nil, causal: Bool = false
  ) -> Tensor { withWeights(query, value, key: key, queryMask: queryMask, valueMask: valueMask, causal: causal).output }

  private final func checked(_ mask: Tensor, _ x: Tensor, _ name: String) -> Tensor {
    guard mask.type == TensorType([x.shape[0], x.shape[1]], .bool) else {
      stop("\(label): \(name) is \(mask.type), expected bool\([x.shape[0], x.shape[1]])")
    }
    return mask
  }
}

/// Attention without projections (Luong et al. 2015); Keras's Attention.
///
/// Parameters: scale [], ones, with `useScale`; concat_score_weight [], ones, with `.concat`.
public final class Attention: DotAttention {
  /// Scores: q · k, or weight · Σ tanh(scale · (q + k)).
  public enum ScoreMode: String, Sendable { case dot, concat }
  public let scoreMode: ScoreMode
  public let scale, concatScoreWeight: Parameter?

  public init(
    useScale: Bool = false, scoreMode: ScoreMode = .dot, dropout: Double = 0, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    self.scoreMode = scoreMode
    scale = useScale ? Parameter(Tensor.ones([], elementType)) : nil
    concatScoreWeight = scoreMode == .concat ? Parameter(Tensor.ones([], elementType)) : nil
    super.init(dropout: dropout, generator: generator)
  }

  override fileprivate func scores(_ query: Tensor, _ key: Tensor) -> Tensor {
    switch scoreMode {
    case .dot:
      let scores = query.matmul(key.transposed())
      return scale.map { scores * $0.value } ?? scores
    case .concat:
      let sums = query.expanded(at: 2) + key.expanded(at: 1)
      let scores = tanh(scale.map { sums * $0.value } ?? sums).sum(axis: 3)
      return concatScoreWeight.map { scores * $0.value } ?? scores
    }
  }

  override var members: [Member] { Member.list(("scale", scale), ("concat_score_weight", concatScoreWeight)) }
  override var arguments: String {
    let parts = [scale != nil ? "useScale: true" : nil, scoreMode == .concat ? "scoreMode: .concat" : nil]
    return (parts + [dropout != 0 ? "dropout: \(dropout)" : nil]).compactMap { $0 }.joined(separator: ", ")
  }
}

/// Attention by scores Σ scale · tanh(q + k) (Bahdanau et al. 2015); Keras's AdditiveAttention.
///
/// Parameter: scale [dim], initially Glorot uniform, with `useScale`.
public final class AdditiveAttention: DotAttention {
  public let scale: Parameter?

  /// - Parameter dim: the size of queries and keys.
  public init(
    _ dim: Int, useScale: Bool = true, dropout: Double = 0, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    // Keras counts a vector's own size as what goes in and out.
    let bound = (3 / Double(Swift.max(dim, 1))).squareRoot()
    scale = useScale ? Parameter(Tensor.uniform([dim], low: -bound, high: bound, elementType, generator: generator)) : nil
    super.init(dropout: dropout, generator: generator)
  }

  override fileprivate func scores(_ query: Tensor, _ key: Tensor) -> Tensor {
    let sums = tanh(query.expanded(at: 2) + key.expanded(at: 1))
    return (scale.map { sums * $0.value } ?? sums).sum(axis: 3)
  }

  override var members: [Member] { Member.list(("scale", scale)) }
  override var arguments: String {
    (scale.map { "\($0.shape[0])" } ?? "useScale: false") + (dropout != 0 ? ", dropout: \(dropout)" : "")
  }
}

/// Attention with several heads of queries for each head of keys and values (Ainslie et al. 2023); Keras's GroupQueryAttention.
///
/// Parameters: those of the linear layers query, key, value and output; weights initially Glorot uniform, biases zeros.
public final class GroupedQueryAttention: Module {
  public let headDim, queryHeads, keyValueHeads: Int
  public let query, key, value, output: Linear
  private let dropout: Double
  private let generator: Generator

  /// - Parameters:
  ///   - dim: the size of inputs and outputs.
  ///   - headDim: of each head.
  ///   - numKeyValueHeads: divides `numQueryHeads`.
  public init(
    _ dim: Int, headDim: Int, numQueryHeads: Int, numKeyValueHeads: Int, dropout: Double = 0, bias: Bool = true,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    guard dim > 0, headDim > 0, numKeyValueHeads > 0, numQueryHeads > 0, numQueryHeads % numKeyValueHeads == 0 else {
      stop("GroupedQueryAttention: \(numQueryHeads) heads of queries cannot share \(numKeyValueHeads) heads of keys and values")
    }
    guard dropout >= 0 && dropout < 1 else { stop("GroupedQueryAttention: a dropout of \(dropout) is not within 0 and 1") }
    (self.headDim, queryHeads, keyValueHeads) = (headDim, numQueryHeads, numKeyValueHeads)
    self.dropout = dropout
    self.generator = generator
    func linear(_ from: Int, _ to: Int) -> Linear {
      let layer = Linear(from, to, bias: bias, elementType: elementType, generator: generator)
      layer.weight.initialize(.xavierUniform(), generator: generator)
      layer.bias?.initialize(.zeros)
      return layer
    }
    query = linear(dim, numQueryHeads * headDim)
    key = linear(dim, numKeyValueHeads * headDim)
    value = linear(dim, numKeyValueHeads * headDim)
    output = linear(numQueryHeads * headDim, dim)
  }

  /// - Parameters:
  ///   - query: [batch, queries, dim]; `value` and `key`: [batch, keys, dim]; the key is the value if absent.
  ///   - attentionMask: broadcast to [batch, heads, queries, keys]; bool, **true where a key is seen**, or added to the scores.
  ///   - causal: see ``scaledDotProductAttention(_:_:_:mask:causal:scale:dropout:generator:)``.
  /// - Returns: of the query's shape.
  public func callAsFunction(
    _ query: Tensor, _ value: Tensor, key: Tensor? = nil, attentionMask: Tensor? = nil, causal: Bool = false
  ) -> Tensor {
    func heads(_ x: Tensor, _ layer: Linear, _ count: Int) -> Tensor {
      guard x.rank == 3 else { stop("\(label): takes [batch, positions, dim], got shape \(x.shape)") }
      return layer(x).reshaped([x.shape[0], x.shape[1], count, headDim]).transposed(1, 2)
    }
    let y = scaledDotProductAttention(
      heads(query, self.query, queryHeads), heads(key ?? value, self.key, keyValueHeads), heads(value, self.value, keyValueHeads),
      mask: attentionMask, causal: causal, dropout: isTraining ? dropout : 0, generator: generator)
    return recorded(output(y.transposed(1, 2).reshaped([query.shape[0], query.shape[1], queryHeads * headDim])))
  }

  override var members: [Member] {
    [Member("query", query), Member("key", key), Member("value", value), Member("output", output)]
  }
  override var arguments: String {
    "\(output.outFeatures), headDim: \(headDim), numQueryHeads: \(queryHeads), numKeyValueHeads: \(keyValueHeads)"
      + (dropout != 0 ? ", dropout: \(dropout)" : "")
  }
}
