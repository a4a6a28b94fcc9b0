import ApusTensor

/// Several optimizers as one, each with parameters of its own: Muon for matrices and AdamW for the rest, for example.
///
/// Learning rates are those of all groups in order. Names of states begin with the optimizer's number: `0.conv1.weight.exp_avg`.
public final class MultiOptimizer: Optimizer {
  public let optimizers: [Optimizer]

  public init(_ optimizers: [Optimizer]) {
    self.optimizers = optimizers
    let all = optimizers.flatMap(\.parameters)
    guard Set(all.map { ObjectIdentifier($0) }).count == all.count else { stop("MultiOptimizer: a parameter is in it twice") }
    super.init(all)
  }

  public override var learningRates: [Double] {
    get { optimizers.flatMap(\.learningRates) }
    set {
      var rest = newValue[...]
      for optimizer in optimizers {
        let count = optimizer.learningRates.count
        guard rest.count >= count else {
          stop("MultiOptimizer: \(newValue.count) learning rates for \(learningRates.count) groups")
        }
        optimizer.learningRates = Array(rest.prefix(count))
        rest = rest.dropFirst(count)
      }
      guard rest.isEmpty else { stop("MultiOptimizer: \(newValue.count) learning rates for \(learningRates.count) groups") }
    }
  }

  /// The first one's; set, it becomes that of all.
  public override var schedule: (any LearningRateSchedule)? {
    get { optimizers.first?.schedule }
    set { for optimizer in optimizers { optimizer.schedule = newValue } }
  }

  /// Of all gradients together.
  public override var clipping: GradientClipping? {
    get { ownClipping }
    set { ownClipping = newValue }
  }
  private var ownClipping: GradientClipping?

  public override func step(_ gradients: Gradients) {
    observe(
      Observation("clipping of MultiOptimizer", key: [AnyHashable(ObjectIdentifier(self)), "clipping"], ownClipping) {
        [unowned self] in
        self.ownClipping
      })
    let gradients = ownClipping.map { clipping in withoutGradient { gradients.clipped(clipping) } } ?? gradients
    for optimizer in optimizers { optimizer.step(gradients) }
  }

  public override var state: [String: Variable] {
    var result: [String: Variable] = [:]
    for (i, optimizer) in optimizers.enumerated() { for (name, value) in optimizer.state { result["\(i).\(name)"] = value } }
    return result
  }

  public override func prepareState() { for optimizer in optimizers { optimizer.prepareState() } }

  public override func load(state: [String: Tensor]) throws {
    var parts = [[String: Tensor]](repeating: [:], count: optimizers.count)
    var report = LoadReport()
    for (name, value) in state {
      guard let dot = name.firstIndex(of: "."), let i = Int(name[..<dot]), parts.indices.contains(i) else {
        report.unexpected.append(name)
        continue
      }
      parts[i][String(name[name.index(after: dot)...])] = value
    }
    report.unexpected.sort()
    guard report.isComplete else { throw LoadError(path: "optimizer state", report: report) }
    // All or nothing: what was taken is given back if a later one does not fit.
    let before = optimizers.map { $0.state.mapValues(\.value) }
    for (i, optimizer) in optimizers.enumerated() {
      do { try optimizer.load(state: parts[i]) } catch {
        for k in 0..<i { try optimizers[k].load(state: before[k]) }
        throw error
      }
    }
  }
}
