import ApusTensor

/// What becomes of the losses of single elements.
public enum Reduction: Sendable {
  /// Their mean: a scalar.
  case mean
  /// Their sum: a scalar.
  case sum
  /// They stay as they are.
  case none
  /// Their sum, divided by the size of the first dimension: the mean over samples of what each adds up to.
  case batchMean

  func callAsFunction(_ loss: Tensor) -> Tensor {
    switch self {
    case .mean: loss.mean()
    case .sum: loss.sum()
    case .none: loss
    case .batchMean: loss.sum() / Double(loss.shape.first ?? 1)
    }
  }
}

/// Two operands of a loss, of equal shape (broadcasting here is a mistake nearly always) and one floating point type.
func pair(_ input: Tensor, _ target: Tensor, _ name: String) -> (Tensor, Tensor) {
  guard input.shape == target.shape else {
    stop("\(name): the input has shape \(input.shape), the target \(target.shape); they must be the same")
  }
  guard input.elementType.isFloatingPoint else { stop("\(name): the input must be floating point, got \(input.type)") }
  let type = ElementType.promote(input.elementType, target.elementType)
  return (input.converted(to: type), target.converted(to: type))
}

/// Several inputs of a loss, of equal shape and one floating point type.
func alike(_ name: String, _ inputs: (name: String, value: Tensor)...) -> [Tensor] {
  var type = inputs[0].value.elementType
  for other in inputs {
    guard other.value.shape == inputs[0].value.shape else {
      stop(
        "\(name): \(inputs[0].name) has shape \(inputs[0].value.shape), \(other.name) \(other.value.shape); they must be the same"
      )
    }
    type = .promote(type, other.value.elementType)
  }
  guard type.isFloatingPoint else { stop("\(name): \(inputs[0].name) must be floating point, got \(inputs[0].value.type)") }
  return inputs.map { $0.value.converted(to: type) }
}

/// A loss that is multiplied by a weight, if there is one.
func weighted(_ loss: Tensor, _ weight: Tensor?, _ name: String) -> Tensor {
  guard let weight else { return loss }
  return loss * checkedWeight(weight, loss, "weight", name)
}

func checkedWeight(_ weight: Tensor, _ x: Tensor, _ what: String, _ name: String) -> Tensor {
  guard Shape.broadcast(weight.shape, x.shape) == x.shape else {
    stop("\(name): \(what) has shape \(weight.shape), which does not broadcast to the input's \(x.shape)")
  }
  return weight.converted(to: x.elementType)
}

/// The mean over the last dimension: one loss for each sample, as Keras reduces.
func rowMeans(_ loss: Tensor) -> Tensor { loss.rank == 0 ? loss : loss.mean(axis: -1) }

/// What Keras keeps logarithms and quotients away from zero by.
let kerasEpsilon = 1e-7
