import ApusFormats
import Foundation
import Testing

@Suite struct SafetensorsWritingTests {
  private struct Stop: Error {}

  @Test func failuresLeaveTheOldFile() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/w.safetensors"
      try SafetensorsFile.write([.init(name: "a", dataType: .uint8, shape: [2], bytes: [1, 2])], to: path)
      let before = try Data(contentsOf: URL(fileURLWithPath: path))
      typealias Source = SafetensorsFile.Source
      let big = [UInt8](repeating: 7, count: 200_000)
      let failing: [([Source], FormatError.Kind)] = [
        (
          [
            Source(name: "a", dataType: .uint8, shape: [200_000], bytes: big),
            Source(name: "b", dataType: .uint8, shape: [2], bytes: [1]),
          ], .sizeMismatch
        ),
        ([Source(name: "a", dataType: .uint8, shape: [2], bytes: [1, 2, 3])], .sizeMismatch),
        (
          [
            Source(name: "a", dataType: .uint8, shape: [1], bytes: [1]),
            Source(name: "a", dataType: .int8, shape: [1], bytes: [1]),
          ], .duplicateKey
        ),
        ([Source(name: "__metadata__", dataType: .uint8, shape: [1], bytes: [1])], .invalidEntry),
        ([Source(name: "a", dataType: .uint8, shape: [-1], bytes: [])], .invalidEntry),
        ([Source(name: "a", dataType: .float32, shape: [.max, 2], bytes: [])], .overflow),
      ]
      for (tensors, kind) in failing {
        #expect(formatError { try SafetensorsFile.write(tensors, to: path) }?.kind == kind)
      }
      #expect(throws: Stop.self) {
        try SafetensorsFile.write(
          [
            Source(name: "a", dataType: .uint8, shape: [300_000]) { take in
              try big.withUnsafeBytes { try take($0) }
              throw Stop()
            }
          ], to: path)
      }
      #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["w.safetensors"])
      #expect(formatError { try SafetensorsFile.write([], to: folder + "/no/such/w") }?.kind == .cannotWrite)
      #expect(formatError { try SafetensorsFile.write([], to: folder) }?.kind == .cannotWrite)
    }
  }

  @Test func streamsInParts() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/w.safetensors"
      let part = pattern(70_001)
      try SafetensorsFile.write(
        [
          .init(name: "w", dataType: .uint8, shape: [3, 70_001]) { take in
            for _ in 0..<3 { try part.withUnsafeBytes { try take($0) } }
          }
        ], metadata: ["b": "2", "a": "1"], to: path)
      let file = try SafetensorsFile(path: path)
      #expect(try file.withUnsafeBytes(of: "w") { Array($0) } == part + part + part)
      #expect(file.metadata == ["a": "1", "b": "2"])
      // Replacing the file leaves an open mapping whole.
      try SafetensorsFile.write([], to: path)
      #expect(try file.withUnsafeBytes(of: "w") { $0.last } == part.last)
      #expect(try SafetensorsFile(path: path).entries.isEmpty)
    }
  }

  @Test func atomicFileKeepsModeAndFollowsLinks() throws {
    try withTemporaryFolder { folder in
      try AtomicFile.write(to: folder + "/real") { try $0.write("one") }
      try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: folder + "/real")
      try FileManager.default.createSymbolicLink(atPath: folder + "/link", withDestinationPath: "real")
      try AtomicFile.write(to: folder + "/link") { try $0.write("two") }
      #expect(try String(contentsOfFile: folder + "/real", encoding: .utf8) == "two")
      #expect(try FileManager.default.destinationOfSymbolicLink(atPath: folder + "/link") == "real")
      let mode = try FileManager.default.attributesOfItem(atPath: folder + "/real")[.posixPermissions] as? Int
      #expect(mode == 0o640)
      // An object that is dropped without commit leaves nothing behind.
      do {
        let dropped = try AtomicFile(folder + "/dropped")
        try dropped.write("x")
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["link", "real"])
    }
  }

  @Test func shards() throws {
    try withTemporaryFolder { folder in
      let tensors: [SafetensorsFile.Source] = (0..<5).map {
        .init(name: "t\($0)", dataType: .int16, shape: [10], bytes: [UInt8](repeating: UInt8($0), count: 20))
      }
      let names = try SafetensorsShards.write(tensors, toFolder: folder, maximumShardSize: 45)
      #expect(
        names == [
          "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors",
          "model.safetensors.index.json",
        ])
      let opened = try SafetensorsShards(indexPath: folder + "/model.safetensors.index.json")
      #expect(opened.names == ["t0", "t1", "t2", "t3", "t4"])
      #expect(opened.totalSize == 100)
      #expect(opened.files.count == 3)
      let location = try #require(opened.location(of: "t3"))
      #expect(try location.file.withUnsafeBytes(of: "t3") { Array($0) } == [UInt8](repeating: 3, count: 20))
      #expect(opened.location(of: "t9") == nil)
      // A later save that fits in one file removes the index that would lead to the old tensors.
      #expect(try SafetensorsShards.write(tensors, toFolder: folder) == ["model.safetensors"])
      #expect(!FileManager.default.fileExists(atPath: folder + "/model.safetensors.index.json"))
      #expect(formatError { try SafetensorsShards.write(tensors + tensors, toFolder: folder) }?.kind == .duplicateKey)
    }
  }

  @Test func hostileIndexes() throws {
    try withTemporaryFolder { folder in
      let inner = folder + "/model"
      try FileManager.default.createDirectory(atPath: inner, withIntermediateDirectories: true)
      let tensor = SafetensorsFile.Source(name: "w", dataType: .uint8, shape: [1], bytes: [5])
      try SafetensorsFile.write([tensor], to: folder + "/outside.safetensors")
      try SafetensorsFile.write([tensor], to: inner + "/inside.safetensors")
      try FileManager.default.createSymbolicLink(atPath: inner + "/escape", withDestinationPath: "../outside.safetensors")
      try FileManager.default.createSymbolicLink(atPath: inner + "/near", withDestinationPath: "inside.safetensors")
      func open(_ text: String, linkRoot: String? = nil) throws -> SafetensorsShards {
        try Data(text.utf8).write(to: URL(fileURLWithPath: inner + "/index.json"))
        return try SafetensorsShards(indexPath: inner + "/index.json", linkRoot: linkRoot)
      }
      func map(_ file: String) -> String { "{\"weight_map\":{\"w\":\"\(file)\"}}" }
      for name in [
        "../outside.safetensors", folder + "/outside.safetensors", "..", ".", "", "a/../inside.safetensors", "a\\\\b", "a\\u0000",
        "escape",
      ] {
        let error = formatError { _ = try open(map(name)) }
        #expect(error?.kind == .unsafePath, "\(name)")
        #expect(error?.part == "w")
      }
      #expect(try open(map("inside.safetensors")).names == ["w"])
      #expect(try open(map("near")).names == ["w"])
      #expect(try open(map("escape"), linkRoot: folder).names == ["w"])
      #expect(formatError { _ = try open(map("absent")) }?.kind == .missing)
      #expect(formatError { _ = try open("{\"weight_map\":{\"v\":\"near\"}}") }?.kind == .missing)
      #expect(formatError { _ = try open("{\"weight_map\":{\"w\":1}}") }?.kind == .invalidEntry)
      #expect(formatError { _ = try open("{\"weight_map\":[]}") }?.kind == .missing)
      #expect(formatError { _ = try open("[]") }?.kind == .malformed)
      #expect(formatError { _ = try open("{") }?.kind == .truncated)
      #expect(formatError { _ = try open("{\"weight_map\":{\"w\":\"near\",\"w\":\"near\"}}") }?.kind == .duplicateKey)
    }
  }
}
