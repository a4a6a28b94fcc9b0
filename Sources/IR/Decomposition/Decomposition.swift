// What an operation is in terms of others: the meaning of composites for engines without a kernel for them, for the text
// form, and for second derivatives.

extension Operation {
  /// The same results from simpler operations: a graph of operands of these types; nil for primitives.
  ///
  /// Primitives are what StableHLO has an operation for. Values may differ from a kernel's by rounding.
  /// - Parameter inputs: types that ``infer(_:)`` takes.
  public func decomposition(_ inputs: [TensorType]) -> Graph? {
    let b = DecompositionBuilder(inputs)
    let x = b.inputs
    let results: [Term]
    switch self {
    case .unary(let kind):
      guard let result = kind.decomposed(x[0]) else { return nil }
      results = [result]
    case .binary(let kind):
      guard let result = kind.decomposed(x[0], x[1]) else { return nil }
      results = [result]
    case .bitcast(let type):
      // bool is one byte here and one bit in StableHLO.
      guard x[0].elementType == .bool && type != .bool else { return nil }
      results = [x[0].convert(type)]
    case .activationGradient(let kind): results = [kind.decomposed(x[0], x[1])]
    case .random(let parameters): results = [parameters.decomposed(x[0])]
    case .triangle(let upper, let diagonal):
      let n = x[0].rank
      let plane: Shape = [x[0].shape[n - 2], x[0].shape[n - 1]]
      let (row, column) = (b.iota(plane, axis: 0) + b.fill(diagonal, plane), b.iota(plane, axis: 1))
      results = [b.select(column.compare(upper ? .greaterEqual : .lessEqual, row), x[0], x[0].like(0.0))]
    case .reduce(let kind, let axes, let keepDims):
      guard keepDims else { return nil }
      results = [x[0].reduce(kind, axes, keepDims: true)]
    case .argReduce(let kind, let axis, let keepDims): results = [argReduce(kind, axis, keepDims, x[0])]
    case .scan(let kind, let axis, let reverse, let exclusive): results = [scan(kind, axis, reverse, exclusive, x[0])]
    case .topK(let k, let axis, let largest):
      results = b.apply(.sort(axis: axis, descending: largest), x).map { $0.slice(axis, 0, k) }
    case .gather(let axis): results = [gathered(x[0], x[1], axis)]
    case .takeAlong(let axis):
      results = [b.apply(.gatherND, [x[0], coordinates(x[0], x[1], axis)])[0].reshape(x[1].shape)]
    case .scatter(let kind, let axis): results = [scattered(kind, x, axis)]
    case .scatterAlong(let kind, let axis):
      let updates = x[2].reshape([x[2].shape.elementCount])
      results = [b.apply(.scatterND(kind), [x[0], coordinates(x[0], x[1], axis), updates])[0]]
    case .quantizedDot: results = [quantizedProduct(x)]
    case .convolution(let p):
      guard x.count == 3 else { return nil }
      let y = b.apply(.convolution(p), Array(x[..<2]))[0]
      let channels = Shape([1, x[2].shape[0]] + Array(repeating: 1, count: p.spatialRank))
      results = [y + x[2].reshape(channels)]
    case .convolutionInputGradient(let p, let size): results = [p.inputGradient(x[0], x[1], size)]
    case .convolutionKernelGradient(let p, let size): results = [p.kernelGradient(x[0], x[1], size)]
    case .reduceWindow(let kind, let window):
      switch kind {
      case .max, .sum: return nil
      case .average, .averageValid:
        results = [b.apply(.reduceWindow(.sum, window), x)[0] / window.divisors(kind, x[0])]
      }
    case .reduceWindowGradient(let kind, let window):
      guard let result = window.gradient(kind, x[0], x[1]) else { return nil }
      results = [result]
    case .stopGradient: results = x
    case .whileLoopGradient(let loop, let pullback): results = loop.gradient(pullback, b)
    case .scanLoop(let loop): results = loop.decomposed(b)
    case .composite(let composite): results = composite.decomposed(x)
    case .call(let function): return function.graph
    case .compare, .select, .convert, .fill, .iota, .constant, .broadcast, .reshape, .transpose, .slice, .pad, .concatenate,
      .reverse, .dynamicSlice, .dynamicUpdateSlice, .sort, .gatherND, .scatterND, .dot, .maxPoolIndices, .conditional,
      .whileLoop, .customCall:
      return nil
    }
    return b.finish(results)
  }

  // MARK: Reductions

  private func argReduce(_ kind: ArgReductionKind, _ axis: Int, _ keepDims: Bool, _ x: Term) -> Term {
    let b = x.builder
    let n = x.shape[axis]
    if n == 0 { return b.fill(0, reduced(x.shape, [axis], keepDims: keepDims)) }
    // The first NaN, or the first extreme.
    let value = x.elementType == .bool ? x.convert(.int32) : x
    var hit = value.compare(.equal, value.reduce(kind == .max ? .max : .min, [axis], keepDims: true))
    if x.elementType.isFloatingPoint { hit = hit.binary(.or, x.compare(.notEqual, x)) }
    let position = b.select(hit, b.iota(x.shape, axis: axis), b.fill(n, x.shape))
    return position.reduce(.min, [axis], keepDims: keepDims)
  }

  /// Each element with the one 1, 2, 4 … places before it.
  private func scan(_ kind: ScanKind, _ axis: Int, _ reverse: Bool, _ exclusive: Bool, _ x: Term) -> Term {
    let b = x.builder
    let n = x.shape[axis]
    if x.shape.contains(0) { return x }
    let (low, high) = x.elementType.extremes
    let (operation, start): (BinaryKind, Scalar) =
      switch kind {
      case .sum: (.add, .int(0))
      case .product: (.mul, .int(1))
      case .max: (.max, low)
      case .min: (.min, high)
      }
    let neutral = b.fill(start, [], x.elementType)
    // Half precision is summed in float32, as kernels do.
    let isHalf = x.elementType.isFloatingPoint && x.elementType.byteSize == 2
    func shifted(_ y: Term, _ places: Int) -> Term {
      var (before, after) = (Shape(repeating: 0, count: x.rank), Shape(repeating: 0, count: x.rank))
      if reverse { (before[axis], after[axis]) = (-places, places) } else { (before[axis], after[axis]) = (places, -places) }
      return y.pad(low: before, high: after, neutral.convert(y.elementType))
    }
    var y = isHalf ? x.convert(.float32) : x
    if exclusive { y = shifted(y, 1) }
    var places = 1
    while places < n {
      y = y.binary(operation, shifted(y, places))
      places *= 2
    }
    return y.convert(x.elementType)
  }

  // MARK: Products of 8 bits

  private func quantizedProduct(_ x: [Term]) -> Term {
    func rows(_ part: Term) -> Term { part.rank == 0 ? part : part.expand(part.rank) }
    let values = x[0].convert(.int32) - rows(x[2])
    let n = values.rank - 1
    let sum = values.builder.apply(
      .dot(DotDimensions(lhsContracting: [n], rhsContracting: [1])), [values, x[3].convert(.int32)])[0]
    let y = sum.convert(.float32) * (rows(x[1]) * x[4])
    return x.count > 5 ? y + x[5] : y
  }
}
