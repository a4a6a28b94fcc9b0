import Apus
import ApusFormats
import ApusServables
import Hummingbird
import HummingbirdTesting
import Logging
import Synchronization
import Testing

@testable import ApusServing

@Suite struct OperationsTests {
  // MARK: Histograms and windows

  @Test func bucketsCoverAllDurations() {
    for value in [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 100, 1_000, 12_345, 1 << 29] {
      let bucket = LatencyHistogram.bucket(value)
      #expect(LatencyHistogram.lowerBound(bucket) <= max(value, 1))
      #expect(LatencyHistogram.lowerBound(bucket + 1) > value)
    }
    #expect(LatencyHistogram.bucket(.max) == LatencyHistogram.bucketCount - 1)
    for bucket in 1..<LatencyHistogram.bucketCount {
      #expect(LatencyHistogram.bucket(LatencyHistogram.lowerBound(bucket)) == bucket)
    }
  }

  @Test func quantilesAreWithinTheirBuckets() throws {
    var histogram = LatencyHistogram()
    #expect(histogram.quantile(0.5) == nil)
    for microseconds in 1...1_000 { histogram.add(nanoseconds: microseconds * 1_000) }
    for share in [0.01, 0.5, 0.9, 0.99, 1] {
      let exact = share * 1_000
      let found = try #require(histogram.quantile(share))
      #expect(found >= exact * 0.8 && found <= exact * 1.25, "\(share): \(found)")
    }
    #expect(histogram.count == 1_000)
    #expect(histogram.nanoseconds == 500_500 * 1_000)
  }

  @Test func windowsForgetWhatIsOld() {
    var window = SlidingWindow()
    window.add(second: 0, nanoseconds: 1_000)
    window.add(second: 4, nanoseconds: nil)
    window.add(second: 12, nanoseconds: 5_000)
    let slots = window.last(180, second: 14)
    #expect(slots.map(\.number) == [0, 1, 2])
    #expect(slots.map(\.latency.count) == [1, 0, 1])
    #expect(slots.map(\.failures) == [1, 0, 0])
    // A round later the same places hold other slots.
    let later = SlidingWindow.slotSeconds * SlidingWindow.slotCount
    window.add(second: later, nanoseconds: 7_000)
    let now = window.last(1_000, second: later)
    #expect(now.count == SlidingWindow.slotCount)
    #expect(now.map(\.latency.count).reduce(0, +) == 2)
    #expect(window.last(12, second: later * 9).allSatisfy { $0.latency.count == 0 && $0.failures == 0 })
  }

  // MARK: Identities

  @Test func traceparentIsReadAsTheStandardSays() {
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    let identity = RequestIdentity(requestID: nil, traceparent: valid, operation: "")
    #expect(identity.traceID == "4bf92f3577b34da6a3ce929d0e0e4736")
    #expect(identity.parentSpanID == "00f067aa0ba902b7")
    #expect(identity.isSampled)
    #expect(identity.id == "4bf92f3577b34da6a3ce929d0e0e4736")
    #expect(TraceParent("cc" + valid.dropFirst(2) + "-what-comes-later") != nil)
    for wrong in [
      "", "00", "ff" + valid.dropFirst(2), valid.uppercased(), valid + "-more",
      "00-" + String(repeating: "0", count: 32) + "-00f067aa0ba902b7-01",
      "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", String(repeating: "-", count: 10_000),
    ] { #expect(TraceParent(wrong) == nil, "\(wrong.prefix(80))") }
  }

  @Test func strangeRequestIDsAreReplaced() {
    #expect(RequestIdentity(requestID: "order-7", traceparent: nil, operation: "").id == "order-7")
    for strange in ["", "a b", "a\r\nset-cookie: x", "é", String(repeating: "x", count: 129)] {
      let id = RequestIdentity(requestID: strange, traceparent: nil, operation: "").id
      #expect(id.count == 32 && id.allSatisfy(\.isHexDigit))
    }
  }

  @Test func targetsAreTakenFromPaths() {
    let row = RequestTarget(path: "/v1/models/mlp/versions/2:Predict")
    #expect(row.api == .tensorFlowREST && row.operation == "predict" && row.model == "mlp")
    #expect(RequestTarget(path: "/v1/models/mlp:classify").model == "mlp")
    #expect(RequestTarget(path: "/v2/models/mlp/versions/1/infer").api == .inferenceREST)
    for other in ["/", "/v2", "/v1/models/mlp", "/v2/models/mlp/ready", "/v1/models/mlp:explain", "///:predict", "/v1/models/:"] {
      #expect(RequestTarget(path: other).api == nil, "\(other)")
    }
  }

  // MARK: Metrics

  @Test func namesAndValuesAreEscaped() {
    var text = PrometheusText()
    text.family("a", .counter, "with \\ and \n and \"") {
      $0.add([("model", "x\"y\\z\nw{}é")], 3)
      $0.add([], 0.5)
    }
    text.family("empty", .gauge, "has no samples") { _ in }
    text.family("h", .histogram, "") { $0.add([("m", "1")], bounds: [1, 2.5], counts: [1, 0, 2], sum: 9.25) }
    #expect(
      text.text == """
        # HELP a with \\\\ and \\n and "
        # TYPE a counter
        a{model="x\\"y\\\\z\\nw{}é"} 3
        a 0.5
        # HELP h \n# TYPE h histogram
        h_bucket{m="1",le="1"} 1
        h_bucket{m="1",le="2.5"} 1
        h_bucket{m="1",le="+Inf"} 3
        h_sum{m="1"} 9.25
        h_count{m="1"} 3

        """)
    #expect(PrometheusText.number(.nan) == "NaN" && PrometheusText.number(-.infinity) == "-Inf")
    #expect(PrometheusText.number(1e300) == "1e+300" && PrometheusText.number(-0.25) == "-0.25")
  }

