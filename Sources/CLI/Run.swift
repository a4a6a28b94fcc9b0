import Apus
import ArgumentParser

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run an exported model on NumPy's files.",
    discussion:
      "`apus run digits.apus --input image=images.npy --output scores.npz`. Without --output the results are shown. "
      + "`apus inspect MODEL` lists the signatures with their inputs.")

  @Argument(help: "An artifact, a folder NAME.apus.")
  var model: String

  @Option(
    name: .long,
    help: "NAME=FILE.npy, one for each input; FILE.npy alone where there is one; FILE.npz, all of its arrays by their names.")
  var input: [String] = []

  @Option(help: "Which of the model's functions; needed if there are several and none is called serve.")
  var signature: String?

  @Option(help: "Where the results go: FILE.npz, or FILE.npy if there is one.")
  var output: String?

  @Flag(help: "Convert inputs to the element types that the model takes.")
  var convert = false

  @OptionGroup var profiling: Profiling

  func validate() throws {
    if let output, !output.hasSuffix(".npz") && !output.hasSuffix(".npy") {
      throw ValidationError("--output \(output) ends neither in .npz nor in .npy.")
    }
  }

  func run() throws {
    let program = try load(model)
    let signature = try program.signature(named: signature)
    var inputs = try ArtifactInputs.read(input, signature.value)
    for port in signature.value.inputs {
      guard let tensor = inputs[port.name], tensor.elementType != port.spec.elementType else { continue }
      if convert {
        inputs[port.name] = tensor.converted(to: port.spec.elementType)
      } else {
        throw ValidationError(
          "The input '\(port.name)' must be \(port.spec), got \(tensor.type). --convert converts it to \(port.spec.elementType).")
      }
    }
    let results = try profiling { try program.run(inputs, signature: signature.name) }
    let names = signature.value.outputs.map(\.name)
    guard let output else {
      for name in names { if let tensor = results[name] { print("\(name) =\n\(tensor)") } }
      return
    }
    if output.hasSuffix(".npy") {
      guard names.count == 1, let tensor = results[names[0]] else {
        throw ValidationError("There are \(names.count) results (\(names.joined(separator: ", "))): --output must end in .npz.")
      }
      try NPY.write(tensor, to: output)
    } else {
      try NPZFile.write(results, to: output)
    }
    for name in names { if let tensor = results[name] { print("\(name): \(tensor.type) → \(output)") } }
  }
}

/// Tensors for a signature, from files on the command line.
enum ArtifactInputs {
  static func read(_ arguments: [String], _ signature: Signature) throws -> [String: Tensor] {
    var inputs: [String: Tensor] = [:]
    func add(_ name: String, _ tensor: Tensor) throws {
      guard inputs.updateValue(tensor, forKey: name) == nil else { throw ValidationError("The input '\(name)' is given twice.") }
    }
    for argument in arguments {
      let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      // A file's name may have a = in it, too.
      let isNamed = parts.count == 2 && !parts[0].contains("/")
      let file = isNamed ? parts[1] : argument
      if file.hasSuffix(".npz") {
        let archive = try NPZFile(path: file)
        if isNamed {
          guard archive.names.count == 1 else {
            throw ValidationError(
              "\(file) holds \(archive.names.count) arrays: give it without a name, and they are the inputs of their names.")
          }
          try add(parts[0], try archive.tensor(archive.names[0]))
        } else {
          for name in archive.names { try add(name, try archive.tensor(name)) }
        }
      } else if isNamed {
        try add(parts[0], try NPY.read(file))
      } else {
        guard signature.inputs.count == 1 else {
          let names = signature.inputs.map(\.name).joined(separator: ", ")
          throw ValidationError("Say which input \(file) is, as in NAME=\(file); there are \(names).")
        }
        try add(signature.inputs[0].name, try NPY.read(file))
      }
    }
    return inputs
  }
}

extension Program {
  /// The signature of this name, or the one that is meant where there is none.
  func signature(named name: String?) throws -> (name: String, value: Signature) {
    let known = signatures.keys.sorted()
    guard let name = name ?? defaultSignature else {
      throw ValidationError("Say which signature: --signature with one of \(known.joined(separator: ", ")).")
    }
    guard let signature = signatures[name] else {
      throw ProgramError.unknownSignature(name, near: nearName(name, in: known), known: known)
    }
    return (name, signature)
  }
}
