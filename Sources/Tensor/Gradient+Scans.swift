// Gradients of running products and extremes, and of scatters that multiply or keep extremes.

extension Operation {
  func propagateScan(_ kind: ScanKind, axis: Int, reverse: Bool, exclusive: Bool, _ dy: Tensor, _ sink: GradientSink) {
    if kind == .sum {
      sink.add(0, apply(.scan(.sum, axis: axis, reverse: !reverse, exclusive: exclusive), dy))
      return
    }
    // From here on as if the scan ran forward and included each element; flips and slices are views.
    let x = reverse ? sink.input(0).reversed(axis) : sink.input(0)
    var dy = reverse ? dy.reversed(axis) : dy
    let n = x.shape[axis]
    if exclusive && n > 0 {
      let last = Tensor.zeros(dy.sliced(axis: axis, start: 0, count: 1).shape, dy.elementType)
      dy = apply(.concatenate(axis: axis), dy.sliced(axis: axis, start: 1, count: n - 1), last)
    }
    let dx =
      switch kind {
      case .sum: preconditionFailure("handled above")
      case .product: runningProductGradient(x, dy, axis)
      case .max, .min: runningExtremeGradient(kind, x, dy, axis)
      }
    sink.add(0, reverse ? dx.reversed(axis) : dx)
  }

  /// dxⱼ = (Π_{k<j} xₖ) sⱼ with sⱼ = dyⱼ + xⱼ₊₁ sⱼ₊₁, the recurrence by doubling: after each step s covers twice as many
  /// elements. Nothing is divided, so zeros need no care.
  private func runningProductGradient(_ x: Tensor, _ dy: Tensor, _ axis: Int) -> Tensor {
    let n = x.shape[axis]
    if n == 0 { return dy }
    var s = dy
    var factors = x.sliced(axis: axis, start: 1, count: n - 1)  // factors[j] = Π_{j<k≤j+d} xₖ, for j < n − d
    var d = 1
    while d < n {
      let added = factors * s.sliced(axis: axis, start: d, count: n - d)
      let first = s.sliced(axis: axis, start: 0, count: n - d) + added
      s = apply(.concatenate(axis: axis), first, s.sliced(axis: axis, start: n - d, count: d))
      let left = Swift.max(n - 2 * d, 0)
      if left > 0 {
        factors = factors.sliced(axis: axis, start: 0, count: left) * factors.sliced(axis: axis, start: d, count: left)
      }
      d *= 2
    }
    return apply(.scan(.product, axis: axis, reverse: false, exclusive: true), x) * s
  }

  /// To the element that was taken: of equal ones the last so far, as PyTorch does.
  private func runningExtremeGradient(_ kind: ScanKind, _ x: Tensor, _ dy: Tensor, _ axis: Int) -> Tensor {
    let x = x.detached()
    let running = apply(.scan(kind, axis: axis, reverse: false, exclusive: false), x)
    let isTaken = (x .== running) .| isNaN(x)
    let place = apply(.iota(x.shape, .int64, axis: axis), [])[0]
    let taken = apply(.scan(.max, axis: axis, reverse: false, exclusive: false), `where`(isTaken, place, 0))
    return apply(.scatterAlong(.add, axis: axis), Tensor.zeros(x.shape, dy.elementType), taken, dy)
  }

  // MARK: Scatters

  /// What differs between the three scatters.
  struct ScatterWay {
    /// The scatter of another kind.
    var put: (ScatterKind) -> Operation
    /// Its inverse.
    var take: Operation
    /// Updates may meet along one axis of theirs, once they have this shape; and a number for each one's place.
    var places: (_ indices: Tensor, _ updates: Shape, _ x: Shape) -> (shape: Shape, axis: Int, numbers: Tensor)
  }

  static func scatterWay(axis: Int) -> ScatterWay {
    ScatterWay(put: { .scatter($0, axis: axis) }, take: .gather(axis: axis)) { indices, updates, x in
      let m = indices.count
      let (outer, inner) = (x[..<axis].reduce(1, *), x[(axis + 1)...].reduce(1, *))
      return ([outer, m, inner], 1, nonNegative(indices, x[axis]).reshaped([1, m, 1]))
    }
  }

  static func scatterWay(along axis: Int) -> ScatterWay {
    ScatterWay(put: { .scatterAlong($0, axis: axis) }, take: .takeAlong(axis: axis)) { indices, updates, x in
      (updates, axis, nonNegative(indices, x[axis]))
    }
  }

