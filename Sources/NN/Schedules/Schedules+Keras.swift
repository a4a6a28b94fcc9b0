import ApusTensor

// Keras's schedules under its names, `keras.optimizers.schedules`. Without `initialLearningRate` they begin with each group's own.

/// initial · decayRate^(step / decaySteps), in whole powers as a staircase.
public struct ExponentialDecay: LearningRateSchedule {
  public let initialLearningRate: Double?
  public let decaySteps: Int
  public let decayRate: Double
  public let staircase: Bool
  public init(initialLearningRate: Double? = nil, decaySteps: Int, decayRate: Double, staircase: Bool = false) {
    guard decaySteps > 0 else { stop("ExponentialDecay: decaySteps \(decaySteps) must be positive") }
    (self.initialLearningRate, self.decaySteps) = (initialLearningRate, decaySteps)
    (self.decayRate, self.staircase) = (decayRate, staircase)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    let p = Double(step) / Double(decaySteps)
    return (initialLearningRate ?? base) * power(decayRate, staircase ? p.rounded(.down) : p)
  }
}

/// values[0] up to and with step boundaries[0], values[1] up to boundaries[1], …, then the last value.
public struct PiecewiseConstantDecay: LearningRateSchedule {
  public let boundaries: [Int]
  public let values: [Double]
  public init(boundaries: [Int], values: [Double]) {
    guard values.count == boundaries.count + 1 else {
      stop("PiecewiseConstantDecay: \(boundaries.count) boundaries need one value more, got \(values.count)")
    }
    (self.boundaries, self.values) = (boundaries, values)
  }
  public func learningRate(at step: Int, base: Double) -> Double { values[boundaries.count { $0 < step }] }
}

/// (initial − end)(1 − step / decaySteps)^power + end; at the end it stays there or, as a cycle, begins again with more steps.
public struct PolynomialDecay: LearningRateSchedule {
  public let initialLearningRate: Double?
  public let decaySteps: Int
  public let endLearningRate, power: Double
  public let cycle: Bool
  public init(
    initialLearningRate: Double? = nil, decaySteps: Int, endLearningRate: Double = 0.0001, power: Double = 1, cycle: Bool = false
  ) {
    guard decaySteps > 0 else { stop("PolynomialDecay: decaySteps \(decaySteps) must be positive") }
    (self.initialLearningRate, self.decaySteps, self.endLearningRate) = (initialLearningRate, decaySteps, endLearningRate)
    (self.power, self.cycle) = (power, cycle)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    var (t, length) = (Double(step), Double(decaySteps))
    if cycle { length *= step == 0 ? 1 : (t / length).rounded(.up) } else { t = Swift.min(t, length) }
    return ((initialLearningRate ?? base) - endLearningRate) * ApusNN.power(1 - t / length, power) + endLearningRate
  }
}

/// initial / (1 + decayRate · step / decaySteps), in whole parts as a staircase.
public struct InverseTimeDecay: LearningRateSchedule {
  public let initialLearningRate: Double?
  public let decaySteps: Int
  public let decayRate: Double
  public let staircase: Bool
  public init(initialLearningRate: Double? = nil, decaySteps: Int, decayRate: Double, staircase: Bool = false) {
    guard decaySteps > 0 else { stop("InverseTimeDecay: decaySteps \(decaySteps) must be positive") }
    (self.initialLearningRate, self.decaySteps) = (initialLearningRate, decaySteps)
    (self.decayRate, self.staircase) = (decayRate, staircase)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    let p = Double(step) / Double(decaySteps)
    return (initialLearningRate ?? base) / (1 + decayRate * (staircase ? p.rounded(.down) : p))
  }
}

/// A cosine from the initial learning rate to alpha times it in `decaySteps` steps, on request after a warm-up from the initial one to
/// `warmupTarget` in `warmupSteps` (the cosine then begins at the target).
public struct CosineDecay: LearningRateSchedule {
  public let initialLearningRate: Double?
  public let decaySteps: Int
  public let alpha: Double
  public let warmupTarget: Double?
  public let warmupSteps: Int
  public init(
    initialLearningRate: Double? = nil, decaySteps: Int, alpha: Double = 0, warmupTarget: Double? = nil, warmupSteps: Int = 0
  ) {
    guard decaySteps > 0, warmupSteps >= 0 else {
      stop("CosineDecay: decaySteps \(decaySteps) must be positive, warmupSteps \(warmupSteps) not negative")
    }
    (self.initialLearningRate, self.decaySteps, self.alpha) = (initialLearningRate, decaySteps, alpha)
    (self.warmupTarget, self.warmupSteps) = (warmupTarget, warmupSteps)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    let initial = initialLearningRate ?? base
    let warmup = warmupTarget == nil ? 0 : warmupSteps
    if step < warmup, let warmupTarget {
      return (warmupTarget - initial) * (Double(step) / Double(warmup)) + initial
    }
    let x = Double(Swift.min(step - warmup, decaySteps)) / Double(decaySteps)
    return (warmupTarget ?? initial) * ((1 - alpha) * 0.5 * (1 + cosine(x)) + alpha)
  }
}

/// A cosine from the initial learning rate down in `firstDecaySteps` steps, then again from mMultiplier times it in tMultiplier
/// times as many, and so on (Loshchilov and Hutter 2017).
public struct CosineDecayRestarts: LearningRateSchedule {
  public let initialLearningRate: Double?
  public let firstDecaySteps: Int
  public let tMultiplier, mMultiplier, alpha: Double
  public init(
    initialLearningRate: Double? = nil, firstDecaySteps: Int, tMultiplier: Double = 2, mMultiplier: Double = 1, alpha: Double = 0
  ) {
    guard firstDecaySteps > 0, tMultiplier >= 1 else {
      stop("CosineDecayRestarts: firstDecaySteps \(firstDecaySteps) must be positive, tMultiplier \(tMultiplier) at least 1")
    }
    (self.initialLearningRate, self.firstDecaySteps) = (initialLearningRate, firstDecaySteps)
    (self.tMultiplier, self.mMultiplier, self.alpha) = (tMultiplier, mMultiplier, alpha)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    var x = Double(step) / Double(firstDecaySteps)
    var restarts = 0.0
    if tMultiplier == 1 {
      restarts = x.rounded(.down)
      x -= restarts
    } else {
      restarts = (logarithm(1 - x * (1 - tMultiplier)) / logarithm(tMultiplier)).rounded(.down)
      let length = power(tMultiplier, restarts)
      x = (x - (1 - length) / (1 - tMultiplier)) / length
    }
    let share = 0.5 * power(mMultiplier, restarts) * (1 + cosine(x))
    return (initialLearningRate ?? base) * ((1 - alpha) * share + alpha)
  }
}
