import ApusFormats
import ApusIR
import ApusTensor

/// What `manifest.json` of an artifact says.
struct Manifest: Sendable {
  static let format = "apus"
  static let formatVersion = 1
  static let frameworkVersion = apusVersion
  static let fileName = "manifest.json"
  static let programName = "program.mlir"
  static let weightsName = "weights.safetensors"
  /// The most bytes that are read.
  static let limit = 1 << 24

  struct File: Sendable {
    var sha256: String
    var bytes: Int
  }

  /// One of the functions of a signature: the program at one corner of its sizes.
  struct Corner: Sendable {
    var function: String
    var sizes: [String: Int]
  }

  struct Entry: Sendable {
    var name: String
    var signature: Signature
    var corners: [Corner]
  }

  var frameworkVersion = Manifest.frameworkVersion
  var program, weights: File
  var entries: [Entry]

  // MARK: Writing

  var json: String {
    func file(_ file: File) -> JSONValue { .object(["sha256": .string(file.sha256), "bytes": .integer(file.bytes)]) }
    func shape(_ dimensions: [Dimension?]) -> JSONValue {
      .array(
        dimensions.map { dimension in
          switch dimension {
          case .fixed(let size): .integer(size)
          case .open(let name, _): .string(name)
          case nil: .null
          }
        })
    }
    var signatures = JSONObject()
    for entry in entries {
      var dimensions = JSONObject()
      for axis in entry.signature.openDimensions {
        dimensions[axis.name] = .object([
          "minimum": .integer(axis.sizes.lowerBound), "maximum": .integer(axis.sizes.upperBound),
        ])
      }
      let inputs = entry.signature.inputs.map { input -> JSONValue in
        .object([
          "name": .string(input.name), "type": .string(input.spec.elementType.name), "shape": shape(input.spec.dimensions),
        ])
      }
      let outputs = entry.signature.outputs.map { output -> JSONValue in
        .object(["name": .string(output.name), "type": .string(output.elementType.name), "shape": shape(output.dimensions)])
      }
      let functions = entry.corners.map { corner -> JSONValue in
        var sizes = JSONObject()
        for (name, size) in corner.sizes.sorted(by: { $0.key < $1.key }) { sizes[name] = .integer(size) }
        return .object(["function": .string(corner.function), "sizes": .object(sizes)])
      }
      signatures[entry.name] = .object([
        "inputs": .array(inputs), "outputs": .array(outputs), "dimensions": .object(dimensions), "functions": .array(functions),
        "states": .array(entry.signature.states.map { .string($0) }),
      ])
    }
    let root: JSONValue = .object([
      "format": .string(Self.format), "format_version": .integer(Self.formatVersion),
      "framework_version": .string(frameworkVersion),
      "files": .object([Self.programName: file(program), Self.weightsName: file(weights)]), "signatures": .object(signatures),
    ])
    return root.printed(indented: true) + "\n"
  }

  // MARK: Reading

  init(program: File, weights: File, entries: [Entry]) {
    (self.program, self.weights, self.entries) = (program, weights, entries)
  }

  /// - Throws: ``FormatError`` for whatever is not as ``json`` writes it.
  init(_ bytes: FileBytes) throws(FormatError) {
    let reader = Reader(file: bytes.name)
    guard bytes.count <= Self.limit else { throw reader.error(.limitExceeded, nil, "a manifest of \(bytes.count) bytes") }
    let value = try bytes.withUnsafeBytes { (raw) throws(FormatError) in
      try JSONValue(parsing: raw, file: bytes.name, base: 0, limits: JSONLimits(depth: 8, values: 1_000_000))
    }
    let root = try reader.object(value, "manifest")
    guard root["format"]?.string == Self.format else { throw reader.error(.malformed, "format", "is not '\(Self.format)'") }
    guard let version = root["format_version"]?.integer else { throw reader.error(.missing, "format_version", "is missing") }
    guard version == Self.formatVersion else {
      throw reader.error(
        .unsupported, "format_version", "version \(version) of the format is unknown; this program reads \(Self.formatVersion)")
    }
    frameworkVersion = root["framework_version"]?.string ?? ""
    let files = try reader.object(root["files"], "files")
    program = try reader.file(files[Self.programName], Self.programName)
    weights = try reader.file(files[Self.weightsName], Self.weightsName)
    let signatures = try reader.object(root["signatures"], "signatures")
    entries = []
    for name in signatures.keys { entries.append(try reader.entry(signatures[name], name)) }
    guard !entries.isEmpty else { throw reader.error(.missing, "signatures", "there are none") }
  }

