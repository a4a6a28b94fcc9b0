/// Where a version of a model is on its way; the names and numbers are TensorFlow Serving's.
public enum ModelState: Int, Sendable, Hashable {
  case unknown = 0
  /// Known, not yet begun: it waits, or is not complete yet (see the error).
  case start = 10
  case loading = 20
  case available = 30
  case unloading = 40
  /// Unloaded, or failed to load: see the error.
  case end = 50

  public var name: String {
    switch self {
    case .unknown: "UNKNOWN"
    case .start: "START"
    case .loading: "LOADING"
    case .available: "AVAILABLE"
    case .unloading: "UNLOADING"
    case .end: "END"
    }
  }
}

/// What can be said of a version of a model.
public struct VersionStatus: Sendable, Hashable {
  public var version: Int
  public var state: ModelState
  /// Why it could not be loaded; of one that is available, why its newer files could not.
  public var error: ServingError?

  public init(version: Int, state: ModelState, error: ServingError? = nil) {
    (self.version, self.state, self.error) = (version, state, error)
  }
}

/// Which version of a model a request is for.
public enum VersionChoice: Sendable, Hashable {
  /// The highest one that is available.
  case latest
  case number(Int)
  case label(String)
}

/// Something that happened to a version of a model, for logs.
public struct RepositoryEvent: Sendable, Hashable {
  public enum Kind: Sendable, Hashable {
    case loading
    /// It takes traffic.
    case available(load: Duration, warmUp: WarmUpResult?)
    /// Its files are not complete yet; it is looked at again when they change.
    case incomplete(ServingError)
    case failed(ServingError)
    /// It takes no new requests.
    case unloading
    /// Its memory has been given back.
    case unloaded
    /// Something about the model's folder that a person should know.
    case notice(String)
  }

  public var model: String
  /// nil: of the model as a whole.
  public var version: Int?
  public var kind: Kind

  public init(model: String, version: Int?, kind: Kind) { (self.model, self.version, self.kind) = (model, version, kind) }
}

extension RepositoryEvent: CustomStringConvertible {
  public var description: String {
    let subject = "model '\(model)'" + (version.map { ", version \($0)" } ?? "")
    switch kind {
    case .loading: return subject + ": loading"
    case .available(let load, let warmUp):
      return subject + ": available after \(load)"
        + (warmUp.map { ", warmed up by \($0.requests) requests in \($0.duration)" } ?? "")
    case .incomplete(let error): return subject + ": not complete yet: \(error)"
    case .failed(let error): return subject + ": failed to load: \(error)"
    case .unloading: return subject + ": unloading"
    case .unloaded: return subject + ": unloaded"
    case .notice(let text): return subject + ": " + text
    }
  }
}
