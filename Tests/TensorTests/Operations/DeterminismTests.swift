import ApusCPU
import CApusKernels
import Testing

@testable import ApusTensor

/// Calls large enough for every kernel family to share work among threads and to run whole vectors and their remains.
enum LargeSamples {
  private static func real(_ shape: Shape, _ seed: Int = 0, _ type: ElementType = .float32) -> Tensor {
    Input(shape, .nonzero, seed: seed).tensor(type)
  }

  private static let image = ConvolutionParameters(
    stride: [1, 1], padLow: [1, 1], padHigh: [1, 1], kernelDilation: [1, 1], inputDilation: [1, 1])
  private static let depthwise = ConvolutionParameters(
    stride: [2, 1], padLow: [1, 1], padHigh: [1, 1], kernelDilation: [1, 1], inputDilation: [1, 1], groups: 24)
  private static let window = Window(size: [3, 3], stride: [2, 2], padLow: [1, 1], padHigh: [1, 1], dilation: [1, 1])

  /// No default: each operation has a large call, or the reason why it needs none.
  private static func calls(_ family: Family) -> [(Operation, [Tensor])] {
    let rows = real([301, 257])
    switch family {
    case .unary: return [(.unary(.tanh), [real([200_003])]), (.unary(.exp), [real([301, 257], 0, .bfloat16).transposed()])]
    case .binary:
      return [
        (.binary(.add), [real([200_003]), real([200_003], 1)]),
        (.binary(.atan2), [rows, real([1, 257], 3).broadcast(to: [301, 257])]),
        (.binary(.mul), [rows.transposed(), real([257, 301], 5)]),
      ]
    case .compare: return [(.compare(.less), [rows, real([301, 257], 1)])]
    case .select: return [(.select, [rows .> 0, rows, real([301, 257], 1)])]
    case .convert: return [(.convert(.float16), [rows]), (.convert(.int8), [rows.transposed()])]
    case .activationGradient: return [(.activationGradient(.gelu), [rows, real([301, 257], 1)])]
    case .random:
      let state = Tensor([5, 9], shape: [2])
      return [
        (.random(RandomParameters(.normal(mean: 0, standardDeviation: 1), [200_003], .float32)), [state]),
        (.random(RandomParameters(.uniform(low: 0, high: 1), [100_001], .float64)), [state]),
        (
          .random(RandomParameters(.truncatedNormal(mean: 0, standardDeviation: 1, low: -1, high: 2), [50_001], .float32)),
          [state]
        ),
        (.random(RandomParameters(.integers(low: -5, high: 90), [100_001], .int32)), [state]),
        (.random(RandomParameters(.bernoulli(probability: 0.3), [100_001], .bool)), [state]),
        (.random(RandomParameters(.permutation, [50_001], .int64)), [state]),
        (.random(RandomParameters(.bits, [100_001], .int32)), [state]),
      ]
    case .pad: return [(.pad(low: [3, -2], high: [1, 5], interior: [0, 1]), [rows, real([], 2)])]
    case .concatenate: return [(.concatenate(axis: 1), [rows, rows.transposed().contiguous().reshaped(301, 257), rows])]
    case .dynamicUpdateSlice: return [(.dynamicUpdateSlice, [rows, real([200, 200], 2), Tensor([7, 20], shape: [2])])]
    case .triangle: return [(.triangle(upper: true, diagonal: 3), [rows])]
    case .reduce:
      let cube = real([37, 41, 43])
      return [
        (.reduce(.sum, [0], keepDims: false), [real([500_003])]), (.reduce(.sum, [0], keepDims: false), [rows]),
        (.reduce(.sum, [1], keepDims: false), [rows]), (.reduce(.sum, [0, 2], keepDims: false), [cube]),
        (.reduce(.sum, [1], keepDims: false), [cube.transposed(0, 2)]),
        (.reduce(.sum, [0, 1], keepDims: false), [real([301, 257], 0, .float16)]),
        (.reduce(.sum, [0, 1], keepDims: false), [real([301, 257], 0, .float64)]),
        (.reduce(.product, [1], keepDims: false), [real([100_003, 3])]), (.reduce(.max, [0, 1], keepDims: false), [rows]),
        (.reduce(.min, [0], keepDims: false), [rows]), (.reduce(.any, [0], keepDims: false), [rows .> 3]),
        (.reduce(.all, [0, 1], keepDims: false), [rows .> -10]),
      ]
    case .argReduce:
      return [
        (.argReduce(.max, axis: 0, keepDims: false), [real([200_003])]), (.argReduce(.min, axis: 1, keepDims: false), [rows]),
        (.argReduce(.max, axis: 0, keepDims: false), [rows]),
      ]
    case .scan:
      return [
        (.scan(.sum, axis: 0, reverse: false, exclusive: false), [real([200_003])]),
        (.scan(.sum, axis: 1, reverse: true, exclusive: false), [rows]),
        (.scan(.max, axis: 0, reverse: false, exclusive: false), [rows]),
      ]
    case .sort: return [(.sort(axis: 0, descending: false), [real([30_011])]), (.sort(axis: 1, descending: true), [rows])]
    case .topK: return [(.topK(k: 9, axis: 1, largest: true), [rows])]
    case .gather: return [(.gather(axis: 0), [rows, Input.indices([999], .index(301)).tensor(.int64)])]
    case .takeAlong: return [(.takeAlong(axis: 1), [rows, Input.indices([301, 99], .index(257)).tensor(.int64)])]
    case .gatherND: return [(.gatherND, [rows, Input.indices([5000, 2], .index(257)).tensor(.int64)])]
    case .scatter:
      let indices = Input.indices([999], .index(301)).tensor(.int64)
      return [
        (.scatter(.add, axis: 0), [rows, indices, real([999, 257], 1)]),
        (.scatter(.set, axis: 0), [rows, indices, real([999, 257], 1)]),
        (.scatter(.add, axis: 0), [real([11, 7]), Input.indices([20_000], .index(11)).tensor(.int64), real([20_000, 7], 1)]),
        (.scatter(.add, axis: 0), [real([301, 257], 0, .bfloat16), indices, real([999, 257], 1, .bfloat16)]),
      ]
    case .scatterAlong:
      return [
        (.scatterAlong(.add, axis: 1), [rows, Input.indices([301, 999], .index(257)).tensor(.int64), real([301, 999], 1)])
      ]
    case .scatterND:
      return [(.scatterND(.add), [rows, Input.indices([50_000, 2], .index(257)).tensor(.int64), real([50_000], 1)])]
    case .dot:
      let matrix = DotDimensions(lhsContracting: [1], rhsContracting: [0])
      let batched = DotDimensions(lhsBatch: [0], rhsBatch: [0], lhsContracting: [2], rhsContracting: [1])
      return [
        (.dot(matrix), [rows, real([257, 149], 1)]), (.dot(matrix), [rows.transposed(), real([301, 67], 1)]),
        (.dot(matrix), [real([9, 20_011]), real([20_011, 13], 1)]), (.dot(matrix), [real([1, 3001]), real([3001, 501], 1)]),
        (.dot(matrix), [real([301, 257], 0, .float64), real([257, 149], 1, .float64)]),
        (.dot(matrix), [real([301, 257], 0, .bfloat16), real([257, 149], 1, .bfloat16)]),
        (.dot(matrix), [real([301, 257], 0, .int8), real([257, 149], 1, .int8)]),
        (.dot(batched), [real([7, 61, 53]), real([7, 53, 47], 1)]),
      ]
    case .quantizedDot:
      let (n, k) = (233, 2305)
      func call(_ rows: Int, _ type: ElementType) -> (Operation, [Tensor]) {
        let scales = [Input([rows], .positive, seed: 2).tensor(.float32), Input([n], .positive, seed: 5).tensor(.float32)]
        let zeroPoint = Input([rows], .positive, seed: 3).tensor(.int32)
        return (
          .quantizedDot,
          [real([rows, k], 0, type), scales[0], zeroPoint, real([n, k], 4, .int8), scales[1], real([n], 6)]
        )
      }
      return [call(301, .int8), call(301, .uint8), call(3, .int8)]
    case .convolution:
      return [
        (.convolution(image), [real([3, 19, 23, 21]), real([37, 19, 3, 3], 1), real([37], 2)]),
        (.convolution(image), [real([2, 8, 23, 21], 0, .float64), real([9, 8, 3, 3], 1, .float64)]),
        (.convolution(depthwise), [real([3, 24, 33, 31]), real([24, 1, 3, 3], 1)]),
      ]
    case .convolutionInputGradient:
      return [
        (.convolutionInputGradient(image, inputSize: [23, 21]), [real([3, 37, 23, 21]), real([37, 19, 3, 3], 1)]),
        (.convolutionInputGradient(depthwise, inputSize: [33, 31]), [real([3, 24, 17, 31]), real([24, 1, 3, 3], 1)]),
      ]
    case .convolutionKernelGradient:
      return [
        (.convolutionKernelGradient(image, kernelSize: [3, 3]), [real([3, 19, 23, 21]), real([3, 37, 23, 21], 1)]),
        (.convolutionKernelGradient(depthwise, kernelSize: [3, 3]), [real([3, 24, 33, 31]), real([3, 24, 17, 31], 1)]),
      ]
    case .reduceWindow:
      return WindowReductionKind.allCases.flatMap { kind in
        [real([3, 24, 33, 31]), Layout.channelsLast.view(real([3, 24, 33, 31]))].map { (.reduceWindow(kind, window), [$0]) }
      }
    case .reduceWindowGradient:
      return WindowReductionKind.allCases.flatMap { kind in
        [real([3, 24, 33, 31]), Layout.channelsLast.view(real([3, 24, 33, 31]))].map {
          (.reduceWindowGradient(kind, window), [$0, real([3, 24, 17, 16], 1)])
        }
      }
    case .maxPoolIndices: return [(.maxPoolIndices(window), [real([3, 24, 33, 31])])]
    case .composite: return OperationSamples.composites.flatMap(composite)
    // No arithmetic, or nothing to share: views, one value, a line of numbers.
    case .bitcast, .fill, .iota, .broadcast, .reshape, .transpose, .slice, .reverse, .dynamicSlice, .stopGradient, .constant,
      .call, .conditional, .whileLoop, .whileLoopGradient, .scanLoop, .customCall:
      return []
    }
  }

