import ApusTensor

/// −log of the probability of a sequence of labels, summed over all its alignments with a longer sequence of frames:
/// PyTorch's `ctc_loss` (Graves et al. 2006, connectionist temporal classification).
///
/// The forward sums and, for the gradient, the backward sums are one scan over time of operations over the whole batch and all
/// labels, in logarithms. As PyTorch's, the gradient is that by the logits behind the log-probabilities: input and gradient of a log-softmax.
///
/// - Parameters:
///   - logProbs: log-probabilities [time, batch, classes], outputs of `logSoftmax`, or [time, classes].
///   - targets: classes, integers without `blank`: [batch, labels], rows filled up with anything; or all samples' labels one
///     after the other [Σ target lengths]; or [labels] for one sample without a batch dimension.
///   - inputLengths: how many frames of each sample count [batch], or [].
///   - targetLengths: how many labels each sample has [batch], or [].
///   - blank: the class between labels.
///   - reduction: `.mean` divides each sample's loss by its target length before the mean over the batch.
///   - zeroInfinity: samples without any alignment (too few frames) count 0 and have no gradient, instead of ∞.
/// - Returns: a scalar; with `.none` [batch]. A label that names no class, or a length that does not fit, stops the program
///   with its index. Inside of a compiled function labels are checked when it runs; lengths are not: a longer one counts as
///   the longest there can be.
public func ctcLoss(
  _ logProbs: Tensor, _ targets: Tensor, inputLengths: Tensor, targetLengths: Tensor, blank: Int = 0,
  reduction: Reduction = .mean, zeroInfinity: Bool = false
) -> Tensor {
  guard logProbs.elementType.isFloatingPoint, logProbs.rank == 3 || logProbs.rank == 2 else {
    stop("ctcLoss: takes log-probabilities [time, batch, classes] or [time, classes], got \(logProbs.type)")
  }
  let hasBatch = logProbs.rank == 3
  let x = hasBatch ? logProbs : logProbs.expanded(at: 1)
  let (frames, batch, classes) = (x.shape[0], x.shape[1], x.shape[2])
  guard (0..<classes).contains(blank) else { stop("ctcLoss: blank \(blank) names no class; there are \(classes)") }
  func lengths(_ lengths: Tensor, _ what: String) -> Tensor {
    guard lengths.elementType.isInteger, lengths.shape == [batch] || (!hasBatch && lengths.rank == 0) else {
      stop("ctcLoss: \(what) must be integers [\(hasBatch ? "\(batch)" : "")], got \(lengths.type)")
    }
    return lengths.converted(to: .int64).reshaped([batch])
  }
  let frameCounts = lengths(inputLengths, "inputLengths")
  let labelCounts = lengths(targetLengths, "targetLengths")
  check(frameCounts, "input length", 0...frames)
  let labels = rows(of: targets, labelCounts, batch, hasBatch: hasBatch)
  let labelRoom = labels.shape[1]
  check(labelCounts, "target length", 0...labelRoom)
  if labels.isConcrete && labelCounts.isConcrete {
    let counts = labelCounts.elements(as: Int.self)
    for (i, label) in labels.elements(as: Int.self).enumerated()
    where i % labelRoom < counts[i / labelRoom] && !(0..<classes).contains(label) {
      stop("ctcLoss: label \(label) at index \(i % labelRoom) of sample \(i / labelRoom) names no class; there are \(classes)")
    }
  }
  let alignment = Alignment(
    labels, minimum(labelCounts, labelRoom), frameCounts, frames: frames, classes: classes, blank: blank)
  // Sums of many small numbers: half precision would lose them.
  let wide = x.converted(to: x.elementType == .float64 ? .float64 : .float32)
  var loss = alignment.loss(wide, zeroInfinity: zeroInfinity).converted(to: logProbs.elementType)
  switch reduction {
  case .mean:
    loss = loss / maximum(labelCounts, 1).converted(to: loss.elementType)
    return loss.mean()
  case .sum, .batchMean: return reduction(loss)
  case .none: return hasBatch ? loss : loss.reshaped([])
  }
}

/// Keras's `ctc`: ``ctcLoss(_:_:inputLengths:targetLengths:blank:reduction:zeroInfinity:)`` of logits whose frames all count.
/// - Parameters:
///   - input: logits [batch, time, classes].
///   - target: classes, integers [batch, labels], each row filled up with 0, which is also the blank.
/// - Returns: the plain mean over samples; with `.none` [batch].
public func ctc(_ input: Tensor, _ target: Tensor, reduction: Reduction) -> Tensor {
  guard input.rank == 3, input.elementType.isFloatingPoint, target.rank == 2, target.elementType.isInteger,
    target.shape[0] == input.shape[0]
  else { stop("ctc: takes logits [batch, time, classes] and labels [batch, labels], got \(input.type) and \(target.type)") }
  let losses = ctcLoss(
    logSoftmax(input.movedAxis(1, to: 0)), target,
    inputLengths: Tensor.full([input.shape[0]], input.shape[1], .int64), targetLengths: (target .!= 0).sum(axis: 1),
    reduction: .none)
  return reduction(losses)
}
public func ctc(_ input: Tensor, _ target: Tensor) -> Tensor { ctc(input, target, reduction: .mean) }

