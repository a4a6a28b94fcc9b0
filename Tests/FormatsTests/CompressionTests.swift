import ApusFormats
import Foundation
import Testing

@Suite struct CompressionTests {
  private func gunzip(_ bytes: [UInt8], limit: Int = 1 << 24) throws -> [UInt8] {
    try bytes.withUnsafeBytes { try Gzip.decompress($0, file: "test.gz", limit: limit) }
  }
  private func unzlib(_ bytes: [UInt8]) throws -> [UInt8] {
    try bytes.withUnsafeBytes { try Zlib.decompress($0, file: "test.zlib") }
  }

  @Test(arguments: [
    ("stored.gz", 4000), ("fixed.gz", 8000), ("dynamic.gz", 30000), ("huffman.gz", 8000), ("members.gz", 2000), ("empty.gz", 0),
  ])
  func readsPythonsStreams(name: String, count: Int) throws {
    #expect(try gunzip(fixture(name)) == pattern(count))
  }

  @Test func readsLongRunsAndZlib() throws {
    #expect(try gunzip(fixture("zeros.gz")) == [UInt8](repeating: 0, count: 1_000_000))
    #expect(try unzlib(fixture("dynamic.zlib")) == pattern(30000))
  }

  @Test func limitsBombs() throws {
    let bomb = try fixture("zeros.gz")
    #expect(formatError { _ = try gunzip(bomb, limit: 999_999) }?.kind == .limitExceeded)
    #expect(try gunzip(bomb, limit: 1_000_000).count == 1_000_000)
    // A false length in the trailer neither allocates it nor hides the true one.
    var lying = bomb
    lying[lying.count - 1] = 255
    #expect(formatError { _ = try gunzip(lying) }?.kind == .sizeMismatch)
  }

  @Test func everyTruncationThrows() throws {
    for name in ["stored.gz", "fixed.gz", "dynamic.gz", "empty.gz"] {
      let bytes = try fixture(name)
      for count in stride(from: 0, to: bytes.count, by: name == "empty.gz" ? 1 : 37) {
        let error = formatError { _ = try gunzip(Array(bytes.prefix(count))) }
        #expect(error?.kind == .truncated, "\(name) cut to \(count): \(String(describing: error))")
      }
    }
  }

  @Test func damage() throws {
    let good = try fixture("dynamic.gz")
    func changed(_ index: Int, _ value: UInt8) -> [UInt8] {
      var bytes = good
      bytes[index < 0 ? bytes.count + index : index] ^= value
      return bytes
    }
    #expect(formatError { _ = try gunzip(changed(0, 1)) }?.kind == .malformed)
    #expect(formatError { _ = try gunzip(changed(2, 1)) }?.kind == .unknownType)
    #expect(formatError { _ = try gunzip(changed(3, 0x80)) }?.kind == .malformed)
    #expect(formatError { _ = try gunzip(changed(-8, 1)) }?.kind == .checksumMismatch)
    #expect(formatError { _ = try gunzip(changed(-4, 1)) }?.kind == .sizeMismatch)
    #expect(formatError { _ = try gunzip(good + [1, 2, 3]) }?.kind == .trailingBytes)
    // A header with a wrong checksum of its own (flag 2).
    var withHeaderSum = good
    withHeaderSum[3] |= 2
    withHeaderSum.insert(contentsOf: [0, 0], at: 10)
    #expect(formatError { _ = try gunzip(withHeaderSum) }?.kind == .checksumMismatch)
    let zlib = try fixture("dynamic.zlib")
    #expect(formatError { _ = try unzlib(Array(zlib.dropLast(2))) }?.kind == .truncated)
    #expect(formatError { _ = try unzlib(zlib + [0]) }?.kind == .trailingBytes)
    #expect(formatError { _ = try unzlib([0x79] + zlib.dropFirst()) }?.kind == .malformed)
    #expect(formatError { _ = try unzlib(Array(zlib.dropLast()) + [zlib.last! ^ 1]) }?.kind == .checksumMismatch)
  }

  /// Streams of a few bits, by hand from RFC 1951.
  @Test func impossibleBlocks() {
    func inflate(_ bytes: [UInt8]) throws -> Int? {
      var output = [UInt8](repeating: 0, count: 1000)
      return try bytes.withUnsafeBytes { input in
        try output.withUnsafeMutableBytes { try Inflate.run(input, from: 0, into: $0, at: 0, file: "bits")?.outputEnd }
      }
    }
    let cases: [([UInt8], FormatError.Kind, String)] = [
      ([0b111], .malformed, "block type 3"),
      ([1, 5, 0, 0, 0], .malformed, "stored length against its complement"),
      ([1, 5, 0, 250, 255, 1], .truncated, "stored bytes missing"),
      ([0x03, 0x02], .malformed, "a copy from before the beginning"),
      ([0xfd, 0xff, 0, 0, 0, 0], .malformed, "288 literal codes and 32 distances"),
      ([0x05, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], .malformed, "over-subscribed code lengths"),
      ([0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], .malformed, "no code for the code lengths"),
    ]
    for (bytes, kind, name) in cases {
      #expect(formatError { _ = try inflate(bytes) }?.kind == kind, "\(name)")
    }
  }

  @Test func mutatedStreamsNeverTrap() throws {
    var generator = SeededGenerator(state: 7)
    let streams = try ["fixed.gz", "dynamic.gz", "huffman.gz", "members.gz"].map(fixture)
    for _ in 0..<1_000 {
      var bytes = streams.randomElement(using: &generator)!
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        bytes[Int.random(in: 10..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      do {
        _ = try gunzip(bytes, limit: 100_000)
      } catch is FormatError {}
    }
  }

  @Test func checksumsMatchPythons() throws {
    let lines = String(decoding: try fixture("checksums.txt"), as: UTF8.self).split(separator: "\n")
    #expect(lines.count == 17)
    for line in lines {
      let fields = line.split(separator: " ").map(String.init)
      let bytes = pattern(try #require(Int(fields[0])))
      bytes.withUnsafeBytes {
        #expect(String(CRC32.checksum($0)) == fields[1])
        #expect(String(adler32($0)) == fields[2])
        #expect(MD5.hexDigest($0) == fields[3])
        #expect(SHA256.hexDigest($0) == fields[4])
      }
      // In pieces of every alignment.
      var (crc, md5, sha) = (CRC32(), MD5(), SHA256())
      var rest = bytes[...]
      var piece = 1
      while !rest.isEmpty {
        rest.prefix(piece).withUnsafeBytes {
          crc.update($0)
          md5.update($0)
          sha.update($0)
        }
        rest = rest.dropFirst(piece)
        piece = piece % 97 + 1
      }
      #expect([String(crc.value), md5.hexDigest(), sha.hexDigest()] == [fields[1], fields[3], fields[4]])
    }
  }

  /// The examples of FIPS 180-4's companion document, and RFC 1321, A.5.
  @Test func publishedVectors() {
    func sha(_ text: String) -> String { Array(text.utf8).withUnsafeBytes { SHA256.hexDigest($0) } }
    func md5(_ text: String) -> String { Array(text.utf8).withUnsafeBytes { MD5.hexDigest($0) } }
    #expect(sha("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(sha("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")
        == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    #expect(
      sha(String(repeating: "a", count: 1_000_000)) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    #expect(md5("") == "d41d8cd98f00b204e9800998ecf8427e")
    #expect(md5("abc") == "900150983cd24fb0d6963f7d28e17f72")
    #expect(md5("message digest") == "f96b697d7cb7938d525a2f31aaf161d0")
  }
}