  private static func composite(_ composite: Composite) -> [(Operation, [Tensor])] {
    let (rows, columns) = (203, 151)
    let x = real([rows, columns])
    let (dy, vector) = (real([rows, columns], 1), real([columns], 2))
    let (mean, rstd) = (Input([rows], .unit, seed: 3).tensor(.float32), Input([rows], .positive, seed: 4).tensor(.float32))
    let labels = Input.indices([rows], .distinct(columns)).tensor(.int64)
    let image = real([5, 24, 19, 17])
    let images = [image, Layout.channelsLast.view(image)]
    let c = real([24], 2)
    let (m, v) = (Input([24], .unit, seed: 3).tensor(.float32), Input([24], .positive, seed: 4).tensor(.float32))
    let operation = Operation.composite(composite)
    switch composite {
    case .softmax, .logSoftmax: return [(operation, [x]), (operation, [real([7, 30_011])])]
    case .softmaxGradient, .logSoftmaxGradient: return [(operation, [x * 0.1, dy])]
    case .layerNorm: return [(operation, [x, vector, vector * 2])]
    case .layerNormGradient: return [(operation, [dy, x, vector, mean, rstd])]
    case .rmsNorm: return [(operation, [x, vector])]
    case .rmsNormGradient: return [(operation, [dy, x, vector, rstd])]
    case .batchNorm: return images.map { (operation, [$0, c, c * 2]) }
    case .batchNormGradient: return images.map { (operation, [image * 0.5, $0, c, m, v]) }
    case .batchNormInference: return images.map { (operation, [$0, c, c * 2, m, v]) }
    case .softmaxCrossEntropy: return [(operation, [x, labels])]
    case .softmaxCrossEntropyGradient: return [(operation, [mean, x, labels, rstd + 5])]
    case .linear: return [(operation, [x, real([67, columns], 5), real([67], 6)])]
    case .attention, .attentionGradient: return attention(composite)
    case .rope:
      return [
        (operation, [real([2, 3, 301, 40]), real([301, 12], 1).broadcast(to: [2, 3, 301, 12]), real([2, 3, 301, 12], 2)])
      ]
    case .lstmCell: return [(operation, [real([301, 268]), real([301, 67], 1)])]
    case .lstmCellGradient:
      return [(operation, [real([301, 67]), real([301, 67], 1), real([301, 268], 2), real([301, 67], 3)])]
    case .gruCell: return [(operation, [real([301, 201]), real([301, 201], 1), real([301, 67], 2)])]
    case .gruCellGradient:
      return [(operation, [real([301, 67]), real([301, 201], 1), real([301, 201], 2), real([301, 67], 3)])]
    case .recurrentSequence(let sequence, _):
      let gates = real([5, 33, sequence.gates * 67])
      let weight = real([sequence.gates * 67, 67], 1) * 0.05
      let (state, bias) = (real([33, 67], 2), real([sequence.gates * 67], 3))
      switch sequence.kind {
      case .lstm: return [(operation, [gates, weight, state, real([33, 67], 4)])]
      case .gru: return [(operation, [gates, weight, bias, state])]
      case .tanh, .relu: return [(operation, [gates, weight, state])]
      }
    case .recurrentSequenceGradient(let sequence):
      let weight = real([sequence.gates * 67, 67], 1) * 0.05
      let (dy, state, known) = (real([5, 33, 67]), real([33, 67], 2), Input([5, 33, 67], .unit, seed: 3).tensor(.float32))
      let kept = Input([5, 33, 268], .unit, seed: 4).tensor(.float32)
      switch sequence.kind {
      case .lstm: return [(operation, [dy, state, real([33, 67], 5), weight, known, kept])]
      case .gru: return [(operation, [dy, state, weight, known, kept])]
      case .tanh, .relu: return [(operation, [dy, state, weight, known])]
      }
    case .optimizerStep: return []  // elementwise; whole training steps are compared in the NN room's tests
    }
  }

