import ApusCPU
import CApusKernels

/// Executes or traces: how a traced program takes part in tensor functions (`compile`, export).
protocol OperationTracer: AnyObject {
  func record(_ operation: Operation, _ inputs: [Tensor], _ types: [TensorType]) -> [AnyObject]
}

/// Runs one operation on tensors: now, or into the trace that is being made, and remembers it for gradients.
///
/// Every tensor function comes through here (or through the two shorter ways below).
package func apply(_ operation: Operation, _ inputs: [Tensor]) -> [Tensor] {
  let types: [TensorType]
  do { types = try operation.infer(inputs.map(\.type)) } catch { stop(error.description) }
  let records = isRecording && inputs.contains { $0.handle.node != nil } && operation.isDifferentiable
  let node = records ? GradientNode(.operation(operation), types, inputs) : nil
  let state = apus_thread()!
  var results: [Tensor] = []
  results.reserveCapacity(types.count)
  if let tracer = activeTracer(state, inputs) {
    for (i, symbol) in tracer.record(operation, inputs, types).enumerated() {
      results.append(
        Tensor(TensorHandle(traced: types[i], symbol: symbol, types[i].elementType.isFloatingPoint ? node : nil, result: i)))
    }
  } else {
    let arrays: [CPUArray]
    do {
      arrays = try Profiler.noting(operation, inputs.map(\.type), types) { () throws(ExecutionError) in
        try CPU.execute(operation, inputs.map { $0.handle.array }, types)
      }
    } catch { stop(error.description) }
    for (i, array) in arrays.enumerated() {
      results.append(Tensor(TensorHandle(array, types[i].elementType.isFloatingPoint ? node : nil, result: i)))
    }
    if state.pointee.anomaly != 0 { checkFinite(operation, inputs, results, node) }
  }
  if let node { remember(operation, inputs, results, node) }
  return results
}

package func apply(_ operation: Operation, _ inputs: Tensor...) -> Tensor { apply(operation, inputs)[0] }

/// Keeps the values that the gradient rule will ask for.
private func remember(_ operation: Operation, _ inputs: [Tensor], _ results: [Tensor], _ node: GradientNode) {
  let saved = operation.saved
  var mask = saved.inputs
  // Only the gradients of its tables read what a rotation turned.
  if case .composite(.rope) = operation, inputs[1].handle.node == nil && inputs[2].handle.node == nil { mask &= ~1 }
  for i in 0..<inputs.count where mask & (1 << UInt32(min(i, 31))) != 0 { node.save(i, inputs[i]) }
  if saved.results { node.savedResults = results.map { $0.withoutHistory } }
  if case .concatenate(let axis) = operation { node.operandExtents = inputs.map { $0.shape[axis] } }
}

@inline(__always)
private func activeTracer(_ state: UnsafeMutablePointer<apus_thread_state>, _ inputs: [Tensor]) -> (any OperationTracer)? {
  guard let tracer = state.pointee.tracer else { return nil }
  return Unmanaged<TracerBox>.fromOpaque(tracer).takeUnretainedValue().tracer
}

/// What the thread's state points to while a trace is being made.
final class TracerBox {
  let tracer: any OperationTracer
  init(_ tracer: any OperationTracer) { self.tracer = tracer }
}

// MARK: The short ways: elementwise operations cost no arrays of operands and results

/// One operand. The result takes the operand's memory if the caller held the only reference.
@usableFromInline func apply(unary kind: UnaryKind, _ x: consuming Tensor) -> Tensor {
  let state = apus_thread()!
  let operation = Operation.unary(kind)
  if x.handle.array.storage == nil || state.pointee.tracer != nil || state.pointee.anomaly != 0 || state.pointee.profiler != nil {
    return apply(operation, [x])[0]
  }
  let type: TensorType
  do { type = try operation.inferUnary(kind, x.handle.array.type) } catch { stop(error.description) }
  if x.handle.node != nil && state.pointee.recording_disabled == 0 && type.elementType.isFloatingPoint && kind.isDifferentiable {
    let node = GradientNode(operation, type, x.handle)
    let saved = operation.saved
    let reuse = saved.inputs == 0 && isKnownUniquelyReferenced(&x.handle) && x.handle.ownsDenseMemory()
    let result = CPU.unary(kind, x.handle.array, type.elementType, reuse: reuse)
    if saved.inputs != 0 { node.saved0 = x }
    if saved.results { node.savedResult = Tensor(array: result) }
    return Tensor(TensorHandle(result, node))
  }
  let reuse = isKnownUniquelyReferenced(&x.handle) && x.handle.ownsDenseMemory()
  return Tensor(array: CPU.unary(kind, x.handle.array, type.elementType, reuse: reuse))
}

