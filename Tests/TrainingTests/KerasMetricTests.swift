import ApusFormats
import ApusNN
import ApusTensor
import ApusTraining
import Foundation
import Testing

/// A metric, the data set of the fixture that it sees, and how it is made.
struct MetricCase: Sendable, CustomTestStringConvertible {
  let name: String
  let data: String
  let make: @Sendable () -> Metric
  var testDescription: String { name }

  init(_ name: String, _ data: String, _ make: @escaping @Sendable () -> Metric) {
    (self.name, self.data, self.make) = (name, data, make)
  }

  static let means: [MetricCase] = [
    .init("MeanSquaredErrorValues", "values") { MeanSquaredError() },
    .init("MeanSquaredErrorNumbers", "numbers") { MeanSquaredError() },
    .init("MeanSquaredErrorImages", "images") { MeanSquaredError() },
    .init("RootMeanSquaredErrorValues", "values") { RootMeanSquaredError() },
    .init("RootMeanSquaredErrorNumbers", "numbers") { RootMeanSquaredError() },
    .init("RootMeanSquaredErrorElements", "elements") { RootMeanSquaredError() },
    .init("RootMeanSquaredErrorImages", "images") { RootMeanSquaredError() },
    .init("MeanAbsoluteError", "values") { MeanAbsoluteError() },
    .init("MeanAbsolutePercentageError", "values") { MeanAbsolutePercentageError() },
    .init("MeanSquaredLogarithmicError", "positive") { MeanSquaredLogarithmicError() },
    .init("LogCoshError", "values") { LogCoshError() },
    .init("CosineSimilarity", "values") { CosineSimilarityMetric() },
    .init("CosineSimilarityAxis", "images") { CosineSimilarityMetric(axis: 2) },
    .init("MeanMetricWrapper", "values") {
      MeanMetricWrapper(name: "huber") { huberLoss($0, $1, reduction: .none, delta: 0.7).mean(axis: -1) }
    },
    .init("MeanValues", "values") { Mean() },
    .init("MeanImages", "images") { Mean() },
    .init("MeanElements", "elements") { Mean() },
    .init("SumValues", "values") { Sum() },
    .init("SumImages", "images") { Sum() },
    .init("SumElements", "elements") { Sum() },
    .init("Hinge", "signs") { Hinge() },
    .init("HingeBinary", "binary") { Hinge() },
    .init("SquaredHinge", "signs") { SquaredHinge() },
    .init("CategoricalHinge", "hot") { CategoricalHinge() },
    .init("Poisson", "positive") { Poisson() },
    .init("KLDivergence", "distributions") { KLDivergence() },
    .init("BinaryCrossEntropy", "binary") { BinaryCrossEntropy() },
    .init("BinaryCrossEntropySmooth", "binaryLogits") { BinaryCrossEntropy(fromLogits: true, labelSmoothing: 0.2) },
    .init("CategoricalCrossEntropy", "hot") { CategoricalCrossEntropy() },
    .init("CategoricalCrossEntropySmooth", "hotTokens") { CategoricalCrossEntropy(fromLogits: true, labelSmoothing: 0.2) },
    .init("SparseCategoricalCrossEntropy", "classes") { SparseCategoricalCrossEntropy() },
    .init("SparseCategoricalCrossEntropyLogits", "scores") { SparseCategoricalCrossEntropy(fromLogits: true) },
    .init("SparseCategoricalCrossEntropyIgnored", "tokens") { SparseCategoricalCrossEntropy(ignoreClass: 2) },
    .init("PearsonCorrelation", "values") { PearsonCorrelation() },
    .init("PearsonCorrelationAxis", "images") { PearsonCorrelation(axis: 2) },
    .init("ConcordanceCorrelation", "values") { ConcordanceCorrelation() },
    .init("R2Score", "values") { R2Score() },
    .init("R2ScoreVariance", "values") { R2Score(aggregation: .varianceWeightedAverage) },
    .init("R2ScoreNone", "values") { R2Score(aggregation: .none) },
    .init("R2ScoreAdjusted", "values") { R2Score(regressors: 2) },
    .init("R2ScoreElements", "elements") { R2Score() },
  ]

