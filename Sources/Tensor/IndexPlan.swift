import ApusCPU

/// What a subscript means for a tensor of one shape: a view of it, then for some dimensions indices to pick by.
struct IndexPlan {
  /// Which elements of each axis the view takes, with steps above zero.
  var start, size, step: Shape
  /// Axes the view runs through backward.
  var reversed = Axes()
  /// The view's shape: without axes picked by an integer, with new axes.
  var viewShape = Shape()
  /// Dimensions of the view replaced by what indices pick from them, in order.
  var picks: [Pick] = []
  /// Where the dimensions of the broadcast indices go in the result.
  var place = 0
  /// [count, k]: the coordinates of the only mask, if it makes all the picks.
  var maskCoordinates: Tensor?
  /// The mask, if it is the only index and covers all axes.
  var wholeMask: Tensor?

  struct Pick {
    /// The dimension of the view, and the axis of the tensor it comes from.
    var dimension, axis: Int
    var indices: Tensor
  }

  /// The axis of each dimension of the view; −1: new.
  private var axisOfDimension: [Int] = []

  var isBasic: Bool { picks.isEmpty }
  private var indexShapes: Shape = []

  init(_ components: [IndexComponent], _ shape: Shape) {
    let zero = Shape(repeating: 0, count: shape.count)
    (start, size, step) = (zero, shape, Shape(repeating: 1, count: shape.count))
    let consumed = components.reduce(0) { $0 + $1.axisCount }
    guard consumed <= shape.count else {
      stop("subscript: \(consumed) indices for a tensor of shape \(shape), which has \(shape.count) axes")
    }
    guard components.filter(\.isEllipsis).count <= 1 else { stop("subscript: more than one ellipsis") }
    var axis = 0
    var advanced: [Int] = []  // the positions, among the components, of integers and of indices that pick
    var masks = 0
    for (position, component) in components.enumerated() {
      switch component.kind {
      case .at(let index):
        start[axis] = resolve(index, axis, shape)
        size[axis] = 1
        axis += 1
        advanced.append(position)
      case .range(let lower, let upper, let step):
        takeRange(axis, lower, upper, step, shape)
        keep(axis)
        axis += 1
      case .slice(let from, let to, let step):
        takeSlice(axis, from, to, step, shape)
        keep(axis)
        axis += 1
      case .progression(let first, let count, let step):
        takeProgression(axis, first, count, step, shape)
        keep(axis)
        axis += 1
      case .newAxis: keep(-1)
      case .ellipsis:
        for _ in 0..<(shape.count - consumed) {
          keep(axis)
          axis += 1
        }
      case .tensor(let tensor):
        advanced.append(position)
        if tensor.elementType == .bool {
          masks += 1
          addMask(tensor, axis, shape)
          axis += tensor.rank
        } else {
          guard tensor.elementType.isInteger else { stop("subscript: indices must be integers or bool, got \(tensor.type)") }
          keep(axis)
          let indices = tensor.detached().converted(to: .int64)
          checkIndices(indices, axis, shape)
          picks.append(Pick(dimension: viewShape.count - 1, axis: axis, indices: indices))
          axis += 1
        }
      }
    }
    while axis < shape.count {
      keep(axis)
      axis += 1
    }
    if picks.isEmpty { return }
    if masks != 1 || picks.contains(where: { $0.indices.rank != 1 }) || advanced.count != 1 { maskCoordinates = nil }
    if components.count != 1 || masks != 1 || maskCoordinates == nil { wholeMask = nil }
    for pick in picks {
      guard let common = Shape.broadcast(indexShapes, pick.indices.shape) else {
        stop("subscript: index tensors of shapes \(indexShapes) and \(pick.indices.shape) do not broadcast to one")
      }
      indexShapes = common
    }
    // NumPy: indices side by side leave their dimensions in place; with something between, these come first.
    let adjacent = advanced.last! - advanced[0] + 1 == advanced.count
    place = adjacent ? picks[0].dimension : 0
  }

  /// The view's dimension `axis` (−1: a new one) as a dimension of the result.
  private mutating func keep(_ axis: Int) {
    guard viewShape.count < Shape.maxRank else { stop("subscript: the result would have more than \(Shape.maxRank) dimensions") }
    viewShape.append(axis < 0 ? 1 : size[axis])
    axisOfDimension.append(axis)
  }

