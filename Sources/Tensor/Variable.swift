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
    /// The value's own memory is being written: whoever reads waits for ``assign(_:)``.
    var isChanging = false
  }

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
        let tensor = trace.read(self)
        return isTrainable && tensor.handle.node !== leaf ? tensor.tracked(by: leaf) : tensor
      }
      if let profiler = Profiler.active { profiler.onRead?(self) }
      while true {
        if let tensor = state.withLock({ $0.isChanging ? nil : $0.tensor }) { return tensor }
        sched_yield()
      }
    }
    set {
      guard newValue.type == leaf.resultType else {
        stop("variable\(name.isEmpty ? "" : " " + name) holds \(leaf.resultType), not \(newValue.type)")
      }
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

  /// The present value and its number: another number may be another content.
  final var versionedTensor: (tensor: Tensor, version: UInt64) {
    while true {
      if let found = state.withLock({ $0.isChanging ? nil : ($0.tensor, $0.version) }) { return found }
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
    state.withLock { state in
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

/// A variable that is trained.
public final class Parameter: Variable, @unchecked Sendable {
  public init(_ value: Tensor, name: String = "") { super.init(value, name: name, trainable: true) }
}

extension Variable: CustomStringConvertible {
  public var description: String { "\(name.isEmpty ? "variable" : name): \(type)" }
}
