import ApusIR
import CApusKernels

extension CPU {
  /// Rows along the last dimension of a row-major array.
  private static func rows(_ x: CPUArray) -> (rows: Int64, columns: Int64, stride: Int64) {
    let columns = x.shape[x.shape.count - 1]
    return (Int64(x.shape.dropLast().reduce(1, *)), Int64(columns), Int64(columns * x.elementType.byteSize))
  }

  static func composite(
    _ operation: Operation, _ composite: Composite, _ inputs: [CPUArray], _ types: [TensorType]
  ) throws(ExecutionError) -> [CPUArray] {
    switch composite {
    case .softmax: return [softmax(log: false, inputs[0])]
    case .logSoftmax: return [softmax(log: true, inputs[0])]
    case .softmaxGradient: return [softmaxGradient(log: false, inputs[0], inputs[1])]
    case .logSoftmaxGradient: return [softmaxGradient(log: true, inputs[0], inputs[1])]
    case .layerNorm(let epsilon):
      let x = inputs[0].rowMajor()
      let (weight, bias) = (inputs[1].rowMajor(), inputs[2].rowMajor())
      let out = types.map { CPUArray(uninitialized: $0.shape, $0.elementType) }
      let (n, c, s) = rows(x)
      apus_layer_norm(
        x.elementType.code, n, c, x.pointer, s, weight.pointer, bias.pointer, epsilon, out[0].pointer, s, out[1].pointer,
        out[2].pointer)
      return out
    case .layerNormGradient:
      let (dy, x, weight) = (inputs[0].rowMajor(), inputs[1].rowMajor(), inputs[2].rowMajor())
      let (mean, rstd) = (inputs[3].rowMajor(), inputs[4].rowMajor())
      let out = types.map { CPUArray(uninitialized: $0.shape, $0.elementType) }
      let (n, c, s) = rows(x)
      apus_layer_norm_grad(
        x.elementType.code, n, c, x.pointer, s, dy.pointer, s, weight.pointer, mean.pointer, rstd.pointer, out[0].pointer, s,
        out[1].pointer, out[2].pointer)
      return out
    case .rmsNorm(let epsilon):
      let (x, weight) = (inputs[0].rowMajor(), inputs[1].rowMajor())
      let out = types.map { CPUArray(uninitialized: $0.shape, $0.elementType) }
      let (n, c, s) = rows(x)
      apus_rms_norm(x.elementType.code, n, c, x.pointer, s, weight.pointer, epsilon, out[0].pointer, s, out[1].pointer)
      return out
    case .rmsNormGradient:
      let (dy, x, weight, rrms) = (inputs[0].rowMajor(), inputs[1].rowMajor(), inputs[2].rowMajor(), inputs[3].rowMajor())
      let out = types.map { CPUArray(uninitialized: $0.shape, $0.elementType) }
      let (n, c, s) = rows(x)
      apus_rms_norm_grad(
        x.elementType.code, n, c, x.pointer, s, dy.pointer, s, weight.pointer, rrms.pointer, out[0].pointer, s, out[1].pointer)
      return out
    case .batchNorm(let epsilon): return batchNorm(inputs[0], inputs[1], inputs[2], epsilon)
    case .batchNormGradient(let epsilon): return batchNormGradient(inputs, epsilon)
    case .batchNormInference(let epsilon):
      return [normalize(inputs[0], inputs[1], inputs[2], mean: inputs[3], variance: inputs[4], epsilon)]
    case .softmaxCrossEntropy(let ignoreIndex, let smoothing):
      let (x, labels) = (inputs[0].rowMajor(), inputs[1].rowMajor())
      let out = types.map { CPUArray(uninitialized: $0.shape, $0.elementType) }
      let (n, c, s) = rows(x)
      let bad = apus_cross_entropy(
        x.elementType.code, n, c, x.pointer, s, labels.pointer, ElementType.int64.code, Int64(ignoreIndex), smoothing,
        out[0].pointer,
        out[1].pointer)
      if bad >= 0 {
        let label = labels.pointer.assumingMemoryBound(to: Int64.self)[Int(bad)]
        throw ExecutionError(operation, "label \(label) at index \(bad) names no class; there are \(c)")
      }
      return out
    case .softmaxCrossEntropyGradient(let ignoreIndex, let smoothing):
      let (x, labels, lse) = (inputs[1].rowMajor(), inputs[2].rowMajor(), inputs[3].rowMajor())
      let dloss = inputs[0]
      let out = CPUArray(uninitialized: x.shape, x.elementType)
      let (n, c, s) = rows(x)
      apus_cross_entropy_grad(
        x.elementType.code, n, c, x.pointer, s, labels.pointer, ElementType.int64.code, Int64(ignoreIndex), smoothing,
        lse.pointer,
        dloss.pointer, Int64(dloss.strides[0] * dloss.elementType.byteSize), out.pointer, s)
      return [out]
    case .linear: return [linear(inputs[0], inputs[1], inputs[2], types[0].shape)]
    case .attention(let scale, let causal): return attention(inputs, scale, causal, types)
    case .attentionGradient(let scale, let causal, let forMask):
      return attentionGradient(inputs, scale, causal, forMask: forMask, types)
    case .rope(let interleaved, let inverse):
      return [rope(inputs[0], inputs[1], inputs[2], interleaved: interleaved, inverse: inverse)]
    case .lstmCell: return lstmCell(inputs, types)
    case .lstmCellGradient: return lstmCellGradient(inputs, types)
    case .gruCell: return gruCell(inputs, types)
    case .gruCellGradient: return gruCellGradient(inputs, types)
    }
  }

