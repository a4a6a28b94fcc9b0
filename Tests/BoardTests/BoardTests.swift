import ApusBoard
import ApusFormats
import ApusTensor
import Foundation
import Testing

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// A board on a free port, asked as a browser asks it.
struct RunningBoard {
  let address: String
  private let task: Task<Void, any Error>

  static func with(_ folder: String, _ body: (RunningBoard) async throws -> Void) async throws {
    let server = try BoardServer(folder: folder, port: 0)
    let (addresses, continuation) = AsyncStream<String>.makeStream()
    let task = Task {
      defer { continuation.finish() }
      try await server.run { continuation.yield($0) }
    }
    var iterator = addresses.makeAsyncIterator()
    guard let address = await iterator.next() else {
      try await task.value
      throw FormatError(.missing, file: folder, "the server did not start")
    }
    let board = RunningBoard(address: address, task: task)
    do { try await body(board) } catch {
      task.cancel()
      throw error
    }
    task.cancel()
    _ = try? await task.value
  }

  struct Answer {
    var status: Int
    var headers: [String: String]
    var bytes: [UInt8]
    var text: String { String(decoding: bytes, as: UTF8.self) }
    func json() throws -> JSONValue { try JSONValue(parsing: bytes, file: "answer") }
    func object() throws -> JSONObject { try json().object ?? [:] }
  }

  /// - Parameter path: from the root, as it goes over the wire.
  func get(_ path: String, host: String? = nil) async throws -> Answer {
    guard let url = URL(string: address + path) else { throw FormatError(.malformed, file: path, "is no address") }
    var request = URLRequest(url: url)
    if let host { request.setValue(host, forHTTPHeaderField: "Host") }
    let (data, response) = try await URLSession.shared.data(for: request)
    guard let response = response as? HTTPURLResponse else { throw FormatError(.malformed, file: path, "no answer") }
    var headers: [String: String] = [:]
    for (name, value) in response.allHeaderFields { headers["\(name)".lowercased()] = "\(value)" }
    return Answer(status: response.statusCode, headers: headers, bytes: Array(data))
  }
}

func temporaryFolder() throws -> String {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-board-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  return folder.path
}

/// Writes a run with something of each kind.
func writeRun(_ folder: String, rate: Double, steps: Int = 50) throws {
  let writer = try SummaryWriter(folder)
  for step in 0..<steps {
    writer.add(scalar: "loss/train", exp(-rate * Double(step)), step: step, wallTime: 1_700_000_000 + Double(step))
  }
  writer.add(histogram: "layer/weight", Tensor((0..<100).map { Float($0) / 10 }, shape: [100]), step: 3)
  writer.add(image: "picture", Tensor.zeros([3, 8, 8]), step: 4)
  writer.add(audio: "beep", Tensor.zeros([100]), sampleRate: 8000, step: 5)
  writer.add(text: "notes", "<script>alert(1)</script>", step: 6)
  writer.add(hyperparameters: ["rate": .number(rate), "optimizer": "adam"], metrics: ["accuracy": 1 - rate])
  try writer.close()
}

@Suite struct BoardTests {
  @Test func everyKindOfValueIsAnswered() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try writeRun(folder + "/run10", rate: 0.1)
    try writeRun(folder + "/run2", rate: 0.2)
    try await RunningBoard.with(folder) { board in
      let state = try await board.get("api/state").object()
      #expect(state["runs"]?.array?.map { $0.object?["name"]?.string } == ["run2", "run10"])
      #expect(state["loading"]?.bool == false && state["hyperparameters"]?.integer == 2)
      for (kind, tag) in [
        ("scalars", "loss/train"), ("histograms", "layer/weight"), ("images", "picture"), ("sounds", "beep"), ("texts", "notes"),
      ] {
        #expect(state[kind]?.object?[tag]?.object?.count == 2, "\(kind)")
      }
      let ids = state["runs"]?.array?.compactMap { $0.object?["id"]?.integer } ?? []

      let scalars = try await board.get("api/scalars?tag=loss%2Ftrain&runs=\(ids[1])").object()
      let points = scalars["series"]?.array?.first?.object?["points"]?.array ?? []
      #expect(scalars["series"]?.array?.count == 1 && points.count == 50)
      #expect(points[3].array?.prefix(2) == [.integer(3), .number(1_700_000_003)])
      #expect(abs((points[3].array?[2].number ?? 0) - exp(-0.3)) < 1e-6)

      let histograms = try await board.get("api/histograms?tag=layer/weight").object()
      let buckets = histograms["series"]?.array?[0].object?["steps"]?.array?[0].array?[2].array ?? []
      #expect(buckets.count == 30 && buckets.reduce(0) { $0 + ($1.array?[2].number ?? 0) } == 100)

      let images = try await board.get("api/images?tag=picture&limit=1").object()
      #expect(images["series"]?.array?[0].object?["items"]?.array?[0].object?["width"]?.integer == 8)
      let image = try await board.get("api/image?run=\(ids[0])&tag=picture&index=0")
      #expect(image.status == 200 && image.headers["content-type"] == "image/png" && image.bytes.starts(with: [0x89, 0x50]))
      let sound = try await board.get("api/sound?run=\(ids[0])&tag=beep&index=0")
      #expect(sound.status == 200 && sound.headers["content-type"] == "audio/wav" && sound.bytes.count == 244)

      let texts = try await board.get("api/texts?tag=notes")
      #expect(texts.headers["content-type"] == "application/json" && texts.headers["x-content-type-options"] == "nosniff")
      #expect(
        try texts.object()["series"]?.array?[0].object?["items"]?.array?[0].object?["text"]?.string == "<script>alert(1)</script>"
      )

