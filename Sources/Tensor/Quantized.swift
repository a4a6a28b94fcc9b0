import ApusCPU
import CApusKernels

// Quantized tensors: real = (q − zeroPoint) · scale, q of 8 bits (Jacob et al. 2018; TensorFlow Lite's int8 scheme).
//
// Scales and zero points belong to the first dimensions of the tensor they scale: [] to all of it, [n] to each of the n
// rows or output channels, [batch, rows] to each row of each sample.

/// Numbers of 8 bits and what they stand for: (values − zeroPoint) · scale.
public struct QuantizedTensor: Sendable {
  /// int8 or uint8.
  public let values: Tensor
  /// float32; its shape is how the shape of `values` begins.
  public let scale: Tensor
  /// int32, as `scale`.
  public let zeroPoint: Tensor
  fileprivate var packed: PackedQuantizedWeight?

  public init(values: Tensor, scale: Tensor, zeroPoint: Tensor) {
    self.values = values
    self.scale = scale
    self.zeroPoint = zeroPoint
  }

  /// Stops if a zero point is not 0, which products with this as the weight would ignore. A traced one cannot be read.
  fileprivate func checkSymmetric(_ caller: String) {
    let array = zeroPoint.array
    guard array.storage != nil else { return }
    guard array.elementType == .int32 else { stop("\(caller): the weight's zero point must be int32, got \(zeroPoint.type)") }
    let dense = array.rowMajor()
    let values = dense.pointer.assumingMemoryBound(to: Int32.self)
    for i in 0..<dense.elementCount where values[i] != 0 {
      stop("\(caller): the weight's zero points must be 0, got \(values[i]); quantizeWeight makes such weights")
    }
  }

  /// The numbers this stands for, float32.
  public func dequantized() -> Tensor { dequantize(values, scale: scale, zeroPoint: zeroPoint) }

  /// The same, with memory for a second form of the values that ``quantizedLinear(_:_:_:)`` reads faster: for weights
  /// [out, in] that stay as they are.
  public func prepared() -> QuantizedTensor {
    guard values.elementType == .int8 && values.rank == 2 else {
      stop("prepared: takes int8 weights [out, in], got \(values.type)")
    }
    var copy = self
    if copy.packed == nil && values.array.storage != nil { copy.packed = PackedQuantizedWeight(values.array) }
    return copy
  }
}

/// q = round(x / scale) + zeroPoint, halves to even, limited to the range of `type` (ONNX's QuantizeLinear). NaN gives 0.
/// - Parameters:
///   - scale: its shape is how x's shape begins.
///   - zeroPoint: as `scale`.
///   - type: int8 or uint8.
public func quantize(_ x: Tensor, scale: Tensor, zeroPoint: Tensor, type: ElementType = .int8) -> Tensor {
  guard type == .int8 || type == .uint8 else { stop("quantize: gives int8 or uint8, not \(type)") }
  let (low, high) = type == .int8 ? (-128, 127) : (0, 255)
  return limited(x, scale, zeroPoint, low, high, "quantize").converted(to: type)
}

/// (q − zeroPoint) · scale in float32.
/// - Parameters:
///   - scale: its shape is how q's shape begins.
///   - zeroPoint: as `scale`.
public func dequantize(_ q: Tensor, scale: Tensor, zeroPoint: Tensor) -> Tensor {
  let difference = q.converted(to: .int32) - leading(zeroPoint, q, "dequantize").converted(to: .int32)
  return difference.converted(to: .float32) * leading(scale, q, "dequantize").converted(to: .float32)
}

/// Weights [out, …] as int8 within −127 and 127 with zero point 0: scale = max |w| / 127, one per output channel or one
/// for all.
public func quantizeWeight(_ weight: Tensor, perChannel: Bool = true) -> QuantizedTensor {
  guard weight.rank >= 1 else { stop("quantizeWeight: a scalar has no channels") }
  let w = weight.detached().converted(to: .float32)
  let scale = symmetricScale(w, from: perChannel ? 1 : 0)
  let zeroPoint = Tensor.zeros(scale.shape, .int32)
  let values = limited(w, scale, zeroPoint, -127, 127, "quantizeWeight").converted(to: .int8)
  return QuantizedTensor(values: values, scale: scale, zeroPoint: zeroPoint)
}

/// x with scales found from its own values, one for all or one per row (the last dimension).
///
/// int8: symmetric, scale = max |x| / 127, zero point 0. uint8: from the least value to the largest with 0 among them,
/// scale = (max − min) / 255, zero point = round(−min / scale) (ONNX's DynamicQuantizeLinear).
public func quantizeDynamically(_ x: Tensor, type: ElementType = .int8, perRow: Bool = false) -> QuantizedTensor {
  guard type == .int8 || type == .uint8 else { stop("quantizeDynamically: gives int8 or uint8, not \(type)") }
  guard x.rank >= 1 else { stop("quantizeDynamically: a scalar has no rows") }
  let x = x.detached().converted(to: .float32)
  let first = perRow ? x.rank - 1 : 0
  let scale: Tensor
  let zeroPoint: Tensor
  if type == .int8 {
    scale = symmetricScale(x, from: first)
    zeroPoint = Tensor.zeros(scale.shape, .int32)
  } else {
    let low = extreme(x, from: first, .min)
    scale = nonzero((extreme(x, from: first, .max) - low) / 255)
    zeroPoint = round(-low / scale).clamped(0, 255).converted(to: .int32)
  }
  return QuantizedTensor(values: quantize(x, scale: scale, zeroPoint: zeroPoint, type: type), scale: scale, zeroPoint: zeroPoint)
}