  private static func softmax(log: Bool, _ x: CPUArray) -> CPUArray {
    let x = x.rowMajor()
    let y = CPUArray(uninitialized: x.shape, x.elementType)
    let (n, c, s) = rows(x)
    apus_softmax(log, x.elementType.code, n, c, x.pointer, s, y.pointer, s)
    return y
  }

  private static func softmaxGradient(log: Bool, _ y: CPUArray, _ dy: CPUArray) -> CPUArray {
    let (y, dy) = (y.rowMajor(), dy.rowMajor())
    let dx = CPUArray(uninitialized: y.shape, y.elementType)
    let (n, c, s) = rows(y)
    apus_softmax_grad(log, y.elementType.code, n, c, y.pointer, s, dy.pointer, s, dx.pointer, s)
    return dx
  }

  /// x as [outer, channels, inner] of its memory: (N, C, rest) or, channels-last, (N · rest, C, 1). Copies only if neither.
  private static func channelLayout(_ x: CPUArray) -> (x: CPUArray, outer: Int64, channels: Int64, inner: Int64) {
    let (n, c) = (x.shape[0], x.shape[1])
    let inner = x.shape[2...].reduce(1, *)
    if x.isRowMajor { return (x, Int64(n), Int64(c), Int64(inner)) }
    let last = inChannelsLast(x)
    if isInChannelsLastOrder(last) { return (last, Int64(n * inner), Int64(c), 1) }
    return (x.copy(), Int64(n), Int64(c), Int64(inner))
  }

  /// Whether memory runs over the batch, then the spatial dimensions in order, then the channels.
  private static func isInChannelsLastOrder(_ x: CPUArray) -> Bool {
    var expected = 1
    for i in [1] + Array((2..<x.shape.count).reversed()) + [0] where x.shape[i] != 1 {
      if x.strides[i] != expected { return false }
      expected *= x.shape[i]
    }
    return true
  }

  private static func statistics(_ x: CPUArray) -> ElementType { x.elementType == .float64 ? .float64 : .float32 }

  private static func reciprocalDeviation(_ variance: CPUArray, _ epsilon: Double) -> CPUArray {
    let e = broadcast(fill([], variance.elementType, .double(epsilon)), variance.shape)
    return unary(.rsqrt, binary(.add, variance, e, reuse: .neither), variance.elementType, reuse: true)
  }

  private static func batchNorm(_ x: CPUArray, _ weight: CPUArray, _ bias: CPUArray, _ epsilon: Double) -> [CPUArray] {
    let (x, outer, channels, inner) = channelLayout(x)
    let type = statistics(x)
    let mean = CPUArray(uninitialized: [Int(channels)], type)
    let variance = CPUArray(uninitialized: [Int(channels)], type)
    apus_batch_norm_statistics(x.elementType.code, outer, channels, inner, x.pointer, mean.pointer, variance.pointer)
    return [normalize(x, weight, bias, mean: mean, variance: variance, epsilon), mean, variance]
  }

  private static func normalize(
    _ x: CPUArray, _ weight: CPUArray, _ bias: CPUArray, mean: CPUArray, variance: CPUArray, _ epsilon: Double
  ) -> CPUArray {
    let (x, outer, channels, inner) = channelLayout(x)
    let type = statistics(x)
    let mean = mean.rowMajor()
    let scale = binary(
      .mul, convert(weight, type).rowMajor(), reciprocalDeviation(variance.rowMajor(), epsilon), reuse: .neither)
    let shift = convert(bias, type).rowMajor()
    let y = CPUArray(uninitializedLike: x, x.elementType)
    apus_batch_norm_apply(
      x.elementType.code, outer, channels, inner, x.pointer, mean.pointer, scale.pointer, shift.pointer, false, y.pointer)
    return y
  }

  private static func batchNormGradient(_ inputs: [CPUArray], _ epsilon: Double) -> [CPUArray] {
    let (x, outer, channels, inner) = channelLayout(inputs[1])
    let dy = inputs[0].withLayout(of: x)
    // Per-channel values are statistics to the kernel, also the weight and the gradients of weight and bias.
    let type = statistics(x)
    let weight = convert(inputs[2], type).rowMajor()
    let mean = inputs[3].rowMajor()
    let rstd = reciprocalDeviation(inputs[4].rowMajor(), epsilon)
    let dx = CPUArray(uninitializedLike: x, x.elementType)
    let dweight = CPUArray(uninitialized: weight.shape, type)
    let dbias = CPUArray(uninitialized: weight.shape, type)
    apus_batch_norm_grad(
      x.elementType.code, outer, channels, inner, x.pointer, dy.pointer, nil, mean.pointer, rstd.pointer, weight.pointer, true,
      dx.pointer, dweight.pointer, dbias.pointer)
    return [dx, convert(dweight, x.elementType), convert(dbias, x.elementType)]
  }
}