  private struct Reader {
    let file: String

    func error(_ kind: FormatError.Kind, _ part: String?, _ message: String) -> FormatError {
      FormatError(kind, file: file, part: part, message)
    }

    func object(_ value: JSONValue?, _ part: String) throws(FormatError) -> JSONObject {
      guard let object = value?.object else { throw error(value == nil ? .missing : .invalidEntry, part, "is no object") }
      return object
    }

    func array(_ value: JSONValue?, _ part: String) throws(FormatError) -> [JSONValue] {
      guard let array = value?.array else { throw error(value == nil ? .missing : .invalidEntry, part, "is no list") }
      return array
    }

    func string(_ value: JSONValue?, _ part: String) throws(FormatError) -> String {
      guard let string = value?.string else { throw error(value == nil ? .missing : .invalidEntry, part, "is no text") }
      return string
    }

    func size(_ value: JSONValue?, _ part: String) throws(FormatError) -> Int {
      guard let size = value?.integer, size >= 0, size <= 1 << 40 else {
        throw error(value == nil ? .missing : .invalidEntry, part, "is no size from 0 to 2^40")
      }
      return size
    }

    func file(_ value: JSONValue?, _ part: String) throws(FormatError) -> File {
      let object = try object(value, part)
      let hash = try string(object["sha256"], part)
      guard hash.utf8.count == 64, hash.allSatisfy({ $0.isHexDigit && !$0.isUppercase }) else {
        throw error(.invalidEntry, part, "its hash is not that of SHA-256")
      }
      guard let bytes = object["bytes"]?.integer, bytes >= 0 else {
        throw error(.invalidEntry, part, "its size is no number of bytes")
      }
      return File(sha256: hash, bytes: bytes)
    }

