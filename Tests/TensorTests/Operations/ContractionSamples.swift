import ApusCPU

@testable import ApusTensor

/// One convolution in few words, with all three of its passes.
private struct ConvolutionCase {
  var x, w: Shape
  var stride: Shape
  var low: Shape
  var high: Shape
  var kernelDilation: Shape
  var inputDilation: Shape
  var groups: Int
  var bias: Bool

  init(
    _ x: Shape, _ w: Shape, stride: Shape? = nil, pad: Shape? = nil, high: Shape? = nil, dilation: Shape? = nil,
    inputDilation: Shape? = nil, groups: Int = 1, bias: Bool = false
  ) {
    let n = x.count - 2
    let (ones, zeros) = (Shape(repeating: 1, count: n), Shape(repeating: 0, count: n))
    self.x = x
    self.w = w
    self.stride = stride ?? ones
    low = pad ?? zeros
    self.high = high ?? pad ?? zeros
    kernelDilation = dilation ?? ones
    self.inputDilation = inputDilation ?? ones
    self.groups = groups
    self.bias = bias
  }

  var parameters: ConvolutionParameters {
    ConvolutionParameters(
      stride: stride, padLow: low, padHigh: high, kernelDilation: kernelDilation, inputDilation: inputDilation, groups: groups)
  }

  var y: Shape {
    var shape: Shape = [x[0], w[0]]
    for i in 0..<stride.count { shape.append(parameters.outputSize(i, input: x[2 + i], kernel: w[2 + i])) }
    return shape
  }
}

extension OperationSamples {
  static let dot: [Sample] = {
    func sample(_ d: DotDimensions, _ a: Shape, _ b: Shape) -> Sample {
      // Up to 19 terms of up to 16.
      Sample(.dot(d), [Input(a, seed: 1), Input(b, seed: 2)], numbers, gradients: [0, 1], magnitude: 60, dependsOnLayout: true)
    }
    let matrix = DotDimensions(lhsContracting: [1], rhsContracting: [0])
    return [
      sample(matrix, [3, 4], [4, 5]),
      sample(matrix, [7, 19], [19, 5]),
      sample(matrix, [1, 1], [1, 1]),
      sample(DotDimensions(lhsContracting: [0], rhsContracting: [0]), [5], [5]),
      sample(DotDimensions(lhsContracting: [], rhsContracting: []), [], []),
      sample(DotDimensions(lhsContracting: [], rhsContracting: []), [3], [4]),
      sample(DotDimensions(lhsContracting: [0], rhsContracting: [1]), [4, 3], [5, 4]),
      sample(DotDimensions(lhsBatch: [0], rhsBatch: [0], lhsContracting: [2], rhsContracting: [1]), [2, 3, 4], [2, 4, 3]),
      sample(DotDimensions(lhsBatch: [1], rhsBatch: [2], lhsContracting: [0], rhsContracting: [1]), [4, 2, 3], [3, 4, 2]),
      sample(DotDimensions(lhsContracting: [1, 2], rhsContracting: [0, 1]), [2, 3, 4], [3, 4, 2]),
      sample(DotDimensions(lhsContracting: [2, 0], rhsContracting: [0, 2]), [2, 3, 4], [4, 3, 2]),
      sample(
        DotDimensions(lhsBatch: [0, 1, 2], rhsBatch: [0, 1, 2], lhsContracting: [4], rhsContracting: [3]), [2, 1, 2, 2, 3],
        [2, 1, 2, 3, 2]),
      sample(
        DotDimensions(lhsBatch: [0, 1, 2, 3], rhsBatch: [0, 1, 2, 3], lhsContracting: [5], rhsContracting: [4]),
        [2, 1, 2, 2, 1, 2],
        [2, 1, 2, 2, 2, 1]),
      sample(matrix, [0, 3], [3, 2]),
      sample(matrix, [2, 0], [0, 3]),
      sample(DotDimensions(lhsContracting: [1, 2], rhsContracting: [0, 1]), [2, 0, 3], [0, 3, 2]),
      sample(DotDimensions(lhsBatch: [0], rhsBatch: [0], lhsContracting: [2], rhsContracting: [1]), [0, 2, 3], [0, 3, 2]),
    ]
  }()

