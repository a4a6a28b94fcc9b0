import ApusFormats
import ApusNN
import ApusTensor
import Foundation
import Testing

/// A loss over some inputs `x`, with what else it takes by name (`t`: the target).
struct MoreLossCase: Sendable, CustomTestStringConvertible {
  typealias Loss = @Sendable (_ x: [Tensor], _ others: [String: Tensor], Reduction) -> Tensor
  let name: String
  let loss: Loss
  var testDescription: String { name }

  init(_ name: String, _ loss: @escaping Loss) { (self.name, self.loss) = (name, loss) }

  /// One input and a target.
  static func pair(_ name: String, _ loss: @escaping @Sendable (Tensor, Tensor, Reduction) -> Tensor) -> MoreLossCase {
    MoreLossCase(name) { x, others, reduction in loss(x[0], others["t"]!, reduction) }
  }

  static let torch: [MoreLossCase] = [
    .init("gaussianNLLLoss") { x, _, r in gaussianNLLLoss(x[0], x[1], x[2], reduction: r) },
    .init("gaussianNLLLossFull") { x, _, r in gaussianNLLLoss(x[0], x[1], x[2], full: true, epsilon: 1e-3, reduction: r) },
    .init("gaussianNLLLossRows") { x, _, r in gaussianNLLLoss(x[0], x[1], x[2], reduction: r) },
    .pair("poissonNLLLoss") { poissonNLLLoss($0, $1, reduction: $2) },
    .pair("poissonNLLLossFull") { poissonNLLLoss($0, $1, logInput: false, full: true, epsilon: 1e-4, reduction: $2) },
    .pair("klDivLoss") { klDivLoss($0, $1, reduction: $2) },
    .init("klDivLossLog") { x, _, r in klDivLoss(x[0], x[1], reduction: r, logTarget: true) },
    .init("marginRankingLoss") { x, o, r in marginRankingLoss(x[0], x[1], o["t"]!, margin: 0.3, reduction: r) },
    .pair("hingeEmbeddingLoss") { hingeEmbeddingLoss($0, $1, margin: 0.7, reduction: $2) },
    .pair("softMarginLoss") { softMarginLoss($0, $1, reduction: $2) },
    .pair("multiMarginLoss") { multiMarginLoss($0, $1, reduction: $2) },
    .init("multiMarginLossSquared") { x, o, r in
      multiMarginLoss(x[0], o["t"]!, p: 2, margin: 0.6, weight: o["w"], reduction: r)
    },
    .pair("multiMarginLossOne") { multiMarginLoss($0, $1, reduction: $2) },
    .pair("multiLabelMarginLoss") { multiLabelMarginLoss($0, $1, reduction: $2) },
    .pair("multiLabelMarginLossOne") { multiLabelMarginLoss($0, $1, reduction: $2) },
    .pair("multiLabelSoftMarginLoss") { multiLabelSoftMarginLoss($0, $1, reduction: $2) },
    .init("multiLabelSoftMarginLossWeighted") { x, o, r in
      multiLabelSoftMarginLoss(x[0], o["t"]!, weight: o["w"], reduction: r)
    },
    .init("crossEntropySoftImage") { x, o, r in
      crossEntropy(x[0], o["t"]!, weight: o["w"], reduction: r, labelSmoothing: 0.2)
    },
    .init("nllLossImageWeighted") { x, o, r in nllLoss(x[0], o["t"]!, weight: o["w"], ignoreIndex: -7, reduction: r) },
    .init("cosineEmbeddingLoss") { x, o, r in cosineEmbeddingLoss(x[0], x[1], o["t"]!, margin: -0.2, reduction: r) },
    .init("cosineEmbeddingLossOne") { x, o, r in cosineEmbeddingLoss(x[0], x[1], o["t"]!, reduction: r) },
    .init("tripletMarginLoss") { x, _, r in tripletMarginLoss(x[0], x[1], x[2], reduction: r) },
    .init("tripletMarginLossSwap") { x, _, r in tripletMarginLoss(x[0], x[1], x[2], margin: 2, swap: true, reduction: r) },
    .init("tripletMarginLossL1") { x, _, r in tripletMarginLoss(x[0], x[1], x[2], p: 1, reduction: r) },
    .init("tripletMarginLossL3") { x, _, r in tripletMarginLoss(x[0], x[1], x[2], p: 3, epsilon: 1e-3, reduction: r) },
    .init("tripletMarginWithDistanceLoss") { x, _, r in
      tripletMarginWithDistanceLoss(
        x[0], x[1], x[2], distance: { square($0 - $1).sum(axis: -1) }, margin: 0.5, swap: true, reduction: r)
    },
    .init("tripletMarginWithDistanceLossDefault") { x, _, r in
      tripletMarginWithDistanceLoss(x[0], x[1], x[2], reduction: r)
    },
  ]

