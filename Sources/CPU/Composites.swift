import ApusIR
import CApusKernels

extension CPU {
  /// Rows along the last dimension of a row-major array.
  private static func rows(_ x: CPUArray) -> (rows: Int64, columns: Int64, stride: Int64) {
    let columns = x.shape[x.shape.count - 1]
    return (Int64(x.shape.dropLast().reduce(1, *)), Int64(columns), Int64(columns * x.elementType.byteSize))
  }

  static func run(composite: Composite, _ inputs: [CPUArray], _ out: [CPUArray], _ operation: Operation) throws(ExecutionError) {
    switch composite {
    case .softmax: softmax(log: false, inputs[0], out[0])
    case .logSoftmax: softmax(log: true, inputs[0], out[0])
    case .softmaxGradient: softmaxGradient(log: false, inputs[0], inputs[1], out[0])
    case .logSoftmaxGradient: softmaxGradient(log: true, inputs[0], inputs[1], out[0])
    case .layerNorm(let epsilon):
      let x = inputs[0].rowMajor()
      let (weight, bias) = (inputs[1].rowMajor(), inputs[2].rowMajor())
      let (n, c, s) = rows(x)
      apus_layer_norm(
        x.elementType.code, n, c, x.pointer, s, weight.pointer, bias.pointer, epsilon, out[0].pointer, s, out[1].pointer,
        out[2].pointer)
    case .layerNormGradient:
      let (dy, x, weight) = (inputs[0].rowMajor(), inputs[1].rowMajor(), inputs[2].rowMajor())
      let (mean, rstd) = (inputs[3].rowMajor(), inputs[4].rowMajor())
      let (n, c, s) = rows(x)
      apus_layer_norm_grad(
        x.elementType.code, n, c, x.pointer, s, dy.pointer, s, weight.pointer, mean.pointer, rstd.pointer, out[0].pointer, s,
        out[1].pointer, out[2].pointer)
    case .rmsNorm(let epsilon):
      let (x, weight) = (inputs[0].rowMajor(), inputs[1].rowMajor())
      let (n, c, s) = rows(x)
      apus_rms_norm(x.elementType.code, n, c, x.pointer, s, weight.pointer, epsilon, out[0].pointer, s, out[1].pointer)
    case .rmsNormGradient:
      let (dy, x, weight, rrms) = (inputs[0].rowMajor(), inputs[1].rowMajor(), inputs[2].rowMajor(), inputs[3].rowMajor())
      let (n, c, s) = rows(x)
      apus_rms_norm_grad(
        x.elementType.code, n, c, x.pointer, s, dy.pointer, s, weight.pointer, rrms.pointer, out[0].pointer, s, out[1].pointer)
    case .batchNorm(let epsilon): batchNorm(inputs[0], inputs[1], inputs[2], epsilon, out)
    case .batchNormGradient(let epsilon): batchNormGradient(inputs, epsilon, out)
    case .batchNormInference(let epsilon):
      normalize(inputs[0], inputs[1], inputs[2], mean: inputs[3], variance: inputs[4], epsilon, out[0])
    case .softmaxCrossEntropy(let ignoreIndex, let smoothing):
      let (x, labels) = (inputs[0].rowMajor(), inputs[1].rowMajor())
      let (n, c, s) = rows(x)
      let bad = apus_cross_entropy(
        x.elementType.code, n, c, x.pointer, s, labels.pointer, ElementType.int64.code, Int64(ignoreIndex), smoothing,
        out[0].pointer,
        out[1].pointer)
      if bad >= 0 {
        let label = labels.pointer.assumingMemoryBound(to: Int64.self)[Int(bad)]
        throw ExecutionError(operation, "label \(label) at index \(bad) names no class; there are \(c)")
      }
    case .softmaxCrossEntropyGradient(let ignoreIndex, let smoothing):
      let (x, labels, lse) = (inputs[1].rowMajor(), inputs[2].rowMajor(), inputs[3].rowMajor())
      let dloss = inputs[0]
      let (n, c, s) = rows(x)
      apus_cross_entropy_grad(
        x.elementType.code, n, c, x.pointer, s, labels.pointer, ElementType.int64.code, Int64(ignoreIndex), smoothing,
        lse.pointer,
        dloss.pointer, Int64(dloss.strides[0] * dloss.elementType.byteSize), out[0].pointer, s)
    case .linear: run(linear: inputs[0], inputs[1], inputs[2], out[0])
    case .attention(let scale, let causal): run(attention: inputs, scale, causal, out)
    case .attentionGradient(let scale, let causal, let forMask):
      run(attentionGradient: inputs, scale, causal, forMask: forMask, out)
    case .rope(let interleaved, let inverse):
      run(rope: inputs[0], inputs[1], inputs[2], interleaved: interleaved, inverse: inverse, out[0])
    case .lstmCell: run(lstmCell: inputs, out)
    case .lstmCellGradient: run(lstmCellGradient: inputs, out)
    case .gruCell: run(gruCell: inputs, out[0])
    case .gruCellGradient: run(gruCellGradient: inputs, out)
    case .recurrentSequence(let sequence, _): run(sequence: sequence, inputs, out)
    case .recurrentSequenceGradient(let sequence): run(sequenceGradient: sequence, inputs, out)
    case .optimizerStep(let rule): run(optimizerStep: rule, inputs, out)
    }
  }

