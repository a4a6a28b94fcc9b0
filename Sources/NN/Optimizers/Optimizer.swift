import ApusCPU
import ApusFormats
import ApusTensor
import CApusKernels

/// What changes parameters by their gradients.
open class Optimizer {
  /// All parameters that are changed.
  public final let parameters: [Parameter]

  public init(_ parameters: [Parameter]) { self.parameters = parameters }

  /// The learning rate of each parameter group.
  open var learningRates: [Double] {
    get { [] }
    set {}
  }

  /// The learning rate of the first group; set, it becomes that of all.
  public final var learningRate: Double {
    get { learningRates.first ?? 0 }
    set { learningRates = learningRates.map { _ in newValue } }
  }

  /// Changes the parameters once. Those without a gradient (frozen, or not used) stay as they are.
  ///
  /// Memory of a parameter that nobody else holds is changed in place: while a step runs, other tasks must not read
  /// the parameters.
  open func step(_ gradients: Gradients) { stop("\(type(of: self)) does not override step(_:)") }

  /// Computes the gradients of `loss` by the parameters and changes these once. Gives the history of `loss` back.
  public final func step(minimizing loss: Tensor) { step(loss.gradients(for: parameters, releasingHistory: true)) }

  /// What the optimizer remembers between steps, such as moments, by name: `conv1.weight.exp_avg`.
  open var state: [String: Variable] { [:] }

  /// Takes over what another optimizer of this kind remembered.
  /// - Throws: ``LoadError`` for names or shapes that do not fit; nothing is changed then.
  open func load(state: [String: Tensor]) throws {}

  /// Writes ``state`` to a safetensors file.
  public final func save(_ path: String, metadata: [String: String] = [:]) throws {
    try saveTensors(state.mapValues(\.value), to: path, metadata: metadata)
  }

  /// Reads ``state`` from a safetensors file.
  public final func load(_ path: String) throws { try load(state: loadTensors(from: path)) }
}

/// What one parameter group may set differently from the others.
public protocol OptimizerOptions: Sendable {
  var learningRate: Double { get set }
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

/// What the optimizers share: parameter groups, their state, and the way to the kernels.
///
/// float32 and float64 parameters are changed by one pass over memory, those of a group together. float16 and bfloat16 ones are
/// widened, changed as float32 and rounded; their state is kept in float32.
public class GroupedOptimizer<Options: OptimizerOptions>: Optimizer {
  /// Parameters with the options they are changed by.
  public struct Group {
    public let parameters: [Parameter]
    public var options: Options
  }

  public final var groups: [Group]
  private var slots: [ObjectIdentifier: Slot] = [:]
  /// Of each group, while a step is traced.
  private var schedules: [Int: Tensor] = [:]

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
  /// The algorithm with these options, save those of ``schedule(_:)``.
  func rule(_ options: Options) -> OptimizerRule { OptimizerRule(.sgd) }
  /// Learning rate and weight decay, which may change from step to step of one compiled program.
  func schedule(_ options: Options) -> [Double] { [options.learningRate, 0] }

  // MARK: Steps

  public final override var learningRates: [Double] {
    get { groups.map(\.options.learningRate) }
    set {
      guard newValue.count == groups.count else {
        stop("\(type(of: self)): \(newValue.count) learning rates for \(groups.count) groups")
      }
      for i in groups.indices { groups[i].options.learningRate = newValue[i] }
    }
  }

  public final override func step(_ gradients: Gradients) {
    let aligned =
      gradients.variables.count == parameters.count && zip(gradients.variables, parameters).allSatisfy { $0 === $1 }
    var places: [ObjectIdentifier: Int] = [:]
    if !aligned { for (i, variable) in gradients.variables.enumerated() { places[ObjectIdentifier(variable)] = i } }
    schedules = [:]
    defer { schedules = [:] }
    withoutGradient {
      var next = 0
      for (number, group) in groups.enumerated() {
        var items: [Item] = []
        for parameter in group.parameters {
          let place = aligned ? next : places[ObjectIdentifier(parameter)]
          next += 1
          guard let place, let gradient = gradients.values[place] else { continue }
          guard gradient.type == parameter.type else {
            stop("\(type(of: self)): the gradient of \(parameter) is \(gradient.type)")
          }
          items.append(Item(parameter: parameter, gradient: gradient, slot: slot(of: parameter)))
        }
        if isTracing { items.forEach { stepAsOperation($0, number) } } else { update(items, number) }
      }
    }
  }

  private struct Item {
    let parameter: Parameter
    let gradient: Tensor
    let slot: Slot
  }

  /// What is remembered for one parameter; made at its first step.
  private final class Slot {
    var parts: [Variable?]
    var step: Variable?
    init(_ count: Int) { parts = Array(repeating: nil, count: count) }
  }

  private func slot(of parameter: Parameter) -> Slot {
    if let slot = slots[ObjectIdentifier(parameter)] { return slot }
    let slot = Slot(stateNames.count)
    slots[ObjectIdentifier(parameter)] = slot
    return slot
  }

