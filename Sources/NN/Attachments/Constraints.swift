import ApusTensor

/// What a parameter must be like after each step: a function to the nearest value that is.
///
/// ```swift
/// let net = Sequential { Linear(64, 32).constrain("weight", .maxNorm(3)); ReLU(); Linear(32, 10) }
/// optimizer.step(minimizing: loss)
/// net.applyConstraints()
/// ```
/// Norms are over `axes`; if these are not given, over all but the first: the weights [out, in, kernel…] that lead to one output,
/// as Keras's default does for its kernels [in, out]. A vector counts as a whole.
public struct Constraint: Sendable {
  private let change: @Sendable (Tensor) -> Tensor

  public init(_ change: @escaping @Sendable (Tensor) -> Tensor) { self.change = change }

  public func callAsFunction(_ x: Tensor) -> Tensor { change(x) }

  /// Norms of at most `maximum` (Srivastava et al. 2014).
  public static func maxNorm(_ maximum: Double = 2, axes: [Int]? = nil) -> Constraint {
    Constraint { x in
      let norms = lengths(x, axes)
      return x * (norms.clamped(0, maximum) / (norms + epsilon))
    }
  }

  /// Norms between `minimum` and `maximum`; with a rate below 1, by that part of the way.
  public static func minMaxNorm(_ minimum: Double = 0, _ maximum: Double = 1, rate: Double = 1, axes: [Int]? = nil) -> Constraint
  {
    guard minimum <= maximum else { stop("minMaxNorm: the minimum \(minimum) is above the maximum \(maximum)") }
    return Constraint { x in
      let norms = lengths(x, axes)
      return x * ((norms.clamped(minimum, maximum) * rate + norms * (1 - rate)) / (norms + epsilon))
    }
  }

  /// No negative elements.
  public static let nonNegative = Constraint { maximum($0, 0) }

  /// Norms of 1.
  public static func unitNorm(axes: [Int]? = nil) -> Constraint { Constraint { $0 / (lengths($0, axes) + epsilon) } }

  /// Keras's: what keeps a norm of 0 from dividing.
  private static let epsilon = 1e-7

  private static func lengths(_ x: Tensor, _ axes: [Int]?) -> Tensor {
    let axes = axes ?? (x.rank < 2 ? Array(0..<x.rank) : Array(1..<x.rank))
    return sqrt(square(x).sum(axes: axes, keepDims: true))
  }
}

extension Module {
  /// Has ``applyConstraints()`` change the parameter at a path, such as `weight` or `layers.0.weight`.
  /// - Returns: the module itself, so that a layer can be written with its constraint.
  @discardableResult
  public final func constrain(_ name: String, _ constraint: Constraint) -> Self {
    let target = Attachments.Target(what: "constrain", name: name) { path, _ in path == name }
    attached.constraints.append((target, constraint))
    return self
  }

  /// Has ``applyConstraints()`` change each parameter of this module and all modules in it that `matches` says yes to.
  @discardableResult
  public final func constrain(where matches: @escaping (_ name: String, _ parameter: Variable) -> Bool, _ constraint: Constraint)
    -> Self
  {
    attached.constraints.append((Attachments.Target(what: "constrain", name: nil, matches: matches), constraint))
    return self
  }

  /// Changes the parameters of this module and all modules in it to what their constraints allow; to be called after each step
  /// of an optimizer (``Trainer`` does). Works in a compiled step. Frozen parameters stay as they are.
  public final func applyConstraints() {
    withoutGradient {
      for module in modules {
        for (target, constraint) in module.attachments?.constraints ?? [] {
          for (name, variable) in module.variables(for: target) {
            let value = constraint(variable.value.detached())
            guard value.shape == variable.shape else {
              stop("\(module.label): a constraint made a value of shape \(value.shape) of \(name), which has \(variable.shape)")
            }
            variable.value = value.converted(to: variable.elementType)
          }
        }
      }
    }
  }

  /// Whether this module or one in it has constraints: whoever trains need not look at every step.
  package final var isConstrained: Bool { modules.contains { !($0.attachments?.constraints.isEmpty ?? true) } }
}