  static var scatterWayND: ScatterWay {
    ScatterWay(put: { .scatterND($0) }, take: .gatherND) { indices, updates, x in
      let k = indices.shape[indices.rank - 1]
      let m = indices.count / Swift.max(k, 1)
      var number = Tensor.zeros([m], .int64)
      for i in 0..<k {
        let coordinate = indices.sliced(axis: indices.rank - 1, start: i, count: 1).reshaped([m])
        number = number * x[i] + nonNegative(coordinate, x[i])
      }
      return ([m, x[k...].reduce(1, *)], 0, number.reshaped([m, 1]))
    }
  }

  private static func nonNegative(_ indices: Tensor, _ n: Int) -> Tensor { `where`(indices .< 0, indices + n, indices) }

  func propagateScatter(_ kind: ScatterKind, _ dy: Tensor, _ sink: GradientSink, _ way: ScatterWay) {
    let indices = sink.input(1)
    func picked(_ t: Tensor) -> Tensor { apply(way.take, t, indices) }
    switch kind {
    case .add:
      if sink.needs(0) { sink.add(0, dy) }
      if sink.needs(2) { sink.add(2, picked(dy)) }
    case .set:
      // Where one place is set twice the last update wins; its gradient goes to all of them, as in PyTorch.
      let chosen = picked(dy)
      if sink.needs(0) { sink.add(0, apply(way.put(.set), dy, indices, zerosLike(chosen))) }
      if sink.needs(2) { sink.add(2, chosen) }
    case .multiply:
      let (x, updates) = (sink.input(0), sink.input(2))
      if sink.needs(0) {
        sink.add(0, dy * apply(way.put(.multiply), Tensor.ones(x.shape, x.elementType), indices, updates))
      }
      if sink.needs(2) {
        let (shape, axis, numbers) = way.places(indices, updates.shape, x.shape)
        let others = productOfOthersAtTheirPlace(updates.reshaped(shape), numbers, axis)
        sink.add(2, picked(dy * x) * others.reshaped(updates.shape))
      }
    case .max, .min:
      // Shared evenly among all that are equal to the result, the element that was there included, as in PyTorch.
      let result = sink.result().detached()
      let isResult = (sink.input(0).detached() .== result).converted(to: dy.elementType)
      let wins = (sink.input(2).detached() .== picked(result)).converted(to: dy.elementType)
      let share = dy / apply(way.put(.add), isResult, indices, wins)
      if sink.needs(0) { sink.add(0, share * isResult) }
      if sink.needs(2) { sink.add(2, picked(share) * wins) }
    }
  }

  /// For each update the product of the others with its number, without division: updates are sorted by number, and
  /// running products within a number, from both ends, are made by doubling.
  private func productOfOthersAtTheirPlace(_ updates: Tensor, _ numbers: Tensor, _ axis: Int) -> Tensor {
    let n = updates.shape[axis]
    if n < 2 { return Tensor.ones(updates.shape, updates.elementType) }
    var (sorted, order) = numbers.sorted(axis: axis)
    (sorted, order) = (sorted.broadcast(to: updates.shape), order.broadcast(to: updates.shape))
    let x = apply(.takeAlong(axis: axis), updates, order)
    let others =
      productBefore(x, sorted, axis)
      * productBefore(x.reversed(axis), sorted.reversed(axis), axis).reversed(axis)
    // Back to where they came from.
    return apply(.scatterAlong(.set, axis: axis), Tensor.zeros(x.shape, x.elementType), order, others)
  }

  /// The product of the elements before each that have its number; equal numbers are neighbours.
  private func productBefore(_ x: Tensor, _ numbers: Tensor, _ axis: Int) -> Tensor {
    let n = x.shape[axis]
    func part(_ t: Tensor, _ start: Int, _ count: Int) -> Tensor { t.sliced(axis: axis, start: start, count: count) }
    /// For elements from d on, the value d before them where that has the same number, else one.
    func earlier(_ t: Tensor, _ d: Int) -> Tensor {
      `where`(part(numbers, d, n - d) .== part(numbers, 0, n - d), part(t, 0, n - d), 1)
    }
    var product = x
    var d = 1
    while d < n {
      product = apply(.concatenate(axis: axis), part(product, 0, d), part(product, d, n - d) * earlier(product, d))
      d *= 2
    }
    let first = Tensor.ones(part(x, 0, 1).shape, x.elementType)
    return apply(.concatenate(axis: axis), first, earlier(product, 1))
  }
}
