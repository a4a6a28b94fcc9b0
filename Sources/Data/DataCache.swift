import ApusFormats

/// The folder in which downloaded files are kept.
public struct DataCache: Sendable, Equatable {
  /// The folder's path; it need not exist yet.
  public let folder: String

  /// A cache in a folder of one's own.
  public init(folder: String) { self.folder = folder }

  /// The usual cache: `$APUS_CACHE`, else `$XDG_CACHE_HOME/apus`, else `~/.cache/apus`.
  public static var standard: DataCache { standard(environment: environmentValue) }

  /// The usual cache under other environment variables. A relative `XDG_CACHE_HOME` is ignored, as its specification says.
  package static func standard(environment: (String) -> String?) -> DataCache {
    if let own = environment("APUS_CACHE") { return DataCache(folder: own) }
    if let base = environment("XDG_CACHE_HOME"), base.hasPrefix("/") { return DataCache(folder: base + "/apus") }
    return DataCache(folder: (environment("HOME") ?? ".") + "/.cache/apus")
  }

  /// The path of a file in the cache.
  /// - Parameter name: a relative path such as `fashion-mnist/train-images-idx3-ubyte.gz`.
  public func path(_ name: String) -> String { folder + "/" + name }
}

/// What a file's content is compared with.
public enum Checksum: Sendable, Equatable, CustomStringConvertible {
  /// SHA-256 in lower-case hexadecimal digits.
  case sha256(String)
  /// MD5 in lower-case hexadecimal digits, for data sets that published no better sum: it shows damage, not forgery.
  case md5(String)

  public var description: String {
    switch self {
    case .sha256(let digest): "SHA-256 \(digest)"
    case .md5(let digest): "MD5 \(digest)"
    }
  }

  /// Whether a file's content has this sum.
  /// - Throws: `FormatError` when it cannot be read.
  public func matches(path: String) throws(FormatError) -> Bool {
    var hasher = ChecksumHasher(self)
    try FileBytes(mapping: path).withUnsafeBytes { hasher.update($0) }
    return hasher.result == self
  }
}

/// Computes the kind of sum that a `Checksum` asks for, piece by piece.
package struct ChecksumHasher: Sendable {
  private enum Hash {
    case sha256(SHA256)
    case md5(MD5)
  }
  private var hash: Hash

  package init(_ kind: Checksum) {
    switch kind {
    case .sha256: hash = .sha256(SHA256())
    case .md5: hash = .md5(MD5())
    }
  }

  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    switch hash {
    case .sha256(var state):
      state.update(bytes)
      hash = .sha256(state)
    case .md5(var state):
      state.update(bytes)
      hash = .md5(state)
    }
  }

  package var result: Checksum {
    switch hash {
    case .sha256(let state): .sha256(state.hexDigest())
    case .md5(let state): .md5(state.hexDigest())
    }
  }
}
