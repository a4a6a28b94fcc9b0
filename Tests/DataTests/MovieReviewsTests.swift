import ApusData
import ApusFormats
import ApusTensor
import Foundation
import Testing

private let installed = try? MovieReviews.locate()

@Suite struct MovieReviewsTests {
  private func parse(_ text: String) throws -> MovieReviews { try parse(Array(text.utf8)) }
  private func parse(_ bytes: [UInt8]) throws -> MovieReviews {
    try bytes.withUnsafeBytes { try MovieReviews.parse($0, file: "f") }
  }

  @Test func reads() throws {
    let reviews = try parse("1\t2.5\tGood.\r\n2\t0\tWell…\n7\t-3.25\t''Bad'', it's said\r\n")
    #expect(
      reviews.reviews == [
        .init(number: 1, rating: 2.5, text: "Good."), .init(number: 2, rating: 0, text: "Well…"),
        .init(number: 7, rating: -3.25, text: "''Bad'', it's said"),
      ])
    #expect(reviews.labels.elements(as: Float.self) == [1, 0, 0])
    #expect(try parse("1\t2.5\tno end of line").texts == ["no end of line"])
  }

  @Test(arguments: [
    ("", FormatError.Kind.missing, nil), ("\n\n", .malformed, "line 1"), ("1\t2\ta\n2\t1\n", .malformed, "line 2"),
    ("1\t2\ta\tb\n", .malformed, "line 1"), ("one\t2\ta\n", .invalidEntry, "line 1"), ("0\t2\ta\n", .invalidEntry, "line 1"),
    ("99999999999999999999\t2\ta\n", .invalidEntry, "line 1"), ("1\t2\ta\n\n2\t2\tb\n", .malformed, "line 2"),
    ("1\t4.5\ta\n", .invalidEntry, "line 1"), ("1\tnan\ta\n", .invalidEntry, "line 1"),
    ("1\t1e999\ta\n", .invalidEntry, "line 1"),
    ("1\t2\t \n", .invalidEntry, "line 1"), ("1\t2\ta\n1\t2\tb\n", .duplicateKey, "line 2"),
  ])
  func damaged(_ text: String, _ kind: FormatError.Kind, _ line: String?) throws {
    do {
      _ = try parse(text)
      Issue.record("nothing was thrown")
    } catch let error as FormatError {
      #expect(error.kind == kind && error.part == line && error.file == "f", "\(error)")
    }
  }

  @Test func hostile() throws {
    #expect(throws: FormatError.self) { try parse([0x31, 0x09, 0x31, 0x09, 0xff, 0x0a]) }
    #expect(throws: FormatError.self) { try parse(Array("1\t1\t".utf8) + Array(repeating: 0x61, count: 1 << 17)) }
    let good = Array("1\t2.5\tGood.\r\n2\t-0.5\tBad\r\n".utf8)
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<500 {
      var bytes = good
      for _ in 0..<3 { bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator) }
      do { _ = try parse(bytes) } catch { #expect(error is FormatError) }
    }
  }

  @Test func splitIsFixedBySeed() {
    let all = MovieReviews((1...100).map { .init(number: $0, rating: 1, text: "\($0)") })
    let (train, test) = all.split(test: 0.25, seed: 3)
    #expect(train.count == 75 && test.count == 25)
    #expect(Set((train.reviews + test.reviews).map(\.number)) == Set(1...100))
    #expect(all.split(test: 0.25, seed: 3).test == test && all.split(test: 0.25, seed: 4).test != test)
  }

  @Test func findsAndUnpacks() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder + "/data/reviews", withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let cache = DataCache(folder: folder + "/cache")
    #expect(throws: MovieReviews.NotFound.self) {
      try MovieReviews.locate(folder: nil, cache: cache, dataFolder: folder + "/data")
    }
    let path = folder + "/data/reviews/" + MovieReviews.fileName
    try Data("1\t2\ta".utf8).write(to: URL(fileURLWithPath: path))
    #expect(try MovieReviews.locate(folder: nil, cache: cache, dataFolder: folder + "/data") == path)
    #expect(throws: MovieReviews.NotFound.self) { try MovieReviews.locate(folder: folder, cache: cache) }
    #expect(try MovieReviews.read(path: path).count == 1)
    #expect(throws: FormatError.self) { try MovieReviews.unpack(path, to: folder + "/x") }
  }

  /// An archive in an archive, as on PyPI, is unpacked into the file; one that lacks it is refused.
  @Test func unpacks() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let text = Array("1\t2\ta".utf8)
    for (name, isRight) in [(MovieReviews.fileName, true), ("other.txt", false)] {
      let inner = packed("hutto_ICWSM_2014/" + name, text)
      let outer = packed("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", inner)
      try Data(outer).write(to: URL(fileURLWithPath: folder + "/a.tar.gz"))
      if isRight {
        try MovieReviews.unpack(folder + "/a.tar.gz", to: folder + "/b")
        #expect(try MovieReviews.read(path: folder + "/b").texts == ["a"])
      } else {
        #expect(throws: FormatError.self) { try MovieReviews.unpack(folder + "/a.tar.gz", to: folder + "/c") }
        #expect(!FileManager.default.fileExists(atPath: folder + "/c"))
      }
    }
  }

  /// A gzip file (stored, not compressed) of a tape archive with one file.
  private func packed(_ name: String, _ content: [UInt8]) -> [UInt8] {
    var header = Array(name.utf8) + [UInt8](repeating: 0, count: 512 - name.utf8.count)
    func put(_ text: String, at: Int) { header.replaceSubrange(at..<(at + text.utf8.count), with: text.utf8) }
    let size = String(content.count, radix: 8)
    put(String(repeating: "0", count: 11 - size.count) + size, at: 124)
    put("        0", at: 148)
    let sum = String(header.reduce(0) { $0 + Int($1) }, radix: 8)
    put(String(repeating: "0", count: 6 - sum.count) + sum + "\0 ", at: 148)
    let tar = header + content + [UInt8](repeating: 0, count: (512 - content.count % 512) % 512 + 1024)
    func little(_ number: Int, _ bytes: Int) -> [UInt8] { (0..<bytes).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }
    let crc = tar.withUnsafeBytes { CRC32.checksum($0) }
    return [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1] + little(tar.count, 2) + little(~tar.count, 2) + tar + little(Int(crc), 4)
      + little(tar.count, 4)
  }

  @Test(.enabled(if: installed != nil, "the movie reviews are absent (make data gets them)"))
  func theRealOnes() throws {
    let path = try #require(installed)
    #expect(try MovieReviews.checksum.matches(path: path))
    let reviews = try MovieReviews.read(path: path)
    #expect(reviews.count == 10_605)
    #expect(reviews.reviews.filter(\.isPositive).count == 5_242)
    #expect(reviews.texts[2] == "Effective but too tepid biopic")
  }
}
