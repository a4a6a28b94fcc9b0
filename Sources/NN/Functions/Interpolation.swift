import ApusTensor

/// How ``interpolate(_:size:scaleFactor:mode:alignCorners:antialias:)`` finds values between elements.
public enum InterpolationMode: Sendable, Hashable, CaseIterable {
  /// The element ⌊i · in / out⌋.
  case nearest
  /// The nearest element by the centres of both, as images are scaled elsewhere (PyTorch's `nearest-exact`).
  case nearestExact
  /// Straight lines between neighbours, over 1, 2 or 3 spatial dimensions.
  case linear, bilinear, trilinear
  /// Cubic convolution with a = −0.75 over 2 spatial dimensions (Keys 1981).
  case bicubic
  /// Means over windows, as ``adaptiveAvgPool(_:outputSize:)``.
  case area
}

/// One factor for all spatial dimensions, or a list with one for each.
public protocol ScaleFactors: Sendable {
  var scaleFactors: [Double] { get }
}

/// A number that can be a scale factor.
public protocol ScaleFactor: ScaleFactors {}

extension Int: ScaleFactor { public var scaleFactors: [Double] { [Double(self)] } }
extension Double: ScaleFactor { public var scaleFactors: [Double] { [self] } }
extension Array: ScaleFactors where Element: ScaleFactor { public var scaleFactors: [Double] { flatMap(\.scaleFactors) } }

/// The spatial dimensions of [batch, channels, size…] (1 to 3 of them) at another resolution (PyTorch's `interpolate`).
/// - Parameters:
///   - size: the new spatial size: one number, or one for each dimension.
///   - scaleFactor: instead of a size: the new one is ⌊size · factor⌋.
///   - alignCorners: whether the centres of the outermost elements coincide, instead of their outer edges; for the linear
///     modes and `.bicubic`.
///   - antialias: whether each result sees all elements below it when an image is made smaller; for `.bilinear` and `.bicubic`
///     (with a = −0.5), as PyTorch and Pillow do it.
public func interpolate(
  _ x: Tensor, size: (any SpatialSizes)? = nil, scaleFactor: (any ScaleFactors)? = nil, mode: InterpolationMode = .nearest,
  alignCorners: Bool = false, antialias: Bool = false
) -> Tensor {
  let n = x.rank - 2
  guard (1...3).contains(n), x.elementType.isFloatingPoint || mode == .nearest || mode == .nearestExact else {
    stop("interpolate: takes [batch, channels, size…] of 3 to 5 dimensions, got \(x.type)")
  }
  let dimensions = mode.dimensions
  guard dimensions == nil || dimensions == n else {
    stop("interpolate: mode .\(mode) is for \(dimensions ?? n) spatial dimensions, got shape \(x.shape)")
  }
  guard !antialias || (n == 2 && !alignCorners && (mode == .bilinear || mode == .bicubic)) else {
    stop("interpolate: antialias is for modes .bilinear and .bicubic without alignCorners, got .\(mode)")
  }
  let old = Array(x.shape[2...])
  var new: [Int]
  var factors: [Double?] = Array(repeating: nil, count: n)
  switch (size, scaleFactor) {
  case (let size?, nil): new = spatial(size, n, "size", "interpolate")
  case (nil, let scales?):
    let list = scales.scaleFactors
    guard list.count == 1 || list.count == n, list.allSatisfy({ $0 > 0 && $0.isFinite }) else {
      stop("interpolate: scaleFactor \(list) needs one positive number, or \(n)")
    }
    factors = (0..<n).map { list[list.count == 1 ? 0 : $0] }
    new = zip(old, factors).map { Int((Double($0) * ($1 ?? 1)).rounded(.down)) }
  default: stop("interpolate: takes either size or scaleFactor")
  }
  guard old.allSatisfy({ $0 > 0 }), new.allSatisfy({ $0 > 0 }) else {
    stop("interpolate: sizes must be positive, got shape \(x.shape) and new sizes \(new)")
  }
  if mode == .area { return adaptiveAvgPool(x, outputSize: new) }
  let blocks = (0..<n).map { i -> Int in
    let block = new[i] / old[i]
    return new[i] == block * old[i] && (factors[i] ?? Double(block)) == Double(block) ? block : 0
  }
  if mode == .nearest && x.elementType.isFloatingPoint && !blocks.contains(0) { return enlarged(x, blocks) }
  var result = x
  // The innermost dimension first: the others then move whole rows.
  for i in (0..<n).reversed() {
    let axis = Resampling(old: old[i], new: new[i], factor: factors[i], alignCorners: alignCorners)
    result = antialias ? axis.smoothed(result, 2 + i, mode) : axis.resampled(result, 2 + i, mode)
  }
  return result
}

