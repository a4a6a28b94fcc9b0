import ApusData
import ApusFormats
import Foundation
import Testing

private let debianFolder = "/usr/share/datasets/fashion-mnist"
private let hasDebianPackage = FileManager.default.fileExists(atPath: debianFolder + "/t10k-images-idx3-ubyte.gz")

@Suite struct ImageClassificationFilesTests {
  private static func withFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  /// Three training and two test images of 2 × 2, uncompressed.
  private static func writeSmall(_ folder: String, labels: [UInt8] = [0, 9, 3], testLabels: [UInt8] = [1, 2]) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    func put(_ name: String, _ bytes: [UInt8]) throws { try Data(bytes).write(to: URL(fileURLWithPath: folder + "/" + name)) }
    try put("train-images-idx3-ubyte", [0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2] + Array(0..<12))
    try put("train-labels-idx1-ubyte", [0, 0, 8, 1, 0, 0, 0, UInt8(labels.count)] + labels)
    try put("t10k-images-idx3-ubyte", [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2] + Array(20..<28))
    try put("t10k-labels-idx1-ubyte", [0, 0, 8, 1, 0, 0, 0, UInt8(testLabels.count)] + testLabels)
  }

  private let source = ImageClassificationFiles(
    name: "small", classNames: (0..<10).map(String.init), mirrors: [], checksums: [:], systemFolders: [])

  @Test func cacheFolder() {
    func folder(_ variables: [String: String]) -> String { DataCache.standard { variables[$0] }.folder }
    #expect(folder(["APUS_CACHE": "/a", "XDG_CACHE_HOME": "/x", "HOME": "/h"]) == "/a")
    #expect(folder(["XDG_CACHE_HOME": "/x", "HOME": "/h"]) == "/x/apus")
    #expect(folder(["XDG_CACHE_HOME": "relative", "HOME": "/h"]) == "/h/.cache/apus")
    #expect(DataCache(folder: "/c").path("d/e") == "/c/d/e")
  }

  @Test func searchOrder() throws {
    try Self.withFolder { folder in
      let cache = DataCache(folder: folder + "/cache")
      let (own, data, system) = (folder + "/own", folder + "/data", folder + "/system")
      let described = ImageClassificationFiles(
        name: "small", classNames: ["a"], mirrors: [], checksums: [:], systemFolders: [system])
      do {
        _ = try described.locate(folder: nil, cache: cache, dataFolder: data)
        Issue.record("nothing was thrown")
      } catch let error as ImageClassificationFiles.NotFound {
        #expect(error.searched == [data + "/small", system, folder + "/cache/small"])
        #expect(error.description.contains(system))
      }
      // Each place, from the last to the first, takes precedence over those before.
      for place in [folder + "/cache/small", system, data + "/small"] {
        try Self.writeSmall(place)
        let paths = try described.locate(folder: nil, cache: cache, dataFolder: data)
        #expect(paths[.trainImages] == place + "/train-images-idx3-ubyte")
      }
      // An explicit folder is the only one searched.
      #expect(throws: ImageClassificationFiles.NotFound.self) {
        try described.locate(folder: own, cache: cache, dataFolder: data)
      }
      try Self.writeSmall(own)
      #expect(try described.locate(folder: own, cache: cache, dataFolder: data)[.testLabels] == own + "/t10k-labels-idx1-ubyte")
      // A folder that lacks one file is passed over.
      try FileManager.default.removeItem(atPath: data + "/small/t10k-labels-idx1-ubyte")
      #expect(try described.locate(folder: nil, cache: cache, dataFolder: data)[.trainImages]?.hasPrefix(system) == true)
    }
  }

  @Test func reads() throws {
    try Self.withFolder { folder in
      try Self.writeSmall(folder)
      let data = try source.read(source.locate(folder: folder))
      #expect(data.train.images == Array(0..<12))
      #expect(data.train.labels == [0, 9, 3])
      #expect(data.test.images == Array(20..<28))
      #expect(data.train.count == 3)
      #expect(data.train.rows == 2)
      #expect(data.train.columns == 2)
      #expect(data.test.count == 2)
    }
  }

  @Test func refusesFilesThatDoNotBelongTogether() throws {
    try Self.withFolder { folder in
      try Self.writeSmall(folder, labels: [1, 2])
      #expect(throws: FormatError.self) { try source.read(source.locate(folder: folder)) }
      try Self.writeSmall(folder, testLabels: [1, 10])
      do {
        _ = try source.read(source.locate(folder: folder))
        Issue.record("nothing was thrown")
      } catch let error as FormatError {
        #expect(error.message == "label 1 is 10, but there are 10 classes")
      }
    }
  }

  /// Sums of the decompressed content by Python's gzip and hashlib.
  @Test(.enabled(if: hasDebianPackage, "needs the Debian package dataset-fashion-mnist"))
  func fashionMNISTTestImages() throws {
    let images = try IDXFile.read(path: debianFolder + "/t10k-images-idx3-ubyte.gz")
    #expect(images.dimensions == [10_000, 28, 28])
    #expect(images.payload.withUnsafeBytes { MD5.hexDigest($0) } == "b7656a891b218fc13e45205c48a92cae")
    let labels = try IDXFile.read(path: debianFolder + "/t10k-labels-idx1-ubyte.gz")
    #expect(labels.payload.withUnsafeBytes { MD5.hexDigest($0) } == "8dea97a4e78c1bd1b5a6e8efbb870b6e")
    #expect(labels.payload.prefix(5) == [9, 2, 1, 1, 6])
  }
}
