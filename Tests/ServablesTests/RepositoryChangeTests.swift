import Apus
import ApusServables
import Foundation
import Synchronization
import Testing

/// Versions that come and go while others are served.
@Suite struct RepositoryChangeTests {
  @Test func aVersionAppearsOnlyWhenComplete() async throws {
    try await withFolder { folder in
      try Adders.put(10, at: folder + "/add/1")
      let repository = ModelRepository(mode: .polling(.seconds(3600)))
      try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      let source = try Adders.artifact(20)
      let version = folder + "/add/2"
      let artifact = version + "/model.apus"
      func expectNotYet(_ message: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        await repository.poll()
        let error = try repository.error("add", 2)
        #expect(error?.contains(message) == true, "\(error ?? "none")", sourceLocation: sourceLocation)
        #expect(try repository.states("add") == [1: .available, 2: .start], sourceLocation: sourceLocation)
        #expect(try await repository.number("add") == 10, sourceLocation: sourceLocation)
        #expect(repository.isReady, sourceLocation: sourceLocation)
      }
      let files = FileManager.default
      try files.createDirectory(atPath: version, withIntermediateDirectories: true)
      try await expectNotYet("has no model yet")
      try files.createDirectory(atPath: artifact, withIntermediateDirectories: true)
      try await expectNotYet("manifest.json: is missing")
      let manifest = try Data(contentsOf: URL(fileURLWithPath: source + "/manifest.json"))
      try manifest.prefix(100).write(to: URL(fileURLWithPath: artifact + "/manifest.json"))
      try await expectNotYet("manifest.json")
      try manifest.write(to: URL(fileURLWithPath: artifact + "/manifest.json"))
      try await expectNotYet("program.mlir: is missing")
      try files.copyItem(atPath: source + "/program.mlir", toPath: artifact + "/program.mlir")
      try await expectNotYet("weights.safetensors: is missing")
      let weights = try Data(contentsOf: URL(fileURLWithPath: source + "/weights.safetensors"))
      let weightsPath = URL(fileURLWithPath: artifact + "/weights.safetensors")
      try weights.dropLast(1).write(to: weightsPath)
      try await expectNotYet("weights.safetensors: has \(weights.count - 1) bytes, but the manifest says \(weights.count)")
      // Space that is reserved before it is written: the size is right, the bytes are not.
      try (weights.dropLast(64) + Data(repeating: 0, count: 64)).write(to: weightsPath)
      try await expectNotYet("SHA-256")
      // It is not read again while nothing changes.
      await repository.poll()
      #expect(try repository.states("add")[2] == .start)
      try weights.write(to: weightsPath)
      await repository.poll()
      #expect(try repository.states("add") == [1: .end, 2: .available])
      #expect(try await repository.number("add") == 20)
    }
  }

  private final class Shared: Sendable {
    let isOver = Atomic(false)
    let answers = Mutex<[Int: Int]>([:])
  }

  private final class Log: Sendable {
    let events = Mutex<[String]>([])
  }

