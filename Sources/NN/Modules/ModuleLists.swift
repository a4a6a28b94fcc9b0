import ApusTensor

// Modules that only hold others. Properties that are arrays or dictionaries of modules do as well; these are modules themselves.

/// Modules by number: `0`, `1` … in names. (PyTorch's ModuleList.)
///
/// ```swift
/// let layers = ModuleList([Linear(8, 8), Linear(8, 8)])
/// for layer in layers { x = relu(layer(x)) }
/// ```
public final class ModuleList<Element>: Module, RandomAccessCollection {
  private var elements: [Element]
  private let module: (Element) -> Module

  public init(_ elements: [Element] = []) where Element: Module {
    self.elements = elements
    module = { $0 }
  }

  /// Layers of several kinds.
  public init(_ elements: [any Layer]) where Element == any Layer {
    self.elements = elements
    module = { $0 }
  }

  public var startIndex: Int { 0 }
  public var endIndex: Int { elements.count }

  public subscript(index: Int) -> Element {
    get { elements[checked(index)] }
    set { elements[checked(index)] = newValue }
  }

  public func append(_ element: Element) { elements.append(element) }
  public func append(contentsOf others: some Sequence<Element>) { elements.append(contentsOf: others) }
  public func insert(_ element: Element, at index: Int) {
    guard (0...elements.count).contains(index) else { stop("\(label): there is no place \(index) among \(elements.count)") }
    elements.insert(element, at: index)
  }
  @discardableResult public func remove(at index: Int) -> Element { elements.remove(at: checked(index)) }

  private func checked(_ index: Int) -> Int {
    guard elements.indices.contains(index) else { stop("\(label): there is no module \(index) among \(elements.count)") }
    return index
  }

  override var members: [Member] { elements.enumerated().map { Member(String($0.offset), module($0.element)) } }
}

/// Modules by key, in the order in which they were put in. (PyTorch's ModuleDict.)
public final class ModuleDict<Element>: Module {
  private var elements: [(key: String, value: Element)] = []
  private let module: (Element) -> Module

  public init(_ elements: KeyValuePairs<String, Element> = [:]) where Element: Module {
    module = { $0 }
    super.init()
    for (key, value) in elements { self[key] = value }
  }

  /// Layers of several kinds.
  public init(_ elements: KeyValuePairs<String, any Layer>) where Element == any Layer {
    module = { $0 }
    super.init()
    for (key, value) in elements { self[key] = value }
  }

  public var keys: [String] { elements.map(\.key) }
  public var values: [Element] { elements.map(\.value) }
  public var count: Int { elements.count }

  /// The module of a key; nil takes it out.
  public subscript(key: String) -> Element? {
    get { elements.first { $0.key == key }?.value }
    set { elements.put(newValue, at: key, label) }
  }

  override var members: [Member] { elements.map { Member($0.key, module($0.value)) } }
}

/// Parameters by number. (PyTorch's ParameterList.)
public final class ParameterList: Module, RandomAccessCollection {
  private var elements: [Parameter]

  public init(_ elements: [Parameter] = []) { self.elements = elements }

  public var startIndex: Int { 0 }
  public var endIndex: Int { elements.count }

  public subscript(index: Int) -> Parameter {
    get { elements[checked(index)] }
    set { elements[checked(index)] = newValue }
  }

  public func append(_ parameter: Parameter) { elements.append(parameter) }
  public func append(contentsOf others: some Sequence<Parameter>) { elements.append(contentsOf: others) }

  private func checked(_ index: Int) -> Int {
    guard elements.indices.contains(index) else { stop("\(label): there is no parameter \(index) among \(elements.count)") }
    return index
  }

  override var members: [Member] { elements.enumerated().map { Member(String($0.offset), $0.element) } }
}

/// Parameters by key, in the order in which they were put in. (PyTorch's ParameterDict.)
public final class ParameterDict: Module {
  private var elements: [(key: String, value: Parameter)] = []

  public init(_ elements: KeyValuePairs<String, Parameter> = [:]) {
    super.init()
    for (key, value) in elements { self[key] = value }
  }

  public var keys: [String] { elements.map(\.key) }
  public var values: [Parameter] { elements.map(\.value) }
  public var count: Int { elements.count }

  /// The parameter of a key; nil takes it out.
  public subscript(key: String) -> Parameter? {
    get { elements.first { $0.key == key }?.value }
    set { elements.put(newValue, at: key, label) }
  }

  override var members: [Member] { elements.map { Member($0.key, $0.value) } }
}

extension Array {
  /// Replaces, adds or, for nil, removes the value of a key.
  fileprivate mutating func put<Value>(_ value: Value?, at key: String, _ label: String)
  where Element == (key: String, value: Value) {
    guard !key.isEmpty, !key.contains(".") else {
      stop("\(label): the key \"\(key)\" must not be empty nor have a point: it is part of names")
    }
    let i = firstIndex { $0.key == key }
    switch (i, value) {
    case (let i?, let value?): self[i].value = value
    case (let i?, nil): remove(at: i)
    case (nil, let value?): append((key, value))
    case (nil, nil): break
    }
  }
}

// MARK: Freezing by name

extension Module {
  /// Takes those parameters out of training whose path `matches` says yes to: `model.freeze { !$0.hasPrefix("head.") }`.
  public final func freeze(where matches: (_ name: String) -> Bool) {
    for (name, parameter) in namedParameters where matches(name) { parameter.isTrainable = false }
  }

  /// Puts those parameters back into training whose path `matches` says yes to.
  public final func unfreeze(where matches: (_ name: String) -> Bool) {
    for (name, parameter) in namedParameters where matches(name) { parameter.isTrainable = true }
  }
}