  static let quantizedDot: [Sample] = {
    func sample(_ x: Shape, _ n: Int, scale: Shape? = nil, zeroPoint: Shape? = nil, weightScale: Shape = [], bias: Bool = true)
      -> Sample
    {
      let k = x[x.count - 1]
      var inputs = [
        Input(x, seed: 1), Input(scale ?? [], .positive, seed: 2, role: .fixed(.float32)),
        Input(zeroPoint ?? [], .positive, seed: 3, role: .fixed(.int32)), Input([n, k], seed: 4, role: .fixed(.int8)),
        Input(weightScale, .positive, seed: 5, role: .fixed(.float32)),
      ]
      if bias { inputs.append(Input([n], seed: 6, role: .fixed(.float32))) }
      // Three roundings; the product may be up to 90 · 127 · 63 · 16 in size before the bias cancels some of it.
      return Sample(.quantizedDot, inputs, [.int8, .uint8], ulps: 2, magnitude: 64)
    }
    return [
      sample([3, 4], 5), sample([3, 4], 5, scale: [3], zeroPoint: [3], weightScale: [5]),
      sample([7, 90], 37, scale: [7], weightScale: [37], bias: false), sample([2, 3, 17], 4, zeroPoint: [2, 3]),
      sample([5], 3, weightScale: [3]), sample([66, 33], 35, scale: [66], zeroPoint: [66], weightScale: [35]),
      sample([2, 1, 2, 1, 3], 4, scale: [2, 1, 2, 1]), sample([0, 3], 2), sample([2, 0], 3), sample([2, 3], 0),
    ]
  }()

  private static let convolutions: [ConvolutionCase] = [
    ConvolutionCase([2, 3, 7], [4, 3, 3], pad: [1], bias: true),
    ConvolutionCase([1, 2, 9], [2, 2, 3], stride: [2], pad: [1], high: [2], dilation: [2]),
    ConvolutionCase([1, 2, 5, 6], [3, 2, 3, 3], pad: [1, 1], bias: true),
    ConvolutionCase([2, 3, 4, 5], [5, 3, 1, 1]),
    ConvolutionCase([1, 4, 5, 5], [4, 1, 3, 3], pad: [1, 1], groups: 4, bias: true),
    ConvolutionCase([1, 4, 5, 4], [6, 2, 3, 2], stride: [2, 1], pad: [1, 0], groups: 2),
    ConvolutionCase([1, 2, 4, 3], [2, 2, 2, 3], pad: [1, 2], high: [0, 1], inputDilation: [2, 1]),
    ConvolutionCase([1, 1, 6, 7], [2, 1, 2, 3], stride: [3, 2], dilation: [2, 1], bias: true),
    ConvolutionCase([1, 1, 5, 5], [1, 1, 3, 3], pad: [-1, 0], high: [0, -1]),
    ConvolutionCase([1, 2, 3, 4, 3], [2, 2, 2, 2, 2], pad: [1, 0, 1], bias: true),
    ConvolutionCase([1, 2, 3, 4, 3], [2, 1, 2, 3, 2], stride: [1, 2, 1], pad: [0, 1, 1], dilation: [1, 1, 2], groups: 2),
    ConvolutionCase([0, 2, 4, 4], [3, 2, 3, 3]),
    ConvolutionCase([1, 1, 1], [1, 1, 1]),
  ]

  /// Sums of up to 27 products of up to 16.
  private static let convolutionMagnitude = 100.0

  static let convolution: [Sample] = convolutions.map { c in
    var inputs = [Input(c.x, seed: 1), Input(c.w, seed: 2)]
    if c.bias { inputs.append(Input([c.w[0]], seed: 3)) }
    return Sample(
      .convolution(c.parameters), inputs, numbers, gradients: Array(inputs.indices), magnitude: convolutionMagnitude,
      dependsOnLayout: true)
  }

