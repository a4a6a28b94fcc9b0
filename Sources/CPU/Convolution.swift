import ApusIR
import CApusKernels

extension CPU {
  /// New memory for an image batch [N, C, …], ordered channels-last.
  static func channelsLast(_ shape: Shape, _ type: ElementType) -> CPUArray {
    CPUArray(abstractChannelsLast: TensorType(shape, type)).allocated()
  }

  private static func describe(
    _ p: ConvolutionParameters, x: CPUArray, w: CPUArray, y: CPUArray
  ) -> apus_convolution {
    var c = apus_convolution()
    let n = p.spatialRank
    c.type = x.elementType.code
    c.spatial_rank = Int32(n)
    (c.batch, c.in_channels, c.out_channels) = (Int64(x.shape[0]), Int64(x.shape[1]), Int64(w.shape[0]))
    c.groups = Int64(p.groups)
    (c.x_batch, c.x_channel) = (Int64(x.strides[0]), Int64(x.strides[1]))
    (c.w_out, c.w_in) = (Int64(w.strides[0]), Int64(w.strides[1]))
    (c.y_batch, c.y_channel) = (Int64(y.strides[0]), Int64(y.strides[1]))
    fill(&c.in, n) { x.shape[2 + $0] }
    fill(&c.kernel, n) { w.shape[2 + $0] }
    fill(&c.out, n) { y.shape[2 + $0] }
    fill(&c.stride, n) { p.stride[$0] }
    fill(&c.pad_low, n) { p.padLow[$0] }
    fill(&c.kernel_dilation, n) { p.kernelDilation[$0] }
    fill(&c.input_dilation, n) { p.inputDilation[$0] }
    fill(&c.x_spatial, n) { x.strides[2 + $0] }
    fill(&c.w_spatial, n) { w.strides[2 + $0] }
    fill(&c.y_spatial, n) { y.strides[2 + $0] }
    // Layouts have no memory.
    c.x = x.storage.map { _ in UnsafeRawPointer(x.pointer) }
    c.w = w.storage.map { _ in UnsafeRawPointer(w.pointer) }
    c.y = y.storage.map { _ in y.pointer }
    return c
  }

  private static func fill(_ triple: inout (Int64, Int64, Int64), _ count: Int, _ value: (Int) -> Int) {
    triple = (1, 1, 1)
    if count > 0 { triple.0 = Int64(value(0)) }
    if count > 1 { triple.1 = Int64(value(1)) }
    if count > 2 { triple.2 = Int64(value(2)) }
  }

  static func run(
    convolution p: ConvolutionParameters, _ x: CPUArray, _ w: CPUArray, _ bias: CPUArray?, _ y: CPUArray,
    _ epilogue: Epilogue = Epilogue()
  ) {
    if y.elementCount == 0 { return }
    var c = describe(p, x: x, w: w, y: y)
    let bias = bias?.rowMajor()
    c.bias = bias.map { UnsafeRawPointer($0.pointer) }
    if let activation = epilogue.activation { c.activation = activation.epilogue }
    if let residual = epilogue.residual {
      c.residual = UnsafeRawPointer(residual.pointer)
      (c.residual_batch, c.residual_channel) = (Int64(residual.strides[0]), Int64(residual.strides[1]))
      fill(&c.residual_spatial, p.spatialRank) { residual.strides[2 + $0] }
    }
    if let prepared = epilogue.packed { c.prepared = UnsafeRawPointer(prepared.pointer) }
    withExtendedLifetime(bias) { apus_convolution_forward(&c) }
  }

  /// What a convolution makes of weights that stay the same, for operands of these layouts; nil if nothing is gained.
  static func preparation(
    convolution p: ConvolutionParameters, _ x: CPUArray, _ w: CPUArray, _ y: CPUArray
  ) -> Preparation? {
    var c = describe(p, x: x, w: w, y: y)
    let size = apus_convolution_prepared_size(&c)
    guard size > 0 else { return nil }
    return Preparation(type: TensorType([Int(size)], .uint8)) { w, prepared in
      var c = describe(p, x: x, w: w, y: y)
      apus_convolution_prepare(&c, prepared.pointer)
    }
  }

