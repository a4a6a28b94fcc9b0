import ApusTensor

/// An embedding that also goes back: from indices […] to vectors […, dimension], and from vectors to a score for each index
/// […, count] (Press and Wolf 2017).
///
/// Parameters: embeddings [count, dimension] and, unless weights are tied, reverseEmbeddings [dimension, count]; initially uniform
/// within ± 0.05.
public final class ReversibleEmbedding: Module, Layer {
  public let embeddings: Parameter
  public let reverseEmbeddings: Parameter?
  /// Scores s become cap · tanh(s / cap).
  public let logitSoftCap: Double?

  public init(
    _ count: Int, _ embeddingDimension: Int, tieWeights: Bool = true, logitSoftCap: Double? = nil,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    guard count >= 0 && embeddingDimension >= 0 else {
      stop("ReversibleEmbedding: \(count) vectors of \(embeddingDimension) numbers")
    }
    let initializer = Initializer.uniform(-0.05, 0.05)
    embeddings = Parameter(initializer([count, embeddingDimension], elementType, generator: generator))
    reverseEmbeddings =
      tieWeights ? nil : Parameter(initializer([embeddingDimension, count], elementType, generator: generator))
    self.logitSoftCap = logitSoftCap
  }

  public func callAsFunction(_ x: Tensor) -> Tensor { self(received(x), reverse: false) }

  public func callAsFunction(_ x: Tensor, reverse: Bool) -> Tensor {
    if !reverse {
      guard x.elementType.isInteger else { stop("\(label): takes integers, got \(x.type)") }
      return recorded(embeddings.value.take(x))
    }
    guard x.shape.last == embeddings.shape[1] else {
      stop("\(label): the input of shape \(x.shape) does not end in \(embeddings.shape[1]) numbers")
    }
    return recorded {
      let scores = reverseEmbeddings.map { x.matmul($0.value) } ?? linear(x, embeddings.value)
      return logitSoftCap.map { tanh(scores / $0) * $0 } ?? scores
    }
  }

  override var members: [Member] { Member.list(("embeddings", embeddings), ("reverse_embeddings", reverseEmbeddings)) }
  override var arguments: String {
    "\(embeddings.shape[0]), \(embeddings.shape[1])" + (reverseEmbeddings == nil ? "" : ", tieWeights: false")
      + (logitSoftCap.map { ", logitSoftCap: \($0)" } ?? "")
  }
}

/// Sums, means or maxima of the vectors of bags of indices (PyTorch's EmbeddingBag).
///
/// Parameter: weight [count, embedding dimension], initially standard normal. Indices that are `paddingIndex` do not count; its row
/// is initially zero. An empty bag gives zeros.
public final class EmbeddingBag: Module, Layer {
  public enum Mode: Sendable { case sum, mean, max }

  public let weight: Parameter
  public let mode: Mode
  public let includeLastOffset: Bool
  public let paddingIndex: Int?

  /// - Parameter includeLastOffset: whether offsets end with the number of indices, one more than there are bags.
  public init(
    _ count: Int, _ embeddingDimension: Int, mode: Mode = .mean, includeLastOffset: Bool = false, paddingIndex: Int? = nil,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    guard count >= 0 && embeddingDimension >= 0 else { stop("EmbeddingBag: \(count) vectors of \(embeddingDimension) numbers") }
    let index = paddingIndex.map { $0 < 0 ? $0 + count : $0 }
    if let index, !(0..<count).contains(index) { stop("EmbeddingBag: paddingIndex \(paddingIndex!) is not one of \(count) rows") }
    var table = Tensor.randn([count, embeddingDimension], elementType, generator: generator)
    if let index { table = `where`((Tensor.arange(count) .== index).expanded(at: 1), 0, table) }
    weight = Parameter(table)
    (self.mode, self.includeLastOffset, self.paddingIndex) = (mode, includeLastOffset, index)
  }

  /// Bags of equal size: [bags, size] → [bags, embedding dimension].
  public func callAsFunction(_ x: Tensor) -> Tensor { self(received(x), perSampleWeights: nil) }

