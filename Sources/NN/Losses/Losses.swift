import ApusTensor

/// (input − target)²; any shape, the same for both.
public func mseLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "mseLoss")
  return reduction(square(x - t))
}
public func mseLoss(_ input: Tensor, _ target: Tensor) -> Tensor { mseLoss(input, target, reduction: .mean) }

/// |input − target|; any shape, the same for both.
public func l1Loss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  let (x, t) = pair(input, target, "l1Loss")
  return reduction(abs(x - t))
}
public func l1Loss(_ input: Tensor, _ target: Tensor) -> Tensor { l1Loss(input, target, reduction: .mean) }

/// d² / 2 where |d| ≤ delta, else delta (|d| − delta / 2), for d = input − target (Huber 1964); any shape, the same for both.
public func huberLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction = .mean, delta: Double) -> Tensor {
  guard delta > 0 else { stop("huberLoss: delta \(delta) is not positive") }
  let (x, t) = pair(input, target, "huberLoss")
  let d = x - t
  let distance = abs(d)
  return reduction(`where`(distance .<= delta, square(d) * 0.5, (distance - delta / 2) * delta))
}
public func huberLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  huberLoss(input, target, reduction: reduction, delta: 1)
}
public func huberLoss(_ input: Tensor, _ target: Tensor) -> Tensor { huberLoss(input, target, delta: 1) }

/// d² / (2 beta) where |d| < beta, else |d| − beta / 2, for d = input − target; any shape, the same for both.
public func smoothL1Loss(_ input: Tensor, _ target: Tensor, reduction: Reduction = .mean, beta: Double) -> Tensor {
  guard beta >= 0 else { stop("smoothL1Loss: beta \(beta) is negative") }
  if beta == 0 { return l1Loss(input, target, reduction: reduction) }
  let (x, t) = pair(input, target, "smoothL1Loss")
  let d = x - t
  let distance = abs(d)
  return reduction(`where`(distance .< beta, square(d) * (0.5 / beta), distance - beta / 2))
}
public func smoothL1Loss(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  smoothL1Loss(input, target, reduction: reduction, beta: 1)
}
public func smoothL1Loss(_ input: Tensor, _ target: Tensor) -> Tensor { smoothL1Loss(input, target, beta: 1) }

/// −(target · log input + (1 − target) · log (1 − input)) of probabilities; logarithms are at least −100, as in PyTorch.
/// - Parameters:
///   - input: probabilities in 0 … 1; any shape.
///   - target: of the same shape.
///   - weight: multiplied in; broadcast to the input's shape.
public func binaryCrossEntropy(
  _ input: Tensor, _ target: Tensor, weight: Tensor? = nil, reduction: Reduction = .mean
) -> Tensor {
  let (x, t) = pair(input, target, "binaryCrossEntropy")
  // A rule of its own: where the input is 0 or 1 the logarithm's gradient would be infinite, and 0 · ∞ no number.
  let loss = customGradient([x, t], name: "binaryCrossEntropy") { values in
    let (a, b) = (values[0], values[1])
    let (logX, logRest) = (maximum(log(a), -100), maximum(log1p(-a), -100))
    return (
      -(b * logX + (1 - b) * logRest),
      { dy in
        // The operands from outside keep their history, so second derivatives see them.
        let slope = dy / maximum((1 - x) * x, 1e-12)
        return [slope * (x - t), dy * (maximum(log1p(-x), -100) - maximum(log(x), -100))]
      }
    )
  }
  return reduction(weighted(loss, weight, "binaryCrossEntropy"))
}
public func binaryCrossEntropy(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  binaryCrossEntropy(input, target, weight: nil, reduction: reduction)
}
public func binaryCrossEntropy(_ input: Tensor, _ target: Tensor) -> Tensor {
  binaryCrossEntropy(input, target, weight: nil)
}

/// ``binaryCrossEntropy(_:_:weight:reduction:)`` of sigmoid(input), without overflow for any input.
/// - Parameters:
///   - input: logits; any shape.
///   - target: of the same shape.
///   - weight: multiplied in; broadcast to the input's shape.
///   - posWeight: multiplied into the term of the target 1; broadcast to the input's shape.
public func binaryCrossEntropyWithLogits(
  _ input: Tensor, _ target: Tensor, weight: Tensor? = nil, reduction: Reduction = .mean, posWeight: Tensor? = nil
) -> Tensor {
  let (x, t) = pair(input, target, "binaryCrossEntropyWithLogits")
  var loss: Tensor
  if let posWeight {
    let factor = (checkedWeight(posWeight, x, "posWeight", "binaryCrossEntropyWithLogits") - 1) * t + 1
    loss = (1 - t) * x + factor * softplus(-x)
  } else {
    loss = softplus(x) - t * x
  }
  loss = weighted(loss, weight, "binaryCrossEntropyWithLogits")
  return reduction(loss)
}
public func binaryCrossEntropyWithLogits(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  binaryCrossEntropyWithLogits(input, target, weight: nil, reduction: reduction)
}
public func binaryCrossEntropyWithLogits(_ input: Tensor, _ target: Tensor) -> Tensor {
  binaryCrossEntropyWithLogits(input, target, weight: nil)
}
