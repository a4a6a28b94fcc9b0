import ApusFormats

/// A data set of small grey images with one label each, in the four IDX files of the MNIST family: where they are found,
/// what they are checked against.
public struct ImageClassificationFiles: Sendable {
  /// One of the four files.
  public enum Role: String, Sendable, CaseIterable {
    case trainImages = "train-images-idx3-ubyte"
    case trainLabels = "train-labels-idx1-ubyte"
    case testImages = "t10k-images-idx3-ubyte"
    case testLabels = "t10k-labels-idx1-ubyte"
  }

  /// The data set's name, also that of its folder.
  public let name: String
  /// The classes' names, by label.
  public let classNames: [String]
  /// Folders to download from, each ending in a slash.
  public let mirrors: [String]
  /// The sums of the files as the mirrors have them (with `.gz`).
  public let checksums: [Role: Checksum]
  /// Folders in which a system package puts the files.
  public let systemFolders: [String]

  /// Describes a data set of one's own.
  public init(name: String, classNames: [String], mirrors: [String], checksums: [Role: Checksum], systemFolders: [String] = []) {
    (self.name, self.classNames, self.mirrors) = (name, classNames, mirrors)
    (self.checksums, self.systemFolders) = (checksums, systemFolders)
  }

  /// Fashion-MNIST: 60,000 + 10,000 images of clothing, 28 × 28, 10 classes (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747).
  public static let fashionMNIST = ImageClassificationFiles(
    name: "fashion-mnist",
    classNames: [
      "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ],
    mirrors: [
      "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
      "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ],
    // Of the files whose MD5 sums the authors published: 8d4fb7e6…, 25c81989…, bef4ecab…, bb300cfd….
    checksums: [
      .trainImages: .sha256("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
      .trainLabels: .sha256("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
      .testImages: .sha256("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
      .testLabels: .sha256("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ],
    // The Debian package dataset-fashion-mnist.
    systemFolders: ["/usr/share/datasets/fashion-mnist"])

  /// MNIST: 60,000 + 10,000 handwritten digits, 28 × 28 (LeCun, Cortes, Burges 1998).
  public static let mnist = ImageClassificationFiles(
    name: "mnist", classNames: (0..<10).map(String.init),
    mirrors: ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
    checksums: [
      .trainImages: .md5("f68b3c2dcbeaaa9fbdd348bbdeb94873"), .trainLabels: .md5("d53e105ee54ea40749a09fcbcd1e9432"),
      .testImages: .md5("9fb629c4189551a2d022fa330f9573f3"), .testLabels: .md5("ec29112dd5afa0611ce80d1b7f02629c"),
    ])

  /// Why the data set was not loaded.
  public struct NotFound: Error, Sendable, CustomStringConvertible {
    /// The data set's name.
    public var name: String
    /// The folders searched, in order.
    public var searched: [String]

    public var description: String {
      "the four files of \(name) were found in none of: " + searched.joined(separator: ", ")
    }
  }

  /// The folder that holds all four files, as `NAME` or `NAME.gz`: `folder` alone if given, else the first of
  /// `$APUS_DATA/<name>`, the system package's folder, the cache.
  /// - Throws: `NotFound`.
  public func locate(folder: String? = nil, cache: DataCache = .standard) throws(NotFound) -> [Role: String] {
    try locate(folder: folder, cache: cache, dataFolder: environmentValue("APUS_DATA"))
  }

  package func locate(folder: String?, cache: DataCache, dataFolder: String?) throws(NotFound) -> [Role: String] {
    let candidates = folder.map { [$0] } ?? (dataFolder.map { ["\($0)/\(name)"] } ?? []) + systemFolders + [cache.path(name)]
    for candidate in candidates {
      var paths: [Role: String] = [:]
      for role in Role.allCases {
        let plain = candidate + "/" + role.rawValue
        paths[role] = [plain, plain + ".gz"].first(where: isRegularFile)
      }
      if paths.count == Role.allCases.count { return paths }
    }
    throw NotFound(name: name, searched: candidates)
  }

  /// Downloads the files that the cache lacks, with checksums verified.
  /// - Throws: `Download.Failure`, `FormatError`, `CancellationError`.
  public func download(to cache: DataCache = .standard, progress: Download.Progress? = nil) async throws -> [Role: String] {
    var paths: [Role: String] = [:]
    for role in Role.allCases {
      guard let checksum = checksums[role] else {
        throw FormatError(.missing, file: name, part: role.rawValue, "the data set's description has no checksum for this file")
      }
      let path = cache.path("\(name)/\(role.rawValue).gz")
      // Not trusted for its name alone: it may be from elsewhere, or damaged.
      if try !isRegularFile(path) || !checksum.matches(path: path) {
        try await Download.fetch(
          urls: mirrors.map { "\($0)\(role.rawValue).gz" }, checksum: checksum, to: path, sizeLimit: 1 << 30, progress: progress)
      }
      paths[role] = path
    }
    return paths
  }

  /// Finds the data set as `locate` does, downloads it into the cache if it is nowhere (and `folder` is nil), and reads it.
  /// - Throws: `NotFound` for an explicit folder without the files; `Download.Failure`, `FormatError`, `CancellationError`.
  public func load(
    folder: String? = nil, cache: DataCache = .standard, progress: Download.Progress? = nil
  ) async throws -> ImageClassificationData {
    let paths: [Role: String]
    do throws(NotFound) {
      paths = try locate(folder: folder, cache: cache)
    } catch {
      if folder != nil { throw error }
      paths = try await download(to: cache, progress: progress)
    }
    return try read(paths)
  }

  /// Reads the four files.
  /// - Throws: `FormatError` for damaged files, and for files that do not belong together.
  public func read(_ paths: [Role: String]) throws(FormatError) -> ImageClassificationData {
    let train = try readSplit(images: .trainImages, labels: .trainLabels, paths)
    let test = try readSplit(images: .testImages, labels: .testLabels, paths)
    guard train.rows == test.rows, train.columns == test.columns else {
      throw FormatError(
        .sizeMismatch, file: paths[.testImages] ?? name,
        "test images of \(test.rows) × \(test.columns) beside training images of \(train.rows) × \(train.columns)")
    }
    return ImageClassificationData(name: name, classNames: classNames, train: train, test: test)
  }

  private func readSplit(
    images: Role, labels: Role, _ paths: [Role: String]
  ) throws(FormatError) -> ImageClassificationData.Split {
    func idx(_ role: Role, rank: Int) throws(FormatError) -> (IDXFile, String) {
      guard let path = paths[role] else {
        throw FormatError(.missing, file: name, part: role.rawValue, "no path for this file")
      }
      let file = try IDXFile.read(path: path)
      guard file.element == .uint8, file.dimensions.count == rank else {
        throw FormatError(
          .invalidEntry, file: path,
          "expected bytes of rank \(rank), not \(file.element) of rank \(file.dimensions.count)")
      }
      return (file, path)
    }
    let (pixels, _) = try idx(images, rank: 3)
    let (classes, path) = try idx(labels, rank: 1)
    guard classes.dimensions[0] == pixels.dimensions[0] else {
      throw FormatError(
        .sizeMismatch, file: path, "\(classes.dimensions[0]) labels beside \(pixels.dimensions[0]) images")
    }
    if let wrong = classes.payload.firstIndex(where: { $0 >= classNames.count }) {
      throw FormatError(
        .invalidEntry, file: path, "label \(wrong) is \(classes.payload[wrong]), but there are \(classNames.count) classes")
    }
    return ImageClassificationData.Split(
      images: pixels.payload, labels: classes.payload, count: pixels.dimensions[0], rows: pixels.dimensions[1],
      columns: pixels.dimensions[2])
  }
}

/// Small grey images with one label each, in memory as bytes.
public struct ImageClassificationData: Sendable {
  /// The training or the test images.
  public struct Split: Sendable {
    /// The pixels, 0 black to 255 white, shape [count, rows, columns].
    public let images: [UInt8]
    /// The classes, shape [count].
    public let labels: [UInt8]
    /// The number of images.
    public let count: Int
    /// The height of an image in pixels.
    public let rows: Int
    /// The width of an image in pixels.
    public let columns: Int
  }

  /// The data set's name.
  public let name: String
  /// The classes' names, by label.
  public let classNames: [String]
  /// What to train on.
  public let train: Split
  /// What to evaluate on.
  public let test: Split
}
