import ApusTensor

/// What a tensor costs beside the loss: a function to a scalar.
///
/// ```swift
/// let net = Sequential {
///   Linear(64, 32).regularize("weight", .l2(1e-4)); ReLU(); Linear(32, 10)
/// }
/// let loss = crossEntropy(net(x), labels) + net.regularizationLoss()
/// ```
public struct Regularizer: Sendable {
  private let penalty: @Sendable (Tensor) -> Tensor

  public init(_ penalty: @escaping @Sendable (Tensor) -> Tensor) { self.penalty = penalty }

  /// The penalty: a scalar.
  public func callAsFunction(_ x: Tensor) -> Tensor { penalty(x) }

  /// factor · Σ |x|.
  public static func l1(_ factor: Double = 0.01) -> Regularizer { Regularizer { abs($0).sum() * factor } }

  /// factor · Σ x².
  public static func l2(_ factor: Double = 0.01) -> Regularizer { Regularizer { square($0).sum() * factor } }

  /// l1 · Σ |x| + l2 · Σ x².
  public static func l1l2(l1: Double = 0.01, l2: Double = 0.01) -> Regularizer {
    Regularizer { abs($0).sum() * l1 + square($0).sum() * l2 }
  }

  /// What shall be orthogonal to each other.
  public enum Direction: Sendable { case rows, columns }

  /// factor times the mean |cos| of the angles between the rows, or columns, of a matrix; Keras's OrthogonalRegularizer.
  ///
  /// A row of a ``Linear``'s weight [out, in] is an output's; Keras's kernels are [in, out].
  public static func orthogonal(factor: Double = 0.01, mode: Direction = .rows) -> Regularizer {
    Regularizer { x in
      guard x.rank == 2 else { stop("OrthogonalRegularizer: takes a matrix, got shape \(x.shape)") }
      let rows = mode == .rows ? x : x.T
      let size = rows.shape[0]
      // As Keras: lengths are at least √1e-12; a length of zero gets no gradient.
      let units = rows * rsqrt(maximum(square(rows).sum(axis: 1, keepDims: true), 1e-12))
      let others = units.matmul(units.T) * (1 - Tensor.eye(size, elementType: x.elementType))
      return abs(others).sum() * (factor * 0.5 / (Double(size) * Double(size - 1) / 2))
    }
  }
}

extension Module {
  /// Adds a penalty on the parameter at a path, such as `weight` or `layers.0.weight`, to ``regularizationLoss()``.
  /// - Returns: the module itself, so that a layer can be written with its regularizer.
  @discardableResult
  public final func regularize(_ name: String, _ regularizer: Regularizer) -> Self {
    let target = Attachments.Target(what: "regularize", name: name) { path, _ in path == name }
    attached.regularizers.append((target, regularizer))
    return self
  }

  /// Adds a penalty on each parameter of this module and all modules in it that `matches` says yes to.
  ///
  /// ```swift
  /// model.regularize(where: { name, _ in name.hasSuffix("weight") }, .l2(1e-4))
  /// ```
  @discardableResult
  public final func regularize(
    where matches: @escaping (_ name: String, _ parameter: Variable) -> Bool, _ regularizer: Regularizer
  )
    -> Self
  {
    attached.regularizers.append((Attachments.Target(what: "regularize", name: nil, matches: matches), regularizer))
    return self
  }

  /// Adds a penalty on each output of this module, divided by the size of the batch; Keras's `activity_regularizer`.
  @discardableResult
  public final func regularizeActivity(_ regularizer: Regularizer) -> Self {
    attached.activityRegularizers.append(regularizer)
    return self
  }

  /// The sum of all penalties of this module and all modules in it: a scalar to add to the loss.
  ///
  /// Parameters that are frozen do not count. Penalties on outputs are those of the calls since the last time this was read
  /// (at most 16 of each module), so it is read once after each forward pass; in a compiled function inside of it.
  public final func regularizationLoss() -> Tensor {
    var terms: [Tensor] = []
    for module in modules {
      guard let attachments = module.attachments else { continue }
      for (target, regularizer) in attachments.regularizers {
        for (_, variable) in module.variables(for: target) { terms.append(regularizer(variable.value)) }
      }
      terms += attachments.takePenalties()
    }
    guard let first = terms.first else { return Tensor.zeros([]) }
    return terms.dropFirst().reduce(first, +)
  }

  /// Whether this module or one in it has regularizers: whoever trains need not look at every step.
  package final var isRegularized: Bool {
    modules.contains { module in
      guard let attachments = module.attachments else { return false }
      return !attachments.regularizers.isEmpty || !attachments.activityRegularizers.isEmpty
    }
  }
}

/// The input as it is, with a penalty l1 · Σ |x| + l2 · Σ x² on each batch, divided by its size, that
/// ``Module/regularizationLoss()`` of the model returns; Keras's ActivityRegularization.
public final class ActivityRegularization: Module, Layer {
  public let l1, l2: Double

  public init(l1: Double = 0, l2: Double = 0) {
    (self.l1, self.l2) = (l1, l2)
    super.init()
    regularizeActivity(.l1l2(l1: l1, l2: l2))
  }

  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(received(x)) }

  override var members: [Member] { [] }
  override var arguments: String { "l1: \(l1), l2: \(l2)" }
}
