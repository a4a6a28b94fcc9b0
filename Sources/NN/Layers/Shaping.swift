import ApusTensor

/// Each sample in another shape: [batch, …] → [batch, shape…]; one of the sizes may be −1: what is left.
public final class Reshape: Module, Layer {
  public let targetShape: [Int]
  public init(_ targetShape: [Int]) { self.targetShape = targetShape }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank > 0 else { stop("\(label): takes [batch, …], got a scalar") }
    let known = targetShape.filter { $0 != -1 }.reduce(1, *)
    let open = targetShape.filter { $0 == -1 }.count
    let count = x.shape[1...].reduce(1, *)
    guard open == 0 ? known == count : open == 1 && known > 0 && count % known == 0 else {
      stop("\(label): samples of shape \(Shape(x.shape[1...])) have \(count) elements, which do not make up \(targetShape)")
    }
    return recorded(x.reshaped([x.shape[0]] + targetShape.map { $0 == -1 ? count / known : $0 }))
  }

  override var members: [Member] { [] }
  override var arguments: String { "\(targetShape)" }
}

/// The dimensions of each sample in another order: `Permute([2, 1])` takes [batch, a, b] to [batch, b, a]; the first dimension
/// after the batch is 1, as in Keras.
public final class Permute: Module, Layer {
  public let dims: [Int]

  public init(_ dims: [Int]) {
    guard dims.sorted() == Array(1..<(dims.count + 1)) else { stop("Permute: \(dims) is no order of 1 to \(dims.count)") }
    self.dims = dims
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == dims.count + 1 else { stop("\(label): takes [batch, and \(dims.count) dimensions], got shape \(x.shape)") }
    return recorded(x.transposed([0] + dims))
  }

  override var members: [Member] { [] }
  override var arguments: String { "\(dims)" }
}

/// Each sample so many times: [batch, features] → [batch, count, features].
public final class RepeatVector: Module, Layer {
  public let count: Int

  public init(_ count: Int) {
    guard count >= 0 else { stop("RepeatVector: the count \(count) is negative") }
    self.count = count
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    guard x.rank == 2 else { stop("\(label): takes [batch, features], got shape \(x.shape)") }
    return recorded(x.expanded(at: 1).broadcast(to: [x.shape[0], count, x.shape[1]]))
  }

  override var members: [Member] { [] }
  override var arguments: String { "\(count)" }
}

/// What the cropping layers share; use ``Cropping1d``, ``Cropping2d`` or ``Cropping3d``.
public class CroppingLayer: Module, Layer {
  /// For each spatial dimension, the first one first, how much is taken from its beginning and its end.
  public let cropping: [Int]

  fileprivate init(_ name: String, _ n: Int, _ cropping: some SpatialSizes) {
    let list = cropping.spatialSizes
    guard [1, n, 2 * n].contains(list.count), list.allSatisfy({ $0 >= 0 }) else {
      stop("\(name): cropping \(list) needs one number, \(n), or a beginning and an end for each of \(n) dimensions")
    }
    // For one dimension two numbers are its beginning and its end.
    self.cropping =
      list.count == 2 * n ? list : (0..<n).flatMap { i in Array(repeating: list[list.count == 1 ? 0 : i], count: 2) }
  }

  public final func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    let n = cropping.count / 2
    guard x.rank == n + 2 else { stop("\(label): takes \(n + 2) dimensions [batch, channels, …], got shape \(x.shape)") }
    var pairs = [(before: 0, after: 0), (before: 0, after: 0)]
    for i in 0..<n {
      guard cropping[2 * i] + cropping[2 * i + 1] < x.shape[2 + i] else {
        stop("\(label): nothing is left of dimension \(2 + i) of shape \(x.shape)")
      }
      pairs.append((-cropping[2 * i], -cropping[2 * i + 1]))
    }
    return recorded(x.padded(pairs))
  }

  override final var members: [Member] { [] }
  override final var arguments: String { brief(cropping) }
}

/// [batch, channels, length] without its ends.
public final class Cropping1d: CroppingLayer {
  /// - Parameter cropping: one number for both ends, or [beginning, end].
  public init(_ cropping: some SpatialSizes = 1) { super.init("Cropping1d", 1, cropping) }
}

/// [batch, channels, height, width] without its edges.
public final class Cropping2d: CroppingLayer {
  /// - Parameter cropping: one number for all edges, [height, width], or [top, bottom, left, right].
  public init(_ cropping: some SpatialSizes = 0) { super.init("Cropping2d", 2, cropping) }
}

/// [batch, channels, depth, height, width] without its faces.
public final class Cropping3d: CroppingLayer {
  /// - Parameter cropping: one number for all faces, one for each dimension, or two for each, the first dimension first.
  public init(_ cropping: some SpatialSizes = 1) { super.init("Cropping3d", 3, cropping) }
}
