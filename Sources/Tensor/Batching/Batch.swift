/// What stands for one value of every example: a tensor that counts examples along its first dimension, or one that all share.
struct Batched {
  var tensor: Tensor
  var isBatched: Bool

  init(_ tensor: Tensor, _ isBatched: Bool) {
    self.tensor = tensor
    self.isBatched = isBatched
  }

  /// The dimensions of one example's value.
  var rank: Int { tensor.rank - (isBatched ? 1 : 0) }
  var shape: Shape { isBatched ? Shape(tensor.shape.dropFirst()) : tensor.shape }
}

/// The rules of batching: for each operation, what does the same for a batch of examples.
struct Batch {
  let size: Int

  /// All examples' values, also where they are one.
  func whole(_ x: Batched) -> Tensor { x.isBatched ? x.tensor : x.tensor.broadcast(to: prefixed(x.shape)) }

  func prefixed(_ shape: Shape) -> Shape {
    guard shape.count < Shape.maxRank else {
      stop("vmap: a value of shape \(shape) has no dimension left to count examples; at most \(Shape.maxRank) are possible")
    }
    return Shape([size] + Array(shape))
  }

  /// Axes of one example in the batch.
  func moved(_ axes: Axes) -> Axes { Axes(axes.map { $0 + 1 }) }

  /// The operation for the batch. Where any operand differs between examples, all results do.
  func apply(_ operation: Operation, _ x: [Batched]) -> [Batched] {
    if !x.contains(where: \.isBatched) { return ApusTensor.apply(operation, x.map(\.tensor)).map { Batched($0, false) } }
    return results(operation, x).map { Batched($0, true) }
  }

  private func results(_ operation: Operation, _ x: [Batched]) -> [Tensor] {
    func run(_ operation: Operation, _ operands: [Tensor]) -> [Tensor] { ApusTensor.apply(operation, operands) }
    /// The same operation, on all examples' operands.
    func same() -> [Tensor] { run(operation, x.map(whole)) }
    switch operation {
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .stopGradient, .triangle: return same()
    case .fill, .iota, .constant: preconditionFailure("\(operation.name) has no operands")
    case .random: missing(operation, "draw outside and hand the numbers in")
    case .broadcast(let shape):
      let own = x[0].shape
      let ones = Array(repeating: 1, count: shape.count - own.count)
      return run(.broadcast(prefixed(shape)), [x[0].tensor.reshaped([size] + ones + Array(own))])
    case .reshape(let shape): return run(.reshape(prefixed(shape)), [x[0].tensor])
    case .transpose(let permutation): return run(.transpose(Axes([0] + permutation.map { $0 + 1 })), [x[0].tensor])
    case .slice(let start, let count, let step):
      return run(
        .slice(start: Shape([0] + Array(start)), size: prefixed(count), step: Shape([1] + Array(step))), [x[0].tensor])
    case .pad(let low, let high, let interior): return [padded(x, low, high, interior)]
    case .concatenate(let axis): return run(.concatenate(axis: axis + 1), x.map(whole))
    case .reverse(let axes): return run(.reverse(moved(axes)), [x[0].tensor])
    case .dynamicSlice(let size): return [dynamicSlice(x, size)]
    case .dynamicUpdateSlice: return [dynamicUpdateSlice(x)]
    case .reduce(let kind, let axes, let keepDims): return run(.reduce(kind, moved(axes), keepDims: keepDims), [x[0].tensor])
    case .argReduce(let kind, let axis, let keepDims):
      return run(.argReduce(kind, axis: axis + 1, keepDims: keepDims), [x[0].tensor])
    case .scan(let kind, let axis, let reverse, let exclusive):
      return run(.scan(kind, axis: axis + 1, reverse: reverse, exclusive: exclusive), [x[0].tensor])
    case .sort(let axis, let descending): return run(.sort(axis: axis + 1, descending: descending), [x[0].tensor])
    case .topK(let k, let axis, let largest): return run(.topK(k: k, axis: axis + 1, largest: largest), [x[0].tensor])
    case .gather(let axis): return [gather(x, axis)]
    case .takeAlong(let axis): return run(.takeAlong(axis: axis + 1), x.map(whole))
    case .gatherND: return [gatherND(x)]
    case .scatter(let kind, let axis): return [scatter(x, kind, axis)]
    case .scatterAlong(let kind, let axis): return run(.scatterAlong(kind, axis: axis + 1), x.map(whole))
    case .scatterND(let kind):
      let all = x.map(whole)
      return run(.scatterND(kind), [all[0], numbered(all[1]), all[2]])
    case .dot(let dimensions): return [dot(x, dimensions)]
    case .quantizedDot: return [quantizedDot(x)]
    case .convolution(let p): return [convolution(x, p)]
    case .convolutionInputGradient(let p, _):
      return [x[1].isBatched ? channelwise(operation, x, p, [1], [0]) : folded(operation, x, [0])[0]]
    case .convolutionKernelGradient(let p, _): return [channelwise(operation, x, p, [1, 1], [], resultChannels: 0)]
    case .reduceWindow, .maxPoolIndices: return folded(operation, x, [0])
    case .reduceWindowGradient: return folded(operation, x, [0, 1])
    case .call(let function): return function.graph.batched(x, self).map(whole)
    case .conditional(let then, let otherwise): return conditional(x, then, otherwise)
    case .whileLoop(let loop): return whileLoop(x, loop)
    case .whileLoopGradient: missing(operation, "take the gradient of vmap instead of vmap of the gradient, or use scan")
    case .scanLoop(let loop): return scan(x, loop)
    case .customCall: missing(operation, "call it outside of vmap, with an input that holds all examples")
    case .composite(let composite): return results(composite, x)
    }
  }

