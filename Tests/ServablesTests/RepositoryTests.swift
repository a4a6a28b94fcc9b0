import Apus
import ApusServables
import Foundation
import Testing

@Suite struct RepositoryTests {
  @Test func aSingleArtifactIsVersionOne() async throws {
    try await withFolder { folder in
      try FileManager.default.copyItem(atPath: Adders.artifact(3), toPath: folder + "/add.apus")
      let repository = ModelRepository()
      #expect(!repository.isReady)
      try await repository.reload([.single(folder + "/add.apus/")])
      #expect(repository.isReady && repository.names == ["add"])
      #expect(try await repository.number("add") == 3)
      #expect(try await repository.number("add", .number(1)) == 3)
      let missing = #expect(throws: ServingError.self) { try repository.model("add", version: .number(2)) }
      #expect(missing?.code == .notFound)
      #expect(#expect(throws: ServingError.self) { try repository.model("sub") }?.code == .notFound)
      await repository.drain()
      #expect(!repository.isReady)
      #expect(#expect(throws: ServingError.self) { try repository.model("add") }?.code == .unavailable)
    }
  }

  @Test func policiesChooseVersions() async throws {
    try await withFolder { folder in
      for version in 1...4 { try Adders.put(version * 10, at: folder + "/add/\(version)") }
      let repository = ModelRepository()
      var configuration = ModelConfiguration(name: "add", path: folder + "/add")
      func served(_ policy: ModelConfiguration.VersionPolicy) async throws -> [Int] {
        configuration.versionPolicy = policy
        try await repository.reload([configuration])
        for model in repository.served() { #expect(try await Adders.number(of: model) == model.version * 10) }
        return repository.served("add").map(\.version)
      }
      #expect(try await served(.latest(1)) == [4])
      #expect(try await served(.latest(2)) == [3, 4])
      #expect(try await served(.all) == [1, 2, 3, 4])
      #expect(try await served(.specific([1, 3])) == [1, 3])
      #expect(try repository.states("add") == [1: .available, 2: .end, 3: .available, 4: .end])
      // Back to one that was there before.
      #expect(try await served(.specific([2])) == [2])
      #expect(try await repository.number("add") == 20)
    }
  }
}
