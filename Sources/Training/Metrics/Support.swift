import ApusTensor

extension Metric {
  /// Predictions and targets of one shape, in full precision. A last dimension of size 1 that only one of them has is given to
  /// the other or taken from it, as in Keras; anything else would broadcast without a word.
  final func aligned(_ predictions: Tensor, _ targets: Tensor) -> (predictions: Tensor, targets: Tensor) {
    let (x, t) = (full(predictions), full(targets))
    if x.shape == t.shape { return (x, t) }
    let (isOwn, isOther) = (x.shape == Shape(Array(t.shape) + [1]), t.shape == Shape(Array(x.shape) + [1]))
    if isOwn { return t.rank == 1 ? (x, t.expanded(at: 1)) : (x.squeezed(-1), t) }
    if isOther { return x.rank == 1 ? (x.expanded(at: 1), t) : (x, t.squeezed(-1)) }
    stop("metric \(name): the predictions have shape \(predictions.shape), the targets \(targets.shape); they must be the same")
  }

  /// ``aligned(_:_:)``, where single numbers [batch] are rows of one.
  final func alignedRows(_ predictions: Tensor, _ targets: Tensor) -> (predictions: Tensor, targets: Tensor) {
    let (x, t) = aligned(predictions, targets)
    return x.rank == 1 ? (x.expanded(at: 1), t.expanded(at: 1)) : (x, t)
  }

  /// Floating point of half precision as float32, everything else as it is.
  final func full(_ x: Tensor) -> Tensor {
    x.elementType == .float16 || x.elementType == .bfloat16 ? x.converted(to: .float32) : x
  }

  /// A weight for each element of `shape`, float64, from one for its first dimensions, or for all with a last dimension of 1.
  final func weights(_ sampleWeight: Tensor, for shape: Shape) -> Tensor {
    var w = sampleWeight.detached().converted(to: .float64)
    while w.rank > shape.count && w.shape.last == 1 { w = w.squeezed(-1) }
    while w.rank < shape.count { w = w.expanded(at: -1) }
    guard Shape.broadcast(w.shape, shape) == shape else {
      stop("metric \(name): sampleWeight has shape \(sampleWeight.shape), which does not fit values of shape \(shape)")
    }
    return w.broadcast(to: shape)
  }

  /// Adds to a variable.
  final func add(_ value: Tensor, to variable: Variable) { variable.value = variable.value + value.converted(to: .float64) }
}

/// a / b, and 0 where b is 0.
func quotient(_ a: Tensor, _ b: Tensor) -> Tensor {
  let isZero = b .== 0
  return `where`(isZero, 0, a / `where`(isZero, 1, b))
}

/// What Keras keeps quotients and logarithms away from zero by.
let kerasEpsilon = 1e-7

/// A state: float64, so that counts and sums stay exact over any number of batches.
func gathered(_ shape: Shape = []) -> Variable { Variable(Tensor.zeros(shape, .float64)) }
