import ApusFormats

/// One object of a settings file in JSON: keys that are not known are refused.
struct SettingsReader {
  let object: JSONObject
  let file: String
  /// What it is about: `models[0]`.
  let part: String

  init(_ value: JSONValue?, file: String, part: String) throws(ServingError) {
    guard let object = value?.object else {
      throw ServingError(.invalidArgument, "\(FormatError.excerpt(file)): '\(part)' must be an object in braces")
    }
    (self.object, self.file, self.part) = (object, file, part)
  }

  func error(_ key: String, _ message: String) -> ServingError {
    ServingError(
      .invalidArgument, "\(FormatError.excerpt(file)): '\(part.isEmpty ? "" : part + ".")\(FormatError.excerpt(key))' \(message)")
  }

  func allow(_ known: [String]) throws(ServingError) {
    for key in object.keys where !known.contains(key) {
      let hint =
        nearName(key, in: known).map { "did you mean '\($0)'?" } ?? "there is \(known.sorted().joined(separator: ", "))"
      throw error(key, "is no setting: \(hint)")
    }
  }

  func has(_ key: String) -> Bool { object[key] != nil && object[key] != .null }

  func string(_ key: String) throws(ServingError) -> String? {
    guard has(key) else { return nil }
    guard let text = object[key]?.string else { throw error(key, "must be a text") }
    return text
  }

  func bool(_ key: String) throws(ServingError) -> Bool? {
    guard has(key) else { return nil }
    guard let value = object[key]?.bool else { throw error(key, "must be true or false") }
    return value
  }

  func integer(_ key: String, in range: ClosedRange<Int>) throws(ServingError) -> Int? {
    guard has(key) else { return nil }
    guard let value = object[key]?.integer, range.contains(value) else {
      throw error(
        key, "must be a whole number from \(range.lowerBound)" + (range.upperBound == .max ? "" : " to \(range.upperBound)"))
    }
    return value
  }

  func integers(_ key: String, in range: ClosedRange<Int>) throws(ServingError) -> [Int]? {
    guard has(key) else { return nil }
    let values = object[key]?.array?.map(\.integer)
    guard let values, values.allSatisfy({ $0.map(range.contains) ?? false }) else {
      throw error(key, "must be a list of whole numbers from \(range.lowerBound)")
    }
    return values.compactMap(\.self)
  }

  /// A time given in milliseconds, fractions too.
  func milliseconds(_ key: String) throws(ServingError) -> Duration? {
    guard has(key) else { return nil }
    guard let value = object[key]?.number, value >= 0, value <= 1e12 else {
      throw error(key, "must be a number of milliseconds from 0")
    }
    return .nanoseconds(Int(value * 1e6))
  }

  func inner(_ key: String) throws(ServingError) -> SettingsReader? {
    guard has(key) else { return nil }
    return try SettingsReader(object[key], file: file, part: part.isEmpty ? key : part + "." + key)
  }
}

extension RepositoryConfiguration {
  init(json: JSONValue, file: String, folder: String) throws(ServingError) {
    let root = try SettingsReader(json, file: file, part: "")
    try root.allow([
      "models", "mode", "polling_interval_seconds", "labels_for_unavailable_versions", "load_threads", "load_retries",
    ])
    guard let list = root.object["models"]?.array else { throw root.error("models", "must be a list of models") }
    var models: [ModelConfiguration] = []
    for (i, value) in list.enumerated() {
      models.append(try ModelConfiguration(SettingsReader(value, file: file, part: "models[\(i)]"), folder: folder))
    }
    self.init(models: models)
    let interval = try root.object["polling_interval_seconds"].map { (value) throws(ServingError) -> Duration in
      guard let seconds = value.number, seconds >= 0.001, seconds <= 1e9 else {
        throw root.error("polling_interval_seconds", "must be a number of seconds from 0.001")
      }
      return .nanoseconds(Int(seconds * 1e9))
    }
    switch try root.string("mode") {
    case nil: mode = interval.map { .polling($0) }
    case "fixed"?: mode = .fixed
    case "explicit"?: mode = .explicit
    case "polling"?: mode = .polling(interval ?? .seconds(2))
    case let other?: throw root.error("mode", "must be fixed, polling or explicit, got '\(FormatError.excerpt(other))'")
    }
    allowsLabelsForUnavailableVersions = try root.bool("labels_for_unavailable_versions")
    loadThreads = try root.integer("load_threads", in: 1...256)
    loadRetries = try root.integer("load_retries", in: 0...1000)
  }
}

