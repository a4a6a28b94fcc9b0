import ApusIR
import CApusKernels

extension CPU {
  public static func broadcast(_ x: CPUArray, _ shape: Shape) -> CPUArray {
    var strides = Shape(repeating: 0, count: shape.count)
    let lead = shape.count - x.shape.count
    for i in 0..<x.shape.count where x.shape[i] != 1 || shape[lead + i] == 1 { strides[lead + i] = x.strides[i] }
    return CPUArray(view: x, shape: shape, strides: strides)
  }

  public static func reshape(_ x: CPUArray, _ shape: Shape) -> CPUArray {
    if x.isRowMajor { return CPUArray(rowMajorView: x, shape: shape) }
    if let strides = stridesAfterReshape(x, shape) { return CPUArray(view: x, shape: shape, strides: strides) }
    return CPUArray(rowMajorView: x.copy(), shape: shape)
  }

  /// The strides that let `shape` be read from x's memory as it is, or nil.
  static func stridesAfterReshape(_ x: CPUArray, _ shape: Shape) -> Shape? {
    guard x.elementCount > 0 else { return shape.rowMajorStrides }
    let old = (0..<x.shape.count).filter { x.shape[$0] != 1 }
    var result = Shape(repeating: 1, count: shape.count)
    var (i, n) = (0, 0)  // dimensions of x and of the result that are matched so far
    while i < old.count && n < shape.count {
      // The smallest groups of dimensions on both sides that hold equally many elements.
      var (iEnd, nEnd) = (i + 1, n + 1)
      var (from, to) = (x.shape[old[i]], shape[n])
      while from != to {
        if to < from {
          to *= shape[nEnd]
          nEnd += 1
        } else {
          from *= x.shape[old[iEnd]]
          iEnd += 1
        }
      }
      for k in i..<(iEnd - 1) where x.strides[old[k]] != x.strides[old[k + 1]] * x.shape[old[k + 1]] { return nil }
      var stride = x.strides[old[iEnd - 1]]
      for k in (n..<nEnd).reversed() {
        result[k] = stride
        stride *= shape[k]
      }
      (i, n) = (iEnd, nEnd)
    }
    return result
  }

  public static func transpose(_ x: CPUArray, _ permutation: Axes) -> CPUArray {
    var shape = x.shape
    var strides = x.strides
    for i in 0..<permutation.count {
      shape[i] = x.shape[permutation[i]]
      strides[i] = x.strides[permutation[i]]
    }
    return CPUArray(view: x, shape: shape, strides: strides)
  }

  public static func slice(_ x: CPUArray, _ start: Shape, _ size: Shape, _ step: Shape) -> CPUArray {
    var strides = x.strides
    var offset = 0
    for i in 0..<size.count {
      if size[i] > 0 { offset += start[i] * x.strides[i] }
      strides[i] = x.strides[i] * step[i]
    }
    return CPUArray(view: x, byteOffset: x.byteOffset + offset * x.elementType.byteSize, shape: size, strides: strides)
  }

  static func reverse(_ x: CPUArray, _ axes: Axes) -> CPUArray {
    var strides = x.strides
    var offset = 0
    for axis in axes {
      offset += Swift.max(x.shape[axis] - 1, 0) * x.strides[axis]
      strides[axis] = -strides[axis]
    }
    return CPUArray(view: x, byteOffset: x.byteOffset + offset * x.elementType.byteSize, shape: x.shape, strides: strides)
  }

  static func run(pad x: CPUArray, _ value: CPUArray, _ low: Shape, _ high: Shape, _ interior: Shape, _ out: CPUArray) {
    withDimensions(x.shape) { dims in
      x.withByteStrides { from in
        out.withByteStrides { to in
          withDimensions(low) { low in
            withDimensions(high) { high in
              withDimensions(interior) { interior in
                apus_pad(
                  Int32(x.shape.count), dims, x.pointer, from, out.pointer, to, low, high, interior,
                  Int64(x.elementType.byteSize), value.pointer)
              }
            }
          }
        }
      }
    }
  }

  static func run(concatenate inputs: [CPUArray], _ axis: Int, _ out: CPUArray) {
    var start = Shape(repeating: 0, count: out.shape.count)
    let step = Shape(repeating: 1, count: out.shape.count)
    for x in inputs {
      slice(out, start, x.shape, step).assign(x)
      start[axis] += x.shape[axis]
    }
  }

  static func clampedStart(_ start: CPUArray, _ shape: Shape, _ size: Shape) -> Shape {
    let start = start.rowMajor()
    let values = start.pointer.assumingMemoryBound(to: Int64.self)
    var result = Shape(repeating: 0, count: shape.count)
    for i in 0..<shape.count { result[i] = Swift.min(Swift.max(Int(values[i]), 0), shape[i] - size[i]) }
    return result
  }

  static func dynamicSlice(_ x: CPUArray, _ start: CPUArray, _ size: Shape) -> CPUArray {
    slice(x, clampedStart(start, x.shape, size), size, Shape(repeating: 1, count: size.count))
  }

  /// `out` may be x's own memory: then only the update is written.
  static func run(dynamicUpdateSlice x: CPUArray, _ update: CPUArray, _ start: CPUArray, _ out: CPUArray) {
    if x.pointer != out.pointer { out.assign(x) }
    let at = clampedStart(start, x.shape, update.shape)
    slice(out, at, update.shape, Shape(repeating: 1, count: at.count)).assign(update)
  }

  static func run(triangle x: CPUArray, _ upper: Bool, _ diagonal: Int, _ out: CPUArray) {
    withDimensions(x.shape) { dims in
      out.withByteStrides { to in
        x.withByteStrides { from in
          apus_triangle(
            Int32(x.shape.count), dims, out.pointer, to, x.pointer, from, Int64(x.elementType.byteSize), Int64(diagonal), upper)
        }
      }
    }
  }
}