  static let accuracies: [MetricCase] = [
    .init("Accuracy", "integers") { Accuracy() },
    // Scores of classes: what Keras means by "accuracy" for such shapes.
    .init("SparseCategoricalAccuracy", "classes") { Accuracy() },
    .init("BinaryAccuracy", "binary") { BinaryAccuracy() },
    .init("BinaryAccuracyThreshold", "single") { BinaryAccuracy(threshold: 0.3) },
    .init("CategoricalAccuracy", "hot") { CategoricalAccuracy() },
    .init("CategoricalAccuracyTokens", "hotTokens") { CategoricalAccuracy() },
    .init("SparseCategoricalAccuracy", "classes") { SparseCategoricalAccuracy() },
    .init("SparseCategoricalAccuracyTokens", "tokens") { SparseCategoricalAccuracy() },
    .init("TopKCategoricalAccuracy", "hot") { TopKCategoricalAccuracy(k: 2) },
    .init("SparseTopKCategoricalAccuracy", "tokens") { SparseTopKCategoricalAccuracy(k: 3) },
    .init("SparseTopKCategoricalAccuracySorted", "ranked") { SparseTopKCategoricalAccuracy(k: 2, fromSortedIDs: true) },
    .init("IoU", "pixels") { IoU(classes: 3, targetClassIDs: [0, 2]) },
    .init("IoUIgnored", "pixels") { IoU(classes: 3, targetClassIDs: [0, 1], ignoreClass: 1) },
    .init("BinaryIoU", "maybe") { BinaryIoU(threshold: 0.3) },
    .init("BinaryIoUOne", "maybe") { BinaryIoU(targetClassIDs: [1]) },
    .init("MeanIoU", "pixels") { MeanIoU(classes: 4) },
    .init("OneHotIoU", "hotPixels") { OneHotIoU(classes: 3, targetClassIDs: [0, 2]) },
    .init("OneHotMeanIoU", "hotPixels") { OneHotMeanIoU(classes: 3) },
    .init("F1ScoreNone", "hot") { F1Score() },
    .init("F1Scoremicro", "hot") { F1Score(average: .micro) },
    .init("F1Scoremacro", "hot") { F1Score(average: .macro) },
    .init("F1Scoreweighted", "hot") { F1Score(average: .weighted) },
    .init("F1ScoreThreshold", "binary") { F1Score(average: .macro, threshold: 0.4) },
    .init("FBetaScore", "hot") { FBetaScore(average: .weighted, beta: 2) },
    .init("FBetaScoreThreshold", "binary") { FBetaScore(beta: 0.5, threshold: 0.7) },
  ]

  private static let uneven = [0.1, 0.45, 0.9]

