import ApusTensor

/// The negative logarithm of a normal distribution's density: (log v + (input − target)² / v) / 2, PyTorch's `gaussian_nll_loss`.
///
/// - Parameters:
///   - input: means; any shape.
///   - target: samples, of the same shape.
///   - variance: positive; of the input's shape, or with 1 or nothing for its last dimension. As in PyTorch its gradient does
///     not know of the limit `epsilon`.
///   - full: adds the constant log(2π) / 2.
///   - epsilon: the least variance.
public func gaussianNLLLoss(
  _ input: Tensor, _ target: Tensor, _ variance: Tensor, full: Bool = false, epsilon: Double = 1e-6,
  reduction: Reduction = .mean
) -> Tensor {
  let (x, t) = pair(input, target, "gaussianNLLLoss")
  guard epsilon > 0 else { stop("gaussianNLLLoss: epsilon \(epsilon) is not positive") }
  var v = variance.converted(to: x.elementType)
  if v.shape != x.shape {
    if x.rank > 0 && v.shape == Shape(x.shape.dropLast()) { v = v.expanded(at: -1) }
    guard v.rank == x.rank, v.shape.dropLast().elementsEqual(x.shape.dropLast()), v.shape.last == 1 else {
      stop(
        "gaussianNLLLoss: variance has shape \(variance.shape), expected the input's \(x.shape), or with 1 or nothing for its last dimension"
      )
    }
  }
  if v.isConcrete && (v .< 0).any().item(as: Bool.self) { stop("gaussianNLLLoss: a variance is negative") }
  v = v + (maximum(v, epsilon) - v).detached()
  var loss = (log(v) + square(x - t) / v) * 0.5
  if full { loss = loss + 0.918_938_533_204_672_8 }  // log(2π) / 2
  return reduction(loss)
}

/// The negative logarithm of a Poisson distribution's probability, PyTorch's `poisson_nll_loss`:
/// e^input − target · input, or input − target · log(input + epsilon).
///
/// - Parameters:
///   - input: logarithms of rates, or rates if not `logInput`; any shape.
///   - target: counts, of the same shape.
///   - full: adds Stirling's approximation of log target! where the target is above 1.
///   - epsilon: keeps the logarithm of rates finite.
public func poissonNLLLoss(
  _ input: Tensor, _ target: Tensor, logInput: Bool = true, full: Bool = false, epsilon: Double = 1e-8,
  reduction: Reduction = .mean
) -> Tensor {
  let (x, t) = pair(input, target, "poissonNLLLoss")
  var loss = logInput ? exp(x) - t * x : x - t * log(x + epsilon)
  if full {
    let many = `where`(t .> 1, t, 1)
    let stirling = many * log(many) - many + log(many * (2 * Double.pi)) * 0.5
    loss = loss + `where`(t .> 1, stirling, 0)
  }
  return reduction(loss)
}
public func poissonNLLLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  poissonNLLLoss(input, target, logInput: true, reduction: reduction)
}
public func poissonNLLLoss(_ input: Tensor, _ target: Tensor) -> Tensor { poissonNLLLoss(input, target, reduction: .mean) }

/// Keras's `poisson`: input − target · log(input + 10⁻⁷), the mean over the last dimension for each sample.
/// - Parameters:
///   - input: rates […, values].
///   - target: counts, of the same shape.
public func poissonLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "poissonLoss")
  return reduction(rowMeans(x - t * log(x + kerasEpsilon)))
}
public func poissonLoss(_ input: Tensor, _ target: Tensor) -> Tensor { poissonLoss(input, target, reduction: .mean) }

/// target · (log target − input), element by element: PyTorch's `kl_div`.
///
/// The divergence of the target from the input (Kullback and Leibler 1951) is the sum over a distribution: use `.batchMean` for
/// its mean over samples.
/// - Parameters:
///   - input: logarithms of probabilities; any shape.
///   - target: probabilities, or their logarithms if `logTarget`; of the same shape.
public func klDivLoss(
  _ input: Tensor, _ target: Tensor, reduction: Reduction = .mean, logTarget: Bool
) -> Tensor {
  let (x, t) = pair(input, target, "klDivLoss")
  if logTarget { return reduction(exp(t) * (t - x)) }
  // 0 log 0 = 0.
  let isZero = t .== 0
  return reduction(t * log(`where`(isZero, 1, t)) - t * x)
}
public func klDivLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  klDivLoss(input, target, reduction: reduction, logTarget: false)
}
public func klDivLoss(_ input: Tensor, _ target: Tensor) -> Tensor { klDivLoss(input, target, reduction: .mean) }

/// Keras's `kl_divergence` of probabilities: Σ target · log(target / input) over the last dimension, one for each sample.
/// - Parameters:
///   - input: probabilities […, classes]; limited to 10⁻⁷ … 1, as is the target.
///   - target: probabilities, of the same shape.
public func klDivergenceLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "klDivergenceLoss")
  guard x.rank > 0 else { stop("klDivergenceLoss: takes […, classes], got a scalar") }
  let (q, p) = (x.clamped(kerasEpsilon, 1), t.clamped(kerasEpsilon, 1))
  return reduction((p * log(p / q)).sum(axis: -1))
}
public func klDivergenceLoss(_ input: Tensor, _ target: Tensor) -> Tensor { klDivergenceLoss(input, target, reduction: .mean) }
