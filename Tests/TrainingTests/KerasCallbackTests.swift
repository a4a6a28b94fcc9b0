import ApusNN
import ApusTensor
import Foundation
import Testing

@testable import ApusTraining

/// Keras's callbacks on scripted values; the expected ones were made by Fixtures/make_callbacks.py with Keras.
@Suite struct KerasCallbackTests {
  private static let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
    "Fixtures/callbacks.json")

  private func fixture() throws -> [String: Any] {
    let object = try JSONSerialization.jsonObject(with: Data(contentsOf: Self.file))
    return try #require(object as? [String: Any])
  }

  private func number(_ value: Any?) -> Double? { (value as? NSNumber)?.doubleValue ?? (value as? String).flatMap { Double($0) } }

  private func cases(
    _ name: String, _ body: (_ values: [Double], _ arguments: [String: Any], _ rows: [[Double?]], _ label: String) throws -> Void
  ) throws {
    let fixture = try fixture()
    let sequences = try #require(fixture["sequences"] as? [String: [Any]])
    for item in try #require(fixture[name] as? [[String: Any]]) {
      let name = try #require(item["values"] as? String)
      let values = try #require(sequences[name]).map { number($0) ?? .nan }
      let arguments = try #require(item["arguments"] as? [String: Any])
      let rows = try #require(item["rows"] as? [[Any]]).map { $0.map(number) }
      try body(values, arguments, rows, "\(item["values"] ?? "") \(arguments)")
    }
  }

  private func trainer() -> Trainer {
    let model = Sequential(Linear(1, 1))
    return Trainer(model, optimizer: SGD(model.parameters, learningRate: 0.1), loss: mseLoss)
  }

  private func mode(_ arguments: [String: Any]) -> MonitorMode { arguments["mode"] as? String == "max" ? .max : .automatic }

  @Test func earlyStoppingDoesAsKeras() throws {
    try cases("early stopping") { values, arguments, rows, label in
      let trainer = trainer()
      let callback = EarlyStopping(
        minDelta: number(arguments["min_delta"]) ?? 0, patience: Int(number(arguments["patience"]) ?? 0), mode: mode(arguments),
        baseline: number(arguments["baseline"]), restoreBestWeights: arguments["restore_best_weights"] != nil,
        startFromEpoch: Int(number(arguments["start_from_epoch"]) ?? 0))
      callback.attach(trainer)
      callback.onTrainBegin()
      for (epoch, row) in rows.enumerated() {
        var logs: Logs = ["loss": 1, "val_loss": values[epoch]]
        try callback.onEpochEnd(epoch, logs: &logs)
        let best = callback.best.map { $0.isNaN ? -99 : $0 }
        let expected = row[1].map { $0.isNaN ? -99 : $0 }
        #expect(best == expected, "\(label), epoch \(epoch)")
        #expect(
          [Double(callback.wait), trainer.stopTraining ? 1 : 0, Double(callback.stoppedEpoch), Double(callback.bestEpoch)]
            == [row[0], row[2], row[3], row[4]], "\(label), epoch \(epoch)")
        // A run that goes on in another process has the same state.
        callback.state = callback.state
      }
    }
  }

  @Test func reduceLROnPlateauDoesAsKeras() throws {
    try cases("plateau") { values, arguments, rows, label in
      let trainer = trainer()
      let callback = ReduceLROnPlateau(
        factor: number(arguments["factor"]) ?? 0.1, patience: Int(number(arguments["patience"]) ?? 10), mode: mode(arguments),
        minDelta: number(arguments["min_delta"]) ?? 1e-4, cooldown: Int(number(arguments["cooldown"]) ?? 0),
        minLR: number(arguments["min_lr"]) ?? 0)
      callback.attach(trainer)
      try callback.onTrainBegin()
      for (epoch, row) in rows.enumerated() {
        var logs: Logs = ["loss": 1, "val_loss": values[epoch]]
        try callback.onEpochEnd(epoch, logs: &logs)
        #expect(Double(callback.wait) == row[0] && Double(callback.cooldownCounter) == row[2], "\(label), epoch \(epoch)")
        // Keras's learning rate is a float32.
        let expected = try #require(row[3])
        #expect(abs(trainer.optimizer.learningRate - expected) <= 1e-5 * expected, "\(label), epoch \(epoch)")
        callback.state = callback.state
      }
    }
  }

  @Test func csvLoggerWritesKerasBytes() throws {
    let fixture = try fixture()
    let expected = try #require(fixture["csv"] as? [String: String])
    let first: [Logs] = [["loss": 0.25, "accuracy": 0.1, "learning_rate": 1e-05], ["loss": .nan, "accuracy": 1]]
    let last: Logs = ["loss": 123456789012345680, "accuracy": 0.30000001192092896, "val_loss": 3e-7]
    func write(_ path: String, _ parts: [[(Int, Logs)]], separator: String = ",", append: Bool = false) throws -> String {
      for part in parts {
        let logger = CSVLogger(path, separator: separator, append: append)
        logger.onTrainBegin()
        for (epoch, logs) in part {
          var logs = logs
          try logger.onEpochEnd(epoch, logs: &logs)
        }
      }
      return try String(contentsOfFile: path, encoding: .utf8)
    }
    let scratch = Scratch()
    let rows = Array(first.enumerated()).map { ($0.offset, $0.element) }
    #expect(try write(scratch("a.csv"), [rows]) == expected["plain"])
    #expect(
      try write(scratch("b.csv"), [[(0, ["loss": 0.5, "val_loss": 0.75]), (1, ["loss": 0.25])]], separator: ";")
        == expected["validated"])
    #expect(try write(scratch("c.csv"), [rows, [(2, last)]], append: true) == expected["appended"])
    // Without `append` a second run begins the file anew.
    #expect(try write(scratch("d.csv"), [[(7, last)], rows]) == expected["plain"])
    #expect(throws: TrainingError.self) { try write(scratch("no/such/folder.csv"), [rows]) }
  }

  @Test func modelCheckpointNamesFilesAsKeras() throws {
    let fixture = try fixture()
    let expected = try #require(fixture["paths"] as? [String: String])
    for (pattern, path) in expected {
      #expect(try ModelCheckpoint.path(pattern, 6, nil, 0, ["val_loss": 0.123456, "accuracy": 0.5]) == path)
    }
    #expect(throws: TrainingError.self) { try ModelCheckpoint.path("{missing}", 0, nil, 0, ["loss": 1]) }
  }
}
