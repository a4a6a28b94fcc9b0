import ApusTensor

/// How the learning rate follows from the number of steps: a value without state.
///
/// A step may be a batch or an epoch. `base` is the learning rate that a parameter group has by itself; schedules that say
/// where they begin do not look at it. Set ``Optimizer/schedule``, or move on by hand with a ``Scheduler``.
public protocol LearningRateSchedule: Sendable {
  /// The learning rate of the step after `step` others.
  func learningRate(at step: Int, base: Double) -> Double
  /// The momentum of that step, for schedules that move it too.
  func momentum(at step: Int) -> Double?
}

extension LearningRateSchedule {
  public func momentum(at step: Int) -> Double? { nil }

  /// This schedule after `steps` steps in which the learning rate rises to the base, from `startFactor` · base.
  public func warmedUp(steps: Int, startFactor: Double = 1.0 / 3) -> SequentialLR {
    SequentialLR([LinearLR(startFactor: startFactor, totalIterations: steps), self], milestones: [steps])
  }
}

/// A way from one value to another.
public enum AnnealStrategy: Sendable, Hashable {
  case cos, linear

  /// From 0 to 1.
  func share(_ x: Double) -> Double { self == .cos ? (1 - cosine(x)) / 2 : x }
  func value(from start: Double, to end: Double, _ x: Double) -> Double {
    self == .cos ? end + (start - end) / 2 * (cosine(x) + 1) : (end - start) * x + start
  }
}

/// Moves an optimizer's learning rates along a schedule, by epochs or steps as it is told: PyTorch's way.
///
/// ```swift
/// let scheduler = Scheduler(optimizer, StepLR(stepSize: 30))
/// for epoch in 0..<90 { train(); scheduler.step() }
/// ```
/// The learning rates that the optimizer has now become the groups' base rates.
public final class Scheduler {
  public let optimizer: Optimizer
  /// One for all groups, or one for each.
  public let schedules: [any LearningRateSchedule]
  public private(set) var baseLearningRates: [Double]
  /// The number of steps so far.
  public private(set) var steps = 0

  public convenience init(_ optimizer: Optimizer, _ schedule: any LearningRateSchedule) { self.init(optimizer, [schedule]) }

  /// - Parameter schedules: one for each parameter group.
  public init(_ optimizer: Optimizer, _ schedules: [any LearningRateSchedule]) {
    self.optimizer = optimizer
    self.schedules = schedules
    baseLearningRates = optimizer.learningRates
    guard schedules.count == 1 || schedules.count == baseLearningRates.count else {
      stop("Scheduler: \(schedules.count) schedules for \(baseLearningRates.count) parameter groups")
    }
    apply()
  }

  /// Moves on by one step.
  public func step() {
    steps += 1
    apply()
  }

  private func apply() {
    optimizer.learningRates = baseLearningRates.enumerated().map { i, base in
      schedules[schedules.count == 1 ? 0 : i].learningRate(at: steps, base: base)
    }
  }

  /// `last_epoch` int64 [] and `base_lrs` float64 [groups].
  public var state: [String: Tensor] {
    ["last_epoch": Tensor(steps), "base_lrs": Tensor(baseLearningRates, shape: [baseLearningRates.count])]
  }

  /// Goes on where another scheduler was.
  /// - Throws: ``LoadError`` for names or shapes that do not fit; nothing is changed then.
  public func load(state: [String: Tensor]) throws {
    try checkState(state, like: self.state)
    guard let steps = state["last_epoch"], let rates = state["base_lrs"] else { return }
    self.steps = steps.item(as: Int.self)
    baseLearningRates = rates.elements(as: Double.self)
    apply()
  }
}

/// - Throws: ``LoadError`` unless both have the same names and types.
func checkState(_ state: [String: Tensor], like expected: [String: Tensor]) throws {
  var report = LoadReport()
  for (name, value) in expected.sorted(by: { $0.key < $1.key }) {
    guard let found = state[name] else {
      report.missing.append(name)
      continue
    }
    if found.type != value.type {
      report.mismatched.append(.init(name: name, expected: value.type.description, found: found.type.description))
    }
  }
  report.unexpected = state.keys.filter { expected[$0] == nil }.sorted()
  guard report.isComplete else { throw LoadError(path: "schedule state", report: report) }
}
