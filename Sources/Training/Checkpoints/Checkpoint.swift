import ApusFormats
import ApusTensor

/// A state of training as a folder: `model.safetensors` (parameters and variables under PyTorch's names), `training.safetensors` (all
/// other tensors) and `checkpoint.json`, which names both by their SHA-256 and is protected by one itself.
///
/// The folder appears under its name only when complete (written beside it, synchronized, renamed).
struct Checkpoint {
  static let marker = "checkpoint.json"
  private static let files = ["model.safetensors", "training.safetensors"]
  private static let version = 1

  /// The model's state.
  var model: [String: Tensor]
  /// The optimizer's, metrics', callbacks'.
  var training: [String: Tensor]
  /// Whole numbers, texts and truth values.
  var content: JSONObject

  init(model: [String: Tensor], training: [String: Tensor], content: JSONObject) {
    (self.model, self.training, self.content) = (model, training, content)
  }

  // MARK: Writing

  /// - Throws: ``TrainingError/unwritable(path:reason:)``.
  func write(to path: String) throws {
    do {
      try createFolder(parentFolder(of: path))
      let folder = try AtomicFolder(path)
      try saveTensors(model, to: folder.path(of: Self.files[0]))
      try saveTensors(training, to: folder.path(of: Self.files[1]))
      var hashes = JSONObject()
      for name in Self.files { hashes[name] = .string(try Self.hash(folder.path(of: name))) }
      var content = content
      content["version"] = .integer(Self.version)
      content["files"] = .object(hashes)
      let text = JSONValue.object(content).printed()
      let whole: JSONObject = ["sha256": .string(Self.hash(ofText: text)), "content": .object(content)]
      try folder.write(Self.marker) { try $0.write(JSONValue.object(whole).printed() + "\n") }
      try folder.commit(replaceable: Self.marker)
    } catch let error as FormatError { throw TrainingError.unwritable(path: path, reason: error.description) }
  }

  private static func hash(_ path: String) throws -> String {
    try FileBytes(mapping: path).withUnsafeBytes { SHA256.hexDigest($0) }
  }

  private static func hash(ofText text: String) -> String { Array(text.utf8).withUnsafeBytes { SHA256.hexDigest($0) } }

  // MARK: Reading

  /// Reads a checkpoint; everything is checked before anything is given out.
  /// - Throws: ``TrainingError/damagedCheckpoint(path:reason:)``.
  init(path: String) throws {
    func damaged(_ reason: String) -> TrainingError { .damagedCheckpoint(path: path, reason: reason) }
    do {
      let bytes = try FileBytes(mapping: path + "/" + Self.marker)
      let whole = try bytes.withUnsafeBytes { (part) throws(FormatError) in
        try JSONValue(parsing: part, file: path + "/" + Self.marker)
      }
      guard let content = whole.object?["content"]?.object, let hash = whole.object?["sha256"]?.string else {
        throw damaged("\(Self.marker) is not a checkpoint's")
      }
      guard Self.hash(ofText: JSONValue.object(content).printed()) == hash else {
        throw damaged("\(Self.marker) was altered: its SHA-256 is another one")
      }
      guard content["version"]?.integer == Self.version else {
        throw damaged("its version \(content["version"]?.printed() ?? "is missing"), this program reads \(Self.version)")
      }
      for name in Self.files {
        guard let expected = content["files"]?.object?[name]?.string else {
          throw damaged("\(Self.marker) does not name \(name)")
        }
        guard try Self.hash(path + "/" + name) == expected else {
          throw damaged("\(name) is torn or was altered: its SHA-256 is another one")
        }
      }
      self.init(
        model: try loadTensors(from: path + "/" + Self.files[0]), training: try loadTensors(from: path + "/" + Self.files[1]),
        content: content)
    } catch let error as FormatError { throw damaged(error.description) }
  }

  // MARK: Parts

  mutating func add(_ tensors: [String: Tensor], under prefix: String) {
    for (name, tensor) in tensors { training[prefix + "/" + name] = tensor.detached() }
  }

  func tensors(under prefix: String) -> [String: Tensor] {
    var found: [String: Tensor] = [:]
    for (name, tensor) in training where name.hasPrefix(prefix + "/") {
      found[String(name.dropFirst(prefix.utf8.count + 1))] = tensor
    }
    return found
  }

  mutating func add(_ state: CallbackState, under prefix: String) {
    // float64 tensors keep every bit, NaN too, which text may not.
    add(state.numbers.mapValues { Tensor([$0], shape: []) }, under: prefix + "/numbers")
    add(state.lists.mapValues { Tensor($0, shape: [$0.count]) }, under: prefix + "/lists")
    add(state.tensors, under: prefix + "/tensors")
  }

  func callbackState(under prefix: String, texts: JSONObject?) -> CallbackState {
    var state = CallbackState(
      numbers: tensors(under: prefix + "/numbers").mapValues { $0.item(as: Double.self) },
      lists: tensors(under: prefix + "/lists").mapValues { $0.elements(as: Double.self) },
      tensors: tensors(under: prefix + "/tensors"))
    for key in texts?.keys ?? [] { state.texts[key] = texts?[key]?.string }
    return state
  }
}

/// A folder of checkpoints of one run, named by their steps: `checkpoint-00000120`.
struct CheckpointFolder {
  let path: String
  private static let prefix = "checkpoint-"

  /// The checkpoints' paths, the oldest first.
  var checkpoints: [String] {
    AtomicFolder.names(in: path).compactMap { name -> (Int, String)? in
      guard name.hasPrefix(Self.prefix), let step = Int(name.dropFirst(Self.prefix.count)) else { return nil }
      return (step, path + "/" + name)
    }.sorted { $0.0 < $1.0 }.map(\.1)
  }

  func checkpointPath(step: Int) -> String {
    let digits = String(step)
    return path + "/" + Self.prefix + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
  }

  /// Writes one, then removes the oldest beyond those to keep.
  func write(_ checkpoint: Checkpoint, step: Int, keep: Int) throws {
    try checkpoint.write(to: checkpointPath(step: step))
    for old in checkpoints.dropLast(max(1, keep)) { AtomicFolder.remove(old) }
  }

  /// The last sound checkpoint; nil if there is none at all. Damaged ones are named to `warn` and left where they are.
  /// - Throws: ``TrainingError/damagedCheckpoint(path:reason:)`` where there are checkpoints, but all damaged.
  func latest(_ warn: (String) -> Void) throws -> (path: String, checkpoint: Checkpoint)? {
    var first: (any Error)?
    for path in checkpoints.reversed() {
      do { return (path, try Checkpoint(path: path)) } catch let error as TrainingError {
        first = first ?? error
        warn("\(error); it is not used, the one before is tried")
      }
    }
    if let first { throw first }
    return nil
  }

  /// Removes what a killed process left half written.
  func removeLeftovers() {
    for name in AtomicFolder.names(in: path)
    where name.hasPrefix(".apus-") && (name.hasSuffix(".tmp") || name.hasSuffix(".tmp.old")) {
      AtomicFolder.remove(path + "/" + name)
    }
  }

  func removeAll() {
    for checkpoint in checkpoints { AtomicFolder.remove(checkpoint) }
    removeLeftovers()
  }
}