  private static func ctcCase(_ name: String, blank: Int = 0, zeroInfinity: Bool = false) -> MoreLossCase {
    .init(name) { x, o, r in
      ctcLoss(
        x[0], o["t"]!, inputLengths: o["frames"]!, targetLengths: o["lengths"]!, blank: blank, reduction: r,
        zeroInfinity: zeroInfinity)
    }
  }

  static let ctc: [MoreLossCase] = [
    ctcCase("ctcLoss"), ctcCase("ctcLossFlat"), ctcCase("ctcLossZeroInfinity", zeroInfinity: true),
    ctcCase("ctcLossInfinity"), ctcCase("ctcLossBlank", blank: 3), ctcCase("ctcLossOne"),
    .pair("ctc") { ApusNN.ctc($0, $1, reduction: $2) },
  ]

  static let keras: [MoreLossCase] = [
    .pair("hingeLoss") { hingeLoss($0, $1, reduction: $2) },
    .pair("hingeLossBinary") { hingeLoss($0, $1, reduction: $2) },
    .pair("squaredHingeLoss") { squaredHingeLoss($0, $1, reduction: $2) },
    .pair("categoricalHingeLoss") { categoricalHingeLoss($0, $1, reduction: $2) },
    .pair("logCoshLoss") { logCoshLoss($0, $1, reduction: $2) },
    .pair("meanAbsolutePercentageError") { meanAbsolutePercentageError($0, $1, reduction: $2) },
    .pair("meanSquaredLogarithmicError") { meanSquaredLogarithmicError($0, $1, reduction: $2) },
    .pair("poissonLoss") { poissonLoss($0, $1, reduction: $2) },
    .pair("klDivergenceLoss") { klDivergenceLoss($0, $1, reduction: $2) },
    .pair("cosineSimilarityLoss") { cosineSimilarityLoss($0, $1, reduction: $2) },
    .pair("cosineSimilarityLossAxis") { cosineSimilarityLoss($0, $1, axis: 1, reduction: $2) },
    .pair("diceLoss") { diceLoss($0, $1, reduction: $2) },
    .pair("diceLossAxes") { diceLoss($0, $1, axes: [1, 2], reduction: $2) },
    .pair("tverskyLoss") { tverskyLoss($0, $1, reduction: $2) },
    .pair("tverskyLossAxes") { tverskyLoss($0, $1, alpha: 0.3, beta: 0.8, axes: [1, 2], reduction: $2) },
    .pair("circleLoss") { circleLoss($0, $1, gamma: 3, margin: 0.3, reduction: $2) },
    .pair("circleLossDiagonal") { circleLoss($0, $1, removeDiagonal: false, reduction: $2) },
    .pair("binaryFocalCrossEntropy") { binaryFocalCrossEntropy($0, $1, reduction: $2) },
    .pair("binaryFocalCrossEntropyAll") {
      binaryFocalCrossEntropy(
        $0, $1, applyClassBalancing: true, alpha: 0.4, gamma: 1.5, fromLogits: true, labelSmoothing: 0.1, reduction: $2)
    },
    .pair("categoricalFocalCrossEntropy") { categoricalFocalCrossEntropy($0, $1, reduction: $2) },
    .pair("categoricalFocalCrossEntropyAll") {
      categoricalFocalCrossEntropy(
        $0, $1, alpha: [0.25, 0.5, 0.375], gamma: 1.5, fromLogits: true, labelSmoothing: 0.1, reduction: $2)
    },
    .pair("categoricalCrossEntropy") { categoricalCrossEntropy($0, $1, labelSmoothing: 0.1, reduction: $2) },
    .pair("categoricalCrossEntropyLogits") { categoricalCrossEntropy($0, $1, fromLogits: true, reduction: $2) },
    .pair("sparseCategoricalCrossEntropy") { sparseCategoricalCrossEntropy($0, $1, reduction: $2) },
    .pair("sparseCategoricalCrossEntropyIgnored") {
      sparseCategoricalCrossEntropy($0, $1, fromLogits: true, ignoreClass: -1, reduction: $2)
    },
    .pair("categoricalGeneralizedCrossEntropy") { categoricalGeneralizedCrossEntropy($0, $1, q: 0.7, reduction: $2) },
  ]

