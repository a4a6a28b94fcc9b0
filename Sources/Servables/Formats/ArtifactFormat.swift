import ApusExport
import ApusFormats
import ApusTensor

/// Apus's own artifacts, the folders that `export` writes: `name.apus` in a version's folder, or the folder itself.
public struct ArtifactFormat: ServableFormat {
  public init() {}

  public var name: String { "apus" }

  public func recognizes(_ path: String) -> Bool { path.hasSuffix(".apus") }

  /// Whether the manifest and all files of the sizes that it says are there; their hashes are checked by ``load(_:)``, of the very
  /// bytes that are then used.
  public func verify(_ path: String) throws(ServingError) {
    do throws(FormatError) { try checkFiles(ofArtifact: path) } catch { throw ServingError(error) }
  }

  /// Reads the artifact into memory: nothing that is done to its files afterwards can harm the model.
  public func load(_ path: String) throws(ServingError) -> any Servable {
    do throws(FormatError) { return ServableProgram(try ApusExport.load(path, inMemory: true)) } catch {
      throw ServingError(error)
    }
  }
}

extension ServingError {
  /// - `failedPrecondition`: the files are not, or not yet, what they should be; `unavailable`: they cannot be read now;
  ///   `invalidArgument`: they never can be.
  init(_ error: FormatError) {
    let code: Code =
      switch error.kind {
      case .cannotRead, .cannotWrite: .unavailable
      case .limitExceeded, .unsupported, .unsafePath: .invalidArgument
      default: .failedPrecondition
      }
    self.init(code, error.description)
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