  private static func softmax(log: Bool, _ x: CPUArray, _ y: CPUArray) {
    let x = x.rowMajor()
    let (n, c, s) = rows(x)
    apus_softmax(log, x.elementType.code, n, c, x.pointer, s, y.pointer, s)
  }

  private static func softmaxGradient(log: Bool, _ y: CPUArray, _ dy: CPUArray, _ dx: CPUArray) {
    let (y, dy) = (y.rowMajor(), dy.rowMajor())
    let (n, c, s) = rows(y)
    apus_softmax_grad(log, y.elementType.code, n, c, y.pointer, s, dy.pointer, s, dx.pointer, s)
  }

  /// The layout that batch normalization works in: x's own if row-major or channels-last, else row-major.
  static func channelLayout(_ x: CPUArray) -> CPUArray {
    if x.isRowMajor || isInChannelsLastOrder(x) { return x }
    return x.isDense && isChannelsLast(x) ? CPUArray(abstractChannelsLast: x.type) : CPUArray(abstract: x.type)
  }

  /// Memory as [outer, channels, inner]: (N, C, rest) or, channels-last, (N · rest, C, 1).
  private static func channels(_ x: CPUArray) -> (outer: Int64, channels: Int64, inner: Int64) {
    let (n, c) = (x.shape[0], x.shape[1])
    let inner = x.shape[2...].reduce(1, *)
    return x.isRowMajor ? (Int64(n), Int64(c), Int64(inner)) : (Int64(n * inner), Int64(c), 1)
  }

  /// Whether memory runs over the batch, then the spatial dimensions in order, then the channels.
  static func isInChannelsLastOrder(_ x: CPUArray) -> Bool {
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

  /// A batch normalization followed by relu, or its gradient where `gate`, relu's result, is positive.
  static func run(batchNorm operation: Operation, _ inputs: [CPUArray], gate: CPUArray?, _ out: [CPUArray]) {
    switch operation {
    case .composite(.batchNorm(let epsilon)): batchNorm(inputs[0], inputs[1], inputs[2], epsilon, relu: true, out)
    case .composite(.batchNormInference(let epsilon)):
      normalize(inputs[0], inputs[1], inputs[2], mean: inputs[3], variance: inputs[4], epsilon, relu: true, out[0])
    case .composite(.batchNormGradient(let epsilon)): batchNormGradient(inputs, gate: gate, epsilon, out)
    default: preconditionFailure("\(operation.name) is no batch normalization")
    }
  }

  private static func batchNorm(
    _ x: CPUArray, _ weight: CPUArray, _ bias: CPUArray, _ epsilon: Double, relu: Bool = false, _ out: [CPUArray]
  ) {
    let x = x.withLayout(of: out[0])
    let (outer, channels, inner) = channels(x)
    apus_batch_norm_statistics(x.elementType.code, outer, channels, inner, x.pointer, out[1].pointer, out[2].pointer)
    normalize(x, weight, bias, mean: out[1], variance: out[2], epsilon, relu: relu, out[0])
  }

  private static func normalize(
    _ x: CPUArray, _ weight: CPUArray, _ bias: CPUArray, mean: CPUArray, variance: CPUArray, _ epsilon: Double,
    relu: Bool = false, _ y: CPUArray
  ) {
    let x = x.withLayout(of: y)
    let (outer, channels, inner) = channels(x)
    let type = statistics(x)
    let mean = mean.rowMajor()
    let scale = binary(
      .mul, convert(weight, type).rowMajor(), reciprocalDeviation(variance.rowMajor(), epsilon), reuse: .neither)
    let shift = convert(bias, type).rowMajor()
    apus_batch_norm_apply(
      x.elementType.code, outer, channels, inner, x.pointer, mean.pointer, scale.pointer, shift.pointer, relu, y.pointer)
    withExtendedLifetime((x, mean, scale, shift)) {}
  }

  private static func batchNormGradient(
    _ inputs: [CPUArray], gate: CPUArray? = nil, _ epsilon: Double, _ out: [CPUArray]
  ) {
    let dx = out[0]
    let (x, dy) = (inputs[1].withLayout(of: dx), inputs[0].withLayout(of: dx))
    let gate = gate?.withLayout(of: dx)
    let (outer, channels, inner) = channels(dx)
    // Per-channel values are statistics to the kernel, also the weight and the gradients of weight and bias.
    let type = statistics(x)
    let weight = convert(inputs[2], type).rowMajor()
    let mean = inputs[3].rowMajor()
    let rstd = reciprocalDeviation(inputs[4].rowMajor(), epsilon)
    let same = out[1].elementType == type
    let dweight = same ? out[1] : CPUArray(uninitialized: weight.shape, type)
    let dbias = same ? out[2] : CPUArray(uninitialized: weight.shape, type)
    apus_batch_norm_grad(
      x.elementType.code, outer, channels, inner, x.pointer, dy.pointer, gate?.pointer, mean.pointer, rstd.pointer,
      weight.pointer, true,
      dx.pointer, dweight.pointer, dbias.pointer)
    withExtendedLifetime((x, dy, gate, weight, mean, rstd)) {}
    if !same {
      run(convert: dweight, out[1])
      run(convert: dbias, out[2])
    }
  }
}
