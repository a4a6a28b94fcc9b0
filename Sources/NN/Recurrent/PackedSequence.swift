import ApusTensor

/// Sequences of different lengths without padding: all first steps, then all second ones …, the longest sequence first; PyTorch's
/// PackedSequence.
///
/// Lengths are numbers of Swift's here, so a compiled program is made for them; ``LSTM`` and the others also take padded sequences
/// with `lengths` as a tensor, which may differ from run to run.
public struct PackedSequence {
  /// [sum of all lengths, …].
  public let data: Tensor
  /// How many sequences have a first step, a second step …
  public let batchSizes: [Int]
  /// Which sequence, as they were given, comes first, second … here.
  public let sortedIndices: [Int]
  /// Where each sequence, as they were given, is here.
  public let unsortedIndices: [Int]

  /// Of each sequence, in the order in which they were given.
  public var lengths: [Int] {
    unsortedIndices.map { place in batchSizes.reduce(0) { $0 + ($1 > place ? 1 : 0) } }
  }

  /// Where each step of each sequence is in data; by step, then by sequence as given. Padding: the place after the last.
  fileprivate func places(_ steps: Int) -> [Int] {
    var places = [Int](repeating: data.shape[0], count: steps * sortedIndices.count)
    var start = 0
    for (step, size) in batchSizes.enumerated() {
      for row in 0..<size { places[step * sortedIndices.count + sortedIndices[row]] = start + row }
      start += size
    }
    return places
  }

  /// Padded values of these sequences, packed as these are.
  func packing(_ padded: Tensor, batchFirst: Bool) -> PackedSequence {
    PackedSequence(
      data: packed(padded, batchFirst, batchSizes, sortedIndices), batchSizes: batchSizes, sortedIndices: sortedIndices,
      unsortedIndices: unsortedIndices)
  }
}

private func packed(_ x: Tensor, _ batchFirst: Bool, _ batchSizes: [Int], _ order: [Int]) -> Tensor {
  let steps = batchFirst ? x.transposed(0, 1) : x
  let indices = batchSizes.enumerated().flatMap { step, size in order[..<size].map { step * order.count + $0 } }
  return steps.flattened(from: 0, to: 1).take(Tensor(indices, shape: [indices.count]))
}

/// Takes the padding away; PyTorch's pack_padded_sequence.
/// - Parameters:
///   - x: [steps, batch, …], or [batch, steps, …] if `batchFirst`.
///   - lengths: at least 1 and at most `steps` each.
///   - enforceSorted: the lengths must not grow, as some exports need it.
public func packPadded(
  _ x: Tensor, lengths: [Int], batchFirst: Bool = false, enforceSorted: Bool = true
) -> PackedSequence {
  guard x.rank >= 2 else { stop("packPadded: takes [steps, batch, …], got shape \(x.shape)") }
  let (steps, batch) = batchFirst ? (x.shape[1], x.shape[0]) : (x.shape[0], x.shape[1])
  guard lengths.count == batch else { stop("packPadded: \(lengths.count) lengths for \(batch) sequences, shape \(x.shape)") }
  for (i, length) in lengths.enumerated() where length < 1 || length > steps {
    stop("packPadded: length \(length) of sequence \(i) is not within 1 and \(steps)")
  }
  if enforceSorted, let i = lengths.indices.dropFirst().first(where: { lengths[$0] > lengths[$0 - 1] }) {
    stop("packPadded: lengths must not grow, but \(lengths[i - 1]) is followed by \(lengths[i]); or pass enforceSorted: false")
  }
  // Equal lengths keep their order.
  let order = lengths.indices.sorted { lengths[$0] != lengths[$1] ? lengths[$0] > lengths[$1] : $0 < $1 }
  var places = order
  for (place, sequence) in order.enumerated() { places[sequence] = place }
  let sizes = (0..<(lengths.max() ?? 0)).map { step in lengths.reduce(0) { $0 + ($1 > step ? 1 : 0) } }
  return PackedSequence(
    data: packed(x, batchFirst, sizes, order), batchSizes: sizes, sortedIndices: order, unsortedIndices: places)
}

/// Puts padding in; PyTorch's pad_packed_sequence.
/// - Parameter totalLength: the number of steps, if more than the longest sequence has.
/// - Returns: [steps, batch, …] (or batch first), sequences in the order in which they were given, and their lengths.
public func padPacked(
  _ x: PackedSequence, batchFirst: Bool = false, paddingValue: Double = 0, totalLength: Int? = nil
) -> (padded: Tensor, lengths: [Int]) {
  let steps = totalLength ?? x.batchSizes.count
  guard steps >= x.batchSizes.count else {
    stop("padPacked: a total length of \(steps), but a sequence has \(x.batchSizes.count) steps")
  }
  let rest = Array(x.data.shape.dropFirst())
  let padding = Tensor.full(Shape([1] + rest), paddingValue, x.data.elementType)
  let places = x.places(steps)
  let rows = concatenate([x.data, padding]).take(Tensor(places, shape: [places.count]))
  let padded = rows.reshaped([steps, x.sortedIndices.count] + rest)
  return (batchFirst ? padded.transposed(0, 1) : padded, x.lengths)
}

/// Sequences [length, …] of different lengths as one tensor; PyTorch's pad_sequence.
/// - Returns: [longest length, count, …], or with the first two exchanged if `batchFirst`.
public func padSequence(_ sequences: [Tensor], batchFirst: Bool = false, paddingValue: Double = 0) -> Tensor {
  guard let first = sequences.first,
    sequences.allSatisfy({ $0.rank >= 1 && Array($0.shape.dropFirst()) == Array(first.shape.dropFirst()) })
  else {
    stop("padSequence: takes sequences [length, …] alike but for their lengths, got shapes \(sequences.map(\.shape))")
  }
  let longest = sequences.map { $0.shape[0] }.max() ?? 0
  let padded = sequences.map { x in
    x.padded(
      [(before: 0, after: longest - x.shape[0])] + x.shape.dropFirst().map { _ in (before: 0, after: 0) }, value: paddingValue)
  }
  return stack(padded, axis: batchFirst ? 0 : 1)
}

/// Sequences [length, …], packed; PyTorch's pack_sequence.
public func packSequence(_ sequences: [Tensor], enforceSorted: Bool = true) -> PackedSequence {
  packPadded(padSequence(sequences), lengths: sequences.map { $0.shape[0] }, enforceSorted: enforceSorted)
}

/// The sequences without their padding, each [length, …]; PyTorch's unpad_sequence.
public func unpadSequence(_ x: Tensor, lengths: [Int], batchFirst: Bool = false) -> [Tensor] {
  let axis = batchFirst ? 0 : 1
  guard x.rank >= 2, lengths.count == x.shape[axis], lengths.allSatisfy({ $0 >= 0 && $0 <= x.shape[1 - axis] }) else {
    stop("unpadSequence: lengths \(lengths) do not go with a shape \(x.shape)")
  }
  return zip(x.unstacked(axis: axis), lengths).map { $0.split([$1, $0.shape[0] - $1])[0] }
}
