import ApusTensor

/// A softmax over many classes of which few are frequent (Grave et al. 2017), as PyTorch has it.
///
/// Classes are in order of falling frequency. The head knows the first `cutoffs[0]` classes and one entry for each cluster of further
/// ones; cluster i has a projection to inFeatures / divValueⁱ⁺¹ features before its classes.
///
/// Eagerly a cluster is computed for the rows only whose target is in it; inside of `compile`, where targets are not known, for
/// all rows.
///
/// Parameters: head.weight [cutoffs[0] + clusters, in features], head.bias; tail.i.0.weight, tail.i.1.weight.
public final class AdaptiveLogSoftmaxWithLoss: Module {
  public let inFeatures, classCount: Int
  /// The first class of each cluster, and the number of classes.
  public let cutoffs: [Int]
  public let divValue: Double
  public let head: Linear
  public let tail: [Sequential]

  public init(
    _ inFeatures: Int, _ classCount: Int, cutoffs: [Int], divValue: Double = 4, headBias: Bool = false,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    guard let first = cutoffs.first, first > 0, zip(cutoffs, cutoffs.dropFirst() + [classCount]).allSatisfy({ $0 < $1 }) else {
      stop("AdaptiveLogSoftmaxWithLoss: cutoffs \(cutoffs) must rise from above 0 to below \(classCount)")
    }
    (self.inFeatures, self.classCount, self.divValue) = (inFeatures, classCount, divValue)
    self.cutoffs = cutoffs + [classCount]
    head = Linear(inFeatures, first + cutoffs.count, bias: headBias, elementType: elementType, generator: generator)
    var (tail, power) = ([Sequential](), divValue)
    for (low, high) in zip(cutoffs, cutoffs.dropFirst() + [classCount]) {
      let hidden = Int(Double(inFeatures) / power)
      tail.append(
        Sequential(
          Linear(inFeatures, hidden, bias: false, elementType: elementType, generator: generator),
          Linear(hidden, high - low, bias: false, elementType: elementType, generator: generator)))
      power *= divValue
    }
    self.tail = tail
  }

  private func check(_ x: Tensor) {
    guard x.rank == 2, x.shape[1] == inFeatures else {
      stop("\(label): takes [batch, \(inFeatures)], got shape \(x.shape)")
    }
  }

  /// - Parameters:
  ///   - x: [batch, in features].
  ///   - target: the classes, int64 [batch].
  /// - Returns: log p(target) [batch], and the loss: the mean of −log p.
  public func callAsFunction(_ x: Tensor, _ target: Tensor) -> (output: Tensor, loss: Tensor) {
    check(x)
    guard target.shape == [x.shape[0]], target.elementType.isInteger else {
      stop("\(label): takes integer targets [batch] for an input of shape \(x.shape), got \(target.type)")
    }
    return recorded(
      all: {
        let output = logProbability(x, target.converted(to: .int64))
        return (output, -output.mean())
      }, \.output.shape)
  }

  private func logProbability(_ x: Tensor, _ target: Tensor) -> Tensor {
    if !isTracing, let (i, value) = target.elements(as: Int.self).enumerated().first(where: { !(0..<classCount).contains($0.1) })
    {
      stop("\(label): target \(value) at index \(i) names no class; there are \(classCount)")
    }
    var entry = target
    var inCluster = Tensor.zeros(target.shape, x.elementType)
    for (i, cluster) in tail.enumerated() {
      let (low, high) = (cutoffs[i], cutoffs[i + 1])
      let mask = (target .>= low) .& (target .< high)
      entry = `where`(mask, cutoffs[0] + i, entry)
      if isTracing {
        let own = (target - low).clamped(0, high - low - 1)
        let all = logSoftmax(cluster(x)).gather(axis: 1, indices: own.expanded(at: 1)).squeezed(1)
        inCluster = `where`(mask, all, inCluster)
      } else {
        let rows = mask.nonzero().flattened()
        if rows.count == 0 { continue }
        let own = (target.take(rows) - low).expanded(at: 1)
        let some = logSoftmax(cluster(x.take(rows))).gather(axis: 1, indices: own).squeezed(1)
        inCluster = inCluster.scatter(axis: 0, indices: rows, values: some)
      }
    }
    return logSoftmax(head(x)).gather(axis: 1, indices: entry.expanded(at: 1)).squeezed(1) + inCluster
  }

  /// The logarithm of every class's probability: [batch, in features] → [batch, classes].
  public func logProb(_ x: Tensor) -> Tensor {
    check(x)
    return recorded {
      let top = logSoftmax(head(x))
      var parts = [top.sliced(axis: 1, start: 0, count: cutoffs[0])]
      for (i, cluster) in tail.enumerated() {
        parts.append(logSoftmax(cluster(x)) + top.sliced(axis: 1, start: cutoffs[0] + i, count: 1))
      }
      return concatenate(parts, axis: 1)
    }
  }

  /// The most likely class: [batch, in features] → int64 [batch].
  public func predict(_ x: Tensor) -> Tensor { logProb(x).argMax(axis: 1) }

  override var members: [Member] { [Member("head", head)] + tail.enumerated().map { Member("tail.\($0.offset)", $0.element) } }
  override var arguments: String { "\(inFeatures), \(classCount), cutoffs: \(Array(cutoffs.dropLast()))" }
}
