import ApusIR
import CApusKernels

extension CPU {
  static func run(reduce kind: ReductionKind, _ x: CPUArray, _ axes: Axes, _ out: CPUArray) {
    let code: apus_reduction =
      switch kind {
      case .sum: APUS_REDUCE_SUM
      case .product: APUS_REDUCE_PRODUCT
      case .max: APUS_REDUCE_MAX
      case .min: APUS_REDUCE_MIN
      case .all: APUS_REDUCE_ALL
      case .any: APUS_REDUCE_ANY
      }
    var mask: UInt32 = 0
    for axis in axes { mask |= 1 << UInt32(axis) }
    withDimensions(x.shape) { dims in
      x.withByteStrides { strides in
        apus_reduce(
          Int32(code.rawValue), Int32(x.shape.count), dims, x.pointer, strides, x.elementType.code, mask, out.pointer,
          out.elementType.code)
      }
    }
  }

  static func run(argReduce kind: ArgReductionKind, _ x: CPUArray, _ axis: Int, _ out: CPUArray) {
    withDimensions(x.shape) { dims in
      x.withByteStrides { strides in
        apus_arg_reduce(
          kind == .max, Int32(x.shape.count), dims, x.pointer, strides, x.elementType.code, Int32(axis),
          out.pointer.assumingMemoryBound(to: Int64.self))
      }
    }
  }

  static func run(scan kind: ScanKind, _ x: CPUArray, _ axis: Int, _ reverse: Bool, _ exclusive: Bool, _ out: CPUArray) {
    let code: apus_scan_kind =
      switch kind {
      case .sum: APUS_SCAN_SUM
      case .product: APUS_SCAN_PRODUCT
      case .max: APUS_SCAN_MAX
      case .min: APUS_SCAN_MIN
      }
    withDimensions(x.shape) { dims in
      x.withByteStrides { strides in
        apus_scan(
          Int32(code.rawValue), Int32(x.shape.count), dims, x.pointer, strides, x.elementType.code, Int32(axis), exclusive,
          reverse,
          out.pointer, x.elementType.code)
      }
    }
  }

  static func run(sort x: CPUArray, _ axis: Int, _ descending: Bool, _ values: CPUArray, _ indices: CPUArray) {
    withDimensions(x.shape) { dims in
      x.withByteStrides { strides in
        apus_sort(
          x.elementType.code, Int32(x.shape.count), dims, Int32(axis), x.pointer, strides, values.pointer,
          indices.pointer.assumingMemoryBound(to: Int64.self), descending)
      }
    }
  }

  static func run(topK x: CPUArray, _ k: Int, _ axis: Int, _ largest: Bool, _ values: CPUArray, _ indices: CPUArray) {
    withDimensions(x.shape) { dims in
      x.withByteStrides { strides in
        apus_top_k(
          x.elementType.code, Int32(x.shape.count), dims, Int32(axis), Int64(k), x.pointer, strides, values.pointer,
          indices.pointer.assumingMemoryBound(to: Int64.self), largest)
      }
    }
  }

  /// The positions of the elements that are not zero: int64 [count, rank], row-major.
  public static func nonzero(_ x: CPUArray) -> CPUArray {
    withDimensions(x.shape) { dims in
      x.withByteStrides { strides in
        let count = apus_count_nonzero(x.elementType.code, Int32(x.shape.count), dims, x.pointer, strides)
        let out = CPUArray(uninitialized: [Int(count), x.shape.count], .int64)
        apus_nonzero(
          x.elementType.code, Int32(x.shape.count), dims, x.pointer, strides, out.pointer.assumingMemoryBound(to: Int64.self))
        return out
      }
    }
  }

  /// How many elements of each ascending row are below (`right`: not above) each value: int64.
  public static func searchSorted(_ sorted: CPUArray, _ values: CPUArray, right: Bool) -> CPUArray {
    let (sorted, values) = (sorted.rowMajor(), values.rowMajor())
    let out = CPUArray(uninitialized: values.shape, .int64)
    let n = sorted.shape[sorted.shape.count - 1]
    let shared = sorted.shape.count == 1
    let m = shared ? values.elementCount : values.shape[values.shape.count - 1]
    let rows = m == 0 ? 0 : values.elementCount / m
    apus_search_sorted(
      sorted.elementType.code, Int64(rows), shared ? 1 : Int64(rows), Int64(n), sorted.pointer, Int64(m), values.pointer,
      out.pointer.assumingMemoryBound(to: Int64.self), right)
    return out
  }
}
