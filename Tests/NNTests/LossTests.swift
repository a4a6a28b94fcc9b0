import ApusNN
import ApusTensor
import Foundation
import Testing

struct LossCase: Sendable, CustomTestStringConvertible {
  let name: String
  let loss: @Sendable (_ x: Tensor, _ t: Tensor, _ values: [String: Tensor], Reduction) -> Tensor
  var testDescription: String { name }

  init(_ name: String, _ loss: @escaping @Sendable (Tensor, Tensor, [String: Tensor], Reduction) -> Tensor) {
    (self.name, self.loss) = (name, loss)
  }

  static let all: [LossCase] = [
    .init("crossEntropy") { x, t, _, r in crossEntropy(x, t, reduction: r) },
    .init("crossEntropyIgnored") { x, t, _, r in crossEntropy(x, t, reduction: r) },
    .init("crossEntropySmooth") { x, t, _, r in crossEntropy(x, t, reduction: r, labelSmoothing: 0.1) },
    .init("crossEntropyWeighted") { x, t, v, r in crossEntropy(x, t, weight: v["w"], reduction: r) },
    .init("crossEntropyWeightedSmooth") { x, t, v, r in crossEntropy(x, t, weight: v["w"], reduction: r, labelSmoothing: 0.2) },
    .init("crossEntropyImage") { x, t, _, r in crossEntropy(x, t, ignoreIndex: 255, reduction: r) },
    .init("crossEntropyImageWeightedSmooth") { x, t, v, r in
      crossEntropy(x, t, weight: v["w"], ignoreIndex: 255, reduction: r, labelSmoothing: 0.1)
    },
    .init("crossEntropySoft") { x, t, _, r in crossEntropy(x, t, reduction: r) },
    .init("crossEntropySoftWeightedSmooth") { x, t, v, r in
      crossEntropy(x, t, weight: v["w"], reduction: r, labelSmoothing: 0.3)
    },
    .init("crossEntropyOne") { x, t, _, r in crossEntropy(x, t, reduction: r) },
    .init("nll") { x, t, _, r in nllLoss(x, t, reduction: r) },
    .init("nllWeighted") { x, t, v, r in nllLoss(x, t, weight: v["w"], reduction: r) },
    .init("nllImage") { x, t, _, r in nllLoss(x, t, ignoreIndex: 255, reduction: r) },
    .init("mse") { x, t, _, r in mseLoss(x, t, reduction: r) },
    .init("l1") { x, t, _, r in l1Loss(x, t, reduction: r) },
    .init("huber") { x, t, _, r in huberLoss(x, t, reduction: r, delta: 0.8) },
    .init("smoothL1") { x, t, _, r in smoothL1Loss(x, t, reduction: r, beta: 1.5) },
    .init("bce") { x, t, _, r in binaryCrossEntropy(x, t, reduction: r) },
    .init("bceWeighted") { x, t, v, r in binaryCrossEntropy(x, t, weight: v["w"], reduction: r) },
    .init("bceLogits") { x, t, _, r in binaryCrossEntropyWithLogits(x, t, reduction: r) },
    .init("bceLogitsWeighted") { x, t, v, r in
      binaryCrossEntropyWithLogits(x, t, weight: v["w"], reduction: r, posWeight: v["pw"])
    },
  ]
}

@Suite struct LossTests {
  @Test(arguments: LossCase.all, [ElementType.float64, .float32])
  func lossesAndGradientsAreThoseOfPyTorch(_ sample: LossCase, _ type: ElementType) throws {
    for (suffix, reduction) in [("mean", Reduction.mean), ("sum", .sum), ("none", .none)] {
      let fixture = try Fixture("losses", "\(sample.name).\(suffix)")
      let x = Parameter(try fixture("x", type))
      var values: [String: Tensor] = [:]
      for key in ["w", "pw"] where fixture.values[key] != nil { values[key] = try fixture(key, type) }
      let y = sample.loss(x.value, try fixture("t", type), values, reduction)
      expectClose(y, try fixture("y", type), type, "\(suffix)")
      let dx = try #require(y.gradients(for: [x], cotangent: try fixture("dy", type))[x])
      // PyTorch's limit of 1e-12 in the slope of binary cross entropy is a float32 constant, 4e-9 off.
      let isLimited = sample.name.hasPrefix("bce") && fixture.values["x"]!.floats.contains(0)
      expectClose(dx, try fixture("dx", type), type, "gradient of \(suffix)", tolerance64: isLimited ? 5e-9 : 1e-12)
    }
  }

  @Test func lossesCanBeHandedOverAsFunctions() {
    let losses: [(Tensor, Tensor) -> Tensor] = [
      crossEntropy, nllLoss, mseLoss, l1Loss, huberLoss, smoothL1Loss, binaryCrossEntropy, binaryCrossEntropyWithLogits,
    ]
    let half = Tensor.full([2, 2], 0.5)
    // The mean of: log 2 by four ways, −0.5, and of zero differences.
    let expected: [Float] = [Float(log(2.0)), -0.5, 0, 0, 0, 0, Float(log(2.0)), 0]
    for (i, loss) in losses.enumerated() {
      let target = i < 2 ? Tensor(elements: [0, 1]) : i == 7 ? Tensor.full([2, 2], 0.5) : half
      let value = loss(i == 7 ? Tensor.zeros([2, 2]) : half, target).item()
      #expect(abs(value - (i == 7 ? Float(log(2.0)) : expected[i])) < 1e-6)
    }
  }

  @Test func probabilitiesGetGradientsInBinaryCrossEntropyToo() throws {
    // d/dt of −(t log x + (1 − t) log(1 − x)) is log(1 − x) − log x; second derivative by x: t/x² + (1 − t)/(1 − x)².
    let (x, t) = (Tensor(elements: [0.2, 0.7]), Tensor(elements: [0.4, 1.0]))
    let g = gradient(at: t) { binaryCrossEntropy(x, $0, reduction: .sum) }.elements(as: Double.self)
    for (value, p) in zip(g, [0.2, 0.7]) { #expect(abs(value - (log(1 - p) - log(p))) < 1e-12) }
    let second = gradient(at: x) { x in gradient(at: x) { binaryCrossEntropy($0, t, reduction: .sum) }.sum() }
    for (i, value) in second.elements(as: Double.self).enumerated() {
      let (p, q) = ([0.2, 0.7][i], [0.4, 1.0][i])
      #expect(abs(value - (q / (p * p) + (1 - q) / ((1 - p) * (1 - p)))) < 1e-9)
    }
  }
}
