/// Where a version of a model is on its way; the names and numbers are TensorFlow Serving's.
public enum ModelState: Int, Sendable, Hashable {
  case unknown = 0
  /// Known, not yet begun.
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
  /// Why it could not be loaded.
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
