import ApusFormats

/// The last requests in the Trace Event Format, for Perfetto and chrome://tracing: each request a slice with its parts below it.
enum RequestTrace {
  /// - Parameters:
  ///   - entries: any order.
  ///   - startMicroseconds: since 1970, of the moment that entries' times count from.
  static func json(_ entries: [JournalEntry], startMicroseconds: Int) -> String {
    var lines = [
      name("process_name", "apus serve", track: 0)
    ]
    // Slices of one track must nest: a request goes to the first track that is free when it arrives.
    var ends: [Int] = []
    for entry in entries.sorted(by: { ($0.arrived, $0.total) < ($1.arrived, $1.total) }) {
      let track = ends.firstIndex { $0 <= entry.arrived } ?? ends.count
      if track == ends.count {
        ends.append(0)
        lines.append(name("thread_name", "requests \(track + 1)", track: track + 1))
      }
      ends[track] = entry.ended
      lines += slices(entry, track: track + 1, startMicroseconds: startMicroseconds)
    }
    return "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n" + lines.joined(separator: ",\n") + "\n]}\n"
  }

  private static func slices(_ entry: JournalEntry, track: Int, startMicroseconds: Int) -> [String] {
    func slice(_ name: String, _ category: String, _ start: Int, _ duration: Int, _ details: JSONObject? = nil) -> String {
      var event: JSONObject = [
        "name": .string(name), "cat": .string(category), "ph": .string("X"), "pid": .integer(1), "tid": .integer(track),
        "ts": .number(Double(startMicroseconds) + Double(start) / 1_000), "dur": .number(Double(duration) / 1_000),
      ]
      if let details { event["args"] = .object(details) }
      return line(event)
    }
    var details: JSONObject = [
      "id": .string(entry.id), "api": .string(entry.api.rawValue), "code": .string(entry.codeName),
      "batch size": .integer(entry.batchSize), "cache hit": .bool(entry.isCacheHit),
    ]
    if let traceID = entry.traceID { details["trace id"] = .string(traceID) }
    if let span = entry.parentSpanID { details["parent span id"] = .string(span) }
    if let message = entry.message { details["error"] = .string(message) }
    let verb = entry.operation.isEmpty ? "request" : entry.operation
    let name = entry.version == 0 ? "\(verb) \(entry.model)" : "\(verb) \(entry.model) version \(entry.version)"
    var result = [slice(name, "request", entry.arrived, entry.total, details)]
    var now = entry.arrived
    for (name, duration) in entry.parts where duration > 0 {
      // Parts are measured one by one: they must not go beyond the whole.
      let length = min(duration, entry.ended - now)
      if length > 0 { result.append(slice(name, "part", now, length)) }
      now += max(length, 0)
    }
    return result
  }

  /// What the viewer calls a process or a track.
  private static func name(_ kind: String, _ name: String, track: Int) -> String {
    line([
      "name": .string(kind), "ph": .string("M"), "pid": .integer(1), "tid": .integer(track),
      "args": .object(["name": .string(name)]),
    ])
  }

  private static func line(_ event: JSONObject) -> String { JSONValue.object(event).printed() }
}

extension JournalEntry {
  /// Where the time went, in order; the rest is answering.
  var parts: [(name: String, nanoseconds: Int)] {
    [
      ("parse", parse), ("queue", queue), ("batch inputs", computeInput), ("compute", compute), ("split outputs", computeOutput),
    ]
  }
}
