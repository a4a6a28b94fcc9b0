import ApusIR
import CApusKernels

/// How the results of operations lie in memory, decided from how the operands do: used when an operation runs by itself and
/// when a plan is made. Arrays without storage stand for layouts.
extension CPUArray {
  /// A layout for dense memory, its dimensions in the order of a dense array.
  init(abstractLike other: CPUArray, _ elementType: ElementType) {
    self.init(layout: other.shape, strides: other.strides, elementType)
  }

  init(layout shape: Shape, strides: Shape, _ elementType: ElementType) {
    self.init(view: CPUArray(abstract: TensorType(shape, elementType)), shape: shape, strides: strides)
  }

  /// The layout of image batches [N, C, …] that all convolution passes like best.
  init(abstractChannelsLast type: TensorType) {
    let n = type.shape.count
    var strides = type.shape
    var step = 1
    for i in [1] + Array((2..<n).reversed()) + [0] {
      strides[i] = step
      step *= Swift.max(type.shape[i], 1)
    }
    self.init(layout: type.shape, strides: strides, type.elementType)
  }

  /// New memory of this layout, which is dense.
  func allocated() -> CPUArray {
    CPUArray(dense: shape, strides: strides, elementType, isRowMajor: isRowMajor)
  }

  /// This layout in memory that somebody else owns.
  func placed(in storage: Storage, byteOffset: Int) -> CPUArray {
    var copy = self
    copy.storageReference = storage
    return CPUArray(view: copy, byteOffset: byteOffset, shape: shape, strides: strides)
  }
}

extension CPU {
  /// A result that is the operand's memory read in another way; nil for operations that compute. The operand may be a layout.
  static func view(_ operation: Operation, _ inputs: [CPUArray], _ type: TensorType) -> CPUArray? {
    switch operation {
    case .bitcast(let type): CPUArray(view: inputs[0], shape: inputs[0].shape, strides: inputs[0].strides, elementType: type)
    case .broadcast(let shape): broadcast(inputs[0], shape)
    case .reshape(let shape):
      if inputs[0].isRowMajor {
        CPUArray(rowMajorView: inputs[0], shape: shape)
      } else if let strides = stridesAfterReshape(inputs[0], shape) {
        CPUArray(view: inputs[0], shape: shape, strides: strides)
      } else {
        nil
      }
    case .transpose(let permutation): transpose(inputs[0], permutation)
    case .slice(let start, _, let step): slice(inputs[0], start, type.shape, step)
    case .reverse(let axes): reverse(inputs[0], axes)
    case .stopGradient: inputs[0]
    case .convert(let target): target == inputs[0].elementType ? inputs[0] : nil
    case .unary, .binary, .compare, .select, .activationGradient, .fill, .iota, .random, .constant, .pad, .concatenate,
      .dynamicSlice, .dynamicUpdateSlice, .triangle, .reduce, .argReduce, .scan, .sort, .topK, .gather, .takeAlong, .gatherND,
      .scatter, .scatterAlong, .scatterND, .dot, .quantizedDot, .convolution, .convolutionInputGradient,
      .convolutionKernelGradient, .reduceWindow, .reduceWindowGradient, .maxPoolIndices, .call, .conditional, .whileLoop,
      .whileLoopGradient, .scanLoop, .customCall, .composite:
      nil
    }
  }

