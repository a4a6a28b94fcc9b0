import ApusFormats
import ApusTensor

/// Sentences of movie reviews with a mean rating from −4 (very bad) to 4 (very good), by 20 people each (Hutto and Gilbert 2014,
/// "VADER: A parsimonious rule-based model for sentiment analysis of social media text"): 10,605 of them.
public struct MovieReviews: Sendable, Equatable {
  public struct Review: Sendable, Equatable {
    /// The sentence's number in the data set.
    public let number: Int
    /// The mean of the ratings, −4 … 4.
    public let rating: Double
    public let text: String

    public init(number: Int, rating: Double, text: String) { (self.number, self.rating, self.text) = (number, rating, text) }

    /// Whether people liked it: the rating is above zero.
    public var isPositive: Bool { rating > 0 }
  }

  public let reviews: [Review]

  public init(_ reviews: [Review]) { self.reviews = reviews }

  public var count: Int { reviews.count }

  /// The sentences, in order.
  public var texts: [String] { reviews.map(\.text) }

  /// 1 for a rating above zero, else 0: float32 [reviews].
  public var labels: Tensor { Tensor(elements: reviews.map { $0.isPositive ? Float(1) : 0 }) }

  /// Two parts that have no review in common, in a random order that only the seed decides.
  /// - Parameter test: the share of the reviews that are kept to test with, rounded down.
  public func split(test: Double = 0.2, seed: UInt64 = 0) -> (train: MovieReviews, test: MovieReviews) {
    precondition((0...1).contains(test), "MovieReviews: a share of \(test) to test with is not within 0 and 1")
    let order = Tensor.permutation(count, generator: ApusTensor.Generator(seed: seed)).elements(as: Int.self)
    let kept = Int(Double(count) * test)
    return (
      MovieReviews(order[kept...].map { reviews[$0] }), MovieReviews(order[..<kept].map { reviews[$0] })
    )
  }
}

// MARK: Reading

extension MovieReviews {
  /// Reads lines of three fields with tabs between them: number, rating, sentence. Lines end in LF or CR LF.
  /// - Parameter file: the name for error messages.
  /// - Throws: `FormatError` that names the line: another number of fields, a number or a rating that is none or out of range, a number
  ///   that occurs twice, an empty sentence, bytes that are not UTF-8.
  public static func parse(_ bytes: UnsafeRawBufferPointer, file: String = "bytes") throws(FormatError) -> MovieReviews {
    var reviews: [Review] = []
    var seen: Set<Int> = []
    var (line, start) = (1, 0)
    while start < bytes.count {
      let end = bytes[start...].firstIndex(of: 0x0a) ?? bytes.count
      var content = bytes[start..<end]
      if content.last == 0x0d { content.removeLast() }
      if !(content.isEmpty && end >= bytes.count - 1) {
        let review = try parse(line: UnsafeRawBufferPointer(rebasing: content), number: line, offset: start, file: file)
        guard seen.insert(review.number).inserted else {
          throw FormatError(
            .duplicateKey, file: file, part: "line \(line)", offset: start, "there is a review \(review.number) before")
        }
        reviews.append(review)
      }
      start = end + 1
      line += 1
    }
    guard !reviews.isEmpty else { throw FormatError(.missing, file: file, "there are no reviews in it") }
    return MovieReviews(reviews)
  }

  private static func parse(
    line: UnsafeRawBufferPointer, number: Int, offset: Int, file: String
  ) throws(FormatError) -> Review {
    func error(_ kind: FormatError.Kind, _ message: String) -> FormatError {
      FormatError(kind, file: file, part: "line \(number)", offset: offset, message)
    }
    guard line.count <= 1 << 16 else { throw error(.limitExceeded, "a line of \(line.count) bytes") }
    guard let text = String(validating: line, as: UTF8.self) else { throw error(.invalidUTF8, "the line is not UTF-8") }
    let fields = text.split(separator: "\t", omittingEmptySubsequences: false)
    guard fields.count == 3 else {
      throw error(.malformed, "\(fields.count) fields, expected 3: number, rating and sentence with tabs between them")
    }
    guard let identifier = Int(fields[0]), identifier > 0 else {
      throw error(.invalidEntry, "the number '\(FormatError.excerpt(String(fields[0])))' is not a positive integer")
    }
    guard let rating = Double(fields[1]), (-4...4).contains(rating) else {
      throw error(.invalidEntry, "the rating '\(FormatError.excerpt(String(fields[1])))' is not a number within -4 and 4")
    }
    guard fields[2].contains(where: { !$0.isWhitespace }) else { throw error(.invalidEntry, "the sentence is empty") }
    return Review(number: identifier, rating: rating, text: String(fields[2]))
  }