  @Test func countersOutliveTheirVersions() {
    var archive = StatisticsArchive()
    let key = ModelVersion(model: "m", version: 1)
    var latest: ModelStatistics?
    // The same version is loaded again and again; each time it answers two requests.
    for _ in 0..<20 {
      let statistics = ModelStatistics()
      archive.watch(statistics, as: key)
      archive.watch(statistics, as: key)
      statistics.succeeded(InferenceTimings(), total: .microseconds(5), now: 0)
      statistics.succeeded(InferenceTimings(), total: .microseconds(5), now: 0)
      statistics.failed(.unavailable, total: .zero)
      statistics.update { $0.batches[4, default: .init()].add(.zero) }
      latest = statistics
    }
    let total = archive.totals()[key]
    #expect(total?.success.count == 40)
    #expect(total?.failures[.unavailable]?.count == 20)
    #expect(total?.batches[4]?.count == 20)
    #expect(total?.latencyBuckets.reduce(0, +) == 40)
    latest?.succeeded(InferenceTimings(), total: .zero, now: 0)
    #expect(archive.totals()[key]?.success.count == 41)
  }

  // MARK: The journal

  private func record(_ id: String, model: String = "m", version: Int = 1, error: ServingError? = nil) -> RequestRecord {
    var record = RequestRecord(api: .inferenceREST, id: id, model: model, version: version, arrived: .now)
    record.parse = .microseconds(10)
    record.timings.queue = .microseconds(20)
    record.timings.compute = .microseconds(300)
    record.total = .microseconds(400)
    record.error = error
    record.statistics = version == 0 ? nil : ModelStatistics()
    return record
  }

  @Test func theLastRequestsAreKept() {
    var options = ServingJournal.Options()
    options.recentCount = 4
    let journal = ServingJournal(options)
    #expect(journal.recent(10).isEmpty)
    for i in 0..<11 { journal.note(record("r\(i)")) }
    #expect(journal.recent(10).map(\.id) == ["r10", "r9", "r8", "r7"])
    #expect(journal.recent(2).map(\.id) == ["r10", "r9"])
    #expect(journal.recent(-1).isEmpty)
    #expect(journal.recent(id: "r8") != nil)
    #expect(journal.recent(id: "r1") == nil)
    #expect(journal.window("m", slots: 180).map(\.latency.count).reduce(0, +) == 11)
  }

  @Test func namesOfStrangersDoNotFillMemory() {
    let journal = ServingJournal()
    for i in 0..<5_000 {
      journal.note(
        record("", model: "unknown\(i)", version: 0, error: ServingError(.notFound, String(repeating: "x", count: 1_000))))
    }
    let totals = journal.totals()
    #expect(totals.counts.count == 1)
    #expect(totals.counts[.init(model: "", code: .notFound)] == 5_000)
    #expect(totals.latencies.isEmpty)
    #expect(journal.recent(1)[0].message?.utf8.count ?? 0 < 600)
    #expect(journal.recent(1)[0].model == "unknown4999")
    for i in 0..<JournalTotals.maxModels + 100 { journal.note(record("", model: "real\(i)")) }
    #expect(journal.totals().runtime.count <= JournalTotals.maxModels + 1)
  }