  static let all = torch + ctc + keras
}

@Suite struct MoreLossTests {
  private static let values = try? loadTensors(from: fixturePath("more_losses.safetensors"))

  private static func group(_ prefix: String, _ type: ElementType) throws -> [String: Tensor] {
    let all = try #require(values)
    var group: [String: Tensor] = [:]
    for (key, value) in all where key.hasPrefix(prefix + "/") {
      group[String(key.dropFirst(prefix.count + 1))] = value.elementType.isFloatingPoint ? value.converted(to: type) : value
    }
    return group
  }

  private static func inputs(_ group: [String: Tensor]) -> [Tensor] { (0..<3).compactMap { group["x.\($0)"] } }

  /// Relative to the largest value, see `expectClose`. In float32 the circle loss multiplies differences of similarities by up to
  /// 80² / 2 before an exponential, and the p-norm of degree 3 goes through a cube root: some more roundings are to be seen.
  @Test(arguments: MoreLossCase.all, [ElementType.float64, .float32])
  func lossesAndGradientsAreThoseOfPyTorchAndKeras(_ sample: MoreLossCase, _ type: ElementType) throws {
    let others = try Self.group(sample.name, type)
    let x = Self.inputs(others)
    var count = 0
    for (suffix, reduction) in [("mean", Reduction.mean), ("sum", .sum), ("none", .none), ("batchmean", .batchMean)] {
      let expected = try Self.group("\(sample.name).\(suffix)", type)
      guard let y = expected["y"], let dy = expected["dy"] else { continue }
      count += 1
      let (value, pullback) = vjp(at: x) { [sample.loss($0, others, reduction)] }
      // Keras's float64 values hold log 2 in float32; its CTC computes in float32.
      let isKeras = MoreLossCase.keras.contains { $0.name == sample.name }
      let tolerance = sample.name == "ctc" ? 2e-6 : isKeras ? 1e-8 : 1e-12
      expectClose(value[0], y, type, suffix, tolerance64: tolerance)
      for (i, dx) in pullback([dy]).enumerated() {
        expectClose(dx, try #require(expected["dx.\(i)"]), type, "gradient \(i) of \(suffix)", tolerance64: tolerance)
      }
    }
    #expect(count > 0)
  }

  @Test(arguments: MoreLossCase.all) func lossesAreTheSameInCompiledFunctions(_ sample: MoreLossCase) throws {
    if sample.name == "ctcLossInfinity" { return }
    for type in [ElementType.float64, .float32] {
      let others = try Self.group(sample.name, type)
      let x = Self.inputs(others)
      // Integers (labels, lengths) are arguments too: a trace must not read them.
      let names = others.keys.sorted().filter { !$0.hasPrefix("x.") }
      func run(_ x: [Tensor], _ rest: [Tensor]) -> [Tensor] {
        let named = Dictionary(uniqueKeysWithValues: zip(names, rest))
        let (value, gradients) = valueAndGradient(at: x) { sample.loss($0, named, .mean) }
        return [value] + gradients
      }
      let rest = names.map { others[$0]! }
      let compiled = compile { (x: [Tensor], rest: [Tensor]) in run(x, rest) }
      for (a, b) in zip(compiled(x, rest), run(x, rest)) {
        // Sums inside of a fused group have another order.
        expectClose(a, b, type, "compiled", tolerance64: 1e-14)
      }
    }
  }

  @Test func lossesCanBeHandedOverWithAReduction() {
    let plain: [(Tensor, Tensor) -> Tensor] = [
      poissonNLLLoss, poissonLoss, klDivLoss, klDivergenceLoss, logCoshLoss, meanAbsolutePercentageError,
      meanSquaredLogarithmicError, hingeLoss, squaredHingeLoss, categoricalHingeLoss, hingeEmbeddingLoss, softMarginLoss,
      multiLabelSoftMarginLoss, cosineSimilarityLoss, diceLoss, tverskyLoss, binaryFocalCrossEntropy,
      categoricalFocalCrossEntropy, categoricalCrossEntropy, mseLoss, l1Loss, huberLoss, smoothL1Loss, binaryCrossEntropy,
      binaryCrossEntropyWithLogits, crossEntropy,
    ]
    let reduced: [(Tensor, Tensor, Reduction) -> Tensor] = [
      poissonNLLLoss, poissonLoss, klDivLoss, klDivergenceLoss, logCoshLoss, meanAbsolutePercentageError,
      meanSquaredLogarithmicError, hingeLoss, squaredHingeLoss, categoricalHingeLoss, hingeEmbeddingLoss, softMarginLoss,
      multiLabelSoftMarginLoss, cosineSimilarityLoss, diceLoss, tverskyLoss, binaryFocalCrossEntropy,
      categoricalFocalCrossEntropy, categoricalCrossEntropy, mseLoss, l1Loss, huberLoss, smoothL1Loss, binaryCrossEntropy,
      binaryCrossEntropyWithLogits, crossEntropy,
    ]
    let (x, t) = (Tensor([[0.2, 0.8], [0.6, 0.4]]), Tensor([[0.0, 1.0], [1.0, 0.0]]))
    for (i, loss) in plain.enumerated() {
      let value = loss(x, t).item()
      #expect(abs(value - reduced[i](x, t, .mean).item()) < 1e-6)
      #expect(abs(value - reduced[i](x, t, .none).mean().item()) < 1e-6, "loss \(i)")
    }
    let ofClasses: [(Tensor, Tensor) -> Tensor] = [
      multiMarginLoss, sparseCategoricalCrossEntropy, categoricalGeneralizedCrossEntropy, crossEntropy, nllLoss, circleLoss,
    ]
    let ofClassesReduced: [(Tensor, Tensor, Reduction) -> Tensor] = [
      multiMarginLoss, sparseCategoricalCrossEntropy, categoricalGeneralizedCrossEntropy, crossEntropy, nllLoss, circleLoss,
    ]
    for (i, loss) in ofClasses.enumerated() {
      let labels = Tensor(elements: [1, 1])
      #expect(abs(loss(x, labels).item() - ofClassesReduced[i](x, labels, .none).mean().item()) < 1e-6, "loss \(i)")
    }
    let labels = Tensor(elements: [0, 1, -1, -1]).reshaped(2, 2)
    #expect(multiLabelMarginLoss(x, labels).item() == multiLabelMarginLoss(x, labels, reduction: .mean).item())
    let logits = Tensor.zeros([2, 3, 4])
    #expect(
      ctc(logits, Tensor.ones([2, 2], .int64)).item() == ctc(logits, Tensor.ones([2, 2], .int64), reduction: .mean).item())
  }

