import ApusTensor

// PyTorch's schedules under its names, `torch.optim.lr_scheduler`, as functions of the step.

/// base · factor(step).
public struct LambdaLR: LearningRateSchedule {
  private let factor: @Sendable (Int) -> Double
  public init(_ factor: @escaping @Sendable (Int) -> Double) { self.factor = factor }
  public func learningRate(at step: Int, base: Double) -> Double { base * factor(step) }
}

/// base · factor(1) · … · factor(step). What was multiplied last is remembered, so that going on step by step costs one factor.
public struct MultiplicativeLR: LearningRateSchedule {
  private final class Memory: Sendable {
    let last = Lock<(step: Int, product: Double)>((0, 1))
  }
  private let factor: @Sendable (Int) -> Double
  private let memory = Memory()

  public init(_ factor: @escaping @Sendable (Int) -> Double) { self.factor = factor }

  public func learningRate(at step: Int, base: Double) -> Double {
    // From what is known; the product is formed from the first factor on in any case.
    var (known, product) = memory.last.withLock { $0 }
    if known > step { (known, product) = (0, 1) }
    for i in known..<Swift.max(step, known) { product *= factor(i + 1) }
    memory.last.withLock { [product] in $0 = (step, product) }
    return base * product
  }
}

/// base · gamma^⌊step / stepSize⌋.
public struct StepLR: LearningRateSchedule {
  public let stepSize: Int
  public let gamma: Double
  public init(stepSize: Int, gamma: Double = 0.1) {
    guard stepSize > 0 else { stop("StepLR: stepSize \(stepSize) must be positive") }
    (self.stepSize, self.gamma) = (stepSize, gamma)
  }
  public func learningRate(at step: Int, base: Double) -> Double { base * power(gamma, Double(step / stepSize)) }
}

/// base · gamma^(milestones reached); a milestone that is there twice counts twice.
public struct MultiStepLR: LearningRateSchedule {
  public let milestones: [Int]
  public let gamma: Double
  public init(milestones: [Int], gamma: Double = 0.1) { (self.milestones, self.gamma) = (milestones, gamma) }
  public func learningRate(at step: Int, base: Double) -> Double {
    base * power(gamma, Double(milestones.count { $0 <= step }))
  }
}

/// base · factor for `totalIterations` steps, then base.
public struct ConstantLR: LearningRateSchedule {
  public let factor: Double
  public let totalIterations: Int
  public init(factor: Double = 1.0 / 3, totalIterations: Int = 5) {
    guard (0...1).contains(factor) else { stop("ConstantLR: factor \(factor) must be in 0 … 1") }
    (self.factor, self.totalIterations) = (factor, totalIterations)
  }
  public func learningRate(at step: Int, base: Double) -> Double { step >= totalIterations ? base : base * factor }
}

/// From base · startFactor to base · endFactor in `totalIterations` steps, in equal parts: the usual warm-up.
public struct LinearLR: LearningRateSchedule {
  public let startFactor, endFactor: Double
  public let totalIterations: Int
  public init(startFactor: Double = 1.0 / 3, endFactor: Double = 1, totalIterations: Int = 5) {
    guard startFactor > 0, startFactor <= 1, (0...1).contains(endFactor), totalIterations > 0 else {
      stop(
        "LinearLR: startFactor \(startFactor) must be above 0 and at most 1, endFactor \(endFactor) in 0 … 1, totalIterations \(totalIterations) positive"
      )
    }
    (self.startFactor, self.endFactor, self.totalIterations) = (startFactor, endFactor, totalIterations)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    base * (startFactor + (endFactor - startFactor) * Double(Swift.min(step, totalIterations)) / Double(totalIterations))
  }
}

/// base · gamma^step.
public struct ExponentialLR: LearningRateSchedule {
  public let gamma: Double
  public init(gamma: Double) { self.gamma = gamma }
  public func learningRate(at step: Int, base: Double) -> Double { base * power(gamma, Double(step)) }
}

/// base · (1 − step / totalIterations)^power, then 0.
public struct PolynomialLR: LearningRateSchedule {
  public let totalIterations: Int
  public let power: Double
  public init(totalIterations: Int = 5, power: Double = 1) {
    guard totalIterations > 0 else { stop("PolynomialLR: totalIterations \(totalIterations) must be positive") }
    (self.totalIterations, self.power) = (totalIterations, power)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    base * ApusNN.power(1 - Double(Swift.min(step, totalIterations)) / Double(totalIterations), power)
  }
}

