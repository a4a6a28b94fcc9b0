import Synchronization

/// Mixed precision: parameters stay float32, what is computed with them is not.
enum ParameterPrecision {
  /// How many scopes are open in the process: reading a parameter costs nothing more while there are none.
  static let scopes = Atomic<Int>(0)
  @TaskLocal static var type: ElementType?

  /// A parameter's value as the scope around it wants it. Its gradient arrives in float32.
  @inline(__always) static func applied(_ value: Tensor, of variable: Variable) -> Tensor {
    if scopes.load(ordering: .relaxed) == 0 { return value }
    guard let type, variable is Parameter, value.elementType == .float32 else { return value }
    return value.converted(to: type)
  }
}

/// Runs `body`, which reads float32 parameters as values of another type. To be opened within the function that is compiled, not
/// around it: programs do not look at it.
package func withParameters<R>(as type: ElementType, _ body: () -> R) -> R {
  ParameterPrecision.scopes.add(1, ordering: .relaxed)
  defer { ParameterPrecision.scopes.subtract(1, ordering: .relaxed) }
  return ParameterPrecision.$type.withValue(type) { body() }
}
