import Testing

@testable import ApusIR

/// What each rule refuses, and that the message says why. What it accepts is tested beside the results: OperationTests.
@Suite struct InferTests {
  private func f(_ shape: Shape, _ type: ElementType = .float32) -> TensorType { TensorType(shape, type) }
  private let scalar = TensorType([], .float32)

  private func expectRefused(
    _ operation: Operation, _ inputs: [TensorType], _ part: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    do {
      let types = try operation.infer(inputs)
      Issue.record("\(operation.name) of \(inputs) gave \(types)", sourceLocation: sourceLocation)
    } catch {
      #expect(error.description.hasPrefix("\(operation.name): "), sourceLocation: sourceLocation)
      #expect(error.description.contains(part), "\(error)", sourceLocation: sourceLocation)
    }
  }

  @Test func elementwise() {
    expectRefused(.binary(.add), [f([2, 3]), f([3, 2])], "shapes differ: [2, 3] and [3, 2]")
    expectRefused(.binary(.add), [f([2]), f([2], .int64)], "element types differ: float32 and int64")
    expectRefused(.compare(.less), [f([2]), f([3])], "shapes differ")
    expectRefused(.select, [f([2]), f([2]), f([2])], "the condition must be bool")
    expectRefused(.select, [f([3], .bool), f([2]), f([2])], "shapes differ")
    expectRefused(.bitcast(.int64), [f([2])], "differ in size")
    expectRefused(.bitcast(.bool), [f([2], .uint8)], "arbitrary bits are not bool values")
    expectRefused(.activationGradient(.relu), [f([2]), f([3])], "operands differ")
    expectRefused(.unary(.exp), [f([2], .int32)], "takes floating point tensors, got int32[2]")
    expectRefused(.unary(.exp), [], "takes 1 operand, got 0")
  }

  @Test func creation() {
    expectRefused(.fill([-1], .float32, .int(0)), [], "negative size")
    expectRefused(.fill([1 << 40, 1 << 40], .float32, .int(0)), [], "too many elements")
    expectRefused(.iota([2], .bool, axis: 0), [], "does not make bool")
    expectRefused(.iota([2], .int64, axis: 1), [], "axis 1 does not exist")
    let state = f([2], .int64)
    func random(_ kind: RandomParameters.Kind, _ type: ElementType, _ shape: Shape = [3]) -> Operation {
      .random(RandomParameters(kind, shape, type))
    }
    expectRefused(random(.uniform(low: 0, high: 1), .float32), [f([2])], "the state must be int64[2]")
    expectRefused(random(.uniform(low: 1, high: 0), .float32), [state], "is empty")
    expectRefused(random(.uniform(low: 0, high: 1), .int32), [state], "not int32")
    expectRefused(random(.normal(mean: 0, standardDeviation: -1), .float32), [state], "negative")
    expectRefused(random(.truncatedNormal(mean: 0, standardDeviation: 1, low: 2, high: 1), .float32), [state], "is empty")
    expectRefused(random(.bernoulli(probability: 1.5), .bool), [state], "not within 0 and 1")
    expectRefused(random(.integers(low: 3, high: 3), .int32), [state], "is empty")
    expectRefused(random(.permutation, .int64, [2, 2]), [state], "one dimension")
    expectRefused(random(.bits, .int64), [state], "int32")
  }