  /// Reads a file of reviews.
  /// - Throws: `FormatError`, see ``parse(_:file:)``.
  public static func read(path: String, limit: Int = 1 << 28) throws(FormatError) -> MovieReviews {
    let file = try FileBytes(mapping: path)
    guard file.count <= limit else {
      throw FormatError(.limitExceeded, file: path, "the file is larger than the accepted \(limit) bytes")
    }
    return try file.withUnsafeBytes { (bytes) throws(FormatError) in try parse(bytes, file: path) }
  }
}

// MARK: Finding

extension MovieReviews {
  /// Why the reviews were not loaded.
  public struct NotFound: Error, Sendable, CustomStringConvertible {
    /// The paths searched, in order.
    public var searched: [String]
    public var description: String { "the movie reviews were found in none of: " + searched.joined(separator: ", ") }
  }

  package static let fileName = "movieReviewSnippets_GroundTruth.txt"
  package static let checksum = Checksum.sha256("c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350")
  /// The source distribution of vaderSentiment on PyPI, with which its authors publish their data (MIT license).
  package static let archive = (
    name: "vaderSentiment-3.3.2.tar.gz",
    mirrors: [
      "https://files.pythonhosted.org/packages/77/8c/4a48c10a50f750ae565e341e697d74a38075a3e43ff0df6f1ab72e186902/",
      "https://pypi.io/packages/source/v/vaderSentiment/",
    ],
    checksum: Checksum.sha256("5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9")
  )

  /// The file's path: in `folder` alone if given, else `$APUS_DATA/reviews` or the cache.
  /// - Throws: `NotFound`.
  public static func locate(folder: String? = nil, cache: DataCache = .standard) throws(NotFound) -> String {
    try locate(folder: folder, cache: cache, dataFolder: environmentValue("APUS_DATA"))
  }

  package static func locate(folder: String?, cache: DataCache, dataFolder: String?) throws(NotFound) -> String {
    let folders = folder.map { [$0] } ?? (dataFolder.map { ["\($0)/reviews"] } ?? []) + [cache.path("reviews")]
    let paths = folders.map { "\($0)/\(fileName)" }
    guard let path = paths.first(where: isRegularFile) else { throw NotFound(searched: paths) }
    return path
  }

  /// Downloads the archive that holds the file and unpacks it into the cache, with checksums verified.
  /// - Returns: the file's path.
  /// - Throws: `Download.Failure`, `FormatError`, `CancellationError`.
  public static func download(to cache: DataCache = .standard, progress: Download.Progress? = nil) async throws -> String {
    let path = cache.path("reviews/\(fileName)")
    let packed = cache.path("reviews/\(archive.name)")
    if try !isRegularFile(packed) || !archive.checksum.matches(path: packed) {
      try await Download.fetch(
        urls: archive.mirrors.map { $0 + archive.name }, checksum: archive.checksum, to: packed, sizeLimit: 1 << 26,
        progress: progress)
    }
    try unpack(packed, to: path)
    return path
  }

  /// Takes the file out of the archive in the archive.
  package static func unpack(_ archivePath: String, to path: String) throws(FormatError) {
    let outer = try FileBytes(mapping: archivePath).withUnsafeBytes { (bytes) throws(FormatError) in
      try Gzip.decompress(bytes, file: archivePath, limit: 1 << 28)
    }
    let inner = try Tar.content(of: "additional_resources/hutto_ICWSM_2014.tar.gz", in: outer, file: archivePath)
    let files = try FileBytes(inner).withUnsafeBytes { (bytes) throws(FormatError) in
      try Gzip.decompress(bytes, file: archivePath, limit: 1 << 28)
    }
    let content = try Tar.content(of: fileName, in: files, file: archivePath)
    let file = try AtomicFile(path)
    try file.write(content)
    try file.commit()
  }

  /// Finds the reviews as ``locate(folder:cache:)`` does, downloads them into the cache if they are nowhere (and `folder` is nil),
  /// and reads them.
  /// - Throws: `NotFound` for an explicit folder without the file; `Download.Failure`, `FormatError`, `CancellationError`.
  public static func load(
    folder: String? = nil, cache: DataCache = .standard, progress: Download.Progress? = nil
  ) async throws -> MovieReviews {
    let path: String
    do throws(NotFound) {
      path = try locate(folder: folder, cache: cache)
    } catch {
      if folder != nil { throw error }
      path = try await download(to: cache, progress: progress)
    }
    return try read(path: path)
  }
}