  static let convolutionInputGradient: [Sample] = convolutions.map { c in
    Sample(
      .convolutionInputGradient(c.parameters, inputSize: Shape(c.x[2...])), [Input(c.y, seed: 1), Input(c.w, seed: 2)], numbers,
      gradients: [0, 1], magnitude: convolutionMagnitude, dependsOnLayout: true)
  }

  static let convolutionKernelGradient: [Sample] = convolutions.map { c in
    Sample(
      .convolutionKernelGradient(c.parameters, kernelSize: Shape(c.w[2...])), [Input(c.x, seed: 1), Input(c.y, seed: 2)], numbers,
      gradients: [0, 1], magnitude: 2 * convolutionMagnitude, dependsOnLayout: true)
  }

  private static func window(
    _ size: Shape, stride: Shape? = nil, pad: Shape? = nil, high: Shape? = nil, dilation: Shape? = nil
  ) -> Window {
    let (ones, zeros) = (Shape(repeating: 1, count: size.count), Shape(repeating: 0, count: size.count))
    return Window(
      size: size, stride: stride ?? size, padLow: pad ?? zeros, padHigh: high ?? pad ?? zeros, dilation: dilation ?? ones)
  }

  private static let windows: [(x: Shape, window: Window)] = [
    ([2, 3, 8], window([2])),
    ([1, 2, 9], window([3], stride: [2], pad: [1], high: [2])),
    ([1, 2, 6, 6], window([2, 2])),
    ([2, 3, 5, 7], window([3, 3], stride: [2, 2], pad: [1, 1])),
    ([1, 1, 7, 6], window([2, 3], stride: [1, 2], pad: [1, 0], high: [0, 1], dilation: [2, 1])),
    ([1, 20, 4, 4], window([2, 2], stride: [1, 1])),
    ([1, 2, 4, 3, 4], window([2, 2, 2], stride: [2, 1, 2], pad: [1, 0, 0])),
    ([0, 2, 4, 4], window([2, 2])),
    ([1, 1, 1], window([1])),
  ]

  static func reduceWindow(_ kind: WindowReductionKind) -> [Sample] {
    let types = kind == .max ? numbers : real
    var samples = windows.map { shape, window in
      // Maxima need a margin between the elements of a window for differences: at most 127 elements are distinct.
      Sample(
        .reduceWindow(kind, window), [Input(shape)], types, gradients: kind == .max && shape.elementCount > 127 ? [] : [0],
        magnitude: kind == .max ? 0 : 20, dependsOnLayout: kind != .max)
    }
    if kind == .max {
      samples.append(
        Sample(.reduceWindow(kind, windows[2].window), [Input([1, 2, 6, 6], .special(period: 1))], types).only(real))
      samples.append(Sample(.reduceWindow(kind, windows[3].window), [Input([2, 3, 5, 7], .small)], types))
    }
    return samples
  }

  static func reduceWindowGradient(_ kind: WindowReductionKind) -> [Sample] {
    windows.map { shape, window in
      var y: Shape = [shape[0], shape[1]]
      for i in 0..<window.size.count { y.append(window.outputSize(i, input: shape[2 + i])) }
      let pattern: Pattern = shape.elementCount > 127 ? .small : .signed
      return Sample(
        .reduceWindowGradient(kind, window), [Input(shape, pattern, seed: 1), Input(y, seed: 2)], real, gradients: [1],
        magnitude: 20,
        dependsOnLayout: true)
    }
  }

  static let maxPoolIndices: [Sample] =
    windows.map { shape, window in Sample(.maxPoolIndices(window), [Input(shape, .small)], numbers) }
    + [Sample(.maxPoolIndices(windows[2].window), [Input([1, 2, 6, 6], .special(period: 1))], numbers).only(real)]
}
