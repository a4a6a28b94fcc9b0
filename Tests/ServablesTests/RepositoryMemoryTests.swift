#if os(Linux)
  import Apus
  import ApusServables
  import Foundation
  import Testing

  /// What a process needs after a model has come and gone many times.
  @Suite struct RepositoryMemoryTests {
    /// Bytes of this process that are in memory.
    static func residentBytes() throws -> Int {
      let fields = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
      return try #require(Int(fields[1])) * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// In a process of its own, so that nothing else is counted.
    @Test func aThousandLoadsLeaveNothingBehind() async {
      await #expect(processExitsWith: .success) {
        try await withFolder { folder in
          try Adders.put(1, at: folder + "/add/1")
          let repository = ModelRepository(mode: .explicit)
          try await repository.reload([ModelConfiguration(name: "add", path: folder + "/add")])
          func cycle() async throws {
            try await repository.load("add")
            #expect(try await repository.number("add") == 1)
            try await repository.unload("add")
          }
          for _ in 0..<20 { try await cycle() }
          let before = try Self.residentBytes()
          for _ in 0..<1_000 { try await cycle() }
          let after = try Self.residentBytes()
          if let path = ProcessInfo.processInfo.environment["APUS_MEMORY_LOG"] {
            try "\(before >> 10) KiB before, \(after >> 10) KiB after\n".write(toFile: path, atomically: true, encoding: .utf8)
          }
          #expect(Double(after) < Double(before) * 1.1, "\(before) bytes became \(after)")
        }
      }
    }
  }
#endif