  /// More queries and keys than one block has, heads that share keys, one query, a mask that is added.
  private static func attention(_ composite: Composite) -> [(Operation, [Tensor])] {
    func small(_ shape: Shape, _ seed: Int, _ type: ElementType = .float32) -> Tensor {
      Input(shape, .unit, seed: seed).tensor(type)
    }
    func operands(_ queries: Int, _ type: ElementType = .float32) -> [Tensor] {
      [small([2, 4, queries, 24], 1, type), small([2, 2, 300, 24], 2, type), small([2, 2, 300, 16], 3, type)]
    }
    let mask = real([1, 1, 301, 300], 4).broadcast(to: [2, 4, 301, 300])
    switch composite {
    case .attentionGradient(let scale, let causal, let forMask):
      let forward = Composite.attention(scale: scale, causal: causal)
      var inputs = [operands(301) + (forMask ? [mask] : [])]
      if !forMask { inputs += [operands(1), operands(301, .bfloat16)] }
      return inputs.map { inputs in
        let results = apply(.composite(forward), inputs)
        let dy = small(results[0].shape, 5, results[0].elementType)
        return (.composite(composite), [dy] + inputs[..<3] + results + inputs[3...])
      }
    default:
      return [operands(301), operands(301) + [mask], operands(1), operands(301, .bfloat16)].map { (.composite(composite), $0) }
    }
  }

