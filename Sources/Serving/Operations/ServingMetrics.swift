import ApusServables

/// All metrics, under the names of Triton Inference Server (`nv_…`), of TensorFlow Serving (`:tensorflow:…`), and this server's own.
struct ServingMetrics {
  let context: ServingContext
  private var journal: ServingJournal? { context.journal as? ServingJournal }

  init(_ context: ServingContext) { self.context = context }

  func text() -> String {
    var text = PrometheusText()
    let served = context.repository.served()
    var statistics: [ModelVersion: ModelStatistics.Snapshot] = [:]
    if let journal {
      statistics = journal.statistics(served)
    } else {
      for model in served { statistics[ModelVersion(model: model.name, version: model.version)] = model.statistics.snapshot }
    }
    let versions = statistics.sorted { $0.key < $1.key }.map {
      (labels: [("model", $0.key.model), ("version", String($0.key.version))], snapshot: $0.value)
    }
    triton(&text, versions)
    let totals = journal?.totals() ?? JournalTotals()
    tensorFlow(&text, totals, runs: versions.reduce(0) { $0 + $1.snapshot.executionCount })
    own(&text, totals, versions, served)
    process(&text)
    return text.text
  }

  private typealias Versions = [(labels: [(String, String)], snapshot: ModelStatistics.Snapshot)]

  private func triton(_ text: inout PrometheusText, _ versions: Versions) {
    func counter(_ name: String, _ help: String, _ value: (ModelStatistics.Snapshot) -> Int) {
      text.family(name, .counter, help) { samples in
        for version in versions { samples.add(version.labels, value(version.snapshot)) }
      }
    }
    counter("nv_inference_request_success", "Number of successful inference requests, all batch sizes") { $0.success.count }
    text.family("nv_inference_request_failure", .counter, "Number of failed inference requests, all batch sizes") { samples in
      for version in versions {
        for reason in FailureReason.allCases {
          let count = version.snapshot.failures.reduce(0) { $0 + (FailureReason($1.key) == reason ? $1.value.count : 0) }
          samples.add(version.labels + [("reason", reason.rawValue)], count)
        }
      }
    }
    counter("nv_inference_count", "Number of inferences performed (does not include cached requests)") { $0.inferenceCount }
    counter("nv_inference_exec_count", "Number of model executions performed (does not include cached requests)") {
      $0.executionCount
    }
    text.family("nv_inference_pending_request_count", .gauge, "Number of requests that wait to be executed, per model") {
      samples in
      for version in versions { samples.add(version.labels, version.snapshot.pending) }
    }
    counter(
      "nv_inference_request_duration_us", "Cumulative inference request duration in microseconds (includes cached requests)"
    ) {
      $0.success.nanoseconds / 1_000
    }
    counter("nv_inference_queue_duration_us", "Cumulative inference queuing duration in microseconds (includes cached requests)")
    {
      $0.queue.nanoseconds / 1_000
    }
    counter(
      "nv_inference_compute_input_duration_us",
      "Cumulative compute input duration in microseconds (does not include cached requests)"
    ) { $0.computeInput.nanoseconds / 1_000 }
    counter(
      "nv_inference_compute_infer_duration_us",
      "Cumulative compute inference duration in microseconds (does not include cached requests)"
    ) { $0.compute.nanoseconds / 1_000 }
    counter(
      "nv_inference_compute_output_duration_us",
      "Cumulative inference compute output duration in microseconds (does not include cached requests)"
    ) { $0.computeOutput.nanoseconds / 1_000 }
    counter("nv_cache_num_hits_per_model", "Number of cache hits per model") { $0.cacheHit.count }
    counter("nv_cache_num_misses_per_model", "Number of cache misses per model") { $0.cacheMiss.count }
    counter("nv_cache_hit_duration_per_model", "Total cache hit duration per model, in microseconds") {
      $0.cacheHit.nanoseconds / 1_000
    }
    counter("nv_cache_miss_duration_per_model", "Total cache miss duration per model, in microseconds") {
      $0.cacheMiss.nanoseconds / 1_000
    }
  }

