import ApusTensor

/// A table of a model's modules: output shapes, parameters, memory, work. Print it.
public struct Summary: Sendable, CustomStringConvertible {
  public struct Row: Sendable {
    /// The path, such as `layer1.0.conv1`.
    public let name: String
    public let type: String
    /// The output shape of its first call; nil if it was not seen.
    public let output: Shape?
    /// The numbers in its own parameters, not counting those of a module above.
    public let parameterCount: Int
    /// How many of these are trained.
    public let trainableCount: Int
    /// The bytes of its own parameters and other variables.
    public let byteCount: Int
    /// The multiplications with an addition each of matrix products, convolutions and attention in its own calls, by the direct
    /// formula, not counting those of modules in it. What runs elementwise is not counted.
    public let multiplyAdds: Int
    /// In a graph of layers, what its inputs come from.
    public internal(set) var connectedTo: [String] = []
  }

  public let rows: [Row]
  /// Numbers in all parameters.
  public var parameterCount: Int { rows.reduce(0) { $0 + $1.parameterCount } }
  /// Numbers in parameters that are trained.
  public var trainableCount: Int { rows.reduce(0) { $0 + $1.trainableCount } }
  /// Bytes of all parameters and other variables.
  public var byteCount: Int { rows.reduce(0) { $0 + $1.byteCount } }
  /// All multiply-adds of the calls that were seen.
  public var multiplyAdds: Int { rows.reduce(0) { $0 + $1.multiplyAdds } }

  public var description: String {
    let hasWork = multiplyAdds > 0
    var table = [["", "type", "output", "parameters", "bytes", hasWork ? "multiply-adds" : "", ""]]
    func number(_ n: Int) -> String { n == 0 ? "" : grouped(n) }
    for row in rows {
      let trained = row.trainableCount == row.parameterCount ? "" : row.trainableCount == 0 ? "frozen" : "partly frozen"
      table.append([
        row.name, row.type, row.output?.description ?? "", number(row.parameterCount), number(row.byteCount),
        number(row.multiplyAdds), trained,
      ])
    }
    if !hasWork { for i in table.indices { table[i].remove(at: 5) } }
    // In graphs, between the output and the numbers.
    var numbers = 3
    if rows.contains(where: { !$0.connectedTo.isEmpty }) {
      numbers = 4
      for (i, text) in (["connected to"] + rows.map { $0.connectedTo.joined(separator: ", ") }).enumerated() {
        table[i].insert(text, at: 3)
      }
    }
    let widths = table[0].indices.map { column in table.map { $0[column].count }.max() ?? 0 }
    var lines = table.map { row -> String in
      let cells = row.enumerated().map { i, text -> String in
        let space = String(repeating: " ", count: widths[i] - text.count)
        return i >= numbers && i < row.count - 1 ? space + text : text + space
      }
      return String(cells.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
    }
    let gaps = 2 * (widths.count - (widths.last == 0 ? 2 : 1))
    let rule = String(repeating: "─", count: widths.reduce(gaps, +))
    lines.insert(rule, at: 1)
    lines.append(rule)
    let fixed = parameterCount - trainableCount
    let trained = fixed == 0 ? "all trainable" : "\(grouped(trainableCount)) trainable, \(grouped(fixed)) not"
    let work = hasWork ? ", \(grouped(multiplyAdds)) multiply-adds" : ""
    lines.append("\(grouped(parameterCount)) parameters (\(trained)), \(bytes(byteCount))\(work)")
    return lines.joined(separator: "\n")
  }

  private func grouped(_ number: Int) -> String {
    var digits = String(number)
    var i = digits.count - 3
    while i > 0 {
      digits.insert(",", at: digits.index(digits.startIndex, offsetBy: i))
      i -= 3
    }
    return digits
  }

  private func bytes(_ count: Int) -> String {
    for (unit, size) in [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] where Double(count) >= size {
      let tenths = Int((Double(count) / size * 10).rounded())
      return "\(tenths / 10).\(tenths % 10) \(unit)"
    }
    return "\(count) bytes"
  }
}

extension Module {
  /// The table of this module's parts, with the output shapes and the multiply-adds seen while `body` calls it (in evaluation
  /// mode, without gradients).
  public final func summary(running body: () -> Void = {}) -> Summary {
    let recorder = CallRecorder(self)
    evaluating { recorder.recording(body) }
    var seen: Set<ObjectIdentifier> = []
    var rows: [Summary.Row] = []
    _ = allPaths
    for (name, module) in namedModules {
      var (count, trainable, bytes, parts) = (0, 0, 0, 0)
      let members = module.parts
      for member in members {
        guard case .variable(let variable) = member.value else {
          parts += 1
          continue
        }
        guard seen.insert(ObjectIdentifier(variable)).inserted else { continue }
        bytes += variable.shape.elementCount * variable.elementType.byteSize
        guard variable is Parameter else { continue }
        count += variable.shape.elementCount
        if variable.isTrainable { trainable += variable.shape.elementCount }
      }
      // The model itself, and what only holds other modules, have no row unless they show something of their own.
      let shape = recorder.shape(of: module)
      let work = recorder.multiplyAdds(of: module)
      if parts > 0 && bytes == 0 && work == 0 && (name.isEmpty || shape == nil) { continue }
      rows.append(
        Summary.Row(
          name: name, type: String(describing: Swift.type(of: module)), output: shape, parameterCount: count,
          trainableCount: trainable, byteCount: bytes, multiplyAdds: work))
    }
    return Summary(rows: rows)
  }
}

extension Layer {
  /// The table of this module's parts, with output shapes and multiply-adds for a batch of one.
  /// - Parameter input: the shape of one sample, without the batch dimension.
  public func summary(input: Shape, _ elementType: ElementType = .float32) -> Summary {
    summary { _ = self(Tensor.zeros(Shape([1] + Array(input)), elementType)) }
  }
}
