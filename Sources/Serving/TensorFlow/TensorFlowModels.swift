import ApusExport
import ApusFormats
import ApusServables
import ApusTensor

/// The name that TensorFlow's clients have for a model's default signature.
let servingDefault = "serving_default"

extension ServingContext {
  /// The version of a model that a request of TensorFlow's API is for.
  /// - Throws: ``ServingError`` with TensorFlow Serving's texts.
  func servedModel(_ name: String, _ version: VersionChoice) throws(ServingError) -> ServedModel {
    guard !name.isEmpty else { throw ServingError(.invalidArgument, "ModelSpec has no name specified.") }
    do throws(ServingError) { return try repository.model(name, version: version) } catch {
      guard error.code == .notFound else { throw error }
      switch version {
      case .latest: throw ServingError(.notFound, "Servable not found for request: Latest(\(FormatError.excerpt(name)))")
      case .number(let number):
        throw ServingError(.notFound, "Servable not found for request: Specific(\(FormatError.excerpt(name)), \(number))")
      case .label(let label):
        throw ServingError(.invalidArgument, "Unrecognized servable version label: \(FormatError.excerpt(label))")
      }
    }
  }

  /// What can be said of a model's versions, or of one.
  /// - Throws: ``ServingError``, `notFound`, with TensorFlow Serving's texts.
  func versionStatuses(_ name: String, _ version: VersionChoice) throws(ServingError) -> [VersionStatus] {
    guard !name.isEmpty else { throw ServingError(.invalidArgument, "Missing model name in request.") }
    let all: [VersionStatus]
    do throws(ServingError) { all = try repository.status(name) } catch {
      guard error.code == .notFound else { throw error }
      all = []
    }
    let number: Int
    switch version {
    case .latest:
      guard !all.isEmpty else {
        throw ServingError(.notFound, "Could not find any versions of model \(FormatError.excerpt(name))")
      }
      return all
    case .number(let wanted): number = wanted
    case .label: number = try servedModel(name, version).version
    }
    let found = all.filter { $0.version == number }
    guard !found.isEmpty else {
      throw ServingError(.notFound, "Could not find version \(number) of model \(FormatError.excerpt(name))")
    }
    return found
  }
}

extension ServedModel {
  /// The signature of a request; none, an empty name and `serving_default` mean the default one.
  /// - Throws: ``ServingError`` of this code.
  func tensorFlowSignature(
    _ name: String?, code: ServingError.Code = .invalidArgument
  ) throws(ServingError) -> (name: String, signature: Signature) {
    try servable.tensorFlowSignature(name, code: code)
  }
}

extension Servable {
  func tensorFlowSignature(
    _ name: String?, code: ServingError.Code = .invalidArgument
  ) throws(ServingError) -> (name: String, signature: Signature) {
    let wanted = name.flatMap { $0.isEmpty ? nil : $0 } ?? servingDefault
    if let signature = signatures[wanted] { return (wanted, signature) }
    if wanted == servingDefault {
      // A model may have a signature of this name; else it is another word for the default one.
      if let name = defaultSignature, let signature = signatures[name] { return (name, signature) }
      throw ServingError(
        .invalidArgument,
        "the model has several signatures, so a request must name one: "
          + signatures.keys.sorted().map { FormatError.excerpt($0) }.joined(separator: ", "))
    }
    let shown = FormatError.excerpt(wanted)
    throw ServingError(
      code,
      code == .invalidArgument
        ? "Serving signature name: \"\(shown)\" not found in signature def" : "Serving signature key \"\(shown)\" not found.")
  }
}

extension ElementType {
  /// TensorFlow's name.
  var tensorFlowName: String {
    switch self {
    case .bool: "DT_BOOL"
    case .uint8: "DT_UINT8"
    case .int8: "DT_INT8"
    case .int16: "DT_INT16"
    case .int32: "DT_INT32"
    case .int64: "DT_INT64"
    case .float16: "DT_HALF"
    case .bfloat16: "DT_BFLOAT16"
    case .float32: "DT_FLOAT"
    case .float64: "DT_DOUBLE"
    }
  }
}

extension Signature {
  /// `tensorflow/serving/predict`: what all signatures can be used for.
  static let predictMethod = "tensorflow/serving/predict"

  /// The signatures as metadata names them: the default one as `serving_default` too.
  static func named(of servable: any Servable) -> [(name: String, signature: Signature)] {
    var all = servable.signatures
    if all[servingDefault] == nil, let name = servable.defaultSignature { all[servingDefault] = all[name] }
    return all.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }
}

extension Dimension {
  /// -1 where it is open.
  var sizeOrOpen: Int { if case .fixed(let size) = self { size } else { -1 } }
}