/// Two operands of one shape and type after promotion and broadcasting.
@usableFromInline func apply(binary kind: BinaryKind, _ a: consuming Tensor, _ b: consuming Tensor) -> Tensor {
  if a.handle.array.shape != b.handle.array.shape || a.handle.array.elementType != b.handle.array.elementType {
    (a, b) = matched(a, b, Operation.binary(kind))
  }
  let state = apus_thread()!
  let operation = Operation.binary(kind)
  if a.handle.array.storage == nil || b.handle.array.storage == nil || state.pointee.tracer != nil || state.pointee.anomaly != 0
    || state.pointee.profiler != nil
  {
    return apply(operation, [a, b])[0]
  }
  let type = a.handle.array.elementType
  if kind.checksType {
    do { _ = try operation.inferBinary(kind, a.handle.array.type, b.handle.array.type) } catch { stop(error.description) }
  }
  if (a.handle.node != nil || b.handle.node != nil) && state.pointee.recording_disabled == 0 && type.isFloatingPoint {
    let node = GradientNode(operation, a.handle.array.type, a.handle, b.handle)
    let saved = operation.saved
    var reuse = CPU.Reuse.neither
    if saved.inputs == 0 {
      reuse = reusable(&a, &b)
    } else {
      // Only what the gradients of tracked operands read.
      if b.handle.node != nil || saved.inputs & 4 != 0 { node.saved0 = a }
      if a.handle.node != nil || saved.inputs & 4 != 0 { node.saved1 = b }
    }
    if bothRowMajor(a, b) { return flat(kind, a, b, reuse, node) }
    let result = CPU.binary(kind, a.handle.array, b.handle.array, reuse: reuse)
    return Tensor(TensorHandle(result, node))
  }
  let reuse = reusable(&a, &b)
  if bothRowMajor(a, b) { return flat(kind, a, b, reuse, nil) }
  return Tensor(array: CPU.binary(kind, a.handle.array, b.handle.array, reuse: reuse))
}

@inline(__always) private func bothRowMajor(_ a: borrowing Tensor, _ b: borrowing Tensor) -> Bool {
  a.handle.array.isRowMajor && b.handle.array.isRowMajor
}

/// The commonest case, without passing arrays: each is some 170 bytes and a reference to copy.
@inline(__always) private func flat(
  _ kind: BinaryKind, _ a: borrowing Tensor, _ b: borrowing Tensor, _ reuse: CPU.Reuse, _ node: GradientNode?
) -> Tensor {
  let result = TensorHandle(denseLike: reuse == .rhs ? b.handle : a.handle, over: reuse != .neither, node)
  CPU.flatBinary(
    kind, a.handle.array.elementType, a.handle.array.shape.elementCount, result.array.pointer, a.handle.array.pointer,
    b.handle.array.pointer)
  return Tensor(result)
}

@inline(__always) private func reusable(_ a: inout Tensor, _ b: inout Tensor) -> CPU.Reuse {
  if isKnownUniquelyReferenced(&a.handle) && a.handle.ownsDenseMemory() { return .lhs }
  if isKnownUniquelyReferenced(&b.handle) && b.handle.ownsDenseMemory() { return .rhs }
  return .neither
}

/// Two operands converted to one type and broadcast to one shape, by PyTorch's rules.
@usableFromInline func matched(_ a: Tensor, _ b: Tensor, _ operation: Operation) -> (Tensor, Tensor) {
  let type = ElementType.promote(a.elementType, b.elementType)
  guard let shape = Shape.broadcast(a.shape, b.shape) else {
    stop("\(operation.name): shapes \(a.shape) and \(b.shape) do not broadcast to one")
  }
  return (a.converted(to: type).broadcast(to: shape), b.converted(to: type).broadcast(to: shape))
}

extension BinaryKind {
  /// Whether some element types are refused.
  @inline(__always) var checksType: Bool {
    switch self {
    case .add, .mul, .max, .min: false
    case .sub, .div, .floorDiv, .rem, .mod, .pow, .atan2, .and, .or, .xor, .shiftLeft, .shiftRight: true
    }
  }
}
