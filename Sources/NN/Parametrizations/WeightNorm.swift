import ApusTensor

/// A weight as its length times its direction: g · v / ‖v‖ (Salimans and Kingma 2016).
///
/// Originals: g with the norms, and v of the weight's shape.
final class WeightNorm: Parametrization {
  /// The axis that keeps norms of its own; nil: one norm of all.
  private let axis: Int?

  init(axis: Int?) { self.axis = axis }

  override func callAsFunction(_ originals: [Tensor]) -> Tensor { originals[1] * (originals[0] / norm(originals[1])) }

  override func rightInverse(_ value: Tensor) -> [Tensor]? { [norm(value), value] }

  private func norm(_ v: Tensor) -> Tensor {
    guard let axis else { return sqrt(square(v).sum()) }
    let kept = axis < 0 ? axis + v.rank : axis
    return sqrt(square(v).sum(axes: (0..<v.rank).filter { $0 != kept }, keepDims: true))
  }

  override var members: [Member] { [] }
  override var arguments: String { axis.map { "axis: \($0)" } ?? "axis: nil" }
}

extension Module {
  /// Trains length and direction of a weight apart: `parametrizations.weight.original0` and `original1` (Salimans and Kingma 2016;
  /// PyTorch's `weight_norm`).
  /// - Parameter axis: the axis along which each part has a length of its own, by default the outputs; nil: one of all.
  /// - Returns: the module itself.
  @discardableResult
  public final func weightNorm(_ name: String = "weight", axis: Int? = 0) -> Self {
    let variable = ownVariable(name, "normalize")
    if let axis, !(-variable.shape.count..<variable.shape.count).contains(axis) {
      stop("\(label): weightNorm: \(name) of shape \(variable.shape) has no axis \(axis)")
    }
    return registerParametrization(name, WeightNorm(axis: axis))
  }
}