  /// Each example by itself, as the trainer weighs samples.
  @Test func lossesOfSingleExamplesByVmapAreTheSame() {
    let pairs: [(Tensor, Tensor) -> Tensor] = [
      poissonNLLLoss, poissonLoss, klDivLoss, klDivergenceLoss, logCoshLoss, meanAbsolutePercentageError,
      meanSquaredLogarithmicError, hingeLoss, squaredHingeLoss, categoricalHingeLoss, hingeEmbeddingLoss, softMarginLoss,
      multiLabelSoftMarginLoss, cosineSimilarityLoss, diceLoss, tverskyLoss, binaryFocalCrossEntropy,
      categoricalFocalCrossEntropy, categoricalCrossEntropy, mseLoss, l1Loss, huberLoss, smoothL1Loss, binaryCrossEntropy,
      binaryCrossEntropyWithLogits, crossEntropy,
    ]
    let (x, t) = (Tensor([[0.2, 0.7, 0.1], [0.6, 0.1, 0.3]]), Tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    let ofClasses: [(Tensor, Tensor) -> Tensor] = [
      multiMarginLoss, sparseCategoricalCrossEntropy, categoricalGeneralizedCrossEntropy, crossEntropy, nllLoss,
    ]
    let sets = Tensor([[1, -1, 0], [2, 0, -1]], .int64)
    func check(_ losses: [(Tensor, Tensor) -> Tensor], _ x: Tensor, _ t: Tensor) {
      for (i, loss) in losses.enumerated() {
        let each = vmap { (x: Tensor, t: Tensor) in loss(x.expanded(at: 0), t.expanded(at: 0)).mean() }
        let values = each(x, t)
        for row in 0..<2 {
          let alone = loss(x[row].expanded(at: 0), t[row].expanded(at: 0)).item()
          #expect(abs(values[row].item() - alone) < 1e-5, "loss \(i), row \(row)")
        }
      }
    }
    check(pairs, x, t)
    check(ofClasses, x, Tensor(elements: [2, 0]))
    check([multiLabelMarginLoss], x, sets)
    check([ctc], Tensor.randn([2, 4, 3], generator: Generator(seed: 1)), Tensor([[1, 2, 0], [2, 2, 0]], .int64))
  }

  @Test func gradientsOfTheFocalLossStayWhereLogitsAreWrongForSure() {
    let (x, t) = (Tensor([[40.0, -40.0]], .float32), Tensor([[0.0, 1.0]]))
    let slopes = gradient(at: x) { binaryFocalCrossEntropy($0, t, fromLogits: true, reduction: .sum) }.floats
    #expect(abs(slopes[0] - 0.5) < 1e-5 && abs(slopes[1] + 0.5) < 1e-5)
  }

  @Test func ctcOfNoLabelsIsAllBlanks() {
    let x = logSoftmax(Tensor.randn([4, 2, 3], .float64, generator: Generator(seed: 2)))
    let (frames, none) = (Tensor(elements: [4, 3]), Tensor.zeros([2], .int64))
    let losses = ctcLoss(x, Tensor.zeros([2, 0], .int64), inputLengths: frames, targetLengths: none, reduction: .none)
    let blanks = x[..., 0]
    #expect(abs(losses[0].item(as: Double.self) + blanks[0..., 0].sum().item(as: Double.self)) < 1e-12)
    #expect(abs(losses[1].item(as: Double.self) + blanks[0..<3, 1].sum().item(as: Double.self)) < 1e-12)
    let slope = gradient(at: x) {
      ctcLoss($0, Tensor.zeros([0], .int64), inputLengths: frames, targetLengths: none, reduction: .sum)
    }
    // exp(x) less one for the blank, at the frames that count.
    expectClose(
      slope[0..., 0], exp(x[0..., 0]) - Tensor.oneHot(Tensor.zeros([4], .int64), classes: 3, .float64), .float64, "slope")
    #expect(slope[3, 1].floats == [0, 0, 0])
  }

  /// Second derivatives of CTC against central differences of the first. The first is that by the logits (as PyTorch's, which
  /// has no second), so this is their Hessian.
  @Test func ctcHasSecondDerivatives() {
    let x = Tensor.randn([5, 2, 3], .float64, generator: Generator(seed: 3))
    let direction = Tensor.randn([5, 2, 3], .float64, generator: Generator(seed: 4))
    let targets = Tensor(elements: [1, 2, 2, 2]).reshaped(2, 2)
    func slope(_ x: Tensor) -> Tensor {
      gradient(at: x) {
        ctcLoss(
          logSoftmax($0), targets, inputLengths: Tensor(elements: [5, 4]), targetLengths: Tensor(elements: [2, 2]),
          reduction: .sum)
      }
    }
    let exact = gradient(at: x) { (slope($0) * direction).sum() }
    let h = 1e-5
    // The Hessian is symmetric: its product with a direction is the slope's change along it.
    let difference = (slope(x + direction * h) - slope(x - direction * h)) / (2 * h)
    expectClose(exact, difference, .float64, "second derivative", tolerance64: 1e-8)
  }
}
