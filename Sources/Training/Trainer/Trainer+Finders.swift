import ApusData
import ApusFormats
import ApusNN
import ApusTensor

/// Losses at rising learning rates: what a learning rate finder has found.
public struct LearningRateSearch: Sendable {
  public let learningRates: [Double]
  /// Smoothed by a moving average of 0.98.
  public let losses: [Double]

  /// The learning rate at which the loss falls most steeply; nil if there are too few points.
  /// - Parameters:
  ///   - skipBegin, skipEnd: points that are not looked at.
  public func suggestion(skipBegin: Int = 10, skipEnd: Int = 1) -> Double? {
    guard losses.count - skipBegin - skipEnd >= 2 else { return nil }
    let indices = (skipBegin..<(losses.count - skipEnd)).filter { losses[$0].isFinite }
    guard indices.count >= 2 else { return nil }
    // As numpy.gradient: half the difference of the neighbours, at the ends the difference to the only one.
    func slope(_ k: Int) -> Double {
      let (a, b) = (max(0, k - 1), min(indices.count - 1, k + 1))
      return (losses[indices[b]] - losses[indices[a]]) / Double(b - a)
    }
    return indices.indices.min { slope($0) < slope($1) }.map { learningRates[indices[$0]] }
  }
}

/// How a finder's learning rates rise.
public enum LearningRateRise: Sendable { case exponential, linear }

extension Trainer {
  /// Trains for some batches with rising learning rates, and puts everything back: Lightning's learning rate finder (Smith 2017).
  ///
  /// - Parameters:
  ///   - minimum, maximum: the first and last learning rate.
  ///   - steps: batches.
  ///   - earlyStopThreshold: end where the loss is above so many times the best one; nil: never.
  public nonisolated(nonsending) final func findLearningRate(
    _ data: any TrainingData, batchSize: Int = 32, minimum: Double = 1e-8, maximum: Double = 1, steps: Int = 100,
    rise: LearningRateRise = .exponential, earlyStopThreshold: Double? = 4
  ) async throws -> LearningRateSearch {
    await Task.yield()
    let source = data.batchSource(BatchRequest(batchSize: batchSize, shuffle: true))
    try source.checkNotEmpty("findLearningRate")
    return try searchLearningRate(source, minimum, maximum, steps, rise, earlyStopThreshold)
  }

  final func searchLearningRate(
    _ source: any BatchSource, _ minimum: Double, _ maximum: Double, _ steps: Int, _ rise: LearningRateRise,
    _ earlyStopThreshold: Double?
  ) throws -> LearningRateSearch {
    guard minimum > 0, maximum > minimum, steps > 1 else {
      throw TrainingError.invalidArgument("findLearningRate: \(steps) steps from \(minimum) to \(maximum)")
    }
    let saved = checkpoint()
    let schedule = optimizer.schedule
    if schedule != nil { optimizer.schedule = nil }
    func putBack() throws {
      if schedule != nil { optimizer.schedule = schedule }
      try restore(saved, path: "before the search")
    }
    let pass = source.pass
    var (rates, losses): ([Double], [Double]) = ([], [])
    model.train()
    do {
      var next = source.batches(pass: pass, from: 0)
      var taken = 0
      var average = 0.0
      var best = Double.infinity
      for step in 0..<steps {
        try checkCancellation()
        var batch = try next()
        if batch == nil && taken > 0 {
          next = source.batches(pass: pass, from: 0)
          batch = try next()
        }
        guard let batch else { throw TrainingError.emptyData("findLearningRate") }
        taken += 1
        let t = Double(step) / Double(steps - 1)
        let rate = rise == .linear ? minimum + (maximum - minimum) * t : minimum * power(maximum / minimum, t)
        optimizer.learningRate = rate
        let loss = try train(batch, isLast: true).item(as: Double.self)
        average = 0.98 * average + 0.02 * loss
        let smoothed = average / (1 - power(0.98, Double(step + 1)))
        rates.append(rate)
        losses.append(smoothed)
        if let earlyStopThreshold, step > 1, !(smoothed <= earlyStopThreshold * best) { break }
        best = min(best, smoothed)
      }
    } catch {
      try putBack()
      throw error
    }
    try putBack()
    return LearningRateSearch(learningRates: rates, losses: losses)
  }

  /// How batch sizes are tried.
  public enum BatchSizeSearch: Sendable {
    /// Twice as large each time.
    case power
    /// Doubled until one is too large, then halving the interval.
    case binarySearch
  }

  /// The largest batch size whose training step stays within a limit of memory: Lightning's batch size finder.
  ///
  /// Nothing is run: the compiled step says how much memory it will take.
  /// - Parameters:
  ///   - memoryLimit: in bytes; half of the machine's by default.
  public final func findBatchSize(
    _ dataset: some Dataset, mode: BatchSizeSearch = .power, initial: Int = 2, maxTrials: Int = 25, memoryLimit: Int? = nil
  ) throws -> Int {
    try searchBatchSize(dataset.count, mode, initial, maxTrials, memoryLimit) { size in
      try TrainingBatch(try dataset.batch(Array(0..<size)))
    }
  }

  final func searchBatchSize(
    _ count: Int, _ mode: BatchSizeSearch, _ initial: Int, _ maxTrials: Int, _ memoryLimit: Int?,
    _ batch: (Int) throws -> TrainingBatch
  ) throws -> Int {
    guard count > 0 else { throw TrainingError.emptyData("findBatchSize") }
    guard initial > 0 else { throw TrainingError.invalidArgument("findBatchSize: begins with \(initial)") }
    let limit = memoryLimit ?? physicalMemory() / 2
    let saved = checkpoint()
    defer { try? restore(saved, path: "before the search") }
    func fits(_ size: Int) throws -> Bool { try plannedMemory(batch(size)) <= limit }
    var size = min(initial, count)
    guard try fits(size) else {
      throw TrainingError.invalidArgument("findBatchSize: a batch of \(size) already needs more than \(limit) bytes")
    }
    var tooLarge: Int?
    for _ in 0..<maxTrials {
      let next: Int
      if let tooLarge {
        guard mode == .binarySearch, tooLarge - size > 1 else { break }
        next = (size + tooLarge) / 2
      } else {
        guard size < count else { break }
        next = min(size * 2, count)
      }
      if try fits(next) { size = next } else { tooLarge = next }
    }
    return size
  }
}
