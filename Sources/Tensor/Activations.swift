// Activation functions that are composed of others. Those with kernels of their own are in Elementwise.swift, softmax in
// Composites.swift. The gradient at a kink is PyTorch's, or Keras's where PyTorch lacks the function.

/// max(0, x) + min(0, alpha (e^(x / alpha) − 1)): elu with a continuous slope (Barron 2017).
public func celu(_ x: Tensor, alpha: Double = 1) -> Tensor {
  guard alpha != 0 else { stop("celu: alpha must not be zero") }
  let isPositive = x .> 0
  // The exponential sees no large numbers: its gradient there would be ∞ · 0.
  return `where`(isPositive, x, expm1(`where`(isPositive, 0, x) / alpha) * alpha)
}

/// a · sigmoid(b), a and b the halves of x along the axis (Dauphin et al. 2017).
public func glu(_ x: Tensor, axis: Int = -1) -> Tensor {
  let i = x.axis(axis, "glu")
  guard x.shape[i] % 2 == 0 else { stop("glu: an input of shape \(x.shape) cannot be halved along axis \(axis)") }
  let halves = x.split([x.shape[i] / 2, x.shape[i] / 2], axis: i)
  return halves[0] * sigmoid(halves[1])
}

/// x where |x| > threshold, else 0.
public func hardShrink(_ x: Tensor, threshold: Double = 0.5) -> Tensor { `where`(abs(x) .<= threshold, 0, x) }

/// x − threshold where x > threshold, x + threshold where x < −threshold, else 0.
public func softShrink(_ x: Tensor, threshold: Double = 0.5) -> Tensor {
  guard threshold >= 0 else { stop("softShrink: the threshold \(threshold) is negative") }
  return `where`(x .> threshold, x - threshold, `where`(x .< -threshold, x + threshold, x * 0))
}

/// x limited to minimum … maximum; the gradient is 0 on the limits, where `clamped` has 1.
public func hardTanh(_ x: Tensor, _ minimumValue: Double = -1, _ maximumValue: Double = 1) -> Tensor {
  guard minimumValue < maximumValue else {
    stop("hardTanh: the minimum \(minimumValue) is not below the maximum \(maximumValue)")
  }
  let inside = (x .> minimumValue) .& (x .< maximumValue)
  return `where`(inside, x, x.detached().clamped(minimumValue, maximumValue))
}

/// x − tanh(x).
public func tanhShrink(_ x: Tensor) -> Tensor { x - tanh(x) }

/// x where x > threshold, else `value`.
public func threshold(_ x: Tensor, _ threshold: Double, _ value: Double) -> Tensor { `where`(x .<= threshold, value, x) }

/// x where positive, else slope · x with a slope drawn for each element from lower … upper (Xu et al. 2015).
///
/// In evaluation the slope is the middle of the two.
public func rrelu(
  _ x: Tensor, lower: Double = 1.0 / 8, upper: Double = 1.0 / 3, training: Bool = false, generator: Generator = .default
) -> Tensor {
  guard lower <= upper else { stop("rrelu: the lower slope \(lower) is above the upper \(upper)") }
  guard training else { return leakyRelu(x, slope: (lower + upper) / 2) }
  let slope = Tensor.uniform(x.shape, low: lower, high: upper, x.elementType, generator: generator)
  return `where`(x .> 0, x, x * slope)
}

/// x where positive, else weight · x (He et al. 2015).
/// - Parameter weight: one [1] for all, one for each channel [channels] of [batch, channels, …], or of a shape that broadcasts
///   to a sample's.
public func prelu(_ x: Tensor, _ weight: Tensor) -> Tensor {
  let perChannel = weight.rank <= 1 && x.rank >= 2 && x.shape[1] == weight.count
  let perElement =
    x.rank > 0 && weight.rank == x.rank - 1 && Shape.broadcast(weight.shape, Shape(x.shape[1...])) == Shape(x.shape[1...])
  guard weight.count == 1 || perChannel || perElement else {
    stop("prelu: weights of shape \(weight.shape) do not fit an input of shape \(x.shape), expected one, or one per channel")
  }
  let channels = [weight.count] + Array(repeating: 1, count: Swift.max(x.rank - 2, 0))
  let slope = weight.count == 1 ? weight.reshaped([]) : perChannel ? weight.reshaped(channels) : weight
  return `where`(x .> 0, x, x * slope)
}

/// e⁻ˣ / Σ e⁻ˣ along the axis.
public func softmin(_ x: Tensor, axis: Int = -1) -> Tensor { softmax(-x, axis: axis) }

/// The point of the probability simplex nearest to x along the axis: many probabilities are exactly 0.
///
/// max(x − τ, 0) with τ such that the sum is 1 (Martins and Astudillo 2016). Keras 3.15 computes another τ, with sums that
/// are not 1 where more than one element is left.
public func sparsemax(_ x: Tensor, axis: Int = -1) -> Tensor {
  let axis = x.axis(axis, "sparsemax")
  let size = x.shape[axis]
  guard size > 0 else { return x }
  // Relative to the largest element, so that sums lose nothing to its size.
  let z = x - x.max(axis: axis, keepDims: true).detached()
  let chosen = withoutGradient { () -> Tensor in
    let sorted = z.detached().sorted(axis: axis, descending: true).values
    let places = Array(repeating: 1, count: axis) + [size] + Array(repeating: 1, count: x.rank - axis - 1)
    let numbers = (Tensor.arange(size) + 1).converted(to: x.elementType).reshaped(places)
    let lines = (sorted.cumulativeSum(axis: axis) - 1) / numbers
    // The last k for which the k-th largest lies above the line; there the line is τ.
    let count = (sorted .> lines).converted(to: .int64).sum(axis: axis, keepDims: true)
    return (z.detached() .> lines.gather(axis: axis, indices: maximum(count - 1, 0))).converted(to: x.elementType)
  }
  let tau = ((z * chosen).sum(axis: axis, keepDims: true) - 1) / chosen.sum(axis: axis, keepDims: true)
  return relu(z - tau)
}

/// (x + √(x² + b)) / 2 (Barron 2021).
public func squareplus(_ x: Tensor, b: Double = 4) -> Tensor { (x + sqrt(square(x) + b)) * 0.5 }

/// 0 up to −1, (x + 1)² / 4 between −1 and 1, x from 1 on.
public func sparsePlus(_ x: Tensor) -> Tensor {
  `where`(x .<= -1, 0, `where`(x .< 1, square(x + 1) * 0.25, x))
}

/// 0 up to −1, (x + 1) / 2 between −1 and 1, 1 from 1 on.
public func sparseSigmoid(_ x: Tensor) -> Tensor {
  let line = (x + 1) * 0.5
  return `where`((x .> -1) .& (x .< 1), line, line.detached().clamped(0, 1))
}
