import ApusTensor

/// What is attached to a module beside its parts: hooks, regularizers, constraints, parametrizations.
final class Attachments {
  struct Numbered<Value> {
    let number: Int
    let value: Value
  }

  /// Which variables of a module something is meant for; looked up when it is used, since layers may get theirs late.
  struct Target {
    let what: String
    /// A path within the module; nil: whatever the predicate says.
    let name: String?
    let matches: (String, Variable) -> Bool
  }

  typealias Hook = (Module, Tensor) -> Tensor?

  var inputHooks: [Numbered<Hook>] = []
  var outputHooks: [Numbered<Hook>] = []
  var regularizers: [(target: Target, regularizer: Regularizer)] = []
  var activityRegularizers: [Regularizer] = []
  var constraints: [(target: Target, constraint: Constraint)] = []
  /// In the order they were registered.
  var parametrizations: [(name: String, list: ParametrizationList)] = []
  private var penalties: [Penalty] = []
  private var last = 0
  /// The call of a container that is running, if any: whether the output's hooks have run.
  private var call: Bool?

  func add(_ hook: @escaping Hook, to list: ReferenceWritableKeyPath<Attachments, [Numbered<Hook>]>) -> HookHandle {
    last += 1
    let number = last
    self[keyPath: list].append(Numbered(number: number, value: hook))
    return HookHandle { [weak self] in self?[keyPath: list].removeAll { $0.number == number } }
  }

  // MARK: Calls

  /// The input after the hooks; a container has run them already.
  func entered(_ module: Module, _ x: Tensor) -> Tensor {
    call == nil ? changed(x, by: inputHooks, module) : x
  }

  /// The output after the hooks.
  func left(_ module: Module, _ y: Tensor) -> Tensor {
    if call == true { return y }
    if call != nil { call = true }
    let y = changed(y, by: outputHooks, module)
    if !activityRegularizers.isEmpty {
      // Sums of many numbers: not in half precision.
      let wide = y.elementType == .float16 || y.elementType == .bfloat16 ? y.converted(to: .float32) : y
      for regularizer in activityRegularizers { note(regularizer(wide), y) }
    }
    return y
  }

  /// A container's call: the hooks run once, whether the module's own code runs them or not.
  func around(_ module: Module, _ x: Tensor, _ body: (Tensor) -> Tensor) -> Tensor {
    let x = entered(module, x)
    let outer = call
    call = false
    defer { call = outer }
    return left(module, body(x))
  }

  private func changed(_ x: Tensor, by hooks: [Numbered<Hook>], _ module: Module) -> Tensor {
    hooks.reduce(x) { $1.value(module, $0) ?? $0 }
  }

  // MARK: Penalties

  /// What a call's output costs, until ``Module/regularizationLoss()`` reads it.
  private struct Penalty {
    let value: Tensor
    /// The trace it is a value of; nil outside of traces.
    let trace: Int?
  }

  /// How many calls are remembered: whoever never reads their penalties does not keep all histories alive.
  private static let remembered = 16

  func note(_ penalty: Tensor, _ output: Tensor) {
    let trace = activeTrace
    penalties.removeAll { $0.trace != trace }
    if penalties.count == Self.remembered { penalties.removeFirst() }
    penalties.append(Penalty(value: penalty / Swift.max(output.shape.first ?? 1, 1), trace: trace))
  }

  func takePenalties() -> [Tensor] {
    let trace = activeTrace
    defer { penalties = [] }
    return penalties.filter { $0.trace == trace }.map(\.value)
  }
}

extension Module {
  final var attached: Attachments {
    if let attachments { return attachments }
    let made = Attachments()
    attachments = made
    return made
  }

  /// What this module holds directly; in place of parametrized variables, what these are computed from.
  final var parts: [Member] {
    guard let parametrizations = attachments?.parametrizations, !parametrizations.isEmpty else { return members }
    return members.filter { member in !parametrizations.contains { $0.name == member.name } }
      + parametrizations.map { Member("parametrizations." + $0.name, $0.list) }
  }

  /// The variables of this module and all modules in it that something attached is meant for, with their paths; a computed one
  /// counts as such. Frozen ones are left out.
  final func variables(for target: Attachments.Target) -> [(name: String, variable: Variable)] {
    var found: [(name: String, variable: Variable, isTrained: Bool)] = []
    for (name, parameter) in namedParameters { found.append((name, parameter, parameter.isTrainable)) }
    for (path, module) in namedModules {
      for (name, list) in module.attachments?.parametrizations ?? [] {
        found.append((path.isEmpty ? name : "\(path).\(name)", list.variable, list.originals.contains { $0.isTrainable }))
      }
    }
    if let name = target.name, !found.contains(where: { $0.name == name }) {
      // Shared variables have several paths.
      guard let shared = allPaths.first(where: { $0.name == name })?.variable else {
        let names = found.prefix(10).map(\.name).joined(separator: ", ")
        stop("\(label): there is no parameter \"\(name)\" to \(target.what); there are \(names)\(found.count > 10 ? " …" : "")")
      }
      return shared.isTrainable ? [(name, shared)] : []
    }
    return found.filter { $0.isTrained && target.matches($0.name, $0.variable) }.map { ($0.name, $0.variable) }
  }
}
