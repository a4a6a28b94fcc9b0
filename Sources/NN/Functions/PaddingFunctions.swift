import ApusTensor

/// What stands outside of a tensor where ``pad(_:_:mode:value:)`` reads beyond its ends.
public enum PaddingMode: Sendable, Hashable, CaseIterable {
  /// One value.
  case constant
  /// The tensor mirrored at its outermost elements, which are not repeated: c b | a b c | b a.
  case reflect
  /// The outermost elements: a a | a b c | c c.
  case replicate
  /// The tensor again, from its other end: b c | a b c | a b.
  case circular
}

/// A larger tensor with `x` in it (PyTorch's `nn.functional.pad`).
/// - Parameters:
///   - padding: for each dimension, **the last one first**, how many elements come before and after it: [left, right, top,
///     bottom] for the last two. Dimensions that are not named stay. With a constant, negative numbers crop.
///   - value: the constant.
public func pad(_ x: Tensor, _ padding: [Int], mode: PaddingMode = .constant, value: some TensorScalar = 0) -> Tensor {
  guard padding.count % 2 == 0, padding.count <= 2 * x.rank else {
    stop("pad: \(padding) is not a pair of numbers for each of up to \(x.rank) dimensions, for a tensor of shape \(x.shape)")
  }
  var pairs = Array(repeating: (before: 0, after: 0), count: x.rank)
  for i in 0..<(padding.count / 2) { pairs[x.rank - 1 - i] = (padding[2 * i], padding[2 * i + 1]) }
  if pairs.allSatisfy({ $0 == (0, 0) }) { return x }
  if mode == .constant {
    guard zip(pairs, x.shape).allSatisfy({ $0.before + $0.after + $1 >= 0 }) else {
      stop("pad: \(padding) takes more than there is from a tensor of shape \(x.shape)")
    }
    return x.padded(pairs, value: value)
  }
  var result = x
  for axis in (0..<x.rank).reversed() where pairs[axis] != (0, 0) {
    let (before, after) = pairs[axis]
    let size = x.shape[axis]
    let limit =
      switch mode {
      case .reflect: size - 1
      case .circular: size
      case .replicate, .constant: size > 0 ? Int.max : 0
      }
    guard before >= 0, after >= 0, before <= limit, after <= limit else {
      stop(
        "pad: mode .\(mode) takes 0 to \(limit == .max ? "any number of" : "\(limit)") elements for dimension \(axis) of shape "
          + "\(x.shape), got \(before) and \(after)")
    }
    result = padded(result, axis, before, after, mode)
  }
  return result
}

private func padded(_ x: Tensor, _ axis: Int, _ before: Int, _ after: Int, _ mode: PaddingMode) -> Tensor {
  let size = x.shape[axis]
  func part(_ start: Int, _ count: Int) -> Tensor { x.sliced(axis: axis, start: start, count: count) }
  func repeated(_ start: Int, _ count: Int) -> Tensor {
    var shape = x.shape
    shape[axis] = count
    return part(start, 1).broadcast(to: shape)
  }
  var pieces: [Tensor] = []
  if before > 0 {
    switch mode {
    case .reflect: pieces.append(part(1, before).reversed(axis))
    case .circular: pieces.append(part(size - before, before))
    case .replicate, .constant: pieces.append(repeated(0, before))
    }
  }
  pieces.append(x)
  if after > 0 {
    switch mode {
    case .reflect: pieces.append(part(size - 1 - after, after).reversed(axis))
    case .circular: pieces.append(part(0, after))
    case .replicate, .constant: pieces.append(repeated(size - 1, after))
    }
  }
  return concatenate(pieces, axis: axis)
}
