import ApusExport
import ApusFormats
import ApusServables
import ApusTensor

/// What the status page asks for, as JSON.
struct StatusAnswers {
  let context: ServingContext
  private var journal: ServingJournal? { context.journal as? ServingJournal }

  init(_ context: ServingContext) { self.context = context }

  /// Models with versions and signatures, load, and the last requests.
  func state() -> JSONValue {
    let process = ProcessMetrics.now()
    func optional(_ value: Int?) -> JSONValue { value.map { .integer($0) } ?? .null }
    let repository = context.repository
    let served = repository.served()
    let configurations = repository.configurations
    var models: [JSONValue] = []
    for name in repository.names {
      let configuration = configurations.first { $0.name == name }
      let statuses = (try? repository.status(name)) ?? []
      let versions = statuses.map { status in
        version(status, served.last { $0.name == name && $0.version == status.version })
      }
      var labels = JSONObject()
      for (label, version) in (configuration?.labels ?? [:]).sorted(by: { $0.key < $1.key }) { labels[label] = .integer(version) }
      models.append(
        .object([
          "name": .string(name), "labels": .object(labels), "versions": .array(versions),
          "minute": summary(name, slots: 60 / SlidingWindow.slotSeconds),
          "quarter": summary(name, slots: SlidingWindow.slotCount),
        ]))
    }
    return .object([
      "time": .integer(wallMicroseconds() / 1_000), "ready": .bool(repository.isReady), "hasJournal": .bool(journal != nil),
      "process": .object([
        "resident": optional(process.residentBytes), "cpuSeconds": .number(process.cpuSeconds),
        "openFiles": optional(process.openFiles), "maxFiles": optional(process.maxFiles), "threads": optional(process.threads),
        "started": process.started.map { .number($0) } ?? .null, "machine": optional(process.machineBytes),
      ]),
      "requests": requests(), "models": .array(models), "recent": recent(),
    ])
  }

  /// A model's last slots: when, how many, and percentiles in microseconds (null where nothing was answered).
  func curves(_ model: String, slots: Int) -> JSONValue {
    let slots = journal?.window(model, slots: slots) ?? []
    let start = journal.map { Double($0.startMicroseconds) / 1e6 } ?? 0
    return .object([
      "model": .string(model), "seconds": .integer(SlidingWindow.slotSeconds),
      "slots": .array(
        slots.map { slot in
          .array([
            .number(start + Double(slot.number * SlidingWindow.slotSeconds)), .integer(slot.latency.count),
            .integer(slot.failures),
            number(slot.latency.quantile(0.5)), number(slot.latency.quantile(0.9)), number(slot.latency.quantile(0.99)),
          ])
        }),
    ])
  }

  private func number(_ value: Double?) -> JSONValue { value.map { .number($0) } ?? .null }

  private func summary(_ model: String, slots: Int) -> JSONValue {
    guard let journal else { return .null }
    var latency = LatencyHistogram()
    var failures = 0
    for slot in journal.window(model, slots: slots) {
      latency.add(slot.latency)
      failures += slot.failures
    }
    // The last slot is not over; a server that started lately has not had all of them.
    let covered = min(Double(slots * SlidingWindow.slotSeconds), Double(journal.second + 1))
    return .object([
      "count": .integer(latency.count), "failures": .integer(failures),
      "rate": .number(Double(latency.count + failures) / covered),
      "p50": number(latency.quantile(0.5)), "p90": number(latency.quantile(0.9)), "p99": number(latency.quantile(0.99)),
    ])
  }

  private func version(_ status: VersionStatus, _ model: ServedModel?) -> JSONValue {
    var object: JSONObject = [
      "version": .integer(status.version), "state": .string(status.state.name),
      "error": status.error.map { .string($0.message) } ?? .null,
    ]
    if let model {
      let statistics = model.statistics.snapshot
      object["platform"] = .string(model.servable.platform)
      object["weights"] = .integer(model.servable.byteCount)
      object["loaded"] = .number(Double((.now - model.loadedAt).nanoseconds) / 1e9)
      object["pending"] = .integer(statistics.pending)
      object["success"] = .integer(statistics.success.count)
      object["failures"] = .integer(statistics.failures.values.reduce(0) { $0 + $1.count })
      object["batches"] = .array(
        statistics.batches.sorted { $0.key < $1.key }.map {
          .array([.integer($0.key), .integer($0.value.count), .integer($0.value.nanoseconds)])
        })
      object["defaultSignature"] = model.servable.defaultSignature.map { .string($0) } ?? .null
      object["signatures"] = .array(
        model.servable.signatures.sorted { $0.key < $1.key }.map { signature($0.key, $0.value) })
      if let labels = model.configuration.classLabels ?? model.servable.classLabels {
        object["classLabels"] = .array(labels.prefix(10_000).map { .string($0) })
      }
    }
    return .object(object)
  }

  private func signature(_ name: String, _ signature: Signature) -> JSONValue {
    func size(_ dimension: Dimension?) -> JSONValue {
      switch dimension {
      case .fixed(let size): .integer(size)
      case .open(let name, let bounds):
        .object([
          "name": .string(name), "least": .integer(bounds.lowerBound),
          "most": bounds.upperBound >= Dimension.largest ? .null : .integer(bounds.upperBound),
        ])
      case nil: .null
      }
    }
    return .object([
      "name": .string(name), "text": .string(signature.description),
      "inputs": .array(
        signature.inputs.map {
          .object([
            "name": .string($0.name), "type": .string("\($0.spec.elementType)"), "shape": .array($0.spec.dimensions.map(size)),
          ])
        }),
      "outputs": .array(
        signature.outputs.map {
          .object(["name": .string($0.name), "type": .string("\($0.elementType)"), "shape": .array($0.dimensions.map(size))])
        }),
    ])
  }

  private func requests() -> JSONValue {
    guard let journal else { return .array([]) }
    let totals = journal.totals().requests.sorted {
      ($0.key.api.rawValue, $0.key.code?.rawValue ?? 0) < ($1.key.api.rawValue, $1.key.code?.rawValue ?? 0)
    }
    return .array(
      totals.map { .array([.string($0.key.api.rawValue), .string($0.key.code?.name ?? "OK"), .integer($0.value)]) })
  }

  private func recent() -> JSONValue {
    guard let journal else { return .array([]) }
    return .array(
      journal.recent(50).map { entry in
        .object([
          "time": .number(Double(journal.startMicroseconds) / 1e6 + Double(entry.arrived) / 1e9), "id": .string(entry.id),
          "api": .string(entry.api.rawValue), "operation": .string(entry.operation), "model": .string(entry.model),
          "version": .integer(entry.version), "code": .string(entry.codeName),
          "error": entry.message.map { .string($0) } ?? .null, "batch": .integer(entry.batchSize), "hit": .bool(entry.isCacheHit),
          "total": .integer(entry.total),
          "parts": .array(entry.parts.map { .integer($0.nanoseconds) }),
        ])
      })
  }
}
