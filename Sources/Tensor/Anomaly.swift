import ApusCPU
import CApusKernels

/// Runs `body` while checking every result: the first operation that makes a NaN or an infinity out of finite
/// numbers stops the program, named with the line that called it. Its gradient names the forward line too.
///
/// For finding the cause of a NaN: every operation costs a pass over its result and a captured call stack.
public func withAnomalyDetection<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
  let state = apus_thread()!
  state.pointee.anomaly += 1
  defer { state.pointee.anomaly -= 1 }
  return try body()
}

/// Runs `body` unchecked: where infinities stand for what is hidden.
func withoutAnomalyDetection<R>(_ body: () -> R) -> R {
  let state = apus_thread()!
  let depth = state.pointee.anomaly
  state.pointee.anomaly = 0
  defer { state.pointee.anomaly = depth }
  return body()
}

/// The node whose gradient is being computed, for anomaly mode's messages.
struct BackwardScope {
  var name: String
  var location: String?
}

func isAllFinite(_ array: CPUArray) -> Bool {
  guard array.elementType.isFloatingPoint, array.elementCount > 0 else { return true }
  let finite = CPU.unary(.isFinite, array, .bool, reuse: false)
  let axes = Axes(0..<array.shape.count)
  let all: [CPUArray]
  do { all = try CPU.execute(.reduce(.all, axes, keepDims: false), [finite], [TensorType([], .bool)]) } catch { return true }
  return all[0].pointer.load(as: UInt8.self) != 0
}

func checkFinite(_ operation: Operation, _ inputs: [Tensor], _ results: [Tensor], _ node: GradientNode?) {
  let stack = CallStack.capture()
  node?.callStack = stack
  var checked = results
  // A query that sees no key has −∞ for its log Σ exp, which is no anomaly.
  if case .composite(.attention) = operation { checked.removeLast() }
  guard checked.contains(where: { !isAllFinite($0.handle.array) }) else { return }
  guard inputs.allSatisfy({ isAllFinite($0.handle.array) }) else { return }  // not the first
  let shapes = inputs.map { $0.type.description }.joined(separator: ", ")
  let scope = currentBackward.value
  let during = scope.map { ", in the gradient of \($0.name)" + ($0.location.map { " called at \($0)" } ?? "") } ?? ""
  let at = stack.location.map { " (called at \($0))" } ?? ""
  stop("anomaly: \(operation.name) of \(shapes) made a NaN or an infinity from finite numbers\(during)\(at)")
}

/// Set by the backward walk in anomaly mode.
enum currentBackward {
  @TaskLocal static var value: BackwardScope?
}