  @Test func aSwapLosesNoRequest() async throws {
    try await withFolder { folder in
      try Adders.put(0, at: folder + "/add/1")
      let repository = ModelRepository(mode: .polling(.seconds(3600)))
      try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      let shared = Shared()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
          group.addTask {
            var last = 0
            while !shared.isOver.load(ordering: .relaxed) {
              let model = try repository.model("add")
              // What a handler does between finding the model and its tensors.
              await Task.yield()
              let number = try await Adders.number(of: model)
              #expect(number == model.version - 1 && number >= last, "never back to an older one")
              last = number
              shared.answers.withLock { $0[number, default: 0] += 1 }
            }
          }
        }
        for version in 2...6 {
          try Adders.put(version - 1, at: folder + "/add/\(version)")
          await repository.poll()
          let before = shared.answers.withLock { $0[version - 1, default: 0] }
          while shared.answers.withLock({ $0[version - 1, default: 0] }) < before + 20 {
            try await Task.sleep(for: .milliseconds(1))
          }
        }
        shared.isOver.store(true, ordering: .relaxed)
        try await group.waitForAll()
      }
      #expect(shared.answers.withLock { Set($0.keys) } == Set(0...5))
      #expect(repository.served().map(\.version) == [6])
    }
  }

  @Test func labelsMoveOnlyToWhatIsAvailable() async throws {
    try await withFolder { folder in
      for version in 1...3 { try Adders.put(version, at: folder + "/add/\(version)") }
      let repository = ModelRepository()
      var configuration = ModelConfiguration(name: "add", path: folder + "/add")
      configuration.versionPolicy = .all
      configuration.labels = ["stable": 2, "canary": 3]
      try await repository.reload([configuration])
      #expect(try await repository.number("add", .label("stable")) == 2)
      #expect(try await repository.number("add", .label("canary")) == 3)
      let unknown = #expect(throws: ServingError.self) { try repository.model("add", version: .label("old")) }
      #expect(unknown?.code == .notFound && unknown?.message.contains("it has canary, stable") == true)

      // A version that is not there: nothing changes.
      var bad = configuration
      bad.labels = ["stable": 7]
      bad.versionPolicy = .latest(1)
      let refused = await #expect(throws: ServingError.self) { try await repository.reload([bad]) }
      #expect(refused?.code == .failedPrecondition)
      #expect(refused?.message == "the label 'stable' cannot be given to version 7 of the model 'add', which is not available")
      #expect(repository.configurations == [configuration] && repository.served().count == 3)

      // Rollback: the label moves, the versions stay.
      configuration.labels = ["stable": 1, "canary": 3]
      try await repository.reload([configuration])
      #expect(try await repository.number("add", .label("stable")) == 1)

      // One that is there but cannot be loaded: the label stays where it was.
      try Adders.put(4, at: folder + "/add/4")
      try Data(repeating: 0, count: 400).write(to: URL(fileURLWithPath: folder + "/add/4/model.apus/weights.safetensors"))
      configuration.labels = ["stable": 4]
      let broken = await #expect(throws: ServingError.self) { try await repository.reload([configuration]) }
      #expect(broken?.message.contains("the label 'stable' cannot be given to version 4") == true)
      #expect(try await repository.number("add", .label("stable")) == 1)

      // A version with a label stays beside the latest.
      configuration.labels = ["stable": 1]
      configuration.versionPolicy = .latest(1)
      try await repository.reload([configuration])
      #expect(repository.served().map(\.version) == [1, 3])
    }
  }

  @Test func labelsForWhatIsNotThereYetByOption() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      var options = RepositoryOptions()
      options.allowsLabelsForUnavailableVersions = true
      let repository = ModelRepository(mode: .polling(.seconds(3600)), options: options)
      var configuration = ModelConfiguration(name: "add", path: folder + "/add")
      configuration.labels = ["next": 2]
      try await repository.reload([configuration])
      #expect(throws: ServingError.self) { try repository.model("add", version: .label("next")) }
      try Adders.put(2, at: folder + "/add/2")
      await repository.poll()
      #expect(try await repository.number("add", .label("next")) == 2)
    }
  }

  @Test func reloadReplacesTheSetOrNothing() async throws {
    try await withFolder { folder in
      for name in ["a", "b", "c"] { try Adders.put(1, at: folder + "/\(name)/1") }
      func model(_ name: String) -> ModelConfiguration { ModelConfiguration(name: name, path: folder + "/" + name) }
      let repository = ModelRepository()
      try await repository.reload([model("a"), model("b")])
      #expect(repository.names == ["a", "b"])
      try await repository.reload([model("b"), model("c")])
      #expect(repository.names == ["b", "c"] && repository.isReady)
      #expect(#expect(throws: ServingError.self) { try repository.model("a") }?.code == .notFound)
      #expect(try repository.states("a") == [1: .end], "what was is remembered")
      for bad in [
        [model("a"), model("a")], [model("a"), model("none")], [ModelConfiguration(name: "../a", path: folder + "/a")],
        [ModelConfiguration(name: "", path: folder + "/a")], [ModelConfiguration(name: "a\0", path: folder + "/a")],
        [ModelConfiguration(name: "a", path: folder + "/a\0/../b")],
      ] {
        await #expect(throws: ServingError.self) { try await repository.reload(bad) }
        #expect(repository.names == ["b", "c"] && repository.served().count == 2)
      }
      var wrong = model("a")
      wrong.platform = "onnx"
      await #expect(throws: ServingError.self) { try await repository.reload([wrong]) }
      wrong = model("a")
      wrong.versionPolicy = .latest(0)
      await #expect(throws: ServingError.self) { try await repository.reload([wrong]) }
    }
  }

  @Test func whatVanishesIsServedOn() async throws {
    try await withFolder { folder in
      try Adders.put(5, at: folder + "/models/add/1")
      try Adders.put(6, at: folder + "/models/more/1")
      let repository = ModelRepository(mode: .polling(.seconds(3600)))
      let models = folder + "/models"
      try await repository.reload(from: { () throws(ServingError) in try ModelConfiguration.scan(models) })
      try FileManager.default.removeItem(atPath: models + "/add/1")
      await repository.poll()
      #expect(try await repository.number("add") == 5)
      #expect(repository.notices("add").first?.contains("what is loaded is served on") == true)
      try FileManager.default.removeItem(atPath: models)
      await repository.poll()
      #expect(try await repository.number("add") == 5)
      #expect(try await repository.number("more") == 6)
      #expect(repository.isReady)
      // A model that comes later.
      try Adders.put(7, at: models + "/third/4")
      await repository.poll()
      #expect(try await repository.number("third") == 7)
      #expect(repository.names == ["add", "more", "third"])
      // An explicit look has the last word.
      try await repository.reload()
      #expect(repository.names == ["third"])
    }
  }

  @Test func filesReplacedInPlace() async throws {
    try await withFolder { folder in
      let path = folder + "/add.apus"
      try FileManager.default.copyItem(atPath: Adders.artifact(1), toPath: path)
      let repository = ModelRepository(mode: .polling(.seconds(3600)))
      try await repository.reload([.single(path)])
      // Emptied under the running model, which holds its own copy.
      let weights = URL(fileURLWithPath: path + "/weights.safetensors")
      let handle = try FileHandle(forWritingTo: weights)
      try handle.truncate(atOffset: 0)
      try handle.close()
      #expect(try await repository.number("add") == 1)
      await repository.poll()
      #expect(try await repository.number("add") == 1)
      #expect(try repository.states("add") == [1: .available])
      #expect(try repository.error("add", 1)?.contains("has 0 bytes") == true)
      // The new copy is complete.
      for file in ["manifest.json", "program.mlir", "weights.safetensors"] {
        try Data(contentsOf: URL(fileURLWithPath: Adders.artifact(2) + "/" + file)).write(
          to: URL(fileURLWithPath: path + "/" + file))
      }
      await repository.poll()
      #expect(try await repository.number("add") == 2)
      #expect(try repository.error("add", 1) == nil)
    }
  }

  @Test func explicitLoading() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      try Adders.put(9, at: folder + "/other/1")
      let repository = ModelRepository(mode: .explicit)
      try await repository.reload(from: { () throws(ServingError) in try ModelConfiguration.scan(folder) })
      #expect(repository.names == ["add", "other"] && repository.served().isEmpty && repository.isReady)
      #expect(#expect(throws: ServingError.self) { try repository.model("add") }?.code == .notFound)
      try await repository.load("add")
      #expect(try await repository.number("add") == 1)
      #expect(repository.isModelReady("add") && !repository.isModelReady("other"))
      await #expect(throws: ServingError(.notFound, "there is no model 'none'")) { try await repository.load("none") }
      // Not loaded, and not there at all: nothing to do.
      try await repository.unload("other")
      try await repository.unload("none")
      // Loading again finds new versions.
      try Adders.put(2, at: folder + "/add/2")
      try await repository.load("add")
      #expect(try await repository.number("add") == 2)
      try await repository.unload("add")
      #expect(#expect(throws: ServingError.self) { try repository.model("add") }?.code == .notFound)
      #expect(try repository.states("add") == [1: .end, 2: .end] && repository.isReady)
      try await repository.load("add")
      #expect(try await repository.number("add") == 2)
      // A model that came after the folder was looked at.
      try Adders.put(3, at: folder + "/late/1")
      try await repository.load("late")
      #expect(try await repository.number("late") == 3)
      // One that cannot be loaded harms nobody.
      try FileManager.default.createDirectory(atPath: folder + "/bad/1", withIntermediateDirectories: true)
      let error = await #expect(throws: ServingError.self) { try await repository.load("bad") }
      #expect(error?.message.contains("the model 'bad' could not be loaded") == true)
      #expect(repository.isReady)
      // The settings of one load.
      var configuration = ModelConfiguration(name: "add", path: folder + "/add")
      configuration.versionPolicy = .specific([1])
      try await repository.load("add", configuration: configuration)
      #expect(try await repository.number("add") == 1)
      #expect(repository.served("add").map(\.version) == [1])
    }
  }

  @Test func concurrentChangesOfAModelAreOrdered() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      let repository = ModelRepository(mode: .explicit)
      try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      await withTaskGroup(of: Void.self) { group in
        for i in 0..<40 {
          group.addTask {
            if i % 2 == 0 { try? await repository.load("add") } else { try? await repository.unload("add") }
          }
        }
      }
      try await repository.load("add")
      #expect(try await repository.number("add") == 1)
      try await repository.unload("add")
      #expect(repository.served().isEmpty)
    }
  }

  @Test func settingsChangeWithoutLoading() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      let log = Log()
      var options = RepositoryOptions()
      options.onEvent = { event in log.events.withLock { $0.append(event.description) } }
      let repository = ModelRepository(options: options)
      var configuration = ModelConfiguration(name: "add", path: folder + "/add")
      try await repository.reload([configuration])
      let before = try repository.model("add").statistics
      configuration.scheduling.maxQueueSize = 5
      configuration.classLabels = ["yes", "no"]
      try await repository.reload([configuration])
      let model = try repository.model("add")
      #expect(model.scheduler.options.maxQueueSize == 5 && model.servable.classLabels == ["yes", "no"])
      #expect(model.statistics === before, "the counters go on")
      #expect(try await repository.number("add") == 1)
      #expect(log.events.withLock { $0.count { $0.hasSuffix(": loading") } } == 1)
      #expect(log.events.withLock { $0.contains { $0.contains("available after") } })
    }
  }

  @Test func pollingByItself() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      let repository = ModelRepository(mode: .polling(.milliseconds(5)))
      try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      try Adders.put(2, at: folder + "/add/2")
      while try repository.model("add").version != 2 { try await Task.sleep(for: .milliseconds(2)) }
      #expect(try await repository.number("add") == 2)
      await repository.drain()
    }
  }

  @Test func loadingAgainAfterErrorsThatMayPass() async throws {
    try await withFolder { folder in
      try Adders.put(1, at: folder + "/add/1")
      var options = RepositoryOptions()
      options.retryInterval = .milliseconds(1)
      let flaky = FlakyFormat(failures: 2)
      options.formats = ModelFormats([flaky])
      let repository = ModelRepository(options: options)
      try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      #expect(try await repository.number("add") == 1)
      #expect(flaky.attempts.load(ordering: .relaxed) == 3)
      options.formats = ModelFormats([FlakyFormat(failures: 3)])
      let other = ModelRepository(options: options)
      try await other.reload([ModelConfiguration(name: "add", path: folder + "/add")])
      #expect(try other.states("add") == [1: .end] && !other.isReady)
      #expect(try other.error("add", 1) == "the disk is busy")
      #expect(#expect(throws: ServingError.self) { try other.model("add") }?.code == .unavailable)
      // Asked again, it works.
      try await other.reload()
      #expect(try await other.number("add") == 1)
    }
  }

  /// Artifacts from a disk that fails some times.
  private final class FlakyFormat: ServableFormat {
    let failures: Int
    let attempts = Atomic(0)
    private let base = ArtifactFormat()
    init(failures: Int) { self.failures = failures }
    var name: String { base.name }
    func recognizes(_ path: String) -> Bool { base.recognizes(path) }
    func verify(_ path: String) throws(ServingError) { try base.verify(path) }
    func load(_ path: String) throws(ServingError) -> any Servable {
      if attempts.add(1, ordering: .relaxed).newValue <= failures { throw ServingError(.unavailable, "the disk is busy") }
      return try base.load(path)
    }
  }
}