  static let all = Family.allCases.flatMap(calls)
}

/// The process's thread count and instruction set are changed here, so each test has a process of its own.
@Suite struct DeterminismTests {
  @Test func anyThreadCountGivesTheSameBits() async {
    await #expect(processExitsWith: .success) {
      apus_set_thread_count(1)
      let expected = try LargeSamples.all.map { try run($0.0, $0.1).map(bits) }
      for threads in [2, 3, 8] {
        apus_set_thread_count(Int32(threads))
        for (call, reference) in zip(LargeSamples.all, expected) {
          #expect(try run(call.0, call.1).map(bits) == reference, "\(descriptor(call.0)) at \(threads) threads")
        }
      }
    }
  }

  @Test func eachInstructionSetGivesTheReferenceValues() async {
    await #expect(processExitsWith: .success) {
      for set in [APUS_ISA_BASELINE, APUS_ISA_AVX2, APUS_ISA_AVX512, APUS_ISA_NEON] {
        guard apus_set_isa(set) else { continue }
        for sample in Family.allCases.flatMap(\.samples) where sample.hasReference {
          for type in sample.types {
            let key = sample.text(TypeGroup(type))
            let expected = try #require(Reference.fixture[key[...]])
            for (i, (result, reference)) in zip(try run(sample.operation, sample.tensors(type)), expected).enumerated() {
              let problem = reference.mismatch(result, ulps: sample.ulps, magnitude: sample.magnitude)
              #expect(problem == nil, "\(key) in \(type), result \(i), \(String(cString: apus_isa_name(set)))")
            }
          }
        }
      }
    }
  }

  /// Large calls: sums in other orders and with or without fused multiply-add, so not the same bits.
  @Test func instructionSetsAgreeOnLargeInputs() async {
    await #expect(processExitsWith: .success) {
      guard apus_set_isa(APUS_ISA_BASELINE) else { return }
      let expected = try LargeSamples.all.map { try run($0.0, $0.1) }
      for set in [APUS_ISA_AVX2, APUS_ISA_AVX512] {
        guard apus_set_isa(set) else { continue }
        for (call, reference) in zip(LargeSamples.all, expected) {
          for (result, other) in zip(try run(call.0, call.1), reference) {
            // Relative to the largest element: terms cancel. 64 units cover sums of thousands of terms.
            let scale = other.elementType.isFloatingPoint ? abs(other.converted(to: .float64)).max().item(as: Double.self) : 0
            let problem = Reference(other).mismatch(result, ulps: 64, magnitude: scale)
            #expect(problem == nil, "\(descriptor(call.0)), \(String(cString: apus_isa_name(set)))")
          }
        }
      }
    }
  }

  @Test func everyOperationWithWorkToShareHasALargeCall() {
    let covered = Set(LargeSamples.all.map { Family($0.0) })
    let without = Set(Family.allCases).subtracting(covered)
    #expect(
      without == [
        .bitcast, .fill, .iota, .broadcast, .reshape, .transpose, .slice, .reverse, .dynamicSlice, .stopGradient, .constant,
        .call,
        .conditional, .whileLoop, .whileLoopGradient, .scanLoop, .customCall,
      ])
  }
}
