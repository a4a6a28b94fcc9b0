import ApusCPU
import ApusTensor
import CApusKernels

/// What one parameter group may set differently from the others.
public protocol OptimizerOptions: Sendable, Hashable {
  var learningRate: Double { get set }
  var weightDecay: Double { get set }
}

/// Parameters that share options.
public struct ParameterGroup<Options: OptimizerOptions> {
  public let parameters: [Parameter]
  let change: (inout Options) -> Void

  /// - Parameter change: what differs from the optimizer's options: `ParameterGroup(head.parameters) { $0.learningRate = 0.1 }`.
  public init(_ parameters: [Parameter], _ change: @escaping (inout Options) -> Void = { _ in }) {
    self.parameters = parameters
    self.change = change
  }
}

/// What the optimizers share: parameter groups, their state, their schedule, and the way to the kernels.
///
/// Where an algorithm has a kernel, float32 and float64 parameters are changed by one pass over memory, those of a group together.
/// float16 and bfloat16 ones are widened, changed as float32 and rounded; their state is kept in float32.
public class GroupedOptimizer<Options: OptimizerOptions>: Optimizer {
  /// Parameters with the options they are changed by.
  public struct Group {
    public let parameters: [Parameter]
    public var options: Options
  }

  public final var groups: [Group]
  private var slots: [ObjectIdentifier: OptimizerSlot] = [:]
  /// Of each group, while a step is traced.
  private var schedules: [Int: Tensor] = [:]
  /// Steps since a schedule was set.
  private var iterations: StepCount?

  init(_ name: String, _ groups: [ParameterGroup<Options>], _ options: Options) {
    self.groups = groups.map { group in
      var options = options
      group.change(&options)
      return Group(parameters: group.parameters, options: options)
    }
    let all = groups.flatMap(\.parameters)
    super.init(all)
    guard !all.isEmpty else { stop("\(name): there are no parameters") }
    guard Set(all.map { ObjectIdentifier($0) }).count == all.count else { stop("\(name): a parameter is in it twice") }
    for group in self.groups { check(group.options) }
  }

  // MARK: What an algorithm answers

  /// The names of what is remembered for each parameter, in the kernel's order.
  var stateNames: [String] { [] }
  /// Whether steps are counted.
  var countsSteps: Bool { false }
  /// Stops for options without sense.
  func check(_ options: Options) {}
  /// The algorithm with these options, save those of ``schedule(_:)``; nil if it is made of tensor functions, by ``update(_:_:)``.
  func rule(_ options: Options) -> OptimizerRule? { nil }
  /// Changes parameter and states once.
  func update(_ step: inout ParameterStep, _ options: Options) { stop("\(type(of: self)) has no rule") }
  /// The type of a state; nil if a parameter has none of it.
  func stateType(_ i: Int, _ parameter: Parameter) -> TensorType? { TensorType(parameter.shape, elementType(of: parameter)) }
  /// What a state begins with; zeros if nil.
  func initialState(_ i: Int, _ parameter: Parameter, _ options: Options) -> Tensor? { nil }
  /// The name of a number that is remembered for each parameter, 1 at first, and its value in the next step, of type float64.
  var factorName: String? { nil }
  func nextFactor(_ factor: Tensor, _ step: Tensor, _ options: Options) -> Tensor { factor }

  /// A parameter's state and its arithmetic are of this type.
  final func elementType(of parameter: Parameter) -> ElementType { parameter.elementType == .float64 ? .float64 : .float32 }

  // MARK: Learning rates

  public final override var learningRates: [Double] {
    get { groups.map { rate($0.options, iterations?.now) } }
    set {
      guard newValue.count == groups.count else {
        stop("\(type(of: self)): \(newValue.count) learning rates for \(groups.count) groups")
      }
      if schedule != nil {
        stop("\(type(of: self)): the learning rate follows a schedule; set schedule to nil to set it by hand")
      }
      for i in groups.indices { groups[i].options.learningRate = newValue[i] }
    }
  }

  private var ownSchedule: (any LearningRateSchedule)?
  public final override var schedule: (any LearningRateSchedule)? {
    get { ownSchedule }
    set {
      ownSchedule = newValue
      iterations = newValue == nil ? nil : StepCount()
    }
  }

  private var ownClipping: GradientClipping?
  public final override var clipping: GradientClipping? {
    get { ownClipping }
    set { ownClipping = newValue }
  }

  private func rate(_ options: Options, _ step: Int?) -> Double {
    guard let ownSchedule, let step else { return options.learningRate }
    return ownSchedule.learningRate(at: step, base: options.learningRate)
  }

