import ApusFormats
import ApusTensor
import Foundation
import Testing

/// The events of a file in a folder with one.
private func events(_ folder: String) throws -> [Event] {
  let reader = try EventFileReader(try eventFile(folder))
  var result: [Event] = []
  while let event = try reader.next() { result.append(event) }
  #expect(reader.tornBytes == 0)
  return result
}

private func eventFile(_ folder: String) throws -> String {
  let names = try FileManager.default.contentsOfDirectory(atPath: folder)
  #expect(names.count == 1 && names[0].hasPrefix("events.out.tfevents."))
  return folder + "/" + (names.first ?? "")
}

private func fixturePath(_ name: String) -> String {
  URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures/" + name).path
}

private func summaries(_ path: String) throws -> [(step: Int, wallTime: Double, summary: EventSummary)] {
  let reader = try EventFileReader(path)
  var result: [(step: Int, wallTime: Double, summary: EventSummary)] = []
  while let event = try reader.next() {
    guard case .summaries(let found) = event.content else { continue }
    for summary in found { result.append((event.step, event.wallTime, summary)) }
  }
  return result
}

@Suite struct CRC32CTests {
  /// RFC 3720, appendix B.4.
  @Test func publishedValues() {
    func checksum(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { CRC32C.checksum($0) } }
    #expect(checksum([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
    #expect(checksum([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
    #expect(checksum(Array(0..<32)) == 0x46dd_794e)
    #expect(checksum(Array("123456789".utf8)) == 0xe306_9283)
    #expect(checksum([]) == 0)
  }
}