  @Test func shaping() {
    expectRefused(.broadcast([4]), [f([3])], "cannot be broadcast to [4]")
    expectRefused(.broadcast([3]), [f([2, 3])], "cannot be broadcast")
    expectRefused(.reshape([5]), [f([2, 3])], "has 6 elements; shape [5] needs 5")
    expectRefused(.reshape([-1, 3]), [f([2, 3])], "negative")
    expectRefused(.transpose([0, 0]), [f([2, 3])], "named twice")
    expectRefused(.transpose([0]), [f([2, 3])], "does not fit")
    expectRefused(.slice(start: [2], size: [2], step: [1]), [f([3])], "do not fit dimension 0")
    expectRefused(.slice(start: [0], size: [2], step: [0]), [f([3])], "not positive")
    expectRefused(.slice(start: [-1], size: [1], step: [1]), [f([3])], "do not fit")
    expectRefused(.slice(start: [4], size: [0], step: [1]), [f([3])], "do not fit")
    expectRefused(.pad(low: [-2], high: [-2], interior: [0]), [f([3]), scalar], "leaves nothing")
    expectRefused(.pad(low: [0], high: [0], interior: [-1]), [f([3]), scalar], "negative")
    expectRefused(.pad(low: [0], high: [0], interior: [0]), [f([3]), f([1])], "must be a scalar")
    expectRefused(.concatenate(axis: 0), [f([2, 3]), f([2, 4])], "differ in more than axis 0")
    expectRefused(.concatenate(axis: 0), [f([2, 3]), f([2])], "different numbers of dimensions")
    expectRefused(.concatenate(axis: 2), [f([2, 3])], "axis 2 does not exist")
    expectRefused(.reverse([1]), [f([3])], "axis 1 does not exist")
    expectRefused(.dynamicSlice(size: [4]), [f([3]), f([1], .int64)], "does not fit")
    expectRefused(.dynamicSlice(size: [2]), [f([3]), f([2], .int64)], "start must be int64[1]")
    expectRefused(.dynamicUpdateSlice, [f([3]), f([4]), f([1], .int64)], "does not fit")
    expectRefused(.triangle(upper: true, diagonal: 0), [f([3])], "at least two dimensions")
  }

  @Test func reductions() {
    expectRefused(.reduce(.sum, [1], keepDims: false), [f([3])], "axis 1 does not exist in a tensor of shape [3]")
    expectRefused(.reduce(.sum, [0, 0], keepDims: false), [f([3])], "named twice")
    expectRefused(.reduce(.max, [0], keepDims: false), [f([0, 3])], "is empty and has no max")
    expectRefused(.reduce(.all, [0], keepDims: false), [f([3])], "takes bool tensors")
    expectRefused(.argReduce(.max, axis: 0, keepDims: false), [f([0])], "is empty")
    expectRefused(.argReduce(.max, axis: 0, keepDims: false), [scalar], "axis 0 does not exist")
    expectRefused(.scan(.sum, axis: 1, reverse: false, exclusive: false), [f([3])], "axis 1 does not exist")
    expectRefused(.sort(axis: 0, descending: false), [scalar], "axis 0 does not exist")
    expectRefused(.topK(k: 4, axis: 0, largest: true), [f([3])], "k = 4")
    expectRefused(.topK(k: -1, axis: 0, largest: true), [f([3])], "k = -1")
  }

  @Test func indexing() {
    let indices = f([2], .int64)
    expectRefused(.gather(axis: 0), [f([3]), f([2], .int32)], "indices must be int64, got int32")
    expectRefused(.gather(axis: 1), [f([3]), indices], "axis 1 does not exist")
    expectRefused(.gather(axis: 0), [f([2, 1, 1, 1, 1]), f([1, 1, 1, 1, 1], .int64)], "9 dimensions; at most 8")
    expectRefused(.takeAlong(axis: 0), [f([3, 2]), indices], "as many dimensions")
    expectRefused(.takeAlong(axis: 0), [f([3, 2]), f([3, 3], .int64)], "reach beyond")
    expectRefused(.gatherND, [f([3]), f([2, 2], .int64)], "2 coordinates do not fit")
    expectRefused(.gatherND, [f([3]), f([], .int64)], "last dimension")
    expectRefused(.scatter(.add, axis: 0), [f([3, 2]), indices, f([2])], "updates have shape [2], expected [2, 2]")
    expectRefused(.scatter(.add, axis: 0), [f([3]), indices, f([2], .float64)], "updates are float64")
    expectRefused(.scatter(.add, axis: 0), [f([3], .bool), indices, f([2], .bool)], "not changed by add")
    expectRefused(.scatterAlong(.set, axis: 0), [f([3]), indices, f([3])], "updates have shape [3], the indices [2]")
    expectRefused(.scatterND(.set), [f([3]), f([2, 1], .int64), f([3])], "expected [2]")
  }