    func entry(_ value: JSONValue?, _ name: String) throws(FormatError) -> Entry {
      let object = try object(value, name)
      let axes = try self.object(object["dimensions"], name)
      var open: [Signature.OpenDimension] = []
      for axis in axes.keys {
        let bounds = try self.object(axes[axis], name)
        let (low, high) = (try size(bounds["minimum"], name), try size(bounds["maximum"], name))
        guard low <= high else {
          throw error(.invalidRange, name, "the bounds of '\(FormatError.excerpt(axis))' are not in order")
        }
        open.append(.init(name: axis, sizes: low...high))
      }
      func dimension(_ value: JSONValue) throws(FormatError) -> Dimension? {
        if value == .null { return nil }
        if let axis = value.string {
          guard let found = open.first(where: { $0.name == axis }) else {
            throw error(.missing, name, "the dimension '\(FormatError.excerpt(axis))' is not described")
          }
          return .open(axis, found.sizes)
        }
        return .fixed(try size(value, name))
      }
      func type(_ port: JSONObject) throws(FormatError) -> ElementType {
        let text = try string(port["type"], name)
        guard let type = ElementType.allCases.first(where: { $0.name == text }) else {
          throw error(.unknownType, name, "the element type '\(FormatError.excerpt(text))' is unknown")
        }
        return type
      }
      func dimensions(_ port: JSONObject) throws(FormatError) -> [Dimension?] {
        let list = try array(port["shape"], name)
        guard list.count <= Shape.maxRank else { throw error(.unsupported, name, "a shape of \(list.count) dimensions") }
        var result: [Dimension?] = []
        for value in list { result.append(try dimension(value)) }
        return result
      }
      var inputs: [Signature.Input] = []
      for value in try array(object["inputs"], name) {
        let port = try self.object(value, name)
        var sizes: [Dimension] = []
        for size in try dimensions(port) {
          guard let size else { throw error(.invalidEntry, name, "an input's size is neither fixed nor open") }
          sizes.append(size)
        }
        inputs.append(.init(name: try string(port["name"], name), spec: TensorSpec(try type(port), sizes)))
      }
      var outputs: [Signature.Output] = []
      for value in try array(object["outputs"], name) {
        let port = try self.object(value, name)
        outputs.append(
          .init(name: try string(port["name"], name), elementType: try type(port), dimensions: try dimensions(port)))
      }
      for names in [inputs.map(\.name), outputs.map(\.name)] where Set(names).count != names.count {
        throw error(.duplicateKey, name, "two inputs or outputs have one name")
      }
      var corners: [Corner] = []
      for value in try array(object["functions"], name) {
        let corner = try self.object(value, name)
        let list = try self.object(corner["sizes"], name)
        var sizes: [String: Int] = [:]
        for axis in list.keys { sizes[axis] = try size(list[axis], name) }
        corners.append(Corner(function: try string(corner["function"], name), sizes: sizes))
      }
      var states: [String] = []
      for value in try array(object["states"], name) { states.append(try string(value, name)) }
      guard states.allSatisfy({ state in inputs.contains { $0.name == state } && outputs.contains { $0.name == state } }) else {
        throw error(.missing, name, "a state is not both an input and an output")
      }
      let signature = Signature(inputs: inputs, outputs: outputs, openDimensions: open, states: states)
      return Entry(name: name, signature: signature, corners: corners)
    }
  }
}

/// What one of a program's functions takes and gives.
public struct Signature: Sendable, Hashable {
  public struct Input: Sendable, Hashable {
    public let name: String
    public let spec: TensorSpec
    public init(name: String, spec: TensorSpec) { (self.name, self.spec) = (name, spec) }
  }

  public struct Output: Sendable, Hashable {
    public let name: String
    public let elementType: ElementType
    /// nil where a size is another number that depends on open dimensions.
    public let dimensions: [Dimension?]
    public init(name: String, elementType: ElementType, dimensions: [Dimension?]) {
      (self.name, self.elementType, self.dimensions) = (name, elementType, dimensions)
    }
  }

  public struct OpenDimension: Sendable, Hashable {
    public let name: String
    /// The sizes it may have.
    public let sizes: ClosedRange<Int>
    public init(name: String, sizes: ClosedRange<Int>) { (self.name, self.sizes) = (name, sizes) }
  }

  public let inputs: [Input]
  public let outputs: [Output]
  public let openDimensions: [OpenDimension]
  /// Inputs and outputs of the same name whose output goes back in at the next call, such as a decoder's cache.
  public let states: [String]

  public init(inputs: [Input], outputs: [Output], openDimensions: [OpenDimension], states: [String] = []) {
    (self.inputs, self.outputs, self.openDimensions, self.states) = (inputs, outputs, openDimensions, states)
  }
}

extension Signature: CustomStringConvertible {
  /// `(image: float32[batch, 1, 28, 28]) → (output: float32[batch, 10])`.
  public var description: String {
    let takes = inputs.map { "\(FormatError.excerpt($0.name)): \($0.spec)" }.joined(separator: ", ")
    let gives = outputs.map { output in
      let shape = output.dimensions.map { $0?.description ?? "?" }.joined(separator: ", ")
      return "\(FormatError.excerpt(output.name)): \(output.elementType)[\(shape)]"
    }
    return "(\(takes)) → (\(gives.joined(separator: ", ")))"
  }
}
