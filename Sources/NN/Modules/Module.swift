import ApusTensor
import Synchronization

/// A part of a model: a plain class whose properties are parameters, variables and other modules.
///
/// ```swift
/// final class LeNet: Module {
///   let conv1 = Conv2d(1, 32, kernelSize: 3, padding: 1)
///   let head = Linear(32 * 28 * 28, 10)
///   func callAsFunction(_ x: Tensor) -> Tensor { head(relu(conv1(x)).flattened(from: 1)) }
/// }
/// ```
/// Properties are found by reflection; so are arrays, optionals, dictionaries (in the order of their keys) and tuples
/// of them. Names in files are PyTorch's: `layers.0.conv.weight`, `bn.running_mean` for a property `runningMean`.
/// A property that should not count is one of any other type: a tensor is a constant, not a parameter.
///
/// A module is used by one task at a time. Its variables may be read from any.
open class Module {
  private let trains = Atomic<Bool>(true)
  /// The path from the outermost module that has been asked for its parts; for messages.
  private(set) var path = ""
  /// Hooks, regularizers, constraints and parametrizations; nil for most modules.
  final var attachments: Attachments?

  public init() {}

  /// The name in files of a property of this class; by default in snake case: `runningMean` → `running_mean`.
  open func savedName(ofProperty property: String) -> String { snakeCase(property) }

  /// What this module holds directly. Layers list it; other modules are reflected.
  var members: [Member] { reflectedMembers(of: self) }

  /// What goes between the parentheses when the module is printed.
  var arguments: String { "" }

  /// Whether parameters are still missing because the size of the input is not known yet.
  var awaitsInput: Bool { false }

  // MARK: Mode

  /// Whether layers behave as in training: dropout drops, batch normalization uses the batch's statistics.
  public final var isTraining: Bool {
    let mode = trains.load(ordering: .relaxed)
    observe(
      Observation("isTraining of \(label)", key: ObjectIdentifier(self), mode) { self.trains.load(ordering: .relaxed) })
    return mode
  }

  /// Sets the mode of this module and all modules in it; a new module is in training mode.
  public final func train(_ mode: Bool = true) {
    for module in modules {
      module.trains.store(mode, ordering: .relaxed)
      if isTracing { _ = decide(ObjectIdentifier(module), true) }
    }
  }

  /// Sets the mode of this module alone.
  final func setOwnMode(_ mode: Bool) { trains.store(mode, ordering: .relaxed) }

  /// Sets evaluation mode in this module and all modules in it.
  public final func eval() { train(false) }