/// Each element as a block of equal ones: what the gradient of sums over blocks does, in one pass and in x's memory order.
private func enlarged(_ x: Tensor, _ factors: [Int]) -> Tensor {
  if factors.allSatisfy({ $0 == 1 }) { return x }
  let zero = Shape(repeating: 0, count: factors.count)
  let window = Window(
    size: Shape(factors), stride: Shape(factors), padLow: zero, padHigh: zero, dilation: Shape(repeating: 1, count: factors.count)
  )
  var shape = x.shape
  for (i, factor) in factors.enumerated() { shape[2 + i] *= factor }
  return apply(.reduceWindowGradient(.sum, window), Tensor.zeros([], x.elementType).broadcast(to: shape), x)
}

extension InterpolationMode {
  fileprivate var dimensions: Int? {
    switch self {
    case .nearest, .nearestExact, .area: nil
    case .linear: 1
    case .bilinear, .bicubic: 2
    case .trilinear: 3
    }
  }
}

/// One dimension: which old elements a new one is made of.
private struct Resampling {
  let old, new: Int
  let factor: Double?
  let alignCorners: Bool

  /// Old elements per new one.
  var scale: Double { factor.map { 1 / $0 } ?? Double(old) / Double(new) }

  /// Where the new element i lies between the old ones.
  func source(_ i: Int) -> Double {
    if alignCorners { return new > 1 ? Double(i) * Double(old - 1) / Double(new - 1) : 0 }
    return scale * (Double(i) + 0.5) - 0.5
  }

  func resampled(_ x: Tensor, _ axis: Int, _ mode: InterpolationMode) -> Tensor {
    if old == new && (factor == nil || factor == 1) { return x }
    switch mode {
    case .nearest where new % old == 0 && (factor == nil || factor == Double(new / old)):
      return x.repeated(new / old, axis: axis)
    case .nearest, .nearestExact:
      // In float32, as PyTorch does it: which of two neighbours is nearer may depend on it.
      let (step, shift) = (Float(scale), mode == .nearest ? Float(0) : 0.5)
      return picked(x, axis) { Int(((Float($0) + shift) * step).rounded(.down)) }
    case .bicubic:
      return combined(x, axis, -1...2) { at in
        let t = at - at.rounded(.down)
        return [1 + t, t, 1 - t, 2 - t].map { cubic($0, -0.75) }
      }
    case .linear, .bilinear, .trilinear, .area:
      return combined(x, axis, 0...1) { at in
        let t = Swift.max(at, 0) - Swift.max(at, 0).rounded(.down)
        return [1 - t, t]
      }
    }
  }

  private func picked(_ x: Tensor, _ axis: Int, _ index: (Int) -> Int) -> Tensor {
    x.take(Tensor(elements: (0..<new).map { Swift.min(Swift.max(index($0), 0), old - 1) }), axis: axis)
  }

  /// The sum of the elements at some places around the source, each with its weights.
  private func combined(_ x: Tensor, _ axis: Int, _ places: ClosedRange<Int>, _ weights: (Double) -> [Double]) -> Tensor {
    let sources = (0..<new).map { places.lowerBound < 0 ? source($0) : Swift.max(source($0), 0) }
    let all = sources.map(weights)
    let shape = Shape([new] + Array(repeating: 1, count: x.rank - 1 - axis))
    var sum: Tensor?
    for (i, place) in places.enumerated() {
      let weight = Tensor(elements: all.map { $0[i] }).converted(to: x.elementType).reshaped(shape)
      let term = picked(x, axis) { Int(sources[$0].rounded(.down)) + place } * weight
      sum = sum.map { $0 + term } ?? term
    }
    return sum ?? x
  }

  /// A product with the matrix of all weights: filters as wide as the new elements are apart.
  func smoothed(_ x: Tensor, _ axis: Int, _ mode: InterpolationMode) -> Tensor {
    if old == new && (factor == nil || factor == 1) { return x }
    let width = mode == .bicubic ? 2.0 : 1.0
    let stretch = Swift.max(scale, 1)
    var matrix = [Double](repeating: 0, count: new * old)
    for i in 0..<new {
      let centre = scale * (Double(i) + 0.5)
      let first = Swift.max(Int(centre - width * stretch + 0.5), 0)
      let end = Swift.min(Int(centre + width * stretch + 0.5), old)
      let weights = (first..<end).map { j -> Double in
        let distance = abs(Double(j) - centre + 0.5) / stretch
        return mode == .bicubic ? cubic(distance, -0.5) : Swift.max(1 - distance, 0)
      }
      let total = weights.reduce(0, +)
      for (j, weight) in zip(first..<end, weights) { matrix[i * old + j] = weight / total }
    }
    let weights = Tensor(matrix, shape: [new, old]).converted(to: x.elementType)
    return linear(x.movedAxis(axis, to: -1), weights).movedAxis(-1, to: axis)
  }
}

/// The kernel of cubic convolution (Keys 1981).
private func cubic(_ distance: Double, _ a: Double) -> Double {
  let x = abs(distance)
  if x <= 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
  if x < 2 { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a }
  return 0
}