  @Test func requestsAreLoggedAsAsked() throws {
    let lines = Lines()
    func journal(_ log: ServingJournal.RequestLog, sampling: Double = 1, most: Int = 1_000_000) -> ServingJournal {
      var options = ServingJournal.Options()
      (options.requestLog, options.sampling, options.maxLogLinesPerSecond) = (log, sampling, most)
      return ServingJournal(
        options, logger: Logger(label: "requests") { JSONLogHandler(label: $0, write: { line in lines.add(line) }) })
    }
    let failure = record("bad\n\"1\"", error: ServingError(.invalidArgument, "no \u{1} such input"))
    journal(.none).note(failure)
    journal(.failures).note(record("good"))
    #expect(lines.take().isEmpty)
    RequestIdentity.$current.withValue(
      RequestIdentity(requestID: "r", traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", operation: "infer")
    ) { journal(.failures).note(failure) }
    let text = lines.take()
    #expect(text.count == 1)
    let line = try object(Array(text[0].utf8))
    #expect(text[0].hasSuffix("}\n") && text[0].utf8.filter { $0 == 10 }.count == 1)
    #expect(line["request_id"]?.string == "bad\n\"1\"")
    #expect(line["trace_id"]?.string == "4bf92f3577b34da6a3ce929d0e0e4736")
    #expect(line["operation"]?.string == "infer" && line["code"]?.string == "INVALID_ARGUMENT")
    #expect(line["error"]?.string == "no \u{1} such input" && line["level"]?.string == "warning")
    #expect(line["total_ms"]?.number == 0.4 && line["version"]?.integer == 1)
    let sampled = journal(.all, sampling: 0.25)
    for _ in 0..<100 { sampled.note(record("good")) }
    #expect(lines.take().count == 25)
    let bounded = journal(.all, most: 10)
    for _ in 0..<1_000 { bounded.note(record("good")) }
    let written = lines.take().count
    // A thousand may fall into several seconds.
    #expect(written >= 10 && written < 1_000)
    #expect(bounded.totals().droppedLogLines == 1_000 - written)
  }

  @Test func timestampsAreUTC() {
    #expect(JSONLogHandler.timestamp(microseconds: 0) == "1970-01-01T00:00:00.000000Z")
    #expect(JSONLogHandler.timestamp(microseconds: 1_709_210_096_000_123) == "2024-02-29T12:34:56.000123Z")
  }

  @Test func tracesNest() throws {
    let journal = ServingJournal()
    for i in 0..<5 { journal.note(record("r\(i)")) }
    let text = RequestTrace.json(journal.recent(10), startMicroseconds: 1_000_000)
    let trace = try object(Array(text.utf8))
    let events = (trace["traceEvents"]?.array ?? []).compactMap { $0.object }
    let slices = events.filter { $0["ph"]?.string == "X" }
    #expect(slices.filter { $0["cat"]?.string == "request" }.count == 5)
    #expect(slices.filter { $0["name"]?.string == "compute" }.count == 5)
    // On one track slices must nest: sorted by their starts, each ends before or within those that are open.
    var open: [Double: [Double]] = [:]
    for slice in slices.sorted(by: { ($0["ts"]!.number!, -$0["dur"]!.number!) < ($1["ts"]!.number!, -$1["dur"]!.number!) }) {
      let (start, duration) = (try #require(slice["ts"]?.number), try #require(slice["dur"]?.number))
      let track = try #require(slice["tid"]?.number)
      open[track, default: []].removeAll { $0 <= start + 0.002 }
      #expect(open[track, default: []].allSatisfy { start + duration <= $0 + 0.002 })
      open[track, default: []].append(start + duration)
    }
  }
}

private func object(_ bytes: [UInt8]) throws -> JSONObject {
  let value = try JSONValue(parsing: bytes, file: "answer")
  return try #require(value.object)
}

private final class Lines: Sendable {
  private let lines = Mutex<[String]>([])
  func add(_ line: String) { lines.withLock { $0.append(line) } }
  func take() -> [String] {
    lines.withLock { lines in
      defer { lines = [] }
      return lines
    }
  }
}