  /// Runs `body` in evaluation mode and without remembering operations for gradients; then restores each module's mode.
  public final func evaluating<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
    // In a function that is being traced, the mode within is its own, the one before and after comes from outside.
    let before = modules.map { ($0, $0.trains.load(ordering: .relaxed), isTracing && decide(ObjectIdentifier($0), true)) }
    eval()
    defer {
      for (module, mode, wasDecided) in before {
        module.trains.store(mode, ordering: .relaxed)
        if isTracing { _ = decide(ObjectIdentifier(module), wasDecided) }
      }
    }
    return try withoutGradient(body)
  }

  // MARK: Parts

  /// All parameters, frozen ones too, each once: a module's own first, then those of the modules in it as declared.
  public final var parameters: [Parameter] { namedParameters.map(\.parameter) }

  /// All parameters with their paths.
  public final var namedParameters: [(name: String, parameter: Parameter)] {
    namedVariables.compactMap { name, variable in (variable as? Parameter).map { (name, $0) } }
  }

  /// All parameters and other variables, such as running statistics, each once.
  public final var variables: [Variable] { namedVariables.map(\.variable) }

  /// All parameters and other variables with their paths, the keys of PyTorch's `state_dict`, each once.
  public final var namedVariables: [(name: String, variable: Variable)] {
    var seen: Set<ObjectIdentifier> = []
    return allPaths.filter { seen.insert(ObjectIdentifier($0.variable)).inserted }
  }

  /// This module and all modules in it, each once.
  public final var modules: [Module] { namedModules.map(\.module) }

  /// This module, whose name is empty, and all modules in it with their paths, each once.
  public final var namedModules: [(name: String, module: Module)] {
    var walk = Walk(root: self)
    walk.visit(self, "")
    var seen: Set<ObjectIdentifier> = []
    return walk.modules.filter { seen.insert(ObjectIdentifier($0.module)).inserted }
  }

  /// Every path that leads to a variable; a shared one has several.
  final var allPaths: [(name: String, variable: Variable)] {
    var walk = Walk(root: self)
    walk.visit(self, "")
    for (name, module) in walk.modules {
      if module.awaitsInput {
        stop(
          "\(name.isEmpty ? "" : name + ": ")\(module) has no parameters before its first input; call the model, or build(input:)"
        )
      }
      if name.utf8.count > module.path.utf8.count { module.path = name }
    }
    // The outermost module's path is the longest.
    for (name, variable) in walk.variables where name.utf8.count > variable.name.utf8.count { variable.name = name }
    return walk.variables
  }

  // MARK: Freezing

  /// Takes all parameters out of training: no gradient reaches them.
  public final func freeze() { for parameter in parameters { parameter.isTrainable = false } }

  /// Puts all parameters back into training.
  public final func unfreeze() { for parameter in parameters { parameter.isTrainable = true } }

  // MARK: For layers

  /// The module in messages: `conv1 (Conv2d(1, 32, kernelSize: 3))`.
  package final var label: String {
    let call = "\(type(of: self))(\(arguments))"
    return path.isEmpty ? call : "\(path) (\(call))"
  }

  /// Hands on the output of a call. While it is computed, mistakes that stop the program name this module; its shape and the
  /// multiply-adds go to the ``summary(running:)`` that is being made.
  ///
  /// The layers do this by themselves; a module of your own may: `recorded(head(relu(x)))`.
  @inline(__always) public final func recorded(_ output: @autoclosure () -> Tensor) -> Tensor { recorded(output) }

  /// The same for an output that takes several statements.
  @inline(__always) public final func recorded(_ output: () -> Tensor) -> Tensor { left(recorded(all: output, \.shape)) }

  /// The same for outputs of another form.
  @inline(__always) final func recorded<R>(all output: () -> R, _ shape: (R) -> Shape) -> R {
    let outer = RunningCall.enter(self)
    let recorder = CallRecorder.count.load(ordering: .relaxed) > 0 ? CallRecorder.current : nil
    recorder?.enter(self)
    let result = output()
    recorder?.leave(self, shape(result))
    RunningCall.leave(outer)
    return result
  }
}

extension Module: NamedInMessages {}

extension Module: CustomStringConvertible {
  /// The module and what is in it, as PyTorch prints it.
  public final var description: String {
    let children = parts.compactMap { member -> String? in
      guard case .module(let module) = member.value else { return nil }
      let lines = module.description.split(separator: "\n", omittingEmptySubsequences: false)
      return "  (\(member.name)): " + lines.joined(separator: "\n  ")
    }
    let name = String(describing: type(of: self))
    return children.isEmpty ? "\(name)(\(arguments))" : "\(name)(\n" + children.joined(separator: "\n") + "\n)"
  }
}

/// A module that takes one tensor to one tensor, as ``Sequential`` chains them.
public protocol Layer: Module {
  func callAsFunction(_ x: Tensor) -> Tensor
}

extension Layer {
  /// Creates the parameters that wait for an input's size, by running an input of zeros through.
  /// - Parameter input: the shape of one sample, without the batch dimension.
  public func build(input: Shape, _ elementType: ElementType = .float32) {
    _ = evaluating { self(Tensor.zeros(Shape([1] + Array(input)), elementType)) }
  }
}
