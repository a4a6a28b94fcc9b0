import ApusTensor

/// Limited-memory BFGS (Nocedal and Wright 2006, algorithms 7.4 and 7.5; PyTorch's, step for step), for smooth functions of the whole
/// data: directions from the last `historySize` changes of parameters and gradients, on request with a line search that
/// finds a point of the strong Wolfe conditions.
///
/// ```swift
/// let loss = optimizer.step { crossEntropy(model(x), labels) }
/// ```
/// The function is evaluated several times per step. A step decides by values, so it cannot be part of a compiled function; the
/// function it is given may be a compiled one. There are no parameter groups, and all parameters have one element type.
public final class LBFGS: Optimizer {
  public enum LineSearch: Sendable, Hashable {
    case strongWolfe
  }

  public let maxIterations, maxEvaluations, historySize: Int
  public let toleranceGradient, toleranceChange: Double
  public let lineSearch: LineSearch?
  private var rate: Double
  private let type: ElementType
  private var memory = Memory()

  /// What is remembered between steps.
  private struct Memory {
    var iterations = 0
    var evaluations = 0
    /// The last direction and how far it was followed.
    var direction: Tensor?
    var t = 0.0
    /// Changes of the gradient and of the parameters, the oldest first, and 1 / their product.
    var changes: [Tensor] = []
    var steps: [Tensor] = []
    var ro: [Double] = []
    /// The scale of the first inverse Hessian.
    var scale = 1.0
    var gradient: Tensor?
    var loss = 0.0
  }

  /// - Parameters:
  ///   - maxEvaluations: of the function, per step; 1.25 · maxIterations if nil.
  ///   - toleranceGradient: a step ends when the largest element of the gradient is at most this.
  ///   - toleranceChange: and when neither loss nor parameters change by more than this.
  ///   - lineSearch: none: each direction is followed by the learning rate.
  public init(
    _ parameters: [Parameter], learningRate: Double = 1, maxIterations: Int = 20, maxEvaluations: Int? = nil,
    toleranceGradient: Double = 1e-7, toleranceChange: Double = 1e-9, historySize: Int = 100, lineSearch: LineSearch? = nil
  ) {
    guard let first = parameters.first else { stop("LBFGS: there are no parameters") }
    for parameter in parameters where parameter.elementType != first.elementType {
      stop("LBFGS: parameters of one type are needed, got \(first) and \(parameter)")
    }
    guard learningRate >= 0, maxIterations > 0, historySize > 0 else {
      stop(
        "LBFGS: learningRate \(learningRate) must not be negative, maxIterations \(maxIterations) and historySize \(historySize) must be positive"
      )
    }
    rate = learningRate
    type = first.elementType == .float64 ? .float64 : .float32
    self.maxIterations = maxIterations
    self.maxEvaluations = maxEvaluations ?? maxIterations * 5 / 4
    self.toleranceGradient = toleranceGradient
    self.toleranceChange = toleranceChange
    self.historySize = historySize
    self.lineSearch = lineSearch
    super.init(parameters)
  }

  public override var learningRates: [Double] {
    get { [rate] }
    set {
      guard newValue.count == 1 else { stop("LBFGS: \(newValue.count) learning rates for one group") }
      rate = newValue[0]
    }
  }

  public override func step(_ gradients: Gradients) {
    stop("LBFGS: needs the function, not only its gradients: optimizer.step { loss }")
  }
  public override func step(minimizing loss: Tensor) {
    stop("LBFGS: needs the function, not only its value: optimizer.step { loss }")
  }

  /// One step: up to `maxIterations` directions.
  /// - Parameter loss: computes the loss from the present parameters.
  /// - Returns: the loss at the beginning.
  @discardableResult
  public func step(_ loss: () -> Tensor) -> Tensor {
    if isTracing {
      stop("LBFGS: a step decides by values, so it cannot be part of a compiled function; compile the loss instead")
    }
    let first = loss()
    // Nothing here has a history: values and gradients are detached.
    let (value, gradient) = evaluated(first)
    memory.evaluations += 1
    if largest(gradient) > toleranceGradient { iterate(value, gradient, loss) }
    return first
  }

  private func iterate(_ value: Double, _ gradient: Tensor, _ loss: () -> Tensor) {
    var (value, gradient, evaluations) = (value, gradient, 1)
    for iteration in 1...maxIterations {
      memory.iterations += 1
      let direction = direction(gradient)
      memory.gradient = gradient
      memory.loss = value
      var t = memory.iterations == 1 ? Swift.min(1, 1 / number(abs(gradient).sum())) * rate : rate
      let slope = number(gradient.dot(direction))
      memory.direction = direction
      memory.t = t
      if slope > -toleranceChange { return }
      let before = value
      let start = flat()
      var used = 0
      if lineSearch != nil {
        let search = WolfeSearch(
          start: .init(t: 0, loss: value, gradient: gradient, slope: slope), direction: direction,
          limit: maxEvaluations - evaluations, smallest: toleranceChange)
        let found = search.run(from: t) { t in
          set(start + direction * t)
          return evaluated(loss())
        }
        (value, gradient, t, used) = (found.point.loss, found.point.gradient, found.point.t, found.evaluations)
        set(start + direction * t)
      } else {
        set(start + direction * t)
        if iteration != maxIterations {
          (value, gradient) = evaluated(loss())
          used = 1
        }
      }
      memory.t = t
      evaluations += used
      memory.evaluations += used
      if iteration == maxIterations || evaluations >= maxEvaluations || largest(gradient) <= toleranceGradient
        || largest(direction * t) <= toleranceChange || Swift.abs(value - before) < toleranceChange
      {
        return
      }
    }
  }