  @Test func contractions() {
    let matrix = DotDimensions(lhsContracting: [1], rhsContracting: [0])
    expectRefused(.dot(matrix), [f([32, 784]), f([512, 10])], "inner dimensions differ: [32, 784] × [512, 10]")
    expectRefused(.dot(matrix), [f([2, 3], .bool), f([3, 2], .bool)], "bool")
    expectRefused(
      .dot(DotDimensions(lhsBatch: [0], rhsBatch: [0], lhsContracting: [1], rhsContracting: [1])), [f([2, 3]), f([4, 3])], "batch"
    )
    expectRefused(
      .dot(DotDimensions(lhsBatch: [0], rhsBatch: [0], lhsContracting: [0], rhsContracting: [1])), [f([2, 3]), f([2, 2])], "twice"
    )
    expectRefused(.dot(DotDimensions(lhsContracting: [1], rhsContracting: [])), [f([2, 3]), f([3])], "different numbers")
    let five = DotDimensions(lhsContracting: [], rhsContracting: [])
    expectRefused(.dot(five), [f([1, 1, 1, 1, 1]), f([1, 1, 1, 1])], "more than 8 dimensions")
  }

  @Test func quantizedProducts() throws {
    func operands(
      _ x: TensorType, _ scale: TensorType? = nil, _ zeroPoint: TensorType? = nil, _ weight: TensorType? = nil,
      _ weightScale: TensorType? = nil, bias: TensorType? = nil
    ) -> [TensorType] {
      [x, scale ?? scalar, zeroPoint ?? f([], .int32), weight ?? f([5, 4], .int8), weightScale ?? scalar]
        + (bias.map { [$0] } ?? [])
    }
    let x = f([2, 3, 4], .int8)
    #expect(try Operation.quantizedDot.infer(operands(x)) == [f([2, 3, 5])])
    let full = operands(f([2, 3, 4], .uint8), f([2, 3]), f([2, 3], .int32), nil, f([5]), bias: f([5]))
    #expect(try Operation.quantizedDot.infer(full) == [f([2, 3, 5])])
    let limit = Operation.quantizedDotLimit
    #expect(limit * 255 * 128 <= Int32.max && (limit + 1) * 255 * 128 > Int32.max)
    expectRefused(.quantizedDot, [x], "takes x, its scale and zero point, a weight, its scale and perhaps a bias, got 1 operand")
    expectRefused(.quantizedDot, operands(f([3, 4])), "takes an int8 or uint8 input, got float32")
    expectRefused(.quantizedDot, operands(f([], .int8)), "at least one dimension")
    expectRefused(.quantizedDot, operands(x, nil, nil, f([5, 4], .uint8)), "takes an int8 weight, got uint8")
    expectRefused(.quantizedDot, operands(x, nil, nil, f([5, 4, 1], .int8)), "two dimensions [out, in], got [5, 4, 1]")
    expectRefused(.quantizedDot, operands(x, nil, nil, f([5, 3], .int8)), "has 4 features; a weight of shape [5, 3] takes 3")
    expectRefused(
      .quantizedDot, operands(f([1, limit + 1], .int8), nil, nil, f([5, limit + 1], .int8)),
      "may not fit in int32; at most 65793 do")
    expectRefused(.quantizedDot, operands(x, f([2])), "the input's scale must be float32, a scalar or [2, 3]")
    expectRefused(.quantizedDot, operands(x, f([], .float64)), "the input's scale must be float32")
    expectRefused(.quantizedDot, operands(x, nil, f([], .int8)), "the input's zero point must be int32, a scalar or [2, 3]")
    expectRefused(.quantizedDot, operands(x, nil, nil, nil, f([4])), "the weight's scale must be float32, a scalar or [5]")
    expectRefused(.quantizedDot, operands(x, bias: f([4])), "the bias must be float32[5], got float32[4]")
  }

  private func image(_ groups: Int = 1, stride: Int = 1, dilation: Int = 1) -> ConvolutionParameters {
    ConvolutionParameters(
      stride: [stride, stride], padLow: [0, 0], padHigh: [0, 0], kernelDilation: [dilation, dilation], inputDilation: [1, 1],
      groups: groups)
  }

