import ApusCPU

// Picking and placing elements by their indices. Indices may have any integer type and may count from the end.

extension Tensor {
  fileprivate func indices(_ function: String) -> Tensor {
    guard elementType.isInteger else { stop("\(function): the indices must be integers, got \(type)") }
    return converted(to: .int64)
  }

  /// Values for a place among these elements: of their type, a scalar repeated.
  fileprivate func values(_ function: String, as type: ElementType, _ shape: Shape) -> Tensor {
    guard Shape.broadcast(self.shape, shape) == shape else {
      stop("\(function): values of shape \(self.shape) do not fit shape \(shape)")
    }
    return converted(to: type).broadcast(to: shape)
  }

  /// The elements at `indices` of an axis, which is replaced by the dimensions of `indices`
  /// (PyTorch's index_select, NumPy's take).
  public func take(_ indices: Tensor, axis: Int = 0) -> Tensor {
    apply(.gather(axis: self.axis(axis, "take")), self, indices.indices("take"))
  }

  /// For each place of `indices` the element whose position along the axis is the index there, else the place's own
  /// (PyTorch's gather, NumPy's take_along_axis).
  public func gather(axis: Int, indices: Tensor) -> Tensor {
    apply(.takeAlong(axis: self.axis(axis, "gather")), self, indices.indices("gather"))
  }

  /// The inverse of ``gather(axis:indices:)``: a copy with `values` set at the places `indices` name along the axis.
  /// Where one is named twice the last value stays.
  public func scatter(axis: Int, indices: Tensor, values: Tensor) -> Tensor {
    let indices = indices.indices("scatter")
    let values = values.values("scatter", as: elementType, indices.shape)
    return apply(.scatterAlong(.set, axis: self.axis(axis, "scatter")), self, indices, values)
  }

  /// A copy with `values` added at the places `indices` name along the axis.
  public func scatterAdd(axis: Int, indices: Tensor, values: Tensor) -> Tensor {
    let indices = indices.indices("scatterAdd")
    let values = values.values("scatterAdd", as: elementType, indices.shape)
    return apply(.scatterAlong(.add, axis: self.axis(axis, "scatterAdd")), self, indices, values)
  }

  /// A copy in which `values` meet what is at positions `indices` along the axis: replace it, are added, multiplied, or
  /// the greater or smaller is kept (PyTorch's scatter_reduce with include_self). Shapes as for ``scatter(axis:indices:values:)``.
  /// Gradients of equal extremes are shared evenly.
  public func scatterReduce(_ kind: ScatterKind, axis: Int, indices: Tensor, values: Tensor) -> Tensor {
    let indices = indices.indices("scatterReduce")
    let values = values.values("scatterReduce", as: elementType, indices.shape)
    return apply(.scatterAlong(kind, axis: self.axis(axis, "scatterReduce")), self, indices, values)
  }

  /// A copy with part j of `values` along the axis added to part `indices[j]` (PyTorch's index_add).
  public func indexAdd(axis: Int, indices: Tensor, values: Tensor) -> Tensor {
    let indices = indices.indices("indexAdd")
    let axis = self.axis(axis, "indexAdd")
    let target = Shape(Array(shape[..<axis]) + Array(indices.shape) + Array(shape[(axis + 1)...]))
    return apply(.scatter(.add, axis: axis), self, indices, values.values("indexAdd", as: elementType, target))
  }

  /// A part of this size whose place is known only as values (JAX's and XLA's dynamic_slice).
  /// - Parameters:
  ///   - start: integers [rank]: where the part begins in each dimension. A part that would reach over an end is moved inside.
  ///   - size: the part's shape.
  public func dynamicSlice(start: Tensor, size: Shape) -> Tensor {
    apply(.dynamicSlice(size: size), self, start.indices("dynamicSlice"))
  }

  /// A copy with a part replaced whose place is known only as values (JAX's and XLA's dynamic_update_slice).
  /// - Parameters:
  ///   - update: the part; of this tensor's rank, in no dimension larger.
  ///   - start: integers [rank]: where the part begins in each dimension. A part that would reach over an end is moved inside.
  public func dynamicUpdateSlice(_ update: Tensor, start: Tensor) -> Tensor {
    apply(.dynamicUpdateSlice, self, update.converted(to: elementType), start.indices("dynamicUpdateSlice"))
  }

  /// The elements where the mask holds, in one dimension; mask and tensor broadcast.
  public func maskedSelect(_ mask: Tensor) -> Tensor {
    guard mask.elementType == .bool else { stop("maskedSelect: the mask must be bool, got \(mask.type)") }
    guard let common = Shape.broadcast(shape, mask.shape) else {
      stop("maskedSelect: shapes \(shape) and \(mask.shape) do not broadcast to one")
    }
    return broadcast(to: common).flattened()[mask.broadcast(to: common).flattened()]
  }

  /// With `value` where the mask, which broadcasts to this shape, holds.
  public func maskedFill(_ mask: Tensor, _ value: some TensorScalar) -> Tensor {
    guard mask.elementType == .bool, Shape.broadcast(shape, mask.shape) == shape else {
      stop("maskedFill: the mask must be bool and broadcast to shape \(shape), got \(mask.type)")
    }
    return apply(.select, mask.broadcast(to: shape), Tensor.full(shape, value, elementType), self)
  }

  /// The positions of the elements that are not zero: int64 [count, rank], in row-major order.
  public func nonzero() -> Tensor { Tensor(array: CPU.nonzero(array)) }

  /// The same, one tensor for each axis: what indexes these elements, as in `x[p[0], p[1]]`.
  public func whereIndices() -> [Tensor] {
    let places = nonzero()
    return (0..<rank).map { places[0..., $0] }
  }

  /// With the parts along the axis in random order.
  public func shuffled(axis: Int = 0, generator: Generator = .default) -> Tensor {
    let axis = self.axis(axis, "shuffled")
    return take(Tensor.permutation(shape[axis], generator: generator), axis: axis)
  }
}

/// Coordinates of a grid: for each of the one-dimensional tensors one with the shape of all their sizes, in which it
/// runs along its own dimension. With `indexing: .xy` the first two dimensions are exchanged, as in NumPy.
public func meshgrid(_ tensors: [Tensor], indexing: MeshIndexing = .ij) -> [Tensor] {
  for x in tensors where x.rank > 1 { stop("meshgrid: takes one-dimensional tensors, got \(x.type)") }
  let flat = tensors.map { $0.flattened() }
  let shape = Shape(flat.map(\.count))
  return flat.enumerated().map { i, x in
    var own = Shape(repeating: 1, count: shape.count)
    own[i] = x.count
    let grid = x.reshaped(own).broadcast(to: shape)
    return indexing == .xy && shape.count >= 2 ? grid.transposed(0, 1) : grid
  }
}

public enum MeshIndexing: Sendable {
  /// Dimension i belongs to tensor i.
  case ij
  /// The first dimension belongs to the second tensor: rows to y, columns to x.
  case xy
}