  /// The direction from the gradient by the two loops over the history, which takes up the last change.
  private func direction(_ gradient: Tensor) -> Tensor {
    guard let last = memory.direction, let before = memory.gradient else {
      (memory.changes, memory.steps, memory.ro, memory.scale) = ([], [], [], 1)
      return -gradient
    }
    let (y, s) = (gradient - before, last * memory.t)
    let ys = number(y.dot(s))
    if ys > 1e-10 {
      if memory.changes.count == historySize {
        memory.changes.removeFirst()
        memory.steps.removeFirst()
        memory.ro.removeFirst()
      }
      memory.changes.append(y)
      memory.steps.append(s)
      memory.ro.append(1 / ys)
      memory.scale = ys / number(y.dot(y))
    }
    var q = -gradient
    var alpha = [Double](repeating: 0, count: memory.changes.count)
    for i in memory.changes.indices.reversed() {
      alpha[i] = number(memory.steps[i].dot(q)) * memory.ro[i]
      q = q - memory.changes[i] * alpha[i]
    }
    var r = q * memory.scale
    for i in memory.changes.indices {
      let beta = number(memory.changes[i].dot(r)) * memory.ro[i]
      r = r + memory.steps[i] * (alpha[i] - beta)
    }
    return r
  }

  // MARK: All parameters as one vector

  private func evaluated(_ loss: Tensor) -> (Double, Tensor) {
    let gradients = loss.gradients(for: parameters, releasingHistory: true)
    let parts = zip(parameters, gradients.values).map { parameter, gradient in
      (gradient?.detached() ?? Tensor.zeros(parameter.shape, type)).converted(to: type).flattened()
    }
    return (number(loss.detached()), concatenate(parts))
  }

  private func flat() -> Tensor { concatenate(parameters.map { $0.value.detached().converted(to: type).flattened() }) }

  private func set(_ all: Tensor) {
    let parts = all.split(parameters.map { $0.shape.elementCount })
    for (parameter, part) in zip(parameters, parts) {
      parameter.value = part.reshaped(parameter.shape).contiguous().converted(to: parameter.elementType)
    }
  }

  private func number(_ x: Tensor) -> Double { x.item(as: Double.self) }
  private func largest(_ x: Tensor) -> Double { number(abs(x).max()) }

  // MARK: State

  /// PyTorch's, the history stacked: `old_dirs` and `old_stps` [history, elements], `ro` [history].
  public override var state: [String: Variable] {
    guard let d = memory.direction, let gradient = memory.gradient else { return [:] }
    func scalar(_ x: Double) -> Variable { Variable(Tensor.full([], x, .float64)) }
    var result = [
      "n_iter": Variable(Tensor(memory.iterations)), "func_evals": Variable(Tensor(memory.evaluations)), "d": Variable(d),
      "t": scalar(memory.t), "H_diag": scalar(memory.scale), "prev_flat_grad": Variable(gradient),
      "prev_loss": scalar(memory.loss),
    ]
    if !memory.changes.isEmpty {
      result["old_dirs"] = Variable(stack(memory.changes))
      result["old_stps"] = Variable(stack(memory.steps))
      result["ro"] = Variable(Tensor(memory.ro, shape: [memory.ro.count]))
    }
    return result
  }

  public override func load(state: [String: Tensor]) throws {
    var report = LoadReport()
    let count = parameters.reduce(0) { $0 + $1.shape.elementCount }
    let history = state["ro"]?.count ?? 0
    func scalar(_ type: ElementType) -> TensorType { TensorType([], type) }
    var expected = [
      "n_iter": scalar(.int64), "func_evals": scalar(.int64), "d": TensorType([count], type), "t": scalar(.float64),
      "H_diag": scalar(.float64), "prev_flat_grad": TensorType([count], type), "prev_loss": scalar(.float64),
    ]
    if history > 0 {
      expected["old_dirs"] = TensorType([history, count], type)
      expected["old_stps"] = TensorType([history, count], type)
      expected["ro"] = TensorType([history], .float64)
    }
    report.unexpected = state.keys.filter { expected[$0] == nil }.sorted()
    if !state.isEmpty { report.missing = expected.keys.filter { state[$0] == nil }.sorted() }
    for (name, type) in expected.sorted(by: { $0.key < $1.key }) {
      guard let found = state[name]?.type, found != type else { continue }
      report.mismatched.append(.init(name: name, expected: type.description, found: found.description))
    }
    guard report.isComplete else { throw LoadError(path: "optimizer state", report: report) }
    memory = Memory()
    guard let iterations = state["n_iter"], let evaluations = state["func_evals"], let t = state["t"],
      let scale = state["H_diag"],
      let loss = state["prev_loss"]
    else { return }
    memory.iterations = iterations.item(as: Int.self)
    memory.evaluations = evaluations.item(as: Int.self)
    (memory.t, memory.scale, memory.loss) = (number(t), number(scale), number(loss))
    (memory.direction, memory.gradient) = (state["d"], state["prev_flat_grad"])
    memory.changes = state["old_dirs"]?.unstacked() ?? []
    memory.steps = state["old_stps"]?.unstacked() ?? []
    memory.ro = state["ro"]?.elements(as: Double.self) ?? []
  }
}
