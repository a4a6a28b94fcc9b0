import ApusTensor

/// Thresholds above which a prediction is positive.
struct Thresholds {
  let values: [Double]
  /// Whether they are 0, 1 / n, 2 / n … 1: then predictions are sorted into buckets, instead of compared with each.
  let areEven: Bool
  /// Whether the outer ones lie a little outside of 0 … 1, so that every prediction is above the first.
  let coverAll: Bool

  var count: Int { values.count }

  /// Those that a user gave.
  init(_ values: [Double], _ metric: String) {
    for value in values where !(0...1).contains(value) { stop("\(metric): threshold \(value) is not in 0 … 1") }
    guard !values.isEmpty else { stop("\(metric): there are no thresholds") }
    self.values = values
    areEven = Self.isEven(values)
    coverAll = false
  }

  /// One, which may be any number.
  init(single value: Double) { (values, areEven, coverAll) = ([value], false, false) }

  /// `count` of equal distances from 0 to 1; only 1/2 if there is one.
  init(count: Int, _ metric: String) {
    guard count > 0 else { stop("\(metric): the number of thresholds \(count) is not positive") }
    values = count == 1 ? [0.5] : (0..<count).map { Double($0) / Double(count - 1) }
    areEven = count > 1
    coverAll = false
  }

  /// Those between 0 and 1 with one more beyond each end.
  init(between inner: [Double]) {
    areEven = Self.isEven([0] + inner + [1])
    values = [-kerasEpsilon] + inner + [1 + kerasEpsilon]
    coverAll = true
  }

  private static func isEven(_ values: [Double]) -> Bool {
    values.count >= 3
      && values.enumerated().allSatisfy { i, value in
        let even = Double(i) / Double(values.count - 1)
        return abs(value - even) <= kerasEpsilon + 1e-5 * even
      }
  }
}

/// Weights of predictions by what they are and ought to be: float64 [thresholds], or [thresholds, labels] if labels are apart.
struct Confusion {
  var truePositives, falsePositives, trueNegatives, falseNegatives: Tensor
}

extension Metric {
  /// Counts as Keras does.
  /// - Parameters:
  ///   - predictions: probabilities [batch, …]; targets are positive where not 0.
  ///   - topK: only the k highest of the last dimension can be positive.
  ///   - classID: which of the last dimension counts.
  ///   - sampleWeight: [batch], or of the predictions' shape.
  ///   - labelsApart: whether labels, the last of two dimensions, are counted by themselves.
  ///   - labelWeights: multiplied into each label's counts.
  final func confusion(
    _ predictions: Tensor, _ targets: Tensor, _ thresholds: Thresholds, topK: Int? = nil, classID: Int? = nil,
    sampleWeight: Tensor?, labelsApart: Bool = false, labelWeights: [Double]? = nil
  ) -> Confusion {
    var (x, t) = aligned(predictions.detached(), targets.detached())
    if !x.elementType.isFloatingPoint { x = x.converted(to: .float32) }
    if let topK {
      guard x.rank > 1, topK > 0, topK <= x.shape[x.rank - 1] else {
        stop("metric \(name): there are no \(topK) highest of predictions of shape \(x.shape)")
      }
      let best = x.topK(topK).indices
      let isBest = Tensor.zeros(x.shape, .int64).scatter(axis: -1, indices: best, values: Tensor.ones(best.shape, .int64)) .!= 0
      x = `where`(isBest, x, Self.never)
    }
    if let classID {
      guard x.rank > 1, (0..<x.shape[x.rank - 1]).contains(classID) else {
        stop("metric \(name): there is no class \(classID) in predictions of shape \(x.shape)")
      }
      (x, t) = (x[..., classID..<(classID + 1)], t[..., classID..<(classID + 1)])
    }
    var w = weights(sampleWeight ?? Tensor.ones([], .float64), for: x.shape)
    if let labelWeights {
      guard x.shape.last == labelWeights.count else {
        stop("metric \(name): \(labelWeights.count) label weights for predictions of shape \(x.shape)")
      }
      w = w * Tensor(elements: labelWeights)
    }
    let shape: Shape = labelsApart ? x.shape : [x.count]
    x = x.reshaped(shape)
    w = w.reshaped(shape)
    let isTrue = t.reshaped(shape) .!= 0
    let (trues, falses) = (`where`(isTrue, w, 0), `where`(isTrue, 0, w))
    let (found, wrong) =
      thresholds.areEven ? bucketed(x, trues, falses, thresholds) : compared(x, trues, falses, thresholds)
    return Confusion(
      truePositives: found, falsePositives: wrong, trueNegatives: falses.sum(axis: 0) - wrong,
      falseNegatives: trues.sum(axis: 0) - found)
  }

