/// A function or region while it is read: operations with provisional numbers, some of which turn out to be needed only as what
/// a reduction starts from.
final class TextScope {
  struct Node {
    let operation: Operation
    let inputs: [Int]
    let results: Range<Int>
  }

  let parent: TextScope?
  /// Whether comparisons by total order may stand here.
  var isComparator = false
  private(set) var types: [TensorType] = []
  private(set) var nodes: [Node] = []
  private(set) var arguments: [(value: Int, name: String)] = []
  private(set) var captures: [(outer: Int, inner: Int)] = []
  private var captured: [Int: Int] = [:]
  private var names: [String: [Int]] = [:]
  /// Values that are one known number.
  private(set) var numbers: [Int: Scalar] = [:]
  private var starts: Set<Int> = []
  private var producers: [Int: Int] = [:]
  /// Operations with all functions written out.
  private(set) var operationCount = 0

  init(parent: TextScope? = nil) {
    self.parent = parent
  }

  func type(_ value: Int) -> TensorType { types[value] }
  func operation(_ value: Int) -> Operation? { producers[value].map { nodes[$0].operation } }

  func addArgument(_ type: TensorType, name: String) -> Int {
    types.append(type)
    arguments.append((types.count - 1, name))
    return types.count - 1
  }

  /// Gives values a name; false if it is taken.
  func bind(_ name: String, _ values: [Int]) -> Bool { names.updateValue(values, forKey: name) == nil }

  /// The value of this name here or in a scope around; nil if there is none.
  func lookup(_ name: String, _ index: Int?) -> Int? {
    if let values = names[name] {
      if let index { return index < values.count ? values[index] : nil }
      return values.count == 1 ? values[0] : nil
    }
    guard let parent, let outer = parent.lookup(name, index) else { return nil }
    if let known = captured[outer] { return known }
    types.append(parent.types[outer])
    let inner = types.count - 1
    captured[outer] = inner
    captures.append((outer, inner))
    numbers[inner] = parent.numbers[outer]
    return inner
  }

  func append(_ operation: Operation, _ inputs: [Int], sizes: Int = 1) throws(OperationError) -> [Int] {
    let results = try operation.infer(inputs.map { types[$0] })
    for type in results {
      guard let count = type.shape.checkedElementCount, count <= TextLimits.size, type.shape.allSatisfy({ $0 <= TextLimits.size })
      else { throw OperationError(operation, "the result \(type) is too large") }
    }
    let first = types.count
    types += results
    for value in first..<types.count { producers[value] = nodes.count }
    if case .fill(_, _, let value) = operation { numbers[first] = value }
    if case .broadcast = operation { numbers[first] = numbers[inputs[0]] }
    nodes.append(Node(operation: operation, inputs: inputs, results: first..<types.count))
    operationCount += sizes
    return Array(first..<types.count)
  }

  /// Notes that a value was read only for its number.
  func useNumber(_ value: Int) { starts.insert(value) }

  /// The graph. Inputs: the arguments, then those captured values in the order of `outer` (default: all that are needed).
  func finish(_ outputs: [Int], names outputNames: [String]? = nil, capturing outer: [Int]? = nil) -> (graph: Graph, outer: [Int])
  {
    var uses = [Int](repeating: 0, count: types.count)
    for node in nodes { for value in node.inputs { uses[value] += 1 } }
    for value in outputs { uses[value] += 1 }
    var graph = Graph()
    var number = [Int](repeating: -1, count: types.count)
    for argument in arguments { number[argument.value] = graph.addInput(types[argument.value], name: argument.name) }
    let kept = outer ?? captures.filter { uses[$0.inner] > 0 || !starts.contains($0.inner) }.map(\.outer)
    for value in kept {
      let input = graph.addInput(captured[value].map { types[$0] } ?? (parent?.types[value] ?? TensorType([], .bool)))
      if let inner = captured[value] { number[inner] = input }
    }
    for node in nodes {
      if let first = node.results.first, starts.contains(first) && uses[first] == 0 { continue }
      let added = graph.append(node.operation, node.inputs.map { number[$0] }, types: node.results.map { types[$0] })
      for (value, result) in zip(node.results, added) { number[value] = result }
    }
    graph.setOutputs(outputs.map { number[$0] }, names: outputNames)
    return (graph, kept)
  }

  /// Captured values that something other than a start reads.
  func neededCaptures(_ outputs: [Int]) -> [Int] { finish(outputs).outer }
}