  func missing(_ operation: Operation, _ advice: String) -> Never {
    stop("vmap: \(operation.name) has no rule for a batch of examples; \(advice)")
  }

  // MARK: The batch inside of another dimension

  /// With the batch as part of the first dimension, for operations that have rows or examples of their own there.
  func folded(_ operation: Operation, _ x: [Batched], _ places: [Int]) -> [Tensor] {
    var rows = 0
    let operands = x.enumerated().map { i, operand -> Tensor in
      guard places.contains(i) else { return operand.tensor }
      rows = operand.shape[0]
      let shape = operand.shape
      return whole(operand).reshaped([size * rows] + Array(shape[1...]))
    }
    return ApusTensor.apply(operation, operands).map { $0.reshaped([size, rows] + Array($0.shape[1...])) }
  }

  /// [batch, n, c, …] to [n, batch · c, …], the batch before the dimension of channels.
  func channels(_ x: Batched, _ axis: Int) -> Tensor {
    let shape = x.shape
    let front = whole(x).movedAxis(0, to: axis)
    return front.reshaped(Array(shape[..<axis]) + [size * shape[axis]] + Array(shape[(axis + 1)...]))
  }

  func fromChannels(_ y: Tensor, _ axis: Int) -> Tensor {
    let split = y.reshaped(Array(y.shape[..<axis]) + [size, y.shape[axis] / size] + Array(y.shape[(axis + 1)...]))
    return split.movedAxis(axis, to: 0)
  }

  /// A convolution with a kernel for each example: as many times the groups.
  func channelwise(
    _ operation: Operation, _ x: [Batched], _ p: ConvolutionParameters, _ data: [Int], _ kernels: [Int], resultChannels: Int = 1
  ) -> Tensor {
    var p = p
    p.groups *= size
    let operands = x.enumerated().map { i, operand in channels(operand, i < data.count ? data[i] : kernels[i - data.count]) }
    let grouped: Operation =
      switch operation {
      case .convolutionInputGradient(_, let inputSize): .convolutionInputGradient(p, inputSize: inputSize)
      case .convolutionKernelGradient(_, let kernelSize): .convolutionKernelGradient(p, kernelSize: kernelSize)
      default: .convolution(p)
      }
    return fromChannels(ApusTensor.apply(grouped, operands)[0], resultChannels)
  }

  private func convolution(_ x: [Batched], _ p: ConvolutionParameters) -> Tensor {
    let operation = Operation.convolution(p)
    if x.count > 2 && x[2].isBatched {
      // A bias for each example is added after.
      let y = apply(operation, [x[0], x[1]])[0]
      let bias = x[2].tensor.reshaped([size, 1, x[2].shape[0]] + Array(repeating: 1, count: p.spatialRank))
      return whole(y) + bias
    }
    if !x[1].isBatched { return folded(operation, x, [0])[0] }
    return channelwise(operation, x, p, [1], [0, 0])
  }

  private func dot(_ x: [Batched], _ d: DotDimensions) -> Tensor {
    let (a, b) = (x[0], x[1])
    var d = d
    let batch = d.lhsBatch.count
    let free = d.lhsFree(rank: a.rank).count
    if a.isBatched {
      d.lhsBatch = moved(d.lhsBatch)
      d.lhsContracting = moved(d.lhsContracting)
    }
    if b.isBatched {
      d.rhsBatch = moved(d.rhsBatch)
      d.rhsContracting = moved(d.rhsContracting)
    }
    if a.isBatched && b.isBatched {
      d.lhsBatch.insert(0, at: 0)
      d.rhsBatch.insert(0, at: 0)
      return ApusTensor.apply(.dot(d), a.tensor, b.tensor)
    }
    // The batch is the first free dimension of its side.
    let y = ApusTensor.apply(.dot(d), a.tensor, b.tensor)
    return y.movedAxis(a.isBatched ? batch : batch + free, to: 0)
  }

  private func quantizedDot(_ x: [Batched]) -> Tensor {
    for operand in x[3...] where operand.isBatched { missing(.quantizedDot, "only its input may differ between examples") }
    let rows = Shape(x[0].shape.dropLast())
    var operands = [whole(x[0])] + x[1...].map(\.tensor)
    for i in 1...2 where x[i].isBatched || x[i].rank > 0 {
      // A scalar of each example becomes a number of each row.
      let ones = Array(repeating: 1, count: rows.count - x[i].rank)
      let aligned = x[i].isBatched ? x[i].tensor.reshaped([size] + Array(x[i].shape) + ones) : x[i].tensor
      operands[i] = aligned.broadcast(to: prefixed(rows))
    }
    return ApusTensor.apply(.quantizedDot, operands)[0]
  }
}

extension Graph {
  /// The graph on a batch of examples, operation by operation.
  func batched(_ inputs: [Batched], _ batch: Batch) -> [Batched] {
    var values: [Batched?] = inputs
    values += [Batched?](repeating: nil, count: valueCount - inputCount)
    let last = lastUses
    for (i, node) in nodes.enumerated() {
      let operands = node.inputs.map { values[$0].unsafelyUnwrapped }
      for value in node.inputs where last[value] == i { values[value] = nil }
      for (value, result) in zip(node.results, batch.apply(node.operation, operands)) where last[value] > i {
        values[value] = result
      }
    }
    return outputs.map { values[$0].unsafelyUnwrapped }
  }

  /// Which outputs differ between examples where these inputs do.
  func batchedOutputs(_ inputs: [Bool]) -> [Bool] {
    var values = inputs + [Bool](repeating: false, count: valueCount - inputCount)
    for node in nodes where node.inputs.contains(where: { values[$0] }) { for value in node.results { values[value] = true } }
    return outputs.map { values[$0] }
  }
}