  static func run(convolutionInputGradient p: ConvolutionParameters, _ dy: CPUArray, _ w: CPUArray, _ dx: CPUArray) {
    if dx.elementCount == 0 { return }
    var c = describe(p, x: dx, w: w, y: dy)
    apus_convolution_input_gradient(&c)
  }

  static func run(convolutionKernelGradient p: ConvolutionParameters, _ x: CPUArray, _ dy: CPUArray, _ dw: CPUArray) {
    if dw.elementCount == 0 { return }
    var c = describe(p, x: x, w: dw, y: dy)
    apus_convolution_weight_gradient(&c)
  }

  private static func describe(_ kind: WindowReductionKind, _ w: Window, _ x: CPUArray, _ y: CPUArray) -> apus_pooling {
    var c = apus_pooling()
    let n = w.size.count
    c.type = x.elementType.code
    c.spatial_rank = Int32(n)
    switch kind {
    case .max: c.kind = Int32(APUS_POOL_MAX.rawValue)
    case .sum: c.kind = Int32(APUS_POOL_SUM.rawValue)
    case .average, .averageValid: c.kind = Int32(APUS_POOL_AVERAGE.rawValue)
    }
    c.count_include_pad = kind == .average ? 1 : 0
    (c.batch, c.channels) = (Int64(x.shape[0]), Int64(x.shape[1]))
    (c.x_batch, c.x_channel) = (Int64(x.strides[0]), Int64(x.strides[1]))
    (c.y_batch, c.y_channel) = (Int64(y.strides[0]), Int64(y.strides[1]))
    fill(&c.in, n) { x.shape[2 + $0] }
    fill(&c.out, n) { y.shape[2 + $0] }
    fill(&c.window, n) { w.size[$0] }
    fill(&c.stride, n) { w.stride[$0] }
    fill(&c.pad_low, n) { w.padLow[$0] }
    fill(&c.pad_high, n) { w.padHigh[$0] }
    fill(&c.dilation, n) { w.dilation[$0] }
    fill(&c.x_spatial, n) { x.strides[2 + $0] }
    fill(&c.y_spatial, n) { y.strides[2 + $0] }
    c.x = UnsafeRawPointer(x.pointer)
    c.y = y.pointer
    return c
  }

  static func isChannelsLast(_ x: CPUArray) -> Bool { x.shape[1] == 1 || x.strides[1] == 1 }

  static func run(reduceWindow kind: WindowReductionKind, _ w: Window, _ x: CPUArray, _ y: CPUArray) {
    if y.elementCount == 0 { return }
    var c = describe(kind, w, x, y)
    apus_pooling_forward(&c)
  }

  /// dx is dense.
  static func run(reduceWindowGradient kind: WindowReductionKind, _ w: Window, _ x: CPUArray, _ dy: CPUArray, _ dx: CPUArray) {
    if dx.elementCount == 0 { return }
    if dy.elementCount == 0 { return dx.assign(fill(dx.shape, dx.elementType, .int(0))) }
    let x = kind == .max ? x.withLayout(of: dx) : dx  // only the maximum reads x
    let dy = isChannelsLast(x) ? inChannelsLast(dy) : dy
    var c = describe(kind, w, x, dy)
    apus_pooling_gradient(&c, dy.pointer, dx.pointer)
  }

  /// The array itself if channels-last, else a copy that is.
  static func inChannelsLast(_ x: CPUArray) -> CPUArray {
    if x.isDense && isChannelsLast(x) { return x }
    let copy = channelsLast(x.shape, x.elementType)
    copy.assign(x)
    return copy
  }

  static func run(maxPoolIndices w: Window, _ x: CPUArray, _ indices: CPUArray) {
    if indices.elementCount == 0 { return }
    let y = CPUArray(uninitialized: indices.shape, x.elementType)
    var c = describe(.max, w, x, y)
    apus_pooling_max_indices(&c, indices.pointer.assumingMemoryBound(to: Int64.self))
  }
}
