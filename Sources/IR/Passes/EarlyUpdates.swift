/// Optimizer steps as early as they can be: as soon as the gradient is there and everything else that reads the parameter
/// has run. A gradient's memory is then free for the next, and the parameter is changed in place.
///
/// Those of small parameters come last, one after the other, so that they can be done together.
public func withEarlyUpdates(_ graph: Graph, smallest: Int = 1 << 14) -> Graph {
  let all = graph.nodes.indices.filter { i in
    if case .composite(.optimizerStep) = graph.nodes[i].operation { true } else { false }
  }
  if all.isEmpty { return graph }
  let updates = Set(all.filter { graph.types[graph.nodes[$0].firstResult].shape.elementCount >= smallest })
  let producers = graph.producers
  var readers = [[Int]](repeating: [], count: graph.valueCount)
  for (i, node) in graph.nodes.enumerated() { for value in node.inputs { readers[value].append(i) } }
  // Views pass on what they read: whoever reads the view reads the parameter.
  func lastReader(_ value: Graph.Value, besides update: Int) -> Int {
    var last = -1
    for i in readers[value] where i != update {
      last = max(last, i)
      switch graph.nodes[i].operation {
      case .broadcast, .reshape, .transpose, .slice, .reverse, .bitcast, .stopGradient:
        last = max(last, lastReader(graph.nodes[i].firstResult, besides: update))
      default: break
      }
    }
    return last
  }
  var after: [Int: [Int]] = [:]  // node → updates that follow it
  var moved: Set<Int> = []
  for i in updates.sorted() {
    let node = graph.nodes[i]
    var place = -1
    for value in node.inputs { place = max(place, producers[value] ?? -1) }
    for value in node.inputs where value < graph.inputCount { place = max(place, lastReader(value, besides: i)) }
    if place < i - 1 && place >= 0 {
      after[place, default: []].append(i)
      moved.insert(i)
    }
  }
  var result = GraphRewriter(graph)
  func emit(_ i: Int, _ result: inout GraphRewriter) {
    result.copy(graph.nodes[i])
    for update in after[i] ?? [] { emit(update, &result) }
  }
  // So do small values that nothing reads but the caller, such as running statistics.
  let isUpdate = Set(all)
  let late = graph.nodes.indices.filter { i in
    let node = graph.nodes[i]
    guard !updates.contains(i), node.results.allSatisfy({ readers[$0].isEmpty }), !node.operation.isCustomCall else {
      return false
    }
    return isUpdate.contains(i)
      || node.inputs.allSatisfy { graph.types[$0].shape.elementCount < smallest && !node.inputs.isEmpty }
  }.sorted { (isUpdate.contains($0) ? 1 : 0, $0) < (isUpdate.contains($1) ? 1 : 0, $1) }
  moved.formUnion(late)
  for i in graph.nodes.indices where !moved.contains(i) { emit(i, &result) }
  for i in late { result.copy(graph.nodes[i]) }
  return result.finish()
}
