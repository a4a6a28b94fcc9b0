import ApusCPU
import CApusKernels
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

private let parametersSoFar = Atomic<Int>(0)

/// The one mutable thing: a named reference to a tensor value, safe to use from many threads.
///
/// A plain variable holds state that is not trained, such as running statistics; a ``Parameter`` is trained.
public class Variable: @unchecked Sendable {
  private struct State {
    var tensor: Tensor
    var name: String
    var isTrainable: Bool
    /// Counts the values so far.
    var version: UInt64 = 0
    /// The value's own memory is being written: whoever reads waits for ``assign(_:)``. Also while it is computed.
    var isChanging = false
    /// What the value is computed by, where it is not kept but made of other variables.
    var computation: Computation?
    var gradientHooks: [(id: Int, hook: GradientHook)] = []
  }

  /// A value made of other variables whenever it is read, such as a normalized weight.
  package struct Computation: @unchecked Sendable {
    let value: () -> Tensor
    let assign: (Tensor) -> Void

    /// - Parameters:
    ///   - value: the value, with its history.
    ///   - assign: changes the other variables so that the value becomes the given one.
    package init(value: @escaping () -> Tensor, assign: @escaping (Tensor) -> Void) {
      (self.value, self.assign) = (value, assign)
    }
  }

  private struct GradientHook: @unchecked Sendable {
    let change: (Tensor) -> Tensor?
  }

  /// How many hooks there are on variables' gradients; nobody looks further while it is zero.
  private static let hookCount = Atomic<Int>(0)

  private let state: Lock<State>
  /// Where this variable's gradient arrives; the same for every value it has had.
  let leaf: GradientNode

  fileprivate init(_ value: Tensor, name: String, trainable: Bool) {
    let number = parametersSoFar.add(1, ordering: .relaxed).newValue
    leaf = GradientNode(leaf: value.type, bit: LeafBits.parameter(number))
    guard value.isConcrete else {
      stop("a variable is made inside of a compiled function from a value that is not computed yet; make it outside")
    }
    let trainable = trainable && value.elementType.isFloatingPoint
    state = Lock(State(tensor: trainable ? value.tracked(by: leaf) : value.detached(), name: name, isTrainable: trainable))
  }

  /// A variable that is not trained.
  public convenience init(_ value: Tensor, name: String = "") { self.init(value, name: name, trainable: false) }

  /// The present value. A new one must have the same shape and type.
  public final var value: Tensor {
    get {
      if let trace = Trace.active {
        if let computation { return computed(by: computation) }
        let tensor = trace.read(self)
        return ParameterPrecision.applied(
          isTrainable && tensor.handle.node !== leaf ? tensor.tracked(by: leaf) : tensor, of: self)
      }
      if let profiler = Profiler.active { profiler.onRead?(self) }
      while true {
        if let tensor = state.withLock({ $0.isChanging ? nil : $0.tensor }) {
          return ParameterPrecision.applied(tensor, of: self)
        }
        if let computation { return computed(by: computation) }
        sched_yield()
      }
    }
    set {
      guard newValue.type == leaf.resultType else {
        stop("variable\(name.isEmpty ? "" : " " + name) holds \(leaf.resultType), not \(newValue.type)")
      }
      if let computation { return computation.assign(newValue) }
      if let trace = Trace.active { return trace.write(self, newValue) }
      guard newValue.isConcrete else {
        stop("\(self) is given a value that is not computed yet, outside of its compiled function")
      }
      state.withLock {
        $0.tensor = $0.isTrainable ? newValue.tracked(by: leaf) : newValue.detached()
        $0.isChanging = false
        $0.version += 1
      }
    }
  }

  /// What the value is computed by, if it is. Set to nil, the variable keeps the value it has.
  package final var computation: Computation? {
    get { state.withLock { $0.computation } }
    set {
      let last = newValue == nil && computation != nil ? untraced { withoutGradient { value } } : nil
      state.withLock {
        $0.computation = newValue
        $0.isChanging = newValue != nil
      }
      if let last { value = last }
    }
  }

  /// In mixed precision the other variables are read as they are, and the value is converted.
  private func computed(by computation: Computation) -> Tensor {
    if ParameterPrecision.scopes.load(ordering: .relaxed) == 0 { return computation.value() }
    let value = ParameterPrecision.$type.withValue(nil) { computation.value() }
    return ParameterPrecision.applied(value, of: self)
  }

  /// The present value and its number: another number may be another content.
  final var versionedTensor: (tensor: Tensor, version: UInt64) {
    while true {
      if let found = state.withLock({ $0.isChanging ? nil : ($0.tensor, $0.version) }) { return found }
      if let computation { return (computed(by: computation), 0) }
      sched_yield()
    }
  }

