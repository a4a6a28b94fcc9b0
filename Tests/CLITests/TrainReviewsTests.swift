import Apus
import Foundation
import Testing

/// `apus train reviews` on a few sentences of our own: the real ones are not needed.
@Suite struct TrainReviewsTests {
  private func withReviews(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let words = ["good": 2.5, "lovely": 3, "bad": -2, "dull": -1.5]
    let lines = (1...120).map { i -> String in
      let word = words.keys.sorted()[i % 4]
      return "\(i)\t\(words[word] ?? 0)\tThe \(word) film number \(i % 7) is \(word)."
    }
    try lines.joined(separator: "\r\n").write(
      toFile: folder + "/movieReviewSnippets_GroundTruth.txt", atomically: true, encoding: .utf8)
    try body(folder)
  }

  private func train(_ folder: String, _ arguments: String...) throws -> CommandTests.Output {
    try CommandTests.run(
      [
        "train", "reviews", "--data", folder, "--batch-size", "16", "--vocabulary", "40", "--length", "8", "--embedding", "6",
        "--hidden", "6",
      ]
        + arguments)
  }

  private func fields(_ output: CommandTests.Output) throws -> [String: Any] {
    #expect(output.status == 0, "\(output.err)")
    return try #require(try JSONSerialization.jsonObject(with: Data(output.out.utf8)) as? [String: Any])
  }

  @Test(arguments: ["lstm", "conv"]) func learns(_ model: String) throws {
    try withReviews { folder in
      let line = try fields(train(folder, "--model", model, "--epochs", "12", "--learning-rate", "0.02", "--json"))
      #expect(try #require(line["test_accuracy"] as? Double) > 0.9)
      #expect((line["epoch_seconds"] as? [Double])?.count == 12)
      for key in ["train_seconds", "total_seconds", "peak_mb"] { #expect((line[key] as? Double ?? 0) > 0, "\(key)") }
    }
  }

  @Test func exportsWithTheVocabulary() throws {
    try withReviews { folder in
      let path = folder + "/out.apus"
      let done = try train(folder, "--epochs", "1", "--artifact", path, "--checkpoints", folder + "/run")
      #expect(done.status == 0 && done.out.contains("% good") && done.out.contains("test accuracy"), "\(done.err)")
      let program = try load(path)
      let vectorize = try TextVectorization(contentsOf: path + "/vocabulary.json")
      let ids = vectorize(["a good film", "a dull film"])
      #expect(ids.shape == [2, 8])
      #expect(try #require(program.run(["tokens": ids])["output"]).shape == [2])
      // The run went on to more epochs is the run that was one from the beginning.
      let more = try fields(train(folder, "--epochs", "3", "--checkpoints", folder + "/run", "--json"))
      #expect((more["epoch_seconds"] as? [Double])?.count == 2)
      let once = try fields(train(folder, "--epochs", "3", "--checkpoints", folder + "/once", "--json"))
      #expect(more["test_accuracy"] as? Double == once["test_accuracy"] as? Double)
      let files = try ["run", "once"].map { try newest(folder + "/" + $0) }
      #expect(files[0] == files[1], "the last checkpoints differ")
    }
  }

  /// The bytes of the parameters in the newest checkpoint.
  private func newest(_ folder: String) throws -> [String: Data] {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    let last = try #require(names.last)
    let path = folder + "/" + last
    var result: [String: Data] = [:]
    for name in try FileManager.default.subpathsOfDirectory(atPath: path) where name.hasSuffix("model.safetensors") {
      result[name] = try Data(contentsOf: URL(fileURLWithPath: path + "/" + name))
    }
    #expect(!result.isEmpty, "no tensors in \(path)")
    return result
  }

  @Test func tokensForOthers() throws {
    try withReviews { folder in
      let path = folder + "/tokens.npz"
      #expect(try train(folder, "--dump-tokens", path).status == 0)
      let tensors = try NPZFile(path: path).tensors()
      #expect(tensors["x_train"]?.shape == [96, 8] && tensors["x_test"]?.shape == [24, 8] && tensors["y_test"]?.shape == [24])
      // Padding is in front.
      let row = try #require(tensors["x_train"])[0].elements(as: Int.self)
      #expect(row.first == 0 && row.last != 0)
    }
  }

  @Test func mistakesAreNamed() throws {
    #expect(try CommandTests.run(["train", "reviews", "--epochs", "0"]).err.contains("--epochs 0"))
    #expect(try CommandTests.run(["train", "reviews", "--model", "tree"]).err.contains("lstm"))
    let absent = try CommandTests.run(["train", "reviews", "--data", "/nonexistent"])
    #expect(absent.status == 1 && absent.err.contains("/nonexistent/movieReviewSnippets_GroundTruth.txt"))
    try withReviews { folder in
      try "1\t2\tgood\n2\tbad\tbad\n".write(
        toFile: folder + "/movieReviewSnippets_GroundTruth.txt", atomically: true, encoding: .utf8)
      let damaged = try train(folder, "--json")
      #expect(damaged.status == 1 && damaged.err.contains("line 2"))
    }
  }
}
