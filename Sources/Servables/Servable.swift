import ApusExport
import ApusTensor

/// A loaded model of whatever format: it says what it takes and gives, and runs. Many threads may run it at once.
public protocol Servable: Sendable {
  /// What each of its functions takes and gives, by name.
  var signatures: [String: Signature] { get }
  /// The signature that is meant where none is named.
  var defaultSignature: String? { get }
  /// Bytes of memory its weights take.
  var byteCount: Int { get }
  /// The name of its format, as shown to clients: `apus`.
  var platform: String { get }
  /// Names of the classes that scores are for, if the model came with them.
  var classLabels: [String]? { get }

  /// Computes on the calling thread (and the thread pool); not to be called on a thread that must not block.
  /// - Throws: ``ServingError``, whatever the inputs are; nothing stops the process.
  func run(_ inputs: [String: Tensor], signature: String?) throws(ServingError) -> [String: Tensor]
}

/// A way that models are kept in files. Others join by another type of these in ``ModelFormats``.
public protocol ServableFormat: Sendable {
  /// The name that configuration files have for it (`model_platform`).
  var name: String { get }
  /// Whether the folder of a version, or a path given for a single model, holds a model of this format; nothing is read in full.
  func recognizes(_ path: String) -> Bool
  /// Whether everything is there; throws what is missing. A version that fails may still be being copied. Quick: it is asked at every
  /// look at a folder whose files have changed.
  func verify(_ path: String) throws(ServingError)
  /// Reads the model, and checks that it is unharmed. The files may be changed or removed afterwards.
  /// - Throws: ``ServingError``: `failedPrecondition` if the files are not what they should be (they are looked at again when they
  ///   change), `unavailable` or `resourceExhausted` if trying again may help.
  func load(_ path: String) throws(ServingError) -> any Servable
}