  /// The path within its module, as in `layer1.0.conv1.weight`.
  public final var name: String {
    get { state.withLock { $0.name } }
    set { state.withLock { $0.name = newValue } }
  }

  /// Whether gradients reach it. Freezing takes effect when the value is read next.
  public final var isTrainable: Bool {
    get { state.withLock { $0.isTrainable } }
    set {
      state.withLock {
        $0.isTrainable = newValue && $0.tensor.elementType.isFloatingPoint
        $0.tensor = $0.isTrainable ? $0.tensor.tracked(by: leaf) : $0.tensor.detached()
      }
    }
  }

  public final var shape: Shape { leaf.resultType.shape }
  public final var elementType: ElementType { leaf.resultType.elementType }
  public final var type: TensorType { leaf.resultType }

  /// Memory for the next value: the present one's if nobody else sees it, so that updates happen in place.
  /// The caller writes all of it and assigns the array with ``assign(_:)``; until then others who read the value wait.
  package final func arrayForUpdate() -> (current: CPUArray, next: CPUArray) {
    if computation != nil {
      stop("\(self) is computed from other parameters; train these (they are among the module's parameters)")
    }
    return state.withLock { state in
      let unique = isKnownUniquelyReferenced(&state.tensor.handle) && state.tensor.handle.ownsDenseMemory()
      let current = state.tensor.array
      if unique && current.isRowMajor {
        state.isChanging = true
        return (current, current)
      }
      let rowMajor = current.rowMajor()
      return (rowMajor, CPUArray(uninitialized: current.shape, current.elementType))
    }
  }

  package final func assign(_ array: CPUArray) { value = Tensor(array: array) }
}

// MARK: Hooks

extension Variable {
  /// Calls `hook` with each gradient by this variable before it is given out: `loss.gradients(for:)`, an optimizer's step.
  ///
  /// What the hook returns takes the gradient's place; nil leaves it as it is. A compiled function takes up the hooks that are
  /// there when it is traced. (PyTorch's `Tensor.register_hook` on a parameter.)
  @discardableResult
  public final func registerHook(_ hook: @escaping (_ gradient: Tensor) -> Tensor?) -> HookHandle {
    Variable.hookCount.add(1, ordering: .relaxed)
    let wrapped = GradientHook(change: hook)
    let number = state.withLock { state -> Int in
      let number = (state.gradientHooks.last?.id ?? 0) + 1
      state.gradientHooks.append((number, wrapped))
      return number
    }
    return HookHandle { [weak self] in
      Variable.hookCount.subtract(1, ordering: .relaxed)
      guard let self else { return }
      self.state.withLock { state in state.gradientHooks.removeAll { $0.id == number } }
    }
  }

  /// The gradient after the hooks.
  final func hooked(_ gradient: Tensor) -> Tensor {
    if Variable.hookCount.load(ordering: .relaxed) == 0 { return gradient }
    var gradient = gradient
    for hook in state.withLock({ $0.gradientHooks.map(\.hook) }) {
      guard let changed = hook.change(gradient) else { continue }
      guard changed.type == gradient.type else {
        stop("a hook made a gradient \(changed.type) of the gradient \(gradient.type) by \(self)")
      }
      gradient = changed
    }
    return gradient
  }
}

/// What removes a hook. A hook stays if its handle is forgotten.
public final class HookHandle: @unchecked Sendable {
  private let isRemoved = Atomic<Bool>(false)
  private let take: () -> Void

  package init(_ take: @escaping () -> Void) { self.take = take }

  /// Takes the hook away; once is enough.
  public func remove() { if !isRemoved.exchange(true, ordering: .relaxed) { take() } }
}

extension Tensor {
  /// The same tensor; the gradient that arrives here is handed to `hook`, and what it returns goes on in its place (nil: as it is).
  ///
  /// ```swift
  /// let h = encoder(x).withGradientHook { print($0.norm()); return nil }
  /// ```
  public func withGradientHook(_ hook: @escaping (_ gradient: Tensor) -> Tensor?) -> Tensor {
    customGradient(self, name: "withGradientHook") { x in (x, { hook($0) ?? $0 }) }
  }
}

/// A variable that is trained.
public final class Parameter: Variable, @unchecked Sendable {
  public init(_ value: Tensor, name: String = "") { super.init(value, name: name, trainable: true) }
}

extension Variable: CustomStringConvertible {
  public var description: String { "\(name.isEmpty ? "variable" : name): \(type)" }
}
