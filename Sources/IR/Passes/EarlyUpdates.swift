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
  // Where a node will stand: behind which of those that stay.
  var position = Array(graph.nodes.indices)
  for i in updates.sorted() {
    let node = graph.nodes[i]
    guard case .composite(.optimizerStep(let rule)) = node.operation else { continue }
    var place = -1
    for value in node.inputs { if let producer = producers[value] { place = max(place, position[producer]) } }
    // The parameter and its states are written over; what else the step reads is not.
    for value in [node.inputs[0]] + node.inputs[2..<(2 + rule.stateCount)] where value < graph.inputCount {
      let reader = lastReader(value, besides: i)
      if reader >= 0 { place = max(place, position[reader]) }
    }
    if place < i - 1 && place >= 0 {
      after[place, default: []].append(i)
      moved.insert(i)
      position[i] = place
    }
  }
  var result = GraphRewriter(graph)
  // So do small values that nothing reads but the caller, such as running statistics.
  let isUpdate = Set(all)
  let late = graph.nodes.indices.filter { i in
    let node = graph.nodes[i]
    guard !updates.contains(i), node.results.allSatisfy({ readers[$0].isEmpty }), !node.operation.hasCustomCall else {
      return false
    }
    return isUpdate.contains(i)
      || node.inputs.allSatisfy { graph.types[$0].shape.elementCount < smallest && !node.inputs.isEmpty }
  }.sorted { (isUpdate.contains($0) ? 1 : 0, $0) < (isUpdate.contains($1) ? 1 : 0, $1) }
  moved.formUnion(late)
  for i in graph.nodes.indices where !moved.contains(i) {
    result.copy(graph.nodes[i])
    for update in after[i] ?? [] { result.copy(graph.nodes[update]) }
  }
  for i in late { result.copy(graph.nodes[i]) }
  return result.finish()
}
