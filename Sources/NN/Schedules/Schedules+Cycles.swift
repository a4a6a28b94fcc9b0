import ApusTensor

/// Up from one learning rate to another and down again, over and over (Smith 2017; PyTorch's formula). ``momentum(at:)`` goes the
/// other way; to follow it, set the optimizer's option before each step (a compiled step is then traced for each value).
public struct CyclicLR: LearningRateSchedule {
  public enum Mode: Sendable, Hashable {
    /// All cycles alike.
    case triangular
    /// Half as high from cycle to cycle.
    case triangular2
    /// · gamma^step.
    case exponentialRange
  }
  public let baseLearningRate, maxLearningRate: Double
  public let stepSizeUp, stepSizeDown: Int
  public let mode: Mode
  public let gamma: Double
  public let baseMomentum, maxMomentum: Double

  /// - Parameter stepSizeDown: as stepSizeUp if nil.
  public init(
    baseLearningRate: Double, maxLearningRate: Double, stepSizeUp: Int = 2000, stepSizeDown: Int? = nil, mode: Mode = .triangular,
    gamma: Double = 1, baseMomentum: Double = 0.8, maxMomentum: Double = 0.9
  ) {
    guard stepSizeUp > 0, stepSizeDown ?? 1 > 0 else {
      stop("CyclicLR: stepSizeUp \(stepSizeUp) and stepSizeDown \(stepSizeDown ?? stepSizeUp) must be positive")
    }
    (self.baseLearningRate, self.maxLearningRate) = (baseLearningRate, maxLearningRate)
    (self.stepSizeUp, self.stepSizeDown) = (stepSizeUp, stepSizeDown ?? stepSizeUp)
    (self.mode, self.gamma, self.baseMomentum, self.maxMomentum) = (mode, gamma, baseMomentum, maxMomentum)
  }

  /// Where between the two ends a step is.
  private func height(_ step: Int) -> Double {
    let total = Double(stepSizeUp + stepSizeDown)
    let ratio = Double(stepSizeUp) / total
    let cycle = (1 + Double(step) / total).rounded(.down)
    let x = 1 + Double(step) / total - cycle
    let height = x <= ratio ? x / ratio : (x - 1) / (ratio - 1)
    switch mode {
    case .triangular: return height
    case .triangular2: return height / power(2, cycle - 1)
    case .exponentialRange: return height * power(gamma, Double(step))
    }
  }

  public func learningRate(at step: Int, base: Double) -> Double {
    baseLearningRate + (maxLearningRate - baseLearningRate) * height(step)
  }
  public func momentum(at step: Int) -> Double? { maxMomentum - (maxMomentum - baseMomentum) * height(step) }
}

/// One cycle for the whole training (Smith and Topin 2019; PyTorch's formula): from maxLearningRate / divFactor up in the first part,
/// `percentStart`, then down to maxLearningRate / divFactor / finalDivFactor. ``momentum(at:)`` goes the other way; to follow it,
/// set the optimizer's option before each step (a compiled step is then traced for each value).
public struct OneCycleLR: LearningRateSchedule {
  public let maxLearningRate: Double
  public let totalSteps: Int
  public let percentStart: Double
  public let annealStrategy: AnnealStrategy
  public let baseMomentum, maxMomentum: Double
  public let divFactor, finalDivFactor: Double
  public let threePhase: Bool

  public init(
    maxLearningRate: Double, totalSteps: Int, percentStart: Double = 0.3, annealStrategy: AnnealStrategy = .cos,
    baseMomentum: Double = 0.85, maxMomentum: Double = 0.95, divFactor: Double = 25, finalDivFactor: Double = 1e4,
    threePhase: Bool = false
  ) {
    guard totalSteps > 0, (0...1).contains(percentStart) else {
      stop("OneCycleLR: totalSteps \(totalSteps) must be positive, percentStart \(percentStart) in 0 … 1")
    }
    (self.maxLearningRate, self.totalSteps, self.percentStart) = (maxLearningRate, totalSteps, percentStart)
    (self.annealStrategy, self.baseMomentum, self.maxMomentum) = (annealStrategy, baseMomentum, maxMomentum)
    (self.divFactor, self.finalDivFactor, self.threePhase) = (divFactor, finalDivFactor, threePhase)
  }

  public init(
    maxLearningRate: Double, epochs: Int, stepsPerEpoch: Int, percentStart: Double = 0.3, annealStrategy: AnnealStrategy = .cos,
    baseMomentum: Double = 0.85, maxMomentum: Double = 0.95, divFactor: Double = 25, finalDivFactor: Double = 1e4,
    threePhase: Bool = false
  ) {
    self.init(
      maxLearningRate: maxLearningRate, totalSteps: epochs * stepsPerEpoch, percentStart: percentStart,
      annealStrategy: annealStrategy, baseMomentum: baseMomentum, maxMomentum: maxMomentum, divFactor: divFactor,
      finalDivFactor: finalDivFactor, threePhase: threePhase)
  }

  /// The phase of a step: whether it goes up, or down and how far, and the place in it. After the last step it stays where it is.
  private func value(_ step: Int, _ ends: [(end: Double, from: Double, to: Double)]) -> Double {
    let step = Double(Swift.min(step, totalSteps))
    var start = 0.0
    for (i, phase) in ends.enumerated() {
      if step <= phase.end || i == ends.count - 1 {
        return annealStrategy.value(from: phase.from, to: phase.to, (step - start) / (phase.end - start))
      }
      start = phase.end
    }
    return 0
  }

  private func phases(_ low: Double, _ high: Double, _ last: Double) -> [(end: Double, from: Double, to: Double)] {
    let total = Double(totalSteps)
    let first = (percentStart * total - 1, low, high)
    if !threePhase { return [first, (total - 1, high, last)] }
    return [first, (2 * percentStart * total - 2, high, low), (total - 1, low, last)]
  }

  public func learningRate(at step: Int, base: Double) -> Double {
    let low = maxLearningRate / divFactor
    return value(step, phases(low, maxLearningRate, low / finalDivFactor))
  }
  public func momentum(at step: Int) -> Double? { value(step, phases(maxMomentum, baseMomentum, maxMomentum)) }
}