  static let counts: [MetricCase] = [
    .init("TruePositives", "binary") { TruePositives() },
    .init("TruePositivesMany", "binary") { TruePositives(thresholds: uneven) },
    .init("TruePositivesEven", "binary") { TruePositives(thresholds: [0, 0.5, 1]) },
    .init("FalsePositives", "binary") { FalsePositives() },
    .init("FalsePositivesMany", "binary") { FalsePositives(thresholds: uneven) },
    .init("FalsePositivesEven", "binary") { FalsePositives(thresholds: [0, 0.5, 1]) },
    .init("TrueNegatives", "binary") { TrueNegatives() },
    .init("TrueNegativesMany", "binary") { TrueNegatives(thresholds: uneven) },
    .init("TrueNegativesEven", "binary") { TrueNegatives(thresholds: [0, 0.5, 1]) },
    .init("FalseNegatives", "binary") { FalseNegatives() },
    .init("FalseNegativesMany", "binary") { FalseNegatives(thresholds: uneven) },
    .init("FalseNegativesEven", "binary") { FalseNegatives(thresholds: [0, 0.5, 1]) },
    .init("Precision", "binary") { Precision() },
    .init("PrecisionSingle", "single") { Precision() },
    .init("PrecisionMany", "binary") { Precision(thresholds: uneven) },
    .init("PrecisionTopK", "hot") { Precision(topK: 2) },
    .init("PrecisionTopKClass", "hot") { Precision(thresholds: [0.2], topK: 2, classID: 1) },
    .init("PrecisionClass", "hot") { Precision(classID: 3) },
    .init("Recall", "binary") { Recall() },
    .init("RecallSingle", "single") { Recall() },
    .init("RecallMany", "binary") { Recall(thresholds: uneven) },
    .init("RecallTopK", "hot") { Recall(topK: 2) },
    .init("RecallTopKClass", "hot") { Recall(thresholds: [0.2], topK: 2, classID: 1) },
    .init("RecallClass", "hot") { Recall(classID: 3) },
    .init("SensitivityAtSpecificity", "binary") { SensitivityAtSpecificity(specificity: 0.37) },
    .init("SensitivityAtSpecificityClass", "hot") {
      SensitivityAtSpecificity(specificity: 0.57, thresholdCount: 50, classID: 1)
    },
    .init("SensitivityAtSpecificityOne", "binary") { SensitivityAtSpecificity(specificity: 0.27, thresholdCount: 1) },
    .init("SpecificityAtSensitivity", "binary") { SpecificityAtSensitivity(sensitivity: 0.37) },
    .init("SpecificityAtSensitivityClass", "hot") {
      SpecificityAtSensitivity(sensitivity: 0.57, thresholdCount: 50, classID: 1)
    },
    .init("SpecificityAtSensitivityOne", "binary") { SpecificityAtSensitivity(sensitivity: 0.27, thresholdCount: 1) },
    .init("PrecisionAtRecall", "binary") { PrecisionAtRecall(recall: 0.37) },
    .init("PrecisionAtRecallClass", "hot") { PrecisionAtRecall(recall: 0.57, thresholdCount: 50, classID: 1) },
    .init("PrecisionAtRecallOne", "binary") { PrecisionAtRecall(recall: 0.27, thresholdCount: 1) },
    .init("RecallAtPrecision", "binary") { RecallAtPrecision(precision: 0.37) },
    .init("RecallAtPrecisionClass", "hot") { RecallAtPrecision(precision: 0.57, thresholdCount: 50, classID: 1) },
    .init("RecallAtPrecisionOne", "binary") { RecallAtPrecision(precision: 0.27, thresholdCount: 1) },
  ]

  static let areas: [MetricCase] = [
    .init("AUCROCinterpolation", "binary") { AUC() },
    .init("AUCROCmajoring", "binary") { AUC(summation: .majoring) },
    .init("AUCROCminoring", "binary") { AUC(summation: .minoring) },
    .init("AUCPRinterpolation", "binary") { AUC(curve: .pr) },
    .init("AUCPRmajoring", "binary") { AUC(curve: .pr, summation: .majoring) },
    .init("AUCPRminoring", "binary") { AUC(curve: .pr, summation: .minoring) },
    .init("AUCPRGAINinterpolation", "binary") { AUC(curve: .prGain) },
    .init("AUCPRGAINmajoring", "binary") { AUC(curve: .prGain, summation: .majoring) },
    .init("AUCPRGAINminoring", "binary") { AUC(curve: .prGain, summation: .minoring) },
    .init("AUCThresholds", "binary") { AUC(thresholds: uneven) },
    .init("AUCEvenThresholds", "certain") { AUC(thresholds: [0.25, 0.5, 0.75]) },
    .init("AUCFew", "certain") { AUC(thresholdCount: 3, curve: .pr) },
    .init("AUCMultiLabel", "binary") { AUC(multiLabel: true, labels: 3) },
    .init("AUCMultiLabelWeights", "binary") { AUC(curve: .pr, multiLabel: true, labelWeights: [0.2, 0.5, 1]) },
    .init("AUCMultiLabelThresholds", "binary") { AUC(thresholds: uneven, multiLabel: true) },
    .init("AUCLabelWeights", "binary") { AUC(labelWeights: [0.2, 0.5, 1]) },
    .init("AUCLogits", "binaryLogits") { AUC(fromLogits: true) },
  ]

