import Apus
import ApusServables
import Foundation
import Testing

/// Folders that are damaged, or made to do harm: a state each, and everything else goes on.
@Suite struct RepositoryHostileTests {
  @Test func namesThatAreNoVersions() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      for name in ["99999999999999999999", "01", "-1", " 1", "+2", "1.5", "1e3", "two", "1\n", ".2"] {
        try Adders.put(2, at: folder + "/add/" + name)
      }
      try "text".write(toFile: folder + "/add/7", atomically: true, encoding: .utf8)
      symlink("9", folder + "/add/9")
      symlink("nowhere", folder + "/add/10")
      let repository = ModelRepository()
      try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      #expect(try repository.states("add") == [1: .available])
      let notices = repository.notices("add")
      for name in ["99999999999999999999", "01", "-1", " 1", "+2"] {
        #expect(notices.contains { $0.hasPrefix("'\(name)' is no version: its name") }, "\(name)")
      }
      #expect(notices.contains("'7' is no version: it is no folder"))
      #expect(notices.contains("'9' is no version: it is a link that leads nowhere"))
      #expect(notices.count == 8, "\(notices)")
    }
  }

  @Test func linksThatLeadOut() async throws {
    try await withFolder { folder in
      let outside = try Adders.artifact(1)
      let files = FileManager.default
      try files.createDirectory(atPath: folder + "/add", withIntermediateDirectories: true)
      // A version, an artifact, and a file of one, elsewhere.
      try Adders.put(1, at: folder + "/elsewhere/1")
      symlink(folder + "/elsewhere/1", folder + "/add/1")
      try files.createDirectory(atPath: folder + "/add/2", withIntermediateDirectories: true)
      symlink(outside, folder + "/add/2/model.apus")
      try Adders.put(1, at: folder + "/add/3")
      try files.removeItem(atPath: folder + "/add/3/model.apus/weights.safetensors")
      symlink(outside + "/weights.safetensors", folder + "/add/3/model.apus/weights.safetensors")
      // Links that stay inside are fine: Kubernetes mounts files so.
      try Adders.put(4, at: folder + "/add/..data")
      symlink("..data", folder + "/add/4")
      // Folders that hold themselves.
      try Adders.put(5, at: folder + "/add/5")
      symlink(".", folder + "/add/5/again")
      symlink("loop", folder + "/add/5/loop")
      let repository = ModelRepository()
      var configuration = ModelConfiguration(name: "add", path: folder + "/add")
      configuration.versionPolicy = .all
      try await repository.reload([configuration])
      for version in 1...3 {
        #expect(try repository.states("add")[version] == .end)
        #expect(try repository.error("add", version)?.contains("leads out of the model's folder") == true, "\(version)")
      }
      #expect(try await repository.number("add", .number(4)) == 4)
      #expect(try repository.error("add", 5)?.contains("leads nowhere") == true)
      try files.removeItem(atPath: folder + "/add/5/loop")
      try await repository.reload()
      #expect(try await repository.number("add", .number(5)) == 5)
      // A folder of models that is itself a link.
      symlink(folder + "/add", folder + "/linked")
      let other = ModelRepository()
      try await other.reload([ModelConfiguration(name: "add", path: folder + "/linked")])
      #expect(try await other.number("add") == 5)
    }
  }

  @Test func filesThatAreNotWhatTheyShouldBe() async throws {
    try await withFolder { folder in
      let artifact = folder + "/add/1/model.apus"
      let files = FileManager.default
      func expect(
        _ message: String, sourceLocation: SourceLocation = #_sourceLocation, _ change: () throws -> Void
      ) async throws {
        try? files.removeItem(atPath: folder + "/add")
        try Adders.put(1, at: folder + "/add/1")
        try change()
        var options = RepositoryOptions()
        options.retryInterval = .milliseconds(1)
        let repository = ModelRepository(options: options)
        try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
        #expect(try repository.states("add") == [1: .end], sourceLocation: sourceLocation)
        #expect(!repository.isReady, sourceLocation: sourceLocation)
        let error = try repository.error("add", 1) ?? "none"
        #expect(error.contains(message), "\(error)", sourceLocation: sourceLocation)
      }
      /// A file of these bytes, made as long as it should be.
      func replace(_ name: String, _ bytes: [UInt8] = [], length: UInt64? = nil) throws {
        try? files.removeItem(atPath: artifact + "/" + name)
        let url = URL(fileURLWithPath: artifact + "/" + name)
        try Data(bytes).write(to: url)
        guard let length else { return }
        let handle = try FileHandle(forWritingTo: url)
        try handle.truncate(atOffset: length)
        try handle.close()
      }
      try await expect("has 1073741824 bytes; at most 16777216 are read") { try replace("manifest.json", length: 1 << 30) }
      try await expect("'format'") { try replace("manifest.json", Array("{}".utf8)) }
      try await expect("JSON") { try replace("manifest.json", [0xff]) }
      try await expect("has 1099511627776 bytes, but the manifest says") { try replace("weights.safetensors", length: 1 << 40) }
      try await expect("weights.safetensors") {
        try files.removeItem(atPath: artifact + "/weights.safetensors")
        mkfifo(artifact + "/weights.safetensors", 0o600)
      }
      try await expect("program.mlir") {
        try files.removeItem(atPath: artifact + "/program.mlir")
        try files.createDirectory(atPath: artifact + "/program.mlir", withIntermediateDirectories: true)
      }
      try await expect("manifest.json: is missing") {
        try files.removeItem(atPath: artifact)
        try "text".write(toFile: artifact, atomically: true, encoding: .utf8)
      }
      try await expect("has 2 models, 'model.apus' and 'second.apus'; a version is one") {
        try files.copyItem(atPath: artifact, toPath: folder + "/add/1/second.apus")
      }
      try await expect("not valid UTF-8") {
        try Data([0xff, 0xfe]).write(to: URL(fileURLWithPath: folder + "/add/1/labels.txt"))
      }
      // The administrator may read everything.
      if geteuid() != 0 {
        try await expect("cannot be opened") { chmod(artifact + "/weights.safetensors", 0) }
      }
    }
  }

  @Test func manyFailedVersionsAreForgotten() async throws {
    try await withFolder { folder in
      for version in 1...100 {
        try FileManager.default.createDirectory(atPath: folder + "/add/\(version)", withIntermediateDirectories: true)
      }
      let repository = ModelRepository()
      var configuration = ModelConfiguration(name: "add", path: folder + "/add")
      configuration.versionPolicy = .all
      try await repository.reload([configuration])
      #expect(try repository.status("add").count <= 33)
      #expect(!repository.isReady)
    }
  }
}