  /// Triton's reasons.
  enum FailureReason: String, CaseIterable {
    case rejected = "REJECTED"
    case canceled = "CANCELED"
    case backend = "BACKEND"
    case other = "OTHER"

    init(_ code: ServingError.Code) {
      self =
        switch code {
        case .unavailable, .resourceExhausted, .deadlineExceeded: .rejected
        case .cancelled: .canceled
        case .internalError, .unknown, .aborted: .backend
        case .invalidArgument, .notFound, .alreadyExists, .permissionDenied, .failedPrecondition, .outOfRange, .unimplemented,
          .unauthenticated:
          .other
        }
    }
  }

  private func tensorFlow(_ text: inout PrometheusText, _ totals: JournalTotals, runs: Int) {
    text.family(":tensorflow:serving:request_count", .counter, "The total number of requests.") { samples in
      for (key, count) in totals.counts.sorted(by: { ($0.key.model, $0.key.status) < ($1.key.model, $1.key.status) }) {
        samples.add([("model_name", key.model), ("status", key.status)], count)
      }
    }
    text.family(
      ":tensorflow:serving:request_latency", .histogram,
      "Distribution of wall time (in microseconds) for Tensorflow Serving request."
    ) { samples in
      // Both protocols of one kind give the same labels only if the operation is unknown: they are added up.
      var sums: [[String]: JournalTotals.Distribution] = [:]
      for (key, distribution) in totals.latencies {
        let labels = [key.model, Self.apiName(key.operation, key.api), key.api.isREST ? "REST" : "GRPC"]
        if var sum = sums[labels] {
          for i in sum.buckets.indices { sum.buckets[i] += distribution.buckets[i] }
          sum.nanoseconds &+= distribution.nanoseconds
          sums[labels] = sum
        } else {
          sums[labels] = distribution
        }
      }
      for (labels, sum) in sums.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        samples.add([("model_name", labels[0]), ("API", labels[1]), ("entrypoint", labels[2])], sum)
      }
    }
    text.family(
      ":tensorflow:serving:runtime_latency", .histogram, "Distribution of wall time (in microseconds) for Tensorflow runtime."
    ) { samples in
      for (model, distribution) in totals.runtime.sorted(by: { $0.key < $1.key }) {
        samples.add([("model_name", model), ("API", "Predict"), ("runtime", "Apus")], distribution)
      }
    }
    text.family(
      ":tensorflow:serving:batching_session:queuing_latency", .histogram,
      "Distribution of wall time spent (in microseconds) in queuing"
    ) { samples in
      for (model, distribution) in totals.queue.sorted(by: { $0.key < $1.key }) {
        samples.add([("thread_pool_name", model)], distribution)
      }
    }
    text.family(
      ":tensorflow:serving:batching_session:wrapped_run_count", .counter, "Total count of run calls on the wrapped session"
    ) { $0.add([], runs) }
  }

  private static func apiName(_ operation: String, _ api: RequestRecord.API) -> String {
    switch operation {
    case "predict": "Predict"
    case "classify": "Classify"
    case "regress": "Regress"
    case "multi-inference": "MultiInference"
    case "infer": "Infer"
    default: api == .tensorFlowREST || api == .tensorFlowGRPC ? "Predict" : "Infer"
    }
  }

  private func own(
    _ text: inout PrometheusText, _ totals: JournalTotals, _ versions: Versions, _ served: [ServedModel]
  ) {
    text.family("apus_requests_total", .counter, "Requests to models, by protocol and gRPC's name of what came of them") {
      samples in
      func order(_ key: JournalTotals.RequestKey) -> (String, String) { (key.api.rawValue, key.code?.name ?? "") }
      for (key, count) in totals.requests.sorted(by: { order($0.key) < order($1.key) }) {
        samples.add([("api", key.api.rawValue), ("code", key.code?.name ?? "OK")], count)
      }
    }
    text.family("apus_request_parse_seconds", .summary, "Time from a request's arrival until its tensors were there") { samples in
      for (api, total) in totals.parse.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
        samples.add([("api", api.rawValue)], count: total.count, sum: Double(total.nanoseconds) / 1e9)
      }
    }
    text.family("apus_request_duration_seconds", .histogram, "Time from arrival to answer of successful requests, per version") {
      for version in versions {
        $0.add(
          version.labels, bounds: ModelStatistics.bucketBounds.map { $0 / 1e6 }, counts: version.snapshot.latencyBuckets,
          sum: Double(version.snapshot.success.nanoseconds) / 1e9)
      }
    }
    text.family("apus_queue_depth", .gauge, "Requests that wait now, per version") { samples in
      for version in versions { samples.add(version.labels, version.snapshot.pending) }
    }
    text.family("apus_batch_size", .histogram, "Examples in the batches that ran, per version") { samples in
      let bounds = (0...10).map { Double(1 << $0) }
      for version in versions {
        var counts = [Int](repeating: 0, count: bounds.count + 1)
        var sum = 0.0
        for (size, total) in version.snapshot.batches {
          counts[bounds.firstIndex { Double(size) <= $0 } ?? bounds.count] += total.count
          sum += Double(size) * Double(total.count)
        }
        samples.add(version.labels, bounds: bounds, counts: counts, sum: sum)
      }
    }
    text.family("apus_model_weights_bytes", .gauge, "Memory of a served version's weights") { samples in
      for model in served {
        samples.add([("model", model.name), ("version", String(model.version))], model.servable.byteCount)
      }
    }
    text.family("apus_model_state", .gauge, "1 for the state that a version is in, 0 for the others") { samples in
      for name in context.repository.names {
        for status in (try? context.repository.status(name)) ?? [] {
          for state in ModelState.known {
            samples.add(
              [("model", name), ("version", String(status.version)), ("state", state.name)], state == status.state ? 1 : 0)
          }
        }
      }
    }
    text.family("apus_ready", .gauge, "1 if every configured model has an available version") {
      $0.add([], context.repository.isReady ? 1 : 0)
    }
    text.family("apus_log_lines_dropped_total", .counter, "Lines of requests that were more than the log takes in a second") {
      $0.add([], totals.droppedLogLines)
    }
  }

  private func process(_ text: inout PrometheusText) {
    let now = ProcessMetrics.now()
    func metric(_ name: String, _ kind: PrometheusText.Kind, _ help: String, _ value: Double?) {
      guard let value else { return }
      text.family(name, kind, help) { $0.add([], value) }
    }
    metric("process_cpu_seconds_total", .counter, "Processor time of this process in seconds", now.cpuSeconds)
    metric("process_resident_memory_bytes", .gauge, "Resident memory in bytes", now.residentBytes.map(Double.init))
    metric("process_virtual_memory_bytes", .gauge, "Virtual memory in bytes", now.virtualBytes.map(Double.init))
    metric("process_open_fds", .gauge, "Open file descriptors", now.openFiles.map(Double.init))
    metric("process_max_fds", .gauge, "Most file descriptors that may be open", now.maxFiles.map(Double.init))
    metric("process_threads", .gauge, "Threads", now.threads.map(Double.init))
    metric("process_start_time_seconds", .gauge, "When this process started, in seconds since 1970", now.started)
    metric("nv_cpu_memory_total_bytes", .gauge, "CPU total memory (RAM), in bytes", now.machineBytes.map(Double.init))
    metric(
      "nv_cpu_memory_used_bytes", .gauge, "CPU used memory (RAM), in bytes",
      now.machineBytes.flatMap { all in now.machineAvailableBytes.map { Double(all - $0) } })
  }
}

extension ModelState {
  static let known: [ModelState] = [.start, .loading, .available, .unloading, .end]
}

extension RequestRecord.API {
  var isREST: Bool { self == .tensorFlowREST || self == .inferenceREST }
}

extension JournalTotals.CountKey {
  fileprivate var status: String { code?.name ?? "OK" }
}

extension PrometheusText.Samples {
  fileprivate mutating func add(_ labels: [(String, String)], _ distribution: JournalTotals.Distribution) {
    add(labels, bounds: distribution.bounds, counts: distribution.buckets, sum: Double(distribution.nanoseconds) / 1_000)
  }
}
