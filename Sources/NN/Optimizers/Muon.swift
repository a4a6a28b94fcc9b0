import ApusTensor

/// What a parameter group of ``Muon`` may set.
public struct MuonOptions: OptimizerOptions {
  public var learningRate: Double
  public var weightDecay: Double
  public var momentum: Double
  public var nesterov: Bool
  /// a, b and c of the iteration.
  public var coefficients: [Double]
  public var epsilon: Double
  /// Rounds of the iteration.
  public var steps: Int
  /// How the learning rate follows the matrix's sizes.
  public var adjustment: Muon.Adjustment
  /// Of the iteration.
  public var precision: ElementType?
}

/// Momentum whose steps are made orthogonal, for the matrices of hidden layers (Jordan et al. 2024; PyTorch's formula and defaults):
/// b ← momentum · b + (1 − momentum) g; d = b, Nesterov's momentum · b + (1 − momentum) g; p ← p − learningRate · weightDecay · p;
/// p ← p − adjusted learningRate · orthogonal(d), by Newton and Schulz's iteration x ← a x + (b x xᵀ + c (x xᵀ)²) x.
///
/// Vectors, embeddings and heads belong to another optimizer (``MultiOptimizer``). The iteration is computed in bfloat16, as PyTorch
/// does, unless `precision` is another type; nil: the parameter's, as Keras does.
public final class Muon: GroupedOptimizer<MuonOptions> {
  public init(
    _ groups: [ParameterGroup<MuonOptions>], learningRate: Double = 1e-3, weightDecay: Double = 0.1, momentum: Double = 0.95,
    nesterov: Bool = true, coefficients: [Double] = [3.4445, -4.7750, 2.0315], epsilon: Double = 1e-7, steps: Int = 5,
    adjustment: Muon.Adjustment = .original, precision: ElementType? = .bfloat16
  ) {
    super.init(
      "Muon", groups,
      MuonOptions(
        learningRate: learningRate, weightDecay: weightDecay, momentum: momentum, nesterov: nesterov,
        coefficients: coefficients, epsilon: epsilon, steps: steps, adjustment: adjustment, precision: precision))
  }

  public convenience init(
    _ parameters: [Parameter], learningRate: Double = 1e-3, weightDecay: Double = 0.1, momentum: Double = 0.95,
    nesterov: Bool = true, coefficients: [Double] = [3.4445, -4.7750, 2.0315], epsilon: Double = 1e-7, steps: Int = 5,
    adjustment: Muon.Adjustment = .original, precision: ElementType? = .bfloat16
  ) {
    self.init(
      [ParameterGroup(parameters)], learningRate: learningRate, weightDecay: weightDecay, momentum: momentum,
      nesterov: nesterov, coefficients: coefficients, epsilon: epsilon, steps: steps, adjustment: adjustment,
      precision: precision)
  }

  override var stateNames: [String] { ["momentum_buffer"] }

  override func check(_ o: MuonOptions) {
    for parameter in groups.flatMap(\.parameters) where parameter.shape.count != 2 {
      stop("Muon: takes matrices only, got \(parameter); give the others to another optimizer (MultiOptimizer)")
    }
    guard o.learningRate >= 0, o.momentum >= 0, o.weightDecay >= 0, o.coefficients.count == 3, (0..<100).contains(o.steps) else {
      stop(
        "Muon: learningRate \(o.learningRate), momentum \(o.momentum) and weightDecay \(o.weightDecay) must not be negative, there are three coefficients, and steps \(o.steps) must be below 100"
      )
    }
  }

  override func update(_ step: inout ParameterStep, _ o: MuonOptions) {
    let g = step.gradient
    let buffer = step.state(0) + (g - step.state(0)) * (1 - o.momentum)
    let direction = o.nesterov ? g + (buffer - g) * o.momentum : buffer
    let ratio = o.adjustment.ratio(rows: g.shape[0], columns: g.shape[1])
    let turned = orthogonal(direction, o).converted(to: step.type)
    step.decay()
    step.parameter = step.parameter - turned * (step.scalar(step.learningRate) * ratio)
    step.states = [buffer]
  }

  private func orthogonal(_ x: Tensor, _ o: MuonOptions) -> Tensor {
    let isTall = x.shape[0] > x.shape[1]
    var x = x.converted(to: o.precision ?? x.elementType)
    if isTall { x = x.T }
    x = x / maximum(wholeNorm(x), o.epsilon)
    let (a, b, c) = (o.coefficients[0], o.coefficients[1], o.coefficients[2])
    for _ in 0..<o.steps {
      let gram = x.matmul(x.T)
      x = x * a + (gram * b + gram.matmul(gram) * c).matmul(x)
    }
    return isTall ? x.T : x
  }
}

extension Muon {
  /// How the learning rate follows the sizes of a matrix.
  public enum Adjustment: Sendable, Hashable {
    /// · √max(1, rows / columns) (Jordan).
    case original
    /// · 0.2 √max(rows, columns), so that AdamW's learning rates fit (Liu et al. 2025).
    case matchRMSAdamW
    /// Not at all.
    case none

    func ratio(rows: Int, columns: Int) -> Double {
      switch self {
      case .original: Swift.max(1, Double(rows) / Double(columns)).squareRoot()
      case .matchRMSAdamW: 0.2 * Double(Swift.max(rows, columns)).squareRoot()
      case .none: 1
      }
    }
  }
}
