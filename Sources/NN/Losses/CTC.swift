import ApusTensor

/// −log of the probability of a sequence of labels, summed over all its alignments with a longer sequence of frames:
/// PyTorch's `ctc_loss` (Graves et al. 2006, connectionist temporal classification).
///
/// The forward sums and, for the gradient, the backward sums are scans over time of operations over the whole batch and all
/// labels. As PyTorch's, the gradient is that by the logits behind the log-probabilities: input and gradient of a log-softmax.
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
  /// The class of each state: int64 [batch, states]; and whether the state two before may come right before it.
  let classOfState, skips: Tensor
  /// Which state is the last one, as a mask [batch, states]; and which is the first.
  let last, first: Tensor
  let frameCounts: Tensor
  let frames, classes: Int
  /// Whether all frames of all samples count, as far as is known now.
  let isFull: Bool

  /// Stands for log 0: finite, so that differences stay numbers.
  static let never = -1e30

  init(_ labels: Tensor, _ labelCounts: Tensor, _ frameCounts: Tensor, frames: Int, classes: Int, blank: Int) {
    let (batch, room) = (labels.shape[0], labels.shape[1])
    let states = 2 * room + 1
    (self.frames, self.classes) = (frames, classes)
    // What fills up a row is no label.
    let isLabel = Tensor.arange(room) .< labelCounts.expanded(at: 1)
    let checked = `where`(isLabel, `where`(labels .< 0, classes, labels), blank)
    let pairs = stack([Tensor.full([batch, room], blank, .int64), checked], axis: 2).reshaped(batch, 2 * room)
    classOfState = concatenate([pairs, Tensor.full([batch, 1], blank, .int64)], axis: 1)
    let before = classOfState.padded([(0, 0), (2, 0)], value: blank)[0..., ..<states]
    skips = (classOfState .!= blank) .& (classOfState .!= before)
    let places = Tensor.arange(states).expanded(at: 0)
    last = places .== labelCounts.expanded(at: 1) * 2
    first = (places .== 0).broadcast(to: [batch, states])
    self.frameCounts = minimum(frameCounts, frames)
    isFull = frameCounts.isConcrete && frameCounts.elements(as: Int.self).allSatisfy { $0 == frames }
  }

  /// - Parameter x: log-probabilities [time, batch, classes].
  /// - Returns: [batch].
  func loss(_ x: Tensor, zeroInfinity: Bool) -> Tensor {
    customGradient([x], name: "ctcLoss") { inputs in
      let forward = withoutGradient { alphas(inputs[0]) }
      let loss = withoutGradient { self.loss(of: forward.last) }
      let isImpossible = isInfinite(loss)
      return (
        zeroInfinity ? `where`(isImpossible, 0, loss) : loss,
        { dy in
          // With gradients of gradients the sums belong to the history.
          let sums = isRecording ? alphas(x) : forward
          let share = posterior(x, sums.all, nll: isRecording ? self.loss(of: sums.last) : loss)
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

  /// The log-probability of each state's class at each frame: [time, batch, states].
  private func emissions(_ x: Tensor) -> Tensor {
    let places = classOfState.expanded(at: 0).broadcast(to: Shape([frames] + Array(classOfState.shape)))
    return maximum(x.gather(axis: 2, indices: places), Self.never)
  }

  private func start(_ mask: Tensor, _ type: ElementType) -> Tensor {
    `where`(mask, Tensor.zeros(mask.shape, type), Self.never)
  }

  /// log of the sum over alignments of the frames so far that end in a state: after the last frame [batch, states], and after
  /// each [time, batch, states].
  private func alphas(_ x: Tensor) -> (last: Tensor, all: Tensor) {
    let penalty = skipPenalty(skips, x.elementType)
    let result = scan(start(first, x.elementType), over: [emissions(x), counted]) { (sum: Tensor, frame: [Tensor]) in
      let next = frame[0] + Self.sum(sum, shifted(sum, by: 1), shifted(sum, by: 2) + penalty)
      let kept = isFull ? next : `where`(frame[1].expanded(at: 1), next, sum)
      return (kept, kept)
    }
    return (result.state, result.outputs)
  }

  /// −log of the probability of all alignments, which end in the last blank or the last label: [batch].
  private func loss(of sums: Tensor) -> Tensor {
    let ends = last .| (shifted(last.converted(to: .int64), by: -1, filler: 0) .!= 0)
    let total = `where`(ends, sums, Self.never)
    let top = total.max(axis: 1, keepDims: true).detached()
    let loss = -(log(exp(total - top).sum(axis: 1)) + top.squeezed(1))
    return `where`(loss .> -0.5 * Self.never, Double.infinity, loss)
  }

  /// The probability of each class at each frame, given the labels: [time, batch, classes].
  private func posterior(_ x: Tensor, _ alphas: Tensor, nll: Tensor) -> Tensor {
    let emissions = emissions(x)
    // From a state two further on, where that may come right after this one.
    let penalty = shifted(skipPenalty(skips, x.elementType), by: -2)
    let betas = scan(start(last, x.elementType), over: [emissions, counted], reverse: true) { (sum: Tensor, frame: [Tensor]) in
      let next = frame[0] + Self.sum(sum, shifted(sum, by: -1), shifted(sum, by: -2) + penalty)
      let kept = isFull ? next : `where`(frame[1].expanded(at: 1), next, sum)
      return (kept, kept)
    }.outputs
    // Both sums hold the emission at the frame.
    let share = exp(alphas + betas - emissions + `where`(isInfinite(nll), 0, nll).expanded(at: 0).expanded(at: 2))
    let places = classOfState.expanded(at: 0).broadcast(to: share.shape)
    return Tensor.zeros([frames, x.shape[1], classes], x.elementType).scatterAdd(axis: 2, indices: places, values: share)
  }

  private func skipPenalty(_ skips: Tensor, _ type: ElementType) -> Tensor {
    `where`(skips, Tensor.zeros(skips.shape, type), Self.never)
  }

  /// Each row moved to the right (to the left if negative).
  private func shifted(_ x: Tensor, by shift: Int, filler: Double = never) -> Tensor {
    if abs(shift) >= x.shape[1] { return Tensor.full(x.shape, filler, x.elementType) }
    return x.padded([(0, 0), (shift, -shift)], value: filler)
  }

  /// log(eᵃ + eᵇ + eᶜ).
  private static func sum(_ a: Tensor, _ b: Tensor, _ c: Tensor) -> Tensor {
    let top = maximum(maximum(a, b), c).detached()
    return log(exp(a - top) + exp(b - top) + exp(c - top)) + top
  }
}
