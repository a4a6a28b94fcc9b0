import ApusFormats
import ApusTensor

extension Module {
  /// All parameters and other variables under all of their names: what PyTorch calls the `state_dict`.
  ///
  /// A shared variable appears under each of its paths, so that a file loads strictly in PyTorch too.
  public final var state: [String: Tensor] {
    Dictionary(allPaths.map { ($0.name, $0.variable.value.detached()) }) { first, _ in first }
  }

  /// Writes all parameters and other variables to a safetensors file, atomically, under PyTorch's names.
  /// - Parameter metadata: free text kept in the file's header.
  /// - Throws: ``FormatError``.
  public final func save(_ path: String, metadata: [String: String] = [:]) throws {
    try saveTensors(state, to: path, metadata: metadata)
  }

  /// Reads parameters and other variables from a safetensors file, or from those that an index file names.
  ///
  /// - Parameters:
  ///   - path: of a `.safetensors` file, or of an index (`….safetensors.index.json`).
  ///   - strict: names and shapes must agree exactly. If not, what fits is loaded and the rest reported.
  ///   - convert: values of another element type are converted; otherwise they count as not fitting.
  /// - Returns: what was missing, unexpected or different.
  /// - Throws: ``LoadError`` if strict; ``FormatError`` for a broken file. The module is then unchanged.
  @discardableResult
  public final func load(_ path: String, strict: Bool = true, convert: Bool = false) throws -> LoadReport {
    let file = try TensorFile(path: path)
    var found: [String: FileTensorType] = [:]
    for name in file.names { if let entry = file.entry(name) { found[name] = FileTensorType(entry) } }
    return try load(found, strict: strict, convert: convert, path: path, metadata: file.metadata) { try file.tensor($0) }
  }

  /// Takes over parameters and other variables by name; as ``load(_:strict:convert:)``.
  @discardableResult
  public final func load(state: [String: Tensor], strict: Bool = true, convert: Bool = false) throws -> LoadReport {
    try load(state.mapValues { FileTensorType($0.type) }, strict: strict, convert: convert, path: "state", metadata: [:]) {
      state[$0]!.detached()
    }
  }

  private func load(
    _ found: [String: FileTensorType], strict: Bool, convert: Bool, path: String, metadata: [String: String],
    read: (String) throws -> Tensor
  ) throws -> LoadReport {
    var report = LoadReport()
    report.metadata = metadata
    report.found = found
    var known: Set<String> = []
    var plan: [(variable: Variable, name: String)] = []
    var names: [ObjectIdentifier: [String]] = [:]
    let paths = allPaths
    for (name, variable) in paths {
      known.insert(name)
      names[ObjectIdentifier(variable), default: []].append(name)
    }
    for (first, variable) in namedVariables {
      // Any of a shared variable's names will do.
      guard let name = names[ObjectIdentifier(variable)]?.first(where: { found[$0] != nil }), let type = found[name] else {
        report.missing.append(first)
        report.expected[first] = variable.type
        continue
      }
      guard type.shape == Array(variable.shape), let elementType = type.elementType,
        convert || elementType == variable.elementType
      else {
        report.mismatched.append(.init(name: name, expected: variable.type.description, found: type.description))
        continue
      }
      plan.append((variable, name))
    }
    report.unexpected = found.keys.filter { !known.contains($0) }.sorted()
    if strict && !report.isComplete { throw LoadError(path: path, report: report) }
    // Everything is read before anything changes: a file that turns out broken changes nothing.
    let values = try plan.map { try read($0.name).converted(to: $0.variable.elementType) }
    for (item, value) in zip(plan, values) { item.variable.value = value }
    return report
  }
}

/// Shape and type of a tensor in a file; the type may be one that Apus lacks.
struct FileTensorType: CustomStringConvertible {
  let shape: [Int]
  let elementType: ElementType?
  let description: String

  init(_ type: TensorType) {
    (shape, elementType, description) = (Array(type.shape), type.elementType, type.description)
  }

  init(_ entry: SafetensorsFile.Entry) {
    (shape, elementType) = (entry.shape, entry.dataType.elementType)
    description = "\(entry.dataType.elementType?.name ?? entry.dataType.rawValue)\(entry.shape)"
  }
}

/// How what was loaded differs from what was expected.
public struct LoadReport: Sendable, CustomStringConvertible {
  /// A tensor of another shape or element type.
  public struct Mismatch: Sendable, Equatable {
    public let name: String
    /// Such as `float32[64, 3, 7, 7]`.
    public let expected, found: String
  }

  /// Names of the model that the file lacks, in the model's order.
  public internal(set) var missing: [String] = []
  /// Names of the file that the model lacks, sorted.
  public internal(set) var unexpected: [String] = []
  /// Tensors whose shape or element type is another one; they were not loaded.
  public internal(set) var mismatched: [Mismatch] = []
  /// The free text of the file's header.
  public internal(set) var metadata: [String: String] = [:]

  var expected: [String: TensorType] = [:]
  var found: [String: FileTensorType] = [:]

  /// Whether everything was loaded and nothing left over.
  public var isComplete: Bool { missing.isEmpty && unexpected.isEmpty && mismatched.isEmpty }

  /// One line for each name; for a missing one with the leftover name that is most like it.
  public var description: String {
    if isComplete { return "everything was loaded" }
    var lines: [String] = []
    for name in missing.prefix(Self.shown) {
      lines.append("missing '\(name)'" + (suggestion(for: name).map { "; did you mean '\($0)', which the file has?" } ?? ""))
    }
    if missing.count > Self.shown { lines.append("… and \(missing.count - Self.shown) more missing") }
    for name in unexpected.prefix(Self.shown) { lines.append("unexpected '\(FormatError.excerpt(name))'") }
    if unexpected.count > Self.shown { lines.append("… and \(unexpected.count - Self.shown) more unexpected") }
    for m in mismatched.prefix(Self.shown) { lines.append("'\(m.name)' is \(m.found), expected \(m.expected)") }
    if mismatched.count > Self.shown { lines.append("… and \(mismatched.count - Self.shown) more that do not fit") }
    return lines.joined(separator: "\n")
  }

  private static let shown = 20

  /// The unexpected name most like this one, of the same shape if one is.
  private func suggestion(for name: String) -> String? {
    let limit = Swift.max(2, name.utf8.count / 2)
    let ranked = unexpected.prefix(2_000).compactMap { other -> (Int, String)? in
      guard other.utf8.count <= 200 else { return nil }
      let sameShape = expected[name].map { Array($0.shape) == found[other]?.shape } ?? true
      let distance = editDistance(name, other, limit: limit)
      return distance.map { (sameShape ? $0 : $0 + limit, FormatError.excerpt(other)) }
    }
    return ranked.min { $0 < $1 }?.1
  }
}

/// A file's names, shapes or types are not those of the model.
public struct LoadError: Error, Sendable, CustomStringConvertible {
  public let path: String
  public let report: LoadReport

  public var description: String {
    "\(path) does not fit: \(report.missing.count) missing, \(report.unexpected.count) unexpected, "
      + "\(report.mismatched.count) of another shape or type\n\(report)"
  }
}