@Suite struct EventFileTests {
  @Test func whatIsWrittenComesBack() throws {
    try withTemporaryFolder { folder in
      let writer = try SummaryWriter(folder)
      writer.add(scalar: "loss", 0.25, step: 7, wallTime: 1000.5)
      writer.add(scalar: "loss", Tensor([3] as [Float]), step: 8)
      writer.add(scalar: "count", 12, step: -1)
      writer.add(scalars: "both", ["b": 2, "a": 1], step: 3)
      writer.add(text: "notes", "grüße\n**bold**")
      writer.add(image: "picture", Tensor.zeros([3, 4, 6]), step: 1)
      writer.add(images: "pictures", Tensor.zeros([5, 1, 4, 6]), step: 1)
      writer.add(audio: "beep", Tensor.zeros([2, 50]), sampleRate: 8000, step: 2)
      writer.add(hyperparameters: ["rate": 0.5, "name": "adam", "flag": true], metrics: ["accuracy": 0.75])
      try writer.close()
      try writer.close()

      let all = try events(folder)
      #expect(all.first?.content == .version("brain.Event:2"))
      #expect(all[1] == Event(wallTime: 1000.5, step: 7, .summaries([EventSummary(tag: "loss", .scalar(0.25))])))
      var found: [String: [EventSummary]] = [:]
      for event in all {
        if case .summaries(let list) = event.content { for item in list { found[item.tag, default: []].append(item) } }
      }
      #expect(found["loss"]?.map(\.value) == [.scalar(0.25), .scalar(3)])
      #expect(found["count"]?.map(\.value) == [.scalar(12)])
      #expect(found["both/a"]?.map(\.value) == [.scalar(1)] && found["both/b"]?.map(\.value) == [.scalar(2)])
      #expect(found["notes"] == [EventSummary(tag: "notes", .text(["grüße\n**bold**"]), plugin: "text")])
      guard case .image(let picture) = found["picture"]?.first?.value, case .image(let grid) = found["pictures"]?.first?.value,
        case .audio(let sound) = found["beep"]?.first?.value
      else { throw FormatError(.missing, file: folder, "a picture or sound is not there") }
      #expect(picture.width == 6 && picture.height == 4 && picture.files[0].starts(with: [0x89, 0x50, 0x4e, 0x47]))
      #expect(grid.width == 18 && grid.height == 8)
      #expect(sound.channels == 2 && sound.frames == 50 && sound.sampleRate == 8000 && sound.file.count == 44 + 200)
      guard case .hyperparameters(.start(let parameters, _, _)) = found["_hparams_/session_start_info"]?.first?.value,
        case .hyperparameters(.end(let status, _)) = found["_hparams_/session_end_info"]?.first?.value
      else { throw FormatError(.missing, file: folder, "hyper-parameters are not there") }
      #expect(parameters == ["rate": 0.5, "name": "adam", "flag": true] && status == .success)
      #expect(
        found["_hparams_/experiment"]?.first?.value
          == .hyperparameters(.experiment(parameters: ["rate": 0, "name": "", "flag": false], metrics: ["accuracy"])))
      #expect(found["accuracy"]?.map(\.value) == [.scalar(0.75)])
    }
  }

  @Test func histogramsCountWhatIsFinite() throws {
    let values = Tensor([0, 1, 2, 3, 4, .nan, .infinity] as [Float])
    let histogram = Histogram(values, buckets: 2)
    #expect(histogram.buckets == [.init(0, 2, count: 2), .init(2, 4, count: 3)])
    #expect(histogram.minimum == 0 && histogram.maximum == 4 && histogram.sum == 10 && histogram.sumOfSquares == 30)
    #expect(Histogram(Tensor.full([3], 2)).buckets == [.init(2, 2, count: 3)])
    #expect(Histogram(Tensor.full([3], Float.nan)).buckets.isEmpty)
    #expect(Histogram(Tensor([1, 2] as [Int32])).count == 2)
    #expect(Histogram(Tensor([-1e308, 1e308] as [Double])).count == 2)
    try withTemporaryFolder { folder in
      let writer = try SummaryWriter(folder)
      writer.add(histogram: "h", values, step: 1, buckets: 2)
      writer.add(histogram: "same", Tensor.full([3], 2), step: 1)
      try writer.flush()
      let found = try summaries(writer.path)
      #expect(found[0].summary.value == .histogram(histogram))
      #expect(found[1].summary.value == .histogram(Histogram(Tensor.full([3], 2))))
    }
  }

  @Test func graphsAreWrittenWithScopes() throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([2, 3], .float32), name: "image")
    let w = graph.addInput(TensorType([2, 3], .float32), name: "block.0.weight")
    let sum = try graph.append(.binary(.add), [x, w]).lowerBound
    graph.setOutputs([try graph.append(.unary(.relu), [sum]).lowerBound], names: ["y"])
    let text = String(decoding: graph.tensorFlowGraph(), as: UTF8.self)
    for name in ["image", "block/0/weight", "VariableV2", "Placeholder", "add", "relu", "_output_shapes"] {
      #expect(text.contains(name))
    }
  }

  /// Values of `make_events.py`.
  @Test func filesOfPyTorchAreRead() throws {
    let all = try summaries(fixturePath("torch.tfevents"))
    let losses = all.filter { $0.summary.tag == "loss/train" }
    #expect(losses.map(\.step) == [0, 1, 2, 3, 4] && losses.map(\.wallTime) == (0..<5).map { 1_700_000_000 + Double($0) })
    #expect(losses.map(\.summary.value) == (0..<5).map { .scalar(1 / Float($0 + 1)) })
    guard case .scalar(let odd) = all.first(where: { $0.summary.tag == "odd" })?.summary.value,
      case .histogram(let weights) = all.first(where: { $0.summary.tag == "weights" })?.summary.value,
      case .image(let square) = all.first(where: { $0.summary.tag == "square" })?.summary.value,
      case .text(let notes) = all.first(where: { $0.summary.tag == "notes/text_summary" })?.summary.value,
      case .audio(let beep) = all.first(where: { $0.summary.tag == "beep" })?.summary.value
    else { throw FormatError(.missing, file: "torch.tfevents", "something is not there") }
    #expect(odd.isNaN && all.first { $0.summary.tag == "odd" }?.step == -3)
    #expect(weights.count == 21 && weights.minimum == -2.5 && weights.maximum == 2.5 && weights.sumOfSquares == 48.125)
    #expect(weights.buckets.first?.lower == -2.5 && weights.buckets.last?.upper == 2.5)
    #expect(square.width == 5 && square.height == 4 && notes == ["**hello** wörld"])
    #expect(beep.sampleRate == 8000 && beep.channels == 1 && beep.frames == 100)

    let parameters = try summaries(fixturePath("torch_hparams.tfevents")).compactMap { item -> HyperparameterRecord? in
      if case .hyperparameters(let record) = item.summary.value { record } else { nil }
    }
    #expect(parameters.count == 3)
    guard case .start(let values, _, _) = parameters[1], case .end(let status, _) = parameters[2] else {
      throw FormatError(.missing, file: "torch_hparams.tfevents", "no beginning or end")
    }
    // PyTorch writes flags as numbers.
    #expect(values == ["rate": 0.1, "name": "adam", "nesterov": 1] && status == .success)
    #expect(
      parameters[0] == .experiment(parameters: ["rate": 0, "name": "", "nesterov": 0], metrics: ["accuracy"]))
  }

  /// Keras writes in this way, too.
  @Test func filesOfTensorFlowAreRead() throws {
    let all = try summaries(fixturePath("tensorflow.tfevents"))
    #expect(all.filter { $0.summary.tag == "epoch_loss" }.map(\.summary.value) == [.scalar(1), .scalar(0.5), .scalar(0.25)])
    guard case .histogram(let weights) = all.first(where: { $0.summary.tag == "weights" })?.summary.value,
      case .image(let square) = all.first(where: { $0.summary.tag == "square" })?.summary.value,
      case .text(let notes) = all.first(where: { $0.summary.tag == "notes" })?.summary.value
    else { throw FormatError(.missing, file: "tensorflow.tfevents", "something is not there") }
    #expect(weights.count == 21 && weights.buckets.count == 5 && weights.minimum == -2.5 && weights.maximum == 2.5)
    #expect(square.width == 5 && square.height == 4 && square.files.count == 1 && notes == ["hello"])
  }

  @Test func growingFilesAreFollowed() throws {
    try withTemporaryFolder { folder in
      let writer = try SummaryWriter(folder, queueSize: 1000)
      let reader = try EventFileReader(writer.path)
      #expect(try reader.next()?.content == .version("brain.Event:2"))
      #expect(try reader.next() == nil)
      for step in 0..<3 { writer.add(scalar: "a", Float(step), step: step) }
      #expect(try reader.next() == nil, "what waits is not in the file")
      try writer.flush()
      for step in 0..<3 { #expect(try reader.next()?.step == step) }
      #expect(try reader.next() == nil && reader.tornBytes == 0)
    }
  }

  @Test func theQueueIsWrittenByItself() async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    func count(_ path: String) throws -> Int { try summaries(path).count }
    func waits(_ path: String, for expected: Int) async throws -> Bool {
      for _ in 0..<500 {
        if try count(path) >= expected { return true }
        try await Task.sleep(for: .milliseconds(20))
      }
      return false
    }
    let full = try SummaryWriter(folder + "/full", queueSize: 10, flushSeconds: 1000)
    for step in 0..<9 { full.add(scalar: "a", 1, step: step) }
    #expect(try count(full.path) == 0)
    full.add(scalar: "a", 1, step: 9)
    #expect(try await waits(full.path, for: 10))
    let timed = try SummaryWriter(folder + "/timed", queueSize: 10, flushSeconds: 0.1)
    timed.add(scalar: "a", 1, step: 0)
    #expect(try await waits(timed.path, for: 1))
  }

  @Test func manyTasksMayAdd() async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let writer = try SummaryWriter(folder)
    await withTaskGroup(of: Void.self) { group in
      for task in 0..<8 {
        group.addTask { for step in 0..<100 { writer.add(scalar: "t\(task)", step, step: step) } }
      }
    }
    try writer.close()
    let all = try summaries(writer.path)
    for task in 0..<8 { #expect(all.filter { $0.summary.tag == "t\(task)" }.map(\.step) == Array(0..<100)) }
  }

  /// A process may be killed at any byte.
  @Test func everyTornEndIsSeen() throws {
    try withTemporaryFolder { folder in
      let writer = try SummaryWriter(folder)
      for step in 0..<3 { writer.add(scalar: "a", 1, step: step) }
      try writer.close()
      let whole = Array(try Data(contentsOf: URL(fileURLWithPath: writer.path)))
      let cut = folder + "/cut"
      for length in 0..<whole.count {
        try Data(whole[..<length]).write(to: URL(fileURLWithPath: cut))
        let reader = try EventFileReader(cut)
        while try reader.next() != nil {}
        #expect(reader.offset + reader.tornBytes == length)
      }
    }
  }

  @Test func damageIsNamed() throws {
    try withTemporaryFolder { folder in
      let writer = try SummaryWriter(folder)
      for step in 0..<3 { writer.add(scalar: "a", 1, step: step) }
      try writer.close()
      let whole = Array(try Data(contentsOf: URL(fileURLWithPath: writer.path)))
      let path = folder + "/damaged"
      func reader(_ bytes: [UInt8], limit: Int = 1 << 30) throws -> EventFileReader {
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        return try EventFileReader(path, limit: limit)
      }
      // Every byte, altered: either a typed error, or (in no place) the events as they were.
      for index in whole.indices {
        var bytes = whole
        bytes[index] ^= 0x10
        let damaged = try reader(bytes)
        var errors = 0
        for _ in 0..<6 {
          do { while try damaged.next() != nil {} } catch { errors += 1 }
        }
        #expect(errors > 0, "byte \(index)")
      }
      // The content is damaged: the records behind it are read.
      var bytes = whole
      bytes[TFRecord.headerSize + 3] ^= 1
      let damaged = try reader(bytes)
      #expect(formatError { _ = try damaged.next() }?.kind == .checksumMismatch)
      #expect(try damaged.next()?.step == 0)
      // Lengths up to 2⁶⁴ with the right checksum.
      for length in [UInt64.max, 1 << 63, 1 << 62, UInt64(Int.max), 1 << 31] {
        let header = withUnsafeBytes(of: length.littleEndian) { Array($0) }
        let sum = withUnsafeBytes(of: header.withUnsafeBytes { CRC32C.masked($0) }.littleEndian) { Array($0) }
        let hostile = try reader(header + sum + [1, 2, 3])
        #expect(formatError { _ = try hostile.next() }?.kind == .limitExceeded)
        #expect(formatError { _ = try hostile.next() }?.kind == .limitExceeded)
      }
      #expect(formatError { _ = try EventFileReader(folder) }?.kind == .cannotRead)
      #expect(formatError { _ = try EventFileReader(folder + "/none") }?.kind == .cannotRead)
    }
  }

  /// Records with right checksums and any content.
  @Test func hostileMessagesEndInErrors() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/hostile"
      var random = SeededGenerator(state: 5)
      let seed = Event(
        wallTime: 1, step: 2,
        .summaries([
          EventSummary(tag: "h", .histogram(Histogram(Tensor([1, 2, 3] as [Float])))),
          EventSummary(
            tag: "_hparams_/session_start_info", .hyperparameters(.start(parameters: ["a": 1, "b": "c"], group: "", time: 1)),
            plugin: "hparams"), EventSummary(tag: "t", .text(["x"]), plugin: "text"),
        ])
      ).message
      for round in 0..<3000 {
        var bytes = seed
        if round % 10 == 0 {
          bytes = (0..<Int.random(in: 0...60, using: &random)).map { _ in .random(in: 0...255, using: &random) }
        } else {
          for _ in 0..<Int.random(in: 1...4, using: &random) {
            bytes[Int.random(in: bytes.indices, using: &random)] = .random(in: 0...255, using: &random)
          }
        }
        try Data(TFRecord.framed(bytes)).write(to: URL(fileURLWithPath: path))
        let reader = try EventFileReader(path)
        do { while try reader.next() != nil {} } catch let error as FormatError { #expect(error.file == path) }
      }
    }
  }

  @Test func aFolderThatCannotBeWrittenIsAnError() throws {
    #expect(formatError { _ = try SummaryWriter("/proc/apus/run") }?.kind == .cannotWrite)
    #expect(formatError { _ = try SummaryWriter("/dev/null/run") }?.kind == .cannotWrite)
  }

  /// The real TensorBoard's reader finds every value, if Python has TensorBoard.
  @Test func tensorBoardReadsEveryValue() throws {
    guard let python = pythonWithTensorBoard() else {
      print("tensorBoardReadsEveryValue: skipped, no Python with tensorboard (APUS_PYTHON names one)")
      return
    }
    try withTemporaryFolder { folder in
      let writer = try SummaryWriter(folder)
      for step in 0..<20 {
        writer.add(scalar: "loss/train", 1 / Float(step + 1), step: step * 10, wallTime: 1_700_000_000 + Double(step))
      }
      writer.add(scalar: "odd", Float.infinity, step: 1)
      writer.add(histogram: "weights", Tensor((-10...10).map { Float($0) / 4 }, shape: [21]), step: 3, buckets: 5)
      let picture = Tensor((0..<60).map { Float($0) / 59 }, shape: [3, 4, 5])
      writer.add(image: "picture", picture, step: 4)
      writer.add(text: "notes", "**hello** wörld", step: 5)
      writer.add(audio: "beep", sin(Tensor.arange(100).converted(to: .float32) / 5), sampleRate: 8000, step: 6)
      var graph = Graph()
      let x = graph.addInput(TensorType([2, 3], .float32), name: "image")
      let w = graph.addInput(TensorType([2, 3], .float32), name: "block.0.weight")
      graph.setOutputs([try graph.append(.binary(.add), [x, w]).lowerBound], names: ["y"])
      writer.add(graph: graph)
      writer.add(hyperparameters: ["rate": 0.5, "name": "adam", "flag": true], metrics: ["accuracy": 0.75])
      try writer.close()
      let process = Process()
      process.executableURL = URL(fileURLWithPath: python)
      process.arguments = [fixturePath("check_events.py"), folder]
      let output = Pipe()
      (process.standardOutput, process.standardError) = (output, output)
      try process.run()
      let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      #expect(process.terminationStatus == 0 && text.contains("every value came back"), "\(text)")
    }
  }

  private func pythonWithTensorBoard() -> String? {
    let environment = ProcessInfo.processInfo.environment
    let folders = (environment["PATH"] ?? "").split(separator: ":").map { $0 + "/python3" }
    return ([environment["APUS_PYTHON"]].compactMap { $0 } + folders.map(String.init)).first { python in
      guard FileManager.default.isExecutableFile(atPath: python) else { return false }
      let process = Process()
      process.executableURL = URL(fileURLWithPath: python)
      process.arguments = ["-c", "import importlib.util as u; raise SystemExit(u.find_spec('tensorboard') is None)"]
      (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
      guard (try? process.run()) != nil else { return false }
      process.waitUntilExit()
      return process.terminationStatus == 0
    }
  }
}
