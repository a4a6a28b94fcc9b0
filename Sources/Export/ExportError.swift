import ApusFormats

/// Why a function cannot be exported.
public enum ExportError: Error, Sendable, Hashable, CustomStringConvertible {
  /// An input's or signature's description makes no sense.
  case invalidSpecification(String)
  /// The function draws random numbers, as dropout does in training mode.
  case drawsRandomNumbers(signature: String)
  /// The function writes variables; ``Exported/states`` makes them inputs and outputs.
  case writesVariables(signature: String, names: [String])
  /// The function reads a number of Swift's that may change from run to run, such as a learning rate.
  case readsChangingNumber(signature: String, name: String)
  /// The program is not the same at all sizes of an open dimension, or a number depends on them in another way than
  /// multilinearly. The message names the operation.
  case openDimension(signature: String, message: String)

  public var description: String {
    switch self {
    case .invalidSpecification(let message): message
    case .drawsRandomNumbers(let signature):
      "\(signature): the function draws random numbers; take them as an input, or export the model in evaluation mode"
    case .writesVariables(let signature, let names):
      "\(signature): the function writes \(names.joined(separator: ", ")); return the new values instead, or export with states: .inputsAndOutputs"
    case .readsChangingNumber(let signature, let name):
      "\(signature): the function reads \(name.isEmpty ? "a number" : name), which may change from run to run; take it as an input"
    case .openDimension(let signature, let message): "\(signature): \(message)"
    }
  }
}

/// Why a loaded program cannot be run on some inputs.
public enum ProgramError: Error, Sendable, Hashable, CustomStringConvertible {
  case unknownSignature(String, near: String?, known: [String])
  /// The program has no input of this name.
  case unknownInput(String, near: String?, known: [String])
  case missingInput(String, expected: String)
  /// Shape or element type do not fit.
  case wrongType(input: String, expected: String, found: String)
  /// An open dimension has a size that it cannot have, or two of them.
  case wrongSize(dimension: String, message: String)
  /// The program does not exist at these sizes.
  case notAtThisSize(String)
  /// The run would need more memory than allowed.
  case tooLarge(bytes: Int, limit: Int)
  /// What only running can find out, such as an index outside of a table.
  case execution(String)

  public var description: String {
    func meant(_ near: String?, _ known: [String]) -> String {
      near.map { "; did you mean '\($0)'?" }
        ?? "; there \(known.count == 1 ? "is" : "are") \(known.prefix(20).joined(separator: ", "))"
    }
    switch self {
    case .unknownSignature(let name, let near, let known):
      return "there is no signature '\(FormatError.excerpt(name))'" + meant(near, known)
    case .unknownInput(let name, let near, let known):
      return "there is no input '\(FormatError.excerpt(name))'" + meant(near, known)
    case .missingInput(let name, let expected): return "the input '\(name)', \(expected), is missing"
    case .wrongType(let input, let expected, let found): return "the input '\(input)' must be \(expected), got \(found)"
    case .wrongSize(let dimension, let message): return "\(dimension) \(message)"
    case .notAtThisSize(let message): return message
    case .tooLarge(let bytes, let limit): return "the run would take \(bytes) bytes; at most \(limit) are allowed"
    case .execution(let message): return message
    }
  }
}
