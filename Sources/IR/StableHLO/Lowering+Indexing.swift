// General gather and scatter, where each dimension is either indexed one by one or taken whole.

extension Lowering {
  private func numbers(_ entries: [String: ParsedAttribute], _ name: String) throws(GraphTextError) -> [Int] {
    guard let attribute = entries[name] else { return [] }
    guard let values = integers(attribute), values.count <= Shape.maxRank else { throw fail("\(name) must be dimensions") }
    return values
  }

  private struct Indexing {
    /// Dimensions of the operand that are indexed, in order, then the others.
    var indexed: [Int]
    var whole: [Int]
    /// int64 […batch, indexed] and whether each row is inside of the operand.
    var coordinates: Int
    var batch: Shape
  }

  /// - Parameters:
  ///   - single: dimensions of the operand of which one element is taken.
  ///   - batching: pairs of dimensions of the operand and of the indices that go together.
  ///   - clamped: whether indices are moved inside.
  private func indexing(
    _ x: Int, _ indices: Int, single: [Int], batching: [Int], indexBatching: [Int], map: [Int], vectorDimension: Int,
    clamped: Bool
  ) throws(GraphTextError) -> Indexing {
    let (shape, rank) = (self.shape(x), self.shape(x).count)
    let indexShape = self.shape(indices)
    guard type(indices).elementType.isInteger else { throw fail("indices must be integers") }
    let taken = try axes((single + batching).sorted(), rank)
    guard batching.count == indexBatching.count, !taken.isEmpty else { throw fail("no dimension is indexed") }
    guard map.allSatisfy({ taken.contains($0) }) else { throw fail("slices of an indexed dimension are not possible") }
    _ = try axes(map, rank)
    guard vectorDimension == indexShape.count || vectorDimension == indexShape.count - 1, vectorDimension >= 0 else {
      throw fail("the index vectors must be in the last dimension")
    }
    let isVector = vectorDimension < indexShape.count
    guard (isVector ? indexShape[vectorDimension] : 1) == map.count else { throw fail("index vectors have another length") }
    let batch = isVector ? Shape(indexShape.dropLast()) : indexShape
    let count = batch.elementCount
    let wide = try reshape(try convert(indices, .int64), [count, map.count])
    var columns: [Int] = []
    for dimension in taken {
      guard shape[dimension] > 0 || count == 0 else { throw fail("dimension \(dimension) is empty") }
      if let k = map.firstIndex(of: dimension) {
        let column = try one(.slice(start: [0, k], size: [count, 1], step: [1, 1]), wide)
        if clamped {
          let low = try one(.binary(.max), column, try fill(.int(0), like: column))
          columns.append(try one(.binary(.min), low, try fill(.int(max(shape[dimension] - 1, 0)), like: low)))
        } else {
          columns.append(column)
        }
      } else if let k = batching.firstIndex(of: dimension) {
        let place = try axis(indexBatching[k], batch.count)
        guard batch[place] == shape[dimension] else { throw fail("batch dimensions differ in size") }
        columns.append(try reshape(try append(.iota(batch, .int64, axis: place), [])[0], [count, 1]))
      } else {
        columns.append(try append(.fill([count, 1], .int64, .int(0)), [])[0])
      }
    }
    let table = columns.count == 1 ? columns[0] : try append(.concatenate(axis: 1), columns)[0]
    return Indexing(
      indexed: taken, whole: (0..<rank).filter { !taken.contains($0) }, coordinates: table, batch: batch)
  }

  private func dimensionNumbers(_ name: String) throws(GraphTextError) -> [String: ParsedAttribute] {
    guard case .dictionary(let entries)? = op.attributes[name] else { throw fail("needs \(name)") }
    return entries
  }

  private func vectorDimension(_ entries: [String: ParsedAttribute]) -> Int {
    if case .number(.int(let value))? = entries["index_vector_dim"] { return value }
    return 0
  }

  func gather() throws(GraphTextError) -> Int {
    try operands(2)
    let (x, indices) = (op.operands[0], op.operands[1])
    let entries = try dimensionNumbers("dimension_numbers")
    let sizes = try list("slice_sizes", "slice_sizes")
    guard sizes.count == shape(x).count else { throw fail("slice_sizes need \(shape(x).count) numbers") }
    let batching = try numbers(entries, "operand_batching_dims")
    let single = try numbers(entries, "collapsed_slice_dims")
    let i = try indexing(
      x, indices, single: single, batching: batching, indexBatching: try numbers(entries, "start_indices_batching_dims"),
      map: try numbers(entries, "start_index_map"), vectorDimension: vectorDimension(entries), clamped: true)
    guard i.whole.allSatisfy({ sizes[$0] == shape(x)[$0] }) else { throw fail("dimensions are indexed or taken whole") }
    let picked = try one(.gatherND, try transpose(x, i.indexed + i.whole), i.coordinates)
    let rank = i.batch.count + i.whole.count
    guard rank <= Shape.maxRank else { throw fail("the result would have \(rank) dimensions") }
    let rows = try reshape(picked, Shape(Array(i.batch) + i.whole.map { shape(x)[$0] }))
    let offsets = try axes(try numbers(entries, "offset_dims"), rank)
    guard offsets.count == i.whole.count else { throw fail("offset_dims must be \(i.whole.count)") }
    // Where each dimension of the result comes from.
    let others = (0..<rank).filter { !offsets.contains($0) }
    var order = [Int](repeating: 0, count: rank)
    for (k, place) in others.enumerated() { order[place] = k }
    for (k, place) in offsets.enumerated() { order[place] = i.batch.count + k }
    return try transpose(rows, order)
  }

