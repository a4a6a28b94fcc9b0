import ApusFormats
import ApusNN
import ApusTensor
import Testing

/// The values of Fixtures/make_optimizers.py.
enum OptimizerFixture {
  static let all = (try? loadTensors(from: fixturePath("everyOptimizer.safetensors"))) ?? [:]
  static let kept = [0, 1, 4, 9]

  static func value(_ key: String) throws -> Tensor { try #require(all[key], "no value \(key)") }

  static func parameters(_ which: [Int], _ type: ElementType) throws -> [Parameter] {
    try which.map { Parameter(try value("start.\($0)").converted(to: type) + 0, name: "p\($0)") }
  }

  /// The gradients of a step; PyTorch's second parameter has none in the third.
  static func gradients(_ which: [Int], _ parameters: [Parameter], _ step: Int, _ type: ElementType, all: Bool = false) throws
    -> Gradients
  {
    Gradients(
      variables: parameters,
      values: try which.map { i in
        step == 2 && i == 1 && !all ? nil : try value("gradient.\(step).\(i)").converted(to: type)
      })
  }
}

struct EveryOptimizerCase: Sendable, CustomTestStringConvertible {
  let name: String
  let which: [Int]
  /// Whether all parameters have a gradient in every step: Keras counts steps for all together.
  let isKeras: Bool
  let make: @Sendable ([Parameter]) -> Optimizer
  /// Of float64; more where the original computes in float32 on its way.
  let tolerance64: Double
  var testDescription: String { name }

  init(
    _ name: String, _ which: [Int] = [0, 1, 2, 3], keras: Bool = false, tolerance64: Double = 1e-12,
    _ make: @escaping @Sendable ([Parameter]) -> Optimizer
  ) {
    (self.name, self.which, isKeras, self.make, self.tolerance64) = (name, which, keras, make, tolerance64)
  }

  static let all: [EveryOptimizerCase] = torch + keras + composed

  static let torch: [EveryOptimizerCase] = [
    .init("adamax") { Adamax($0) },
    .init("adamaxAll") { Adamax($0, learningRate: 0.05, betas: (0.4, 0.6), epsilon: 1e-3, weightDecay: 0.1, maximize: true) },
    .init("nadam") { NAdam($0) },
    .init("nadamAll") {
      NAdam($0, learningRate: 0.05, betas: (0.8, 0.9), epsilon: 1e-3, weightDecay: 0.1, momentumDecay: 0.3, maximize: true)
    },
    .init("nadamDecoupled") { NAdam($0, learningRate: 0.05, weightDecay: 0.1, decoupledWeightDecay: true) },
    .init("radam") { RAdam($0, learningRate: 0.05) },
    .init("radamAll") { RAdam($0, learningRate: 0.05, betas: (0.8, 0.9), epsilon: 1e-3, weightDecay: 0.1, maximize: true) },
    .init("radamDecoupled") { RAdam($0, learningRate: 0.05, weightDecay: 0.1, decoupledWeightDecay: true) },
    .init("adagrad") { Adagrad($0) },
    .init("adagradAll") {
      Adagrad(
        $0, learningRate: 0.1, learningRateDecay: 0.2, weightDecay: 0.1, initialAccumulatorValue: 0.3, epsilon: 1e-3,
        maximize: true)
    },
    .init("adadelta") { Adadelta($0) },
    .init("adadeltaAll") { Adadelta($0, learningRate: 0.7, rho: 0.6, epsilon: 1e-3, weightDecay: 0.1, maximize: true) },
    .init("adamGroups") {
      Adam(
        [
          ParameterGroup(Array($0[..<2])) { ($0.learningRate, $0.weightDecay, $0.amsgrad) = (0.01, 0.3, true) },
          ParameterGroup(Array($0[2...])) { ($0.beta1, $0.beta2) = (0.5, 0.7) },
        ], learningRate: 0.1)
    },
    .init("nadamGroups") {
      NAdam(
        [
          ParameterGroup(Array($0[..<2])) { ($0.learningRate, $0.weightDecay) = (0.01, 0.3) },
          ParameterGroup(Array($0[2...])) { $0.momentumDecay = 0.1 },
        ], learningRate: 0.1)
    },
  ]

