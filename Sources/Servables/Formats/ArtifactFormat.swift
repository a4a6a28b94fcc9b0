import ApusExport
import ApusFormats
import ApusTensor

/// Apus's own artifacts, the folders that `export` writes: `name.apus` in a version's folder, or the folder itself.
public struct ArtifactFormat: ServableFormat {
  public init() {}

  public var name: String { "apus" }

  public func recognizes(_ path: String) -> Bool { path.hasSuffix(".apus") }

  public func verify(_ path: String) throws(ServingError) { _ = try load(path) }

  public func load(_ path: String) throws(ServingError) -> any Servable {
    do throws(FormatError) { return ServableProgram(try ApusExport.load(path)) } catch {
      throw ServingError(.failedPrecondition, error.description)
    }
  }
}

/// A program of an artifact.
private struct ServableProgram: Servable {
  let program: Program
  init(_ program: Program) { self.program = program }

  var signatures: [String: Signature] { program.signatures }
  var defaultSignature: String? { program.defaultSignature }
  var byteCount: Int { program.byteCount }
  var platform: String { "apus" }
  var classLabels: [String]? { nil }

  func run(_ inputs: [String: Tensor], signature: String?) throws(ServingError) -> [String: Tensor] {
    do throws(ProgramError) { return try program.run(inputs, signature: signature) } catch {
      switch error {
      case .tooLarge: throw ServingError(.resourceExhausted, error.description)
      case .unknownSignature, .unknownInput, .missingInput, .wrongType, .wrongSize, .notAtThisSize, .execution:
        throw ServingError(.invalidArgument, error.description)
      }
    }
  }
}
