import ApusTensor

/// A named part of a module.
struct Member {
  enum Value {
    case variable(Variable)
    case module(Module)
  }
  var name: String
  var value: Value

  init(_ name: String, _ variable: Variable) { (self.name, value) = (name, .variable(variable)) }
  init(_ name: String, _ module: Module) { (self.name, value) = (name, .module(module)) }

  /// The parts that exist.
  static func list(_ variables: (String, Variable?)...) -> [Member] {
    variables.compactMap { name, variable in variable.map { Member(name, $0) } }
  }
}

/// A module's parts and theirs, in PyTorch's order: its own variables before the modules in it.
struct Walk {
  var modules: [(name: String, module: Module)] = []
  var variables: [(name: String, variable: Variable)] = []
  /// The modules being visited: a reference back to one of them is no part.
  private var ancestors: [Module] = []

  init(root: Module) {}

  mutating func visit(_ module: Module, _ path: String) {
    if ancestors.contains(where: { $0 === module }) { return }
    ancestors.append(module)
    defer { ancestors.removeLast() }
    modules.append((path, module))
    let prefix = path.isEmpty ? "" : path + "."
    let members = module.parts
    for member in members {
      if case .variable(let variable) = member.value { variables.append((prefix + member.name, variable)) }
    }
    for member in members {
      if case .module(let child) = member.value { visit(child, prefix + member.name) }
    }
  }
}

/// The variables and modules among the properties of `module`, those of base classes first.
func reflectedMembers(of module: Module) -> [Member] {
  var mirrors: [Mirror] = []
  var next: Mirror? = Mirror(reflecting: module)
  while let mirror = next, mirror.subjectType != Module.self {
    mirrors.append(mirror)
    next = mirror.superclassMirror
  }
  var members: [Member] = []
  for mirror in mirrors.reversed() {
    for child in mirror.children {
      guard var label = child.label else { continue }
      // `lazy var x` is stored as `$__lazy_storage_$_x`.
      if label.hasPrefix("$__lazy_storage_$_") { label.removeFirst("$__lazy_storage_$_".count) }
      collect(child.value, module.savedName(ofProperty: label), into: &members)
    }
  }
  return members
}

/// - Returns: whether the value is, or may hold, a part of a module.
@discardableResult
private func collect(_ value: Any, _ name: String, into members: inout [Member]) -> Bool {
  if let variable = value as? Variable {
    members.append(Member(name, variable))
    return true
  }
  if let module = value as? Module {
    members.append(Member(name, module))
    return true
  }
  let mirror = Mirror(reflecting: value)
  switch mirror.displayStyle {
  case .optional:
    guard let wrapped = mirror.children.first else { return true }
    return collect(wrapped.value, name, into: &members)
  case .collection, .tuple:
    for (i, child) in mirror.children.enumerated() {
      // A tuple's labels are its names; `.0` is what an unnamed place is called.
      let part = child.label.map { $0.hasPrefix(".") ? String($0.dropFirst()) : snakeCase($0) } ?? String(i)
      if !collect(child.value, "\(name).\(part)", into: &members) && mirror.displayStyle == .collection { return false }
    }
    return true
  case .dictionary:
    let pairs = mirror.children.compactMap { child -> (String, Any)? in
      let pair = Array(Mirror(reflecting: child.value).children)
      guard pair.count == 2, let key = pair[0].value as? String else { return nil }
      return (key, pair[1].value)
    }
    for (key, value) in pairs.sorted(by: { $0.0 < $1.0 }) {
      if !collect(value, "\(name).\(key)", into: &members) { return false }
    }
    return true
  default: return false
  }
}

/// `runningMean` → `running_mean`, `conv1BN` → `conv1_bn`, `weightIHL0` → `weight_ihl0`; names in snake case stay.
func snakeCase(_ name: String) -> String {
  let letters = Array(name.unicodeScalars)
  var result = ""
  for (i, letter) in letters.enumerated() {
    let isUpper = letter.properties.isUppercase
    if isUpper && i > 0 && letters[i - 1] != "_" {
      let afterLower = !letters[i - 1].properties.isUppercase
      let beforeLower = i + 1 < letters.count && letters[i + 1].properties.isLowercase
      if afterLower || beforeLower { result += "_" }
    }
    result += isUpper ? letter.properties.lowercaseMapping : String(letter)
  }
  return result
}