extension ModelConfiguration {
  fileprivate init(_ reader: SettingsReader, folder: String) throws(ServingError) {
    try reader.allow([
      "name", "path", "platform", "versions", "labels", "batching", "instances", "limits", "cache_bytes", "priority_levels",
      "default_priority_level", "queue", "class_labels", "warm_up",
    ])
    guard let path = try reader.string("path") else { throw reader.error("path", "is missing: where the model is") }
    let full = joined(folder, path)
    if let name = try reader.string("name") {
      self.init(name: name, path: full)
    } else {
      // As of a single model on the command line.
      var name = lastComponent(of: full.hasSuffix("/") ? String(full.dropLast()) : full)
      if name.hasSuffix(".apus") { name.removeLast(5) }
      self.init(name: name, path: full)
    }
    platform = try reader.string("platform")
    if reader.has("versions") {
      switch reader.object["versions"] {
      case .string("all"): versionPolicy = .all
      case .string("latest"): versionPolicy = .latest(1)
      case .string(let text) where text.hasPrefix("latest:"):
        guard let count = Int(text.dropFirst(7)), count >= 1 else {
          throw reader.error("versions", "must name how many of the latest are meant, as in \"latest:2\"")
        }
        versionPolicy = .latest(count)
      case .array:
        guard let list = try reader.integers("versions", in: 0...Int.max), !list.isEmpty else {
          throw reader.error("versions", "is an empty list")
        }
        versionPolicy = .specific(list)
      default: throw reader.error("versions", "must be \"latest:N\", \"all\" or a list of numbers")
      }
    }
    if let inner = try reader.inner("labels") {
      for label in inner.object.keys { labels[label] = try inner.integer(label, in: 0...Int.max) }
    }
    if let inner = try reader.inner("batching") {
      try inner.allow([
        "max_batch_size", "preferred_batch_sizes", "allowed_batch_sizes", "max_queue_delay_ms", "adapts_sizes",
        "splits_large_requests", "pads_variable_lengths", "preserves_order",
      ])
      var batching = SchedulingOptions.Batching()
      batching.maxBatchSize = try inner.integer("max_batch_size", in: 1...(1 << 30)) ?? batching.maxBatchSize
      batching.preferredBatchSizes = try inner.integers("preferred_batch_sizes", in: 1...batching.maxBatchSize) ?? []
      batching.allowedBatchSizes = try inner.integers("allowed_batch_sizes", in: 1...(1 << 30)) ?? []
      if let last = batching.allowedBatchSizes.last {
        guard zip(batching.allowedBatchSizes, batching.allowedBatchSizes.dropFirst()).allSatisfy(<), last == batching.maxBatchSize
        else { throw inner.error("allowed_batch_sizes", "must rise, up to max_batch_size, \(batching.maxBatchSize)") }
      }
      batching.maxQueueDelay = try inner.milliseconds("max_queue_delay_ms") ?? batching.maxQueueDelay
      batching.adaptsSizes = try inner.bool("adapts_sizes") ?? batching.adaptsSizes
      batching.splitsLargeRequests = try inner.bool("splits_large_requests") ?? batching.splitsLargeRequests
      batching.padsVariableLengths = try inner.bool("pads_variable_lengths") ?? batching.padsVariableLengths
      batching.preservesOrder = try inner.bool("preserves_order") ?? batching.preservesOrder
      scheduling.batching = batching
    }
    scheduling.instances = try reader.integer("instances", in: 1...4096) ?? scheduling.instances
    if let inner = try reader.inner("limits") {
      try inner.allow(["max_request_bytes", "max_queue_size", "max_queue_bytes", "max_queue_wait_ms"])
      maxRequestBytes = try inner.integer("max_request_bytes", in: 1...(1 << 50)) ?? maxRequestBytes
      scheduling.maxQueueSize = try inner.integer("max_queue_size", in: 1...(1 << 40)) ?? scheduling.maxQueueSize
      scheduling.maxQueueBytes = try inner.integer("max_queue_bytes", in: 1...(1 << 50)) ?? scheduling.maxQueueBytes
      scheduling.maxQueueWait = try inner.milliseconds("max_queue_wait_ms")
    }
    scheduling.cacheBytes = try reader.integer("cache_bytes", in: 0...(1 << 50)) ?? scheduling.cacheBytes
    scheduling.priorityLevels = try reader.integer("priority_levels", in: 0...1024) ?? 0
    scheduling.defaultPriorityLevel = try reader.integer("default_priority_level", in: 0...scheduling.priorityLevels) ?? 0
    if let inner = try reader.inner("queue") {
      try inner.allow(["max_queue_size", "default_timeout_ms", "timeout_action", "allow_timeout_override"])
      var policy = SchedulingOptions.QueuePolicy()
      policy.maxQueueSize = try inner.integer("max_queue_size", in: 0...(1 << 40)) ?? 0
      policy.defaultTimeout = try inner.milliseconds("default_timeout_ms")
      policy.allowTimeoutOverride = try inner.bool("allow_timeout_override") ?? policy.allowTimeoutOverride
      switch try inner.string("timeout_action") {
      case nil, "reject"?: policy.timeoutAction = .reject
      case "delay"?: policy.timeoutAction = .delay
      default: throw inner.error("timeout_action", "must be reject or delay")
      }
      scheduling.queuePolicy = policy
    }
    if reader.has("class_labels") {
      let names = reader.object["class_labels"]?.array?.map(\.string)
      guard let names, !names.contains(nil) else { throw reader.error("class_labels", "must be a list of texts") }
      classLabels = names.compactMap(\.self)
    }
    switch try reader.string("warm_up") {
    case nil, "recorded"?: warmUp = .recorded
    case "generated"?: warmUp = .generated
    case "none"?: warmUp = .none
    default: throw reader.error("warm_up", "must be recorded, generated or none")
    }
  }
}
