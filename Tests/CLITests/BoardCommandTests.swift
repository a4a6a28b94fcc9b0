import Testing

/// `apus board` with what cannot be shown; the board itself is tested in BoardTests.
@Suite struct BoardCommandTests {
  @Test func foldersThatAreNoneAreNamed() throws {
    let missing = try CommandTests.run(["board", "/nonexistent/runs"])
    #expect(missing.status != 0 && missing.err.contains("/nonexistent/runs: there is no such folder"))
    #expect(try CommandTests.run(["board", "/dev/null"]).err.contains("is not a folder"))
    #expect(try CommandTests.run(["board", "/", "--port", "70000"]).err.contains("--port 70000"))
    #expect(try CommandTests.run(["board"]).status != 0)
  }
}
