// Indexing by coordinates: gather, take-along and their scatters as gatherND and scatterND.

extension Operation {
  private static func moved(_ rank: Int, _ axis: Int) -> (toFront: Axes, back: Axes) {
    let front = Axes([axis] + (0..<rank).filter { $0 != axis })
    var back = front
    for i in 0..<rank { back[front[i]] = i }
    return (front, back)
  }

  /// The axis's dimension replaced by those of `indices`.
  func gathered(_ x: Term, _ indices: Term, _ axis: Int) -> Term {
    let flat = flattened(indices)
    let picked = x.builder.apply(.gatherND, [x.transpose(Self.moved(x.rank, axis).toFront), flat])[0]
    // [count, the others]: the first dimension goes to the axis's place, and becomes those of the indices.
    let back = picked.transpose(Self.moved(x.rank, axis).back)
    return back.reshape(Shape(Array(x.shape[..<axis]) + Array(indices.shape) + Array(x.shape[(axis + 1)...])))
  }

  /// The updates have gather's result shape.
  func scattered(_ kind: ScatterKind, _ x: [Term], _ axis: Int) -> Term {
    let flat = flattened(x[1])
    let count = flat.shape[0]
    let (front, back) = Self.moved(x[0].rank, axis)
    let updates = x[2].reshape(Shape(Array(x[0].shape[..<axis]) + [count] + Array(x[0].shape[(axis + 1)...]))).transpose(front)
    return x[0].builder.apply(.scatterND(kind), [x[0].transpose(front), flat, updates])[0].transpose(back)
  }

  private func flattened(_ indices: Term) -> Term { indices.reshape([indices.shape.elementCount, 1]) }

  /// The coordinates in x of each element of `indices`, [count, rank]: its own, but for the axis.
  func coordinates(_ x: Term, _ indices: Term, _ axis: Int) -> Term {
    let n = indices.shape.elementCount
    let columns = (0..<x.rank).map { i in (i == axis ? indices : x.builder.iota(indices.shape, axis: i)).reshape([n, 1]) }
    return x.builder.concatenate(columns, axis: 1)
  }
}