  func scatter() throws(GraphTextError) -> Int {
    try operands(3)
    try regions(1)
    let (x, indices, updates) = (op.operands[0], op.operands[1], op.operands[2])
    let region = op.regions[0]
    let kind: ScatterKind
    if region.scope.nodes.isEmpty && region.argumentCount == 2 && region.outputs == [1] {
      kind = .set
    } else if region.scope.nodes.count == 1, region.argumentCount == 2,
      case .binary(let binary) = region.scope.nodes[0].operation,
      region.scope.nodes[0].inputs == [0, 1], region.outputs == [2]
    {
      switch binary {
      case .add: kind = .add
      case .mul: kind = .multiply
      case .max: kind = .max
      case .min: kind = .min
      case .sub, .div, .floorDiv, .rem, .mod, .pow, .atan2, .and, .or, .xor, .shiftLeft, .shiftRight:
        throw fail("\(binary) is no way to scatter")
      }
    } else {
      throw fail("the region must set, add, multiply or take an extreme")
    }
    let entries = try dimensionNumbers("scatter_dimension_numbers")
    let i = try indexing(
      x, indices, single: try numbers(entries, "inserted_window_dims"), batching: try numbers(entries, "input_batching_dims"),
      indexBatching: try numbers(entries, "scatter_indices_batching_dims"),
      map: try numbers(entries, "scatter_dims_to_operand_dims"), vectorDimension: vectorDimension(entries), clamped: false)
    let rank = i.batch.count + i.whole.count
    let windows = try axes(try numbers(entries, "update_window_dims"), shape(updates).count)
    guard rank == shape(updates).count, windows.count == i.whole.count else { throw fail("the updates do not fit") }
    for (dimension, place) in zip(i.whole, windows) where shape(updates)[place] != shape(x)[dimension] {
      throw fail("dimensions are indexed or replaced whole")
    }
    let others = (0..<rank).filter { !windows.contains($0) }
    let rows = try transpose(updates, others + windows)
    let front = i.indexed + i.whole
    let moved = try transpose(x, front)
    let (size, count) = (shape(moved), i.batch.elementCount)
    guard Shape(shape(rows).prefix(i.batch.count)) == i.batch else { throw fail("the updates do not fit the indices") }
    let flat = try reshape(rows, Shape([count] + Array(size[i.indexed.count...])))
    // Updates outside of the operand are dropped: they go to one row more, which is cut off.
    var isInside: Int?
    for k in i.indexed.indices {
      let column = try one(.slice(start: [0, k], size: [count, 1], step: [1, 1]), i.coordinates)
      let low = try one(.compare(.greaterEqual), column, try fill(.int(0), like: column))
      let both = try one(.binary(.and), low, try one(.compare(.less), column, try fill(.int(size[k]), like: column)))
      isInside = try isInside.map { before throws(GraphTextError) in try one(.binary(.and), before, both) } ?? both
    }
    guard let isInside else { throw fail("no dimension is indexed") }
    let beyond = try append(
      .pad(low: [0, 0], high: [0, i.indexed.count - 1], interior: [0, 0]),
      [
        try append(.fill([count, 1], .int64, .int(size[0])), [])[0], try append(.fill([], .int64, .int(0)), [])[0],
      ])[0]
    let places = try one(.select, try broadcast(isInside, shape(i.coordinates)), i.coordinates, beyond)
    var (none, high) = (Shape(repeating: 0, count: size.count), Shape(repeating: 0, count: size.count))
    high[0] = 1
    let zero = try append(.fill([], type(x).elementType, type(x).elementType == .bool ? .bool(false) : .int(0)), [])[0]
    let larger = try one(.pad(low: none, high: high, interior: none), moved, zero)
    let scattered = try one(.scatterND(kind), larger, places, flat)
    for k in 0..<size.count { none[k] = 0 }
    let cut = try one(.slice(start: none, size: size, step: Shape(repeating: 1, count: size.count)), scattered)
    return try transpose(cut, inverse(front))
  }
}
