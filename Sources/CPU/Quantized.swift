import ApusIR
import CApusKernels

/// A constant int8 weight [n, k] in the form the product's kernels read, made once and used for many products.
public struct PackedQuantizedWeight: Sendable {
  fileprivate let storage: Storage
  public let shape: Shape

  /// - Parameter weight: int8 [n, k].
  public init(_ weight: CPUArray) {
    precondition(weight.elementType == .int8 && weight.shape.count == 2)
    let (n, k) = (Int64(weight.shape[0]), Int64(weight.shape[1]))
    shape = weight.shape
    storage = Storage(byteCount: apus_quantized_packed_size(n, k))
    apus_quantized_pack(
      weight.pointer.assumingMemoryBound(to: Int8.self), Int64(weight.strides[0]), Int64(weight.strides[1]), n, k, storage.pointer
    )
  }
}

extension CPU {
  /// `inputs` are the operation's; `packed` is the weight's other form, if the caller keeps one.
  public static func quantizedDot(_ inputs: [CPUArray], packed: PackedQuantizedWeight? = nil) throws(ExecutionError) -> CPUArray {
    var shape = inputs[0].shape
    shape[shape.count - 1] = inputs[3].shape[0]
    let out = CPUArray(uninitialized: shape, .float32)
    try run(quantizedDot: inputs, packed: packed, out)
    return out
  }

  static func run(quantizedDot inputs: [CPUArray], packed: PackedQuantizedWeight? = nil, _ out: CPUArray) throws(ExecutionError) {
    let weight = inputs[3]
    precondition(packed == nil || packed?.shape == weight.shape)
    let (x, m, row) = mergedRows(inputs[0])
    let last = x.shape.count - 1
    let (scale, zeroPoint) = (inputs[1].rowMajor(), inputs[2].rowMajor())
    let zeroPoints = zeroPoint.pointer.assumingMemoryBound(to: Int32.self)
    let range: ClosedRange<Int32> = x.elementType == .uint8 ? 0...255 : -128...127
    for i in 0..<zeroPoint.elementCount where !range.contains(zeroPoints[i]) {
      throw ExecutionError(.quantizedDot, "the zero point \(zeroPoints[i]) at index \(i) is not a value of \(x.elementType)")
    }
    if out.elementCount == 0 { return }

    var p = apus_quantized_matmul()
    p.x_type = x.elementType.code
    (p.m, p.n, p.k) = (Int64(m), Int64(weight.shape[0]), Int64(weight.shape[1]))
    p.x = UnsafeRawPointer(x.pointer)
    (p.x_row, p.x_col) = (Int64(row), Int64(x.strides[last]))
    (p.x_scale, p.x_scale_stride) = (floats(scale), scale.shape.isEmpty ? 0 : 1)
    (p.x_zero_point, p.x_zero_point_stride) = (UnsafePointer(zeroPoints), zeroPoint.shape.isEmpty ? 0 : 1)
    p.weight = UnsafePointer(weight.pointer.assumingMemoryBound(to: Int8.self))
    (p.weight_row, p.weight_col) = (Int64(weight.strides[0]), Int64(weight.strides[1]))
    p.packed = packed.map { UnsafeRawPointer($0.storage.pointer) }
    (p.weight_scale, p.weight_scale_stride) = (floats(inputs[4]), inputs[4].shape.isEmpty ? 0 : Int64(inputs[4].strides[0]))
    if inputs.count > 5 { (p.bias, p.bias_stride) = (floats(inputs[5]), Int64(inputs[5].strides[0])) }
    (p.out, p.out_row) = (out.pointer.assumingMemoryBound(to: Float.self), p.n)
    withExtendedLifetime((x, scale, zeroPoint, packed)) { apus_quantized_matmul_run(&p) }  // some are copies made here
  }

  private static func floats(_ x: CPUArray) -> UnsafePointer<Float> {
    UnsafePointer(x.pointer.assumingMemoryBound(to: Float.self))
  }

  /// All dimensions but the last as one: the array or a copy, their number and stride.
  private static func mergedRows(_ x: CPUArray) -> (x: CPUArray, count: Int, stride: Int) {
    if x.elementCount == 0 { return (x, x.shape.dropLast().reduce(1, *), 0) }  // strides say nothing then
    var count = 1
    var step = 0
    for i in x.shape.indices.dropLast().reversed() where x.shape[i] != 1 {
      if count == 1 {
        step = x.strides[i]
      } else if x.strides[i] != step * count {
        return mergedRows(x.copy())
      }
      count *= x.shape[i]
    }
    return (x, count, step)
  }
}
