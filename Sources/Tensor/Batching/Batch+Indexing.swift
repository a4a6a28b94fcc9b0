// Slices and gathers of a batch, where the places too may differ between examples.

extension Batch {
  func padded(_ x: [Batched], _ low: Shape, _ high: Shape, _ interior: Shape) -> Tensor {
    func prefix(_ shape: Shape) -> Shape { Shape([0] + Array(shape)) }
    let pad = Operation.pad(low: prefix(low), high: prefix(high), interior: prefix(interior))
    let inside = whole(x[0])
    if !x[1].isBatched { return ApusTensor.apply(pad, inside, x[1].tensor) }
    let zero = Tensor.zeros([], inside.elementType)
    let y = ApusTensor.apply(pad, inside, zero)
    let isInside = ApusTensor.apply(pad, Tensor.ones(inside.shape, .bool), Tensor.zeros([], .bool))
    let value = x[1].tensor.reshaped([size] + Array(repeating: 1, count: y.rank - 1))
    return `where`(isInside, y, value.broadcast(to: y.shape))
  }

  /// The number, in one example's row-major order, of each element of a window: [batch, window's count].
  private func numbers(_ start: Batched, window: Shape, of shape: Shape) -> Tensor {
    let starts = whole(start)
    var number = Tensor.zeros(Shape([size] + Array(repeating: 1, count: shape.count)), .int64)
    for (i, stride) in shape.rowMajorStrides.enumerated() {
      let first = starts.sliced(axis: 1, start: i, count: 1).clamped(0, shape[i] - window[i])
      var along = [Int](repeating: 1, count: shape.count + 1)
      along[i + 1] = window[i]
      let places = first.reshaped([size] + Array(repeating: 1, count: shape.count)) + Tensor.arange(window[i]).reshaped(along)
      number = number + places * stride
    }
    return number.broadcast(to: prefixed(window)).reshaped([size, window.elementCount])
  }

  private func flat(_ x: Batched) -> Tensor { whole(x).reshaped([size, x.shape.elementCount]) }

  private func prefixedStart(_ start: Tensor) -> Tensor { concatenate([Tensor.zeros([1], .int64), start]) }

  func dynamicSlice(_ x: [Batched], _ window: Shape) -> Tensor {
    if !x[1].isBatched {
      return ApusTensor.apply(.dynamicSlice(size: prefixed(window)), x[0].tensor, prefixedStart(x[1].tensor))
    }
    let places = numbers(x[1], window: window, of: x[0].shape)
    return ApusTensor.apply(.takeAlong(axis: 1), flat(x[0]), places).reshaped(prefixed(window))
  }

  func dynamicUpdateSlice(_ x: [Batched]) -> Tensor {
    if !x[2].isBatched {
      return ApusTensor.apply(.dynamicUpdateSlice, whole(x[0]), whole(x[1]), prefixedStart(x[2].tensor))
    }
    let places = numbers(x[2], window: x[1].shape, of: x[0].shape)
    return ApusTensor.apply(.scatterAlong(.set, axis: 1), flat(x[0]), places, flat(x[1])).reshaped(prefixed(x[0].shape))
  }

  func gather(_ x: [Batched], _ axis: Int) -> Tensor {
    let (table, indices) = (x[0], x[1])
    if !indices.isBatched { return ApusTensor.apply(.gather(axis: axis + 1), table.tensor, indices.tensor) }
    if !table.isBatched {
      // One table: the batch is a dimension of the indices.
      return ApusTensor.apply(.gather(axis: axis), table.tensor, indices.tensor).movedAxis(axis, to: 0)
    }
    let (values, places, shape) = aligned(table, indices, axis)
    return ApusTensor.apply(.takeAlong(axis: 2), values, places).reshaped(shape)
  }

  func scatter(_ x: [Batched], _ kind: ScatterKind, _ axis: Int) -> Tensor {
    if !x[1].isBatched {
      return ApusTensor.apply(.scatter(kind, axis: axis + 1), whole(x[0]), x[1].tensor, whole(x[2]))
    }
    let (values, places, _) = aligned(x[0], x[1], axis)
    let updates = whole(x[2]).reshaped(places.shape)
    return ApusTensor.apply(.scatterAlong(kind, axis: 2), values, places, updates).reshaped(prefixed(x[0].shape))
  }

  /// A table as [batch, before, n, after], its indices for each of these [batch, before, m, after], and the shape of what they
  /// pick.
  private func aligned(_ table: Batched, _ indices: Batched, _ axis: Int) -> (values: Tensor, places: Tensor, picked: Shape) {
    let shape = table.shape
    let (before, after) = (shape[..<axis].reduce(1, *), shape[(axis + 1)...].reduce(1, *))
    let m = indices.shape.elementCount
    let places = whole(indices).reshaped([size, 1, m, 1]).broadcast(to: [size, before, m, after])
    let picked = Shape(Array(shape[..<axis]) + Array(indices.shape) + Array(shape[(axis + 1)...]))
    return (whole(table).reshaped([size, before, shape[axis], after]), places, prefixed(picked))
  }

  func gatherND(_ x: [Batched]) -> Tensor {
    if !x[0].isBatched { return ApusTensor.apply(.gatherND, x[0].tensor, x[1].tensor) }
    return ApusTensor.apply(.gatherND, x[0].tensor, numbered(whole(x[1])))
  }

  /// Coordinates [batch, …, k] with the example's number before them: [batch, …, k + 1].
  func numbered(_ indices: Tensor) -> Tensor {
    var shape = indices.shape
    shape[shape.count - 1] = 1
    let number = ApusTensor.apply(.iota(shape, .int64, axis: 0), [])[0]
    return ApusTensor.apply(.concatenate(axis: shape.count - 1), number, indices)
  }
}