  /// Keras's number for what can never be positive.
  static var never: Double { -1e10 }

  /// For each threshold the sums over predictions above it.
  private final func compared(
    _ x: Tensor, _ trues: Tensor, _ falses: Tensor, _ thresholds: Thresholds
  ) -> (Tensor, Tensor) {
    var shape = Shape(repeating: 1, count: x.rank + 1)
    shape[0] = thresholds.count
    let limits = Tensor(thresholds.values, shape: shape).converted(to: x.elementType)
    let isAbove = x.expanded(at: 0) .> limits
    return (
      `where`(isAbove, trues.expanded(at: 0), 0).sum(axis: 1), `where`(isAbove, falses.expanded(at: 0), 0).sum(axis: 1)
    )
  }

  /// The same for even thresholds: a prediction in bucket i is above thresholds 0 … i.
  private final func bucketed(
    _ x: Tensor, _ trues: Tensor, _ falses: Tensor, _ thresholds: Thresholds
  ) -> (Tensor, Tensor) {
    var bucket = ceil(x.clamped(0, 1) * Double(thresholds.count - 1)) - 1
    if thresholds.coverAll { bucket = maximum(bucket, 0) }
    // At most the first threshold itself (or no number): above none.
    let isAbove = bucket .>= 0
    let places = `where`(isAbove, bucket, 0).converted(to: .int64)
    var shape = x.shape
    shape[0] = thresholds.count
    func sums(_ w: Tensor) -> Tensor {
      Tensor.zeros(shape, .float64).scatterAdd(axis: 0, indices: places, values: `where`(isAbove, w, 0))
        .cumulativeSum(axis: 0, reverse: true)
    }
    return (sums(trues), sums(falses))
  }
}

/// What ``TruePositives`` and its kin share: a count for each threshold.
///
/// `update` takes probabilities and targets (positive where not 0) of one shape [batch, …], and weights [batch] or of their shape.
/// ``result()`` is a scalar, or [thresholds] if there are several; states are float64.
public class ConfusionCount: Metric {
  private let thresholds: Thresholds
  final let accumulator: Variable

  fileprivate init(_ thresholds: [Double], _ name: String) {
    self.thresholds = Thresholds(thresholds, "metric \(name)")
    accumulator = gathered([thresholds.count])
    super.init(name: name)
  }

  fileprivate func count(_ confusion: Confusion) -> Tensor { confusion.truePositives }

  public final override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    withoutGradient { add(count(confusion(predictions, targets, thresholds, sampleWeight: sampleWeight)), to: accumulator) }
  }

  public final override func result() -> Tensor { only(accumulator.value) }
}

extension Metric {
  /// The only element as a scalar, several as they are.
  final func only(_ x: Tensor) -> Tensor { x.count == 1 ? x.reshaped([]) : x }
}

/// How many positive targets are predicted, weighted: Keras's `TruePositives`.
public final class TruePositives: ConfusionCount {
  public init(thresholds: [Double] = [0.5], name: String = "true_positives") { super.init(thresholds, name) }
  override func count(_ confusion: Confusion) -> Tensor { confusion.truePositives }
}

/// How many targets of 0 are predicted as positive, weighted: Keras's `FalsePositives`.
public final class FalsePositives: ConfusionCount {
  public init(thresholds: [Double] = [0.5], name: String = "false_positives") { super.init(thresholds, name) }
  override func count(_ confusion: Confusion) -> Tensor { confusion.falsePositives }
}

/// How many targets of 0 are predicted as such, weighted: Keras's `TrueNegatives`.
public final class TrueNegatives: ConfusionCount {
  public init(thresholds: [Double] = [0.5], name: String = "true_negatives") { super.init(thresholds, name) }
  override func count(_ confusion: Confusion) -> Tensor { confusion.trueNegatives }
}

/// How many positive targets are missed, weighted: Keras's `FalseNegatives`.
public final class FalseNegatives: ConfusionCount {
  public init(thresholds: [Double] = [0.5], name: String = "false_negatives") { super.init(thresholds, name) }
  override func count(_ confusion: Confusion) -> Tensor { confusion.falseNegatives }
}