  /// The layouts of the results of an operation that computes. All are dense.
  static func layouts(_ operation: Operation, _ inputs: [CPUArray], _ types: [TensorType]) -> [CPUArray] {
    func like(_ x: CPUArray, _ i: Int = 0) -> CPUArray {
      x.isDense ? CPUArray(abstractLike: x, types[i].elementType) : CPUArray(abstract: types[i])
    }
    switch operation {
    case .unary, .convert: return [like(inputs[0])]
    case .binary, .compare, .activationGradient: return [like(inputs[0].isDense ? inputs[0] : inputs[1])]
    case .select: return [like(inputs[1].isDense ? inputs[1] : inputs[2])]
    case .convolution, .convolutionInputGradient: return [CPUArray(abstractChannelsLast: types[0])]
    case .reduceWindow:
      return [isChannelsLast(inputs[0]) ? CPUArray(abstractChannelsLast: types[0]) : CPUArray(abstract: types[0])]
    case .reduceWindowGradient:
      // x may be one repeated zero, which stands for its shape.
      if inputs[0].isDense { return [like(inputs[0])] }
      return [isChannelsLast(inputs[1]) ? CPUArray(abstractChannelsLast: types[0]) : CPUArray(abstract: types[0])]
    case .concatenate:
      // Images stay channels-last.
      let images = inputs[0].shape.count >= 3 && !inputs[0].isRowMajor && inputs.allSatisfy { isInChannelsLastOrder($0) }
      return [images ? CPUArray(abstractChannelsLast: types[0]) : CPUArray(abstract: types[0])]
    case .composite(let composite):
      switch composite {
      case .batchNorm, .batchNormInference:
        return [like(channelLayout(inputs[0]))] + types.dropFirst().map { CPUArray(abstract: $0) }
      case .batchNormGradient: return [like(channelLayout(inputs[1]))] + types.dropFirst().map { CPUArray(abstract: $0) }
      case .attention: return [rowsInOrder(of: inputs[0], types[0]), CPUArray(abstract: types[1])]
      case .attentionGradient:
        return (0..<3).map { rowsInOrder(of: inputs[$0 + 1], types[$0]) } + types.dropFirst(3).map { CPUArray(abstract: $0) }
      case .rope: return [rowsInOrder(of: inputs[0], types[0])]
      case .softmax, .logSoftmax, .softmaxGradient, .logSoftmaxGradient, .layerNorm, .layerNormGradient, .rmsNorm,
        .rmsNormGradient, .softmaxCrossEntropy, .softmaxCrossEntropyGradient, .linear, .lstmCell, .lstmCellGradient, .gruCell,
        .gruCellGradient, .recurrentSequence, .recurrentSequenceGradient, .optimizerStep:
        return types.map { CPUArray(abstract: $0) }
      }
    case .bitcast, .fill, .iota, .random, .constant, .broadcast, .reshape, .transpose, .slice, .pad, .reverse, .dynamicSlice,
      .dynamicUpdateSlice, .triangle, .reduce, .argReduce, .scan, .sort, .topK, .gather, .takeAlong, .gatherND, .scatter,
      .scatterAlong, .scatterND, .dot, .quantizedDot, .convolutionKernelGradient, .maxPoolIndices, .stopGradient, .call,
      .conditional, .whileLoop, .whileLoopGradient, .scanLoop, .customCall:
      return types.map { CPUArray(abstract: $0) }
    }
  }

  /// Whether the kernel reads operand `i` only in row-major order; else it is copied first.
  static func needsRowMajor(_ operation: Operation, _ i: Int) -> Bool {
    switch operation {
    case .random, .maxPoolIndices: true
    case .dynamicSlice: i == 1
    case .dynamicUpdateSlice: i == 2
    case .gather: true
    case .scatter: i > 0
    case .scatterND: i == 2
    case .quantizedDot: i == 1 || i == 2
    case .convolution: i == 2
    case .composite(let composite):
      switch composite {
      case .softmax, .logSoftmax, .softmaxGradient, .logSoftmaxGradient, .layerNorm, .layerNormGradient, .rmsNorm,
        .rmsNormGradient, .softmaxCrossEntropy, .lstmCell, .lstmCellGradient, .gruCell, .gruCellGradient, .optimizerStep:
        true
      case .softmaxCrossEntropyGradient: i > 0
      case .batchNorm, .batchNormInference: i > 0
      case .batchNormGradient: i > 1
      case .attentionGradient: i == 5
      case .recurrentSequence: i != 1
      case .recurrentSequenceGradient(let sequence): i > 0 && i != sequence.gradientWeight
      case .linear, .attention, .rope: false
      }
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .fill, .iota, .constant, .broadcast,
      .reshape, .transpose, .slice, .pad, .concatenate, .reverse, .triangle, .reduce, .argReduce, .scan, .sort, .topK, .takeAlong,
      .gatherND, .scatterAlong, .dot, .convolutionInputGradient, .convolutionKernelGradient, .reduceWindow, .reduceWindowGradient,
      .stopGradient, .call, .conditional, .whileLoop, .whileLoopGradient, .scanLoop, .customCall:
      false
    }
  }

  /// A layout for `type`, its dimensions in the order that `other`, of equal rank, has in memory; the last one innermost.
  /// So a view of rows as [batch, positions, heads, dim] is one again once heads and positions are swapped back.
  private static func rowsInOrder(of other: CPUArray, _ type: TensorType) -> CPUArray {
    let shape = type.shape
    let last = shape.count - 1
    let order = (0..<last).sorted {
      abs(other.strides[$0]) != abs(other.strides[$1]) ? abs(other.strides[$0]) > abs(other.strides[$1]) : $0 < $1
    }
    if other.isRowMajor || order.elementsEqual(0..<last) { return CPUArray(abstract: type) }
    var strides = shape
    var step = shape[last]
    strides[last] = 1
    for i in order.reversed() {
      strides[i] = step
      step *= shape[i]
    }
    return CPUArray(layout: shape, strides: strides, type.elementType)
  }
}
