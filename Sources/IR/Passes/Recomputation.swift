/// Activations that are quickly made again are not kept from the way forward to the way back: where memory is largest, what lies there
/// unread, and can be computed again from what is kept anyway, is dropped and made anew before its next reader. Sums, products with
/// matrices and random numbers are never repeated; what is computed again has the same bits.
///
/// A batch normalization is repeated with the statistics that it found (Chen et al. 2016 call the idea checkpointing).
/// - Parameters:
///   - smallest: bytes below which a value is not worth it.
///   - gain: the share of all temporaries that must be saved at the peak; else the graph stays as it is.
public func withRecomputation(_ graph: Graph, smallest: Int = 1 << 20, gain: Double = 0.03) -> Graph {
  var search = RecomputationSearch(graph, smallest: smallest)
  let before = search.peak().bytes
  guard before > 0 else { return graph }
  while let choice = search.choice() { search.take(choice) }
  guard !search.chosen.isEmpty, Double(before - search.peak().bytes) >= gain * Double(before) else { return graph }
  return search.rewritten()
}

private struct RecomputationSearch {
  /// One value: dropped after a reader, made again before node `place` by repeating these nodes, operands first.
  struct Choice {
    let value: Graph.Value
    let place: Int
    let nodes: [Int]
  }

  let graph: Graph
  let smallest: Int
  private let producers: [Int?]
  /// What a view shows, itself for others.
  private var root: [Graph.Value]
  /// The nodes that read a value or a view of it, in order; views themselves are none.
  private var readers: [[Int]]
  /// Those that read it through a view, with the node that made the (first) view.
  private var viewReads: [[(made: Int, reader: Int)]]
  private let isOutput: Set<Graph.Value>
  private var changes: [Int]
  private var pinned: Set<Graph.Value> = []
  private(set) var chosen: [Choice] = []

  init(_ graph: Graph, smallest: Int) {
    (self.graph, self.smallest) = (graph, smallest)
    producers = graph.producers
    root = Array(0..<graph.valueCount)
    readers = Array(repeating: [], count: graph.valueCount)
    viewReads = Array(repeating: [], count: graph.valueCount)
    var firstView = [Int](repeating: 0, count: graph.valueCount)
    var outputs: Set<Graph.Value> = []
    for (i, node) in graph.nodes.enumerated() {
      if Self.isView(node.operation) {
        let source = node.inputs[0]
        root[node.firstResult] = root[source]
        firstView[node.firstResult] = root[source] == source ? i : firstView[source]
        continue
      }
      for value in Set(node.inputs) {
        readers[root[value]].append(i)
        if root[value] != value { viewReads[root[value]].append((firstView[value], i)) }
      }
    }
    for value in graph.outputs { outputs.insert(root[value]) }
    isOutput = outputs
    changes = Array(repeating: 0, count: graph.nodes.count + 2)
    for value in graph.inputCount..<max(graph.inputCount, graph.valueCount) where root[value] == value {
      guard let first = producers[value] else { continue }
      let last = isOutput.contains(value) ? graph.nodes.count : readers[value].last ?? first
      count(value, from: first, through: last)
    }
  }

  private static func isView(_ operation: Operation) -> Bool {
    switch operation {
    case .broadcast, .reshape, .transpose, .slice, .reverse, .bitcast, .stopGradient: true
    default: false
    }
  }

  private func bytes(_ value: Graph.Value) -> Int {
    graph.types[value].shape.elementCount * graph.types[value].elementType.byteSize
  }

  private mutating func count(_ value: Graph.Value, from first: Int, through last: Int, sign: Int = 1) {
    guard first <= last else { return }
    changes[first] += sign * bytes(value)
    changes[last + 1] -= sign * bytes(value)
  }

  /// Where most memory is used, and how much.
  func peak() -> (node: Int, bytes: Int) {
    var (sum, best, place) = (0, 0, 0)
    for i in graph.nodes.indices {
      sum += changes[i]
      if sum > best { (best, place) = (sum, i) }
    }
    return (place, best)
  }