private func check(_ lengths: Tensor, _ what: String, _ range: ClosedRange<Int>) {
  guard lengths.isConcrete else { return }
  for (i, length) in lengths.elements(as: Int.self).enumerated() where !range.contains(length) {
    stop("ctcLoss: \(what) \(length) at index \(i) is not in \(range.lowerBound) … \(range.upperBound)")
  }
}

/// The labels as rows, int64 [batch, labels].
private func rows(of targets: Tensor, _ counts: Tensor, _ batch: Int, hasBatch: Bool) -> Tensor {
  guard targets.elementType.isInteger else { stop("ctcLoss: targets must be integers (classes), got \(targets.type)") }
  let labels = targets.converted(to: .int64)
  if labels.rank == 1 && !hasBatch { return labels.expanded(at: 0) }
  if labels.rank == 2 && labels.shape[0] == batch { return labels }
  guard labels.rank == 1 else {
    stop("ctcLoss: targets must be [\(batch), labels] or one after the other [Σ target lengths], got shape \(targets.shape)")
  }
  // How long the longest row is only values say; where there are none yet, each has room for all.
  var room = labels.count
  if counts.isConcrete {
    let total = counts.sum().item(as: Int.self)
    guard total == labels.count else {
      stop("ctcLoss: there are \(labels.count) labels, but the target lengths add up to \(total)")
    }
    room = counts.count == 0 ? 0 : counts.max().item(as: Int.self)
  }
  if labels.count == 0 { return Tensor.zeros([batch, 0], .int64) }
  let starts = counts.cumulativeSum(axis: 0, exclusive: true).expanded(at: 1)
  return labels.take(minimum(starts + Tensor.arange(room), labels.count - 1))
}

/// All ways of laying a sequence of labels along frames: at each frame one of the states blank, label 1, blank, label 2, …, blank.
private struct Alignment {
  /// The class of each state: int64 [batch, states].
  let classOfState: Tensor
  /// How many frames and labels each sample has: [batch].
  let frameCounts, labelCounts: Tensor
  let frames, classes, blank: Int
  /// Whether all frames of all samples count, as far as is known now.
  let isFull: Bool

  /// Stands for log 0: finite, so that differences stay numbers.
  static let never = -1e30

  init(_ labels: Tensor, _ labelCounts: Tensor, _ frameCounts: Tensor, frames: Int, classes: Int, blank: Int) {
    let (batch, room) = (labels.shape[0], labels.shape[1])
    (self.frames, self.classes, self.blank) = (frames, classes, blank)
    // What fills up a row is no label.
    let isLabel = Tensor.arange(room) .< labelCounts.expanded(at: 1)
    let checked = `where`(isLabel, `where`(labels .< 0, classes, labels), blank)
    let pairs = stack([Tensor.full([batch, room], blank, .int64), checked], axis: 2).reshaped(batch, 2 * room)
    classOfState = concatenate([pairs, Tensor.full([batch, 1], blank, .int64)], axis: 1)
    self.labelCounts = labelCounts
    self.frameCounts = minimum(frameCounts, frames)
    isFull = frameCounts.isConcrete && frameCounts.elements(as: Int.self).allSatisfy { $0 == frames }
  }

  /// - Parameter x: log-probabilities [time, batch, classes].
  /// - Returns: [batch].
  func loss(_ x: Tensor, zeroInfinity: Bool) -> Tensor {
    customGradient([x], name: "ctcLoss") { inputs in
      let isWanted = isRecording && x.isTracked
      let (last, all) = withoutGradient { sums(inputs[0], both: isWanted) }
      let loss = withoutGradient { self.loss(of: last) }
      let isImpossible = isInfinite(loss)
      return (
        zeroInfinity ? `where`(isImpossible, 0, loss) : loss,
        { dy in
          // With gradients of gradients the sums belong to the history.
          let again = isRecording ? sums(x, both: true) : (last, all)
          let share = posterior(again.1, nll: isRecording ? self.loss(of: again.0) : loss)
          var slope = exp(x) - share
          if !zeroInfinity { slope = `where`(isImpossible.expanded(at: 0).expanded(at: 2), Double.nan, slope) }
          slope = slope * dy.expanded(at: 0).expanded(at: 2)
          var counts = counted.expanded(at: 2)
          if zeroInfinity { counts = counts .& .!isImpossible.expanded(at: 0).expanded(at: 2) }
          return [`where`(counts, slope, 0)]
        }
      )
    }
  }

  /// Which frames of each sample count: [time, batch].
  private var counted: Tensor { Tensor.arange(frames).expanded(at: 1) .< frameCounts.expanded(at: 0) }

