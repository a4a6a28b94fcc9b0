import ApusCPU
import ApusFormats
import ApusTensor
import Synchronization

/// What reading and running artifacts may take.
public struct ProgramLimits: Sendable, Hashable {
  /// Bytes for one run of a program, beside its weights and inputs: temporaries, results, values computed once.
  public var memory: Int
  /// Plans for different sizes of open dimensions that a signature keeps; those used longest ago make room.
  public var plans: Int
  /// Bytes that a signature's plans may hold together, beyond the one used last.
  public var planMemory: Int

  /// - Parameters:
  ///   - memory: three quarters of the machine's memory unless given.
  ///   - planMemory: a quarter of the machine's memory unless given.
  public init(memory: Int? = nil, plans: Int = 16, planMemory: Int? = nil) {
    self.memory = memory ?? physicalMemory() / 4 * 3
    self.plans = max(1, plans)
    self.planMemory = planMemory ?? physicalMemory() / 4
  }
}

/// Reads an artifact that ``export(_:signatures:to:)`` wrote.
///
/// Everything is checked before the program is given out: the files' hashes, the program's text, the weights' names and types,
/// that the functions are what the manifest says. Time and memory are bounded by the files' sizes.
/// - Parameters:
///   - path: of the artifact, a folder.
///   - inMemory: whether the weights are read instead of mapped. Then nothing that is done to the files afterwards can harm the program;
///     a mapped file that somebody shortens stops the process.
/// - Throws: ``FormatError``.
public func load(
  _ path: String, limits: ProgramLimits = ProgramLimits(), inMemory: Bool = false
) throws(FormatError) -> Program {
  try Program(path: path, limits: limits, inMemory: inMemory)
}

/// Whether an artifact is complete, as far as can be told without reading it in full: it has a manifest, and files of the sizes that it
/// says.
/// - Throws: ``FormatError``, which says what is missing.
package func checkFiles(ofArtifact path: String) throws(FormatError) {
  let manifest = try Manifest(ArtifactFile.open(path + "/" + Manifest.fileName, inMemory: true, limit: Manifest.limit))
  for (name, expected) in [(Manifest.programName, manifest.program), (Manifest.weightsName, manifest.weights)] {
    let file = path + "/" + name
    guard let size = ArtifactFile.size(file) else { throw FormatError(.missing, file: file, "is missing") }
    try ArtifactFile.check(size, expected, file)
  }
}

/// A frozen program with its weights, read from an artifact; many tasks may run it at once.
///
/// ```swift
/// let model = try load("digits.apus")
/// let scores = try model.run(["image": images])["output"]
/// ```
/// Weights are mapped from the file, not copied; what depends on them alone is computed once for each combination of sizes of
/// the open dimensions.
public final class Program: Sendable {
  /// Where it was read from.
  public let path: String
  /// What each of its functions takes and gives, by name.
  public let signatures: [String: Signature]
  /// The version of Apus that wrote the artifact.
  public let frameworkVersion: String
  /// Names, types and sizes of the weights.
  public let weights: SafetensorsFile
  private let text: FileBytes
  private let functions: [String: ProgramFunction]

  init(path: String, limits: ProgramLimits, inMemory: Bool) throws(FormatError) {
    self.path = path
    let manifest = try Manifest(
      ArtifactFile.open(path + "/" + Manifest.fileName, inMemory: inMemory, limit: Manifest.limit))
    text = try ArtifactFile.checked(path + "/" + Manifest.programName, manifest.program, inMemory: inMemory)
    let weightBytes = try ArtifactFile.checked(path + "/" + Manifest.weightsName, manifest.weights, inMemory: inMemory)
    weights = try SafetensorsFile(weightBytes)
    frameworkVersion = manifest.frameworkVersion
    signatures = Dictionary(uniqueKeysWithValues: manifest.entries.map { ($0.name, $0.signature) })

    let table = WeightTable(weights)
    let module: GraphModule
    let source = text.withUnsafeBytes { String(validating: $0, as: UTF8.self) }
    guard let source else { throw FormatError(.invalidUTF8, file: text.name, "the program is not valid UTF-8") }
    do throws(GraphTextError) { module = try GraphModule(stableHLO: source, weights: table.constant) } catch {
      if let problem = table.problem { throw problem }
      throw FormatError(.malformed, file: text.name, error.description)
    }
    var graphs: [String: Graph] = [:]
    for (name, graph) in module.functions { graphs[name] = graph }
    var functions: [String: ProgramFunction] = [:]
    for entry in manifest.entries {
      functions[entry.name] = try ProgramFunction(entry, graphs, limits: limits, file: path + "/" + Manifest.fileName)
    }
    self.functions = functions
  }

