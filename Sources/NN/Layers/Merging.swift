import ApusTensor

/// What the layers over several inputs share; use ``Add``, ``Concatenate`` and their like.
///
/// Inputs have the same batch size. They broadcast; where ranks differ, those of fewer dimensions get dimensions of size 1 after
/// the batch, as in Keras.
open class MergeLayer: Module {
  public final func callAsFunction(_ inputs: Tensor...) -> Tensor { self(inputs) }

  public final func callAsFunction(_ inputs: [Tensor]) -> Tensor {
    guard !inputs.isEmpty, inputs.allSatisfy({ $0.rank > 0 && $0.shape[0] == inputs[0].shape[0] }) else {
      stop("\(label): takes inputs of one batch size, got shapes \(listed(inputs))")
    }
    return recorded(merged(inputs))
  }

  /// The output, for inputs of one batch size.
  open func merged(_ inputs: [Tensor]) -> Tensor { stop("\(label): does not say how it merges; override merged(_:)") }

  fileprivate final func listed(_ inputs: [Tensor]) -> String { inputs.map { "\($0.shape)" }.joined(separator: ", ") }

  /// The inputs with as many dimensions as the one with the most.
  fileprivate final func matched(_ inputs: [Tensor], count: Int? = nil) -> [Tensor] {
    guard count == nil || inputs.count == count else { stop("\(label): takes \(count ?? 0) inputs, got \(inputs.count)") }
    let rank = inputs.map(\.rank).max() ?? 0
    let all = inputs.map { x in
      x.rank == rank ? x : x.reshaped([x.shape[0]] + Array(repeating: 1, count: rank - x.rank) + Array(x.shape[1...]))
    }
    var shape: Shape? = all[0].shape
    for x in all { shape = shape.flatMap { Shape.broadcast($0, x.shape) } }
    guard shape != nil else { stop("\(label): shapes \(listed(inputs)) do not broadcast to one") }
    return all
  }
}

/// The sum of its inputs.
public final class Add: MergeLayer {
  public override func merged(_ inputs: [Tensor]) -> Tensor {
    let all = matched(inputs)
    return all.dropFirst().reduce(all[0], +)
  }
}

/// The first of two inputs less the second.
public final class Subtract: MergeLayer {
  public override func merged(_ inputs: [Tensor]) -> Tensor {
    let both = matched(inputs, count: 2)
    return both[0] - both[1]
  }
}

/// The product of its inputs, element by element.
public final class Multiply: MergeLayer {
  public override func merged(_ inputs: [Tensor]) -> Tensor {
    let all = matched(inputs)
    return all.dropFirst().reduce(all[0], *)
  }
}

/// The mean of its inputs.
public final class Average: MergeLayer {
  public override func merged(_ inputs: [Tensor]) -> Tensor {
    let all = matched(inputs)
    return all.dropFirst().reduce(all[0], +) / Double(all.count)
  }
}

/// The largest of its inputs, element by element.
public final class Maximum: MergeLayer {
  public override func merged(_ inputs: [Tensor]) -> Tensor {
    let all = matched(inputs)
    return all.dropFirst().reduce(all[0]) { maximum($0, $1) }
  }
}

/// The smallest of its inputs, element by element.
public final class Minimum: MergeLayer {
  public override func merged(_ inputs: [Tensor]) -> Tensor {
    let all = matched(inputs)
    return all.dropFirst().reduce(all[0]) { minimum($0, $1) }
  }
}

/// Its inputs side by side along an axis, in which alone they may differ.
public final class Concatenate: MergeLayer {
  public let axis: Int
  public init(axis: Int = -1) { self.axis = axis }

  public override func merged(_ inputs: [Tensor]) -> Tensor {
    let rank = inputs[0].rank
    let i = axis < 0 ? axis + rank : axis
    let fit = inputs.allSatisfy { x in
      x.rank == rank && (0..<rank).allSatisfy { $0 == i || x.shape[$0] == inputs[0].shape[$0] }
    }
    guard (1..<Swift.max(rank, 1)).contains(i), fit else {
      stop("\(label): shapes \(listed(inputs)) differ beside axis \(axis), or have no such axis after the batch")
    }
    return concatenate(inputs, axis: i)
  }

  override var arguments: String { axis == -1 ? "" : "axis: \(axis)" }
}

/// The products of two inputs for each sample, summed over one axis of each: with `axes: (1, 2)` [batch, a, b], [batch, c, a] →
/// [batch, b, c]; of two vectors per sample [batch, 1].
public final class Dot: MergeLayer {
  public let axes: (Int, Int)
  /// Whether vectors along the axis are divided by their lengths first, so that products are cosines.
  public let normalize: Bool

  public convenience init(axes: Int, normalize: Bool = false) { self.init(axes: (axes, axes), normalize: normalize) }
  public init(axes: (Int, Int), normalize: Bool = false) { (self.axes, self.normalize) = (axes, normalize) }

  public override func merged(_ inputs: [Tensor]) -> Tensor {
    guard inputs.count == 2 else { stop("\(label): takes 2 inputs, got \(inputs.count)") }
    var (a, b) = (inputs[0], inputs[1])
    let i = axes.0 < 0 ? axes.0 + a.rank : axes.0
    let j = axes.1 < 0 ? axes.1 + b.rank : axes.1
    guard a.rank >= 2, b.rank >= 2, (1..<a.rank).contains(i), (1..<b.rank).contains(j), a.shape[i] == b.shape[j] else {
      stop("\(label): axes \(axes.0) and \(axes.1) of shapes \(listed(inputs)) are no dimensions of equal size after the batch")
    }
    if normalize { (a, b) = (unitVectors(a, axes: [i]), unitVectors(b, axes: [j])) }
    let left = a.movedAxis(i, to: -1).reshaped([a.shape[0], -1, a.shape[i]])
    let right = b.movedAxis(j, to: 1).reshaped([b.shape[0], b.shape[j], -1])
    func others(_ shape: Shape, _ axis: Int) -> [Int] { (1..<shape.count).filter { $0 != axis }.map { shape[$0] } }
    let free = others(a.shape, i) + others(b.shape, j)
    return left.matmul(right).reshaped([a.shape[0]] + (free.isEmpty ? [1] : free))
  }

  override var arguments: String { "axes: (\(axes.0), \(axes.1))" + (normalize ? ", normalize: true" : "") }
}