  private mutating func addMask(_ mask: Tensor, _ axis: Int, _ shape: Shape) {
    let covered = Shape(shape[axis..<(axis + mask.rank)])
    guard mask.shape == covered else {
      stop("subscript: a mask of shape \(mask.shape) does not fit axes \(axis)..<\(axis + mask.rank) of shape \(shape)")
    }
    let places = Tensor(array: CPU.nonzero(mask.array))
    if mask.rank == 0 {
      // A truth value adds a dimension of size 1 or 0, as in NumPy.
      keep(-1)
      let zeros = Tensor.zeros([mask.item(as: Bool.self) ? 1 : 0], .int64)
      picks.append(Pick(dimension: viewShape.count - 1, axis: axis, indices: zeros))
      return
    }
    for i in 0..<mask.rank {
      keep(axis + i)
      let column = places.sliced(axis: 1, start: i, count: 1).reshaped([places.shape[0]])
      picks.append(Pick(dimension: viewShape.count - 1, axis: axis + i, indices: column))
    }
    maskCoordinates = places
    if mask.shape == shape { wholeMask = mask }
  }

  // MARK: Bounds

  private func resolve(_ index: Int, _ axis: Int, _ shape: Shape) -> Int {
    let n = shape[axis]
    let resolved = index < 0 ? index + n : index
    guard resolved >= 0 && resolved < n else { outOfRange("index \(index)", axis, shape) }
    return resolved
  }

  private mutating func takeRange(_ axis: Int, _ lower: Int, _ upper: Int?, _ step: Int, _ shape: Shape) {
    let n = shape[axis]
    let first = lower < 0 ? lower + n : lower
    var end = n
    if let upper { end = upper < 0 || (upper == 0 && lower < 0) ? upper + n : upper }
    let crosses = lower < 0 && (upper ?? 0) > 0
    guard first >= 0, first <= n, end >= 0, end <= n, !crosses, first <= end else {
      outOfRange("range \(lower)..\(upper.map { "<\($0)" } ?? ".")", axis, shape)
    }
    let stride = Swift.abs(step)
    let count = (end - first + stride - 1) / stride
    set(axis, step > 0 ? first : end - 1, count, step)
  }

  private mutating func takeSlice(_ axis: Int, _ from: Int?, _ to: Int?, _ step: Int, _ shape: Shape) {
    let n = shape[axis]
    func bound(_ value: Int) -> Int {
      let resolved = value < 0 ? value + n : value
      guard resolved >= 0 && resolved <= n else {
        outOfRange("slice \(from.map(String.init) ?? ""):\(to.map(String.init) ?? ""):\(step)", axis, shape)
      }
      return resolved
    }
    if step > 0 {
      let (first, end) = (from.map(bound) ?? 0, to.map(bound) ?? n)
      set(axis, first, Swift.max(0, (end - first + step - 1) / step), step)
    } else {
      // From the last element at most, down to just above `to`.
      let (first, end) = (Swift.min(from.map(bound) ?? n - 1, n - 1), to.map(bound) ?? -1)
      set(axis, first, Swift.max(0, (first - end - step - 1) / -step), step)
    }
  }

  private mutating func takeProgression(_ axis: Int, _ first: Int, _ count: Int, _ step: Int, _ shape: Shape) {
    if count == 0 { return set(axis, 0, 0, 1) }
    let last = first + (count - 1) * step
    let what = "stride from \(first) through \(last)"
    guard (first < 0) == (last < 0) else { outOfRange(what, axis, shape) }
    let n = shape[axis]
    let (low, high) = (Swift.min(first, last) + (first < 0 ? n : 0), Swift.max(first, last) + (first < 0 ? n : 0))
    guard low >= 0 && high < n else { outOfRange(what, axis, shape) }
    set(axis, first < 0 ? first + n : first, count, step)
  }

  /// `count` elements of an axis from `first` by `by`, which may be negative.
  private mutating func set(_ axis: Int, _ first: Int, _ count: Int, _ by: Int) {
    size[axis] = count
    step[axis] = count > 1 ? Swift.abs(by) : 1
    start[axis] = count == 0 ? 0 : by > 0 ? first : first + (count - 1) * by
    if by < 0 && count > 1 { reversed.append(axis) }
  }

  private func outOfRange(_ what: String, _ axis: Int, _ shape: Shape) -> Never {
    stop("subscript: \(what) is out of range for axis \(axis) of shape \(shape)")
  }