/// x · weightᵀ + bias of the numbers that quantized tensors stand for: x [… , in], weight [out, in] → float32 [… , out].
///
/// Sums of products are exact in int32, so that in is at most 65,793. There is no gradient.
/// - Parameters:
///   - x: int8 or uint8; one scale for all or one per row.
///   - weight: int8; one scale for all or one per output; its zero points must be 0.
///   - bias: float32 [out].
public func quantizedLinear(_ x: QuantizedTensor, _ weight: QuantizedTensor, _ bias: Tensor? = nil) -> Tensor {
  weight.checkSymmetric("quantizedLinear")
  var inputs = [x.values, x.scale, x.zeroPoint, weight.values, weight.scale]
  if let bias { inputs.append(bias) }
  if let packed = weight.packed, let result = executed(inputs, packed) { return result }
  return apply(.quantizedDot, inputs)[0]
}

/// x · weight of the numbers that quantized tensors stand for: x [… , k], weight [k, n] → float32 [… , n].
///
/// As ``quantizedLinear(_:_:_:)`` with the weight transposed, one scale for all of it.
public func quantizedMatmul(_ x: QuantizedTensor, _ weight: QuantizedTensor) -> Tensor {
  guard weight.values.rank == 2 && weight.scale.rank == 0 else {
    stop(
      "quantizedMatmul: takes a weight [k, n] with one scale, got \(weight.values.type) with scales of shape \(weight.scale.shape)"
    )
  }
  weight.checkSymmetric("quantizedMatmul")
  return apply(.quantizedDot, x.values, x.scale, x.zeroPoint, weight.values.transposed(), weight.scale)
}

/// x as a linear layer with dynamic quantization sees it: quantized per row or whole, then multiplied.
public func dynamicallyQuantizedLinear(_ x: Tensor, _ weight: QuantizedTensor, _ bias: Tensor? = nil, perRow: Bool = true)
  -> Tensor
{
  quantizedLinear(quantizeDynamically(x, perRow: perRow), weight, bias)
}

// MARK: -

/// The product now, with the weight's packed form; nil where something must see the operation: a trace, a tape.
private func executed(_ inputs: [Tensor], _ packed: PackedQuantizedWeight) -> Tensor? {
  let state = apus_thread()!
  if state.pointee.tracer != nil || state.pointee.anomaly != 0 { return nil }
  if inputs.contains(where: { $0.array.storage == nil || isRecording && $0.isTracked }) { return nil }
  do {
    _ = try Operation.quantizedDot.infer(inputs.map(\.type))
    return Tensor(array: try CPU.quantizedDot(inputs.map(\.array), packed: packed))
  } catch let error as OperationError {
    stop(error.description)
  } catch {
    stop("\(error)")
  }
}

/// `part`, whose shape is how x's begins, with ones behind it so that it broadcasts.
private func leading(_ part: Tensor, _ x: Tensor, _ caller: String) -> Tensor {
  guard part.rank <= x.rank && part.shape == Shape(x.shape.prefix(part.rank)) else {
    stop("\(caller): scale and zero point of shape \(part.shape) do not begin the shape \(x.shape)")
  }
  return part.reshaped(Shape(Array(part.shape) + Array(repeating: 1, count: x.rank - part.rank)))
}

private func limited(_ x: Tensor, _ scale: Tensor, _ zeroPoint: Tensor, _ low: Int, _ high: Int, _ caller: String) -> Tensor {
  let x = x.converted(to: .float32)
  let zero = leading(zeroPoint, x, caller).converted(to: .float32)
  return (round(x / leading(scale, x, caller).converted(to: .float32)) + zero).clamped(low, high)
}

/// The least or the largest value and 0, over all dimensions from `first` on.
private func extreme(_ x: Tensor, from first: Int, _ kind: ReductionKind) -> Tensor {
  let kept = Shape(x.shape.prefix(first))
  if x.count == 0 { return Tensor.zeros(kept, .float32) }
  let value = apply(.reduce(kind, Axes(first..<x.rank), keepDims: false), x)
  return kind == .max ? maximum(value, 0) : minimum(value, 0)
}

private func symmetricScale(_ x: Tensor, from first: Int) -> Tensor { nonzero(extreme(abs(x), from: first, .max) / 127) }

/// A scale of zeros stands for nothing: 1 does as well.
private func nonzero(_ scale: Tensor) -> Tensor { `where`(scale .> 0, scale, 1) }
