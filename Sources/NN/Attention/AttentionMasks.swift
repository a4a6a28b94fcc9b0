import ApusTensor

/// What hides keys, of all kinds, as one mask of scores.
struct AttentionMasks {
  let causal: Bool
  private let label: String
  /// True, or added, as PyTorch has it: true hides.
  private let keyPadding, attention: Tensor?
  /// True where a key is seen, or added.
  private let mask: Tensor?

  init(_ module: Module, _ keyPadding: Tensor?, _ attention: Tensor?, _ mask: Tensor?, _ causal: Bool) {
    label = module.label
    (self.keyPadding, self.attention, self.mask, self.causal) = (keyPadding, attention, mask, causal)
  }

  /// Broadcast to [batch, heads, queries, keys + added]: bool, true where a key is seen, or what is added; nil if nothing is hidden.
  /// - Parameter added: keys that all see, after the others.
  func combined(_ batch: Int, _ heads: Int, _ queries: Int, _ keys: Int, added: Int, causal: Bool) -> Tensor? {
    var parts: [Tensor] = []
    if let keyPadding {
      guard keyPadding.shape == [batch, keys] else {
        stop("\(label): keyPaddingMask has shape \(keyPadding.shape), expected \([batch, keys]): [batch, keys]")
      }
      parts.append(seen(keyPadding, "keyPaddingMask").reshaped([batch, 1, 1, keys]))
    }
    if let attention {
      guard attention.shape == [queries, keys] || attention.shape == [batch * heads, queries, keys] else {
        stop(
          "\(label): attnMask has shape \(attention.shape), expected \([queries, keys]) or \([batch * heads, queries, keys]): [queries, keys] or [batch · heads, queries, keys]"
        )
      }
      let own = seen(attention, "attnMask")
      parts.append(own.reshaped(own.rank == 2 ? [1, 1, queries, keys] : [batch, heads, queries, keys]))
    }
    if let mask {
      let scores = Shape([batch, heads, queries, keys])
      guard Shape.broadcast(mask.shape, scores) == scores else {
        stop("\(label): a mask of shape \(mask.shape) does not broadcast to scores of shape \(scores)")
      }
      parts.append(mask.reshaped(Array(repeating: 1, count: 4 - mask.rank) + Array(mask.shape)))
    }
    if causal {
      let (row, column) = (Tensor.arange(queries).expanded(at: 1), Tensor.arange(keys).expanded(at: 0))
      parts.append((column .<= row + (keys - queries)).reshaped([1, 1, queries, keys]))
    }
    guard var whole = parts.first else { return nil }
    for part in parts.dropFirst() {
      whole =
        whole.elementType == .bool && part.elementType == .bool
        ? whole .& part : Self.score(whole, like: part) + Self.score(part, like: whole)
    }
    if added == 0 { return whole }
    // Bool and numbers alike: the others are seen.
    var shape = Array(whole.shape)
    if shape[3] != keys { shape[3] = keys }
    let all = whole.broadcast(to: Shape(shape))
    shape[3] = added
    let others = all.elementType == .bool ? Tensor.ones(Shape(shape), .bool) : Tensor.zeros(Shape(shape), all.elementType)
    return concatenate([all, others], axis: 3)
  }

  /// A mask of PyTorch's: its bool hides.
  private func seen(_ mask: Tensor, _ name: String) -> Tensor {
    guard mask.elementType == .bool || mask.elementType.isFloatingPoint else {
      stop("\(label): \(name) must be bool or floating point, got \(mask.type)")
    }
    return mask.elementType == .bool ? .!mask : mask
  }

  /// What a mask adds to the scores.
  fileprivate static func score(_ mask: Tensor, like other: Tensor) -> Tensor {
    guard mask.elementType == .bool else { return mask }
    let type = other.elementType.isFloatingPoint ? other.elementType : .float32
    return `where`(mask, Tensor.zeros(mask.shape, type), -Double.infinity)
  }
}