  /// - Parameters:
  ///   - x: int64: [bags, size], or [indices] of all bags one after another.
  ///   - offsets: int64 [bags]: where each bag begins, the first at 0; only for [indices].
  ///   - perSampleWeights: of x's shape: what each vector is multiplied by; only for sums.
  /// - Returns: [bags, embedding dimension].
  public func callAsFunction(_ x: Tensor, offsets: Tensor? = nil, perSampleWeights: Tensor?) -> Tensor {
    guard x.elementType.isInteger, x.rank == (offsets == nil ? 2 : 1),
      offsets.map({ $0.rank == 1 && $0.elementType.isInteger }) ?? true
    else {
      stop(
        "\(label): takes integers [bags, size], or [indices] with offsets [bags], got \(x.type)"
          + (offsets.map { " and offsets \($0.type)" } ?? ""))
    }
    if let perSampleWeights, mode != .sum || perSampleWeights.shape != x.shape {
      stop(
        "\(label): per-sample weights are for sums and have the shape of the indices, got \(perSampleWeights.shape) for \(x.shape)"
      )
    }
    return recorded {
      let indices = x.converted(to: .int64)
      let rows = weight.value.take(indices)
      let counts = paddingIndex.map { indices .!= $0 }
      let factors = (perSampleWeights?.converted(to: rows.elementType), counts?.converted(to: rows.elementType))
      guard let offsets else { return reduced(rows, counts, factors) }
      return reduced(rows, counts, factors, offsets)
    }
  }

  public func callAsFunction(_ x: Tensor, offsets: Tensor) -> Tensor { self(x, offsets: offsets, perSampleWeights: nil) }

  private typealias Factors = (weights: Tensor?, counts: Tensor?)

  private func scaled(_ rows: Tensor, _ factors: Factors) -> Tensor {
    var rows = rows
    for factor in [factors.weights, factors.counts] { if let factor { rows = rows * factor.expanded(at: -1) } }
    return rows
  }

  /// [bags, size, dimension] → [bags, dimension].
  private func reduced(_ rows: Tensor, _ counts: Tensor?, _ factors: Factors) -> Tensor {
    let size = rows.shape[1]
    if size == 0 { return Tensor.zeros([rows.shape[0], rows.shape[2]], rows.elementType) }
    switch mode {
    case .sum: return scaled(rows, factors).sum(axis: 1)
    case .mean:
      guard let own = factors.counts else { return rows.mean(axis: 1) }
      return scaled(rows, factors).sum(axis: 1) / maximum(own.sum(axis: 1, keepDims: true), 1)
    case .max:
      guard let counts else { return rows.max(axis: 1) }
      let highest = `where`(counts.expanded(at: -1), rows, -Double.infinity).max(axis: 1)
      return `where`(counts.any(axis: 1, keepDims: true), highest, 0)
    }
  }

  /// [indices, dimension] → [bags, dimension].
  private func reduced(_ rows: Tensor, _ counts: Tensor?, _ factors: Factors, _ offsets: Tensor) -> Tensor {
    let (count, dimension) = (rows.shape[0], rows.shape[1])
    let bags = offsets.shape[0] - (includeLastOffset ? 1 : 0)
    guard bags >= 0 else { stop("\(label): offsets need an entry for the end of the last bag") }
    if bags == 0 { return Tensor.zeros([0, dimension], rows.elementType) }
    let starts = offsets.converted(to: .int64).sliced(axis: 0, start: 0, count: bags)
    if !isTracing, starts[0].item(as: Int.self) != 0 {
      stop("\(label): the first bag begins at 0, got \(starts[0].item(as: Int.self))")
    }
    // How many bags have begun: the number of an index's bag.
    let marks = Tensor.zeros([count + 1], .int64).scatterAdd(axis: 0, indices: starts, values: Tensor.ones([bags], .int64))
    let bag = marks.cumulativeSum(axis: 0).sliced(axis: 0, start: 0, count: count) - 1
    func sums(_ values: Tensor) -> Tensor {
      Tensor.zeros(Shape([bags] + values.shape.dropFirst()), rows.elementType).indexAdd(axis: 0, indices: bag, values: values)
    }
    let numbers = sums(factors.counts ?? Tensor.ones([count], rows.elementType)).expanded(at: 1)
    switch mode {
    case .sum: return sums(scaled(rows, factors))
    case .mean: return sums(scaled(rows, factors)) / maximum(numbers, 1)
    case .max:
      let lowest = Tensor.full([bags, dimension], -Double.infinity, rows.elementType)
      let values = counts.map { `where`($0.expanded(at: -1), rows, -Double.infinity) } ?? rows
      return `where`(numbers .> 0, apply(.scatter(.max, axis: 0), lowest, bag, values), 0)
    }
  }

  override var members: [Member] { Member.list(("weight", weight)) }
  override var arguments: String {
    "\(weight.shape[0]), \(weight.shape[1]), mode: .\(mode)" + (paddingIndex.map { ", paddingIndex: \($0)" } ?? "")
  }
}
