import ApusTensor

extension Model {
  /// The table of the model's inputs, layers and functions with their output shapes for a batch of one, parameters, and what each
  /// is connected to. A shared layer has one row, with all of its inputs.
  public func summary() -> Summary {
    let seen = summary { _ = self(inputs.map { Tensor.zeros($0.shape, $0.elementType) }) }
    var rows = zip(inputs, inputNames).map { row($1, "Input", $0.type, []) }
    var shown: Set<ObjectIdentifier> = []
    for step in steps {
      let output = step.types[step.types.keys.min() ?? 0]
      guard let module = step.call.module else {
        rows.append(row(step.name, step.call.kind, output, step.sources))
        continue
      }
      guard shown.insert(ObjectIdentifier(module)).inserted else { continue }
      let name = members.first { if case .module(let part) = $0.value { part === module } else { false } }?.name ?? step.name
      let sources = steps.filter { $0.call.module === module }.flatMap(\.sources)
      var parts = seen.rows.filter { $0.name == name || $0.name.hasPrefix(name + ".") }
      if let i = parts.firstIndex(where: { $0.name == name }) {
        parts[i].connectedTo = sources
      } else {
        parts.insert(row(name, String(describing: type(of: module)), output, sources), at: 0)
      }
      rows += parts
    }
    return Summary(rows: rows)
  }

  private func row(_ name: String, _ type: String, _ output: TensorType?, _ sources: [String]) -> Summary.Row {
    Summary.Row(
      name: name, type: type, output: output?.shape, parameterCount: 0, trainableCount: 0, byteCount: 0, multiplyAdds: 0,
      connectedTo: sources)
  }
}