  /// Each sample's last state: [batch, 1].
  private var lastState: Tensor { labelCounts.expanded(at: 1) * 2 }
  private var states: Tensor { Tensor.arange(classOfState.shape[1]).expanded(at: 0) }

  /// Sums over alignments, in logarithms, along the frames, and backwards along them: the latter are the former of the reversed
  /// labels along the reversed frames, so that one loop finds both.
  /// - Returns: after the last frame over alignments that end in a state, [batch, states]; and after each frame, with the emission
  ///   at it: [emissions, forward sums, backward sums], each [time, batch, states], of which the last is absent if not wanted.
  private func sums(_ x: Tensor, both: Bool) -> (last: Tensor, all: [Tensor]) {
    let batch = x.shape[1]
    let places = classOfState.expanded(at: 0).broadcast(to: Shape([frames] + Array(classOfState.shape)))
    let emissions = maximum(x.gather(axis: 2, indices: places), Self.never)
    guard both else {
      let (last, all) = scanned(emissions, classOfState, counted)
      return (last, [emissions, all])
    }
    let order = `where`(states .<= lastState, lastState - states, states)
    let (last, all) = scanned(
      concatenate([emissions, backwards(emissions, order)], axis: 1),
      concatenate([classOfState, classOfState.gather(axis: 1, indices: order)], axis: 0),
      isFull ? counted : concatenate([counted, counted], axis: 1))
    let parts = all.split([batch, batch], axis: 1)
    return (last[..<batch], [emissions, parts[0], backwards(parts[1], order)])
  }

  /// With the frames that count, and the states in use, in reverse order.
  private func backwards(_ x: Tensor, _ order: Tensor) -> Tensor {
    let turned = x.gather(axis: 2, indices: order.expanded(at: 0).broadcast(to: x.shape))
    if isFull { return turned.reversed(0) }
    let time = Tensor.arange(frames).expanded(at: 1)
    let places = `where`(counted, frameCounts.expanded(at: 0) - 1 - time, time)
    return turned.gather(axis: 0, indices: places.expanded(at: 2).broadcast(to: x.shape))
  }

  private func scanned(_ emissions: Tensor, _ classOfState: Tensor, _ counted: Tensor) -> (Tensor, Tensor) {
    let type = emissions.elementType
    // A label may follow on the one before it without a blank between them, unless it is the same.
    let before = shifted(classOfState, by: 2, filler: Double(blank))
    let isFree = (classOfState .!= blank) .& (classOfState .!= before)
    let penalty = `where`(isFree, Tensor.zeros(isFree.shape, type), Self.never)
    // Before the first frame all is in the first state.
    let start = `where`((states .== 0).broadcast(to: isFree.shape), Tensor.zeros(isFree.shape, type), Self.never)
    return scan(start, over: isFull ? [emissions] : [emissions, counted]) { (sum: Tensor, frame: [Tensor]) in
      let (b, c) = (shifted(sum, by: 1), shifted(sum, by: 2) + penalty)
      let top = maximum(maximum(sum, b), c).detached()
      let next = log(exp(sum - top) + exp(b - top) + exp(c - top)) + top + frame[0]
      let kept = isFull ? next : `where`(frame[1].expanded(at: 1), next, sum)
      return (kept, kept)
    }
  }

  /// Each row moved to the right.
  private func shifted(_ x: Tensor, by shift: Int, filler: Double = never) -> Tensor {
    if shift >= x.shape[1] { return Tensor.full(x.shape, filler, x.elementType) }
    return x.padded([(0, 0), (shift, -shift)], value: filler)
  }

  /// −log of the probability of all alignments, which end in the last blank or the last label: [batch].
  private func loss(of sums: Tensor) -> Tensor {
    let ends = (states .== lastState) .| (states .== lastState - 1)
    let total = `where`(ends, sums, Self.never)
    let top = total.max(axis: 1, keepDims: true).detached()
    let loss = -(log(exp(total - top).sum(axis: 1)) + top.squeezed(1))
    return `where`(loss .> -0.5 * Self.never, Double.infinity, loss)
  }

  /// The probability of each class at each frame, given the labels: [time, batch, classes].
  private func posterior(_ sums: [Tensor], nll: Tensor) -> Tensor {
    let (emissions, forward, backward) = (sums[0], sums[1], sums[2])
    // Both sums hold the emission at the frame.
    let logarithms = forward + backward - emissions + `where`(isInfinite(nll), 0, nll).expanded(at: 0).expanded(at: 2)
    let counts = counted.expanded(at: 2) .& (states .<= lastState).expanded(at: 0)
    let share = exp(`where`(counts, logarithms, Self.never))
    let places = classOfState.expanded(at: 0).broadcast(to: share.shape)
    return Tensor.zeros([frames, share.shape[1], classes], share.elementType).scatterAdd(axis: 2, indices: places, values: share)
  }
}