  static let keras: [EveryOptimizerCase] = [
    .init("lion", keras: true) { Lion($0) },
    .init("lionAll", keras: true) { Lion($0, learningRate: 0.05, betas: (0.6, 0.8), weightDecay: 0.1) },
    .init("ftrl", keras: true) { Ftrl($0, learningRate: 0.1) },
    .init("ftrlAll", keras: true) {
      Ftrl(
        $0, learningRate: 0.1, learningRatePower: -0.7, initialAccumulatorValue: 0.3, l1RegularizationStrength: 0.05,
        l2RegularizationStrength: 0.1, l2ShrinkageRegularizationStrength: 0.02, beta: 0.2, weightDecay: 0.1)
    },
    .init("lamb", keras: true) { Lamb($0, learningRate: 0.05) },
    .init("lambAll", keras: true) { Lamb($0, learningRate: 0.05, betas: (0.6, 0.8), epsilon: 1e-3, weightDecay: 0.1) },
    .init("scheduleFreeKeras", keras: true) {
      ScheduleFreeAdamW($0, learningRate: 0.05, warmupSteps: 4, weightLearningRatePower: 0)
    },
    .init("clipValue", keras: true) { clipping(.value(0.5), $0) },
    // Keras computes the limited norm in float32.
    .init("clipNorm", keras: true, tolerance64: 1e-7) { clipping(.norm(0.5), $0) },
  ]

  private static func clipping(_ clipping: GradientClipping, _ parameters: [Parameter]) -> Optimizer {
    let optimizer = SGD(parameters, learningRate: 0.1)
    optimizer.clipping = clipping
    return optimizer
  }

  static let composed: [EveryOptimizerCase] = [
    .init("clipGlobalNorm") { clipping(.globalNorm(0.5), $0) },
    .init("adafactor") { Adafactor($0) },
    .init("adafactorAll") {
      Adafactor(
        $0, learningRate: 0.4, beta2Decay: -0.5, epsilons: (1e-3, 1e-2), d: 1.2, weightDecay: 0.1, maximize: true)
    },
    .init("adafactorGroups") {
      Adafactor(
        [
          ParameterGroup(Array($0[..<2])) { ($0.learningRate, $0.weightDecay) = (0.01, 0.3) },
          ParameterGroup(Array($0[2...])),
        ], learningRate: 0.1)
    },
    .init("asgd") { ASGD($0) },
    .init("asgdAll") { ASGD($0, learningRate: 0.1, lambda: 0.02, alpha: 0.6, t0: 3, weightDecay: 0.1, maximize: true) },
    .init("rprop") { Rprop($0) },
    .init("rpropAll") { Rprop($0, learningRate: 0.1, etas: (0.3, 1.5), stepSizes: (0.02, 0.3), maximize: true) },
    .init("sparseAdam") { SparseAdam($0, learningRate: 0.05) },
    .init("sparseAdamAll") { SparseAdam($0, learningRate: 0.05, betas: (0.4, 0.6), epsilon: 1e-3, maximize: true) },
    .init("muon", [0, 3]) { Muon($0, learningRate: 0.1, precision: nil) },
    .init("muonAll", [0, 3]) {
      Muon(
        $0, learningRate: 0.1, weightDecay: 0.3, momentum: 0.7, nesterov: false, coefficients: [3, -4, 2], steps: 3,
        adjustment: .matchRMSAdamW, precision: nil)
    },
    .init("scheduleFreeAdamW", [0, 2]) { ScheduleFreeAdamW($0, learningRate: 0.05) },
    .init("scheduleFreeAdamWAll", [0, 2]) {
      ScheduleFreeAdamW($0, learningRate: 0.05, betas: (0.8, 0.9), epsilon: 1e-3, weightDecay: 0.1, warmupSteps: 4, r: 0.5)
    },
    .init("scheduleFreeSGD", [0, 2]) { ScheduleFreeSGD($0, learningRate: 0.1, momentum: 0.8, weightDecay: 0.05, warmupSteps: 3) },
  ]
}
