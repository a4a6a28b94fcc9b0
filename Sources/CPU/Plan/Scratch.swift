import ApusIR
import CApusKernels

/// The memory that kernels borrow from the buffer cache while they run, in bytes: packed or transformed operands, and sums of parts.
/// Kernels decide by sizes that are theirs; this follows the same rules in outline, small blocks left out.
enum Scratch {
  static func bytes(_ operation: Operation, _ inputs: [CPUArray], _ out: [CPUArray]) -> Int {
    switch operation {
    case .composite(.linear):
      let w = inputs[1].shape
      return product(rows: out[0].elementCount / max(w[0], 1), columns: w[0], depth: w[1], out[0].elementType)
    case .dot(let d):
      let depth = d.lhsContracting.reduce(1) { $0 * inputs[0].shape[$1] }
      let batch = d.lhsBatch.reduce(1) { $0 * inputs[0].shape[$1] }
      let rows = inputs[0].elementCount / max(depth * batch, 1)
      let columns = inputs[1].elementCount / max(depth * batch, 1)
      return product(rows: rows, columns: columns, depth: depth, out[0].elementType)
    case .convolution, .convolutionInputGradient: return convolution(inputs[1], out[0])
    case .convolutionKernelGradient:
      // As many parts of the sums as have room; Winograd's are about as large.
      let weights = bytes(out[0])
      return weights == 0 ? 0 : max(1, min(16, (10 << 20) / weights)) * weights
    case .composite(.attentionGradient):
      // Sums for each part of the keys, and a number for each query.
      let q = inputs[1].shape
      return q.reduce(4, *) + q.prefix(3).reduce(4, *)
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .fill, .iota, .random, .constant,
      .broadcast, .reshape, .transpose, .slice, .pad, .concatenate, .reverse, .dynamicSlice, .dynamicUpdateSlice, .triangle,
      .reduce, .argReduce, .scan, .sort, .topK, .gather, .takeAlong, .gatherND, .scatter, .scatterAlong, .scatterND,
      .quantizedDot, .reduceWindow, .reduceWindowGradient, .maxPoolIndices, .stopGradient, .call, .conditional, .whileLoop,
      .whileLoopGradient, .scanLoop, .customCall, .composite:
      return 0
    }
  }

  private static func bytes(_ x: CPUArray) -> Int { x.elementCount * x.elementType.byteSize }

  /// Both sides packed, at most 2048 of rows, columns and depth at a time, where a product is large.
  private static func product(rows: Int, columns: Int, depth: Int, _ type: ElementType) -> Int {
    guard rows > 16, columns > 16, rows * columns * depth > 1 << 23 else { return 0 }
    let element = type == .float64 ? 8 : 4
    return (min(rows, 2048) + min(columns, 2048)) * min(depth, 2048) * element
  }

  /// The weights packed; transformed, four times as many. Few tiles transform a part of them at a time.
  private static func convolution(_ weights: CPUArray, _ out: CPUArray) -> Int {
    let w = weights.shape
    let isWinograd = weights.elementType == .float32 && w.count == 4 && w[2] == 3 && w[3] == 3 && w[0] >= 32 && w[1] >= 32
    guard isWinograd else { return bytes(weights) }
    let tiles = out.shape[0] * ((out.shape[2] + 3) / 4) * ((out.shape[3] + 3) / 4)
    return tiles <= 24 ? 2 << 20 : 4 * bytes(weights)
  }
}
