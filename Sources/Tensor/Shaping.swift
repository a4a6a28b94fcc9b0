extension Tensor {
  /// The index of an axis that may count from the end.
  func axis(_ axis: Int, _ function: String, extra: Int = 0) -> Int {
    let n = rank + extra
    let index = axis < 0 ? axis + n : axis
    guard index >= 0 && index < n else { stop("\(function): axis \(axis) does not exist in a tensor of shape \(shape)") }
    return index
  }

  func axes(_ axes: [Int], _ function: String) -> Axes {
    guard axes.count <= Shape.maxRank else { stop("\(function): \(axes.count) axes for a tensor of shape \(shape)") }
    return Axes(axes.map { axis($0, function) })
  }

  /// The same elements in row-major order under another shape; one size may be −1: what is left.
  public func reshaped(_ sizes: [Int]) -> Tensor {
    guard sizes.count <= Shape.maxRank else { stop("reshape: \(sizes.count) dimensions; at most \(Shape.maxRank) are possible") }
    var target = Shape(sizes)
    if let open = sizes.firstIndex(of: -1) {
      let known = sizes.enumerated().reduce(1) { $1.offset == open ? $0 : $0 * $1.element }
      guard known > 0, count % known == 0, sizes.filter({ $0 == -1 }).count == 1 else {
        stop("reshape: a tensor of shape \(shape) does not fit shape \(sizes)")
      }
      target[open] = count / known
    }
    return reshaped(target)
  }

  public func reshaped(_ sizes: Int...) -> Tensor { reshaped(sizes) }

  public func reshaped(_ shape: Shape) -> Tensor {
    if shape == self.shape { return self }
    if shape.contains(-1) { return reshaped(Array(shape)) }
    return apply(.reshape(shape), self)
  }

  /// Dimensions `from` to `to` (both included) as one.
  public func flattened(from: Int = 0, to: Int = -1) -> Tensor {
    if rank == 0 { return reshaped([1]) }
    let (first, last) = (axis(from, "flattened"), axis(to, "flattened"))
    guard first <= last else { stop("flattened: axis \(from) comes after axis \(to)") }
    return reshaped(Array(shape[..<first]) + [shape[first...last].reduce(1, *)] + Array(shape[(last + 1)...]))
  }

  /// With its dimensions in another order: dimension i is dimension `permutation[i]` of this tensor.
  public func transposed(_ permutation: [Int]) -> Tensor {
    apply(.transpose(axes(permutation, "transposed")), self)
  }

  /// With two dimensions exchanged; by default the last two.
  public func transposed(_ a: Int = -2, _ b: Int = -1) -> Tensor {
    var order = Axes(0..<rank)
    order.swapAt(axis(a, "transposed"), axis(b, "transposed"))
    return apply(.transpose(order), self)
  }

  /// With all dimensions in reverse order.
  public var T: Tensor { transposed(Array((0..<rank).reversed())) }

  /// With dimension `source` moved to place `destination`.
  public func movedAxis(_ source: Int, to destination: Int) -> Tensor {
    var order = Array(0..<rank)
    let moved = order.remove(at: axis(source, "movedAxis"))
    order.insert(moved, at: axis(destination, "movedAxis"))
    return transposed(order)
  }

  /// With a new dimension of size 1 at `axis`.
  public func expanded(at axis: Int) -> Tensor {
    var target = shape
    guard rank < Shape.maxRank else { stop("expanded: a tensor of shape \(shape) has all \(Shape.maxRank) dimensions already") }
    target.insert(1, at: self.axis(axis, "expanded", extra: 1))
    return reshaped(target)
  }

  /// Without the dimensions of size 1, or without those named.
  public func squeezed(_ axes: Int...) -> Tensor {
    let dropped = axes.isEmpty ? Axes((0..<rank).filter { shape[$0] == 1 }) : self.axes(axes, "squeezed")
    for axis in dropped where shape[axis] != 1 { stop("squeezed: dimension \(axis) of shape \(shape) is not 1") }
    return reshaped(reduced(shape, dropped, keepDims: false))
  }

  /// Repeated to a larger shape by NumPy's rules; a size of −1 keeps the dimension's own.
  public func broadcast(to target: Shape) -> Tensor {
    if target == shape { return self }
    var resolved = target
    let lead = target.count - rank
    if lead >= 0 { for i in 0..<rank where target[lead + i] == -1 { resolved[lead + i] = shape[i] } }
    return resolved == shape ? self : apply(.broadcast(resolved), self)
  }

  /// Padded with a value: `padding[i]` is how many elements go before and after dimension i; negative crops.
  public func padded(_ padding: [(before: Int, after: Int)], value: some TensorScalar = 0) -> Tensor {
    guard padding.count == rank else { stop("padded: \(padding.count) pairs for a tensor of shape \(shape)") }
    return apply(
      .pad(low: Shape(padding.map(\.before)), high: Shape(padding.map(\.after)), interior: Shape(repeating: 0, count: rank)),
      self,
      Tensor.full([], value, elementType))
  }

  /// With the order along these axes (all, if none is named) reversed.
  public func reversed(_ axes: Int...) -> Tensor {
    apply(.reverse(axes.isEmpty ? Axes(0..<rank) : self.axes(axes, "reversed")), self)
  }

  /// With each dimension rolled: what leaves at the end comes back at the start.
  public func rolled(by shift: Int, axis: Int) -> Tensor {
    let axis = self.axis(axis, "rolled")
    let size = shape[axis]
    if size == 0 { return self }
    let cut = ((size - shift % size) % size + size) % size
    if cut == 0 { return self }
    return concatenate([sliced(axis: axis, start: cut, count: size - cut), sliced(axis: axis, start: 0, count: cut)], axis: axis)
  }

  /// The whole repeated along each dimension.
  public func tiled(_ repeats: [Int]) -> Tensor {
    guard repeats.count >= rank, repeats.count * 2 <= 2 * Shape.maxRank, repeats.allSatisfy({ $0 >= 0 }) else {
      stop("tiled: \(repeats) does not fit a tensor of shape \(shape)")
    }
    var result = reshaped(Shape(Array(repeating: 1, count: repeats.count - rank) + Array(shape)))
    for (i, n) in repeats.enumerated() where n != 1 {
      result = n == 0 ? result.sliced(axis: i, start: 0, count: 0) : concatenate(Array(repeating: result, count: n), axis: i)
    }
    return result
  }

  /// Each element repeated `count` times in a row along the axis.
  public func repeated(_ count: Int, axis: Int) -> Tensor {
    guard count >= 0 else { stop("repeated: the count \(count) is negative") }
    let axis = self.axis(axis, "repeated")
    var wide = shape
    wide.insert(count, at: axis + 1)
    var target = shape
    target[axis] *= count
    return expanded(at: axis + 1).broadcast(to: wide).reshaped(target)
  }

  /// Cut into pieces of these sizes along the axis.
  public func split(_ sizes: [Int], axis: Int = 0) -> [Tensor] {
    let axis = self.axis(axis, "split")
    guard sizes.reduce(0, +) == shape[axis], sizes.allSatisfy({ $0 >= 0 }) else {
      stop("split: sizes \(sizes) do not add up to dimension \(axis) of shape \(shape)")
    }
    return parts("split", { pieces(sizes, axis) }, joined: { concatenate($0, axis: axis) })
  }

  private func pieces(_ sizes: [Int], _ axis: Int) -> [Tensor] {
    var start = 0
    return sizes.map { size in
      defer { start += size }
      return sliced(axis: axis, start: start, count: size)
    }
  }

  /// Parts that together are this tensor, as one node on the tape, whose gradient joins theirs once: slices by themselves
  /// would each be padded to the whole and added to it.
  private func parts(_ name: String, _ cut: () -> [Tensor], joined: @escaping ([Tensor]) -> Tensor) -> [Tensor] {
    guard isRecording, handle.node != nil else { return cut() }
    let parts = withoutGradient(cut)
    let types = parts.map(\.type)
    guard parts.count > 1 else { return cut() }
    let node = GradientNode(
      .custom(name: name) { gradients, sink in
        sink.add(0, joined(zip(gradients, types).map { $0 ?? Tensor.zeros($1.shape, $1.elementType) }))
      }, types, [self])
    return parts.enumerated().map { $1.tracked(by: node, result: $0) }
  }

  /// Cut into pieces of `size`, the last one possibly smaller.
  public func split(size: Int, axis: Int = 0) -> [Tensor] {
    guard size > 0 else { stop("split: the size \(size) is not positive") }
    let n = shape[self.axis(axis, "split")]
    return split(stride(from: 0, to: n, by: size).map { Swift.min(size, n - $0) }, axis: axis)
  }

  /// Cut into `count` pieces of nearly equal size.
  public func chunked(_ count: Int, axis: Int = 0) -> [Tensor] {
    guard count > 0 else { stop("chunked: the count \(count) is not positive") }
    let n = shape[self.axis(axis, "chunked")]
    return split(size: Swift.max(1, (n + count - 1) / count), axis: axis)
  }

  /// The tensors that make up the axis, which disappears.
  public func unstacked(axis: Int = 0) -> [Tensor] {
    let axis = self.axis(axis, "unstacked")
    let ones = Array(repeating: 1, count: shape[axis])
    return parts("unstacked", { pieces(ones, axis).map { $0.squeezed(axis) } }, joined: { stack($0, axis: axis) })
  }

  /// The lower triangle of the last two dimensions, zero elsewhere; `diagonal` moves its edge up.
  public func lowerTriangle(diagonal: Int = 0) -> Tensor { apply(.triangle(upper: false, diagonal: diagonal), self) }
  /// The upper triangle of the last two dimensions, zero elsewhere; `diagonal` moves its edge up.
  public func upperTriangle(diagonal: Int = 0) -> Tensor { apply(.triangle(upper: true, diagonal: diagonal), self) }

  /// The diagonal of the last two dimensions.
  public func diagonal(_ offset: Int = 0) -> Tensor {
    guard rank >= 2 else { stop("diagonal: needs at least two dimensions, got shape \(shape)") }
    let (rows, columns) = (shape[rank - 2], shape[rank - 1])
    let count = Swift.max(0, Swift.min(rows + Swift.min(offset, 0), columns - Swift.max(offset, 0)))
    let start = Swift.max(-offset, 0) * columns + Swift.max(offset, 0)
    let flat = flattened(from: -2)
    let places = Tensor.arange(count) * (columns + 1) + start
    return apply(.gather(axis: flat.rank - 1), flat, places)
  }

  /// A copy whose values are in row-major order; its gradient is the identity.
  public func contiguous() -> Tensor {
    guard let node = handle.node else { return Tensor(array: array.rowMajor()) }
    return Tensor(TensorHandle(array.rowMajor(), node, result: handle.result))
  }
}

/// Joins tensors along an existing axis; element types are promoted.
public func concatenate(_ tensors: [Tensor], axis: Int = 0) -> Tensor {
  guard let first = tensors.first else { stop("concatenate: needs at least one tensor") }
  let type = tensors.dropFirst().reduce(first.elementType) { ElementType.promote($0, $1.elementType) }
  let axis = first.axis(axis, "concatenate")
  if tensors.count == 1 { return first }
  return apply(.concatenate(axis: axis), tensors.map { $0.converted(to: type) })[0]
}

/// Joins tensors of equal shape along a new axis.
public func stack(_ tensors: [Tensor], axis: Int = 0) -> Tensor {
  guard let first = tensors.first else { stop("stack: needs at least one tensor") }
  for other in tensors where other.shape != first.shape { stop("stack: shapes \(first.shape) and \(other.shape) differ") }
  let axis = first.axis(axis, "stack", extra: 1)
  return concatenate(tensors.map { $0.expanded(at: axis) }, axis: axis)
}

extension Tensor {
  /// The entries of the first dimension at these int64 positions.
  package func rows(_ indices: Tensor) -> Tensor { apply(.gather(axis: 0), self, indices) }
}
