import Apus
import ApusCPU
import ArgumentParser

/// What `apus inspect` shows of an artifact, and of NumPy's files.
extension Inspect {
  func showArtifact() throws {
    let program = try load(file)
    if graph {
      print(program.sourceText, terminator: "")
      return
    }
    if let picture { return try draw(program, to: picture) }
    let elements = program.weights.entries.reduce(0) { $0 &+ $1.shape.reduce(1, &*) }
    print(
      "\(file): written by Apus \(printable(program.frameworkVersion)), \(byteSize(program.byteCount)), \(program.weights.entries.count) weights with \(grouped(elements)) elements"
    )
    for (name, signature) in program.signatures.sorted(by: { $0.key < $1.key }) {
      if let only = self.signature, only != name { continue }
      print("\(printable(name))\(signature)")
      for dimension in signature.openDimensions {
        let bound = dimension.sizes.upperBound == Dimension.largest ? "" : " to \(grouped(dimension.sizes.upperBound))"
        print("  \(printable(dimension.name)): from \(dimension.sizes.lowerBound)\(bound)")
      }
      if !signature.states.isEmpty { print("  states: \(signature.states.map(printable).joined(separator: ", "))") }
      var counts: [String: Int] = [:]
      for node in try program.graph(signature: name).nodes { counts[node.operation.name, default: 0] += 1 }
      counts["constant"] = nil
      let sorted = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
      print("  operations: " + sorted.map { "\($0.value) \(printable($0.key))" }.joined(separator: ", "))
    }
    show(program.weights, title: "weights")
  }

  /// The program as it runs: with fused groups, at the sizes asked for.
  private func draw(_ program: Program, to path: String) throws {
    let (name, signature) = try program.signature(named: signature)
    let plan = try program.plan(try InputSizes(size).complete(for: signature), signature: name)
    try AtomicFile.write(to: path) { file in
      try file.write(path.hasSuffix(".dot") ? plan.graph.dot(name: name) : plan.graph.svg())
    }
    let memory = plan.memory
    print(
      "\(path): \(plan.graph.nodes.count) operations and groups; memory: temporaries \(byteSize(memory.arena)), computed once \(byteSize(memory.stable)), inputs \(byteSize(memory.inputs)), results \(byteSize(memory.results))"
    )
  }

  func showNPY() throws {
    let header = try NPY.header(of: file)
    print("\(file): \(header.type)\(header.isFortranOrder ? ", first dimension adjacent" : "")")
  }

  func showNPZ() throws {
    let archive = try NPZFile(path: file)
    print("\(file): \(archive.names.count) array\(archive.names.count == 1 ? "" : "s")")
    let width = archive.names.map { printable($0).count }.max() ?? 0
    for name in archive.names {
      let tensor = try archive.tensor(name)
      print("  \(padded(printable(name), width))  \(tensor.type)  \(byteSize(tensor.count * tensor.elementType.byteSize))")
    }
  }
}

/// `batch=8` on the command line.
struct InputSizes {
  private var sizes: [String: Int] = [:]

  init(_ arguments: [String]) throws {
    for argument in arguments {
      let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2, let size = Int(parts[1]), size >= 0 else {
        throw ValidationError("'\(argument)' is no size of an open dimension, as in batch=8.")
      }
      sizes[parts[0]] = size
    }
  }

  /// Those given, and the smallest possible ones of the others.
  func complete(for signature: Signature) throws -> [String: Int] {
    let known = signature.openDimensions.map(\.name)
    for name in sizes.keys.sorted() where !known.contains(name) {
      let hint = nearName(name, in: known).map { "Did you mean '\($0)'?" }
      throw ValidationError(
        "There is no open dimension '\(name)'. "
          + (hint ?? (known.isEmpty ? "All sizes are fixed." : "There are \(known.joined(separator: ", ")).")))
    }
    var result = sizes
    for dimension in signature.openDimensions where result[dimension.name] == nil {
      result[dimension.name] = dimension.sizes.lowerBound
    }
    return result
  }
}
