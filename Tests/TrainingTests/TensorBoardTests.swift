import ApusFormats
import ApusNN
import ApusTensor
import ApusTraining
import Foundation
import Testing

/// What the callback TensorBoard writes, read back from its event files.
@Suite struct TensorBoardTests {
  private func events(_ folder: String) throws -> [Event] {
    var result: [Event] = []
    for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() {
      let reader = try EventFileReader(folder + "/" + name)
      while let event = try reader.next() { result.append(event) }
    }
    return result
  }

  private func scalars(_ events: [Event]) -> [String: [(step: Int, value: Float)]] {
    var result: [String: [(step: Int, value: Float)]] = [:]
    for event in events {
      guard case .summaries(let summaries) = event.content else { continue }
      for summary in summaries {
        if case .scalar(let value) = summary.value { result[summary.tag, default: []].append((event.step, value)) }
      }
    }
    return result
  }

  private func tags(_ events: [Event], _ isWanted: (EventSummary.Value) -> Bool) -> Set<String> {
    var result: Set<String> = []
    for event in events {
      guard case .summaries(let summaries) = event.content else { continue }
      for summary in summaries where isWanted(summary.value) { result.insert(summary.tag) }
    }
    return result
  }

  private func temporaryFolder() -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent("apus-tensorboard-\(UUID().uuidString)").path
  }

  private func trainer() -> Trainer {
    let model = smallModel(dropout: 0.1)
    return Trainer(
      model, optimizer: SGD(model.parameters, learningRate: 0.05), loss: { mseLoss($0, $1) }, metrics: [AbsoluteError()])
  }

  @Test func epochsAndBatchesAreWritten() async throws {
    let folder = temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let trainer = trainer()
    let history = try await trainer.fit(
      line(32), epochs: 3, validation: line(16, seed: 9),
      callbacks: [
        .tensorBoard(
          folder, histogramFrequency: 2, writeImages: true, writeStepsPerSecond: true, updateFrequency: 2,
          hyperparameters: ["rate": 0.05])
      ], batchSize: 8, verbose: .silent)
    let train = try events(folder + "/train")
    let values = scalars(train)
    #expect(values["epoch_loss"]?.map(\.step) == [0, 1, 2])
    #expect(values["epoch_loss"]?.map(\.value) == history.values["loss"]?.map { Float($0) })
    #expect(values["epoch_error"]?.map(\.value) == history.values["error"]?.map { Float($0) })
    #expect(values["epoch_learning_rate"]?.map(\.value) == [0.05, 0.05, 0.05])
    #expect(values["epoch_steps_per_second"]?.allSatisfy { $0.value > 0 } == true)
    #expect(values["batch_loss"]?.map(\.step) == [2, 4, 6, 8, 10, 12])
    let validation = scalars(try events(folder + "/validation"))
    #expect(validation["epoch_loss"]?.map(\.value) == history.values["val_loss"]?.map { Float($0) })
    #expect(validation["evaluation_loss_vs_iterations"]?.map(\.step) == [4, 8, 12])
    let parameters = Set(["0", "3"].flatMap { ["\($0)/weight", "\($0)/bias"] })
    #expect(tags(train) { if case .histogram = $0 { true } else { false } } == Set(parameters.map { $0 + "/histogram" }))
    #expect(tags(train) { if case .image = $0 { true } else { false } } == Set(parameters.map { $0 + "/image" }))
    let graphs = train.compactMap { event in
      if case .graph(let bytes) = event.content { String(decoding: bytes, as: UTF8.self) } else { nil }
    }
    #expect(graphs.count == 1)
    for name in ["input", "output", "0/weight", "3/bias"] { #expect(graphs.first?.contains(name) == true, "\(name)") }
    #expect(tags(train) { if case .hyperparameters(.end(.success, _)) = $0 { true } else { false } }.count == 1)
    #expect(
      tags(train) { if case .hyperparameters(.experiment(_, ["epoch_loss", "epoch_error"])) = $0 { true } else { false } }.count
        == 1)
  }

  @Test func onlyWhatIsAskedForIsWritten() async throws {
    let folder = temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    _ = try await trainer().fit(
      line(32), epochs: 1, callbacks: [.tensorBoard(folder, writeGraph: false)], batchSize: 8, verbose: .silent)
    let train = try events(folder + "/train")
    #expect(Set(scalars(train).keys) == ["epoch_loss", "epoch_error", "epoch_learning_rate"])
    #expect(!FileManager.default.fileExists(atPath: folder + "/validation"))
    #expect(!train.contains { if case .graph = $0.content { true } else { false } })
  }

  @Test func theCallbackChangesNothing() async throws {
    let folder = temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let (plain, watched) = (trainer(), trainer())
    _ = try await plain.fit(line(32), epochs: 2, batchSize: 8, verbose: .silent)
    _ = try await watched.fit(
      line(32), epochs: 2,
      callbacks: [.tensorBoard(folder, histogramFrequency: 1, writeImages: true, updateFrequency: .batch)], batchSize: 8,
      verbose: .silent)
    #expect(bits(plain.model) == bits(watched.model))
  }

  @Test func aFolderThatCannotBeWrittenIsAnError() async throws {
    await #expect(throws: FormatError.self) {
      _ = try await trainer().fit(line(8), epochs: 1, callbacks: [.tensorBoard("/dev/null/runs")], verbose: .silent)
    }
  }
}
