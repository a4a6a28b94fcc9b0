import ApusTensor

extension Profile {
  /// The events in the Trace Event Format (chrome://tracing, Perfetto), times in microseconds.
  /// - Parameter peak: in GFLOP/s; with it, each event says its share.
  public func chromeTrace(peak: Double? = nil) -> String {
    let lines = events.map { event -> String in
      var details: JSONObject = [
        "inputs": .string(event.inputs.map(\.description).joined(separator: " ")),
        "results": .string(event.results.map(\.description).joined(separator: " ")), "bytes": .integer(event.bytes),
        "GB/s": .number(event.gigabytesPerSecond),
      ]
      if event.flops > 0 {
        details["flops"] = .number(event.flops)
        details["GFLOP/s"] = .number(event.gflops)
        if let peak, peak > 0 { details["share of peak"] = .number(event.gflops / peak) }
      }
      let line: JSONObject = [
        "name": .string(event.name), "cat": .string("kernel"), "ph": .string("X"), "pid": .integer(1), "tid": .integer(1),
        "ts": .number(event.start * 1e6), "dur": .number(event.duration * 1e6), "args": .object(details),
      ]
      return JSONValue.object(line).printed()
    }
    return "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n" + lines.joined(separator: ",\n") + "\n]}\n"
  }
}
