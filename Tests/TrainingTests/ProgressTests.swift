import ApusNN
import ApusTensor
import Foundation
import Testing

@testable import ApusTraining

@Suite struct ProgressTests {
  private func trainer() -> Trainer {
    let model = smallModel()
    return Trainer(model, optimizer: SGD(model.parameters, learningRate: 0.01), loss: mseLoss, metrics: [AbsoluteError()])
  }

  /// Piped: one plain line for each epoch.
  @Test func linesArePlain() async throws {
    var text = ""
    var clock = 0.0
    let bar = ProgressBar(.lines, interval: 0.1, seconds: { clock }, write: { text += $0 })
    try await trainer().fit(
      line(20), epochs: 2, validation: line(10),
      callbacks: [LambdaCallback(onTrainBatchEnd: { _, _, _ in clock += 40 }), bar], batchSize: 10)
    let lines = text.split(separator: "\n")
    #expect(lines.count == 2 && !text.contains("\r") && !text.contains("\u{1B}"))
    #expect(lines[0].hasPrefix("epoch 1/2: 01:20 - loss: ") && lines[1].hasPrefix("epoch 2/2: 01:20 - loss: "))
    #expect(lines[0].contains(" - error: ") && lines[0].contains(" - val_loss: ") && lines[0].contains(" - val_error: "))
  }

  /// On a terminal: a bar in one line, drawn no more often than asked for.
  @Test func theBarHasRateAndTimeLeft() async throws {
    var writes: [String] = []
    var clock = 0.0
    let bar = ProgressBar(.bar, interval: 0.1, seconds: { clock }, write: { writes.append($0) })
    try await trainer().fit(
      line(100), epochs: 1, callbacks: [LambdaCallback(onTrainBatchEnd: { _, _, _ in clock += 0.04 }), bar], batchSize: 1)
    #expect(writes.first == "Epoch 1/1\n")
    // 100 batches of 40 ms: a drawing every third.
    #expect((33...37).contains(writes.count))
    let middle = writes[writes.count / 2]
    #expect(middle.hasPrefix("\r\u{1B}[K") && middle.contains("━━━") && middle.contains("───"))
    #expect(middle.contains(" left, 40.0 ms/step - loss: ") && middle.contains("/100 "))
    #expect(writes.last?.contains("100/100 ━━━━━━━━━━━━━━━━━━━━ 00:04, 40.0 ms/step - loss: ") == true)
    #expect(writes.last?.hasSuffix("\n") == true)
  }

  @Test func numbersAndDurationsAreReadable() {
    #expect(ProgressBar.duration(59.6) == "01:00" && ProgressBar.duration(3725) == "1:02:05")
    #expect(
      ProgressBar.number(0.42134) == "0.4213" && ProgressBar.number(1e-5) == "1.0000e-05" && ProgressBar.number(.nan) == "nan")
    #expect(ProgressBar.stepTime(2.5e-5) == "25 µs" && ProgressBar.stepTime(1.5) == "1.50 s")
    #expect(
      ProgressBar.texts(["val_loss": 1, "b": 2, "loss": 3, "a": 4]) == [
        "loss: 3.0000", "a: 4.0000", "b: 2.0000", "val_loss: 1.0000",
      ])
  }

  @Test func remoteMonitorPostsToAServer() async throws {
    let server = try PostServer()
    defer { server.stop() }
    let headers = ["X-Token": "seven"]
    let history = try await trainer().fit(
      line(10), epochs: 2,
      callbacks: [
        RemoteMonitor(root: server.root, path: "/form", headers: headers),
        RemoteMonitor(root: server.root, path: "/json", sendAsJSON: true),
      ], verbose: .silent)
    let requests = server.requests
    #expect(requests.count == 4)
    let form = try #require(requests.first)
    #expect(form.hasPrefix("POST /form HTTP/1.1\r\n") && form.contains("X-Token: seven"))
    #expect(form.contains("Content-Type: application/x-www-form-urlencoded"))
    let body = try #require(form.components(separatedBy: "\r\n\r\n").last)
    let json = try #require(body.dropFirst("data=".count).replacingOccurrences(of: "+", with: " ").removingPercentEncoding)
    for (text, epoch) in [(json, 0), (try #require(requests.last?.components(separatedBy: "\r\n\r\n").last), 1)] {
      let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Double])
      #expect(object.keys.sorted() == ["epoch", "error", "loss"] && object["epoch"] == Double(epoch))
      // Foundation's reader of JSON is a bit off in the last place.
      for name in ["loss", "error"] { #expect(abs((object[name] ?? 0) - history[name][epoch]) < 1e-12) }
    }
  }

  @Test func aServerThatDoesNotAnswerIsAWarning() async throws {
    let trainer = trainer()
    var warnings: [String] = []
    trainer.onWarning = { warnings.append($0) }
    // Nobody listens on the port of a server that has stopped.
    let server = try PostServer()
    server.stop()
    try await trainer.fit(
      line(10), callbacks: [RemoteMonitor(root: server.root, timeout: 2), RemoteMonitor(root: "ftp://x")], verbose: .silent)
    #expect(warnings.count == 2 && warnings[1].contains("not an http or https address"))
  }
}