  /// Learning rate and weight decay, which may change from step to step of one compiled program.
  private func numbers(_ options: Options, _ step: Int?) -> [Double] { [rate(options, step), options.weightDecay] }

  // MARK: Steps

  public final override func step(_ gradients: Gradients) {
    if isTracing {
      observe(
        Observation("clipping of \(Self.self)", key: [AnyHashable(ObjectIdentifier(self)), "clipping"], ownClipping) {
          [unowned self] in self.ownClipping
        })
      observe(
        Observation(
          "whether \(Self.self) has a schedule", key: [AnyHashable(ObjectIdentifier(self)), "schedule"], iterations == nil
        ) {
          [unowned self] in self.iterations == nil
        })
    }
    withoutGradient {
      apply(ownClipping.map { gradients.clipped($0) } ?? gradients)
      iterations?.advance()
    }
  }

  private func apply(_ gradients: Gradients) {
    let aligned =
      gradients.variables.count == parameters.count && zip(gradients.variables, parameters).allSatisfy { $0 === $1 }
    var places: [ObjectIdentifier: Int] = [:]
    if !aligned { for (i, variable) in gradients.variables.enumerated() { places[ObjectIdentifier(variable)] = i } }
    schedules = [:]
    defer { schedules = [:] }
    var next = 0
    for (number, group) in groups.enumerated() {
      var items: [Item] = []
      for parameter in group.parameters {
        let place = aligned ? next : places[ObjectIdentifier(parameter)]
        next += 1
        guard let place, let gradient = gradients.values[place] else { continue }
        guard gradient.shape == parameter.shape,
          gradient.elementType == parameter.elementType || gradient.elementType == elementType(of: parameter)
        else {
          stop("\(type(of: self)): the gradient of \(parameter) is \(gradient.type)")
        }
        items.append(Item(parameter: parameter, gradient: gradient, slot: slot(of: parameter)))
      }
      if isTracing || rule(group.options) == nil {
        items.forEach { stepAsOperation($0, number) }
      } else {
        update(items, number)
      }
    }
  }

  private struct Item {
    let parameter: Parameter
    let gradient: Tensor
    let slot: OptimizerSlot
  }

  private func slot(of parameter: Parameter) -> OptimizerSlot {
    if let slot = slots[ObjectIdentifier(parameter)] { return slot }
    let slot = OptimizerSlot(stateNames.count)
    slots[ObjectIdentifier(parameter)] = slot
    return slot
  }

  /// Tells a program that is being traced what it depends on.
  private func observeOptions(_ item: Item, _ group: Int) {
    guard isTracing else { return }
    observe(
      Observation(
        "the rule of \(Self.self), group \(group),", key: [AnyHashable(ObjectIdentifier(self)), group],
        structure(groups[group].options)
      ) { [unowned self] in self.structure(self.groups[group].options) })
    if let rule = rule(groups[group].options), rule.dampening != 0, rule.kind == .sgd {
      observe(
        Observation(
          "whether \(item.parameter) has a momentum buffer", key: ObjectIdentifier(item.slot), item.slot.parts[0] != nil
        ) {
          [slot = item.slot] in slot.parts[0] != nil
        })
    }
  }

  /// What another program is made of if it changes.
  private func structure(_ options: Options) -> AnyHashable {
    if let rule = rule(options) { return rule }
    var options = options
    (options.learningRate, options.weightDecay) = (0, 0)
    return options
  }

  /// A state that exists from now on.
  private func part(_ i: Int, _ item: Item, _ options: Options) -> Variable? {
    if let part = item.slot.parts[i] { return part }
    guard let type = stateType(i, item.parameter) else { return nil }
    let part = untraced {
      // In memory of its own, so that the first step already changes it in place.
      Variable(initialState(i, item.parameter, options)?.contiguous() ?? Tensor.zeros(type.shape, type.elementType).contiguous())
    }
    item.slot.parts[i] = part
    return part
  }

