import ApusCPU

extension Operation {
  func propagateShaping(_ dy: Tensor, _ sink: GradientSink) {
    switch self {
    case .broadcast: sink.add(0, dy.summed(to: sink.shape(0)))
    case .reshape: sink.add(0, dy.reshaped(sink.shape(0)))
    case .transpose(let permutation):
      var inverse = permutation
      for i in 0..<permutation.count { inverse[permutation[i]] = i }
      sink.add(0, apply(.transpose(inverse), dy))
    case .slice(let start, let size, let step):
      let shape = sink.shape(0)
      var high = shape
      var interior = shape
      for i in 0..<shape.count {
        let reach = size[i] == 0 ? 0 : (size[i] - 1) * step[i] + 1
        high[i] = shape[i] - start[i] - reach
        interior[i] = step[i] - 1
      }
      sink.add(0, apply(.pad(low: start, high: high, interior: interior), dy, Tensor(0).converted(to: dy.elementType)))
    case .pad(let low, let high, let interior):
      let inside = dy.unpadded(low, high, interior, sink.needs(0) ? sink.shape(0) : nil)
      if sink.needs(0) { sink.add(0, inside) }
      if sink.needs(1) { sink.add(1, dy.sum() - inside.sum()) }
    case .concatenate(let axis):
      var start = 0
      for (i, extent) in sink.node.operandExtents.enumerated() {
        if sink.needs(i) { sink.add(i, dy.sliced(axis: axis, start: start, count: extent)) }
        start += extent
      }
    case .reverse: sink.add(0, apply(self, dy))
    case .dynamicSlice:
      let zeros = Tensor.zeros(sink.shape(0), dy.elementType)
      sink.add(0, apply(.dynamicUpdateSlice, zeros, dy, sink.input(1)))
    case .dynamicUpdateSlice:
      let (update, start) = (sink.input(1), sink.input(2))
      if sink.needs(0) { sink.add(0, apply(.dynamicUpdateSlice, dy, zerosLike(update), start)) }
      if sink.needs(1) { sink.add(1, apply(.dynamicSlice(size: update.shape), dy, start)) }
    case .triangle: sink.add(0, apply(self, dy))
    default: preconditionFailure("not a shaping operation: \(name)")
    }
  }

  func propagateReduction(_ dy: Tensor, _ sink: GradientSink) {
    switch self {
    case .reduce(let kind, let axes, let keepDims):
      let shape = sink.shape(0)
      let kept = reduced(shape, axes, keepDims: true)
      func wide(_ t: Tensor) -> Tensor { (keepDims ? t : t.reshaped(kept)).broadcast(to: shape) }
      switch kind {
      case .sum: sink.add(0, wide(dy))
      case .max, .min:  // shared evenly among equal extremes, as PyTorch's amax
        let x = sink.input(0)
        let mask = (x .== wide(sink.result().detached())).converted(to: dy.elementType)
        let ties = apply(.reduce(.sum, axes, keepDims: true), mask).broadcast(to: shape)
        sink.add(0, wide(dy) * (mask / ties))
      case .product:
        sink.add(0, wide(dy) * productOfOthers(sink.input(0), axes))
      case .all, .any: missingGradient()
      }
    case .scan(let kind, let axis, let reverse, let exclusive):
      propagateScan(kind, axis: axis, reverse: reverse, exclusive: exclusive, dy, sink)
    default: preconditionFailure("not a reduction: \(name)")
    }
  }

  /// For each element the product of all others along the axes: exact also where some are zero.
  private func productOfOthers(_ x: Tensor, _ axes: Axes) -> Tensor {
    let keep = (0..<x.rank).filter { !axes.contains($0) }
    let order = Axes(keep + Array(axes))
    let moved = apply(.transpose(order), x)
    let outer = Shape(keep.map { x.shape[$0] })
    let count = axes.reduce(1) { $0 * x.shape[$1] }
    let flat = moved.reshaped([outer.elementCount, count])
    let before = apply(.scan(.product, axis: 1, reverse: false, exclusive: true), flat)
    let after = apply(.scan(.product, axis: 1, reverse: true, exclusive: true), flat)
    let others = before * after
    var inverse = order
    for i in 0..<order.count { inverse[order[i]] = i }
    return apply(.transpose(inverse), others.reshaped(moved.shape))
  }

