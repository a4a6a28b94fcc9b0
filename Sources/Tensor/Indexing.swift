import ApusCPU
import CApusKernels

infix operator .= : AssignmentPrecedence

extension Tensor {
  /// Element `index` of the first axis: a view without a copy. Below zero counts from the end.
  public subscript(_ index: Int) -> Tensor {
    get {
      let n = shape.first ?? 0
      let resolved = index < 0 ? index + n : index
      guard rank > 0, resolved >= 0, resolved < n else {
        if rank == 0 { stop("subscript: 1 indices for a tensor of shape [], which has 0 axes") }
        stop("subscript: index \(index) is out of range for axis 0 of shape \(shape)")
      }
      if isPlain { return Tensor(array: handle.array.row(resolved)) }
      var rest = shape
      rest.remove(at: 0)
      return sliced(axis: 0, start: resolved, count: 1).reshaped(rest)
    }
    set { assign(newValue, [index.indexComponent]) }
  }

  /// Part of the tensor: see ``TensorIndex``. Integers, ranges and new axes give a view without a copy; a value
  /// that is assigned broadcasts to the part's shape and is converted to the tensor's element type.
  public subscript(_ indices: any TensorIndex...) -> Tensor {
    get { IndexPlan(indices.map(\.indexComponent), shape).select(from: self) }
    set { assign(newValue, indices.map(\.indexComponent)) }
  }

  /// The whole: `x[...] .= 0` sets every element.
  public subscript(_ all: UnboundedRange) -> Tensor {
    get { self }
    set { assign(newValue, []) }
  }

  /// `x[..., 0]`: as `x[.ellipsis, 0]`.
  public subscript(_ all: UnboundedRange, _ rest: any TensorIndex...) -> Tensor {
    get { IndexPlan([.ellipsis] + rest.map(\.indexComponent), shape).select(from: self) }
    set { assign(newValue, [.ellipsis] + rest.map(\.indexComponent)) }
  }

  /// `x[0, ..., 1]`: as `x[0, .ellipsis, 1]`.
  public subscript(_ first: any TensorIndex, _ all: UnboundedRange, _ rest: any TensorIndex...) -> Tensor {
    get { IndexPlan([first.indexComponent, .ellipsis] + rest.map(\.indexComponent), shape).select(from: self) }
    set { assign(newValue, [first.indexComponent, .ellipsis] + rest.map(\.indexComponent)) }
  }

  /// `x[0, 1, ..., 2]`: as `x[0, 1, .ellipsis, 2]`. With more indices in front write `.ellipsis`.
  public subscript(_ first: any TensorIndex, _ second: any TensorIndex, _ all: UnboundedRange, _ rest: any TensorIndex...)
    -> Tensor
  {
    get {
      IndexPlan([first.indexComponent, second.indexComponent, .ellipsis] + rest.map(\.indexComponent), shape).select(from: self)
    }
    set { assign(newValue, [first.indexComponent, second.indexComponent, .ellipsis] + rest.map(\.indexComponent)) }
  }

  /// Sets every element: `x[mask] .= 0`, `x[0] .= 5`.
  public static func .= (part: inout Tensor, value: some TensorScalar) {
    part = Tensor.full([], value, part.elementType).broadcast(to: part.shape)
  }

  /// Sets every element to the value's, which broadcasts: as `part = value` of a subscript.
  public static func .= (part: inout Tensor, value: Tensor) {
    part = value.converted(to: part.elementType).broadcast(to: part.shape)
  }

  /// Values at hand, and nobody who follows what happens to them.
  var isPlain: Bool {
    guard handle.array.storage != nil else { return false }
    let state = apus_thread()!
    return state.pointee.tracer == nil && (handle.node == nil || state.pointee.recording_disabled != 0)
  }

  /// Makes `self[components]` equal to `value`, in place where nobody else sees the memory.
  mutating func assign(_ value: Tensor, _ components: [IndexComponent]) {
    let plan = IndexPlan(components, shape)
    let target = plan.resultShape
    var value = value.converted(to: elementType)
    // As in NumPy, a value may have more dimensions of size 1 in front.
    while value.rank > target.count && value.shape[0] == 1 { value = value.reshaped(Shape(value.shape.dropFirst())) }
    guard Shape.broadcast(value.shape, target) == target else {
      stop("subscript: a value of shape \(value.shape) does not broadcast to shape \(target) of the part it is assigned to")
    }
    if let mask = plan.wholeMask, let single = value.single {
      self = apply(.select, mask, single.broadcast(to: shape), self)
    } else if isPlain && value.isPlain {
      assignInPlace(value.array, plan, target)
    } else {
      self = replacing(plan, with: value.broadcast(to: target))
    }
  }

  /// The value of every element as a scalar, if all are one in memory.
  private var single: Tensor? {
    if count == 1 { return reshaped([]) }
    guard isPlain, count > 1, (0..<rank).allSatisfy({ shape[$0] == 1 || handle.array.strides[$0] == 0 }) else { return nil }
    return Tensor(array: CPUArray(view: handle.array, shape: [], strides: []))
  }

  private mutating func assignInPlace(_ value: CPUArray, _ plan: IndexPlan, _ target: Shape) {
    let unique = isKnownUniquelyReferenced(&handle) && handle.node == nil && handle.ownsDenseMemory()
    if !unique { handle = TensorHandle(handle.array.copy(), nil) }
    let view = plan.view(of: handle.array)
    let values = CPU.broadcast(value, target)
    if plan.isBasic { return view.assign(values) }
    let rank = plan.indexRank
    let order = Array(plan.place..<(plan.place + rank)) + Array(0..<plan.place) + Array((plan.place + rank)..<target.count)
    do {
      try CPU.put(
        .set, CPU.transpose(values, Axes(order)), into: CPU.transpose(view, plan.pickedFirst), at: plan.coordinates.array)
    } catch { stop(error.description) }
  }

  /// A tensor with the part replaced, as operations that gradients and traces follow.
  private func replacing(_ plan: IndexPlan, with value: Tensor) -> Tensor {
    if plan.isBasic && plan.reversed.isEmpty && plan.step.allSatisfy({ $0 == 1 }) {
      let start = Tensor(plan.start.map { Int64($0) }, shape: [rank])
      return apply(.dynamicUpdateSlice, self, value.reshaped(plan.size), start)
    }
    let places = plan.select(from: Tensor.arange(count).reshaped(shape))
    let flat = apply(.scatter(.set, axis: 0), reshaped([count]), places.reshaped([places.count]), value.reshaped([value.count]))
    return flat.reshaped(shape)
  }
}

extension CPUArray {
  /// Element `index` of the first dimension.
  fileprivate func row(_ index: Int) -> CPUArray {
    var (rest, restStrides) = (shape, strides)
    rest.remove(at: 0)
    restStrides.remove(at: 0)
    return CPUArray(
      view: self, byteOffset: byteOffset + index * strides[0] * elementType.byteSize, shape: rest, strides: restStrides)
  }
}