  @Test func convolutions() {
    let x = f([1, 4, 5, 5])
    expectRefused(
      .convolution(image()), [x, f([8, 3, 3, 3])], "has 4 channels; a kernel of shape [8, 3, 3, 3] with 1 group takes 3")
    expectRefused(.convolution(image(2)), [x, f([7, 2, 3, 3])], "not divisible by 2 groups")
    expectRefused(.convolution(image()), [x, f([8, 4, 6, 3])], "does not fit the padded input")
    expectRefused(.convolution(image(dilation: 3)), [x, f([8, 4, 3, 3])], "does not fit")
    expectRefused(.convolution(image(stride: 0)), [x, f([8, 4, 3, 3])], "stride")
    expectRefused(.convolution(image(0)), [x, f([8, 4, 3, 3])], "groups")
    expectRefused(.convolution(image()), [f([4, 5, 5]), f([8, 4, 3, 3])], "takes tensors of 4 dimensions")
    expectRefused(.convolution(image()), [x, f([8, 4, 0, 3])], "is empty")
    expectRefused(.convolution(image()), [x, f([8, 4, 3, 3]), f([7])], "the bias has shape [7], expected [8]")
    expectRefused(
      .convolutionInputGradient(image(), inputSize: [6, 5]), [f([1, 8, 3, 3]), f([8, 4, 3, 3])], "not what an input")
    expectRefused(.convolutionKernelGradient(image(), kernelSize: [2, 3]), [x, f([1, 8, 3, 3])], "not what an input")
    expectRefused(.convolutionKernelGradient(image(), kernelSize: [3, 3]), [x, f([2, 8, 3, 3])], "batch sizes differ")
  }

  @Test func pooling() {
    func window(_ size: Int, stride: Int = 2, pad: Int = 0) -> Window {
      Window(size: [size, size], stride: [stride, stride], padLow: [pad, pad], padHigh: [pad, pad], dilation: [1, 1])
    }
    expectRefused(.reduceWindow(.max, window(6)), [f([1, 1, 5, 5])], "does not fit the padded input")
    expectRefused(.reduceWindow(.max, window(2, pad: 2)), [f([1, 1, 5, 5])], "would see only padding")
    expectRefused(.reduceWindow(.max, window(2, stride: 0)), [f([1, 1, 5, 5])], "must be positive")
    expectRefused(.reduceWindow(.average, window(2)), [f([1, 1, 4, 4], .int32)], "takes floating point")
    expectRefused(.reduceWindow(.max, window(2)), [f([4, 4])], "takes tensors of 4 dimensions")
    expectRefused(.reduceWindowGradient(.max, window(2)), [f([1, 1, 4, 4]), f([1, 1, 3, 2])], "dy has shape")
  }

  @Test func composites() {
    expectRefused(.composite(.softmax), [scalar], "at least one dimension")
    expectRefused(.composite(.softmax), [f([2], .int32)], "floating point")
    expectRefused(
      .composite(.layerNorm(epsilon: 1e-5)), [f([2, 3]), f([2]), f([3])], "the weight is float32[2], expected float32[3]")
    expectRefused(
      .composite(.batchNorm(epsilon: 1e-5)), [f([2, 3, 4]), f([3]), f([4])], "the bias is float32[4], expected float32[3]")
    expectRefused(.composite(.batchNorm(epsilon: 1e-5)), [f([3]), f([3]), f([3])], "[batch, channels, …]")
    expectRefused(
      .composite(.softmaxCrossEntropy(ignoreIndex: -1, labelSmoothing: 0)), [f([2, 3]), f([2])], "labels must be int64")
    expectRefused(
      .composite(.softmaxCrossEntropy(ignoreIndex: -1, labelSmoothing: 0)), [f([2, 3]), f([3], .int64)],
      "labels have shape [3], expected [2]")
    expectRefused(.composite(.linear), [f([2, 3]), f([5, 4]), f([5])], "has 3 features; a weight of shape [5, 4] takes 4")
  }
}