  func propagateIndexing(_ dy: Tensor, _ sink: GradientSink) {
    switch self {
    case .gather(let axis):
      // Onto what came from elsewhere: a large table, as one that is also a model's head, is gone through once less.
      let arrived = sink.takeArrived(0) ?? Tensor.zeros(sink.shape(0), dy.elementType)
      sink.add(0, scatterAdd(dy, to: arrived, at: sink.input(1), axis: axis))
    case .takeAlong(let axis):
      sink.add(0, apply(.scatterAlong(.add, axis: axis), Tensor.zeros(sink.shape(0), dy.elementType), sink.input(1), dy))
    case .gatherND:
      sink.add(0, apply(.scatterND(.add), Tensor.zeros(sink.shape(0), dy.elementType), sink.input(1), dy))
    case .scatter(let kind, let axis): propagateScatter(kind, dy, sink, Operation.scatterWay(axis: axis))
    case .scatterAlong(let kind, let axis): propagateScatter(kind, dy, sink, Operation.scatterWay(along: axis))
    case .scatterND(let kind): propagateScatter(kind, dy, sink, Operation.scatterWayND)
    default: preconditionFailure("not an indexing operation: \(name)")
    }
  }

  /// In the memory of `x` if nobody else holds it.
  private func scatterAdd(_ updates: Tensor, to x: consuming Tensor, at indices: Tensor, axis: Int) -> Tensor {
    if axis == 0 && x.rank > 0 && x.isPlain && x.handle.node == nil && updates.isPlain && indices.isConcrete
      && isKnownUniquelyReferenced(&x.handle) && x.handle.ownsDenseMemory()
    {
      let rows = updates.handle.array
      do {
        try CPU.put(.add, rows, into: x.handle.array, at: indices.expanded(at: -1).handle.array)
        return x
      } catch { stop(error.description) }
    }
    return apply(.scatter(.add, axis: axis), x, indices, updates)
  }

  func propagate(dot d: DotDimensions, _ dy: Tensor, _ sink: GradientSink) {
    let (a, b) = (sink.input(0), sink.input(1))
    let batch = d.lhsBatch.count
    let lhsFree = d.lhsFree(rank: a.rank)
    let rhsFree = d.rhsFree(rank: b.rank)
    let batchAxes = Axes(0..<batch)
    let (rows, columns) = (Axes(batch..<(batch + lhsFree.count)), Axes((batch + lhsFree.count)..<dy.rank))
    if sink.needs(0) {
      // dy [batch, lhsFree, rhsFree] · b over rhsFree: [batch, lhsFree, rhsContracting in b's order]; or b · dy, the two exchanged
      let order = Axes(d.rhsContracting.sorted())
      let contracting = order.map { d.lhsContracting[d.rhsContracting.firstIndex(of: $0)!] }
      sink.add(
        0,
        product(
          (dy, batchAxes, columns), (b, d.rhsBatch, rhsFree), places: Array(d.lhsBatch), Array(lhsFree), contracting))
    }
    if sink.needs(1) {
      // a · dy over lhsFree: [batch, lhsContracting in a's order, rhsFree]; or dy · a, the two exchanged
      let order = Axes(d.lhsContracting.sorted())
      let contracting = order.map { d.rhsContracting[d.lhsContracting.firstIndex(of: $0)!] }
      sink.add(
        1,
        product((a, d.lhsBatch, lhsFree), (dy, batchAxes, rows), places: Array(d.rhsBatch), contracting, Array(rhsFree)))
    }
  }

  /// The product of two tensors whose result's dimensions belong at these places: in the order that needs no transposition
  /// afterwards, if there is one.
  private func product(
    _ x: (tensor: Tensor, batch: Axes, contracting: Axes), _ y: (tensor: Tensor, batch: Axes, contracting: Axes),
    places batch: [Int], _ first: [Int], _ second: [Int]
  ) -> Tensor {
    let exchanged = batch + second + first
    if exchanged.elementsEqual(0..<exchanged.count) && !first.isEmpty && !second.isEmpty {
      let dimensions = DotDimensions(
        lhsBatch: y.batch, rhsBatch: x.batch, lhsContracting: y.contracting, rhsContracting: x.contracting)
      return apply(.dot(dimensions), y.tensor, x.tensor)
    }
    let dimensions = DotDimensions(
      lhsBatch: x.batch, rhsBatch: y.batch, lhsContracting: x.contracting, rhsContracting: y.contracting)
    return apply(.dot(dimensions), x.tensor, y.tensor).transposedBack(to: batch + first + second)
  }

