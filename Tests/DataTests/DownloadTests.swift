import ApusData
import ApusFormats
import Foundation
import Testing

@Suite struct DownloadTests {
  private static let content = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 7) }
  private static let sum = Checksum.sha256(content.withUnsafeBytes { SHA256.hexDigest($0) })

  private static func withServer(_ body: (LocalServer, _ folder: String) async throws -> Void) async throws {
    // A proxy would not know this machine's own address.
    setenv("no_proxy", "127.0.0.1", 1)
    let server = try LocalServer([
      "/good": LocalServer.answer(content),
      "/missing": LocalServer.answer(Array("no".utf8), status: "404 Not Found"),
      "/moved": LocalServer.answer([], status: "302 Found", header: "Location: /good\r\n"),
      "/wrong": LocalServer.answer(Array(content.dropLast()) + [1]),
      "/short": LocalServer.answer(Array(content.prefix(100_000)), length: content.count),
      "/unsized": Array("HTTP/1.0 200 OK\r\n\r\n".utf8) + content,
      "/silent": [0],
    ])
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)").path
    defer {
      server.stop()
      try? FileManager.default.removeItem(atPath: folder)
    }
    try await body(server, folder)
  }

  private static func bytes(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

  @Test(arguments: ["/good", "/moved", "/unsized"])
  func fetches(path: String) async throws {
    try await Self.withServer { server, folder in
      let target = folder + "/a/b/file"
      let last = LastProgress()
      try await Download.fetch(urls: [server.url(path)], checksum: Self.sum, to: target) { received, _ in last.value = received }
      #expect(try Self.bytes(target) == Self.content)
      #expect(last.value == Self.content.count)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/a/b") == ["file"])
    }
  }

  @Test(arguments: [
    ("/missing", "404"), ("/wrong", "checksum"), ("/short", "/short: "), ("/hang-up", "/hang-up: "),
  ])
  func triesTheNextMirror(path: String, words: String) async throws {
    try await Self.withServer { server, folder in
      try await Download.fetch(urls: [server.url(path), server.url("/good")], checksum: Self.sum, to: folder + "/file")
      #expect(try Self.bytes(folder + "/file") == Self.content)
      // Alone it fails, says why, and leaves nothing.
      do {
        try await Download.fetch(urls: [server.url(path)], checksum: Self.sum, to: folder + "/other")
        Issue.record("nothing was thrown")
      } catch let failure as Download.Failure {
        #expect(failure.attempts.count == 1)
        #expect(failure.attempts[0].url == server.url(path))
        #expect(!failure.attempts[0].reason.isEmpty)
        #expect(failure.description.contains(words))
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["file"])
    }
  }

  @Test func listsEveryAnswer() async throws {
    try await Self.withServer { server, folder in
      do {
        try await Download.fetch(
          urls: ["ftp://example.org/x", server.url("/missing"), server.url("/wrong")], checksum: Self.sum, to: folder + "/file")
        Issue.record("nothing was thrown")
      } catch let failure as Download.Failure {
        #expect(failure.attempts.count == 3)
        #expect(failure.attempts[0].reason.contains("http"))
        #expect(failure.attempts[1].reason == "HTTP status 404")
        #expect(failure.attempts[2].reason.contains("checksum"))
      }
    }
  }

  @Test func limitsAndOldFiles() async throws {
    try await Self.withServer { server, folder in
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      try Data([1, 2, 3]).write(to: URL(fileURLWithPath: folder + "/file"))
      for path in ["/good", "/unsized"] {
        await #expect(throws: Download.Failure.self) {
          try await Download.fetch(urls: [server.url(path)], checksum: Self.sum, to: folder + "/file", sizeLimit: 299_999)
        }
      }
      #expect(try Self.bytes(folder + "/file") == [1, 2, 3])
      try await Download.fetch(
        urls: [server.url("/good")], checksum: .md5(Self.content.withUnsafeBytes { MD5.hexDigest($0) }), to: folder + "/file",
        sizeLimit: 300_000)
      #expect(try Self.bytes(folder + "/file") == Self.content)
    }
  }

  @Test func cancels() async throws {
    try await Self.withServer { server, folder in
      let url = server.url("/silent")
      let task = Task { try await Download.fetch(urls: [url, url], checksum: Self.sum, to: folder + "/file") }
      try await Task.sleep(for: .milliseconds(200))
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }

  /// Written by the session's queue, read after the fetch.
  private final class LastProgress: @unchecked Sendable {
    var value = 0
  }
}