  /// One step of a parameter by operations, which a program that is being traced takes up; a kernel's results to the bit.
  private func stepAsOperation(_ item: Item, _ group: Int) {
    let options = groups[group].options
    let type = elementType(of: item.parameter)
    observeOptions(item, group)
    let numbers =
      schedules[group]
      ?? { [offset = iterations?.offset ?? 0] in
        Tensor.host("learning rate") { [unowned self] in
          self.numbers(self.groups[group].options, self.iterations.map { $0.start + offset })
        }
      }()
    schedules[group] = numbers
    let (parameter, gradient) = (
      item.parameter.value.detached().converted(to: type), item.gradient.detached().converted(to: type)
    )
    guard var rule = rule(options) else {
      let step = countsSteps ? advance(item.slot) : nil
      let states = stateNames.indices.map { part($0, item, options) }
      var update = ParameterStep(
        parameter: parameter, gradient: gradient, states: states.map { $0?.value.detached() }, step: step, numbers: numbers)
      self.update(&update, options)
      item.parameter.value = update.parameter.converted(to: item.parameter.elementType)
      for (state, result) in zip(states, update.states) { if let state, let result { state.value = result } }
      return
    }
    // SGD's first momentum buffer is the gradient itself: that is another program if it is dampened.
    if rule.kind == .sgd, rule.dampening != 0, item.slot.parts[0] == nil { rule.dampening = 0 }
    let states = rule.usedStates.compactMap { part($0, item, options) }
    let step = countsSteps ? advance(item.slot) : untraced { Tensor(1) }
    let factor = nextFactor(item.slot, step, options).map { concatenate([numbers, $0.reshaped(1)]) }
    let results = applyOptimizerStep(rule, parameter, gradient, states.map(\.value), factor ?? numbers, step)
    item.parameter.value = results[0].converted(to: item.parameter.elementType)
    for (state, result) in zip(states, results.dropFirst()) { state.value = result }
  }

  private func update(_ items: [Item], _ group: Int) {
    var fused: [(key: StepKey, items: [Item])] = []
    let options = groups[group].options
    for item in items {
      let type = item.parameter.elementType
      guard (type == .float32 || type == .float64) && item.gradient.elementType == type else {
        stepAsOperation(item, group)
        continue
      }
      let step = countsSteps ? advance(item.slot) : nil
      let factor = step.flatMap { nextFactor(item.slot, $0, options) }
      let key = StepKey(type: type, step: step?.item(as: Int.self) ?? 0, factor: factor?.item(as: Double.self) ?? 1)
      if let i = fused.firstIndex(where: { $0.key == key }) {
        fused[i].items.append(item)
      } else {
        fused.append((key, [item]))
      }
    }
    guard let rule = rule(options) else { return }
    let numbers = numbers(options, iterations?.now)
    for (key, items) in fused {
      updateByKernel(items, key.type, options) {
        CPU.step(
          rule, learningRate: numbers[0], weightDecay: numbers[1], muProduct: key.factor, step: key.step, key.type, $0)
      }
    }
  }

  private func advance(_ slot: OptimizerSlot) -> Tensor {
    let step = slot.step ?? untraced { Variable(Tensor(0)) }
    slot.step = step
    step.value = step.value + 1
    return step.value
  }

  private func nextFactor(_ slot: OptimizerSlot, _ step: Tensor, _ options: Options) -> Tensor? {
    guard factorName != nil else { return nil }
    let factor = slot.factor ?? untraced { Variable(Tensor.ones([], .float64)) }
    slot.factor = factor
    factor.value = nextFactor(factor.value, step, options)
    return factor.value
  }

  private func updateByKernel(
    _ items: [Item], _ type: ElementType, _ options: Options, _ run: (UnsafeBufferPointer<apus_optimizer_tensor>) -> Void
  ) {
    guard let used = rule(options)?.usedStates else { return }
    var tensors: [apus_optimizer_tensor] = []
    var results: [(Variable, CPUArray)] = []
    var operands: [CPUArray] = []
    for item in items {
      let gradient = item.gradient.array.rowMajor()
      let (current, next) = item.parameter.arrayForUpdate()
      operands += [gradient, current]
      results.append((item.parameter, next))
      var tensor = apus_optimizer_tensor()
      tensor.count = Int64(gradient.elementCount)
      tensor.gradient = UnsafeRawPointer(gradient.pointer)
      tensor.parameter = UnsafeRawPointer(current.pointer)
      tensor.parameter_out = next.pointer
      for i in used {
        if item.slot.parts[i] == nil, let initial = initialState(i, item.parameter, options) {
          item.slot.parts[i] = Variable(initial.contiguous())
        }
        guard let variable = item.slot.parts[i] else {
          // The first step's is zeros that nobody has to write and read.
          let variable = Variable(Tensor.zeros(item.parameter.shape, type))
          let first = CPUArray(uninitialized: item.parameter.shape, type)
          item.slot.parts[i] = variable
          results.append((variable, first))
          tensor.setState(i, nil, first.pointer)
          continue
        }
        let (current, next) = variable.arrayForUpdate()
        operands.append(current)
        results.append((variable, next))
        tensor.setState(i, UnsafeRawPointer(current.pointer), next.pointer)
      }
      tensors.append(tensor)
    }
    tensors.withUnsafeBufferPointer(run)
    withExtendedLifetime(operands) {}
    for (variable, array) in results { variable.assign(array) }
  }