  func propagateConvolution(_ dy: Tensor, _ sink: GradientSink) {
    switch self {
    case .convolution(let p):
      if sink.needs(0) {
        sink.add(0, apply(.convolutionInputGradient(p, inputSize: Shape(sink.shape(0)[2...])), dy, sink.input(1)))
      }
      if sink.needs(1) {
        sink.add(1, apply(.convolutionKernelGradient(p, kernelSize: Shape(sink.shape(1)[2...])), sink.input(0), dy))
      }
      if sink.needs(2) { sink.add(2, apply(.reduce(.sum, Axes([0] + Array(2..<dy.rank)), keepDims: false), dy)) }
    // The convolution is linear in each operand, so its gradients are each other's gradients.
    case .convolutionInputGradient(let p, _):  // (dy₀, w) → dx₀; the gradient that arrives has x's shape
      if sink.needs(0) { sink.add(0, apply(.convolution(p), dy, sink.input(1))) }
      if sink.needs(1) {
        sink.add(1, apply(.convolutionKernelGradient(p, kernelSize: Shape(sink.shape(1)[2...])), dy, sink.input(0)))
      }
    case .convolutionKernelGradient(let p, _):  // (x, dy₀) → dw₀; the gradient that arrives has w's shape
      if sink.needs(0) {
        sink.add(0, apply(.convolutionInputGradient(p, inputSize: Shape(sink.shape(0)[2...])), sink.input(1), dy))
      }
      if sink.needs(1) { sink.add(1, apply(.convolution(p), sink.input(0), dy)) }
    case .reduceWindow(let kind, let window):
      // Only for max are x's values read; a zero of x's shape stands for it otherwise.
      let x = kind == .max ? sink.input(0) : Tensor.zeros(sink.shape(0), dy.elementType)
      sink.add(0, apply(.reduceWindowGradient(kind, window), x.detached(), dy))
    case .reduceWindowGradient(let kind, let window):
      guard sink.needs(1) else { return }
      switch kind {
      case .sum, .average, .averageValid: sink.add(1, apply(.reduceWindow(kind, window), dy))
      case .max:
        let x = sink.input(0)
        let indices = apply(.maxPoolIndices(window), x)
        let flat = dy.reshaped([dy.shape[0], dy.shape[1], dy.shape[2...].reduce(1, *)])
        let places = indices.reshaped([indices.shape[0], indices.shape[1], indices.shape[2...].reduce(1, *)])
        sink.add(1, apply(.takeAlong(axis: 2), flat, places).reshaped(indices.shape))
      }
    default: preconditionFailure("not a convolution: \(name)")
    }
  }
}

extension Tensor {
  /// Inverse of `unsqueeze and broadcast`: the sum over the dimensions that broadcasting added or repeated.
  func summed(to target: Shape) -> Tensor {
    if shape == target { return self }
    let lead = rank - target.count
    var axes = Axes(0..<lead)
    for i in 0..<target.count where target[i] == 1 && shape[lead + i] != 1 { axes.append(lead + i) }
    return apply(.reduce(.sum, axes, keepDims: true), self).reshaped(target)
  }

  /// Undoes a transposition: dimension i of this tensor belongs at `places[i]`.
  func transposedBack(to places: [Int]) -> Tensor {
    var permutation = Axes(repeating: 0, count: places.count)
    for (i, place) in places.enumerated() { permutation[place] = i }
    return permutation.elementsEqual(0..<places.count) ? self : apply(.transpose(permutation), self)
  }

  package func sliced(axis: Int, start: Int, count: Int) -> Tensor {
    var (from, size) = (Shape(repeating: 0, count: rank), shape)
    from[axis] = start
    size[axis] = count
    return apply(.slice(start: from, size: size, step: Shape(repeating: 1, count: rank)), self)
  }

  /// What was inside of a padding: crop, then every (interior + 1)-th element. Cropped operands get zeros back.
  fileprivate func unpadded(_ low: Shape, _ high: Shape, _ interior: Shape, _ original: Shape?) -> Tensor {
    // Negative padding removed elements: give those places zeros first.
    let restoreLow = Shape(low.map { Swift.max(-$0, 0) })
    let restoreHigh = Shape(high.map { Swift.max(-$0, 0) })
    var x = self
    if restoreLow.contains(where: { $0 > 0 }) || restoreHigh.contains(where: { $0 > 0 }) {
      x = apply(
        .pad(low: restoreLow, high: restoreHigh, interior: Shape(repeating: 0, count: rank)), self,
        Tensor(0).converted(to: elementType))
    }
    var size = x.shape
    var step = x.shape
    let start = Shape(low.map { Swift.max($0, 0) })
    for i in 0..<rank {
      let extent = x.shape[i] - start[i] - Swift.max(high[i], 0)
      step[i] = interior[i] + 1
      size[i] = extent <= 0 ? 0 : (extent - 1) / step[i] + 1
    }
    return apply(.slice(start: start, size: size, step: step), x)
  }
}