  /// Names the first index outside of the axis. (Kernels check again; they know neither the axis nor the shape.)
  private func checkIndices(_ indices: Tensor, _ axis: Int, _ shape: Shape) {
    guard indices.handle.array.storage != nil else { return }
    let n = shape[axis]
    let row = indices.array.rowMajor()
    let values = UnsafeBufferPointer(start: row.pointer.assumingMemoryBound(to: Int.self), count: row.elementCount)
    withExtendedLifetime(row) {
      for value in values where value >= n || value < -n { outOfRange("index \(value)", axis, shape) }
    }
  }

  // MARK: Use

  /// The view as one reading of memory.
  func view(of x: CPUArray) -> CPUArray {
    var offset = 0
    var byAxis = x.strides
    for axis in 0..<start.count {
      if size[axis] > 0 { offset += start[axis] * x.strides[axis] }
      byAxis[axis] = x.strides[axis] * step[axis]
    }
    for axis in reversed {
      offset += (size[axis] - 1) * byAxis[axis]
      byAxis[axis] = -byAxis[axis]
    }
    var strides = viewShape
    for (i, axis) in axisOfDimension.enumerated() { strides[i] = axis < 0 ? 0 : byAxis[axis] }
    return CPUArray(view: x, byteOffset: x.byteOffset + offset * x.elementType.byteSize, shape: viewShape, strides: strides)
  }

  /// The view as operations that gradients and traces follow.
  func view(of x: Tensor) -> Tensor {
    if x.isPlain { return Tensor(array: view(of: x.handle.array)) }
    var view = x
    if size != x.shape || start.contains(where: { $0 != 0 }) { view = apply(.slice(start: start, size: size, step: step), view) }
    if !reversed.isEmpty { view = apply(.reverse(reversed), view) }
    return view.reshaped(viewShape)
  }

  /// The shape of what the subscript yields.
  var resultShape: Shape {
    if isBasic { return viewShape }
    let rest = restDimensions.map { viewShape[$0] }
    guard rest.count + indexShapes.count <= Shape.maxRank else {
      stop("subscript: the result would have more than \(Shape.maxRank) dimensions")
    }
    return Shape(rest[..<place] + Array(indexShapes) + rest[place...])
  }

  private var restDimensions: [Int] { (0..<viewShape.count).filter { d in !picks.contains { $0.dimension == d } } }
  var indexRank: Int { indexShapes.count }

  /// Which dimensions of the view come first, for gatherND: those picked from, then the rest.
  var pickedFirst: Axes { Axes(picks.map(\.dimension) + restDimensions) }

  /// [index shape…, k]: one coordinate in each of the k picked dimensions.
  var coordinates: Tensor { maskCoordinates ?? stack(picks.map { $0.indices.broadcast(to: indexShapes) }, axis: -1) }

  func select(from x: Tensor) -> Tensor {
    let view = view(of: x)
    if isBasic { return view }
    _ = resultShape
    if picks.count == 1 {
      let dimension = picks[0].dimension
      let picked = apply(.gather(axis: dimension), view, picks[0].indices)
      return picked.movedBlock(at: dimension, count: indexRank, to: place)
    }
    let order = pickedFirst
    let moved = order.elementsEqual(0..<view.rank) ? view : apply(.transpose(order), view)
    return apply(.gatherND, moved, coordinates).movedBlock(at: 0, count: indexRank, to: place)
  }
}

extension IndexComponent {
  /// How many axes of the tensor it stands for.
  fileprivate var axisCount: Int {
    switch kind {
    case .at, .range, .slice, .progression: 1
    case .newAxis, .ellipsis: 0
    case .tensor(let tensor): tensor.elementType == .bool ? tensor.rank : 1
    }
  }

  fileprivate var isEllipsis: Bool {
    if case .ellipsis = kind { return true }
    return false
  }
}

extension Tensor {
  /// With `count` dimensions beginning at `source` moved, together, to begin at `target`.
  func movedBlock(at source: Int, count: Int, to target: Int) -> Tensor {
    if source == target || count == 0 { return self }
    var order = Array(0..<rank)
    let block = order[source..<(source + count)]
    order.removeSubrange(source..<(source + count))
    order.insert(contentsOf: block, at: target)
    return apply(.transpose(Axes(order)), self)
  }
}
