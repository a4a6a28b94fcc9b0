import ApusIR
import CApusKernels

extension CPU {
  private static func outOfRange(_ operation: Operation, _ indices: CPUArray, at position: Int64, size: Int, axis: Int)
    -> ExecutionError
  {
    let indices = indices.rowMajor()
    let values = indices.pointer.assumingMemoryBound(to: Int64.self)
    return ExecutionError(
      operation, "index \(values[Int(position)]) at position \(position) is out of range for dimension \(axis) of size \(size)")
  }

  static func run(gather x: CPUArray, _ indices: CPUArray, _ axis: Int, _ out: CPUArray, _ operation: Operation)
    throws(ExecutionError)
  {
    let (x, indices) = (x.rowMajor(), indices.rowMajor())
    let outer = x.shape[..<axis].reduce(1, *)
    let inner = x.shape[(axis + 1)...].reduce(1, *)
    let bad = apus_take(
      Int64(outer), Int64(x.shape[axis]), Int64(indices.elementCount), Int64(inner * x.elementType.byteSize), out.pointer,
      x.pointer,
      indices.pointer, ElementType.int64.code)
    if bad >= 0 { throw outOfRange(operation, indices, at: bad, size: x.shape[axis], axis: axis) }
  }

  /// `out` may be x's own memory, here and in the two others: then only the updates are written.
  static func run(
    scatter kind: ScatterKind, _ x: CPUArray, _ indices: CPUArray, _ updates: CPUArray, _ axis: Int, _ out: CPUArray,
    _ operation: Operation
  ) throws(ExecutionError) {
    let (indices, updates) = (indices.rowMajor(), updates.rowMajor())
    if x.pointer != out.pointer { out.assign(x) }
    let outer = x.shape[..<axis].reduce(1, *)
    let inner = x.shape[(axis + 1)...].reduce(1, *)
    let bad = apus_put(
      kind.code, x.elementType.code, Int64(outer), Int64(x.shape[axis]), Int64(indices.elementCount), Int64(inner), out.pointer,
      indices.pointer, ElementType.int64.code, updates.pointer)
    if bad >= 0 { throw outOfRange(operation, indices, at: bad, size: x.shape[axis], axis: axis) }
  }

  static func run(takeAlong x: CPUArray, _ indices: CPUArray, _ axis: Int, _ out: CPUArray, _ operation: Operation)
    throws(ExecutionError)
  {
    let bad = withDimensions(indices.shape) { dims in
      out.withByteStrides { to in
        x.withByteStrides { from in
          indices.withByteStrides { at in
            apus_take_along(
              Int32(x.shape.count), dims, Int32(axis), Int64(x.shape[axis]), out.pointer, to, x.pointer, from,
              Int64(x.elementType.byteSize), indices.pointer, at, ElementType.int64.code)
          }
        }
      }
    }
    if bad >= 0 { throw outOfRange(operation, indices, at: bad, size: x.shape[axis], axis: axis) }
  }

  static func run(
    scatterAlong kind: ScatterKind, _ x: CPUArray, _ indices: CPUArray, _ updates: CPUArray, _ axis: Int, _ out: CPUArray,
    _ operation: Operation
  ) throws(ExecutionError) {
    if x.pointer != out.pointer { out.assign(x) }
    let bad = withDimensions(indices.shape) { dims in
      out.withByteStrides { to in
        updates.withByteStrides { from in
          indices.withByteStrides { at in
            apus_put_along(
              kind.code, x.elementType.code, Int32(x.shape.count), dims, Int32(axis), Int64(x.shape[axis]), out.pointer, to,
              updates.pointer, from, indices.pointer, at, ElementType.int64.code)
          }
        }
      }
    }
    if bad >= 0 { throw outOfRange(operation, indices, at: bad, size: x.shape[axis], axis: axis) }
  }

  /// Splits coordinates [m, k] into k contiguous arrays of m.
  private static func columns(_ indices: CPUArray, _ k: Int) -> CPUArray {
    let m = indices.elementCount / k
    let table = reshape(indices, [m, k])
    return transpose(table, [1, 0]).copy()
  }

  private static func withIndexed<R>(
    _ x: CPUArray, _ coordinates: CPUArray, _ k: Int,
    _ body: (UnsafePointer<Int64>, UnsafePointer<Int64>, [UnsafeRawPointer?]) -> R
  ) -> R {
    let m = coordinates.shape[1]
    let arrays = (0..<k).map { UnsafeRawPointer?(coordinates.pointer + $0 * m * 8) }
    return withDimensions(x.shape) { dims in x.withByteStrides { strides in body(dims, strides, arrays) } }
  }

  static func run(gatherND x: CPUArray, _ indices: CPUArray, _ out: CPUArray, _ operation: Operation) throws(ExecutionError) {
    let k = indices.shape[indices.shape.count - 1]
    let coordinates = columns(indices, k)
    let m = coordinates.shape[1]
    let bad = withIndexed(x, coordinates, k) { dims, strides, arrays in
      apus_gather(
        Int32(k), dims, strides, Int32(x.shape.count - k), dims + k, strides + k, x.pointer, out.pointer,
        Int64(x.elementType.byteSize), Int64(m), arrays, ElementType.int64.code)
    }
    if bad >= 0 { throw outOfRange(operation, coordinates, at: bad, size: x.shape[Int(bad) / m], axis: Int(bad) / m) }
  }

  static func run(scatterND kind: ScatterKind, _ x: CPUArray, _ indices: CPUArray, _ updates: CPUArray, _ out: CPUArray)
    throws(ExecutionError)
  {
    if x.pointer != out.pointer { out.assign(x) }
    try put(kind, updates, into: out, at: indices)
  }

  /// Changes the rows of `target`, in its memory, that `indices` […, k] name in its first k dimensions.
  public static func put(
    _ kind: ScatterKind, _ updates: CPUArray, into target: CPUArray, at indices: CPUArray
  ) throws(ExecutionError) {
    let k = indices.shape[indices.shape.count - 1]
    let updates = updates.rowMajor()
    let coordinates = columns(indices, k)
    let m = coordinates.shape[1]
    let bad = withIndexed(target, coordinates, k) { dims, strides, arrays in
      apus_scatter(
        kind.code, target.elementType.code, Int32(k), dims, strides, Int32(target.shape.count - k), dims + k, strides + k,
        target.pointer, updates.pointer, Int64(m), arrays, ElementType.int64.code)
    }
    if bad >= 0 {
      throw outOfRange(.scatterND(kind), coordinates, at: bad, size: target.shape[Int(bad) / m], axis: Int(bad) / m)
    }
  }
}

extension ScatterKind {
  var code: Int32 {
    let kind: apus_put_kind =
      switch self {
      case .set: APUS_PUT_SET
      case .add: APUS_PUT_ADD
      case .multiply: APUS_PUT_MULTIPLY
      case .max: APUS_PUT_MAX
      case .min: APUS_PUT_MIN
      }
    return Int32(kind.rawValue)
  }
}