  // MARK: State

  public final override var state: [String: Variable] {
    var result: [String: Variable] = [:]
    for (prefix, parameter) in zip(prefixes, parameters) {
      guard let slot = slots[ObjectIdentifier(parameter)] else { continue }
      for (name, part) in zip(stateNames, slot.parts) { result["\(prefix).\(name)"] = part }
      result["\(prefix).step"] = slot.step
      if let factorName { result["\(prefix).\(factorName)"] = slot.factor }
    }
    result["iterations"] = iterations?.variable
    return result
  }

  public final override func prepareState() {
    for group in groups {
      let used = rule(group.options)?.usedStates ?? Array(stateNames.indices)
      for parameter in group.parameters {
        let slot = slot(of: parameter)
        for i in used { _ = part(i, Item(parameter: parameter, gradient: parameter.value, slot: slot), group.options) }
        if countsSteps && slot.step == nil { slot.step = untraced { Variable(Tensor(0)) } }
        if factorName != nil && slot.factor == nil { slot.factor = untraced { Variable(Tensor.ones([], .float64)) } }
      }
    }
  }

  public final override func load(state tensors: [String: Tensor]) throws {
    var report = LoadReport()
    var loaded: [ObjectIdentifier: OptimizerSlot] = [:]
    var used: Set<String> = []
    func take(_ name: String, _ expected: TensorType?) -> Variable? {
      guard let expected, let tensor = tensors[name] else { return nil }
      used.insert(name)
      guard tensor.type == expected else {
        report.mismatched.append(.init(name: name, expected: expected.description, found: tensor.type.description))
        return nil
      }
      return Variable(tensor)
    }
    for (prefix, parameter) in zip(prefixes, parameters) {
      let slot = OptimizerSlot(stateNames.count)
      for (i, name) in stateNames.enumerated() { slot.parts[i] = take("\(prefix).\(name)", stateType(i, parameter)) }
      if countsSteps { slot.step = take("\(prefix).step", TensorType([], .int64)) }
      if let factorName { slot.factor = take("\(prefix).\(factorName)", TensorType([], .float64)) }
      loaded[ObjectIdentifier(parameter)] = slot
    }
    let steps = iterations.map { take("iterations", $0.variable.type) }
    report.unexpected = tensors.keys.filter { !used.contains($0) }.sorted()
    guard report.isComplete else { throw LoadError(path: "optimizer state", report: report) }
    slots = loaded
    if let iterations, let steps { iterations.variable.value = steps?.value ?? Tensor(0) }
  }
}

/// What parameters of a group have in common that one kernel call changes.
private struct StepKey: Hashable {
  let type: ElementType
  let step: Int
  let factor: Double
}

/// What is remembered for one parameter; made at its first step.
private final class OptimizerSlot {
  var parts: [Variable?]
  var step: Variable?
  var factor: Variable?
  init(_ count: Int) { parts = Array(repeating: nil, count: count) }
}

/// One step of one parameter, for algorithms that are made of tensor functions.
struct ParameterStep {
  /// In and out; of the type that ``GroupedOptimizer`` computes in.
  var parameter: Tensor
  let gradient: Tensor
  /// In and out, in the order of `stateNames`.
  var states: [Tensor?]
  /// 1 at the first; int64 [].
  let step: Tensor?
  /// Learning rate and weight decay; float64 [2].
  fileprivate let numbers: Tensor

  fileprivate init(parameter: Tensor, gradient: Tensor, states: [Tensor?], step: Tensor?, numbers: Tensor) {
    (self.parameter, self.gradient, self.states, self.step, self.numbers) = (parameter, gradient, states, step, numbers)
  }

  var type: ElementType { parameter.elementType }
  /// float64 [].
  var learningRate: Tensor { numbers[0] }
  var weightDecay: Tensor { numbers[1] }
  /// The number of the step as float64 [].
  var time: Tensor { (step ?? Tensor(1)).converted(to: .float64) }
  /// A float64 scalar in the parameter's type.
  func scalar(_ x: Tensor) -> Tensor { x.converted(to: type) }

  /// Takes weight decay off the parameter itself: p ← p − learningRate · weightDecay · p.
  mutating func decay() { parameter = parameter * scalar(1 - learningRate * weightDecay) }

  /// The gradient, its sign changed to maximize, and with weight decay added to it.
  func directed(maximize: Bool, decaying: Bool = false) -> Tensor {
    let g = maximize ? -gradient : gradient
    return decaying ? g + parameter * scalar(weightDecay) : g
  }

  func state(_ i: Int) -> Tensor { states[i] ?? Tensor.zeros(parameter.shape, type) }
}