      let table = try await board.get("api/hyperparameters").object()
      #expect(
        table["parameters"] == .array([.string("optimizer"), .string("rate")])
          && table["metrics"] == .array([.string("accuracy")]))
      let row = table["rows"]?.array?[0].object
      #expect(row?["parameters"]?.object?["rate"]?.number == 0.2 && row?["status"]?.string == "success")
      #expect(row?["metrics"]?.object?["accuracy"]?.number == 0.8)
    }
  }

  @Test func thePageComesWithoutTheNetwork() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try await RunningBoard.with(folder) { board in
      let page = try await board.get("")
      #expect(page.status == 200 && page.text.contains("<title>Apus board</title>"))
      #expect(page.headers["content-security-policy"]?.contains("default-src 'none'") == true)
      for file in ["board.css", "main.js", "chart.js", "histogram.js", "media.js", "tables.js", "common.js"] {
        let answer = try await board.get(file)
        #expect(answer.status == 200 && !answer.bytes.isEmpty)
        // The one address in it is the name of SVG, which nobody fetches.
        let text = answer.text.replacingOccurrences(of: "http://www.w3.org/2000/svg", with: "")
        #expect(!text.contains("http://") && !text.contains("https://") && !page.text.contains("http"))
      }
    }
  }

  @Test func whatIsWrittenLaterAppears() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try await RunningBoard.with(folder) { board in
      #expect(try await board.get("api/state").object()["runs"] == .array([]))
      let writer = try SummaryWriter(folder + "/later")
      writer.add(scalar: "a", 1, step: 0)
      try writer.flush()
      func count() async throws -> Int {
        try await board.get("api/state").object()["scalars"]?.object?["a"]?.object?["0"]?.integer ?? 0
      }
      func waits(for expected: Int) async throws -> Bool {
        for _ in 0..<100 {
          if try await count() == expected { return true }
          try await Task.sleep(for: .milliseconds(100))
        }
        return false
      }
      #expect(try await waits(for: 1))
      writer.add(scalar: "a", 2, step: 1)
      try writer.flush()
      // Half a record at the end, as a writer that is interrupted leaves it.
      let more = TFRecord.framed(Event(wallTime: 5, step: 2, .summaries([EventSummary(tag: "a", .scalar(3))])).message)
      let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: writer.path))
      try handle.seekToEnd()
      try handle.write(contentsOf: Data(more.prefix(20)))
      #expect(try await waits(for: 2))
      try handle.write(contentsOf: Data(more.dropFirst(20)))
      #expect(try await waits(for: 3))
      try handle.close()
    }
  }

  @Test func mistakesAreAnsweredWithASentence() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try writeRun(folder + "/a", rate: 0.1)
    try await RunningBoard.with(folder) { board in
      _ = try await board.get("api/state")
      for (path, status) in [
        ("api/scalars", 400), ("api/scalars?tag=a&points=-1", 400), ("api/scalars?tag=a&smoothing=1", 400),
        ("api/scalars?tag=a&smoothing=nan", 400), ("api/scalars?tag=a&runs=x", 400),
        ("api/images?tag=a&limit=99999999999999999999", 400),
        ("api/image?run=0&tag=none&index=0", 404), ("api/image?run=7&tag=picture&index=0", 404),
        ("api/image?run=0&tag=picture&index=5", 404), ("api/sound?run=0&tag=picture", 404),
      ] {
        let answer = try await board.get(path)
        #expect(answer.status == status, "\(path)")
        #expect(try answer.object()["error"]?.string?.isEmpty == false)
      }
      #expect(try await board.get("api/scalars?tag=none").object()["series"] == .array([]))
    }
  }

  @Test func nothingOutsideIsReachable() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try Data("secret".utf8).write(to: URL(fileURLWithPath: folder + "/secret.txt"))
    try await RunningBoard.with(folder) { board in
      for path in [
        "secret.txt", "..%2F..%2Fetc%2Fpasswd", "%2e%2e/%2e%2e/etc/passwd", "Page/index.html", "api/../secret.txt",
        "api/image?run=0&tag=..%2Fsecret.txt&index=0", "api/image?run=-1&tag=a&index=0",
      ] {
        let answer = try await board.get(path)
        #expect(answer.status >= 400 && !answer.text.contains("secret") && !answer.text.contains("root:"), "\(path)")
      }
      #expect(try await board.get("api/state", host: "evil.example").status == 403)
      #expect(try await board.get("api/state", host: "localhost:6006").status == 200)
    }
  }

  @Test func foldersThatAreNoneAreErrors() throws {
    for path in ["/nonexistent/runs", "/dev/null"] {
      #expect(throws: FormatError.self) { try BoardServer(folder: path) }
    }
    do { _ = try BoardServer(folder: "/nonexistent/runs") } catch { #expect(error.description.contains("no such folder")) }
  }

  @Test func damagedFilesAreNamedAndTheOthersShown() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try writeRun(folder + "/good", rate: 0.1)
    try FileManager.default.createDirectory(atPath: folder + "/bad", withIntermediateDirectories: true)
    try Data((0..<200).map { UInt8($0) }).write(to: URL(fileURLWithPath: folder + "/bad/events.out.tfevents.1.host"))
    // A link to the folder itself: each folder is visited once.
    try FileManager.default.createSymbolicLink(atPath: folder + "/good/loop", withDestinationPath: folder)
    try await RunningBoard.with(folder) { board in
      let runs = try await board.get("api/state").object()["runs"]?.array ?? []
      #expect(runs.map { $0.object?["name"]?.string } == ["bad", "good"])
      let problems = runs[0].object?["problems"]?.array ?? []
      #expect(problems.count == 1 && problems[0].string?.contains("bad/events.out.tfevents.1.host") == true)
      #expect(runs[1].object?["problems"]?.array?.isEmpty == true)
      #expect(try await board.get("api/scalars?tag=accuracy").object()["series"]?.array?.count == 1)
    }
  }

  @Test func longSeriesAreThinnedAndKeepTheirPeaks() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let writer = try SummaryWriter(folder + "/long")
    for step in 0..<20_000 {
      writer.add(
        scalar: "a", step == 12_345 ? 100 : step == 777 ? -100 : sin(Double(step) / 50), step: step, wallTime: Double(step))
    }
    writer.add(scalar: "odd", Double.nan, step: 0, wallTime: 0)
    writer.add(scalar: "odd", -Double.infinity, step: 1, wallTime: 1)
    for step in 0..<3 { writer.add(scalar: "flat", 2, step: step, wallTime: Double(step)) }
    try writer.close()
    try await RunningBoard.with(folder) { board in
      for _ in 0..<50 { if try await board.get("api/state").object()["loading"]?.bool == false { break } }
      let series = try await board.get("api/scalars?tag=a&points=200").object()["series"]?.array?[0].object
      let points = series?["points"]?.array?.compactMap(\.array) ?? []
      #expect(series?["count"]?.integer == 20_000 && points.count <= 201 && points.count > 150)
      #expect(points.first?[0].integer == 0 && points.last?[0].integer == 19_999)
      let values = points.compactMap { $0[2].number }
      #expect(values.max() == 100 && values.min() == -100)
      #expect(zip(points, points.dropFirst()).allSatisfy { ($0[0].integer ?? 0) < ($1[0].integer ?? 0) })
      let odd = try await board.get("api/scalars?tag=odd").object()["series"]?.array?[0].object?["points"]?.array ?? []
      #expect(odd.map { $0.array?[2] } == [.string("NaN"), .string("-Infinity")])
      // A mean without the pull to zero: of equal values it is that value.
      let flat =
        try await board.get("api/scalars?tag=flat&smoothing=0.9").object()["series"]?.array?[0].object?["points"]?.array ?? []
      #expect(flat.allSatisfy { abs(($0.array?[3].number ?? 0) - 2) < 1e-6 })
    }
  }

  /// A run that was killed and went on from a checkpoint wrote steps twice, in two files: the later ones count.
  @Test func aRunThatWentOnCountsOnce() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for (steps, value) in [(0..<10, 1), (6..<12, 2)] {
      let writer = try SummaryWriter(folder)
      for step in steps { writer.add(scalar: "a", value, step: step) }
      try writer.close()
    }
    try await RunningBoard.with(folder) { board in
      let state = try await board.get("api/state").object()
      #expect(state["runs"]?.array?[0].object?["name"]?.string == ".")
      let points = try await board.get("api/scalars?tag=a").object()["series"]?.array?[0].object?["points"]?.array ?? []
      #expect(points.map { $0.array?[0].integer } == Array(0..<12))
      #expect(points.map { $0.array?[2].number } == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2])
    }
  }

  @Test func aPortThatIsTakenIsAnError() async throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try await RunningBoard.with(folder) { board in
      let port = Int(board.address.split(separator: ":").last?.dropLast() ?? "") ?? 0
      let second = try BoardServer(folder: folder, port: port)
      await #expect(throws: BoardError.self) { try await second.run { _ in } }
    }
  }
}