  static let all = means + accuracies + counts + areas
}

@Suite struct KerasMetricTests {
  private static let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
    "Fixtures/metrics.safetensors"
  ).path
  private static let values = try? loadTensors(from: path)

  struct Batch {
    let predictions, targets, weights: Tensor
  }

  private static func batches(_ data: String, _ type: ElementType) throws -> [Batch] {
    let all = try #require(values)
    return try (0..<3).map { i in
      func tensor(_ key: String) throws -> Tensor {
        let value = try #require(all["\(data)/\(key).\(i)"])
        return value.elementType.isFloatingPoint ? value.converted(to: type) : value
      }
      return Batch(predictions: try tensor("p"), targets: try tensor("t"), weights: try tensor("w"))
    }
  }

  /// Results after each batch are those of Keras in float64: 1e-8, since Keras has log 2 and the quotients of IoU (2e-7) in
  /// float32. From float32 predictions some tens of roundings of 6e-8 arrive.
  @Test(arguments: MetricCase.all, [ElementType.float64, .float32])
  func resultsAreThoseOfKeras(_ sample: MetricCase, _ type: ElementType) throws {
    let batches = try Self.batches(sample.data, type)
    for isWeighted in [false, true] {
      let key = "\(sample.name)/\(isWeighted ? "weighted" : "plain")"
      let expected = try #require(Self.values?[key], "no values for \(key)")
      let metric = sample.make()
      for (i, batch) in batches.enumerated() {
        metric.update(batch.predictions, batch.targets, sampleWeight: isWeighted ? batch.weights : nil)
        let (a, b) = (metric.result(), expected[i])
        #expect(a.shape == b.shape)
        let tolerance = type == .float32 ? 1e-5 : sample.name.contains("IoU") ? 2e-7 : 1e-8
        for (x, y) in zip(a.elements(as: Double.self), b.elements(as: Double.self))
        where !(abs(x - y) <= tolerance * max(1, abs(y))) {
          Issue.record("\(key) after batch \(i): \(x), expected \(y)")
        }
      }
      metric.reset()
      for (i, batch) in batches.enumerated() {
        metric.update(batch.predictions, batch.targets, sampleWeight: isWeighted ? batch.weights : nil)
        if i == 0 { #expect(abs(metric.result().sum().item() - expected[0].sum().item()) < 1e-4, "after reset") }
      }
    }
  }

  /// Updating inside of a compiled function gives the same bits, and needs no values while it is traced.
  @Test(arguments: MetricCase.all) func compiledUpdatesAreTheSame(_ sample: MetricCase) throws {
    for isWeighted in [false, true] {
      let batches = try Self.batches(sample.data, .float32)
      let (eager, compiled) = (sample.make(), sample.make())
      let update = compile { (p: Tensor, t: Tensor, w: Tensor) in compiled.update(p, t, sampleWeight: isWeighted ? w : nil) }
      let read = compile { compiled.result() }
      for batch in batches {
        eager.update(batch.predictions, batch.targets, sampleWeight: isWeighted ? batch.weights : nil)
        update(batch.predictions, batch.targets, batch.weights)
        let (a, b) = (eager.result().elements(as: Double.self), compiled.result().elements(as: Double.self))
        #expect(a.map(\.bitPattern) == b.map(\.bitPattern), "\(a) and \(b), weighted \(isWeighted)")
        let c = read().elements(as: Double.self)
        #expect(a.map(\.bitPattern) == c.map(\.bitPattern), "\(a) and read \(c), weighted \(isWeighted)")
      }
    }
  }

  /// Large batches, which kernels share among threads and sum in blocks.
  @Test func compiledUpdatesOfLargeBatchesAreTheSame() {
    let generator = Generator(seed: 8)
    let p = sigmoid(Tensor.randn([3001, 7], generator: generator))
    let t = Tensor.bernoulli([3001, 7], probability: 0.4, generator: generator).converted(to: .float32)
    let w = Tensor.rand([3001], generator: generator)
    let make: [@Sendable () -> Metric] = [
      { MeanSquaredError() }, { RootMeanSquaredError() }, { BinaryCrossEntropy() }, { CosineSimilarityMetric() },
      { KLDivergence() }, { R2Score() }, { PearsonCorrelation() }, { F1Score() }, { AUC() },
      { AUC(curve: .pr, multiLabel: true) },
      { Precision(thresholds: [0.2, 0.3, 0.7]) }, { RecallAtPrecision(precision: 0.4) }, { BinaryIoU() }, { Mean() }, { Sum() },
    ]
    for make in make {
      for isWeighted in [false, true] {
        let (eager, compiled) = (make(), make())
        let update = compile { (p: Tensor, t: Tensor, w: Tensor) in compiled.update(p, t, sampleWeight: isWeighted ? w : nil) }
        for _ in 0..<2 {
          eager.update(p, t, sampleWeight: isWeighted ? w : nil)
          update(p, t, w)
        }
        let (a, b) = (eager.result().elements(as: Double.self), compiled.result().elements(as: Double.self))
        #expect(a.map(\.bitPattern) == b.map(\.bitPattern), "\(eager.name): \(a) and \(b), weighted \(isWeighted)")
      }
    }
  }

  /// Variables that the first batch makes can be made for a saved state before.
  @Test func savedStatesFindTheirVariables() {
    let make: [@Sendable () -> Metric] = [
      { F1Score() }, { R2Score() }, { AUC(multiLabel: true) }, { AUC() }, { MeanSquaredError() },
    ]
    let (p, t) = (Tensor([[0.2, 0.7], [0.9, 0.4]]), Tensor([[0.0, 1.0], [1.0, 1.0]]))
    for make in make {
      let (first, second) = (make(), make())
      first.update(p, t)
      let saved = Dictionary(uniqueKeysWithValues: first.namedVariables.map { ($0.name, $0.variable.value) })
      second.build(like: saved)
      for (name, variable) in second.namedVariables { variable.value = saved[name]! }
      #expect(second.namedVariables.map(\.name) == first.namedVariables.map(\.name))
      for metric in [first, second] { metric.update(t, p) }
      #expect(first.result().floats == second.result().floats)
    }
  }

  /// What a metric reads of a model's output does not reach the model.
  @Test func metricsKeepNoHistory() {
    let x = Parameter(Tensor([0.3, 0.8]))
    let metric = MeanSquaredError()
    metric.update(x.value * 2, Tensor([1.0, 1.0]))
    #expect(!metric.result().isTracked)
  }

  @Test func predictionsThatAreNoNumbersAreNotPositive() {
    let auc = TruePositives(thresholds: [0, 0.5, 1])
    auc.update(Tensor([.nan, 0.7, 0.0]), Tensor([1, 1, 1]))
    #expect(auc.result().floats == [1, 1, 0])
    let labels = SparseTopKCategoricalAccuracy(k: 1)
    labels.update(Tensor([[0.1, 0.9], [0.1, 0.9]]), Tensor(elements: [1, -100]))
    #expect(labels.result().item() == 0.5)
  }

  private func expect(
    _ result: ExitTest.Result?, says text: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(printed.contains(text), "\(printed)", sourceLocation: sourceLocation)
  }

  @Test func shapesThatWouldBroadcastAreRefused() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        MeanSquaredError().update(Tensor.zeros([4, 3]), Tensor.zeros([3]))
      },
      says: "metric mean_squared_error: the predictions have shape [4, 3], the targets [3]; they must be the same")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        SparseCategoricalAccuracy().update(Tensor.zeros([4, 3, 5]), Tensor.zeros([4, 5], .int64))
      },
      says:
        "the targets have shape [4, 5], expected classes [4, 3] for predictions of shape [4, 3, 5] (axis: 1 for [batch, classes, …])"
    )
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        Precision().update(Tensor.zeros([4]), Tensor.zeros([4]), sampleWeight: Tensor.ones([3]))
      }, says: "metric precision: sampleWeight has shape [3], which does not fit values of shape [4]")
  }
}