  /// One step of a parameter as an operation, which a program that is being traced takes up: the kernel's results to the bit.
  private func stepAsOperation(_ item: Item, _ group: Int) {
    let options = groups[group].options
    let type = stateType(item.parameter)
    var rule = rule(options)
    // SGD's first momentum buffer is the gradient itself: that is another program if it is dampened.
    if rule.dampening != 0, item.slot.parts[0] == nil { rule.dampening = 0 }
    observe(
      Observation(
        "the rule of \(Self.self), group \(group),", key: [AnyHashable(ObjectIdentifier(self)), group], self.rule(options)
      ) {
        [unowned self] in self.rule(self.groups[group].options)
      })
    if self.rule(options).dampening != 0 {
      observe(
        Observation(
          "whether \(item.parameter) has a momentum buffer", key: ObjectIdentifier(item.slot), item.slot.parts[0] != nil
        ) {
          [slot = item.slot] in slot.parts[0] != nil
        })
    }
    let states = rule.usedStates.map { i -> Variable in
      if let part = item.slot.parts[i] { return part }
      // In memory of its own, so that the first step already changes it in place.
      let part = untraced { Variable(Tensor.zeros(item.parameter.shape, type).contiguous()) }
      item.slot.parts[i] = part
      return part
    }
    let step = countsSteps ? advance(item.slot) : untraced { Tensor(1) }
    let schedule =
      schedules[group] ?? Tensor.host("learning rate") { [unowned self] in self.schedule(self.groups[group].options) }
    schedules[group] = schedule
    let results = applyOptimizerStep(
      rule, item.parameter.value.detached().converted(to: type), item.gradient.detached().converted(to: type),
      states.map(\.value), schedule, step)
    item.parameter.value = results[0].converted(to: item.parameter.elementType)
    for (state, result) in zip(states, results.dropFirst()) { state.value = result }
  }

  private func stateType(_ parameter: Parameter) -> ElementType { parameter.elementType == .float64 ? .float64 : .float32 }

  private func update(_ items: [Item], _ group: Int) {
    var fused: [(type: ElementType, step: Int, items: [Item])] = []
    for item in items {
      let type = item.parameter.elementType
      guard type == .float32 || type == .float64 else {
        stepAsOperation(item, group)
        continue
      }
      let step = countsSteps ? advance(item.slot).item(as: Int.self) : 0
      if let i = fused.firstIndex(where: { $0.type == type && $0.step == step }) {
        fused[i].items.append(item)
      } else {
        fused.append((type, step, [item]))
      }
    }
    for (type, step, items) in fused { updateByKernel(items, type, step, groups[group].options) }
  }

  private func advance(_ slot: Slot) -> Tensor {
    let step = slot.step ?? untraced { Variable(Tensor(0)) }
    slot.step = step
    step.value = step.value + 1
    return step.value
  }

  private func updateByKernel(_ items: [Item], _ type: ElementType, _ step: Int, _ options: Options) {
    let rule = rule(options)
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
      for i in rule.usedStates {
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
    let schedule = schedule(options)
    tensors.withUnsafeBufferPointer {
      CPU.step(rule, learningRate: schedule[0], weightDecay: schedule[1], step: step, type, $0)
    }
    withExtendedLifetime(operands) {}
    for (variable, array) in results { variable.assign(array) }
  }

  // MARK: State

  /// A parameter's name, or its number where names are missing or not unique.
  private var prefixes: [String] {
    let names = parameters.map(\.name)
    let usable = Set(names).count == names.count && !names.contains("")
    return usable ? names : names.indices.map(String.init)
  }

  public final override var state: [String: Variable] {
    var result: [String: Variable] = [:]
    for (prefix, parameter) in zip(prefixes, parameters) {
      guard let slot = slots[ObjectIdentifier(parameter)] else { continue }
      for (name, part) in zip(stateNames, slot.parts) { result["\(prefix).\(name)"] = part }
      result["\(prefix).step"] = slot.step
    }
    return result
  }

  public final override func load(state tensors: [String: Tensor]) throws {
    var report = LoadReport()
    var loaded: [ObjectIdentifier: Slot] = [:]
    var used: Set<String> = []
    for (prefix, parameter) in zip(prefixes, parameters) {
      let slot = Slot(stateNames.count)
      func take(_ name: String, _ expected: TensorType) -> Variable? {
        guard let tensor = tensors["\(prefix).\(name)"] else { return nil }
        used.insert("\(prefix).\(name)")
        guard tensor.type == expected else {
          report.mismatched.append(
            .init(name: "\(prefix).\(name)", expected: expected.description, found: tensor.type.description))
          return nil
        }
        return Variable(tensor)
      }
      for (i, name) in stateNames.enumerated() { slot.parts[i] = take(name, TensorType(parameter.shape, stateType(parameter))) }
      if countsSteps { slot.step = take("step", TensorType([], .int64)) }
      loaded[ObjectIdentifier(parameter)] = slot
    }
    report.unexpected = tensors.keys.filter { !used.contains($0) }.sorted()
    guard report.isComplete else { throw LoadError(path: "optimizer state", report: report) }
    slots = loaded
  }
}
