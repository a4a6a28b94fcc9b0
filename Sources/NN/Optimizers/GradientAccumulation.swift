import ApusTensor

/// Steps of another optimizer with the gradients of several batches: every `steps`-th call changes the parameters, by the mean
/// (Keras's `gradient_accumulation_steps`) or the sum of the gradients since the last.
///
/// Compiled, each of first, middle and last batch is a program of its own, traced once. A parameter that has had a gradient counts
/// with zeros in batches that do not reach it.
public final class GradientAccumulation: Optimizer {
  public let innerOptimizer: Optimizer
  public let steps: Int
  private let averages: Bool
  private let count = StepCount()
  private var sums: [ObjectIdentifier: Variable] = [:]

  /// - Parameter averages: by the mean of the gradients, not the sum.
  public init(_ innerOptimizer: Optimizer, steps: Int, averages: Bool = true) {
    guard steps > 0 else { stop("GradientAccumulation: steps \(steps) must be positive") }
    self.innerOptimizer = innerOptimizer
    self.steps = steps
    self.averages = averages
    super.init(innerOptimizer.parameters)
  }

  public override var learningRates: [Double] {
    get { innerOptimizer.learningRates }
    set { innerOptimizer.learningRates = newValue }
  }
  public override var schedule: (any LearningRateSchedule)? {
    get { innerOptimizer.schedule }
    set { innerOptimizer.schedule = newValue }
  }
  /// Of the accumulated gradients.
  public override var clipping: GradientClipping? {
    get { innerOptimizer.clipping }
    set { innerOptimizer.clipping = newValue }
  }

  private enum Place { case first, middle, last }

  private func place(_ position: Int) -> Place { position == steps - 1 ? .last : position == 0 ? .first : .middle }

  public override func step(_ gradients: Gradients) {
    if steps == 1 { return innerOptimizer.step(gradients) }
    let offset = count.offset
    let place = place(count.now % steps)
    observe(
      Observation("the batch of GradientAccumulation", key: [AnyHashable(ObjectIdentifier(self)), offset], place) {
        [unowned self] in
        self.place((self.count.start + offset) % self.steps)
      })
    withoutGradient {
      var total: [Tensor?] = []
      for parameter in parameters {
        let gradient = gradients[parameter]?.detached()
        guard let sum = sum(of: parameter, gradient) else {
          total.append(nil)
          continue
        }
        let wide = gradient?.converted(to: sum.elementType)
        let value = place == .first ? wide ?? zerosLike(sum.value) : wide.map { sum.value + $0 } ?? sum.value
        if place == .last {
          total.append(averages ? value / Double(steps) : value)
        } else {
          sum.value = value
        }
      }
      count.advance()
      if place == .last { innerOptimizer.step(Gradients(variables: parameters, values: total)) }
    }
  }

  /// Where a parameter's gradients are added up; nil if it never had one. Half precision is summed in float32.
  private func sum(of parameter: Parameter, _ gradient: Tensor?) -> Variable? {
    if let sum = sums[ObjectIdentifier(parameter)] { return sum }
    guard gradient != nil else { return nil }
    let type: ElementType = parameter.elementType == .float64 ? .float64 : .float32
    let sum = untraced { Variable(Tensor.zeros(parameter.shape, type).contiguous()) }
    sums[ObjectIdentifier(parameter)] = sum
    return sum
  }

  public override var state: [String: Variable] {
    var result = innerOptimizer.state
    if steps == 1 { return result }
    for (prefix, parameter) in zip(prefixes, parameters) {
      result["\(prefix).gradient_accumulator"] = sums[ObjectIdentifier(parameter)]
    }
    result["accumulated_steps"] = count.variable
    return result
  }

  public override func prepareState() { innerOptimizer.prepareState() }

  public override func load(state: [String: Tensor]) throws {
    if steps == 1 { return try innerOptimizer.load(state: state) }
    var rest = state
    var own: [(String, Variable)] = [("accumulated_steps", count.variable)]
    var loaded: [ObjectIdentifier: Variable] = [:]
    for (prefix, parameter) in zip(prefixes, parameters) {
      let name = "\(prefix).gradient_accumulator"
      guard rest[name] != nil else { continue }
      let type: ElementType = parameter.elementType == .float64 ? .float64 : .float32
      let sum = Variable(Tensor.zeros(parameter.shape, type))
      loaded[ObjectIdentifier(parameter)] = sum
      own.append((name, sum))
    }
    let found = try takeOwn(own, from: &rest)
    try innerOptimizer.load(state: rest)
    for (variable, value) in found { variable.value = value }
    sums = loaded
  }
}
