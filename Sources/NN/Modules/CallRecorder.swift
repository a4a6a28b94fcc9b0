import ApusTensor
import Synchronization

/// Notes the output shapes and the work of modules while a summary is being made; one task calls them.
///
/// Work belongs to the innermost module that is known to run: the one whose output is being recorded. A module that
/// does not record its output is known by its parts: whoever reads a module's parameters is that module, and what comes after
/// a module's part is the module itself.
final class CallRecorder: @unchecked Sendable {
  /// How many recorders there are; layers look no further while it is zero.
  static let count = Atomic<Int>(0)
  @TaskLocal static var current: CallRecorder?

  private let meter = WorkMeter()
  private let root: Module
  private var shapes: [ObjectIdentifier: Shape] = [:]
  private var flops: [ObjectIdentifier: Double] = [:]
  /// The modules whose output is being computed, and the one that the next work belongs to.
  private var running: [Module] = []
  private var current: Module
  /// The module above each, and the module of each variable; modules may get parts while they run.
  private var parents: [ObjectIdentifier: Module] = [:]
  private var owners: [ObjectIdentifier: Module] = [:]

  init(_ root: Module) { (self.root, current) = (root, root) }

  func shape(of module: Module) -> Shape? { shapes[ObjectIdentifier(module)] }
  func multiplyAdds(of module: Module) -> Int { Int((flops[ObjectIdentifier(module)] ?? 0) / 2) }

  func recording(_ body: () -> Void) {
    look()
    CallRecorder.count.add(1, ordering: .relaxed)
    defer { CallRecorder.count.subtract(1, ordering: .relaxed) }
    CallRecorder.$current.withValue(self) {
      meter.noting(onRead: { self.wasRead($0) }, body)
    }
    settle()
  }

  func enter(_ module: Module) {
    settle()
    running.append(module)
    current = module
  }

  func leave(_ module: Module, _ shape: Shape) {
    settle()
    running.removeLast()
    let id = ObjectIdentifier(module)
    if shapes[id] == nil { shapes[id] = shape }
    current = parent(of: module)
    if let innermost = running.last, !isPart(current, of: innermost) { current = innermost }
  }

  private func wasRead(_ variable: Variable) {
    let id = ObjectIdentifier(variable)
    if owners[id] == nil { look() }
    guard let owner = owners[id] else { return }
    if let innermost = running.last, !isPart(owner, of: innermost) { return }
    settle()
    current = owner
  }

  /// What was computed since the last look is the present module's.
  private func settle() {
    let done = meter.flops()
    if done > 0 { flops[ObjectIdentifier(current), default: 0] += done }
  }

  private func parent(of module: Module) -> Module {
    if parents[ObjectIdentifier(module)] == nil { look() }
    return parents[ObjectIdentifier(module)] ?? root
  }

  private func isPart(_ module: Module, of whole: Module) -> Bool {
    var module = module
    while module !== whole {
      guard let parent = parents[ObjectIdentifier(module)] else { return false }
      module = parent
    }
    return true
  }

  private func look() {
    let modules = root.namedModules
    let byName = Dictionary(modules, uniquingKeysWith: { first, _ in first })
    for (name, module) in modules {
      for case .variable(let variable) in module.parts.map(\.value) where owners[ObjectIdentifier(variable)] == nil {
        owners[ObjectIdentifier(variable)] = module
      }
      var path = Substring(name)
      while !path.isEmpty && parents[ObjectIdentifier(module)] == nil {
        path = path.lastIndex(of: ".").map { path[..<$0] } ?? ""
        parents[ObjectIdentifier(module)] = byName[String(path)]
      }
    }
  }
}