  /// The largest value that lies unread at the peak and can be made again.
  func choice() -> Choice? {
    let peak = peak().node
    var best: Choice?
    for value in graph.inputCount..<max(graph.inputCount, graph.valueCount) {
      guard root[value] == value, !isOutput.contains(value), !pinned.contains(value), let producer = producers[value],
        producer < peak,
        bytes(value) >= max(smallest, best.map { bytes($0.value) + 1 } ?? 0),
        !readers[value].contains(peak), let next = readers[value].first(where: { $0 > peak })
      else { continue }
      let late = viewReads[value].filter { $0.reader > peak }
      // A view that is made before and read after would keep it.
      guard late.allSatisfy({ $0.made > peak }) else { continue }
      let place = min(next, late.map(\.made).min() ?? next)
      var nodes: [Int] = []
      guard repeats(value, at: place, for: value, into: &nodes, depth: 0) else { continue }
      best = Choice(value: value, place: place, nodes: nodes)
    }
    return best
  }

  /// Collects what must be repeated to have a value at `place`; false if that is too much.
  private func repeats(_ value: Graph.Value, at place: Int, for wanted: Graph.Value, into nodes: inout [Int], depth: Int) -> Bool
  {
    if value != wanted, isKept(value, at: place, for: wanted) { return true }
    guard depth < 4, let producer = producers[value] else { return false }
    if nodes.contains(producer) { return true }
    let node = graph.nodes[producer]
    switch node.operation {
    case .unary(.relu), .unary(.gelu), .unary(.geluTanh), .unary(.silu), .unary(.sigmoid), .unary(.tanh), .unary(.neg),
      .binary(.add), .binary(.sub), .binary(.mul), .convert, .broadcast, .reshape, .transpose, .stopGradient, .fill:
      break
    case .composite(.layerNorm), .composite(.rmsNorm), .composite(.batchNorm):
      guard value == node.firstResult else { return false }
    default: return false
    }
    for input in node.inputs where !repeats(input, at: place, for: wanted, into: &nodes, depth: depth + 1) { return false }
    nodes.append(producer)
    return true
  }

  /// Whether a value is there at `place` anyway, or small enough to be kept until then.
  private func isKept(_ value: Graph.Value, at place: Int, for wanted: Graph.Value) -> Bool {
    let source = root[value]
    if chosen.contains(where: { $0.value == source }) || source == wanted { return false }
    return source < graph.inputCount || isOutput.contains(source) || (readers[source].last ?? -1) >= place
      || bytes(source) * 16 <= bytes(wanted)
  }

  mutating func take(_ choice: Choice) {
    let value = choice.value
    let before = readers[value].last { $0 < choice.place } ?? producers[value] ?? 0
    count(value, from: before + 1, through: choice.place - 1, sign: -1)
    pinned.insert(value)
    // What it is made of must not be dropped itself.
    let repeated = Set(choice.nodes.flatMap { graph.nodes[$0].results })
    for i in choice.nodes { for input in graph.nodes[i].inputs where !repeated.contains(input) { pinned.insert(root[input]) } }
    chosen.append(choice)
  }

  func rewritten() -> Graph {
    let byPlace = Dictionary(grouping: chosen, by: \.place)
    var result = GraphRewriter(graph)
    for (i, node) in graph.nodes.enumerated() {
      for choice in (byPlace[i] ?? []).sorted(by: { $0.value < $1.value }) {
        // The repeated ones stand for the old ones only within this choice, but for the value itself.
        var new: [Graph.Value: Graph.Value] = [:]
        func operand(_ value: Graph.Value) -> Graph.Value { new[value] ?? result.value(value) }
        for k in choice.nodes {
          let old = graph.nodes[k]
          var (operation, inputs) = (old.operation, old.inputs.map(operand))
          var types = Array(graph.types[old.results])
          if case .composite(.batchNorm(let epsilon)) = operation {
            operation = .composite(.batchNormInference(epsilon: epsilon))
            inputs += [result.value(old.firstResult + 1), result.value(old.firstResult + 2)]
            types = [types[0]]
          }
          new[old.firstResult] = result.graph.append(operation, inputs, types: types).lowerBound
        }
        if let made = new[choice.value] { result.map(choice.value, to: made) }
      }
      result.copy(node)
    }
    return result.finish()
  }
}