  /// The program as StableHLO text, one function for each signature (and corner of sizes, if some are open).
  public var sourceText: String { text.withUnsafeBytes { String(decoding: $0, as: UTF8.self) } }

  /// The bytes of text and weights together.
  public var byteCount: Int { text.count + weights.bytes.count }

  /// The signature that is meant where none is named: the only one, or `serve`.
  public var defaultSignature: String? {
    signatures.count == 1 ? signatures.keys.first : signatures["serve"] == nil ? nil : "serve"
  }

  /// Runs one of the functions.
  /// - Parameters:
  ///   - inputs: a tensor for each input of the signature, of its type; sizes of open dimensions must agree among them.
  ///   - signature: the function's name; may be left out if there is one only, or one is called `serve`.
  /// - Returns: the results by name.
  /// - Throws: ``ProgramError``; whatever the inputs are, nothing stops the process.
  public func run(_ inputs: [String: Tensor], signature: String? = nil) throws(ProgramError) -> [String: Tensor] {
    try function(signature).run(inputs)
  }

  /// The plan for these sizes of the open dimensions, made now if there is none yet; runs with these sizes then start at once.
  /// - Throws: ``ProgramError``.
  public func plan(_ sizes: [String: Int] = [:], signature: String? = nil) throws(ProgramError) -> Plan {
    let function = try function(signature)
    var list: [Int] = []
    for axis in function.signature.openDimensions {
      guard let size = sizes[axis.name] else {
        throw .wrongSize(dimension: axis.name, message: "is open; a size is needed")
      }
      list.append(size)
    }
    if let other = sizes.keys.first(where: { name in !function.signature.openDimensions.contains { $0.name == name } }) {
      throw .wrongSize(
        dimension: other,
        message: "is no open dimension of this signature: "
          + (function.signature.openDimensions.isEmpty
            ? "there are none" : function.signature.openDimensions.map(\.name).joined(separator: ", ")))
    }
    return try function.plan(list)
  }

  /// The program of a signature, at the smaller ones of the sizes it was traced at.
  package func graph(signature: String? = nil) throws(ProgramError) -> Graph { try function(signature).open.base }

  private func function(_ name: String?) throws(ProgramError) -> ProgramFunction {
    let known = signatures.keys.sorted()
    guard let name = name ?? defaultSignature else { throw .unknownSignature("", near: nil, known: known) }
    guard let function = functions[name] else {
      throw .unknownSignature(name, near: nearName(name, in: known), known: known)
    }
    return function
  }
}

/// The weights as constants, each made once; and what was wrong with one.
private final class WeightTable {
  private let file: SafetensorsFile
  private var known: [String: Constant] = [:]
  private(set) var problem: FormatError?

  init(_ file: SafetensorsFile) { self.file = file }

  func constant(_ name: String, _ type: TensorType) -> Constant? {
    if let constant = known[name] {
      if constant.type != type { problem = mismatch(name, "\(constant.type)", type) }
      return constant
    }
    guard let entry = file[name] else {
      problem = FormatError(.missing, file: file.bytes.name, part: name, "the program reads this weight, which the file lacks")
      return nil
    }
    guard entry.dataType.elementType == type.elementType, entry.shape == Array(type.shape) else {
      problem = mismatch(name, "\(entry.dataType.rawValue)\(entry.shape)", type)
      return nil
    }
    let constant = file.bytes.withUnsafeBytes { raw -> Constant in
      let bytes = UnsafeRawBufferPointer(rebasing: raw[entry.range])
      let isAligned = UInt(bitPattern: bytes.baseAddress) % UInt(type.elementType.byteSize) == 0
      if type.elementType == .bool || !isAligned {
        // Any byte other than 0 means true; in memory it must be 1.
        let copy = type.elementType == .bool ? bytes.map { $0 == 0 ? 0 : 1 } : Array(bytes)
        return copy.withUnsafeBytes { Tensor(bytes: $0, shape: type.shape, elementType: type.elementType).array.asConstant }
      }
      let memory = Storage(borrowing: bytes, owner: file.bytes)
      return Constant(type, address: UnsafeRawPointer(memory.pointer), owner: memory)
    }
    known[name] = constant
    return constant
  }

  private func mismatch(_ name: String, _ found: String, _ type: TensorType) -> FormatError {
    FormatError(
      .invalidEntry, file: file.bytes.name, part: name, "the weight is \(found), but the program takes it as \(type)")
  }
}
