import ApusTensor

/// x₁ · x₂ / (max(‖x₁‖, ε) max(‖x₂‖, ε)) along the axis; shapes broadcast.
public final class CosineSimilarity: Module {
  public let axis: Int
  public let epsilon: Double
  public init(axis: Int = 1, epsilon: Double = 1e-8) { (self.axis, self.epsilon) = (axis, epsilon) }

  public func callAsFunction(_ x1: Tensor, _ x2: Tensor) -> Tensor {
    recorded(cosineSimilarity(x1, x2, axis: axis, epsilon: epsilon))
  }

  override var members: [Member] { [] }
  override var arguments: String { "axis: \(axis)" }
}

/// ‖x₁ − x₂ + ε‖ₚ along the last axis: […, features], […, features] → […]; shapes broadcast.
public final class PairwiseDistance: Module {
  public let p, epsilon: Double
  public let keepDims: Bool
  public init(p: Double = 2, epsilon: Double = 1e-6, keepDims: Bool = false) {
    (self.p, self.epsilon, self.keepDims) = (p, epsilon, keepDims)
  }

  public func callAsFunction(_ x1: Tensor, _ x2: Tensor) -> Tensor {
    recorded(pairwiseDistance(x1, x2, p: p, epsilon: epsilon, keepDims: keepDims))
  }

  override var members: [Member] { [] }
  override var arguments: String { "p: \(p)" + (keepDims ? ", keepDims: true" : "") }
}
