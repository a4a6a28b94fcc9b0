import ApusTensor

/// (x − mean) / √variance with a mean and a variance that are given or computed from data by ``adapt(_:)``; Keras's Normalization.
///
/// Variables, once they are known: mean and variance, of the sizes of the kept axes.
public final class Normalization: Module, Layer {
  /// The axes whose every index has a mean and a variance of its own; none: one of both for everything.
  public let axis: [Int]
  public let invert: Bool
  public private(set) var mean: Variable?
  public private(set) var variance: Variable?

  /// A layer that ``adapt(_:)`` gives mean and variance.
  public init(axis: [Int] = [-1], invert: Bool = false) { (self.axis, self.invert) = (axis, invert) }

  /// - Parameters:
  ///   - mean: of the kept axes' sizes, or a shape that broadcasts to them.
  ///   - variance: of the same shape.
  ///   - invert: gives x · √variance + mean instead.
  public init(axis: [Int] = [-1], mean: Tensor, variance: Tensor, invert: Bool = false) {
    (self.axis, self.invert) = (axis, invert)
    super.init()
    guard mean.shape == variance.shape, mean.rank <= axis.count else {
      stop("\(label): mean \(mean.shape) and variance \(variance.shape) must have one shape of at most \(axis.count) dimensions")
    }
    self.mean = Variable(mean.detached())
    self.variance = Variable(variance.detached())
  }

  /// Computes mean and variance of all data: as if of one batch.
  public func adapt(_ data: Tensor) { adapt(CollectionOfOne(data)) }

  /// Computes mean and variance of batches, one at a time, in float64.
  public func adapt(_ batches: some Sequence<Tensor>) {
    withoutGradient {
      var count = 0.0
      var total: (mean: Tensor, variance: Tensor)?
      var type = ElementType.float32
      for batch in batches {
        let kept = keptAxes(batch)
        let reduced = (0..<batch.rank).filter { !kept.contains($0) }
        let n = Double(reduced.reduce(1) { $0 * batch.shape[$1] })
        if n == 0 { continue }
        if batch.elementType == .float64 { type = .float64 }
        let x = batch.converted(to: .float64)
        let m = reduced.isEmpty ? x : x.mean(axes: reduced)
        let v = reduced.isEmpty ? zerosLike(x) : x.variance(axes: reduced, correction: 0)
        count += n
        guard let before = total else {
          total = (m, v)
          continue
        }
        guard before.mean.shape == m.shape else {
          stop("\(label): a batch of shape \(batch.shape) does not have the kept sizes \(before.mean.shape) of those before")
        }
        // The law of total variance.
        let share = n / count
        let mean = before.mean * (1 - share) + m * share
        total = (
          mean,
          (before.variance + square(before.mean - mean)) * (1 - share) + (v + square(m - mean)) * share
        )
      }
      guard let total else { stop("\(label): there is no data to adapt to") }
      mean = Variable(total.mean.converted(to: type))
      variance = Variable(total.variance.converted(to: type))
    }
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    guard let mean, let variance else { stop("\(label) has no mean and variance; call adapt(_:)") }
    let x = x.elementType.isFloatingPoint ? x : x.converted(to: .float32)
    let kept = keptAxes(x)
    // The last dimensions of the mean are those of the last kept axes.
    func aligned(_ tensor: Tensor) -> Tensor {
      var sizes = Array(repeating: 1, count: x.rank)
      for (i, size) in tensor.shape.reversed().enumerated() {
        let place = kept[kept.count - 1 - i]
        guard size == 1 || size == x.shape[place] else {
          stop("\(label): a mean of shape \(tensor.shape) does not fit an input of shape \(x.shape)")
        }
        sizes[place] = size
      }
      return tensor.reshaped(sizes).converted(to: x.elementType)
    }
    let deviation = maximum(sqrt(aligned(variance.value)), 1e-7)  // Keras's epsilon
    return recorded(invert ? aligned(mean.value) + x * deviation : (x - aligned(mean.value)) / deviation)
  }

  private func keptAxes(_ x: Tensor) -> [Int] {
    axis.map { a in
      guard (-x.rank..<x.rank).contains(a) else { stop("\(label): an input of shape \(x.shape) has no axis \(a)") }
      return a < 0 ? a + x.rank : a
    }.sorted()
  }

  override var members: [Member] { Member.list(("mean", mean), ("variance", variance)) }
  override var arguments: String { "axis: \(axis)" + (invert ? ", invert: true" : "") }
}

/// x · scale + offset; Keras's Rescaling: `Rescaling(1 / 255.0)` for bytes of images. Integers become float32.
public final class Rescaling: Module, Layer {
  private let scale, offset: Tensor

  public init(_ scale: Double, offset: Double = 0) {
    (self.scale, self.offset) = (Tensor.full([], scale, .float64), Tensor.full([], offset, .float64))
  }

  /// - Parameters:
  ///   - scale: a shape that broadcasts to the input's.
  ///   - offset: the same.
  public init(_ scale: Tensor, offset: Tensor) { (self.scale, self.offset) = (scale.detached(), offset.detached()) }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = x.elementType.isFloatingPoint ? x : x.converted(to: .float32)
    let y = x * scale.converted(to: x.elementType) + offset.converted(to: x.elementType)
    guard y.shape == x.shape else { stop("\(label): scale \(scale.shape) and offset \(offset.shape) do not fit \(x.shape)") }
    return recorded(y)
  }

  override var members: [Member] { [] }
  override var arguments: String {
    scale.rank == 0 && offset.rank == 0 ? "\(scale.item(as: Double.self)), offset: \(offset.item(as: Double.self))" : ""
  }
}