/// etaMin + (base − etaMin)(1 + cos(π step / tMax)) / 2 (Loshchilov and Hutter 2017, without restarts: it rises again after tMax).
public struct CosineAnnealingLR: LearningRateSchedule {
  public let tMax: Int
  public let etaMin: Double
  public init(tMax: Int, etaMin: Double = 0) {
    guard tMax > 0 else { stop("CosineAnnealingLR: tMax \(tMax) must be positive") }
    (self.tMax, self.etaMin) = (tMax, etaMin)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    etaMin + (base - etaMin) * (1 + cosine(Double(step) / Double(tMax))) / 2
  }
}

/// A cosine from base to etaMin in t0 steps, again in t0 · tMultiplier steps, and so on (Loshchilov and Hutter 2017).
public struct CosineAnnealingWarmRestarts: LearningRateSchedule {
  public let t0, tMultiplier: Int
  public let etaMin: Double
  public init(t0: Int, tMultiplier: Int = 1, etaMin: Double = 0) {
    guard t0 > 0, tMultiplier > 0 else {
      stop("CosineAnnealingWarmRestarts: t0 \(t0) and tMultiplier \(tMultiplier) must be positive")
    }
    (self.t0, self.tMultiplier, self.etaMin) = (t0, tMultiplier, etaMin)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    var (inside, length) = (step, t0)
    if tMultiplier == 1 {
      inside %= t0
    } else {
      while inside >= length {
        inside -= length
        length *= tMultiplier
      }
    }
    return etaMin + (base - etaMin) * (1 + cosine(Double(inside) / Double(length))) / 2
  }
}

/// Schedules one after the other: each begins anew at its milestone.
public struct SequentialLR: LearningRateSchedule {
  public let schedules: [any LearningRateSchedule]
  public let milestones: [Int]
  public init(_ schedules: [any LearningRateSchedule], milestones: [Int]) {
    guard !schedules.isEmpty, milestones.count == schedules.count - 1, milestones == milestones.sorted() else {
      stop("SequentialLR: \(schedules.count) schedules need one milestone less, in order, got \(milestones)")
    }
    (self.schedules, self.milestones) = (schedules, milestones)
  }
  private func place(_ step: Int) -> (schedule: any LearningRateSchedule, step: Int) {
    let i = milestones.count { $0 <= step }
    return (schedules[i], i == 0 ? step : step - milestones[i - 1])
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    let (schedule, step) = place(step)
    return schedule.learningRate(at: step, base: base)
  }
  public func momentum(at step: Int) -> Double? {
    let (schedule, step) = place(step)
    return schedule.momentum(at: step)
  }
}

/// Schedules at the same time: what one gives is the next one's base, so that factors multiply.
public struct ChainedScheduler: LearningRateSchedule {
  public let schedules: [any LearningRateSchedule]
  public init(_ schedules: [any LearningRateSchedule]) { self.schedules = schedules }
  public func learningRate(at step: Int, base: Double) -> Double {
    schedules.reduce(base) { $1.learningRate(at: step, base: $0) }
  }
  public func momentum(at step: Int) -> Double? { schedules.last { $0.momentum(at: step) != nil }?.momentum(at: step) }
}

/// From the learning rate that training had, base, to that of weight averaging in `annealEpochs` steps (Izmailov et al. 2018).
public struct SWALR: LearningRateSchedule {
  public let swaLearningRate: Double
  public let annealEpochs: Int
  public let annealStrategy: AnnealStrategy
  public init(swaLearningRate: Double, annealEpochs: Int = 10, annealStrategy: AnnealStrategy = .cos) {
    guard annealEpochs >= 0 else { stop("SWALR: annealEpochs \(annealEpochs) must not be negative") }
    (self.swaLearningRate, self.annealEpochs, self.annealStrategy) = (swaLearningRate, annealEpochs, annealStrategy)
  }
  public func learningRate(at step: Int, base: Double) -> Double {
    let x = annealEpochs == 0 ? 1 : Swift.min(1, Double(step) / Double(annealEpochs))
    let share = annealStrategy.share(x)
    return swaLearningRate * share + base * (1 - share)
  }
}
