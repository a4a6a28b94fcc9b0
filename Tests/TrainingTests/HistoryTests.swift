import Foundation
import Testing

#if canImport(FoundationXML)
  import FoundationXML
#endif

@testable import ApusTraining

@Suite struct HistoryTests {
  private func history() -> History {
    let history = History()
    for epoch in 0..<12 {
      let t = Double(epoch)
      var logs: Logs = ["loss": 2.3 * exp(-t / 4) + 0.1, "accuracy": 1 - 0.9 * exp(-t / 3), "learning_rate": 1e-3 * pow(0.8, t)]
      if epoch != 5 {
        logs["val_loss"] = 2.2 * exp(-t / 3.5) + 0.25 + 0.02 * t
        logs["val_accuracy"] = 0.92 - 0.8 * exp(-t / 2.5)
      }
      history.append(epoch, logs)
    }
    return history
  }

  @Test func curvesAreDrawn() throws {
    let scratch = Scratch()
    let history = history()
    #expect(history["val_loss"][5].isNaN && history["loss"].count == 12)
    let folder = ProcessInfo.processInfo.environment["APUS_PICTURES"] ?? scratch.path
    try history.plot(to: folder + "/history.svg")
    try history.plot(to: folder + "/history.png", ["loss", "accuracy"])
    let svg = try String(contentsOfFile: folder + "/history.svg", encoding: .utf8)
    // Three panels; the gap parts the validation curves in two.
    #expect(svg.components(separatedBy: "<polyline").count - 1 == 3 + 2 * 2)
    #expect(svg.contains(">accuracy</text>") && svg.contains(">validation</text>") && svg.hasSuffix("</svg>\n"))
    #expect(XMLParser(data: Data(svg.utf8)).parse())
    let png = try Data(contentsOf: URL(fileURLWithPath: folder + "/history.png"))
    #expect(png.starts(with: [0x89, 0x50, 0x4e, 0x47]) && png.count > 5_000)
    #expect(throws: TrainingError.self) { try history.plot(to: folder + "/history.pdf") }
    #expect(throws: TrainingError.self) { try history.plot(to: folder + "/none/history.svg") }
  }

  @Test func oneEpochAndStrangeNumbersHaveAPictureToo() throws {
    let history = History()
    #expect(history.svg().hasSuffix("</svg>\n"))
    history.append(0, ["loss": .nan, "a<b": 0])
    history.append(1, ["loss": .infinity])
    #expect(history.svg().contains("a&lt;b"))
    let scratch = Scratch()
    try history.plot(to: scratch("one.png"))
  }

  @Test func ticksAreRound() {
    #expect(LinePlots.ticks(0...1, at: 5) == [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1])
    #expect(LinePlots.ticks(1...12, at: 8) == [2, 4, 6, 8, 10, 12])
    #expect(LinePlots.label(0.6000000000000001, step: 0.2) == "0.6" && LinePlots.label(12, step: 2) == "12")
    #expect(LinePlots.label(0.0005, step: 0.0005) == "0.0005" && LinePlots.label(-0.0, step: 0.5) == "0.0")
  }
}
